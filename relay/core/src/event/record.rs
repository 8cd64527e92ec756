//! A Kafka record as it is handed to a sink: views into the row and into the encoder's buffers, which are used again and
//! again.

use std::ops::Range;

/// A topic by its number in this process, so that a sink finds what it knows of it without hashing a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub u32);

/// Which topic a record goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicName<'a> {
    /// Its number, counted from 0 in the order in which topics were first named.
    pub id: TopicId,
    /// Its name.
    pub name: &'a str,
}

/// What a record carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// An event.
    Event,
    /// A row that cannot be published.
    DeadLetter,
}

/// A record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Where it goes.
    pub topic: TopicName<'a>,
    /// The partition, where the row says it; else the key's.
    pub partition: Option<i32>,
    /// The key; `None` is no key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a null value, which a compacted topic takes for a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, each name once.
    pub headers: &'a Headers,
    /// The record's timestamp, milliseconds since 1970-01-01 UTC; 0: that of its publishing.
    pub timestamp_ms: i64,
    /// The W3C trace context that the row has.
    pub traceparent: Option<&'a [u8]>,
    /// What it carries.
    pub content: Content,
}

/// Names and values of headers, in one buffer.
#[derive(Debug, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    entries: Vec<(Range<usize>, Option<Range<usize>>)>,
}

impl Headers {
    /// The headers in the order they were written; a value may be null.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.entries
            .iter()
            .map(|(name, value)| (self.name(name), value.clone().map(|value| &self.bytes[value])))
    }

    /// A header's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| *known == name).and_then(|(_, value)| value)
    }

    /// Bytes of names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    fn name(&self, name: &Range<usize>) -> &str {
        // Only text is written as a name.
        std::str::from_utf8(&self.bytes[name.clone()]).unwrap_or_default()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    /// Takes a header away.
    pub(super) fn remove(&mut self, name: &str) {
        let bytes = &self.bytes;
        self.entries.retain(|(known, _)| &bytes[known.clone()] != name.as_bytes());
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Adds a header; one that has the name already makes room for it.
    ///
    /// # Errors
    /// Those of `write`, which says whether there is a header at all.
    pub(super) fn set<E>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name.as_bytes());
        let value = self.bytes.len();
        if write(&mut self.bytes)? {
            self.put(start..value, Some(value..self.bytes.len()));
        } else {
            self.bytes.truncate(start);
        }
        Ok(())
    }

    /// Adds a header with such a value.
    pub(super) fn text(&mut self, name: &str, value: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name.as_bytes());
        let at = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.put(start..at, Some(at..self.bytes.len()));
    }

    /// The buffer, to write a name and a value into that are then [`put`](Self::put).
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Adds a header whose name and value stand in the buffer.
    pub(super) fn put(&mut self, name: Range<usize>, value: Option<Range<usize>>) {
        let known =
            self.entries.iter().position(|(known, _)| self.bytes[known.clone()] == self.bytes[name.clone()]);
        match known {
            Some(index) => self.entries[index] = (name, value),
            None => self.entries.push((name, value)),
        }
    }
}
