//! A topic that the producer writes to: what is known of it, and the partition of a record.

use super::lanes::LaneRange;
use super::murmur2;
use super::suspicion::Suspicion;
use walpost_core::event::record::Record;
use walpost_core::publish::partitions::{Group, Partitions};
use walpost_core::publish::sink::{Lane, Refusal, SinkError};
use walpost_core::window::progress::Sequence;

/// Records without a key go to one partition so many in a row: batches stay large, and none of it depends on chance, so a
/// record that is sent again goes where it went.
const RUN: u64 = 64;

/// `org.apache.kafka.common.internals.Topic.MAX_NAME_LENGTH`.
const NAME_MAX: usize = 249;

/// What is known of a topic.
#[derive(Debug)]
enum Standing {
    /// Nothing: Kafka is to be asked for it.
    Unknown,
    /// Kafka is being asked.
    Asked,
    /// It is there.
    Known,
    /// It cannot be written to; the next record is to be told why.
    Failed(SinkError),
    /// Kafka said that it is not there, and rows of such topics become dead letters once that is sure.
    Suspected(Suspicion),
}

/// Why a record has no partition now.
#[derive(Debug, PartialEq)]
pub(super) enum Unplaced {
    /// Kafka must be asked for the topic first.
    Ask,
    /// The sink answers so.
    Answer(SinkError),
}

/// A topic and what is known of its partitions.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) name: String,
    /// Records that Kafka has stored.
    pub(super) stored: u64,
    /// When that was last, milliseconds since 1970-01-01 UTC; 0 for never.
    pub(super) stored_ms: i64,
    pub(super) partitions: Partitions,
    pub(super) lanes: LaneRange,
    /// As many as the topic has now; adopted when nothing is in flight, since with it keys change their partitions.
    found: usize,
    standing: Standing,
    /// The record for the sake of which Kafka was asked last.
    asked_for: Option<Sequence>,
    /// A record waits for the topic, which Kafka did not have when it was asked last, or did not say.
    awaited: bool,
}

