//! What the printer does, for all who look: whether it is ready, and if not, why.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A write that takes longer than this is not slow: nobody reads.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// librdkafka hands over its numbers each second, by way of the printer's poll: without them the printer stands still.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// A topic and a partition of it.
pub type TopicPartition = (String, i32);

/// What librdkafka says each second.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether a broker answers.
    pub is_broker_up: bool,
    /// Whether the group's coordinator answers.
    pub is_group_up: bool,
    /// Of each partition how many records wait, where that is known.
    pub lags: Vec<(String, i32, u64)>,
}

/// One lock around some hundred bytes, held for as long as it takes to copy them.
#[derive(Debug)]
pub struct Board {
    lag_max: u64,
    facts: Mutex<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    is_stopping: bool,
    is_member: bool,
    /// The partitions of this member, and how many records wait in each.
    partitions: BTreeMap<TopicPartition, Option<u64>>,
    is_broker_up: bool,
    is_group_up: bool,
    updated_at: Option<Instant>,
    writing_since: Option<Instant>,
    topics_missing: Vec<String>,
    topics_denied: Vec<String>,
    denied: Option<String>,
    /// Why no broker answers, as far as librdkafka says it.
    last_error: Option<String>,
}

/// Whether everything that it is set to print is being printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is.
    Ready {
        /// Partitions of this member.
        partitions: usize,
        /// Records that wait.
        lag: u64,
    },
    /// It was asked to stop.
    Stopping,
    /// Standard output takes nothing, for so long.
    NobodyReads(Duration),
    /// Kafka refuses, in its own words.
    Denied(String),
    /// It has just begun.
    Starting,
    /// The printer has not polled for so long.
    Silent(Duration),
    /// No broker answers, and the last error.
    KafkaAway(Option<String>),
    /// The group has not admitted it, or is being shared out anew.
    NoMember,
    /// Topics that do not exist.
    TopicsMissing(Vec<String>),
    /// Topics that Kafka does not let this client see.
    TopicsDenied(Vec<String>),
    /// Where this partition ends is not known yet.
    LagUnknown(TopicPartition),
    /// More records wait than may.
    Behind {
        /// Records that wait.
        lag: u64,
        /// Records that may wait.
        lag_max: u64,
    },
}

impl Board {
    /// Nothing is known yet. More than `lag_max` waiting records are too many.
    #[must_use]
    pub fn new(lag_max: u64) -> Self {
        Self { lag_max, facts: Mutex::default() }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // Plain values: one who panicked has left none of them half-written.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Partitions were assigned; none is an answer, too: others have them all.
    pub fn assign(&self, partitions: impl Iterator<Item = TopicPartition>) {
        let mut facts = self.facts();
        facts.is_member = true;
        facts.denied = None;
        facts.partitions.extend(partitions.map(|partition| (partition, None)));
    }

    /// Partitions were taken away; the group is shared out anew.
    pub fn revoke(&self, partitions: impl Iterator<Item = TopicPartition>) {
        let mut facts = self.facts();
        for partition in partitions {
            facts.partitions.remove(&partition);
        }
        facts.is_member = !facts.partitions.is_empty();
    }

    /// Notes what librdkafka says, and gives whether a broker answers where that has changed.
    pub fn update(&self, snapshot: Snapshot) -> Option<bool> {
        let mut facts = self.facts();
        let is_news = facts.updated_at.is_none() || facts.is_broker_up != snapshot.is_broker_up;
        facts.updated_at = Some(Instant::now());
        facts.is_broker_up = snapshot.is_broker_up;
        facts.is_group_up = snapshot.is_group_up;
        for (topic, partition, lag) in snapshot.lags {
            if let Some(known) = facts.partitions.get_mut(&(topic, partition)) {
                *known = Some(lag);
            }
        }
        is_news.then_some(snapshot.is_broker_up)
    }

    /// A record is handed to standard output.
    pub fn write_begins(&self) {
        self.facts().writing_since = Some(Instant::now());
    }

    /// Standard output has taken it.
    pub fn write_ends(&self) {
        self.facts().writing_since = None;
    }

    /// Topics that do not exist, and those that this client may not see.
    pub fn set_unread_topics(&self, missing: Vec<String>, denied: Vec<String>) {
        let mut facts = self.facts();
        facts.topics_missing = missing;
        facts.topics_denied = denied;
    }

    /// Kafka refuses.
    pub fn deny(&self, reason: &str) {
        self.facts().denied = Some(reason.to_owned());
    }

    /// Something is wrong with a connection.
    pub fn note_error(&self, reason: &str) {
        self.facts().last_error = Some(reason.to_owned());
    }

    /// From now on it only finishes what it has.
    pub fn stop(&self) {
        self.facts().is_stopping = true;
    }

    /// The partitions of this member, and how many records wait in each, where that is known.
    #[must_use]
    pub fn partitions(&self) -> Vec<(TopicPartition, Option<u64>)> {
        self.facts().partitions.iter().map(|(partition, lag)| (partition.clone(), *lag)).collect()
    }

    /// Whether a broker answers.
    #[must_use]
    pub fn is_broker_up(&self) -> bool {
        self.facts().is_broker_up
    }

    /// Whether everything that it is set to print is being printed.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.facts().standing(Instant::now(), self.lag_max)
    }
}

