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
//!
//! All of this holds only where the broker knows the producer: [`partitions`](walpost_core::publish::partitions) has what is handed over
//! when. And a success without an offset is none: librdkafka reports one for records whose request failed when a later
//! request succeeded, which a broker that does not know the producer takes.

mod clients;
pub mod consumer;
pub mod facts;
mod failure;
mod librdkafka;
pub mod murmur2;
mod stall;
pub mod statistics;
mod topic;
pub mod traced;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, PurgeConfig, ThreadedProducer};
use rdkafka::{ClientConfig, Statistics};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use clients::{group, halve_batches, producer_config, statistics_interval, unusable};
use failure::{failure, is_about_the_producer, is_denied, of_code};
use stall::Stall;
use topic::{Topic, Which, lane_of, place_of};

use self::statistics::StatisticsCell;
use crate::config::{KafkaSettings, WindowSettings};
use walpost_core::clock;
use walpost_core::event::encode::{Destination, Record};
use walpost_core::publish::partitions::Group;
use walpost_core::publish::sink::{Batching, Lane, Refusal, Report, Sink, SinkError};
use walpost_core::window::progress::Sequence;

/// Reports taken at a time.
const REPORTS_MAX: usize = 4096;

/// How long a broken producer may take to give back what it holds.
const PURGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a record takes in a request beside its contents: librdkafka counts up to 70 bytes.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// How often the topics are asked for their partitions: as often as librdkafka does by itself.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// A producer for the topic of events and, where there is one, that of dead letters.
pub struct KafkaSink {
    config: ClientConfig,
    brokers: String,
    topic: Topic,
    dead_letter_topic: Option<Topic>,
    group: Group,
    producer: Arc<ThreadedProducer<Reporter>>,
    reports: mpsc::UnboundedReceiver<Delivery>,
    deliveries: Vec<Delivery>,
    /// Asks for the topic's partitions, now and then.
    refresh: Refresh,
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
            group: group(&config, Batching::Together),
            config,
            brokers: kafka.brokers.clone(),
            topic: Topic::new(kafka.topic.clone()),
            dead_letter_topic: kafka.dead_letter_topic.clone().map(Topic::new),
            producer,
            reports,
            deliveries: Vec::new(),
            refresh: Refresh::new(),
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
    pub async fn check_topics(&mut self, timeout: Duration) -> Result<usize, SinkError> {
        if let Some(topic) = &self.dead_letter_topic {
            let partitions = self.check_topic(&topic.name, timeout).await?;
            self.found(Which::DeadLetters, partitions);
        }
        let partitions = self.check_topic(&self.topic.name, timeout).await?;
        self.found(Which::Events, partitions);
        Ok(partitions)
    }

    fn found(&mut self, which: Which, partitions: usize) {
        if let Some(topic) = self.topic_mut(which) {
            topic.found(partitions);
        }
    }

    fn topic_mut(&mut self, which: Which) -> Option<&mut Topic> {
        match which {
            Which::Events => Some(&mut self.topic),
            Which::DeadLetters => self.dead_letter_topic.as_mut(),
        }
    }

    fn topics_mut(&mut self) -> impl Iterator<Item = &mut Topic> {
        std::iter::once(&mut self.topic).chain(&mut self.dead_letter_topic)
    }

