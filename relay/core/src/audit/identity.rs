//! What identifies a record, and what is compared of it.
//!
//! One function looks at both sides: at a record that a row gives now, and at one that lies in a topic. The identity is, in
//! this order:
//!
//! 1. `ce_source` and `ce_id`, which is what consumers deduplicate by;
//! 2. the topic and a header that is the row's id, where the settings write one (as `id` of the preset `debezium`);
//! 3. topic, key and value.
//!
//! With 1 and 2 a record whose content differs is found *altered*; with 3 it is another record. The place in the WAL
//! (`wal-lsn`, `wal-seq`) identifies nothing here: a row that stands in the table does not know it.
//!
//! Digests are SipHash with keys of this process' own: 128 bits for the identity, so that of a hundred million records no
//! two fall together (the chance is below 2⁻⁷⁴), and 64 bits for each part of the content, of which two are compared only
//! where the identity is the same.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use crate::event::render::REPLAY_HEADER;
use crate::lsn::Lsn;

/// A record, from either side. Headers come in any order.
#[derive(Debug, Clone)]
pub struct View<'a, H> {
    /// Its topic.
    pub topic: &'a str,
    /// Its key; `None` is no key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a null value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: H,
}

/// What is seen of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Which record it is.
    pub identity: u128,
    /// Topic, key and value.
    pub body: u64,
    /// Its headers, without those that are walpost's own and the trace context.
    pub headers: u64,
    /// Its place in the WAL, where it says one: `wal-lsn`, `wal-seq`.
    pub place: Option<(u64, u64)>,
    /// Topic and key; `None` without a key.
    pub key: Option<u64>,
    /// Its source, where it says one: numbers of rows mean something within one source only.
    pub source: u32,
    /// Whether it was sent by `walpost replay`.
    pub is_replay: bool,
}

/// Makes digests.
#[derive(Debug)]
pub struct Fingerprints {
    one: RandomState,
    two: RandomState,
    /// Headers that hold the row's id.
    id_headers: Vec<String>,
    /// Whether content is compared.
    compares: bool,
}

impl Fingerprints {
    /// With keys of their own. `id_headers` hold the row's id, beside `ce_id`; without `compares` records are found by their
    /// ids alone, since their content says where the row stands in the WAL.
    #[must_use]
    pub fn new(id_headers: Vec<String>, compares: bool) -> Self {
        Self { one: RandomState::new(), two: RandomState::new(), id_headers, compares }
    }

    /// What is seen of a record.
    pub fn of<'a, H>(&self, view: View<'a, H>) -> Seen
    where
        H: Iterator<Item = (&'a str, Option<&'a [u8]>)>,
    {
        let topic = view.topic.as_bytes();
        let (mut id, mut source, mut other_id) = (None, None, None::<(usize, &[u8])>);
        let (mut lsn, mut ordinal, mut is_replay, mut headers) = (None, None, false, 0_u64);
        for (name, value) in view.headers {
            match (name, value) {
                ("ce_id", Some(value)) => id = Some(value),
                ("ce_source", Some(value)) => source = Some(value),
                ("wal-lsn", Some(value)) => lsn = text(value).and_then(|text| text.parse::<Lsn>().ok()),
                ("wal-seq", Some(value)) => ordinal = text(value).and_then(|text| text.parse().ok()),
                (REPLAY_HEADER, _) => is_replay = true,
                _ => {}
            }
            if let Some(rank) = self.id_headers.iter().position(|known| known == name)
                && let Some(value) = value
                && other_id.is_none_or(|(known, _)| rank < known)
            {
                other_id = Some((rank, value));
            }
            if self.compares && !is_own(name) {
                // In any order: another tool may have written them.
                headers = headers.wrapping_add(self.small(&[Some(name.as_bytes()), value]));
            }
        }
        let identity = match (id, source, other_id) {
            (Some(id), Some(source), _) => self.digest(b"event", &[Some(source), Some(id)]),
            (_, _, Some((rank, id))) => {
                let name = self.id_headers[rank].as_bytes();
                self.digest(b"header", &[Some(topic), Some(name), Some(id)])
            }
            _ => self.digest(b"content", &[Some(topic), view.key, view.value]),
        };
        Seen {
            identity,
            body: if self.compares { self.small(&[Some(topic), view.key, view.value]) } else { 0 },
            headers,
            place: lsn.map(|lsn| (lsn.0, ordinal.unwrap_or_default())),
            key: view.key.map(|key| self.small(&[Some(topic), Some(key)])),
            source: source.map_or(0, |source| self.source(source)),
            is_replay,
        }
    }

    /// What a row and its dead letter have in common: the table, and the id or, where there is none, the row as JSON.
    #[must_use]
    pub fn letter(&self, table: &str, id: Option<&[u8]>, row: impl FnOnce() -> Vec<u8>) -> u128 {
        match id {
            Some(id) => self.digest(b"letter", &[Some(table.as_bytes()), Some(id)]),
            None => self.digest(b"letter of a row", &[Some(table.as_bytes()), Some(&row())]),
        }
    }

    /// An identity that no record has: that of a row which gives none.
    #[must_use]
    pub fn of_no_record(&self, table: u32, number: i64) -> u128 {
        self.digest(b"none", &[Some(&table.to_be_bytes()), Some(&number.to_be_bytes())])
    }

    /// A source's number; never 0, which is none.
    fn source(&self, source: &[u8]) -> u32 {
        let digest = self.small(&[Some(source)]).to_be_bytes();
        u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]).max(1)
    }

    fn digest(&self, what: &[u8], parts: &[Option<&[u8]>]) -> u128 {
        let half = |state: &RandomState| {
            let mut hasher = state.build_hasher();
            hasher.write(what);
            write(&mut hasher, parts);
            u128::from(hasher.finish())
        };
        half(&self.one) << 64 | half(&self.two)
    }

    fn small(&self, parts: &[Option<&[u8]>]) -> u64 {
        let mut hasher = self.one.build_hasher();
        write(&mut hasher, parts);
        hasher.finish()
    }
}

/// Null is another than empty, and each part has its length before it.
fn write(hasher: &mut impl std::hash::Hasher, parts: &[Option<&[u8]>]) {
    for part in parts {
        match part {
            None => hasher.write_u8(0),
            Some(bytes) => {
                hasher.write_u8(1);
                hasher.write_usize(bytes.len());
                hasher.write(bytes);
            }
        }
    }
}

/// Headers that the same row may have with another value, or not at all: its place, and the trace of its delivery.
fn is_own(name: &str) -> bool {
    name.starts_with("wal-") || name.starts_with("walpost-") || name == "traceparent" || name == "tracestate"
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
