//! The proxy that speaks Kafka, with librdkafka before it and a broker behind it.

use std::time::Duration;

use anyhow::Result;
use harness::kafka_proxy::{Which, code};
use harness::{KafkaProxy, PrivateKafka, Topic};
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

fn producer(proxy: &KafkaProxy) -> Result<FutureProducer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", proxy.addr().to_string()).set("enable.idempotence", "true");
    config.set("retry.backoff.ms", "50").set("reconnect.backoff.ms", "50").set("linger.ms", "0");
    Ok(config.create()?)
}

/// Sends one record and waits until it is stored.
async fn send(producer: &FutureProducer, topic: &Topic, value: &str) -> Result<()> {
    let record = FutureRecord::<str, str>::to(&topic.name).payload(value);
    producer.send(record, Duration::ZERO).await.map_err(|(error, _)| error)?;
    Ok(())
}

#[tokio::test]
async fn what_is_refused_or_cut_is_sent_again_and_stored_once() -> Result<()> {
    let (kafka, proxy) = PrivateKafka::start_behind_proxy().await?;
    let topic = Topic::fresh(kafka.brokers(), 1).await?;
    let producer = producer(&proxy)?;
    send(&producer, &topic, "before").await?;

    proxy.refuse(Which::any().of_topic("another"), 1, code::NOT_LEADER);
    proxy.refuse(Which::any().of_topic(&topic.name).of_partition(0), 2, code::NOT_LEADER);
    send(&producer, &topic, "refused twice").await?;
    assert_eq!(proxy.faults_made().refused, 2);

    proxy.cut_in_place_of_the_answer(Which::any(), 1);
    send(&producer, &topic, "stored before it was cut").await?;
    assert_eq!(proxy.faults_made().cut, 1);

    proxy.delay_answers(Duration::from_millis(300));
    let since = std::time::Instant::now();
    send(&producer, &topic, "late").await?;
    assert!(since.elapsed() >= Duration::from_millis(300));
    producer.flush(Duration::from_secs(5))?;

    let stored = topic.read_all().await?;
    let values: Vec<_> = stored.iter().map(|record| String::from_utf8_lossy(&record.value)).collect();
    assert_eq!(values, ["before", "refused twice", "stored before it was cut", "late"]);
    Ok(())
}
