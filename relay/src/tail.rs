//! `walpost tail`: the topic, as it grows.

use std::io::Write;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use logistic_package_proto::package_event::{EventType, PackageEvent};
use prost::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Map, Value, json};

use crate::config::{KafkaSettings, TimingSettings};
use crate::sink::SinkError;

/// What is shown of the topic.
#[derive(Debug, Clone, Copy)]
pub struct TailOptions {
    /// From the oldest record that the topic has, instead of from now.
    pub from_start: bool,
    /// One JSON object a line, instead of text.
    pub json: bool,
    /// Stop at the end instead of waiting for more.
    pub until_end: bool,
}

/// How long a poll may take: a stop is noticed within it.
const POLL: Duration = Duration::from_millis(200);

/// Prints records until `stopped` says so or, where asked for, the end is reached. Blocks.
///
/// # Errors
/// When the topic cannot be read, or `out` not be written to.
pub fn run(
    kafka: &KafkaSettings,
    timing: &TimingSettings,
    options: TailOptions,
    out: &mut dyn Write,
    stopped: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let consumer = consumer(kafka)?;
    let mut ends = assign(&consumer, kafka, timing, options)?;
    let at_end = |ends: &[_]| options.until_end && ends.is_empty();
    while !stopped() && !at_end(&ends) {
        let Some(message) = consumer.poll(POLL) else { continue };
        let message = message?;
        let line = if options.json { as_json(&message).to_string() } else { as_text(&message) };
        writeln!(out, "{line}")?;
        ends.retain(|(partition, end)| *partition != message.partition() || message.offset() + 1 < *end);
    }
    Ok(())
}

fn consumer(kafka: &KafkaSettings) -> anyhow::Result<BaseConsumer> {
    let mut config = ClientConfig::new();
    for (name, value) in kafka.properties.iter().filter(|(name, _)| is_connection_property(name)) {
        config.set(name, value);
    }
    // A group's name is asked for even though none is joined: partitions are assigned by hand, nothing is committed.
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("group.id", "walpost-tail")
        .set("enable.auto.commit", "false");
    Ok(config.create()?)
}

/// Those that say how to connect; the others are a producer's.
fn is_connection_property(name: &str) -> bool {
    ["security.", "sasl.", "ssl.", "socket.", "client.", "broker."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Assigns every partition; returns those that hold records to be shown, with their ends.
fn assign(
    consumer: &BaseConsumer,
    kafka: &KafkaSettings,
    timing: &TimingSettings,
    options: TailOptions,
) -> anyhow::Result<Vec<(i32, i64)>> {
    let metadata = consumer.fetch_metadata(Some(&kafka.topic), timing.connect_timeout).map_err(|error| {
        SinkError::Unreachable { brokers: kafka.brokers.clone(), reason: error.to_string() }
    })?;
    let topic = metadata.topics().first().filter(|topic| !topic.partitions().is_empty());
    let topic = topic.ok_or_else(|| SinkError::TopicMissing {
        topic: kafka.topic.clone(),
        brokers: kafka.brokers.clone(),
    })?;
    let mut assignment = TopicPartitionList::new();
    let mut ends = Vec::new();
    for partition in topic.partitions() {
        let (start, end) = consumer.fetch_watermarks(&kafka.topic, partition.id(), timing.connect_timeout)?;
        let from = if options.from_start { start } else { end };
        assignment.add_partition_offset(&kafka.topic, partition.id(), Offset::Offset(from))?;
        if from < end {
            ends.push((partition.id(), end));
        }
    }
    consumer.assign(&assignment)?;
    Ok(ends)
}

fn as_text(message: &BorrowedMessage<'_>) -> String {
    let event = PackageEvent::decode(message.payload().unwrap_or_default());
    let what = match &event {
        Ok(event) => format!("{:?} package {} event {}", event_type(event), event.package_id, event.id),
        Err(_) => format!("{} bytes", message.payload().map_or(0, <[u8]>::len)),
    };
    let payload = event.map(|event| String::from_utf8_lossy(&event.payload).into_owned()).unwrap_or_default();
    let place = format!("{}@{}", message.partition(), message.offset());
    format!(
        "{} {place:>8} key={} {what} {payload}",
        timestamp(message),
        text(message.key().unwrap_or_default())
    )
}

fn as_json(message: &BorrowedMessage<'_>) -> Value {
    let headers: Map<String, Value> = message
        .headers()
        .map(|headers| {
            headers
                .iter()
                .map(|one| (one.key.to_owned(), text(one.value.unwrap_or_default()).into()))
                .collect()
        })
        .unwrap_or_default();
    let value = match PackageEvent::decode(message.payload().unwrap_or_default()) {
        Ok(event) => json!({
            "ID": event.id,
            "PackageID": event.package_id,
            "Type": format!("{:?}", event_type(&event)),
            "Payload": serde_json::from_slice::<Value>(&event.payload).unwrap_or(Value::Null),
        }),
        Err(_) => text(message.payload().unwrap_or_default()).into(),
    };
    json!({
        "partition": message.partition(),
        "offset": message.offset(),
        "timestamp": timestamp(message),
        "key": text(message.key().unwrap_or_default()),
        "headers": headers,
        "value": value,
    })
}

fn event_type(event: &PackageEvent) -> EventType {
    EventType::try_from(event.r#type).unwrap_or_default()
}

fn timestamp(message: &BorrowedMessage<'_>) -> String {
    let time = message.timestamp().to_millis().and_then(DateTime::from_timestamp_millis);
    time.map_or_else(|| "-".into(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
