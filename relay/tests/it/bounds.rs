use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::wait::holds_for;
use harness::{PrivateKafka, Received, wait_until};

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
    numbered_within_one_position(&case.topic.read_all().await?)
}

/// The events of the large transaction share a position and are counted from 0, each number once.
fn numbered_within_one_position(received: &[Received]) -> Result<()> {
    let mut positions: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    for record in received {
        let header = |name| record.header(name).unwrap_or_default();
        positions.entry(header("wal-lsn")).or_default().insert(header("wal-seq").parse()?);
    }
    let largest = positions.values().max_by_key(|numbers| numbers.len());
    assert_eq!(positions.len(), 2, "a position for each transaction");
    assert!(largest.is_some_and(|numbers| numbers.iter().copied().eq(0..100_000)));
    Ok(())
}

#[tokio::test]
async fn the_window_is_bounded_while_kafka_stands_still() -> Result<()> {
    never_more_in_flight_than(100.0, 1).await
}

/// A transaction enters the window when it has been read to its end, or when it is larger than what is held of one.
#[tokio::test]
async fn transactions_exceed_the_window_by_no_more_than_what_is_held_of_one() -> Result<()> {
    const HELD_ROWS_MAX: f64 = 1_000.0;
    never_more_in_flight_than(100.0 + HELD_ROWS_MAX, 500).await
}

async fn never_more_in_flight_than(most: f64, rows_per_transaction: i64) -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let case = Case::on_kafka(kafka.brokers()).await?.with("WALPOST_WINDOW_RECORDS", "100");
    // A producer that the pause leaves stuck, as it does now and then, is to be replaced within the test's patience.
    let case = case.with("WALPOST_PEER_TIMEOUT_MS", "5000");
    let relay = case.relay.init_and_run().await?;
    case.commit(10, 5, 1).await?;
    case.audit().await?;

    kafka.pause().await?;
    case.commit(2_000, 5, rows_per_transaction).await?;
    wait_until("the window is full", SOON, async || Ok(relay.metric(IN_FLIGHT).await? >= 100.0)).await?;
    holds_for("no more than the window is in flight", Duration::from_secs(3), async || {
        let in_flight = relay.metric(IN_FLIGHT).await?;
        ensure!(in_flight <= most, "{in_flight} are in flight");
        Ok(true)
    })
    .await?;
    kafka.resume().await?;

    assert_eq!(case.audit().await?.published, 2_010);
    wait_until("nothing is in flight", SOON, async || Ok(relay.metric(IN_FLIGHT).await? == 0.0)).await
}
