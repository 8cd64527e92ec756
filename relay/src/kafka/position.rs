//! The topic that holds the position, with exactly-once delivery: what is written there, and how it is read.
//!
//! Each transaction ends with one record in it, which says how far the stream is with that transaction
//! ([`Mark`]); the last committed one is what Kafka holds. The topic has one partition and is compacted, so the last record
//! stays as long as the topic does, however long a relay is away; one process at a time may write to it, that with the
//! transactional ids, which come of the topic's name.
//!
//! Read after `init_transactions`, which waits until what an earlier producer of the name had open is committed or aborted
//! everywhere (KIP-98, "InitPidRequest"): then the last committed record is the last word. That the partition is read up to
//! its end, and not up to a transaction that hangs in it, is made sure of.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::clients::{Quiet, client_config, keep_signed_in, unusable};
use super::failure::is_denied;
use crate::config::KafkaSettings;
use walpost_core::lsn::Lsn;
use walpost_core::publish::sink::Reach;
use walpost_core::publish::sink::SinkError;
use walpost_core::publish::transactions::Mark;
use walpost_core::window::copied::CopyId;
use walpost_core::window::progress::Place;

/// How what is written is to be understood.
const VERSION: u32 = 1;

/// Records looked at first, from the end: each transaction leaves one and a mark of Kafka's own, and those that were aborted
/// leave theirs.
const LOOKED_BACK: i64 = 64;

/// How often it is asked whether the partition can be read up to its end.
const STABLE_INTERVAL: Duration = Duration::from_millis(20);

/// In whose name a position is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The server's identifier, as IDENTIFY_SYSTEM gives it.
    pub system: String,
    /// Its timeline.
    pub timeline: u32,
    /// The slot.
    pub slot: String,
    /// The session that has the slot.
    pub epoch: i64,
    /// What is followed: events of a transaction are counted among these.
    pub followed: String,
}

/// A position as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// In whose name it was written.
    pub of: Identity,
    /// What it was known then that the slot may be moved to: a ledger that knows less went back in time.
    pub remembered: Lsn,
    /// How far all is.
    pub mark: Mark,
}

