//! Kafka's frames, as far as a proxy must understand them: whose Produce request this is, and how it is refused.
//!
//! A frame is a length (32 bits, its own four bytes not counted) and so many bytes. Requests begin with the API key, the
//! version and the correlation id; answers with the correlation id. The fields are those of `RequestHeader.json`,
//! `ProduceRequest.json` and `ProduceResponse.json` in Apache Kafka, which from version 9 on are "flexible" (KIP-482):
//! lengths are varints and one too large, and each structure ends with tagged fields. Version 13 names topics by id.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The API key of Produce.
const PRODUCE: i16 = 0;
/// The first version with `transactional_id`, and the first that Kafka 4 takes.
const OLDEST: i16 = 3;
/// The first flexible version.
const FLEXIBLE: i16 = 9;
/// The first version with the id of a topic in place of its name.
const BY_ID: i16 = 13;
/// Larger than any request of a test: what claims more is not Kafka's protocol.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// Where a record batch of format 2 has the id of its producer; its epoch and first sequence follow.
const PRODUCER_ID_AT: usize = 43;

/// The topic that a request names, as its version names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Topic {
    Name(String),
    Id([u8; 16]),
}

/// What a Produce request has for one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) partition: i32,
    /// −1 for a producer that is not idempotent.
    pub(super) producer: i64,
    /// The sequence of the first record: 0 for the first that this producer id sends to this partition.
    pub(super) sequence: i32,
}

/// A Produce request, without its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Produce {
    version: i16,
    correlation: i32,
    pub(super) topics: Vec<(Topic, Vec<Batch>)>,
}

/// The next frame without its length; `None` at the end.
pub(crate) async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let length = match from.read_i32().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        length => length?,
    };
    let length = usize::try_from(length).ok().filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| io::Error::other("the length of a frame is out of range"))?;
    let mut frame = vec![0; length];
    from.read_exact(&mut frame).await?;
    Ok(Some(frame))
}

/// `frame` with its length before it.
pub(crate) fn with_length(frame: &[u8]) -> Vec<u8> {
    let length = i32::try_from(frame.len()).unwrap_or(i32::MAX);
    [&length.to_be_bytes(), frame].concat()
}

/// The correlation id of an answer.
pub(super) fn answered(frame: &[u8]) -> Option<i32> {
    Reader(frame).i32()
}

/// Whether it asks for the end of a transaction (`EndTxnRequest.json` in Apache Kafka).
pub(super) fn ends_a_transaction(frame: &[u8]) -> bool {
    frame.starts_with(&26_i16.to_be_bytes())
}

/// The correlation id of a request.
pub(super) fn asked(frame: &[u8]) -> Option<i32> {
    Reader(frame.get(4..)?).i32()
}

impl Produce {
    /// Reads a request that is answered; `None` for every other frame, and for versions that Kafka 4 does not know.
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let mut reader = Reader(frame);
        let (key, version, correlation) = (reader.i16()?, reader.i16()?, reader.i32()?);
        if key != PRODUCE || !(OLDEST..=BY_ID).contains(&version) {
            return None;
        }
        // The header's own string keeps its old form, so that any server can read it.
        reader.text(false)?;
        let flexible = version >= FLEXIBLE;
        if flexible {
            reader.tags()?;
        }
        reader.text(flexible)?; // the transactional id
        let acks = reader.i16()?;
        reader.i32()?; // the time-out
        let topics = reader.list(flexible, |reader| topic(reader, version))?;
        (acks != 0).then_some(Self { version, correlation, topics })
    }

    pub(super) fn correlation(&self) -> i32 {
        self.correlation
    }

    /// Whether both have records for one partition.
    pub(super) fn shares_a_partition_with(&self, other: &Self) -> bool {
        let partitions = |produce: &Self| -> Vec<(Topic, i32)> {
            let of = |(topic, batches): &(Topic, Vec<Batch>)| {
                batches.iter().map(|batch| (topic.clone(), batch.partition)).collect::<Vec<_>>()
            };
            produce.topics.iter().flat_map(of).collect()
        };
        let theirs = partitions(other);
        partitions(self).iter().any(|partition| theirs.contains(partition))
    }

    /// The answer that refuses each of its batches with `error`, a code of Kafka's `Errors`.
    pub(super) fn refused(&self, error: i16) -> Vec<u8> {
        let flexible = self.version >= FLEXIBLE;
        let mut out = Writer(self.correlation.to_be_bytes().to_vec());
        out.tags(flexible);
        out.length(flexible, self.topics.len());
        for (topic, batches) in &self.topics {
            match topic {
                Topic::Name(name) => out.text(flexible, name),
                Topic::Id(id) => out.0.extend(id),
            }
            out.length(flexible, batches.len());
            for batch in batches {
                self.refused_batch(&mut out, batch.partition, error);
            }
            out.tags(flexible);
        }
        out.0.extend(0_i32.to_be_bytes()); // throttled for so long
        out.tags(flexible);
        out.0
    }

    fn refused_batch(&self, out: &mut Writer, partition: i32, error: i16) {
        let flexible = self.version >= FLEXIBLE;
        out.0.extend(partition.to_be_bytes());
        out.0.extend(error.to_be_bytes());
        // No offset, no time of appending.
        out.0.extend([(-1_i64).to_be_bytes(), (-1_i64).to_be_bytes()].concat());
        if self.version >= 5 {
            out.0.extend((-1_i64).to_be_bytes()); // the first offset of the partition
        }
        if self.version >= 8 {
            out.length(flexible, 0); // no record is named
            out.no_text(flexible);
        }
        out.tags(flexible);
    }
}

