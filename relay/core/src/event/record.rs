//! A Kafka record as it is handed to a sink: views into the row and into the encoder's buffers, which are used again and
//! again.

use std::convert::Infallible;
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

/// Where a header's name and value stand.
type Written = (Range<usize>, Range<usize>);

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
        let of_name = |(known, _): &&(Range<usize>, _)| self.bytes[known.clone()] == *name.as_bytes();
        self.entries.iter().find(of_name).and_then(|(_, value)| value.clone()).map(|value| &self.bytes[value])
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
        if let Some((name, value)) = self.written(name, write)? {
            self.put(name, Some(value));
        }
        Ok(())
    }

    /// Adds a header of a name that no other can have.
    ///
    /// # Errors
    /// As [`set`](Self::set).
    pub(super) fn add<E>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<(), E> {
        debug_assert!(self.get(name).is_none(), "{name} is there");
        if let Some((name, value)) = self.written(name, write)? {
            self.entries.push((name, Some(value)));
        }
        Ok(())
    }

    /// The same with a value that is there.
    pub(super) fn add_text(&mut self, name: &str, value: &[u8]) {
        let added: Result<(), Infallible> = self.add(name, |into| {
            into.extend_from_slice(value);
            Ok(true)
        });
        let Ok(()) = added;
    }

    /// Writes a name and its value into the buffer, or nothing.
    fn written<E>(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<bool, E>,
    ) -> Result<Option<Written>, E> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name.as_bytes());
        let value = self.bytes.len();
        if write(&mut self.bytes)? {
            return Ok(Some((start..value, value..self.bytes.len())));
        }
        self.bytes.truncate(start);
        Ok(None)
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