    /// Asks, with a client of its own, whether every partition has a leader now.
    fn probe(&self) -> JoinHandle<bool> {
        let (mut config, topic, timeout) = (self.config.clone(), self.topic.name.clone(), self.peer_timeout);
        config.set("statistics.interval.ms", "0");
        // It only asks, and needs no id as a producer.
        config.set("enable.idempotence", "false").set("enable.gapless.guarantee", "false");
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

impl KafkaSink {
    /// Takes the deliveries that have come in: what they say of the partitions, and a report for each.
    fn take(&mut self, into: &mut Vec<Report>) {
        let now = Instant::now();
        self.stall.reported(self.deliveries.len() as u64, now);
        let now_ms = clock::unix_millis();
        self.topics_mut().for_each(|topic| topic.partitions.set_time(now_ms));
        let mut deliveries = std::mem::take(&mut self.deliveries);
        for Delivery { lane, sequence, outcome, at } in deliveries.drain(..) {
            let (which, partition) = place_of(lane);
            if let Some(topic) = self.topic_mut(which) {
                topic.partitions.reported(partition, outcome.is_ok(), at);
            }
            let outcome = outcome.map_err(|failed| failed.judged_by(|error| self.judge(error)));
            into.push(Report { sequence, outcome });
        }
        self.deliveries = deliveries;
    }

    /// What an error means. Where the producer gave the record back because it is broken itself, the reason is asked for.
    fn judge(&self, error: &KafkaError) -> SinkError {
        let about_the_producer = error.rdkafka_error_code().is_some_and(is_about_the_producer);
        match self.producer.client().fatal_error().filter(|_| about_the_producer) {
            Some((code, reason)) => match of_code(code, reason) {
                denied @ SinkError::Denied(_) => denied,
                // What broke the producer is no fault of this record's: its own report says so where it is.
                other => SinkError::Broken(other.to_string()),
            },
            None => failure(error),
        }
    }

    /// What librdkafka says of a record that it does not take.
    fn refused(&self, error: &KafkaError) -> SinkError {
        match self.judge(error) {
            // It is larger than the whole queue: there would be no room for ever.
            SinkError::Full if self.stall.in_flight() == 0 => {
                let reason = "it is larger than the producer's queue".to_owned();
                SinkError::Refused { what: Refusal::Size, reason }
            }
            other => other,
        }
    }

    /// The topic was asked for its partitions. Returns why the producer must be replaced, if it must.
    fn refreshed(&mut self, found: Option<usize>) -> Option<&'static str> {
        if let Some(partitions) = found {
            self.topic.found(partitions);
        }
        let (now, now_ms) = (Instant::now().into_std(), clock::unix_millis());
        self.topics_mut().for_each(|topic| topic.partitions.set_time(now_ms));
        if self.topics_mut().any(|topic| topic.partitions.may_be_forgotten(now, REFRESH_INTERVAL)) {
            return Some("what it holds is so old that the brokers may have forgotten it");
        }
        let is_silent = self.topics_mut().any(|topic| topic.partitions.is_silent(now, REFRESH_INTERVAL));
        (found.is_some() && is_silent)
            .then_some("a partition acknowledges nothing for minutes, although Kafka answers")
    }

    /// Says that the producer must be replaced.
    fn report_broken(reason: &str, into: &mut Vec<Report>) {
        // It is about no record.
        into.push(Report { sequence: Sequence::MAX, outcome: Err(SinkError::Broken(reason.to_owned())) });
    }
}

impl Sink for KafkaSink {
    fn send(&mut self, sequence: Sequence, record: &Record) -> Result<(), SinkError> {
        let (which, topic) = match (record.destination, &mut self.dead_letter_topic) {
            (Destination::Events, _) => (Which::Events, &mut self.topic),
            (Destination::DeadLetters, Some(topic)) => (Which::DeadLetters, topic),
            (Destination::DeadLetters, None) => {
                return Err(SinkError::Settings("no topic for dead letters is set".into()));
            }
        };
        // What has no time of its own has that of its publishing.
        let timestamp_ms = if record.timestamp_ms == 0 { clock::unix_millis() } else { record.timestamp_ms };
        let bytes = record.key.len() + record.value.len() + record.headers.size() + RECORD_OVERHEAD_BYTES;
        // It was not found yet: there is room once it is.
        let Some(partition) = topic.partition(&record.key) else { return Err(SinkError::Full) };
        let lane = lane_of(which, partition);
        let now = || Instant::now().into_std();
        if !topic.partitions.admits(partition, timestamp_ms, bytes, now) {
            return Err(SinkError::Held(lane));
        }
        let headers = record.headers.iter();
        let start = OwnedHeaders::new_with_capacity(headers.len());
        let headers = headers.fold(start, |all, (key, value)| all.insert(Header { key, value: Some(value) }));
        let message = BaseRecord::with_opaque_to(&topic.name, opaque(sequence, lane))
            .partition(i32::try_from(partition).unwrap_or(i32::MAX))
            .key(record.key.as_slice())
            .payload(record.value.as_slice())
            .timestamp(timestamp_ms)
            .headers(headers);
        match self.producer.send(message) {
            Ok(()) => {
                topic.partitions.handed_over(partition, timestamp_ms, bytes);
                self.stall.sent(Instant::now);
                Ok(())
            }
            Err((error, _)) => Err(self.refused(&error)),
        }
    }

    fn idle(&mut self) {
        let (group, now_ms) = (self.group, clock::unix_millis());
        self.topics_mut().for_each(|topic| topic.adopt(group, now_ms));
    }

    async fn reports(&mut self, into: &mut Vec<Report>) {
        loop {
            let due = self.stall.due().filter(|_| self.probe.is_none());
            tokio::select! {
                biased;
                // Never closed: this side holds the producer, and with it the sender.
                _ = self.reports.recv_many(&mut self.deliveries, REPORTS_MAX) => {
                    self.probe = None;
                    return self.take(into);
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.probe = Some(self.probe());
                }
                answers = answered(&mut self.probe), if self.probe.is_some() => {
                    self.probe = None;
                    if answers {
                        self.stuck = true;
                        return Self::report_broken("it acknowledges nothing, although Kafka answers", into);
                    }
                    self.stall.excused(Instant::now());
                }
                found = self.refresh.next(&self.producer, &self.topic.name, self.peer_timeout) => {
                    if let Some(reason) = self.refreshed(found) {
                        return Self::report_broken(reason, into);
                    }
                }
            }
        }
    }