fn topic(reader: &mut Reader<'_>, version: i16) -> Option<(Topic, Vec<Batch>)> {
    let flexible = version >= FLEXIBLE;
    let topic = if version >= BY_ID {
        Topic::Id(reader.take(16)?.try_into().ok()?)
    } else {
        Topic::Name(String::from_utf8(reader.text(flexible)??.to_vec()).ok()?)
    };
    let batches = reader.list(flexible, |reader| batch(reader, flexible))?;
    if flexible {
        reader.tags()?;
    }
    Some((topic, batches))
}

fn batch(reader: &mut Reader<'_>, flexible: bool) -> Option<Batch> {
    let partition = reader.i32()?;
    let length =
        if flexible { reader.varint()?.checked_sub(1)? } else { usize::try_from(reader.i32()?).ok()? };
    let mut records = Reader(reader.take(length)?.get(PRODUCER_ID_AT..)?);
    let (producer, _epoch, sequence) = (records.i64()?, records.i16()?, records.i32()?);
    if flexible {
        reader.tags()?;
    }
    Some(Batch { partition, producer, sequence })
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, left) = self.0.split_at_checked(count)?;
        self.0 = left;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    fn varint(&mut self) -> Option<usize> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.take(1)?[0];
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A string, which may be null.
    fn text(&mut self, flexible: bool) -> Option<Option<&'a [u8]>> {
        let length = if flexible { self.varint()?.checked_sub(1) } else { usize::try_from(self.i16()?).ok() };
        match length {
            Some(length) => self.take(length).map(Some),
            None => Some(None),
        }
    }

    fn list<T>(&mut self, flexible: bool, item: impl Fn(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count =
            if flexible { self.varint()?.checked_sub(1)? } else { usize::try_from(self.i32()?).ok()? };
        (0..count).map(|_| item(self)).collect()
    }

    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let length = self.varint()?;
            self.take(length)?;
        }
        Some(())
    }
}

/// What is written so far. A "flexible" structure has its lengths as varints, and tagged fields at its end.
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn int32(&mut self, value: i32) {
        self.0.extend(value.to_be_bytes());
    }

    fn varint(&mut self, mut value: usize) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                return self.0.push(low & 0x7f);
            }
            self.0.push(low | 0x80);
        }
    }

    /// A signed number as records have it: small ones of either sign are short.
    pub(crate) fn zigzag(&mut self, value: i64) {
        self.varint(usize::try_from((value << 1) ^ (value >> 63)).unwrap_or(usize::MAX));
    }

    pub(crate) fn length(&mut self, flexible: bool, count: usize) {
        if flexible {
            self.varint(count + 1);
        } else {
            self.0.extend(u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
        }
    }

    pub(crate) fn text(&mut self, flexible: bool, text: &str) {
        if flexible {
            self.varint(text.len() + 1);
        } else {
            self.0.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
        self.0.extend(text.as_bytes());
    }

    pub(crate) fn no_text(&mut self, flexible: bool) {
        if flexible {
            self.varint(0);
        } else {
            self.0.extend((-1_i16).to_be_bytes());
        }
    }

    /// No tagged field, where the version has them at all.
    pub(crate) fn tags(&mut self, flexible: bool) {
        if flexible {
            self.varint(0);
        }
    }
}

#[cfg(test)]
mod tests;
