use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use harness::database::version;
use harness::stack::repository;
use harness::wait_until;

use crate::case::{Case, SOON};

/// The names in the table of docs/metrics.md.
fn documented() -> Result<BTreeSet<String>> {
    let page = std::fs::read_to_string(repository().join("docs/metrics.md"))?;
    let names = page.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned()));
    Ok(names.collect())
}

fn served(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split_once(' ')?.0.to_owned()))
        .collect()
}

/// What this test's server and slot do not have.
const ABSENT: [&str; 3] = [
    "walpost_slot_safe_wal_bytes",
    "walpost_slot_wal_keep_max_bytes",
    "walpost_slot_inactive_since_timestamp_seconds",
];

/// What no slot has up to 16.
const ABSENT_UP_TO_16: [&str; 2] = ["walpost_slot_failover", "walpost_slot_synced"];

#[tokio::test]
async fn a_running_relay_serves_every_documented_metric_and_no_other() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_SAMPLE_INTERVAL_MS", "200");
    let url = case.database.monitor_url.clone();
    let case = case
        .with("WALPOST_MONITOR_DATABASE_URL", &url)
        .with("WALPOST_KAFKA_PROPERTY_STATISTICS_INTERVAL_MS", "200");
    let relay = case.relay.init_and_run().await?;
    let mut last = String::new();
    let mut absent = ABSENT.to_vec();
    if version(&case.database.url).await? < 17 {
        absent.extend(ABSENT_UP_TO_16);
    }
    let wanted: BTreeSet<_> =
        documented()?.into_iter().filter(|name| !absent.contains(&name.as_str())).collect();
    ensure!(wanted.len() > 30, "the table was not read: {wanted:?}");
    let complete = wait_until("every metric is served", SOON, async || {
        // Round trips are of the last moment.
        case.commit(20, 5, 1).await?;
        let names = served(&relay.get("/metrics").await?.body);
        last = format!("{:?}", wanted.difference(&names).collect::<Vec<_>>());
        Ok(wanted.is_subset(&names))
    });
    complete.await.with_context(|| format!("not served: {last}"))?;
    let page = relay.get("/metrics").await?.body;
    let documented = documented()?;
    let others: Vec<_> = served(&page).into_iter().filter(|name| !documented.contains(name)).collect();
    ensure!(others.iter().all(|name| name.starts_with("process_")), "not documented: {others:?}");
    Ok(())
}

#[tokio::test]
async fn the_role_of_the_metrics_reads_no_event() -> Result<()> {
    let case = Case::new().await?;
    let client = harness::database::connect(&case.database.monitor_url).await?;
    client.batch_execute("select package_event_id, created_at from package_event").await?;
    for sql in ["select payload from package_event", "delete from package_event", "table package"] {
        let refused = client.batch_execute(sql).await;
        let code = refused.err().and_then(|error| error.code().map(|code| code.code().to_owned()));
        assert_eq!(code.as_deref(), Some("42501"), "{sql}");
    }
    Ok(())
}

#[tokio::test]
async fn events_are_counted_by_what_became_of_them_and_timed() -> Result<()> {
    let case = Case::new().await?;
    let relay = case.relay.init_and_run().await?;
    case.commit(50, 5, 10).await?;
    case.audit().await?;
    wait_until("all of them are counted and confirmed", SOON, async || {
        let published = relay.metric("walpost_events_total{outcome=\"published\"}").await?;
        let processing = relay.metric("logistic_package_api_retranslator_events_processing").await?;
        Ok(published == 50.0 && processing == 0.0)
    })
    .await?;
    assert_eq!(relay.metric("walpost_commit_to_acknowledge_seconds_count").await?, 50.0);
    let sum = relay.metric("walpost_commit_to_acknowledge_seconds_sum").await?;
    assert!(sum > 0.0 && sum < 50.0 * 30.0, "{sum} s for 50 events");
    assert!(relay.metric("walpost_event_bytes_total{outcome=\"published\"}").await? > 50.0 * 50.0);
    assert_eq!(relay.metric("walpost_lag_seconds").await?, 0.0);
    let (acknowledged, confirmed) = (
        relay.metric("walpost_acknowledged_lsn_bytes").await?,
        relay.metric("walpost_confirmed_lsn_bytes").await?,
    );
    assert!(
        confirmed > 0.0 && confirmed <= acknowledged,
        "{confirmed} is confirmed, {acknowledged} acknowledged"
    );
    Ok(())
}

#[tokio::test]
async fn rows_from_before_the_slot_are_counted_and_not_timed() -> Result<()> {
    let case = Case::new().await?;
    case.commit(30, 5, 10).await?;
    let relay = case.relay.init_and_run().await?;
    case.audit().await?;
    assert_eq!(relay.metric("walpost_events_total{outcome=\"published\"}").await?, 30.0);
    assert_eq!(relay.metric("walpost_commit_to_acknowledge_seconds_count").await?, 0.0);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_asked_is_absent_and_counted() -> Result<()> {
    let case = Case::new().await?;
    let case = case
        .with("WALPOST_MONITOR_DATABASE_URL", "postgres://nobody:x@127.0.0.1:1/none")
        .with("WALPOST_SAMPLE_INTERVAL_MS", "200");
    let relay = case.relay.init_and_run().await?;
    wait_until("a question has failed", SOON, async || {
        Ok(relay.metric("walpost_sample_errors_total").await? >= 1.0)
    })
    .await?;
    let page = relay.get("/metrics").await?.body;
    assert!(!page.contains("walpost_retained_wal_bytes") && !page.contains("walpost_slot_"), "{page}");
    assert_eq!(relay.get("/ready").await?.status, 200, "the relay itself is well");
    Ok(())
}
