//! What a producer says, on its own threads: of records, of its connections, and of how it is doing.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::Statistics;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use tokio::sync::mpsc;
use tracing::Span;

use super::lanes::from_opaque;
use super::librdkafka;
use super::statistics::StatisticsCell;
use walpost_core::publish::partitions::Which;
use walpost_core::publish::sink::{Lane, SinkError};
use walpost_core::window::progress::Sequence;

/// What the client last said was wrong. Written when something is, so the lock is never on the way of an event.
#[derive(Debug, Clone, Default)]
pub(super) struct Complaint(Arc<Mutex<Option<String>>>);

impl Complaint {
    pub(super) fn hear(&self, reason: &str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
    }

    pub(super) fn say(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What librdkafka says of a record.
pub(super) struct Delivery {
    pub(super) lane: Lane,
    pub(super) sequence: Sequence,
    pub(super) outcome: Result<(), Failed>,
    pub(super) at: std::time::Instant,
}

/// Why a record does not count as stored.
pub(super) enum Failed {
    Error(KafkaError),
    /// It is said to be, without an offset: concluded from a later request's success, which proves nothing.
    NoOffset,
}

impl Failed {
    pub(super) fn judged_by(self, judge: impl FnOnce(&KafkaError) -> SinkError) -> SinkError {
        match self {
            Self::Error(error) => judge(&error),
            Self::NoOffset => {
                SinkError::Broken("a record counted as delivered only because a later one was".into())
            }
        }
    }
}

/// Turns librdkafka's callbacks, on its own thread, into messages.
pub(super) struct Reporter {
    sender: mpsc::UnboundedSender<Delivery>,
    complaint: Complaint,
    statistics: StatisticsCell,
    which: Which,
    /// What its lines in the log are marked with: the client has threads of its own.
    source: Span,
}

impl Reporter {
    /// Of one of the producers. Its lines in the log are marked as those of whoever makes it.
    pub(super) fn new(
        sender: mpsc::UnboundedSender<Delivery>,
        complaint: Complaint,
        statistics: StatisticsCell,
        which: Which,
    ) -> Self {
        Self { sender, complaint, statistics, which, source: Span::current() }
    }
}

impl ClientContext for Reporter {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let _source = self.source.enter();
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
        self.statistics.set(self.which, librdkafka::numbers(&statistics), librdkafka::counted(&statistics));
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // That all brokers are down says less than why one of them is.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.complaint.hear(reason);
        }
        let _source = self.source.enter();
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
