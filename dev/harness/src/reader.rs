//! What arrived on a topic.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::topic::{Topic, consumer};

/// A record as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// The partition it was on.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Its key; empty when it had none.
    pub key: Vec<u8>,
    /// Its value; empty when it had none.
    pub value: Vec<u8>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Its timestamp, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// When this process had it in hand.
    pub arrived: Instant,
    /// Which of its parts are null, and not only empty.
    pub nulls: Nulls,
}

/// Parts of a record that are null: Kafka tells them from empty ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Nulls {
    /// It has no key.
    pub key: bool,
    /// It has no value: a tombstone.
    pub value: bool,
    /// Which of its headers, counted from 0, have no value.
    pub headers: Vec<usize>,
}

impl Received {
    /// The value of a header, as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let value = self.headers.iter().find_map(|(found, value)| (found == name).then_some(value))?;
        std::str::from_utf8(value).ok()
    }

    /// The key, as text.
    #[must_use]
    pub fn key_text(&self) -> String {
        String::from_utf8_lossy(&self.key).into_owned()
    }

    pub(crate) fn from_message(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            let header = |header: rdkafka::message::Header<'_, &[u8]>| {
                (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
            };
            headers.iter().map(header).collect()
        });
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: headers.unwrap_or_default(),
            timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
            arrived: Instant::now(),
            nulls: Nulls::of(message),
        }
    }
}

impl Nulls {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter).enumerate();
        Self {
            key: message.key().is_none(),
            value: message.payload().is_none(),
            headers: headers.filter(|(_, header)| header.value.is_none()).map(|(nth, _)| nth).collect(),
        }
    }
}

/// Reads all partitions of a topic from their beginning.
pub struct Reader {
    pub(crate) consumer: Arc<StreamConsumer>,
    partitions: i32,
}

impl Reader {
    pub(crate) fn new(topic: &Topic) -> Result<Self> {
        Self::at(topic, Offset::Beginning)
    }

    pub(crate) fn at(topic: &Topic, offset: Offset) -> Result<Self> {
        let consumer = consumer(&topic.brokers)?;
        let mut partitions = TopicPartitionList::new();
        for partition in 0..topic.partitions {
            partitions.add_partition_offset(&topic.name, partition, offset)?;
        }
        consumer.assign(&partitions)?;
        Ok(Self { consumer: Arc::new(consumer), partitions: topic.partitions })
    }

    /// The next record, or none within the given time. A broker that is away is waited for.
    ///
    /// # Errors
    /// When the consumer cannot go on.
    pub async fn next(&self, within: Duration) -> Result<Option<Received>> {
        let started = Instant::now();
        loop {
            let left = within.saturating_sub(started.elapsed());
            match tokio::time::timeout(left, self.consumer.recv()).await {
                Err(_) => return Ok(None),
                Ok(Ok(message)) => return Ok(Some(Received::from_message(&message))),
                Ok(Err(KafkaError::PartitionEOF(_))) => {}
                Ok(Err(error)) if is_transient(&error) => {}
                Ok(Err(error)) => return Err(error).context("reading the topic"),
            }
        }
    }

    /// The records up to where each partition ends.
    pub(crate) async fn to_the_end(
        &self,
        within: Duration,
        mut each: impl FnMut(&BorrowedMessage<'_>),
    ) -> Result<()> {
        let (started, mut ended) = (Instant::now(), BTreeSet::new());
        while ended.len() < usize::try_from(self.partitions)? {
            let left = within.saturating_sub(started.elapsed());
            let come = tokio::time::timeout(left, self.consumer.recv()).await;
            match come.with_context(|| {
                format!("waited {within:?} for the ends of {} partitions", self.partitions)
            })? {
                Ok(message) => each(&message),
                Err(KafkaError::PartitionEOF(partition)) => drop(ended.insert(partition)),
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error).context("reading the topic"),
            }
        }
        Ok(())
    }
}

/// librdkafka tells of a lost broker as of a message, and goes on by itself.
fn is_transient(error: &KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve,
    };
    let code = error.rdkafka_error_code();
    matches!(code, Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | Resolve))
}
