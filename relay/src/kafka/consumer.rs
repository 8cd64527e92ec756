//! Reads topics back: every partition, assigned by hand, nothing committed.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka_token::SignIn;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::clients::{Quiet, client_config, keep_signed_in, unusable};
use walpost_core::publish::sink::SinkError;

use super::is_denied;
use crate::config::KafkaSettings;

/// A record as it lies in a topic.
#[derive(Debug, Clone)]
pub struct StoredRecord {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970-01-01 UTC.
    pub timestamp_ms: Option<i64>,
    /// Its key, where it has one.
    pub key: Option<Vec<u8>>,
    /// Its value; none is what compaction takes for a removal.
    pub value: Option<Vec<u8>>,
    /// Its headers, in their order; a name may come again.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Where a partition ended when the reader was opened.
struct End {
    topic: String,
    partition: i32,
    offset: i64,
}

/// A reader of topics.
pub struct TopicReader {
    consumer: BaseConsumer<Quiet>,
    sign_in: Option<SignIn>,
    brokers: String,
    topics: Vec<String>,
    left_out: Vec<String>,
    /// Partitions that have more to read of what they had when the reader was opened.
    behind: Vec<End>,
    /// By partition, of whatever topic: how many are read, and how often one of them has come to its end.
    ends: BTreeMap<i32, (usize, usize)>,
}

impl TopicReader {
    /// Starts at the oldest record that each of the topics has, or at its end. That of events must exist, where the settings
    /// name one; of the others those are read that exist and may be.
    ///
    /// # Errors
    /// When Kafka cannot be reached or does not have the topic of events.
    pub fn open(
        kafka: &KafkaSettings,
        topics: &[String],
        from_start: bool,
        timeout: Duration,
    ) -> Result<Self, SinkError> {
        let mut config = client_config(kafka);
        config
            // A group's name is asked for even where none is joined.
            .set("group.id", "walpost-tail")
            .set("enable.auto.commit", "false")
            // What retention removes before it is read is gone; what is left is shown, from its first record.
            .set("auto.offset.reset", "earliest")
            // Ends of transactions have offsets, too, and are no records: the last of a partition may be one.
            .set("enable.partition.eof", "true");
        let consumer: BaseConsumer<Quiet> =
            config.create_with_context(Quiet).map_err(|error| unusable(&error))?;
        let sign_in = kafka.sign_in.clone();
        keep_signed_in(consumer.client(), sign_in.as_ref(), &kafka.brokers)?;
        let mut reader = Self {
            consumer,
            sign_in,
            brokers: kafka.brokers.clone(),
            topics: Vec::new(),
            left_out: Vec::new(),
            behind: Vec::new(),
            ends: BTreeMap::new(),
        };
        let mut assignment = TopicPartitionList::new();
        for topic in topics {
            let may_lack = !kafka.topics.contains(topic);
            match reader.add(topic, from_start, timeout, &mut assignment) {
                Err(SinkError::TopicMissing { .. } | SinkError::Denied(_)) if may_lack => {
                    reader.left_out.push(topic.clone());
                }
                added => added?,
            }
        }
        let assigned = reader.consumer.assign(&assignment);
        assigned.map_err(|error| reader.unreachable(&error))?;
        Ok(reader)
    }

    /// What is read, the topic of events first.
    #[must_use]
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// What is not read, since it does not exist or may not be read.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The next record of any topic, waiting for it as long as `timeout`. A broker that goes away is waited for.
    ///
    /// # Errors
    /// When the topics cannot be read.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<StoredRecord>, SinkError> {
        keep_signed_in(self.consumer.client(), self.sign_in.as_ref(), &self.brokers)?;
        let record = match self.consumer.poll(timeout) {
            None => return Ok(None),
            Some(Ok(message)) => stored(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.ended(partition);
                return Ok(None);
            }
            Some(Err(error)) if is_transient(&error) => {
                tracing::warn!(%error, "a broker is away");
                return Ok(None);
            }
            // A client with a group's name asks for its coordinator, whether it joins or not; nobody needs the answer.
            Some(Err(error)) if is_about_the_group(&error) => return Ok(None),
            Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_denied) => {
                let topics = self.topics.join(", ");
                return Err(SinkError::Denied(format!("{error} (one of {topics}; --tail-topics)")));
            }
            Some(Err(error)) => return Err(self.unreachable(&error)),
        };
        self.behind.retain(|end| {
            (end.partition, &end.topic) != (record.partition, &record.topic) || record.offset + 1 < end.offset
        });
        Ok(Some(record))
    }

    /// The client does not say of which topic it is the end.
    fn ended(&mut self, partition: i32) {
        let (read, ended) = self.ends.entry(partition).or_default();
        *ended += 1;
        if ended >= read {
            self.behind.retain(|end| end.partition != partition);
        }
    }

    /// Whether everything has been read that was there when the reader was opened.
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.behind.is_empty()
    }

    fn add(
        &mut self,
        topic: &str,
        from_start: bool,
        timeout: Duration,
        assignment: &mut TopicPartitionList,
    ) -> Result<(), SinkError> {
        for partition in self.partitions(topic, timeout)? {
            let marks = self.consumer.fetch_watermarks(topic, partition, timeout);
            let (start, end) = marks.map_err(|error| self.unreachable(&error))?;
            let from = if from_start { start } else { end };
            let added = assignment.add_partition_offset(topic, partition, Offset::Offset(from));
            added.map_err(|error| self.unreachable(&error))?;
            self.ends.entry(partition).or_default().0 += 1;
            if from < end {
                self.behind.push(End { topic: topic.to_owned(), partition, offset: end });
            }
        }
        self.topics.push(topic.to_owned());
        Ok(())
    }

    fn partitions(&self, topic: &str, timeout: Duration) -> Result<Vec<i32>, SinkError> {
        let metadata =
            self.consumer.fetch_metadata(Some(topic), timeout).map_err(|error| self.unreachable(&error))?;
        let found = metadata.topics().first();
        let refused = found.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
        if let Some(code) = refused.filter(|code| is_denied(*code)) {
            return Err(SinkError::Denied(format!("{code} (topic `{topic}`)")));
        }
        let found = found.filter(|topic| !topic.partitions().is_empty());
        let found = found.ok_or_else(|| SinkError::TopicMissing {
            topic: topic.to_owned(),
            brokers: self.brokers.clone(),
        })?;
        Ok(found.partitions().iter().map(|partition| partition.id()).collect())
    }

    fn unreachable(&self, error: &KafkaError) -> SinkError {
        SinkError::Unreachable { brokers: self.brokers.clone(), reason: error.to_string() }
    }
}

/// librdkafka tells of a lost broker as of a record, and goes on by itself.
fn is_transient(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    let code = error.rdkafka_error_code();
    matches!(code, Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve))
}

/// Whatever a broker has against the group that is not joined.
fn is_about_the_group(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed)
}

fn stored(message: &BorrowedMessage<'_>) -> StoredRecord {
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    let headers = message
        .headers()
        .map(|headers| headers.iter().map(|header| (header.key.to_owned(), owned(header.value))).collect());
    StoredRecord {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis(),
        key: owned(message.key()),
        value: owned(message.payload()),
        headers: headers.unwrap_or_default(),
    }
}
