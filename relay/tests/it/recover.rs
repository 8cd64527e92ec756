use std::collections::HashSet;

use anyhow::{Result, ensure};
use harness::{PrivatePostgres, Received, Stack, database, wait_until};
use tokio_postgres::types::PgLsn;

use crate::case::{Case, SOON, write_concurrently};
use crate::halt::halts;

/// `walpost recover --dry-run` succeeds and says all of `says`.
pub(crate) async fn dry_run(case: &Case, says: &[&str]) -> Result<()> {
    let said = case.relay.command(&["recover", "--dry-run"]).await?.success()?.stdout;
    for part in says {
        ensure!(said.contains(part), "the dry run does not say {part}:\n{said}");
    }
    Ok(())
}

/// Waits until a checkpoint proves that all rows are in Kafka.
pub(crate) async fn all_covered(case: &Case) -> Result<()> {
    let client = case.client().await?;
    let uncovered = "select count(*) from package_event, walpost.outbox where published_below is null \
                     or age(package_event.xmin) <= age(published_below::xid)";
    // Transactions of other tests on the server, which are older, hold it up.
    wait_until("a checkpoint covers every row", 4 * SOON, async || {
        Ok(client.query_one(uncovered, &[]).await?.get::<_, i64>(0) == 0)
    })
    .await
}

#[tokio::test]
async fn a_slot_lost_under_load_loses_no_event() -> Result<()> {
    let postgres = PrivatePostgres::start_with(&[
        "max_slot_wal_keep_size=1MB",
        "max_wal_size=32MB",
        "min_wal_size=32MB",
    ])
    .await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let mut relay = case.relay.init_and_run().await?;
    let lose = async {
        wait_until("the stream is in full flow", SOON, async || {
            Ok(case.topic.ends().await?.values().sum::<i64>() >= 100)
        })
        .await?;
        relay.pause().await?;
        let client = case.client().await?;
        let status = "select wal_status from pg_replication_slots";
        wait_until("the slot is lost", SOON, async || {
            client.batch_execute("select pg_switch_wal()").await?;
            client.batch_execute("checkpoint").await?;
            Ok(client.query_one(status, &[]).await?.get::<_, String>(0) == "lost")
        })
        .await?;
        relay.resume().await?;
        halts(&mut relay, &["lost", "walpost recover"]).await?;
        relay.terminate(SOON).await?;
        dry_run(&case, &["lost", "drop the slot"]).await?;
        ensure!(
            client.query_one(status, &[]).await?.get::<_, String>(0) == "lost",
            "a dry run changes nothing"
        );
        case.relay.recover()
    };
    let (_, mut recovered) = tokio::try_join!(write_concurrently(&case.database, 4, 400, 5), lose)?;
    recovered.ready().await?;
    case.commit(100, 5, 10).await?;
    assert_eq!(case.audit().await?.published, 1_700);
    Ok(())
}

#[tokio::test]
async fn recovery_leaves_out_what_a_checkpoint_proves_to_be_in_kafka() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(1_000, 10, 10).await?;
    case.audit().await?;
    all_covered(&case).await?;
    relay.terminate(SOON).await?;
    case.database.drop_slot(&case.database.slot_name()).await?;
    case.commit(100, 10, 10).await?;

    halts(&mut case.relay.run()?, &["walpost recover"]).await?;
    dry_run(&case, &["does not exist", "make the slot", "100 that Kafka may lack"]).await?;
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    case.commit(100, 10, 10).await?;
    let audit = case.audit().await?;
    assert_eq!((audit.published, audit.duplicates), (1_200, 0), "{}", recovered.log_tail());

    recovered.terminate(SOON).await?;
    dry_run(&case, &["nothing to recover"]).await
}

#[tokio::test]
async fn an_interrupted_recovery_is_run_again() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_WINDOW_RECORDS", "200");
    let mut relay = case.relay.init_and_run().await?;
    relay.terminate(SOON).await?;
    case.database.drop_slot(&case.database.slot_name()).await?;
    case.commit(20_000, 10, 20_000).await?;
    let mut recovering = case.relay.recover()?;
    wait_until("some have arrived", SOON, async || {
        recovering.expect_running()?;
        Ok(case.topic.ends().await?.values().sum::<i64>() > 0)
    })
    .await?;
    recovering.kill()?;
    dry_run(&case, &["was not finished"]).await?;
    let _recovered = case.relay.recover()?;
    case.commit(100, 10, 10).await?;
    assert_eq!(case.audit().await?.published, 20_100);
    Ok(())
}

