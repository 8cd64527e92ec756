//! Where records go: enqueue, and a delivery report for each.
//!
//! A sink keeps the order in which it was given the records of one key, and reports each record exactly once while the
//! producer that took it lives. `walpost::kafka` is the one that ships; the tests have theirs.

use crate::event::record::Record;
use crate::window::copied::CopyId;
use crate::window::progress::{Place, Sequence};

/// What became of a record.
#[derive(Debug, Clone)]
pub struct Report {
    /// The record's number.
    pub sequence: Sequence,
    /// Acknowledged by all in-sync replicas, or why not.
    pub outcome: Result<(), SinkError>,
}

/// A partition of one of the sink's topics, as the sink numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane(pub u32);

/// What about a record is refused: it decides what the operator can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its size.
    Size,
    /// Its timestamp.
    Timestamp,
    /// Anything else about it.
    Other,
    /// Nothing about it: the topic takes no record that is sent so.
    Topic,
}

/// Why the sink did not take or deliver a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The queue is full; after the next report there may be room.
    #[error("the producer's queue is full")]
    Full,
    /// Its partition takes nothing more until what it has is acknowledged; other partitions may.
    #[error("the partition waits for an acknowledgement")]
    Held(Lane),
    /// The record itself is refused, now and for ever.
    #[error("Kafka refuses the record: {reason}")]
    Refused {
        /// What about it.
        what: Refusal,
        /// Kafka's word for it.
        reason: String,
    },
    /// The relay may not do what it needs to: a person, or a broker that has loaded its rules, may change that.
    #[error(
        "Kafka denies access: {0}; grant the client WRITE and DESCRIBE on the topic (before Kafka 3.0 also \
        IDEMPOTENT_WRITE on the cluster), or correct its credentials: walpost goes on by itself"
    )]
    Denied(String),
    /// The topic is not there.
    #[error(
        "the topic `{topic}` does not exist on {brokers}: create it (kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} --partitions …)"
    )]
    TopicMissing {
        /// The topic.
        topic: String,
        /// The brokers asked.
        brokers: String,
    },
    /// The topic is not there, is to be made, and cannot be now: a right, a setting or another broker may change that.
    #[error(
        "the topic `{topic}` does not exist on {brokers}, and cannot be made: {reason}; {remedy}: walpost goes on by itself"
    )]
    TopicNotMade {
        /// The topic.
        topic: String,
        /// The brokers asked.
        brokers: String,
        /// Kafka's word for it.
        reason: String,
        /// What the operator can do.
        remedy: String,
    },
    /// A topic may not be used, as Kafka says when it is asked for it: the producer is none the worse for it.
    #[error(
        "Kafka denies access: {reason} (topic `{topic}`); grant the client WRITE and DESCRIBE on the topic (before \
        Kafka 3.0 also IDEMPOTENT_WRITE on the cluster), or correct its credentials: walpost goes on by itself"
    )]
    TopicDenied {
        /// The topic.
        topic: String,
        /// Kafka's word for it.
        reason: String,
    },
    /// There is a bound to the partitions of all topics together.
    #[error(
        "the topic `{topic}` has {partitions} partitions: with those of the topics before it that is more than {max}, which \
        is what walpost can tell apart"
    )]
    TooManyPartitions {
        /// The topic.
        topic: String,
        /// Its partitions.
        partitions: usize,
        /// The bound.
        max: usize,
    },
    /// No broker answers.
    #[error("cannot reach Kafka at {brokers}: {reason}")]
    Unreachable {
        /// The brokers asked.
        brokers: String,
        /// What the client says.
        reason: String,
    },
    /// The producer is broken and delivers nothing more: a new one must send what is not acknowledged.
    #[error("the producer is broken: {0}")]
    Broken(String),
    /// Another producer has this one's name, or this one's transaction was open for too long: it sends nothing more.
    #[error(
        "Kafka takes nothing more from this producer: {0}; what it did not commit is sent again by who has the slot"
    )]
    Fenced(String),
    /// What the topic of the position holds is none of this slot's.
    #[error("the topic `{topic}` cannot hold the position of this slot: {why}")]
    Position {
        /// The topic.
        topic: String,
        /// Why.
        why: String,
    },
    /// The settings do not make a producer.
    #[error("librdkafka refuses its settings: {0}")]
    Settings(String),
}

impl SinkError {
    /// Whether a record waits for its topic, to which nothing is wrong with the producer: what it was given before is
    /// delivered all the same.
    #[must_use]
    pub fn is_about_a_topic(&self) -> bool {
        matches!(
            self,
            Self::TopicMissing { .. }
                | Self::TopicNotMade { .. }
                | Self::TopicDenied { .. }
                | Self::Unreachable { .. }
        )
    }
}

/// How records are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// Many in a batch, which is what makes it fast.
    Together,
    /// The same, in batches of half the size: some were refused that no record of theirs was too large for.
    Smaller,
    /// Each in a batch of its own: a batch is refused as a whole, so only then is it known which record was meant.
    OneByOne,
}

/// How far the stream, and the copy of a table, are in Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// Every event of the stream up to here; none when there was no event yet.
    pub place: Option<Place>,
    /// Every row of the table that is being copied, up to an id.
    pub copied: Option<(CopyId, i64)>,
}

/// Whether records that were handed over are to be made one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transaction {
    /// There are none: each record counts by itself.
    None,
    /// Not now.
    Busy,
    /// Once everything is handed over.
    Open,
    /// Now, and nothing more is to be handed over before.
    Due,
}

/// Takes records and reports on them.
pub trait Sink {
    /// Enqueues a record; never waits.
    ///
    /// # Errors
    /// [`SinkError::Full`] when there is no room now, or a topic is being asked for, [`SinkError::Held`] when there is none
    /// for this partition; anything else says that it will not be taken.
    fn send(&mut self, sequence: Sequence, record: &Record<'_>) -> Result<(), SinkError>;

    /// Nothing is in flight, and nothing is held back.
    fn idle(&mut self) {}

    /// Whether what was handed over is to be made a transaction.
    fn transaction(&self) -> Transaction {
        Transaction::None
    }

    /// Makes a transaction of the records that were handed over: they, and no others, are all that the window held. They are
    /// reported when it is committed.
    ///
    /// # Errors
    /// [`SinkError::Full`] when that cannot be now.
    fn close(&mut self, _reach: Reach) -> Result<(), SinkError> {
        Ok(())
    }

    /// What was handed over is given up: another may send it.
    fn forget(&mut self) {}

    /// Waits for reports and appends them, a batch at a time; or appends none, once a record that was not taken may be
    /// offered again. Safe to drop while it waits.
    fn reports(&mut self, into: &mut Vec<Report>) -> impl Future<Output = ()> + Send;

    /// Replaces a broken producer. Reports that the old one still had are appended; what it did not acknowledge is to
    /// be sent again.
    fn restart(
        &mut self,
        batching: Batching,
        into: &mut Vec<Report>,
    ) -> impl Future<Output = Result<(), SinkError>> + Send;
}
