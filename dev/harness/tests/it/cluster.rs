//! Three brokers: what befalls one is not the end of the others.

use std::time::Duration;

use anyhow::{Context, Result};
use harness::cluster::BROKERS;
use harness::{PrivateKafkaCluster, Topic, leaders, wait_until};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

const SOON: Duration = Duration::from_secs(60);

/// The leader of the first partition, and how many replicas it has in sync.
fn leader(topic: &Topic) -> Result<(i32, usize)> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &topic.brokers).create()?;
    let metadata = consumer.fetch_metadata(Some(&topic.name), SOON)?;
    let partition = metadata.topics()[0].partitions().first().context("a partition")?;
    Ok((partition.leader(), partition.isr().len()))
}

#[tokio::test]
async fn leaders_move_when_they_are_told_to_and_when_their_broker_is_gone() -> Result<()> {
    let cluster = PrivateKafkaCluster::start().await?;
    let topic = Topic::fresh(cluster.brokers(), 2).await?;
    for broker in BROKERS {
        leaders::move_to(&topic, broker, BROKERS).await?;
        wait_until("the leader has moved", SOON, async || Ok(leader(&topic)? == (broker, 3))).await?;
    }
    cluster.kill(*BROKERS.end()).await?;
    wait_until("another leads", SOON, async || {
        let (leader, in_sync) = leader(&topic)?;
        Ok(leader > 0 && leader != *BROKERS.end() && in_sync == 2)
    })
    .await?;
    cluster.start_again(*BROKERS.end()).await?;
    wait_until("it is in sync again", SOON, async || Ok(leader(&topic)?.1 == 3)).await
}