    async fn restart(&mut self, batching: Batching, into: &mut Vec<Report>) -> Result<(), SinkError> {
        let broken = Arc::clone(&self.producer);
        if batching == Batching::Smaller {
            halve_batches(&mut self.config);
        }
        let mut config = self.config.clone();
        if batching == Batching::OneByOne {
            config.set("batch.num.messages", "1");
        }
        // The settings made a producer before, so what is wrong passes: a certificate that is being replaced, say.
        let (producer, reports) = start(&config, &self.complaint, &self.statistics)
            .map_err(|error| SinkError::Broken(format!("there is no new one: {error}")))?;
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
        while let Ok(Delivery { sequence, outcome, .. }) = left.try_recv() {
            let outcome = outcome.map_err(|failed| failed.judged_by(failure));
            into.push(Report { sequence, outcome });
        }
        self.deliveries.clear();
        // The brokers know nothing of the new one.
        self.group = group(&config, batching);
        let group = self.group;
        self.topics_mut().for_each(|topic| topic.partitions.reset(group));
        Ok(())
    }
}

/// Asks for the number of the topic's partitions, on a timer.
struct Refresh {
    due: Instant,
    asking: Option<JoinHandle<Result<usize, RDKafkaErrorCode>>>,
}

impl Refresh {
    fn new() -> Self {
        Self { due: Instant::now() + REFRESH_INTERVAL, asking: None }
    }

    /// The number, when it is due; `None` where nobody answered. Safe to drop while it waits.
    async fn next(
        &mut self,
        producer: &Arc<ThreadedProducer<Reporter>>,
        topic: &str,
        timeout: Duration,
    ) -> Option<usize> {
        if self.asking.is_none() {
            sleep_until(self.due).await;
            let (producer, topic) = (Arc::clone(producer), topic.to_owned());
            self.asking = Some(tokio::task::spawn_blocking(move || ask(&producer, &topic, timeout)));
        }
        let asking = self.asking.as_mut()?;
        let found = asking.await;
        *self = Self::new();
        found.ok()?.ok()
    }
}

fn start(
    config: &ClientConfig,
    complaint: &Complaint,
    statistics: &StatisticsCell,
) -> Result<(Arc<ThreadedProducer<Reporter>>, mpsc::UnboundedReceiver<Delivery>), SinkError> {
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

/// What librdkafka says of a record.
struct Delivery {
    lane: Lane,
    sequence: Sequence,
    outcome: Result<(), Failed>,
    at: std::time::Instant,
}

/// Why a record does not count as stored.
enum Failed {
    Error(KafkaError),
    /// It is said to be, without an offset: concluded from a later request's success, which proves nothing.
    NoOffset,
}

impl Failed {
    fn judged_by(self, judge: impl FnOnce(&KafkaError) -> SinkError) -> SinkError {
        match self {
            Self::Error(error) => judge(&error),
            Self::NoOffset => {
                SinkError::Broken("a record counted as delivered only because a later one was".into())
            }
        }
    }
}

/// Turns librdkafka's callbacks, on its own thread, into messages.
struct Reporter {
    sender: mpsc::UnboundedSender<Delivery>,
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
        self.statistics.set(librdkafka::numbers(&statistics), librdkafka::counted(&statistics));
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
            Ok(record) if record.offset() >= 0 => Ok(()),
            Ok(_) => Err(Failed::NoOffset),
            Err((error, _)) => Err(Failed::Error(error.clone())),
        };
        let at = std::time::Instant::now();
        let (sequence, lane) = from_opaque(opaque);
        // Nobody listens once the sink is gone; then nothing is confirmed either.
        drop(self.sender.send(Delivery { lane, sequence, outcome, at }));
    }
}

/// Bits of the opaque value for the lane: half a million partitions; what is left counts records for five years at
/// 100,000 a second.
const LANE_BITS: u32 = 20;

/// A record's number and lane as the pointer-sized value that travels with it: 64 bits wherever this runs.
#[allow(clippy::cast_possible_truncation)]
fn opaque(sequence: Sequence, lane: Lane) -> usize {
    (sequence << LANE_BITS | u64::from(lane.0)) as usize
}

/// The lane is what the mask leaves: 20 bits.
#[allow(clippy::cast_possible_truncation)]
fn from_opaque(opaque: usize) -> (Sequence, Lane) {
    let opaque = opaque as u64;
    (opaque >> LANE_BITS, Lane((opaque & ((1 << LANE_BITS) - 1)) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_lane_travel_together() {
        for (sequence, lane) in [(0, 0), (7, 3), (1 << 43, (1 << LANE_BITS) - 1)] {
            assert_eq!(from_opaque(opaque(sequence, Lane(lane))), (sequence, Lane(lane)));
        }
    }
}
