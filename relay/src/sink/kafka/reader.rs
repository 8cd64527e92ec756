//! Reads a topic back: every partition, assigned by hand, nothing committed.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::SinkError;
use crate::config::KafkaSettings;

/// A record as it lies in the topic.
#[derive(Debug, Clone)]
pub struct StoredRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: Option<i64>,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// Its headers.
    pub headers: Vec<(String, Vec<u8>)>,
}

/// A reader of a topic.
pub struct TopicReader {
    consumer: BaseConsumer,
    brokers: String,
    /// Partitions that had more when the reader was opened, with their ends then.
    behind: Vec<(i32, i64)>,
}

impl TopicReader {
    /// Starts at the oldest record that the topic has, or at its end.
    ///
    /// # Errors
    /// When Kafka cannot be reached or does not have the topic.
    pub fn open(kafka: &KafkaSettings, from_start: bool, timeout: Duration) -> Result<Self, SinkError> {
        let consumer: BaseConsumer =
            client_config(kafka).create().map_err(|error| SinkError::Settings(error.to_string()))?;
        let mut reader = Self { consumer, brokers: kafka.brokers.clone(), behind: Vec::new() };
        reader.assign(&kafka.topic, from_start, timeout)?;
        Ok(reader)
    }

    /// The next record, waiting for it as long as `timeout`.
    ///
    /// # Errors
    /// When the topic cannot be read.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<StoredRecord>, SinkError> {
        let record = match self.consumer.poll(timeout) {
            None => return Ok(None),
            Some(Ok(message)) => stored(&message),
            Some(Err(error)) => return Err(self.unreachable(&error)),
        };
        self.behind.retain(|(partition, end)| *partition != record.partition || record.offset + 1 < *end);
        Ok(Some(record))
    }

    /// Whether everything has been read that was there when the reader was opened.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.behind.is_empty()
    }

    fn assign(&mut self, topic: &str, from_start: bool, timeout: Duration) -> Result<(), SinkError> {
        let metadata =
            self.consumer.fetch_metadata(Some(topic), timeout).map_err(|error| self.unreachable(&error))?;
        let found = metadata.topics().first().filter(|topic| !topic.partitions().is_empty());
        let found = found.ok_or_else(|| SinkError::TopicMissing {
            topic: topic.to_owned(),
            brokers: self.brokers.clone(),
        })?;
        let mut assignment = TopicPartitionList::new();
        for partition in found.partitions() {
            let marks = self.consumer.fetch_watermarks(topic, partition.id(), timeout);
            let (start, end) = marks.map_err(|error| self.unreachable(&error))?;
            let from = if from_start { start } else { end };
            let added = assignment.add_partition_offset(topic, partition.id(), Offset::Offset(from));
            added.map_err(|error| self.unreachable(&error))?;
            if from < end {
                self.behind.push((partition.id(), end));
            }
        }
        self.consumer.assign(&assignment).map_err(|error| self.unreachable(&error))
    }

    fn unreachable(&self, error: &KafkaError) -> SinkError {
        SinkError::Unreachable { brokers: self.brokers.clone(), reason: error.to_string() }
    }
}

pub(super) fn client_config(kafka: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in kafka.properties.iter().filter(|(name, _)| is_connection_property(name)) {
        config.set(name, value);
    }
    // A group's name is asked for even where none is joined.
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("group.id", "walpost-tail")
        .set("enable.auto.commit", "false");
    config
}

/// Those that say how to connect; the others are a producer's.
fn is_connection_property(name: &str) -> bool {
    ["security.", "sasl.", "ssl.", "socket.", "client.", "broker."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

fn stored(message: &BorrowedMessage<'_>) -> StoredRecord {
    let owned = |bytes: Option<&[u8]>| bytes.unwrap_or_default().to_vec();
    let headers = message
        .headers()
        .map(|headers| headers.iter().map(|header| (header.key.to_owned(), owned(header.value))).collect());
    StoredRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: owned(message.key()),
        value: owned(message.payload()),
        headers: headers.unwrap_or_default(),
    }
}
