//! A broker that has no state for a producer id on a partition accepts whatever comes first. Until a record is known to
//! be stored there, nothing may be on its way behind another: it would take its place when that one is refused, and the
//! client would take its success for that of both.

use anyhow::{Result, ensure};
use harness::kafka_proxy::{Which, code};
use harness::{KafkaProxy, PrivateKafka, events, wait_until};

use crate::case::{Case, SOON};
use crate::halt::halts;

/// More than one start, since a client that sends too soon may be lucky.
const STARTS: usize = 3;

/// One event of the key 1 for each size, in one transaction.
async fn commit_of_sizes(case: &Case, sizes: &str) -> Result<()> {
    let sql = format!(
        "insert into package_event (package_id, event_type, payload) \
         select 1, 'Updated', jsonb_build_object('Title', repeat('x', size)) \
         from unnest(array[{sizes}]) with ordinality as sizes(size, n) order by n"
    );
    case.database.execute(&sql).await
}

/// The ids of the rows that are in Kafka, each where it first appears; with one partition or one key, in their order.
async fn rows(case: &Case) -> Result<Vec<u64>> {
    let mut rows = Vec::new();
    for record in case.topic.read_all().await? {
        let row = events::decode(&record)?.id;
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    Ok(rows)
}

async fn uncompressed(partitions: i32) -> Result<Case> {
    let case = Case::new().await?.with_partitions(partitions).await?;
    case.topic.refuse_batches_above(50_000).await?;
    Ok(case.with("WALPOST_KAFKA_PROPERTY_COMPRESSION_TYPE", "none"))
}

async fn nothing_overtakes_a_large_one(partitions: i32) -> Result<()> {
    let case = uncompressed(partitions).await?;
    let mut relay = case.relay.init_and_run().await?;
    commit_of_sizes(&case, "80000, 10, 10").await?;
    halts(&mut relay, &["max.message.bytes"]).await?;
    let overtook = rows(&case).await?;
    ensure!(overtook.is_empty(), "rows {overtook:?} are in Kafka, and the one before them is not");
    relay.terminate(SOON).await?;

    case.topic.refuse_batches_above(200_000).await?;
    let _relay = case.relay.run_ready().await?;
    case.audit().await?;
    ensure!(rows(&case).await? == [1, 2, 3]);
    Ok(())
}

#[tokio::test]
async fn nothing_overtakes_a_first_record_that_is_too_large() -> Result<()> {
    nothing_overtakes_a_large_one(1).await
}

#[tokio::test]
async fn nothing_overtakes_a_first_record_that_is_too_large_where_there_are_more_partitions() -> Result<()> {
    nothing_overtakes_a_large_one(3).await
}

/// Two events that the topic takes, but not in one batch, and two small ones in the batch behind.
async fn nothing_overtakes_a_large_batch(partitions: i32) -> Result<()> {
    let case = uncompressed(partitions).await?.with("WALPOST_KAFKA_PROPERTY_BATCH_NUM_MESSAGES", "2");
    case.relay.init().await?;
    for _ in 0..STARTS {
        let mut relay = case.relay.run_ready().await?;
        commit_of_sizes(&case, "30000, 30000, 10, 10").await?;
        case.audit().await?;
        relay.terminate(SOON).await?;
    }
    let rows = rows(&case).await?;
    ensure!(rows.is_sorted() && rows.len() == 4 * STARTS, "{rows:?}");
    Ok(())
}

#[tokio::test]
async fn nothing_overtakes_a_first_batch_that_is_too_large() -> Result<()> {
    nothing_overtakes_a_large_batch(1).await
}

#[tokio::test]
async fn nothing_overtakes_a_first_batch_that_is_too_large_where_there_are_more_partitions() -> Result<()> {
    nothing_overtakes_a_large_batch(3).await
}

/// A case that comes to its Kafka by way of a proxy that speaks Kafka.
async fn behind_a_proxy(partitions: i32) -> Result<(Case, PrivateKafka, KafkaProxy)> {
    let (kafka, proxy) = PrivateKafka::start_behind_proxy().await?;
    let case = Case::on_kafka(kafka.brokers()).await?.with_partitions(partitions).await?;
    Ok((case.with("WALPOST_KAFKA_BROKERS", &proxy.addr().to_string()), kafka, proxy))
}

/// One event, and another of its key as soon as the first is on its way, which is refused once the other has come.
async fn refused_as_the_next_comes(case: &Case, proxy: &KafkaProxy, key: i64, code: i16) -> Result<()> {
    let made = proxy.faults_made();
    proxy.refuse_as_the_next_comes(Which::first().of_topic(&case.topic.name), 1, code);
    case.commit_one(key).await?;
    wait_until("the first is on its way", SOON, async || Ok(proxy.faults_made().held > made.held)).await?;
    case.commit_one(key).await?;
    // What is confirmed is in the topic: the audit asks for all that was committed, and waits no more.
    case.confirmed_to(case.wal_end().await?).await?;
    ensure!(proxy.faults_made().total() == made.total() + 1, "{:?}", proxy.faults_made());
    let audit = case.audit_now().await?;
    ensure!(audit.holds(), "key {key}, code {code}: {audit}; {:?}", proxy.faults_made());
    Ok(())
}

#[tokio::test]
async fn a_first_record_that_is_refused_for_a_moment_is_not_confirmed_by_the_next() -> Result<()> {
    let (case, _kafka, proxy) = behind_a_proxy(1).await?;
    case.relay.init().await?;
    for code in [code::NOT_LEADER, code::NOT_ENOUGH_REPLICAS, code::REQUEST_TIMED_OUT] {
        let mut relay = case.relay.run_ready().await?;
        refused_as_the_next_comes(&case, &proxy, 1, code).await?;
        relay.terminate(SOON).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_first_record_that_is_refused_for_a_moment_is_not_confirmed_on_any_partition() -> Result<()> {
    let (case, _kafka, proxy) = behind_a_proxy(3).await?;
    let _relay = case.relay.init_and_run().await?;
    // By murmur2, these keys are on three partitions.
    for key in [1, 2, 4] {
        refused_as_the_next_comes(&case, &proxy, key, code::NOT_LEADER).await?;
    }
    Ok(())
}
