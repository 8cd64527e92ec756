//! Which rows come from the table, and in which order: whatever was done to them, and whoever was still writing.

use anyhow::{Context, Result, ensure};
use harness::{PrivatePostgres, Received, wait_for, wait_until};
use tokio_postgres::Client;

use crate::case::{Case, SOON};

/// What a service, a poller or a migration does to rows; none of it is an insert, and each gives a row another `xmin`.
const TOUCHES: [&str; 4] = [
    "update package_event set traceparent = null",
    "alter table package_event alter column package_event_id type bigint using package_event_id + 0",
    "alter table package_event add column x uuid default gen_random_uuid()",
    "vacuum full package_event",
];

#[tokio::test]
async fn rows_that_are_touched_between_init_and_the_first_copy_are_published() -> Result<()> {
    for touch in TOUCHES {
        let case = Case::new().await?;
        case.commit(100, 10, 10).await?;
        case.relay.init().await?;
        case.database.execute(touch).await?;
        let _relay = case.relay.run_ready().await?;
        case.commit_one(1).await?;
        let audit = case.audit().await.context(touch)?;
        assert_eq!(audit.published, 101, "{touch}");
    }
    Ok(())
}

#[tokio::test]
async fn rows_that_are_touched_while_the_table_is_copied_are_published() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_WINDOW_RECORDS", "200");
    case.commit(20_000, 10, 20_000).await?;
    case.relay.init().await?;
    let relay = case.relay.run()?;
    some_have_arrived(&case).await?;
    case.database
        .execute("update package_event set traceparent = null where package_event_id % 7 = 0")
        .await?;
    case.commit(10, 10, 1).await?;
    assert_eq!(case.audit().await?.published, 20_010, "{}", relay.log_tail());
    Ok(())
}

async fn some_have_arrived(case: &Case) -> Result<()> {
    wait_until("some have arrived", SOON, async || Ok(case.topic.ends().await?.values().sum::<i64>() > 0))
        .await
}

/// Waits until so many sessions of this database wait for a transaction of another.
async fn waits_for_a_transaction(client: &Client, slot: &str) -> Result<()> {
    let sql = "select exists (select from pg_stat_activity where query like '%' || $1 || '%' \
               and wait_event_type = 'Lock' and wait_event = 'transactionid')";
    wait_until("the slot's making waits for a transaction", SOON, async || {
        Ok(client.query_one(sql, &[&slot]).await?.get(0))
    })
    .await
}

async fn open(case: &Case) -> Result<(Client, i64)> {
    let client = case.client().await?;
    client.batch_execute("begin").await?;
    let own = client.query_one("select pg_current_xact_id()::text::bigint", &[]).await?.get(0);
    Ok((client, own))
}

/// Makes the slot while transactions come and go, so that it has one that is open when its snapshot is, and begins only
/// when that has ended. `meanwhile` runs when every later transaction is decoded whole, and before the slot's position.
async fn init_around<T>(case: &Case, meanwhile: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    let watching = case.client().await?;
    let slot = case.database.slot_name();
    let (first, _) = open(case).await?;
    let init = case.relay.init();
    let dance = async {
        waits_for_a_transaction(&watching, &slot).await?;
        let (second, own) = open(case).await?;
        first.batch_execute("commit").await?;
        // It waits for the second one now.
        let sql = "select exists (select from pg_locks where locktype = 'transactionid' and not granted \
                   and transactionid::text::bigint = $1 % 4294967296)";
        wait_until("the slot's making waits for the second", SOON, async || {
            Ok(watching.query_one(sql, &[&own]).await?.get(0))
        })
        .await?;
        let made = meanwhile().await?;
        second.batch_execute("commit").await?;
        Ok(made)
    };
    let ((), made) = tokio::try_join!(init, dance)?;
    Ok(made)
}

#[tokio::test]
async fn a_transaction_that_was_open_when_the_slot_was_made_does_not_overtake_its_key() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let (early, _) = init_around(&case, async || open(&case).await).await?;
    let insert = "insert into package_event (package_id, event_type) values (1, 'Updated')";
    case.database.execute(insert).await?;
    early.batch_execute(insert).await?;
    early.batch_execute("commit").await?;
    let _relay = case.relay.run_ready().await?;
    case.commit_one(1).await?;
    assert_eq!(case.audit().await?.published, 3);
    Ok(())
}

/// Its commit is in the WAL and lies before the slot's position; it becomes visible when a standby has answered.
#[tokio::test]
async fn a_transaction_that_is_committed_and_not_visible_yet_is_waited_for() -> Result<()> {
    let postgres =
        PrivatePostgres::start_with(&["synchronous_standby_names=absent", "synchronous_commit=local"])
            .await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let watching = case.client().await?;
    let waiting = init_around(&case, async || {
        let client = case.client().await?;
        let waiting = tokio::spawn(async move {
            client.batch_execute("set synchronous_commit = on").await?;
            client
                .batch_execute("insert into package_event (package_id, event_type) values (1, 'Created')")
                .await
        });
        let sql = "select exists (select from pg_stat_activity where wait_event = 'SyncRep')";
        wait_until("its commit waits for a standby", SOON, async || {
            Ok(watching.query_one(sql, &[]).await?.get(0))
        })
        .await?;
        Ok(waiting)
    })
    .await?;
    let case = case.with("WALPOST_SLOT_TIMEOUT_MS", "1000");
    let mut relay = case.relay.run()?;
    relay
        .status("it is waited for and named", |ready| ready.status == 503 && ready.body.contains("pid"))
        .await?;
    postgres_lets_go(&case).await?;
    waiting.await??;
    relay.ready().await?;
    assert_eq!(case.audit().await?.published, 1);
    Ok(())
}

