use std::time::Duration;

use anyhow::Result;
use harness::wait::holds_for;
use harness::{PrivateKafka, wait_until};

use crate::case::{Case, SOON};

const IN_FLIGHT: &str = "logistic_package_api_retranslator_events_processing";

#[tokio::test]
async fn a_transaction_of_100_000_rows_passes_at_flat_memory() -> Result<()> {
    const GROWTH_MAX: u64 = 60 << 20;
    let case =
        Case::new().await?.with("WALPOST_WINDOW_RECORDS", "1000").with("WALPOST_WINDOW_BYTES", "1048576");
    let relay = case.relay.init_and_run().await?;
    case.commit(1_000, 100, 1_000).await?;
    case.topic.read(1_000, SOON).await?;

    let before = relay.memory("VmHWM")?;
    case.commit(100_000, 100, 100_000).await?;
    wait_until("100,000 events have arrived", 6 * SOON, async || {
        Ok(case.topic.ends().await?.values().sum::<i64>() >= 101_000)
    })
    .await?;
    let grown = relay.memory("VmHWM")? - before;
    assert!(grown < GROWTH_MAX, "it grew by {} MB", grown >> 20);
    assert_eq!(case.audit().await?.duplicates, 0);
    Ok(())
}

#[tokio::test]
async fn the_window_is_bounded_while_kafka_stands_still() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on_kafka(kafka.brokers()).await?.with("WALPOST_WINDOW_RECORDS", "100");
    let relay = case.relay.init_and_run().await?;
    case.commit(10, 5, 1).await?;
    case.audit().await?;

    kafka.pause().await?;
    case.commit(1_000, 5, 250).await?;
    wait_until("the window is full", SOON, async || Ok(relay.metric(IN_FLIGHT).await? >= 100.0)).await?;
    holds_for("no more than the window is in flight", Duration::from_secs(3), async || {
        Ok(relay.metric(IN_FLIGHT).await? <= 100.0)
    })
    .await?;
    kafka.resume().await?;

    assert_eq!(case.audit().await?.published, 1_010);
    wait_until("nothing is in flight", SOON, async || Ok(relay.metric(IN_FLIGHT).await? == 0.0)).await
}
