use anyhow::{Context, Result, ensure};
use harness::{Stack, database, wait_until};

use crate::case::{Case, SOON, insert};
use crate::halt::halts;
use crate::recover::dry_run;

/// No look comes by itself while a test runs.
const NEVER_MS: &str = "3600000";

const LACKS_INSERTS: &str = "alter publication package_event_pub set (publish = 'delete')";
const HAS_INSERTS: &str = "alter publication package_event_pub set (publish = 'insert')";

/// The table is published by its schema, and not by its name.
const BY_SCHEMA: &str = "drop publication package_event_pub; \
     create publication package_event_pub for tables in schema public with (publish = 'insert')";

async fn publishes_schemas() -> Result<bool> {
    database::has(&Stack::shared().await?.database_url, "publishing a schema", 15).await
}

/// Recovers, and waits until every event has arrived.
async fn recovers(case: &Case, published: usize) -> Result<()> {
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    let audit = case.audit().await.with_context(|| recovered.log_tail())?;
    ensure!(audit.published == published, "{audit}");
    recovered.terminate(SOON).await?;
    // And what is recovered stays so.
    dry_run(case, &["nothing to recover"]).await?;
    case.relay.run_ready().await.map(drop)
}

#[tokio::test]
async fn a_finding_is_not_forgotten_when_the_publication_is_put_right_again() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(1, 1, 1).await?;
    case.audit().await?;
    case.database.execute(LACKS_INSERTS).await?;
    halts(&mut relay, &["publish = 'insert'", "walpost recover"]).await?;
    case.commit(10, 3, 1).await?;
    case.database.execute(HAS_INSERTS).await?;
    relay.terminate(SOON).await?;

    let mut relay = case.relay.run()?;
    halts(&mut relay, &["walpost recover"]).await?;
    relay.terminate(SOON).await?;
    dry_run(&case, &["keep the slot", "publish the rows"]).await?;
    recovers(&case, 11).await
}

/// A child that was there leaves no trace in the catalogue: what was found is known from the ledger alone.
#[tokio::test]
async fn a_finding_that_leaves_no_trace_in_the_catalogue_outlives_the_relay() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.database.execute("create table child () inherits (package_event)").await?;
    halts(&mut relay, &["public.package_event", "child tables", "public.child"]).await?;
    relay.terminate(SOON).await?;
    case.database.execute("alter table child no inherit package_event").await?;
    let mut relay = case.relay.run()?;
    halts(&mut relay, &["rows may be missing", "child tables", "walpost recover"]).await?;
    relay.terminate(SOON).await?;
    case.commit(5, 3, 1).await?;
    recovers(&case, 5).await
}

/// While the relay is down, and put right before it is up again: nobody saw it, and the catalogue tells all the same.
async fn unseen(prepare: &str, away: &str, back: &str) -> Result<()> {
    let case = Case::new().await?;
    case.database.execute(prepare).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(1, 1, 1).await?;
    case.audit().await?;
    relay.terminate(SOON).await?;
    case.database.execute(&format!("begin; {away}; commit")).await?;
    // By another name it is the same table.
    let moved = "insert into other.package_event (package_id, event_type) values (1, 'Removed')";
    if case.commit(5, 3, 1).await.is_err() {
        case.database.execute(moved).await?;
    }
    case.database.execute(&format!("begin; {back}; commit")).await?;
    let mut relay = case.relay.run()?;
    halts(&mut relay, &["not as it was", "walpost recover"]).await.with_context(|| away.to_owned())?;
    relay.terminate(SOON).await?;
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    case.audit().await.with_context(|| recovered.log_tail())?;
    Ok(())
}

#[tokio::test]
async fn operations_that_were_changed_and_changed_back_are_noticed() -> Result<()> {
    unseen("select", LACKS_INSERTS, HAS_INSERTS).await
}

#[tokio::test]
async fn a_schema_that_was_taken_out_of_the_publication_and_put_back_is_noticed() -> Result<()> {
    if !publishes_schemas().await? {
        return Ok(());
    }
    let (away, back) = ("drop", "add");
    let alter = |what| format!("alter publication package_event_pub {what} tables in schema public");
    unseen(BY_SCHEMA, &alter(away), &alter(back)).await
}

