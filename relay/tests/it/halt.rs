use anyhow::{Result, ensure};
use harness::{Database, RelayProcess, Stack};

use crate::case::{Case, SOON};

/// Waits for the halt and checks how it is told: on `/ready` with reason and remedy that name `names`, in the log, and
/// with the process still there to say so.
pub(crate) async fn halts(relay: &mut RelayProcess, names: &[&str]) -> Result<()> {
    let said = relay.halted().await?;
    let part = |part: &str| said.get(part).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
    let (reason, remedy) = (part("reason"), part("remedy"));
    ensure!(!reason.is_empty() && !remedy.is_empty(), "a halt without reason or remedy: {said}");
    let all = format!("{reason} {remedy}");
    for name in names {
        ensure!(all.contains(name), "the halt does not name {name}: {all}");
    }
    ensure!(relay.get("/live").await?.status == 200, "a halted relay lives");
    ensure!(relay.get("/healthy").await?.status == 503, "and is not well");
    let metrics = relay.get("/metrics").await?.body;
    ensure!(metrics.contains("walpost_state{state=\"halted\"} 1"), "the metrics do not say so: {metrics}");
    ensure!(
        metrics.contains("walpost_halts_total 1") && metrics.contains("walpost_ready 0"),
        "not counted: {metrics}"
    );
    let log = relay.log();
    // A log line quotes the texts in it.
    let quoted = reason.escape_debug().to_string();
    ensure!(
        log.contains(&reason) || log.contains(&quoted),
        "the log does not give the reason: {reason}\n{}",
        relay.log_tail()
    );
    relay.expect_running()
}

#[tokio::test]
async fn a_dropped_publication_halts_the_relay() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute("drop publication package_event_pub").await?;
    halts(&mut relay, &["package_event_pub"]).await
}

#[tokio::test]
async fn a_publication_that_lost_the_table_halts_the_relay() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute("alter publication package_event_pub drop table package_event").await?;
    halts(&mut relay, &["package_event_pub", "package_event", "alter publication"]).await
}

#[tokio::test]
async fn a_publication_without_inserts_halts_the_relay() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute("alter publication package_event_pub set (publish = 'delete')").await?;
    halts(&mut relay, &["package_event_pub", "insert"]).await
}

#[tokio::test]
async fn a_dropped_slot_halts_the_relay() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    let slot = case.database.slot_name();
    case.database.drop_slot(&slot).await?;
    halts(&mut relay, &[&slot, "walpost init"]).await
}

#[tokio::test]
async fn a_recreated_slot_halts_the_relay_and_skips_nothing() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(10, 3, 1).await?;
    case.audit().await?;
    relay.terminate(SOON).await?;
    let slot = case.database.slot_name();
    case.database.drop_slot(&slot).await?;
    case.commit(10, 3, 1).await?;
    let create = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    case.client().await?.execute(create, &[&slot]).await?;

    case.commit(10, 3, 1).await?;
    let mut relay = case.relay.run()?;
    halts(&mut relay, &[&slot]).await?;
    assert_eq!(case.audit_now().await?.published, 10, "nothing behind the gap may be published");
    Ok(())
}

#[tokio::test]
async fn a_renamed_column_halts_the_relay_and_skips_nothing() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit_one(1).await?;
    case.topic.read(1, SOON).await?;
    case.database
        .execute(
            "begin; alter table package_event rename package_id to parcel_id; \
             insert into package_event (parcel_id, event_type) values (2, 'Removed'); commit",
        )
        .await?;
    halts(&mut relay, &["package_id"]).await?;

    case.database.execute("alter table package_event rename parcel_id to package_id").await?;
    assert_eq!(case.topic.read_all().await?.len(), 1);
    Ok(())
}

/// A table with no rules: what a service of somebody else's may have.
async fn loose_table(database: &Database) -> Result<()> {
    let table = "create table loose (package_event_id bigserial, package_id bigint, event_type text, payload jsonb, \
                 created_at timestamptz default now(), event_id uuid default gen_random_uuid(), traceparent text)";
    database.execute(table).await
}