impl Facts {
    /// The first that holds, the cause before what follows from it.
    fn standing(&self, now: Instant, lag_max: u64) -> Standing {
        let since = |then: Instant| now.saturating_duration_since(then);
        let writing = self.writing_since.map(since).filter(|time| *time > WRITE_MAX);
        let silent = self.updated_at.map(since);
        match (self.is_stopping, writing, &self.denied, silent) {
            (true, ..) => Standing::Stopping,
            (_, Some(time), ..) => Standing::NobodyReads(time),
            (_, _, Some(reason), _) => Standing::Denied(reason.clone()),
            (.., None) => Standing::Starting,
            (.., Some(time)) if time > SILENCE_MAX => Standing::Silent(time),
            _ if !self.is_broker_up => Standing::KafkaAway(self.last_error.clone()),
            _ if !self.is_member || !self.is_group_up => Standing::NoMember,
            _ if !self.topics_denied.is_empty() => Standing::TopicsDenied(self.topics_denied.clone()),
            _ if !self.topics_missing.is_empty() => Standing::TopicsMissing(self.topics_missing.clone()),
            _ => self.by_lag(lag_max),
        }
    }

    fn by_lag(&self, lag_max: u64) -> Standing {
        if let Some((partition, _)) = self.partitions.iter().find(|(_, lag)| lag.is_none()) {
            return Standing::LagUnknown(partition.clone());
        }
        let lag = self.partitions.values().flatten().sum();
        if lag > lag_max {
            Standing::Behind { lag, lag_max }
        } else {
            Standing::Ready { partitions: self.partitions.len(), lag }
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { partitions, lag } => {
                write!(f, "ready: {partitions} partitions, {lag} records wait")
            }
            Self::Stopping => f.write_str("stopping"),
            Self::NobodyReads(time) => write!(
                f,
                "standard output has taken nothing for {} s: see what reads it, or how full its disk is",
                time.as_secs()
            ),
            Self::Denied(reason) => write!(f, "Kafka refuses: {reason}"),
            Self::Starting => f.write_str("starting"),
            Self::Silent(time) => write!(f, "the consumer has not been polled for {} s", time.as_secs()),
            Self::KafkaAway(last_error) => {
                f.write_str("no broker answers: it waits for Kafka (kafka-brokers)")?;
                last_error.iter().try_for_each(|error| write!(f, ". The last error: {error}"))
            }
            Self::NoMember => f.write_str("the group has not admitted it yet, or is being shared out anew"),
            Self::TopicsMissing(topics) => {
                write!(f, "no such topic: {}: make it, or correct its setting", topics.join(", "))
            }
            Self::TopicsDenied(topics) => {
                write!(f, "Kafka refuses: this client may not see {}: give it the right", topics.join(", "))
            }
            Self::LagUnknown((topic, partition)) => {
                write!(f, "where partition {partition} of {topic} ends is not known yet")
            }
            Self::Behind { lag, lag_max } => {
                write!(f, "{lag} records wait to be printed, more than {lag_max} (ready-lag-max)")
            }
        }
    }
}

#[cfg(test)]
mod tests;