#[tokio::test]
async fn a_table_that_left_its_published_schema_and_came_back_is_noticed() -> Result<()> {
    if !publishes_schemas().await? {
        return Ok(());
    }
    let prepare = format!("{BY_SCHEMA}; create schema other");
    let (away, back) =
        ("alter table package_event set schema other", "alter table other.package_event set schema public");
    unseen(&prepare, away, back).await
}

#[tokio::test]
async fn a_publication_that_was_renamed_and_renamed_back_is_noticed() -> Result<()> {
    let rename = |from, to| format!("alter publication {from} rename to {to}");
    unseen("select", &rename("package_event_pub", "x"), &rename("x", "package_event_pub")).await
}

/// What does not touch the publication is nobody's concern, least of all what Postgres does by itself.
#[tokio::test]
async fn upkeep_of_the_catalogue_and_rights_on_the_table_halt_nothing() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    let client = case.client().await?;
    for sql in [
        "vacuum (full, freeze, analyze) pg_publication",
        "vacuum (full, freeze) pg_publication_rel",
        "vacuum (full, freeze) pg_depend",
        "vacuum (full, freeze, analyze) package_event",
        "grant select on package_event to public",
        "alter table package_event add column more text",
        "create index on package_event (more)",
        "comment on publication package_event_pub is 'ours'",
        "truncate package_event",
    ] {
        client.batch_execute(sql).await.with_context(|| sql.to_owned())?;
    }
    case.commit(5, 3, 1).await?;
    case.audit().await.with_context(|| relay.log_tail())?;
    relay.terminate(SOON).await?;
    let _relay = case.relay.run_ready().await?;
    Ok(())
}

#[tokio::test]
async fn nothing_is_confirmed_past_an_alteration_that_nobody_has_seen() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_WATCH_INTERVAL_MS", NEVER_MS);
    let mut relay = case.relay.init_and_run().await?;
    case.commit(1, 1, 1).await?;
    case.audit().await?;
    case.database.execute("create table neighbour (t text)").await?;
    case.database.execute(LACKS_INSERTS).await?;
    let altered = case.wal_end().await?;
    case.commit(5, 3, 1).await?;
    // Enough for a position without events to be worth a write.
    let busy = "insert into neighbour select repeat(md5(n::text), 30) from generate_series(1, 2000) n";
    case.database.execute(busy).await?;
    halts(&mut relay, &["does not publish inserts"]).await?;
    assert!(case.confirmed().await? <= altered, "confirmed past the alteration");
    case.database.execute(HAS_INSERTS).await?;
    relay.terminate(SOON).await?;
    recovers(&case, 6).await
}

#[tokio::test]
async fn rows_behind_an_alteration_are_held_back_and_never_published_out_of_turn() -> Result<()> {
    let case = Case::new()
        .await?
        .with("WALPOST_WATCH_INTERVAL_MS", NEVER_MS)
        .with("WALPOST_CONFIRM_INTERVAL_MS", "60000");
    let mut relay = case.relay.init_and_run().await?;
    case.commit_one(1).await?;
    case.topic.read(1, SOON).await?;
    let client = case.client().await?;
    client.batch_execute(LACKS_INSERTS).await?;
    insert(&client, 1).await?;
    client.batch_execute(HAS_INSERTS).await?;
    insert(&client, 1).await?;
    halts(&mut relay, &["not as it was", "walpost recover"]).await?;
    assert_eq!(case.topic.read_all().await?.len(), 1, "the row behind the gap went out of turn");
    relay.terminate(SOON).await?;
    recovers(&case, 3).await
}