/// A case around a table without rules.
pub(crate) async fn loose_case() -> Result<Case> {
    let database = Database::fresh(&Stack::shared().await?.database_url).await?;
    loose_table(&database).await?;
    let case = Case::of(database, &Stack::shared().await?.brokers).await?;
    Ok(case.with("WALPOST_TABLE", "public.loose").with("WALPOST_PUBLICATION", "loose_pub"))
}

#[tokio::test]
async fn a_row_that_the_message_cannot_hold_halts_the_relay_and_is_never_skipped() -> Result<()> {
    poisoned_by("(-1, 'Removed')", &["-1", "PackageID", "public.loose"]).await
}

#[tokio::test]
async fn a_row_of_an_unknown_type_halts_the_relay_and_is_never_skipped() -> Result<()> {
    poisoned_by("(2, 'Exploded')", &["Exploded"]).await
}

async fn poisoned_by(row: &str, names: &[&str]) -> Result<()> {
    let case = loose_case().await?;
    let mut relay = case.relay.init_and_run().await?;
    let insert = |row: &str| format!("insert into loose (package_id, event_type) values {row}");
    case.database.execute(&insert("(1, 'Removed')")).await?;
    case.topic.read(1, SOON).await?;
    case.database.execute(&insert(row)).await?;
    let behind_row = case.wal_end().await?;
    case.database.execute(&insert("(3, 'Removed')")).await?;
    halts(&mut relay, names).await?;

    // Another life makes no difference: the row is still before the others.
    relay.terminate(SOON).await?;
    let mut relay = case.relay.run()?;
    halts(&mut relay, names).await?;
    assert!(case.topic.read_all().await?.iter().all(|record| record.key == b"1"));
    assert!(case.confirmed().await? <= behind_row);
    Ok(())
}

#[tokio::test]
async fn a_halted_relay_exits_with_3_when_told_to() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    case.database.drop_slot(&case.database.slot_name()).await?;
    let mut relay = case.relay.run_with(&["--exit-on-halt"])?;
    let status = relay.exit(SOON).await?;
    assert_eq!(status.code(), Some(3), "{}", relay.log_tail());
    assert!(relay.log().contains(&case.database.slot_name()), "{}", relay.log_tail());
    Ok(())
}

/// Between two looks of the watch nobody sees that the table was away; its entry is a new one all the same.
#[tokio::test]
async fn a_table_that_was_taken_out_of_the_publication_and_put_back_halts_the_relay() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(10, 3, 1).await?;
    case.audit().await?;
    relay.terminate(SOON).await?;
    case.database.execute("alter publication package_event_pub drop table package_event").await?;
    case.commit(10, 3, 1).await?;
    case.database.execute("alter publication package_event_pub add table package_event").await?;

    let mut relay = case.relay.run()?;
    halts(&mut relay, &["package_event_pub", "put back", "walpost recover"]).await
}

#[tokio::test]
async fn a_publication_that_was_made_anew_halts_the_relay_while_it_streams() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    let anew = "begin; drop publication package_event_pub; \
                create publication package_event_pub for table package_event with (publish = 'insert'); commit";
    case.database.execute(anew).await?;
    halts(&mut relay, &["package_event_pub", "walpost recover"]).await
}

#[tokio::test]
async fn a_dropped_table_halts_the_relay() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute("drop table package_event").await?;
    halts(&mut relay, &["public.package_event"]).await
}

#[tokio::test]
async fn a_slot_that_someone_moved_ahead_halts_the_relay() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    relay.terminate(SOON).await?;
    case.commit(10, 3, 1).await?;
    let advance = "select pg_replication_slot_advance($1, pg_current_wal_lsn())";
    case.client().await?.execute(advance, &[&case.database.slot_name()]).await?;
    halts(&mut case.relay.run()?, &["ahead of", "walpost recover"]).await
}

#[tokio::test]
async fn a_slot_of_another_server_halts_the_relay() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    relay.terminate(SOON).await?;
    // What a dump that was restored elsewhere remembers.
    case.database.execute("update walpost.slot set system_identifier = '1'").await?;
    halts(&mut case.relay.run()?, &["system identifier", "walpost recover"]).await
}
