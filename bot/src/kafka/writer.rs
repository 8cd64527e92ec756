//! Writes records without waiting for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};
use tokio::sync::oneshot;

use super::{KafkaSettings, METADATA_TIMEOUT};
use crate::journal::{Record, Topic, Writer, Written};
use crate::observe::metrics::Metrics;

/// Records that wait for Kafka at most: a few megabytes. Above that, and when a record has waited for
/// `message.timeout.ms`, records are dropped and counted.
const QUEUE_MAX: &str = "10000";
const MESSAGE_TIMEOUT_MS: &str = "120000";

/// Writes to the two topics.
pub struct KafkaWriter {
    producer: ThreadedProducer<Reports>,
    commands: String,
    cache_events: String,
    metrics: Metrics,
    behind: Arc<AtomicBool>,
}

struct Reports {
    metrics: Metrics,
    /// Kafka did not take a record in time, and has taken none since.
    behind: Arc<AtomicBool>,
}

/// What becomes of a record is told to whoever waits, by being dropped.
struct OnItsWay {
    topic: &'static str,
    _end: Option<oneshot::Sender<()>>,
}

impl ClientContext for Reports {
    fn stats(&self, _: Statistics) {}

    fn error(&self, error: rdkafka::error::KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "Kafka producer");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<OnItsWay>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<OnItsWay>) {
        match result {
            Ok(_) => self.behind.store(false, Ordering::Relaxed),
            Err((error, _)) => {
                tracing::warn!(topic = record.topic, %error, "a record is dropped");
                self.metrics.dropped.with_label_values(&[record.topic]).inc();
            }
        }
    }
}

impl KafkaWriter {
    /// Needs no broker yet.
    ///
    /// # Errors
    /// When a property is none of librdkafka's.
    pub fn new(settings: &KafkaSettings, metrics: Metrics) -> Result<Self, String> {
        let config = settings.client(&[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("linger.ms", "5"),
            // Java consumers find the partition of a key by it.
            ("partitioner", "murmur2_random"),
            ("queue.buffering.max.messages", QUEUE_MAX),
            ("message.timeout.ms", MESSAGE_TIMEOUT_MS),
        ]);
        let behind = Arc::<AtomicBool>::default();
        let reports = Reports { metrics: metrics.clone(), behind: Arc::clone(&behind) };
        let producer = config.create_with_context(reports);
        Ok(Self {
            producer: producer.map_err(|error| format!("kafka-property: {error}"))?,
            commands: settings.commands_topic.clone(),
            cache_events: settings.cache_events_topic.clone(),
            metrics,
            behind,
        })
    }

    /// Waits until every record is taken or dropped. Blocks: for a thread of its own.
    pub fn flush(&self, within: std::time::Duration) {
        if let Err(error) = self.producer.flush(within) {
            let left = self.producer.in_flight_count();
            tracing::warn!(%error, left, "records were not written before the end");
        }
    }

    /// Whether a broker answers. Blocks: for a thread of its own.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.producer.client().fetch_metadata(Some(&self.commands), METADATA_TIMEOUT).is_ok()
    }
}

impl Writer for KafkaWriter {
    fn write(&self, record: Record) -> Written {
        let (topic, label) = match record.topic {
            Topic::Commands => (&self.commands, "commands"),
            Topic::CacheEvents => (&self.cache_events, "cache_events"),
        };
        let is_waited_for = record.topic == Topic::Commands && !self.behind.load(Ordering::Relaxed);
        let (sender, end) = if is_waited_for { Some(oneshot::channel()) } else { None }.unzip();
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new_with_capacity(record.headers.len()), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(value) })
            });
        let message = BaseRecord::with_opaque_to(topic, Box::new(OnItsWay { topic: label, _end: sender }))
            .key(&record.key)
            .payload(&record.value)
            .headers(headers);
        if let Err((error, _)) = self.producer.send(message) {
            tracing::debug!(topic = label, %error, "a record is dropped");
            self.metrics.dropped.with_label_values(&[label]).inc();
        }
        end.map_or_else(Written::default, |end| Written::under_way(end, Arc::clone(&self.behind)))
    }
}