#[tokio::test]
async fn a_recovery_that_breaks_off_in_the_midst_of_what_it_writes_is_run_again() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(10, 3, 1).await?;
    case.audit().await?;
    relay.terminate(SOON).await?;
    let client = case.client().await?;
    client.batch_execute("alter publication package_event_pub drop table package_event").await?;
    case.commit(10, 3, 1).await?;
    client.batch_execute("alter publication package_event_pub add table package_event").await?;
    client
        .batch_execute(
            "create function broken() returns trigger language plpgsql as $$begin raise exception 'x'; end$$; \
             create trigger broken before update on walpost.outbox for each row when (old.backfilled_at is not null \
             and new.backfilled_at is null) execute function broken()",
        )
        .await?;
    let failed = case.relay.command(&["recover"]).await?;
    ensure!(failed.code() == 1, "{}{}", failed.stdout, failed.stderr);
    client.batch_execute("drop trigger broken on walpost.outbox").await?;
    halts(&mut case.relay.run()?, &["walpost recover"]).await?;
    dry_run(&case, &["publish the rows"]).await?;
    recovers(&case, 20).await
}

#[tokio::test]
async fn another_publication_asks_for_another_slot() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(5, 3, 1).await?;
    case.audit().await?;
    case.database.execute("drop publication package_event_pub").await?;
    halts(&mut relay, &["package_event_pub", "walpost init"]).await?;
    relay.terminate(SOON).await?;
    case.commit(5, 3, 1).await?;
    // It makes the publication, and says what else is to be done.
    let as_owner = case.relay.clone().env("WALPOST_DATABASE_URL", &case.database.url);
    let made = as_owner.command(&["init"]).await?;
    ensure!(made.code() == 1 && made.stderr.contains("walpost recover"), "{}", made.stderr);
    dry_run(&case, &["drop the slot", "make it anew"]).await?;
    recovers(&case, 10).await
}

#[tokio::test]
async fn a_checkpoint_proves_nothing_while_an_alteration_waits_to_be_seen() -> Result<()> {
    let postgres = harness::PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    // A standby that does not answer; only the alteration waits for it.
    let name = case.database.name();
    case.database.execute(&format!("alter database {name} set synchronous_commit = local")).await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit_one(1).await?;
    case.audit().await?;
    case.database.execute("alter system set synchronous_standby_names = 'nobody'").await?;
    case.database.execute("select pg_reload_conf()").await?;

    // The row's transaction begins first and commits last.
    let (writer, altering, watcher) = (case.client().await?, case.client().await?, case.client().await?);
    writer
        .batch_execute("begin; insert into package_event (package_id, event_type) values (2, 'Removed')")
        .await?;
    altering.batch_execute("set synchronous_commit = on").await?;
    let token = altering.cancel_token();
    let waiting = tokio::spawn(async move { altering.batch_execute(LACKS_INSERTS).await });
    let waits = "select count(*) from pg_stat_activity where wait_event = 'SyncRep'";
    wait_until("the alteration waits for the standby", SOON, async || {
        Ok(watcher.query_one(waits, &[]).await?.get::<_, i64>(0) == 1)
    })
    .await?;
    writer.batch_execute("commit").await?;
    let behind = case.wal_end().await?;
    let busy = "create table neighbour as select repeat(md5(n::text), 30) from generate_series(1, 2000) n";
    case.database.execute(busy).await?;
    case.confirmed_to(behind).await?;
    // Some looks later nothing is proven about the row.
    let since: std::time::SystemTime = watcher.query_one("select clock_timestamp()", &[]).await?.get(0);
    let looked = "select count(*) from pg_stat_activity where application_name = 'walpost' \
                  and query like '%pg_current_snapshot%' and query_start > $1::timestamptz + interval '1 second'";
    let uncovered = "select coalesce(age(published_below::xid) >= age(package_event.xmin), true) \
                     from package_event, walpost.outbox where package_id = 2";
    wait_until("it has looked", SOON, async || {
        Ok(watcher.query_one(looked, &[&since]).await?.get::<_, i64>(0) > 0)
    })
    .await?;
    assert!(watcher.query_one(uncovered, &[]).await?.get::<_, bool>(0), "the row that was skipped is proven");
    token.cancel_query(tokio_postgres::NoTls).await?;
    // Cancelled, the wait ends; the alteration was committed.
    let _ = waiting.await?;
    halts(&mut relay, &["does not publish inserts"]).await?;
    assert!(watcher.query_one(uncovered, &[]).await?.get::<_, bool>(0), "the row that was skipped is proven");
    case.database.execute(HAS_INSERTS).await?;
    relay.terminate(SOON).await?;
    recovers(&case, 2).await
}

