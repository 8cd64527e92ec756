//! Kafka, through librdkafka.
//!
//! # Why order and delivery are safe
//!
//! | property | without it |
//! |---|---|
//! | `enable.idempotence` | a retry overtakes (acks=all and a bounded number of requests in flight come with it) |
//! | `enable.gapless.guarantee` | a record that fails for good is jumped over by later ones of its key |
//! | `message.timeout.ms=0` | a record that waits out a long outage expires |
//! | `partitioner=murmur2_random` | Java consumers look for a key in another partition |
//!
//! Reports are matched by the record's number, which travels as the message's opaque value: no allocation, no order
//! assumed. When a record fails for good librdkafka turns fatal, so nothing behind it is delivered; a new producer then
//! sends again from the oldest that is not acknowledged.

mod clients;
pub mod facts;
pub mod reader;
mod stall;
mod statistics;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::{ClientConfig, Statistics};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use clients::{producer_config, statistics_interval, unusable};
use stall::Stall;

use super::statistics::StatisticsCell;
use super::{Batching, Report, Sink, SinkError};
use crate::config::{KafkaSettings, WindowSettings};
use crate::encode::{Destination, Record};
use crate::progress::Sequence;

/// Reports taken at a time.
const REPORTS_MAX: usize = 4096;

/// How long a broken producer may take to give back what it holds.
const PURGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A producer for one topic.
pub struct KafkaSink {
    config: ClientConfig,
    brokers: String,
    topic: String,
    dead_letter_topic: Option<String>,
    producer: Arc<ThreadedProducer<Reporter>>,
    reports: mpsc::UnboundedReceiver<Report>,
    /// What the client last said was wrong: the answer to a question says only that there was none.
    complaint: Complaint,
    statistics: StatisticsCell,
    stall: Stall,
    /// Whether Kafka answers, while a stuck producer is suspected.
    probe: Option<JoinHandle<bool>>,
    /// Since the last replacement: whether it was for being stuck.
    stuck: bool,
    peer_timeout: Duration,
}

impl KafkaSink {
    /// Makes the producer. It connects in the background; [`KafkaSink::check_topics`] says whether it could.
    ///
    /// # Errors
    /// When librdkafka refuses a property.
    pub fn new(kafka: &KafkaSettings, window: WindowSettings) -> Result<Self, SinkError> {
        let config = producer_config(kafka, window);
        let statistics = StatisticsCell::new(3 * statistics_interval(&config));
        let complaint = Complaint::default();
        let (producer, reports) = start(&config, &complaint, &statistics)?;
        Ok(Self {
            config,
            brokers: kafka.brokers.clone(),
            topic: kafka.topic.clone(),
            dead_letter_topic: kafka.dead_letter_topic.clone(),
            producer,
            reports,
            complaint,
            statistics,
            stall: Stall::new(kafka.peer_timeout, Instant::now()),
            probe: None,
            stuck: false,
            peer_timeout: kafka.peer_timeout,
        })
    }

    /// Where the producer says how it is doing.
    #[must_use]
    pub fn statistics(&self) -> StatisticsCell {
        self.statistics.clone()
    }

    /// Asks for the topics, which must exist: auto-creation is not relied upon. Returns the number of partitions of
    /// that of events.
    ///
    /// # Errors
    /// When no broker answers, a topic is missing, or access to it is denied.
    pub async fn check_topics(&self, timeout: Duration) -> Result<usize, SinkError> {
        if let Some(topic) = &self.dead_letter_topic {
            self.check_topic(topic, timeout).await?;
        }
        self.check_topic(&self.topic, timeout).await
    }

