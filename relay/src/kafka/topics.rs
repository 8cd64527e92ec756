//! All topics that records are written to.
//!
//! A topic becomes known as its first record names it, or as it is checked before. What is known of one is found by its
//! number, so nothing on the way of a record looks a name up.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::lanes::{LANES_MAX, Lanes, waiting};
use super::suspicion::Suspicion;
use super::tally::Tally;
use super::topic::{Topic, Unplaced};
use walpost_core::event::record::Record;
use walpost_core::publish::partitions::{Group, Which};
use walpost_core::publish::sink::{Lane, SinkError};
use walpost_core::window::progress::Sequence;

/// The topics, by their numbers.
#[derive(Debug)]
pub(super) struct Topics {
    /// A number that no record has named yet has a topic without a name.
    topics: Vec<Topic>,
    lanes: Lanes,
    /// Partitions of topics that were checked and that no record has named yet.
    checked: HashMap<String, usize>,
    /// A topic that is in use has another number of partitions than it had.
    has_news: bool,
    group: Group,
    /// The time of day when it was last looked at, milliseconds since 1970-01-01 UTC.
    now_ms: i64,
}

impl Topics {
    pub(super) fn new(group: Group) -> Self {
        Self {
            topics: Vec::new(),
            lanes: Lanes::default(),
            checked: HashMap::new(),
            has_news: false,
            group,
            now_ms: 0,
        }
    }