#[tokio::test]
async fn rows_that_a_publication_let_pass_are_published_by_recovery_from_the_slot_that_is_there() -> Result<()>
{
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(100, 10, 10).await?;
    case.audit().await?;
    let client = case.client().await?;
    client.batch_execute("alter publication package_event_pub drop table package_event").await?;
    case.commit(100, 10, 10).await?;
    client.batch_execute("alter publication package_event_pub add table package_event").await?;
    halts(&mut relay, &["package_event_pub"]).await?;
    relay.terminate(SOON).await?;
    let position = "select restart_lsn from pg_replication_slots where slot_name = $1";
    let before: PgLsn = client.query_one(position, &[&case.database.slot_name()]).await?.get(0);

    dry_run(&case, &["keep the slot"]).await?;
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    assert_eq!(case.audit().await?.published, 200);
    let after: PgLsn = client.query_one(position, &[&case.database.slot_name()]).await?.get(0);
    assert!(after >= before);
    Ok(())
}

#[tokio::test]
async fn what_was_proven_of_one_table_proves_nothing_of_another_that_takes_its_name() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    let client = case.client().await?;
    // Rows that nobody publishes yet, by transactions before the checkpoint.
    client
        .batch_execute(
            "create table other (like package_event including all); grant select, delete on other to public; \
             insert into other (package_id, event_type, payload) select n, 'Updated', '{}' from generate_series(1, 5) n",
        )
        .await?;
    case.commit(10, 5, 1).await?;
    case.audit().await?;
    all_covered(&case).await?;
    relay.terminate(SOON).await?;
    client
        .batch_execute(
            "alter table package_event rename to before; alter table other rename to package_event; \
             alter publication package_event_pub add table package_event",
        )
        .await?;
    halts(&mut case.relay.run()?, &["walpost recover"]).await?;
    dry_run(&case, &["5 that Kafka may lack"]).await?;
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    let rows = client.query("select event_id::text from package_event", &[]).await?;
    let mut missing: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
    let all = |record: &Received| {
        missing.remove(record.header("ce_id").unwrap_or_default());
        missing.is_empty()
    };
    case.topic.read_until("the rows of the other table", SOON, all).await?;
    Ok(())
}

#[tokio::test]
async fn a_slot_that_stood_idle_for_too_long_halts_and_recovery_loses_no_event() -> Result<()> {
    if !database::has(&Stack::shared().await?.database_url, "idle_replication_slot_timeout", 18).await? {
        return Ok(());
    }
    let postgres = PrivatePostgres::start_with(&["idle_replication_slot_timeout=1s"]).await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(50, 5, 10).await?;
    case.audit().await?;
    relay.terminate(SOON).await?;
    case.commit(50, 5, 10).await?;
    let client = case.client().await?;
    let reason = "select coalesce(invalidation_reason, '') from pg_replication_slots";
    wait_until("Postgres gives the slot up", SOON, async || {
        client.batch_execute("checkpoint").await?;
        Ok(client.query_one(reason, &[]).await?.get::<_, String>(0) == "idle_timeout")
    })
    .await?;
    halts(&mut case.relay.run()?, &["idle_timeout", "walpost recover"]).await?;
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    case.commit(50, 5, 10).await?;
    assert_eq!(case.audit().await?.published, 150);
    Ok(())
}

#[tokio::test]
async fn the_last_events_before_a_quiet_spell_are_proven_although_an_older_transaction_ran_meanwhile()
-> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let _relay = case.relay.init_and_run().await?;
    let older = case.client().await?;
    older.batch_execute("begin; select pg_current_xact_id()").await?;
    case.commit(10, 5, 1).await?;
    case.audit().await?;
    // A checkpoint is below the transaction that runs.
    let watcher = case.client().await?;
    let looked = "select count(*) from pg_stat_activity where application_name = 'walpost' \
                  and query like '%pg_snapshot_xmin%' and query_start > $1";
    let since: std::time::SystemTime = watcher.query_one("select clock_timestamp()", &[]).await?.get(0);
    wait_until("a checkpoint waits for the transaction to end", SOON, async || {
        Ok(watcher.query_one(looked, &[&since]).await?.get::<_, i64>(0) > 0)
    })
    .await?;
    older.batch_execute("commit").await?;
    all_covered(&case).await
}
