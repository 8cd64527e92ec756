use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::wait::holds_for;
use harness::{PrivateKafka, Stack, wait_until};
use tokio_postgres::Client;

use crate::case::{Case, SOON};
use crate::recover::all_covered;

async fn rows(case: &Case) -> Result<i64> {
    Ok(case.client().await?.query_one("select count(*) from package_event", &[]).await?.get(0))
}

async fn rows_become(case: &Case, count: i64) -> Result<()> {
    let what = format!("the outbox has {count} rows");
    wait_until(&what, SOON, async || Ok(rows(case).await? == count)).await
}

fn cleaning_at_once(case: Case) -> Case {
    case.with("WALPOST_CLEAN", "age")
        .with("WALPOST_CLEAN_AGE_S", "0")
        .with("WALPOST_CLEAN_INTERVAL_MS", "100")
}

#[tokio::test]
async fn published_rows_are_removed_after_the_retention_to_the_last_one() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(2_500, 10, 50).await?;
    case.audit().await?;
    assert_eq!(rows(&case).await?, 2_500, "off by default");
    relay.terminate(SOON).await?;

    let case = cleaning_at_once(case);
    let relay = case.relay.run_ready().await?;
    rows_become(&case, 0).await?;
    assert!((relay.metric("walpost_outbox_rows_removed_total").await? - 2_500.0).abs() < 0.5);
    Ok(())
}

#[tokio::test]
async fn rows_younger_than_the_retention_stay() -> Result<()> {
    let case = cleaning_at_once(Case::new().await?).with("WALPOST_CLEAN_AGE_S", "3600");
    let _relay = case.relay.init_and_run().await?;
    case.commit(10, 10, 1).await?;
    case.database.execute("insert into package_event (package_id, event_type, created_at) values (1, 'Removed', now() - interval '2 hours')").await?;
    // The old row is the newest by id; the look stops at the first that is too young, and finds it with a batch.
    rows_become(&case, 10).await
}

#[tokio::test]
async fn by_count_the_newest_rows_stay() -> Result<()> {
    let case = cleaning_at_once(Case::new().await?)
        .with("WALPOST_CLEAN", "count")
        .with("WALPOST_CLEAN_KEEP_ROWS", "100");
    let _relay = case.relay.init_and_run().await?;
    case.commit(1_500, 10, 10).await?;
    rows_become(&case, 100).await?;
    let oldest = "select min(package_event_id) from package_event";
    let oldest: i64 = case.client().await?.query_one(oldest, &[]).await?.get(0);
    assert_eq!(oldest, 1_401);
    Ok(())
}

#[tokio::test]
async fn a_row_that_kafka_does_not_have_is_never_removed() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    // Looks so far apart that the next one finds published and unpublished rows at once.
    let case = cleaning_at_once(Case::on_kafka(kafka.brokers()).await?);
    let case = case.with("WALPOST_WATCH_INTERVAL_MS", "2000");
    let _relay = case.relay.init_and_run().await?;
    case.commit(100, 10, 10).await?;
    rows_become(&case, 0).await?;
    case.commit_one(1).await?;
    case.topic.read(101, SOON).await?;
    kafka.stop().await?;
    case.commit(100, 10, 10).await?;
    holds_for("unpublished rows stay", Duration::from_secs(6), async || Ok(rows(&case).await? >= 100))
        .await?;
    kafka.start_again().await?;
    rows_become(&case, 0).await?;
    assert_eq!(case.topic.read_all().await?.len(), 201);
    Ok(())
}

/// Rows that were updated since: a transaction that stays open keeps every later checkpoint from proving them.
#[tokio::test]
async fn rows_that_nothing_proves_stay_and_hold_up_no_other() -> Result<()> {
    let case = Case::new().await?;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(1_600, 10, 100).await?;
    case.audit().await?;
    all_covered(&case).await?;
    relay.terminate(SOON).await?;
    let open = case.client().await?;
    open.batch_execute("begin; select pg_current_xact_id()").await?;
    case.database
        .execute("update package_event set traceparent = null where package_event_id <= 1100")
        .await?;

    let case = cleaning_at_once(case);
    let relay = case.relay.run_ready().await?;
    rows_become(&case, 1_100).await?;
    wait_until("they are counted", SOON, async || {
        Ok((relay.metric("walpost_outbox_rows_overdue").await? - 1_100.0).abs() < 0.5)
    })
    .await?;
    open.batch_execute("commit").await?;
    case.commit_one(1).await?;
    rows_become(&case, 0).await
}