    /// It is `now_ms`, milliseconds since 1970-01-01 UTC.
    pub(super) fn set_time(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// The topic of a record, and its partition there, as the producer knows it whose turn it is.
    pub(super) fn place(
        &mut self,
        turn: Which,
        sequence: Sequence,
        record: &Record<'_>,
    ) -> Result<(usize, &mut Topic), Unplaced> {
        let index = record.topic.id.0 as usize;
        if self.topics.get(index).is_none_or(|topic| topic.name.is_empty()) {
            self.add(index, record.topic.name);
        }
        let topic = &mut self.topics[index];
        topic.stands(sequence)?;
        let partition = topic.partition(sequence, record)?;
        topic.partitions.set_time(self.now_ms);
        topic.partitions.turn_to(turn);
        Ok((partition, topic))
    }

    fn add(&mut self, index: usize, name: &str) {
        if self.topics.len() <= index {
            self.topics.resize_with(index + 1, || Topic::new(String::new()));
        }
        self.topics[index].name = name.to_owned();
        if let Some(partitions) = self.checked.remove(name) {
            self.found(index, partitions);
        }
    }

    /// Kafka is being asked for the topic, for the sake of this record.
    pub(super) fn asked(&mut self, index: usize, sequence: Sequence) {
        self.topics[index].asked(sequence);
    }

    /// What Kafka said of a topic.
    pub(super) fn answered(&mut self, index: usize, answer: Result<usize, SinkError>) {
        match answer {
            Ok(partitions) => self.found(index, partitions),
            Err(error) => self.topics[index].failed(error),
        }
    }

    /// Kafka said that a topic is not there; `verdict` is for its records once that is sure.
    pub(super) fn suspected(&mut self, index: usize, verdict: SinkError) {
        self.topics[index].suspected(Suspicion::new(waiting(index), verdict));
    }

    /// Whether records wait for a look at such topics.
    pub(super) fn are_suspected(&self) -> bool {
        self.topics.iter().filter_map(Topic::suspicion).any(Suspicion::is_open)
    }

    /// A look begins, at the topics that records wait for.
    pub(super) fn look_begins(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for topic in &mut self.topics {
            let Some(suspicion) = topic.suspicion_mut().filter(|suspicion| suspicion.is_open()) else {
                continue;
            };
            suspicion.look_begins();
            names.push(topic.name.clone());
        }
        names
    }

    /// A look has found whether the topic is missing; it says nothing of one that was found meanwhile.
    pub(super) fn looked(&mut self, name: &str, is_missing: Result<bool, SinkError>) {
        let Some(topic) = self.topics.iter_mut().find(|topic| topic.name == name) else { return };
        let Some(suspicion) = topic.suspicion_mut() else { return };
        match is_missing {
            Ok(true) => suspicion.is_missing(),
            Ok(false) => suspicion.is_unsure(),
            Err(error) => topic.failed(error),
        }
    }

    /// A topic has so many partitions, whether or not a record has named it yet.
    pub(super) fn checked(&mut self, name: &str, partitions: usize) {
        match self.topics.iter().position(|topic| topic.name == name) {
            Some(index) => self.found(index, partitions),
            None => drop(self.checked.insert(name.to_owned(), partitions)),
        }
    }

    /// A topic has so many partitions. One that no record could be placed in has nothing in flight, as a rule, and takes
    /// them at once; another waits for [`Topics::idle`].
    fn found(&mut self, index: usize, partitions: usize) {
        let topic = &mut self.topics[index];
        let was_known = topic.is_known();
        topic.found(partitions);
        if !was_known && topic.partitions.is_idle() {
            self.adopt(index);
        } else {
            self.has_news |= topic.news().is_some();
        }
    }

    /// Nothing is in flight, of any topic.
    pub(super) fn idle(&mut self) {
        if std::mem::take(&mut self.has_news) {
            (0..self.topics.len()).for_each(|index| self.adopt(index));
        }
    }

    fn adopt(&mut self, index: usize) {
        let topic = &mut self.topics[index];
        let Some(partitions) = topic.news().filter(|_| topic.is_known()) else { return };
        match self.lanes.reserve(index, topic.lanes, partitions) {
            Some(lanes) => topic.adopt(lanes, self.group),
            None => {
                let topic_name = topic.name.clone();
                topic.failed(SinkError::TooManyPartitions { topic: topic_name, partitions, max: LANES_MAX });
            }
        }
    }

    /// A record of a lane was reported at `at`: stored, or not. `is_missing`: since its topic or partition is not there.
    pub(super) fn reported(&mut self, lane: Lane, stored: bool, is_missing: bool, at: Instant) {
        let Some((topic, partition)) = self.lanes.place(lane) else { return };
        let topic = &mut self.topics[topic];
        topic.partitions.reported(partition, stored, at);
        if stored {
            topic.stored += 1;
            topic.stored_ms = self.now_ms;
        }
        if is_missing {
            topic.doubt();
        }
    }

    /// A new producer, or two, whose records are grouped so: the brokers know nothing of it, and nobody waits for what the
    /// old one was asked.
    pub(super) fn reset(&mut self, group: Group) {
        self.group = group;
        for topic in &mut self.topics {
            topic.partitions.reset(group);
            topic.forget_question();
        }
    }

    /// No record waits for a topic any more.
    pub(super) fn forget_awaited(&mut self) {
        self.topics.iter_mut().for_each(Topic::forget_failure);
    }

    /// Topics that a record waits for.
    pub(super) fn awaited(&self) -> Vec<String> {
        self.topics.iter().filter(|topic| topic.is_awaited()).map(|topic| topic.name.clone()).collect()
    }

    /// Topics that are there.
    pub(super) fn known(&self) -> Vec<String> {
        let known = self.topics.iter().filter(|topic| topic.is_known()).map(|topic| &topic.name);
        known.chain(self.checked.keys()).cloned().collect()
    }

    /// Tells what became of records, by topic.
    pub(super) fn tell(&self, tally: &mut Tally) {
        for (number, topic) in self.topics.iter().enumerate() {
            tally.enter(number, topic);
        }
    }

    /// Topics that something is in flight for.
    pub(super) fn in_flight(&self) -> Vec<String> {
        let in_flight = self.topics.iter().filter(|topic| !topic.partitions.is_idle());
        in_flight.map(|topic| topic.name.clone()).collect()
    }

    /// See [`walpost_core::publish::partitions::Partitions::may_be_forgotten`].
    pub(super) fn may_be_forgotten(&mut self, now: Instant, silence: Duration) -> bool {
        let now_ms = self.now_ms;
        self.topics.iter_mut().any(|topic| {
            topic.partitions.set_time(now_ms);
            topic.partitions.may_be_forgotten(now, silence)
        })
    }

    /// Whether records have waited for so long on a partition of one of these topics that reported nothing.
    pub(super) fn is_silent(&self, names: &[&str], now: Instant, silence: Duration) -> bool {
        let is_named = |topic: &&Topic| names.contains(&topic.name.as_str());
        let mut silent = self.topics.iter().filter(|topic| topic.partitions.is_silent(now, silence));
        silent.any(|topic| is_named(&topic))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use walpost_core::event::record::{Content, Headers, TopicId, TopicName};

    const GROUP: Group = Group { records: 3, bytes: 1_000 };

    /// Records with this key.
    struct Case {
        topics: Topics,
        headers: Headers,
    }

    impl Case {
        fn new() -> Self {
            Self { topics: Topics::new(GROUP), headers: Headers::default() }
        }

        fn place(&mut self, id: u32, name: &str) -> Result<(usize, Lane), Unplaced> {
            let record = Record {
                topic: TopicName { id: TopicId(id), name },
                partition: None,
                key: Some(b"21"),
                value: None,
                headers: &self.headers,
                timestamp_ms: 0,
                traceparent: None,
                content: Content::Event,
            };
            let (partition, topic) = self.topics.place(Which::default(), 0, &record)?;
            Ok((partition, topic.lane(partition)))
        }

        /// Hands a record over.
        fn send(&mut self, id: u32, name: &str) -> Lane {
            let (partition, lane) = self.place(id, name).unwrap();
            let partitions = &mut self.topics.topics[id as usize].partitions;
            assert!(partitions.admits(partition, 1, 1, Instant::now));
            partitions.handed_over(partition, 1, 1);
            lane
        }

        fn asked(&mut self, id: u32, name: &str, partitions: usize) {
            assert_eq!(self.place(id, name), Err(Unplaced::Ask));
            self.topics.asked(id as usize, 0);
            assert_eq!(self.place(id, name), Err(Unplaced::Answer(SinkError::Full)));
            self.topics.answered(id as usize, Ok(partitions));
        }
    }

    #[test]
    fn each_topic_is_asked_for_once_and_has_lanes_of_its_own() {
        let mut case = Case::new();
        case.asked(3, "d", 6);
        case.asked(0, "a", 6);
        let (d, a) = (case.send(3, "d"), case.send(0, "a"));
        assert_ne!(d, a);
        assert_eq!(case.topics.in_flight(), ["a", "d"]);
        case.topics.reported(d, true, false, Instant::now());
        assert_eq!(case.topics.in_flight(), ["a"]);
    }

    #[test]
    fn a_topic_that_was_checked_is_not_asked_for() {
        let mut case = Case::new();
        case.topics.checked("a", 6);
        case.topics.checked("a", 7);
        assert_eq!(case.topics.known(), ["a"]);
        assert!(case.place(1, "a").is_ok());
        assert_eq!(case.topics.known(), ["a"]);
        assert_eq!(case.place(0, "b"), Err(Unplaced::Ask));
        assert_eq!(case.topics.topics[1].partitions.count(), 7);
    }

    #[test]
    fn added_partitions_are_adopted_while_nothing_is_in_flight_of_any_topic() {
        let mut case = Case::new();
        case.asked(0, "a", 3);
        let lane = case.send(0, "a");
        case.topics.checked("a", 1_000);
        assert_eq!(case.place(0, "a").unwrap().1, lane);
        case.topics.reported(lane, true, false, Instant::now());
        assert_eq!(case.place(0, "a").unwrap().1, lane, "records behind it may be");
        case.topics.idle();
        assert_ne!(case.place(0, "a").unwrap().1, lane);
    }

    #[test]
    fn a_topic_whose_partition_is_not_there_is_asked_for_anew_and_takes_what_is_found() {
        let mut case = Case::new();
        case.asked(0, "a", 1_000);
        let lane = case.send(0, "a");
        case.topics.reported(lane, false, true, Instant::now());
        case.topics.reset(GROUP);
        case.asked(0, "a", 3);
        assert!(case.place(0, "a").unwrap().0 < 3);
    }

    #[test]
    fn a_question_to_a_producer_that_is_replaced_is_asked_again() {
        let mut case = Case::new();
        assert_eq!(case.place(0, "a"), Err(Unplaced::Ask));
        case.topics.asked(0, 0);
        case.topics.reset(GROUP);
        assert_eq!(case.place(0, "a"), Err(Unplaced::Ask));
    }

    #[test]
    fn a_missing_topic_is_awaited_until_it_is_found_or_nothing_is_left_that_names_it() {
        let missing = SinkError::TopicMissing { topic: "a".into(), brokers: "b:1".into() };
        let mut case = Case::new();
        for found in [true, false] {
            assert_eq!(case.place(0, "a"), Err(Unplaced::Ask));
            case.topics.answered(0, Err(missing.clone()));
            assert_eq!(case.place(0, "a"), Err(Unplaced::Answer(missing.clone())));
            assert_eq!(case.topics.awaited(), ["a"]);
            if found {
                case.topics.checked("a", 3)
            } else {
                case.topics.forget_awaited()
            }
            assert!(case.topics.awaited().is_empty());
            assert_eq!(case.place(0, "a").is_ok(), found);
            case.topics.topics[0].doubt();
        }
    }

    #[test]
    fn a_topic_with_more_partitions_than_there_are_lanes_is_an_error() {
        let mut case = Case::new();
        assert_eq!(case.place(0, "a"), Err(Unplaced::Ask));
        case.topics.answered(0, Ok(LANES_MAX + 1));
        let error = case.place(0, "a").unwrap_err();
        assert!(matches!(error, Unplaced::Answer(SinkError::TooManyPartitions { .. })), "{error:?}");
        assert!(case.topics.awaited().is_empty());
    }
}