async fn postgres_lets_go(case: &Case) -> Result<()> {
    let client = case.client().await?;
    client.batch_execute("alter system set synchronous_standby_names = ''").await?;
    client.batch_execute("select pg_reload_conf()").await?;
    Ok(())
}

#[tokio::test]
async fn a_prepared_transaction_is_waited_for_and_named() -> Result<()> {
    let postgres = PrivatePostgres::start_with(&["max_prepared_transactions=2"]).await?;
    let case = Case::on_postgres(postgres.url()).await?.with("WALPOST_SLOT_TIMEOUT_MS", "500");
    let client = case.client().await?;
    let create = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    client.execute(create, &[&case.database.slot_name()]).await?;
    client
        .batch_execute(
            "begin; insert into package_event (package_id, event_type) values (1, 'Created'); \
             prepare transaction 'half done'",
        )
        .await?;
    case.commit(10, 1, 1).await?;
    case.relay.init().await?;
    let mut relay = case.relay.run()?;
    relay
        .status("it is named", |ready| {
            ready.status == 503 && ready.body.contains("prepared transaction 'half done'")
        })
        .await?;
    client.batch_execute("rollback prepared 'half done'").await?;
    relay.ready().await?;
    assert_eq!(case.audit().await?.published, 10);
    Ok(())
}

/// Behind the place where the copy goes on, and before it: the later one is on a page, the earlier one was passed.
#[tokio::test]
async fn a_row_that_comes_late_is_not_overtaken_by_a_later_one_of_its_key() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_WINDOW_RECORDS", "200");
    case.database
        .execute(
            "insert into package_event (package_event_id, package_id, event_type) \
             select 10 * n, 1 + n % 10, 'Updated' from generate_series(1, 20000) n",
        )
        .await?;
    case.relay.init().await?;
    let mut relay = case.relay.run()?;
    some_have_arrived(&case).await?;
    relay.signal("TERM").await?;
    relay.exit(SOON).await?;
    let through = "select copied_through > 15 and copied_through < 199995 from walpost.outbox";
    ensure!(case.client().await?.query_one(through, &[]).await?.get::<_, bool>(0), "{}", relay.log_tail());
    for id in [15, 199_995] {
        let insert = format!(
            "insert into package_event (package_event_id, package_id, event_type) values ({id}, 77, 'Updated')"
        );
        case.database.execute(&insert).await?;
    }
    let _relay = case.relay.run_ready().await?;
    assert_eq!(case.audit().await?.published, 20_002);
    Ok(())
}

fn same(record: &Received, names: &[&str]) -> Vec<Option<String>> {
    names.iter().map(|name| record.header(name).map(str::to_owned)).collect()
}

/// Inserted between the slot and the first copy: once from the table, once from the stream.
#[tokio::test]
async fn a_row_that_comes_from_the_table_and_from_the_stream_is_the_same_event() -> Result<()> {
    let case = Case::new().await?;
    let create = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    case.client().await?.execute(create, &[&case.database.slot_name()]).await?;
    case.commit(20, 5, 5).await?;
    case.relay.init().await?;
    let _relay = case.relay.run_ready().await?;
    let both = wait_for("each has come by both ways", SOON, async || {
        let records = case.topic.read_all().await?;
        Ok((records.len() == 40).then_some(records))
    })
    .await?;
    let names = [
        "ce_specversion",
        "ce_id",
        "ce_source",
        "ce_type",
        "ce_time",
        "ce_subject",
        "content-type",
        "traceparent",
    ];
    for record in &both {
        let twin = both.iter().rev().find(|other| other.header("ce_id") == record.header("ce_id"));
        let twin = twin.context("no twin")?;
        assert_eq!((&record.key, &record.value), (&twin.key, &twin.value));
        assert_eq!(same(record, &names), same(twin, &names));
    }
    Ok(())
}

/// The group is larger than a page may be, and the copy is stopped within it.
#[tokio::test]
async fn ids_need_not_be_unique_nor_begin_at_one() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_WINDOW_RECORDS", "100");
    case.database
        .execute(
            "alter table package_event drop constraint package_event_pkey; \
             insert into package_event (package_event_id, package_id, event_type) \
             select 0, 1, 'Updated' from generate_series(1, 2000); \
             insert into package_event (package_event_id, package_id, event_type) \
             select n, 1, 'Updated' from generate_series(1, 1000) n; \
             insert into package_event (package_event_id, package_id, event_type) \
             select 1001, 1, 'Updated' from generate_series(1, 2000)",
        )
        .await?;
    case.relay.init().await?;
    let mut relay = case.relay.run()?;
    some_have_arrived(&case).await?;
    relay.signal("TERM").await?;
    relay.exit(SOON).await?;
    let _relay = case.relay.run_ready().await?;
    assert_eq!(case.audit().await?.published, 5_000);
    Ok(())
}