/// As the first version left it: one table, without the columns that came later.
const OLDER: &str = "alter table walpost.slot add streamed_from xid8, add backfilled_at timestamptz, \
        add published_below xid8, add publication_oid oid, add publication_table_oid oid, drop timeline, drop messages; \
    update walpost.slot s set streamed_from = o.streamed_from, backfilled_at = o.backfilled_at, \
        published_below = o.published_below, publication_oid = o.publication_oid, \
        publication_table_oid = o.publication_table_oid from walpost.outbox o where o.slot_name = s.slot_name; \
    drop function walpost.follow; drop table walpost.version";

/// With the columns that version 1 had in the end.
const OLD: &str = "alter table walpost.slot add publication_rows text, add republish_why text, add timeline integer, \
        add copy_through bigint, add copied_through bigint, add published_of oid, add copy_order text, add guesses jsonb; \
    update walpost.slot s set publication_rows = o.publication_rows, copy_through = o.copy_through, \
        copied_through = o.copied_through, published_of = o.table_oid, copy_order = o.copy_order, guesses = o.guesses \
        from walpost.outbox o where o.slot_name = s.slot_name";

/// As version 2 was.
const VERSION_2: &str = "alter table walpost.slot drop messages; update walpost.version set version = 2";

/// What had not come yet.
const WITHOUT_OUTBOX: &str = "drop table walpost.outbox";

#[tokio::test]
async fn a_ledger_of_an_older_version_is_brought_up_to_date_by_run() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(5, 3, 1).await?;
    case.audit().await?;
    relay.terminate(SOON).await?;
    for older in [[VERSION_2].as_slice(), &[OLDER, WITHOUT_OUTBOX], &[OLDER, OLD, WITHOUT_OUTBOX]] {
        for step in older {
            case.database.execute(step).await?;
        }
        // Those that only read say so.
        let outcome = case.relay.command(&["recover", "--dry-run"]).await?;
        ensure!(outcome.stderr.contains("older version"), "{}", outcome.stderr);
        let mut relay = case.relay.run_ready().await?;
        case.commit(5, 3, 1).await?;
        assert_eq!(case.audit().await?.duplicates, 0);
        relay.terminate(SOON).await?;
    }
    unseen_after_upgrade(&case).await
}

#[tokio::test]
async fn a_ledger_of_a_newer_version_is_left_alone() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    case.database.execute("update walpost.version set version = 99").await?;
    halts(&mut case.relay.run()?, &["version 99", "newer walpost"]).await
}

/// What is there at the upgrade is what is compared with from then on.
async fn unseen_after_upgrade(case: &Case) -> Result<()> {
    case.database.execute(LACKS_INSERTS).await?;
    case.database.execute(HAS_INSERTS).await?;
    halts(&mut case.relay.run()?, &["walpost recover"]).await
}

#[tokio::test]
async fn a_ledger_that_the_relays_role_may_not_upgrade_is_upgraded_by_init() -> Result<()> {
    let case = Case::new().await?;
    case.relay.init().await?;
    let role = format!("relay_{}", case.database.name());
    case.database.execute(OLDER).await?;
    case.database.execute(WITHOUT_OUTBOX).await?;
    case.database
        .execute(&format!(
            "alter table walpost.slot owner to current_user; \
             grant select, insert, update on walpost.slot to {role}"
        ))
        .await?;
    let mut relay = case.relay.run()?;
    halts(&mut relay, &["older version", "walpost init"]).await?;
    relay.terminate(SOON).await?;
    let as_owner = case.relay.clone().env("WALPOST_DATABASE_URL", &case.database.url);
    as_owner.init().await?;
    let _relay = case.relay.run_ready().await?;
    case.commit(5, 3, 1).await?;
    case.audit().await.map(drop)
}
