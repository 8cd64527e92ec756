//! Reads topics from where they begin, or from a time on, to where they ended when it was asked: each record once, without
//! keeping any, and nothing is committed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka_token::SignIn;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::clients::{Quiet, client_config, keep_signed_in, unusable};
use super::is_denied;
use crate::config::KafkaSettings;
use walpost_core::publish::sink::SinkError;

/// How long a poll may take: a stop is noticed within it.
const POLL: Duration = Duration::from_millis(200);

/// What the client holds that was fetched and not read yet, in KiB: it would be 64 MiB.
const QUEUED_KBYTES: &str = "16384";

/// A partition, and which part of it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// The oldest record that it has; above 0 some were removed.
    pub oldest: i64,
    /// The first that is read.
    pub from: i64,
    /// Behind the last that is read.
    pub end: i64,
}

/// A record where it lies.
pub struct Lying<'a> {
    message: &'a BorrowedMessage<'a>,
}

impl Lying<'_> {
    /// Its offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.message.offset()
    }

    /// Its key, where it has one.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.message.key()
    }

    /// Its value; none is a null value.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.message.payload()
    }

    /// Its headers, in their order; a name may come again.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let headers = self.message.headers().into_iter().flat_map(BorrowedHeaders::iter);
        headers.map(|header| (header.key, header.value))
    }
}

/// A reader of topics from end to end.
pub struct Sweep {
    consumer: BaseConsumer<Quiet>,
    sign_in: Option<SignIn>,
    brokers: String,
    timeout: Duration,
}

impl Sweep {
    /// Makes the client. `timeout` is for each question, and for how long the brokers may give nothing.
    ///
    /// # Errors
    /// When librdkafka refuses a property.
    pub fn open(kafka: &KafkaSettings, timeout: Duration) -> Result<Self, SinkError> {
        let mut config = client_config(kafka);
        config
            // A group's name is asked for even where none is joined.
            .set("group.id", "walpost-audit")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            // Ends of transactions have offsets, too, and are no records: the last of a partition may be one.
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", QUEUED_KBYTES);
        let consumer: BaseConsumer<Quiet> =
            config.create_with_context(Quiet).map_err(|error| unusable(&error))?;
        let (sign_in, brokers) = (kafka.sign_in.clone(), kafka.brokers.clone());
        keep_signed_in(consumer.client(), sign_in.as_ref(), &brokers)?;
        Ok(Self { consumer, sign_in, brokers, timeout })
    }

    /// The partitions of a topic as they are now; `None` where there is no such topic. With `since`, milliseconds since
    /// 1970-01-01 UTC, from the first record of that time or later.
    ///
    /// # Errors
    /// When Kafka cannot be reached, or the topic not be read.
    pub fn spans(&self, topic: &str, since: Option<i64>) -> Result<Option<Vec<Span>>, SinkError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), self.timeout);
        let metadata = metadata.map_err(|error| self.unreachable(&error))?;
        let found = metadata.topics().first();
        if let Some(code) = found.and_then(|topic| topic.error()).map(RDKafkaErrorCode::from)
            && is_denied(code)
        {
            let reason = format!("{code}: grant the client READ and DESCRIBE on the topic");
            return Err(SinkError::TopicDenied { topic: topic.to_owned(), reason });
        }
        let Some(found) = found.filter(|topic| !topic.partitions().is_empty()) else { return Ok(None) };
        let mut spans = Vec::new();
        for partition in found.partitions().iter().map(|partition| partition.id()) {
            let marks = self.consumer.fetch_watermarks(topic, partition, self.timeout);
            let (oldest, end) = marks.map_err(|error| self.unreachable(&error))?;
            spans.push(Span { topic: topic.to_owned(), partition, oldest, from: oldest, end });
        }
        if let Some(since) = since {
            self.begin_at(&mut spans, since)?;
        }
        Ok(Some(spans))
    }

    fn begin_at(&self, spans: &mut [Span], since: i64) -> Result<(), SinkError> {
        let mut asked = TopicPartitionList::new();
        for Span { topic, partition, .. } in &*spans {
            let added = asked.add_partition_offset(topic, *partition, Offset::Offset(since));
            added.map_err(|error| self.unreachable(&error))?;
        }
        let answer = self.consumer.offsets_for_times(asked, self.timeout);
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        for span in spans {
            let found = answer.find_partition(&span.topic, span.partition);
            span.from = match found.map(|found| found.offset()) {
                Some(Offset::Offset(offset)) => offset.clamp(span.oldest, span.end),
                // None is so young.
                _ => span.end,
            };
        }
        Ok(())
    }

    /// Reads partitions of one topic, in the order of each; `seen` is given the number of the span and the record. Returns
    /// whether it read all: `stopped` may end it.
    ///
    /// # Errors
    /// When the topic cannot be read, or nothing comes for as long as the time-out; and those of `seen`.
    pub fn read<E: From<SinkError>>(
        &self,
        spans: &[Span],
        stopped: &dyn Fn() -> bool,
        seen: &mut dyn FnMut(usize, &Lying<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        // What is left of each partition: which span, and where it ends.
        let mut left: BTreeMap<i32, (usize, i64)> = BTreeMap::new();
        let mut assignment = TopicPartitionList::new();
        for (nth, span) in spans.iter().enumerate().filter(|(_, span)| span.from < span.end) {
            let added =
                assignment.add_partition_offset(&span.topic, span.partition, Offset::Offset(span.from));
            added.map_err(|error| self.unreachable(&error))?;
            left.insert(span.partition, (nth, span.end));
        }
        self.consumer.assign(&assignment).map_err(|error| self.unreachable(&error))?;
        let mut heard = Instant::now();
        while !left.is_empty() {
            if stopped() {
                return Ok(false);
            }
            keep_signed_in(self.consumer.client(), self.sign_in.as_ref(), &self.brokers)?;
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    heard = Instant::now();
                    let Some((nth, end)) = left.get(&message.partition()).copied() else { continue };
                    if message.offset() < end {
                        seen(nth, &Lying { message: &message })?;
                    }
                    if message.offset() + 1 >= end {
                        left.remove(&message.partition());
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    heard = Instant::now();
                    left.remove(&partition);
                }
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_denied) => {
                    let topic = spans.first().map(|span| span.topic.clone()).unwrap_or_default();
                    let reason = format!("{error}: grant the client READ and DESCRIBE on the topic");
                    return Err(SinkError::TopicDenied { topic, reason }.into());
                }
                Some(Err(error)) if heard.elapsed() > self.timeout => {
                    return Err(self.unreachable(&error).into());
                }
                // A broker that goes away is waited for.
                Some(Err(error)) => tracing::debug!(%error, "reading the topics"),
                None if heard.elapsed() > self.timeout => {
                    let reason = format!("no record came within {} ms", self.timeout.as_millis());
                    return Err(SinkError::Unreachable { brokers: self.brokers.clone(), reason }.into());
                }
                None => {}
            }
        }
        Ok(true)
    }

    fn unreachable(&self, error: &KafkaError) -> SinkError {
        SinkError::Unreachable { brokers: self.brokers.clone(), reason: error.to_string() }
    }
}