/// The record's value, as JSON: for people, too.
#[derive(Debug, Serialize, Deserialize)]
struct Written {
    version: u32,
    system: String,
    timeline: u32,
    slot: String,
    epoch: i64,
    followed: String,
    transaction: u64,
    remembered: String,
    #[serde(default)]
    stream: Option<WrittenPlace>,
    #[serde(default)]
    copy: Option<WrittenCopy>,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenPlace {
    commit_lsn: String,
    committed_at_us: i64,
    events: u64,
    whole: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct WrittenCopy {
    table_oid: u32,
    through: i64,
    streamed_from: i64,
    copied: i64,
}

impl Position {
    /// The record's value.
    pub(super) fn write(&self) -> Result<Vec<u8>, serde_json::Error> {
        let Self { of, remembered, mark: Mark { epoch, number, reach } } = self;
        let written = Written {
            version: VERSION,
            system: of.system.clone(),
            timeline: of.timeline,
            slot: of.slot.clone(),
            epoch: *epoch,
            followed: of.followed.clone(),
            transaction: *number,
            remembered: remembered.to_string(),
            stream: reach.place.map(|place| WrittenPlace {
                commit_lsn: place.commit.to_string(),
                committed_at_us: place.committed_at,
                events: place.events,
                whole: place.whole,
            }),
            copy: reach.copied.map(|(copy, copied)| WrittenCopy {
                table_oid: copy.table,
                through: copy.through,
                streamed_from: copy.streamed_from,
                copied,
            }),
        };
        serde_json::to_vec(&written)
    }

    fn read(value: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(value).map_err(|error| error.to_string())?;
        if written.version != VERSION {
            return Err(format!("it has version {}, and this walpost knows {VERSION}", written.version));
        }
        let lsn = |text: &str| text.parse::<Lsn>().map_err(|error| error.to_string());
        let place = written.stream.map(|place| {
            let WrittenPlace { commit_lsn, committed_at_us: committed_at, events, whole } = place;
            Ok::<_, String>(Place { commit: lsn(&commit_lsn)?, committed_at, events, whole })
        });
        let copied = written.copy.map(|copy| {
            let WrittenCopy { table_oid: table, through, streamed_from, copied } = copy;
            (CopyId { table, through, streamed_from }, copied)
        });
        let Written { system, timeline, slot, epoch, followed, transaction: number, .. } = written;
        let reach = Reach { place: place.transpose()?, copied };
        Ok(Self {
            of: Identity { system, timeline, slot, epoch, followed },
            remembered: lsn(&written.remembered)?,
            mark: Mark { epoch, number, reach },
        })
    }
}

/// The second transactional id, by the first: no topic can have that name, so it is no other relay's first.
pub(super) fn second_id(first: &str) -> String {
    format!("{first}~2")
}

/// The topic.
#[derive(Debug, Clone)]
pub(super) struct PositionTopic {
    kafka: KafkaSettings,
    pub(super) name: String,
}

impl PositionTopic {
    pub(super) fn of(kafka: &KafkaSettings) -> Option<Self> {
        let name = kafka.position_topic.clone()?;
        Some(Self { kafka: kafka.clone(), name })
    }

    /// The transactional ids of two producers that take turns.
    pub(super) fn transactional_ids(&self) -> [String; 2] {
        [self.name.clone(), second_id(&self.name)]
    }

    /// The position that was committed last. Waits itself: for a thread where it may.
    pub(super) fn last(&self, timeout: Duration) -> Result<Option<Position>, SinkError> {
        let deadline = Instant::now() + timeout;
        let (first, end) = self.consumer("read_uncommitted")?.ends(self, timeout)?;
        let mut back = LOOKED_BACK;
        loop {
            let from = first.max(end - back);
            let last = self.last_from(from, end, deadline)?;
            if last.is_some() || from == first {
                return last
                    .map(|value| Position::read(&value).map_err(|why| self.unreadable(&why)))
                    .transpose();
            }
            back *= 16;
        }
    }

    /// The last value that is committed of those from `from` on, before `end`.
    fn last_from(&self, from: i64, end: i64, deadline: Instant) -> Result<Option<Vec<u8>>, SinkError> {
        if from >= end {
            return Ok(None);
        }
        let reader = self.consumer("read_committed")?;
        while reader.ends(self, remaining(deadline))?.1 < end {
            if Instant::now() >= deadline {
                return Err(self.unreachable(
                    "a transaction that nobody ended keeps its end from being read: look with \
                    kafka-transactions.sh find-hanging",
                ));
            }
            std::thread::sleep(STABLE_INTERVAL);
        }
        let mut assignment = TopicPartitionList::new();
        let added = assignment.add_partition_offset(&self.name, 0, Offset::Offset(from));
        added.and_then(|()| reader.0.assign(&assignment)).map_err(|error| self.failed(&error))?;
        let mut last = None;
        loop {
            match reader.0.poll(remaining(deadline)) {
                Some(Ok(message)) => {
                    last = message.payload().map(<[u8]>::to_vec).or(last);
                    if message.offset() + 1 >= end {
                        return Ok(last);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(last),
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_denied) => {
                    return Err(self.failed(&error));
                }
                // A broker is away, or has something against the group that is not joined.
                Some(Err(_)) | None if Instant::now() < deadline => {}
                Some(Err(error)) => return Err(self.failed(&error)),
                None => return Err(self.unreachable("it was not read in time")),
            }
        }
    }

    fn consumer(&self, isolation: &str) -> Result<Reader, SinkError> {
        let mut config = client_config(&self.kafka);
        config
            // A group's name is asked for even where none is joined.
            .set("group.id", "walpost-position")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            // At the end a broker would wait for more.
            .set("fetch.wait.max.ms", "10")
            .set("isolation.level", isolation)
            // A replica that is near may be behind.
            .remove("client.rack");
        let consumer: BaseConsumer<Quiet> =
            config.create_with_context(Quiet).map_err(|error| unusable(&error))?;
        keep_signed_in(consumer.client(), self.kafka.sign_in.as_ref(), &self.kafka.brokers)?;
        Ok(Reader(consumer))
    }

    fn failed(&self, error: &KafkaError) -> SinkError {
        match error.rdkafka_error_code() {
            Some(code) if is_denied(code) => SinkError::TopicDenied {
                topic: self.name.clone(),
                reason: format!("{code}: the position is read there, so READ is needed as well"),
            },
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownPartition) => {
                SinkError::TopicMissing { topic: self.name.clone(), brokers: self.kafka.brokers.clone() }
            }
            _ => self.unreachable(&error.to_string()),
        }
    }

    fn unreachable(&self, reason: &str) -> SinkError {
        let reason = format!("{reason} (topic `{}`, which holds the position)", self.name);
        SinkError::Unreachable { brokers: self.kafka.brokers.clone(), reason }
    }

    fn unreadable(&self, why: &str) -> SinkError {
        SinkError::Position {
            topic: self.name.clone(),
            why: format!("its last record is no position: {why}"),
        }
    }

    /// Whether a position was written for this server and slot.
    pub(super) fn check(&self, found: &Identity, own: &Identity) -> Result<(), SinkError> {
        if (&found.system, &found.slot) == (&own.system, &own.slot) {
            return Ok(());
        }
        let why = format!(
            "it holds the position of the slot {} on the server with the system identifier {}, and this is {} on {}",
            found.slot, found.system, own.slot, own.system
        );
        Err(SinkError::Position { topic: self.name.clone(), why })
    }
}

/// A consumer that is in no group.
struct Reader(BaseConsumer<Quiet>);

impl Reader {
    /// The first offset and the end, as far as the consumer may read.
    fn ends(&self, topic: &PositionTopic, timeout: Duration) -> Result<(i64, i64), SinkError> {
        self.0.fetch_watermarks(&topic.name, 0, timeout).map_err(|error| topic.failed(&error))
    }
}

fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_position_is_read_as_it_was_written() {
        let place =
            Place { commit: Lsn(0x1_0000_0010), committed_at: i64::MIN, events: u64::MAX, whole: true };
        let copy = CopyId { table: 7, through: i64::MAX, streamed_from: 5 };
        for reach in [
            Reach::default(),
            Reach { place: Some(place), copied: None },
            Reach { place: Some(place), copied: Some((copy, i64::MIN)) },
        ] {
            let (system, slot, followed) = ("7".into(), "walpost".into(), "0a".into());
            let of = Identity { system, timeline: 3, slot, epoch: 9, followed };
            let mark = Mark { epoch: 9, number: 4, reach };
            let position = Position { of, remembered: Lsn(5), mark };
            assert_eq!(Position::read(&position.write().unwrap()), Ok(position));
        }
    }

    #[test]
    fn a_position_of_a_later_version_is_not_taken_for_one_that_is_known() {
        let later = r#"{"version":2,"system":"7","timeline":1,"slot":"s","epoch":1,"followed":"","transaction":1,"remembered":"0/0"}"#;
        let said = Position::read(later.as_bytes()).unwrap_err();
        assert!(said.contains("version 2"), "{said}");
        assert!(Position::read(b"hello").is_err());
    }
}
