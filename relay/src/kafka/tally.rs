//! What became of records, by topic: for those who look.

use std::sync::{Arc, Mutex, PoisonError};

use super::topic::Topic;

/// So many topics are told apart; the others are told together. Rows may name any number of them, and each is a time series
/// in Prometheus.
pub const TOLD_MAX: usize = 100;

/// A topic.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct TopicNumbers {
    /// Its name.
    pub name: String,
    /// Its partitions; 0 while they are not known.
    pub partitions: usize,
    /// Records that Kafka has stored, those among them that were stored again after a producer was replaced.
    pub stored: u64,
    /// When that was last, milliseconds since 1970-01-01 UTC; 0 for never.
    pub stored_ms: i64,
    /// Whether a record waits for it to be there.
    pub is_awaited: bool,
}

/// The topics that records were written to, in the order in which they were first named.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The first [`TOLD_MAX`] of them.
    pub topics: Vec<TopicNumbers>,
    /// How many more there are.
    pub others: usize,
    /// Records of these that Kafka has stored.
    pub others_stored: u64,
}

impl Tally {
    /// Enters a topic by its number, in the order of the numbers.
    pub(super) fn enter(&mut self, number: usize, topic: &Topic) {
        if number == 0 {
            (self.others, self.others_stored) = (0, 0);
        }
        if number >= TOLD_MAX {
            self.others += 1;
            self.others_stored += topic.stored;
            return;
        }
        if number == self.topics.len() {
            self.topics.push(TopicNumbers::default());
        }
        let numbers = &mut self.topics[number];
        // Most often nothing is new but the numbers.
        if numbers.name != topic.name {
            numbers.name.clone_from(&topic.name);
        }
        numbers.partitions = topic.partitions.count();
        numbers.is_awaited = topic.is_awaited();
        (numbers.stored, numbers.stored_ms) = (topic.stored, topic.stored_ms);
    }
}

/// Where the sink puts it, once a batch, and others look.
#[derive(Debug, Default, Clone)]
pub struct TallyCell(Arc<Mutex<Tally>>);

impl TallyCell {
    /// How it is now.
    #[must_use]
    pub fn now(&self) -> Tally {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn update(&self, update: impl FnOnce(&mut Tally)) {
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(number: usize, stored: u64) -> Topic {
        let mut topic = Topic::new(format!("t{number}"));
        topic.stored = stored;
        topic
    }

    #[test]
    fn the_first_topics_are_told_apart_and_the_others_together_each_time_anew() {
        let mut tally = Tally::default();
        for stored in [1, 3] {
            (0..TOLD_MAX + 7).for_each(|number| tally.enter(number, &topic(number, stored)));
            assert_eq!(tally.topics.len(), TOLD_MAX);
            assert_eq!((tally.others, tally.others_stored), (7, 7 * stored));
            assert!(tally.topics.iter().all(|topic| topic.stored == stored));
        }
    }

    #[test]
    fn a_number_that_has_its_name_by_now_is_told_by_it() {
        let mut tally = Tally::default();
        tally.enter(0, &Topic::new(String::new()));
        tally.enter(0, &topic(5, 2));
        assert_eq!(tally.topics, [TopicNumbers { name: "t5".into(), stored: 2, ..TopicNumbers::default() }]);
    }
}