    /// Asks, with a client of its own, whether every partition has a leader now.
    fn probe(&self) -> JoinHandle<bool> {
        let (mut config, topic, timeout) = (self.config.clone(), self.topic.clone(), self.peer_timeout);
        config.set("statistics.interval.ms", "0");
        tokio::task::spawn_blocking(move || {
            let Ok(client) = config.create::<BaseProducer>() else { return false };
            let Ok(metadata) = client.client().fetch_metadata(Some(&topic), timeout) else { return false };
            let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
            !partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0)
        })
    }

    async fn check_topic(&self, name: &str, timeout: Duration) -> Result<usize, SinkError> {
        let (producer, topic) = (Arc::clone(&self.producer), name.to_owned());
        let unreachable = |reason: String| {
            let reason = self.complaint.say().map_or(reason.clone(), |said| format!("{reason}: {said}"));
            SinkError::Unreachable { brokers: self.brokers.clone(), reason }
        };
        let asked = tokio::task::spawn_blocking(move || ask(&producer, &topic, timeout)).await;
        match asked {
            Ok(Ok(partitions)) => Ok(partitions),
            Ok(Err(RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::UnknownTopicOrPartition)) => {
                Err(SinkError::TopicMissing { topic: name.to_owned(), brokers: self.brokers.clone() })
            }
            Ok(Err(code)) if is_denied(code) => Err(SinkError::Denied(format!("{code} (topic `{name}`)"))),
            Ok(Err(code)) => Err(unreachable(code.to_string())),
            Err(panicked) => Err(unreachable(panicked.to_string())),
        }
    }
}

/// What the probe has found; waits for ever where there is none.
async fn answered(probe: &mut Option<JoinHandle<bool>>) -> bool {
    match probe {
        Some(probe) => probe.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}

fn ask(
    producer: &ThreadedProducer<Reporter>,
    topic: &str,
    timeout: Duration,
) -> Result<usize, RDKafkaErrorCode> {
    let metadata = producer
        .client()
        .fetch_metadata(Some(topic), timeout)
        .map_err(|error| error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown))?;
    let found = metadata.topics().first().ok_or(RDKafkaErrorCode::UnknownTopicOrPartition)?;
    match found.error() {
        Some(code) => Err(code.into()),
        None if found.partitions().is_empty() => Err(RDKafkaErrorCode::UnknownTopicOrPartition),
        None => Ok(found.partitions().len()),
    }
}

impl Sink for KafkaSink {
    fn send(&mut self, sequence: Sequence, record: &Record) -> Result<(), SinkError> {
        let headers = record.headers.iter();
        let start = OwnedHeaders::new_with_capacity(headers.len());
        let headers = headers.fold(start, |all, (key, value)| all.insert(Header { key, value: Some(value) }));
        let topic = match (record.destination, &self.dead_letter_topic) {
            (Destination::DeadLetters, Some(topic)) => topic,
            (Destination::DeadLetters, None) => {
                return Err(SinkError::Settings("no topic for dead letters is set".into()));
            }
            (Destination::Events, _) => &self.topic,
        };
        let message = BaseRecord::with_opaque_to(topic, opaque(sequence))
            .key(record.key.as_slice())
            .payload(record.value.as_slice())
            .timestamp(record.timestamp_ms)
            .headers(headers);
        self.producer.send(message).map_err(|(error, _)| failure(&error))?;
        self.stall.sent(Instant::now);
        Ok(())
    }

    async fn reports(&mut self, into: &mut Vec<Report>) {
        loop {
            let due = self.stall.due().filter(|_| self.probe.is_none());
            tokio::select! {
                biased;
                // Never closed: this side holds the producer, and with it the sender.
                records = self.reports.recv_many(into, REPORTS_MAX) => {
                    self.probe = None;
                    return self.stall.reported(records as u64, Instant::now());
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.probe = Some(self.probe());
                }
                answers = answered(&mut self.probe), if self.probe.is_some() => {
                    self.probe = None;
                    if answers {
                        self.stuck = true;
                        let reason = "it acknowledges nothing, although Kafka answers";
                        let outcome = Err(SinkError::Broken(reason.to_owned()));
                        into.push(Report { sequence: 0, outcome });
                        return;
                    }
                    self.stall.excused(Instant::now());
                }
            }
        }
    }

