//! Which Produce requests meet with a fault, how many more, and how many have.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::wire::{Batch, Produce, Topic};

/// Codes of Kafka's `Errors` that a broker gives for a moment, and one that says nothing.
pub mod code {
    /// `UNKNOWN_SERVER_ERROR`.
    pub const UNKNOWN_SERVER_ERROR: i16 = -1;
    /// `NOT_LEADER_OR_FOLLOWER`: leaders are on the move.
    pub const NOT_LEADER: i16 = 6;
    /// `REQUEST_TIMED_OUT`: not enough replicas in time; the record may be stored.
    pub const REQUEST_TIMED_OUT: i16 = 7;
    /// `NOT_ENOUGH_REPLICAS`.
    pub const NOT_ENOUGH_REPLICAS: i16 = 19;
}

/// Which Produce requests are meant.
#[derive(Debug, Clone, Default)]
pub struct Which {
    topic: Option<String>,
    partition: Option<i32>,
    first: bool,
}

impl Which {
    /// Each of them.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// The first that a producer id sends to a partition: its sequence is 0. A retry of it is one as well.
    #[must_use]
    pub fn first() -> Self {
        Self { first: true, ..Self::default() }
    }

    /// Those to `topic`. (Clients of Produce version 13 and later name a topic by its id: none of them is meant.)
    #[must_use]
    pub fn of_topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.to_owned());
        self
    }

    /// Those to the partitions with this number.
    #[must_use]
    pub fn of_partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    fn means(&self, topic: &Topic, batch: &Batch) -> bool {
        let topic_is_meant = self.topic.as_ref().is_none_or(|name| *topic == Topic::Name(name.clone()));
        topic_is_meant
            && self.partition.is_none_or(|partition| partition == batch.partition)
            && (!self.first || (batch.producer >= 0 && batch.sequence == 0))
    }
}

/// What happens to a request that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It is answered with this code, and the broker never sees it.
    Refuse(i16),
    /// The same, but only once the next request for its partition has come on the same connection, which is passed on
    /// behind it; or after [`HOLD_MAX`] where none comes.
    RefuseAsNextComes(i16),
    /// The broker gets it, and the connection is cut in place of its answer.
    CutAfterwards,
}

/// Long enough for a client that sends on without waiting; a client that waits for the answer is not kept for long.
pub(super) const HOLD_MAX: Duration = Duration::from_millis(1_500);

/// How many requests met with which fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultsMade {
    /// Held until the next one comes: each is counted here first, and as one of the other two when it is refused.
    pub held: u32,
    /// Refused at once.
    pub refused: u32,
    /// Refused while the next request for the partition was on its way already, which was then passed on.
    pub refused_before_the_next: u32,
    /// Refused as those were to be, but no other request came.
    pub refused_alone: u32,
    /// Stored by the broker, and never answered.
    pub cut: u32,
}

impl FaultsMade {
    /// All of them: those that are held still are not counted yet.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.refused + self.refused_before_the_next + self.refused_alone + self.cut
    }
}

#[derive(Debug)]
struct Rule {
    which: Which,
    fault: Fault,
    left: u32,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    /// So many requests more that end a transaction are never answered.
    cut_ends: u32,
    made: FaultsMade,
}

/// Shared by a proxy and its connections.
#[derive(Debug, Default)]
pub(super) struct Rules(Mutex<State>);

impl Rules {
    pub(super) fn add(&self, which: Which, fault: Fault, times: u32) {
        self.with(|state| state.rules.push(Rule { which, fault, left: times }));
    }

    pub(super) fn cut_ends(&self, times: u32) {
        self.with(|state| state.cut_ends = times);
    }

    /// Whether the answer to the end of a transaction is to be cut: used up by one.
    pub(super) fn cuts_an_end(&self) -> bool {
        self.with(|state| {
            let cuts = state.cut_ends > 0;
            state.cut_ends = state.cut_ends.saturating_sub(1);
            cuts
        })
    }

    pub(super) fn clear(&self) {
        self.with(|state| {
            state.rules.clear();
            state.cut_ends = 0;
        });
    }

    pub(super) fn made(&self) -> FaultsMade {
        self.with(|state| state.made)
    }

    pub(super) fn count(&self, what: impl FnOnce(&mut FaultsMade) -> &mut u32) {
        self.with(|state| *what(&mut state.made) += 1);
    }

    /// The fault that this request is to meet with: of the oldest rule that means it, which is used up by one.
    pub(super) fn decide(&self, produce: &Produce) -> Option<Fault> {
        self.with(|state| {
            let batches = || {
                produce
                    .topics
                    .iter()
                    .flat_map(|(topic, batches)| batches.iter().map(move |batch| (topic, batch)))
            };
            let rule = state.rules.iter_mut().find(|rule| {
                rule.left > 0 && batches().any(|(topic, batch)| rule.which.means(topic, batch))
            })?;
            rule.left -= 1;
            Some(rule.fault)
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
