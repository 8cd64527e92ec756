use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use harness::kafka_proxy::{Which, code};
use harness::{Database, PrivateKafka, PrivatePostgres, RelayProcess, wait_until};

use crate::case::{Case, SOON};

const OLDEST_ROW: &str = "walpost_outbox_oldest_row_timestamp_seconds";

/// Far below the time after which either peer counts as gone: nothing else may be what is noticed.
const STALL_TIMEOUT_MS: &str = "2000";

async fn stalls(relay: &mut RelayProcess, names: &str) -> Result<()> {
    let stalled = relay.status("the relay is stalled", |ready| ready.body.contains("\"stalled\"")).await?;
    ensure!(stalled.status == 503, "a stalled relay is ready: {}", stalled.body);
    ensure!(stalled.body.contains(names) && stalled.body.contains("remedy"), "{}", stalled.body);
    let metrics = relay.get("/metrics").await?.body;
    ensure!(
        metrics.contains("walpost_state{state=\"stalled\"} 1") && metrics.contains("walpost_ready 0"),
        "{metrics}"
    );
    Ok(())
}

#[tokio::test]
async fn a_relay_whose_events_nobody_acknowledges_is_not_ready_until_somebody_does() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on_kafka(kafka.brokers()).await?.with("WALPOST_STALL_TIMEOUT_MS", STALL_TIMEOUT_MS);
    let mut relay = case.relay.init_and_run().await?;
    case.commit(10, 3, 1).await?;
    case.audit().await?;
    kafka.pause().await?;
    case.commit(10, 3, 1).await?;
    stalls(&mut relay, "events wait for Kafka").await?;
    ensure!(relay.metric("walpost_lag_seconds").await? >= 1.0, "events wait and there is no lag");
    kafka.resume().await?;
    relay.ready().await?;
    case.audit().await?;
    Ok(())
}

#[tokio::test]
async fn a_relay_is_not_ready_while_the_log_grows_and_nothing_is_acknowledged() -> Result<()> {
    let postgres = PrivatePostgres::start().await?;
    let case = Case::on_postgres(postgres.url()).await?;
    let case =
        case.with("WALPOST_STALL_TIMEOUT_MS", STALL_TIMEOUT_MS).with("WALPOST_SAMPLE_INTERVAL_MS", "200");
    let mut relay = case.relay.init_and_run().await?;
    case.commit(10, 3, 1).await?;
    case.audit().await?;
    let sql = "select active_pid from pg_replication_slots where slot_name = $1";
    let row = case.client().await?.query_one(sql, &[&case.database.slot_name()]).await?;
    let walsender = row.get::<_, Option<i32>>(0).context("no walsender")?.to_string();
    // It is connected and silent: no error, no end of the stream.
    signal("-STOP", &walsender).await?;
    let neighbour = Database::fresh(postgres.url()).await?;
    neighbour
        .execute("create table noise as select repeat('x', 1000) t from generate_series(1, 1000)")
        .await?;
    let stalled = stalls(&mut relay, "log of Postgres waits").await;
    signal("-CONT", &walsender).await?;
    stalled?;
    relay.ready().await
}

async fn signal(signal: &str, process: &str) -> Result<()> {
    let sent = tokio::process::Command::new("kill").args([signal, process]).status().await?;
    ensure!(sent.success(), "kill {signal} {process}");
    Ok(())
}

#[tokio::test]
async fn a_relay_that_drains_says_so_until_it_is_done() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on_kafka(kafka.brokers()).await?.with("WALPOST_DRAIN_TIMEOUT_MS", "60000");
    let mut relay = case.relay.init_and_run().await?;
    case.commit(5, 2, 1).await?;
    case.audit().await?;
    kafka.pause().await?;
    case.commit(5, 2, 1).await?;
    wait_until(
        "events are in flight",
        SOON,
        async || Ok(relay.metric("walpost_window_records").await? > 0.0),
    )
    .await?;
    relay.signal("TERM").await?;
    let draining = relay.status("the relay drains", |ready| ready.body.contains("draining")).await?;
    ensure!(draining.status == 503, "{}", draining.body);
    ensure!(relay.get("/metrics").await?.body.contains("walpost_state{state=\"draining\"} 1"));
    kafka.resume().await?;
    ensure!(relay.exit(SOON).await?.success(), "everything could be confirmed");
    case.audit().await?;
    Ok(())
}