    async fn restart(&mut self, batching: Batching, into: &mut Vec<Report>) -> Result<(), SinkError> {
        let broken = Arc::clone(&self.producer);
        let mut config = self.config.clone();
        if batching == Batching::OneByOne {
            config.set("batch.num.messages", "1");
        }
        let (producer, reports) = start(&config, &self.complaint, &self.statistics)?;
        self.producer = producer;
        self.probe = None;
        self.stall.replaced(Instant::now(), std::mem::take(&mut self.stuck));
        let mut left = std::mem::replace(&mut self.reports, reports);
        let purged = tokio::task::spawn_blocking(move || {
            broken.purge(PurgeConfig::default().queue().inflight());
            // Whatever it does not give back in time is sent again: a repeat, not a loss.
            drop(broken.flush(PURGE_TIMEOUT));
        });
        drop(purged.await);
        while let Ok(report) = left.try_recv() {
            into.push(report);
        }
        Ok(())
    }
}

fn start(
    config: &ClientConfig,
    complaint: &Complaint,
    statistics: &StatisticsCell,
) -> Result<(Arc<ThreadedProducer<Reporter>>, mpsc::UnboundedReceiver<Report>), SinkError> {
    // Bounded by the window: there is one report at the most for each record in flight.
    let (sender, reports) = mpsc::unbounded_channel();
    let reporter = Reporter { sender, complaint: complaint.clone(), statistics: statistics.clone() };
    let producer = config.create_with_context(reporter).map_err(|error| unusable(&error))?;
    Ok((Arc::new(producer), reports))
}

/// What the client last said was wrong. Written when something is, so the lock is never on the way of an event.
#[derive(Debug, Clone, Default)]
struct Complaint(Arc<Mutex<Option<String>>>);

impl Complaint {
    fn hear(&self, reason: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    fn say(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Turns librdkafka's callbacks, on its own thread, into messages.
struct Reporter {
    sender: mpsc::UnboundedSender<Report>,
    complaint: Complaint,
    statistics: StatisticsCell,
}

impl ClientContext for Reporter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            // It warns that the gapless guarantee is experimental: known, chosen, and tested here.
            RDKafkaLogLevel::Warning if facility == "CONFWARN" => {
                tracing::debug!(facility, message, "librdkafka")
            }
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => {
                tracing::error!(facility, message, "librdkafka");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "librdkafka"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(facility, message, "librdkafka")
            }
            RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "librdkafka"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.statistics.set(statistics::numbers(&statistics), statistics::counted(&statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all brokers are down says less than why one of them is.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.complaint.hear(reason);
        }
        tracing::warn!(%error, reason, "Kafka client");
    }
}

impl ProducerContext for Reporter {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(failure(error)),
        };
        // Nobody listens once the sink is gone; then nothing is confirmed either.
        drop(self.sender.send(Report { sequence: opaque as Sequence, outcome }));
    }
}

/// A record's number as the pointer-sized value that travels with it: 64 bits wherever this runs.
#[allow(clippy::cast_possible_truncation)]
fn opaque(sequence: Sequence) -> usize {
    sequence as usize
}

/// What an error means for the record, or for the producer.
fn failure(error: &KafkaError) -> SinkError {
    use RDKafkaErrorCode as Code;
    let Some(code) = error.rdkafka_error_code() else { return SinkError::Broken(error.to_string()) };
    match code {
        Code::QueueFull => SinkError::Full,
        Code::MessageSizeTooLarge | Code::InvalidMessage | Code::InvalidRecord | Code::InvalidMessageSize => {
            SinkError::Refused(code.to_string())
        }
        code if is_denied(code) => SinkError::Denied(code.to_string()),
        code => SinkError::Broken(code.to_string()),
    }
}

fn is_denied(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
    )
}
