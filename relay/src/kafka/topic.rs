//! A topic that the producer writes to: its partitions, and the one of a key.

use crate::kafka::murmur2;
use walpost_core::publish::partitions::{Group, Partitions};
use walpost_core::publish::sink::Lane;

/// A topic and what is known of its partitions.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    pub(super) partitions: Partitions,
    /// As many as the topic has now; adopted when nothing is in flight, since with it keys change their partitions.
    found: usize,
}

impl Topic {
    pub(super) fn new(name: String) -> Self {
        Self { name, partitions: Partitions::new(0, Group::ALONE), found: 0 }
    }

    /// The topic has so many partitions.
    pub(super) fn found(&mut self, count: usize) {
        self.found = count;
    }

    /// Nothing is in flight: keys may move to partitions that were added.
    pub(super) fn adopt(&mut self, group: Group, now_ms: i64) {
        if self.found != self.partitions.count() {
            self.partitions = Partitions::new(self.found, group);
            self.partitions.set_time(now_ms);
        }
    }

    /// The partition of a key; `None` while the topic was not found yet.
    pub(super) fn partition(&self, key: &[u8]) -> Option<usize> {
        match self.partitions.count() {
            0 => None,
            count => Some(murmur2::partition(key, count)),
        }
    }
}

/// Which of the two topics a lane belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Events,
    DeadLetters,
}

/// Even numbers are partitions of the topic of events, odd ones of that of dead letters. Kafka's partitions are numbered
/// by an `i32`, so none is lost.
#[allow(clippy::cast_possible_truncation)]
pub(super) fn lane_of(which: Which, partition: usize) -> Lane {
    Lane(2 * partition as u32 + u32::from(which == Which::DeadLetters))
}

/// The topic and the partition of a lane.
pub(super) fn place_of(Lane(number): Lane) -> (Which, usize) {
    let which = if number.is_multiple_of(2) { Which::Events } else { Which::DeadLetters };
    (which, (number / 2) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_tells_its_topic_and_partition() {
        for partition in [0, 1, 127, 200_000] {
            for which in [Which::Events, Which::DeadLetters] {
                assert_eq!(place_of(lane_of(which, partition)), (which, partition));
            }
        }
    }

    #[test]
    fn keys_move_only_when_the_added_partitions_are_adopted() {
        let mut topic = Topic::new("t".into());
        assert_eq!(topic.partition(b"21"), None);
        topic.found(3);
        topic.adopt(Group::ALONE, 0);
        let before = topic.partition(b"21");
        topic.found(1_000);
        assert_eq!(topic.partition(b"21"), before);
        topic.adopt(Group::ALONE, 0);
        assert_ne!(topic.partition(b"21"), before);
    }
}