/// Inserts rows in every way in which a row's transaction may not be what its id suggests: subtransactions, long
/// transactions that begin before and end after others, rollbacks. Returns what was committed.
async fn write(client: Client, writer: i64) -> Result<Vec<String>> {
    let insert = format!(
        "insert into package_event (package_id, event_type, payload) values ({writer}, 'Updated', '{{}}') \
         returning event_id::text"
    );
    let mut committed = Vec::new();
    for round in 0..60 {
        client.batch_execute("begin").await?;
        let mut ids = vec![client.query_one(&insert, &[]).await?.get::<_, String>(0)];
        client.batch_execute("savepoint inner_one").await?;
        let inner = client.query_one(&insert, &[]).await?.get::<_, String>(0);
        if round % 3 == 0 {
            client.batch_execute("rollback to inner_one").await?;
        } else {
            ids.push(inner);
        }
        if round % 5 == writer {
            client.batch_execute("select pg_sleep(0.3)").await?;
        }
        if round % 7 == 6 {
            client.batch_execute("rollback").await?;
        } else {
            client.batch_execute("commit").await?;
            committed.extend(ids);
        }
    }
    Ok(committed)
}

#[tokio::test]
async fn cleaning_under_load_and_kills_removes_nothing_that_was_not_published() -> Result<()> {
    let case = cleaning_at_once(Case::new().await?);
    let mut relay = case.relay.init_and_run().await?;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        writers.spawn(write(case.client().await?, writer));
    }
    for _ in 0..3 {
        let before = case.topic.ends().await?.values().sum::<i64>();
        wait_until("more has arrived", SOON, async || {
            Ok(case.topic.ends().await?.values().sum::<i64>() > before + 50 || writers.is_empty())
        })
        .await?;
        relay.kill()?;
        relay = case.relay.run_ready().await?;
    }
    let mut committed = HashSet::new();
    while let Some(ended) = writers.join_next().await {
        committed.extend(ended.context("a writer panicked")??);
    }
    rows_become(&case, 0).await?;
    let arrived: HashSet<String> = case
        .topic
        .read_all()
        .await?
        .iter()
        .map(|record| record.header("ce_id").unwrap_or_default().to_owned())
        .collect();
    assert_eq!(arrived, committed);
    Ok(())
}

/// What the row filter hides was never published; nor is it counted among the newest.
#[tokio::test]
async fn rows_that_the_filter_hides_are_never_removed() -> Result<()> {
    if !harness::database::has(&Stack::shared().await?.database_url, "row filters", 15).await? {
        return Ok(());
    }
    let case = Case::new().await?.with("WALPOST_WHERE", "package_id < 100");
    let refused = cleaning_at_once(case).relay.command(&["check"]).await?;
    assert!(refused.code() == 2 && refused.stderr.contains("append_only"), "{}", refused.stderr);
    // The publication that the migrations make has no filter.
    let case = Case::new().await?.with("WALPOST_PUBLICATION", "filtered");
    let case = case.with("WALPOST_WHERE", "package_id < 100").with("WALPOST_APPEND_ONLY", "true");
    let case = cleaning_at_once(case).with("WALPOST_CLEAN", "count").with("WALPOST_CLEAN_KEEP_ROWS", "10");
    let publication = "create publication filtered for table package_event where (package_id < 100) with (publish = 'insert')";
    case.database.execute(publication).await?;
    let _relay = case.relay.init_and_run().await?;
    case.commit(30, 3, 1).await?;
    let hidden = "insert into package_event (package_id, event_type) select 100 + n, 'Removed' from generate_series(1, 20) n";
    case.database.execute(hidden).await?;
    case.commit(30, 3, 1).await?;
    rows_become(&case, 30).await?;
    let left = "select count(*) filter (where package_id > 100) from package_event";
    assert_eq!(case.client().await?.query_one(left, &[]).await?.get::<_, i64>(0), 20);
    Ok(())
}