/// As a migration does it; whoever reads the table waits.
#[tokio::test]
async fn a_locked_outbox_hides_nothing_of_the_slot() -> Result<()> {
    let case = Case::new().await?.with("WALPOST_SAMPLE_INTERVAL_MS", "200");
    let case = case.with("WALPOST_CONNECT_TIMEOUT_MS", "2000");
    let relay = case.relay.init_and_run().await?;
    case.commit(5, 2, 1).await?;
    wait_until("the oldest row is known", SOON, async || Ok(relay.metric(OLDEST_ROW).await.is_ok())).await?;
    let mut client = case.database.client().await?;
    let migration = client.transaction().await?;
    migration.batch_execute("lock table package_event in access exclusive mode").await?;
    wait_until("the oldest row is not known", SOON, async || Ok(relay.metric(OLDEST_ROW).await.is_err()))
        .await?;
    ensure!(relay.metric("walpost_slot_exists").await? >= 1.0, "what is known of the slot is hidden");
    let asked = relay.metric("walpost_sample_timestamp_seconds").await?;
    wait_until("Postgres is asked again", SOON, async || {
        Ok(relay.metric("walpost_sample_timestamp_seconds").await? > asked)
    })
    .await?;
    migration.rollback().await?;
    wait_until("the oldest row is known", SOON, async || Ok(relay.metric(OLDEST_ROW).await.is_ok())).await
}

#[tokio::test]
async fn an_idle_relay_stays_ready() -> Result<()> {
    let case = Case::new().await?;
    let case = case.with("WALPOST_STALL_TIMEOUT_MS", "1000").with("WALPOST_SAMPLE_INTERVAL_MS", "200");
    let relay = case.relay.init_and_run().await?;
    // Other tests write to the same server meanwhile: the log grows, and the relay must keep up with it.
    wait_until("Postgres was asked", SOON, async || {
        Ok(relay.metric("walpost_wal_end_lsn_bytes").await.is_ok())
    })
    .await?;
    let asked = relay.metric("walpost_wal_end_lsn_bytes").await?;
    wait_until("the log has grown, and the relay was ready all the time", SOON, async || {
        let ready = relay.get("/ready").await?;
        ensure!(ready.status == 200, "{}", ready.body);
        case.database.execute("create table if not exists noise (text text)").await?;
        case.database
            .execute("insert into noise select repeat('x', 1000) from generate_series(1, 100)")
            .await?;
        Ok(relay.metric("walpost_wal_end_lsn_bytes").await.unwrap_or_default() > asked + 3e6)
    })
    .await
}

#[tokio::test]
async fn a_relay_with_one_dead_partition_is_not_ready_while_the_others_go_on() -> Result<()> {
    let (kafka, proxy) = PrivateKafka::start_behind_proxy().await?;
    let case = Case::on_kafka(kafka.brokers()).await?.with("WALPOST_STALL_TIMEOUT_MS", STALL_TIMEOUT_MS);
    let case = case.with("WALPOST_KAFKA_BROKERS", &proxy.addr().to_string());
    let mut relay = case.relay.init_and_run().await?;
    case.commit(30, 10, 1).await?;
    let dead = case.topic.read(30, SOON).await?.first().context("a record")?.partition;
    proxy.refuse(Which::any().of_partition(dead), u32::MAX, code::NOT_LEADER);
    let ends = case.topic.ends().await?;

    // Never more than the window takes: it is not that it is full.
    case.commit(300, 10, 1).await?;
    stalls(&mut relay, "one partition").await?;
    let others = |ends: &BTreeMap<i32, i64>| ends.values().sum::<i64>() - ends[&dead];
    wait_until("the other partitions have theirs", SOON, async || {
        case.commit(10, 10, 1).await?;
        Ok(others(&case.topic.ends().await?) > others(&ends) + 150)
    })
    .await?;
    ensure!(case.topic.ends().await?[&dead] == ends[&dead], "the partition is not dead");
    proxy.heal();
    case.audit().await?;
    relay.ready().await
}