impl Topic {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            stored: 0,
            stored_ms: 0,
            partitions: Partitions::new(0, Group::ALONE),
            lanes: LaneRange::default(),
            found: 0,
            standing: Standing::Unknown,
            asked_for: None,
            awaited: false,
        }
    }

    /// The topic has so many partitions.
    pub(super) fn found(&mut self, count: usize) {
        self.found = count;
        self.standing = Standing::Known;
        self.awaited = false;
    }

    /// How many it had when Kafka was asked last, where others are in use: they are to be adopted.
    pub(super) fn news(&self) -> Option<usize> {
        Some(self.found).filter(|found| *found != self.partitions.count())
    }

    /// Nothing is in flight: keys may move to partitions that were added.
    pub(super) fn adopt(&mut self, lanes: LaneRange, group: Group) {
        self.lanes = lanes;
        self.partitions = Partitions::new(self.found, group);
    }

    /// Kafka is being asked for it, for the sake of this record.
    pub(super) fn asked(&mut self, sequence: Sequence) {
        self.standing = Standing::Asked;
        self.asked_for = Some(sequence);
    }

    /// It cannot be written to.
    pub(super) fn failed(&mut self, error: SinkError) {
        // What no later answer changes is not waited for.
        self.awaited = error.is_about_a_topic();
        self.standing = Standing::Failed(error);
    }

    /// It is not there, as it seems.
    pub(super) fn suspected(&mut self, suspicion: Suspicion) {
        self.standing = Standing::Suspected(suspicion);
    }

    /// What is known of it, where it is not there, as it seems.
    pub(super) fn suspicion(&self) -> Option<&Suspicion> {
        match &self.standing {
            Standing::Suspected(suspicion) => Some(suspicion),
            _ => None,
        }
    }

    pub(super) fn suspicion_mut(&mut self) -> Option<&mut Suspicion> {
        match &mut self.standing {
            Standing::Suspected(suspicion) => Some(suspicion),
            _ => None,
        }
    }

    /// A record waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited
    }

    pub(super) fn is_known(&self) -> bool {
        matches!(self.standing, Standing::Known)
    }

    /// What was known does not hold any more: the next record asks anew.
    pub(super) fn doubt(&mut self) {
        if self.is_known() {
            self.standing = Standing::Unknown;
        }
    }

    /// Whoever waited for an answer waits no more.
    pub(super) fn forget_question(&mut self) {
        if matches!(self.standing, Standing::Asked | Standing::Suspected(_)) {
            self.standing = Standing::Unknown;
        }
    }

    /// No record waits for it any more.
    pub(super) fn forget_failure(&mut self) {
        self.awaited = false;
        if matches!(self.standing, Standing::Failed(_)) {
            self.standing = Standing::Unknown;
        }
    }

    /// Whether a record may be placed.
    pub(super) fn stands(&mut self, sequence: Sequence) -> Result<(), Unplaced> {
        match &mut self.standing {
            Standing::Suspected(suspicion) => Err(Unplaced::Answer(suspicion.offered(sequence))),
            Standing::Known => Ok(()),
            Standing::Asked => Err(Unplaced::Answer(SinkError::Full)),
            Standing::Unknown if !is_legal(&self.name) => Err(Unplaced::Answer(illegal(&self.name))),
            Standing::Unknown => Err(Unplaced::Ask),
            Standing::Failed(error) => {
                // Once: a later try asks again, for a topic that was created meanwhile.
                let error = error.clone();
                self.standing = Standing::Unknown;
                Err(Unplaced::Answer(error))
            }
        }
    }

    /// The partition of a record, of a topic that is known.
    pub(super) fn partition(&mut self, sequence: Sequence, record: &Record<'_>) -> Result<usize, Unplaced> {
        let count = self.partitions.count();
        match (record.partition, record.key) {
            (Some(partition), _) => self.named(sequence, partition),
            (None, Some(key)) => Ok(murmur2::partition(key, count)),
            (None, None) => Ok(spread(sequence, count)),
        }
    }

    fn named(&mut self, sequence: Sequence, partition: i32) -> Result<usize, Unplaced> {
        let named = usize::try_from(partition).unwrap_or(usize::MAX);
        if named < self.partitions.count() {
            return Ok(named);
        }
        // It was added, and is adopted once nothing is in flight.
        if named < self.found {
            return Err(Unplaced::Answer(SinkError::Full));
        }
        // It may have been added since Kafka was asked last.
        if partition >= 0 && self.asked_for != Some(sequence) {
            return Err(Unplaced::Ask);
        }
        let reason = format!("partition {partition} is not there: `{}` has {}", self.name, self.found);
        Err(Unplaced::Answer(SinkError::Refused { what: Refusal::Other, reason }))
    }

    /// The lane of a partition.
    pub(super) fn lane(&self, partition: usize) -> Lane {
        self.lanes.of(partition)
    }
}

/// The partition of a record that has no key.
#[allow(clippy::cast_possible_truncation)]
fn spread(sequence: Sequence, count: usize) -> usize {
    (sequence / RUN % count.max(1) as u64) as usize
}

/// `org.apache.kafka.common.internals.Topic.validate`. Asked for another name a broker would say less clearly what is
/// wrong with it.
fn is_legal(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_MAX).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(is_legal)
}

fn illegal(name: &str) -> SinkError {
    let reason =
        format!("no topic can have the name `{name}`: at most {NAME_MAX} letters, digits, `.`, `_` and `-`");
    SinkError::Refused { what: Refusal::Other, reason }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use walpost_core::event::record::{Content, Headers, TopicId, TopicName};

    fn topic(partitions: usize) -> Topic {
        let mut topic = Topic::new("t".into());
        topic.found(partitions);
        topic.adopt(LaneRange::default(), Group::ALONE);
        topic
    }

    fn record<'a>(headers: &'a Headers, partition: Option<i32>, key: Option<&'a [u8]>) -> Record<'a> {
        Record {
            topic: TopicName { id: TopicId(0), name: "t" },
            partition,
            key,
            value: None,
            headers,
            timestamp_ms: 0,
            traceparent: None,
            content: Content::Event,
        }
    }

    fn placed(topic: &mut Topic, sequence: Sequence, partition: Option<i32>, key: Option<&[u8]>) -> usize {
        topic.partition(sequence, &record(&Headers::default(), partition, key)).unwrap()
    }

    #[test]
    fn keys_move_only_when_the_added_partitions_are_adopted() {
        let mut topic = topic(3);
        let before = placed(&mut topic, 0, None, Some(b"21"));
        topic.found(1_000);
        assert_eq!(topic.news(), Some(1_000));
        assert_eq!(placed(&mut topic, 0, None, Some(b"21")), before);
        topic.adopt(LaneRange::default(), Group::ALONE);
        assert_ne!(placed(&mut topic, 0, None, Some(b"21")), before);
        assert_eq!(topic.news(), None);
    }

    #[test]
    fn an_empty_key_is_a_key() {
        let mut topic = topic(1_000);
        let places: Vec<_> = (0..3).map(|run| placed(&mut topic, run * RUN, None, Some(b""))).collect();
        assert_eq!(places, [murmur2::partition(b"", 1_000); 3]);
    }

    #[test]
    fn records_without_a_key_go_to_the_partitions_in_runs_and_again_to_the_same() {
        let mut topic = topic(3);
        let mut runs =
            || (0..4 * RUN).map(|sequence| placed(&mut topic, sequence, None, None)).collect::<Vec<_>>();
        let places = runs();
        assert_eq!(places, runs());
        let runs: Vec<_> = places.chunk_by(|one, next| one == next).map(|run| (run[0], run.len())).collect();
        assert_eq!(runs, [(0, 64), (1, 64), (2, 64), (0, 64)]);
    }

    #[test]
    fn a_partition_that_is_named_is_used_and_one_that_is_not_there_is_refused_once_kafka_was_asked() {
        let mut topic = topic(6);
        assert_eq!(placed(&mut topic, 1, Some(5), Some(b"21")), 5);
        let headers = Headers::default();
        let named = |topic: &mut Topic, sequence, partition: i32| {
            topic.partition(sequence, &record(&headers, Some(partition), None)).unwrap_err()
        };
        assert_eq!(named(&mut topic, 2, 9), Unplaced::Ask, "it may be new");
        topic.asked(2);
        topic.found(6);
        let Unplaced::Answer(SinkError::Refused { what, reason }) = named(&mut topic, 2, 9) else {
            panic!("taken")
        };
        assert_eq!((what, reason.as_str()), (Refusal::Other, "partition 9 is not there: `t` has 6"));
        assert_eq!(named(&mut topic, 3, 9), Unplaced::Ask, "another record asks again");
        assert!(matches!(named(&mut topic, 4, -1), Unplaced::Answer(SinkError::Refused { .. })));
    }

    #[test]
    fn a_partition_that_was_added_waits_until_nothing_is_in_flight() {
        let mut topic = topic(6);
        topic.found(12);
        let headers = Headers::default();
        let record = &record(&headers, Some(9), None);
        assert_eq!(topic.partition(2, record), Err(Unplaced::Answer(SinkError::Full)));
        topic.adopt(LaneRange::default(), Group::ALONE);
        assert_eq!(topic.partition(2, record), Ok(9));
    }

    #[test]
    fn a_topic_that_is_missing_is_said_so_once_and_asked_for_again() {
        let missing = SinkError::TopicMissing { topic: "t".into(), brokers: "b:1".into() };
        let mut topic = Topic::new("t".into());
        assert_eq!(topic.stands(0), Err(Unplaced::Ask));
        topic.asked(0);
        assert_eq!(topic.stands(0), Err(Unplaced::Answer(SinkError::Full)));
        topic.failed(missing.clone());
        assert_eq!(topic.stands(0), Err(Unplaced::Answer(missing)));
        assert!(topic.is_awaited());
        assert_eq!(topic.stands(0), Err(Unplaced::Ask));
        topic.found(3);
        assert_eq!(topic.stands(0), Ok(()));
        assert!(!topic.is_awaited());
        topic.doubt();
        assert_eq!(topic.stands(0), Err(Unplaced::Ask));
    }

    #[test]
    fn a_name_that_no_topic_can_have_is_refused_and_nobody_is_asked() {
        let long = "x".repeat(NAME_MAX + 1);
        for name in ["", ".", "..", "a b", "a/b", "ä", "a\0", &long] {
            let mut topic = Topic::new(name.into());
            for _ in 0..2 {
                let answer = topic.stands(0);
                assert!(
                    matches!(answer, Err(Unplaced::Answer(SinkError::Refused { .. }))),
                    "{name}: {answer:?}"
                );
            }
        }
        assert!(is_legal("Orders.v1_eu-1") && is_legal(&long[1..]));
    }
}
