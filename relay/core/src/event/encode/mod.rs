//! `OutboxEvent` → Kafka record: key, value, headers and timestamp, in buffers that are used again and again.
//!
//! Headers follow CloudEvents 1.0, Kafka protocol binding, binary content mode
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md>), with the W3C
//! trace context and the event's place in the log beside them. The same event at the same place always gives the same
//! bytes.

mod package_event;

use std::io::Write as _;
use std::ops::Range;
use std::time::Duration;

use uuid::Uuid;

use crate::event::dead_letter::DeadLetter;
use crate::event::position::{Entry, PlacedEvent, Position};
use crate::event::{Key, Kind, Role};
use crate::time;

/// How values are encoded and what the headers say of their source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncoderSettings {
    /// The value's format.
    pub format: Format,
    /// `ce_source`.
    pub source: String,
    /// `ce_type` is this and the event's type in lower case.
    pub type_prefix: String,
}

/// The format of a record's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The protobuf message `hablof.proto.v1.PackageEvent`.
    PackageEvent,
}

impl Format {
    /// As the setting names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PackageEvent => "package-event",
        }
    }

    /// The kinds of value that it can hold in a role.
    #[must_use]
    pub fn kinds(self, role: Role) -> &'static [Kind] {
        match (self, role) {
            // A package's id.
            (Self::PackageEvent, Role::Key) => &[Kind::Integer],
            (Self::PackageEvent, _) => role.kinds(),
        }
    }

    /// The types of event that it knows.
    #[must_use]
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::PackageEvent => &package_event::TYPES,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::PackageEvent => "application/protobuf",
        }
    }
}

/// The event does not fit the format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The format has no such type.
    #[error("event type `{0}` is not one of {known}", known = package_event::TYPES.join(", "))]
    UnknownType(String),
    /// The format wants the key to be a number.
    #[error("the key of a PackageEvent is a package id, a number; this one is not")]
    KeyNotANumber,
    /// Ids are unsigned in the format.
    #[error("{what} is negative: {number}")]
    Negative {
        /// Which number.
        what: &'static str,
        /// Its value.
        number: i64,
    },
}

/// A record, borrowed from the encoder that made it.
#[derive(Debug, Default)]
pub struct Record {
    /// The record's key.
    pub key: Vec<u8>,
    /// The record's value.
    pub value: Vec<u8>,
    /// The record's headers.
    pub headers: Headers,
    /// The record's timestamp, milliseconds since 1970-01-01 UTC; 0: that of its publishing.
    pub timestamp_ms: i64,
    /// The topic it goes to.
    pub destination: Destination,
}

/// Which topic a record goes to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// That of events.
    #[default]
    Events,
    /// That of dead letters.
    DeadLetters,
}

/// Names and values of headers, in one buffer.
#[derive(Debug, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    entries: Vec<(&'static str, Range<usize>)>,
}

impl Headers {
    /// The headers in the order they were written.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, &[u8])> {
        self.entries.iter().map(|(name, range)| (*name, &self.bytes[range.clone()]))
    }

    /// Bytes of names and values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() + self.entries.iter().map(|(name, _)| name.len()).sum::<usize>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
    }

    fn add(&mut self, name: &'static str, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        write(&mut self.bytes);
        self.entries.push((name, start..self.bytes.len()));
    }

    fn text(&mut self, name: &'static str, value: &[u8]) {
        self.add(name, |bytes| bytes.extend_from_slice(value));
    }
}

/// Encodes events into a record that it keeps for the next.
#[derive(Debug)]
pub struct Encoder {
    settings: EncoderSettings,
    record: Record,
    /// Microseconds after which an event is late.
    late_after: Option<i64>,
    /// The time of day, microseconds since 1970-01-01 UTC.
    now: i64,
}

impl Encoder {
    /// An encoder with empty buffers.
    #[must_use]
    pub fn new(settings: EncoderSettings) -> Self {
        Self { settings, record: Record::default(), late_after: None, now: 0 }
    }

    /// Events that are published so much later than they were committed have the time of their publishing.
    #[must_use]
    pub fn with_late_after(self, late_after: Option<Duration>) -> Self {
        let micros = |late: Duration| i64::try_from(late.as_micros()).unwrap_or(i64::MAX);
        Self { late_after: late_after.map(micros), ..self }
    }

    /// Says what time it is, microseconds since 1970-01-01 UTC: an event is late by that.
    pub fn at(&mut self, now: i64) {
        self.now = now;
    }

    /// The time of a record, in milliseconds. Retention counts from it, and brokers forget an idle producer by it: a topic may
    /// lose a record at once that it has acknowledged, when its event is older than what the topic keeps.
    fn record_time(&self, committed_at: i64) -> i64 {
        if self.late_after.is_some_and(|late| self.now.saturating_sub(committed_at) > late) {
            return 0;
        }
        // Kafka knows no time before 1970, and 0 stands for that of publishing: the same row always has the same time.
        committed_at.div_euclid(1_000).max(1)
    }

    /// The record of an event or of a dead letter.
    ///
    /// # Errors
    /// When the event does not fit the format.
    pub fn encode_entry(&mut self, entry: &Entry) -> Result<&Record, EncodeError> {
        match entry {
            Entry::Event(placed) => self.encode(placed),
            Entry::Dead(letter) => Ok(self.encode_dead(letter)),
        }
    }

    /// The record of a dead letter: the row as JSON, and what is known of it in headers.
    fn encode_dead(&mut self, letter: &DeadLetter) -> &Record {
        let Record { key, value, headers, timestamp_ms, destination } = &mut self.record;
        key.clear();
        if let Some(known) = &letter.key {
            write_key(known, key);
        }
        *value = letter.row_bytes();
        // Not the row's: that may be what Kafka refuses.
        *timestamp_ms = 0;
        *destination = Destination::DeadLetters;
        headers.clear();
        headers.text("walpost-reason", letter.reason.as_bytes());
        headers.text("walpost-table", letter.table.as_bytes());
        if let Some(event_id) = letter.event_id {
            headers.add("ce_id", |bytes| write_uuid(event_id, bytes));
        }
        headers.text("ce_source", self.settings.source.as_bytes());
        headers.text("content-type", b"application/json");
        if let Some(bytes) = letter.cut_from {
            headers.add("walpost-row-cut-from-bytes", |into| write_number(bytes, into));
        }
        write_position(letter.position, headers);
        &self.record
    }

    /// The record of an event.
    ///
    /// # Errors
    /// When the event does not fit the format.
    pub fn encode(&mut self, placed: &PlacedEvent) -> Result<&Record, EncodeError> {
        let PlacedEvent { event, position, .. } = placed;
        self.record.key.clear();
        write_key(&event.key, &mut self.record.key);
        self.record.value.clear();
        match self.settings.format {
            Format::PackageEvent => package_event::encode(event, &mut self.record.value)?,
        }
        self.record.destination = Destination::Events;
        self.record.timestamp_ms = self.record_time(position.committed_at);
        self.write_headers(placed);
        Ok(&self.record)
    }

    fn write_headers(&mut self, placed: &PlacedEvent) {
        let PlacedEvent { event, position, .. } = placed;
        let Record { key, headers, .. } = &mut self.record;
        headers.clear();
        headers.text("ce_specversion", b"1.0");
        headers.add("ce_id", |bytes| write_uuid(event.event_id, bytes));
        headers.text("ce_source", self.settings.source.as_bytes());
        headers.add("ce_type", |bytes| {
            bytes.extend_from_slice(self.settings.type_prefix.as_bytes());
            bytes.extend(event.kind.iter().map(u8::to_ascii_lowercase));
        });
        headers.add("ce_time", |bytes| time::write_rfc3339(event.created_at, bytes));
        headers.text("ce_subject", key);
        headers.text("content-type", self.settings.format.content_type().as_bytes());
        if let Some(traceparent) = &event.traceparent {
            headers.text("traceparent", traceparent);
        }
        write_position(*position, headers);
    }
}

fn write_position(position: Position, headers: &mut Headers) {
    // Writing into a Vec cannot fail.
    headers.add("wal-lsn", |bytes| drop(write!(bytes, "{}", position.lsn)));
    headers.add("wal-seq", |bytes| write_number(position.ordinal, bytes));
}

fn write_key(key: &Key, into: &mut Vec<u8>) {
    match key {
        Key::Integer(number) => write_number(*number, into),
        Key::Text(text) => into.extend_from_slice(text),
        Key::Uuid(uuid) => into.extend_from_slice(uuid.hyphenated().encode_lower(&mut [0; 36]).as_bytes()),
    }
}

fn write_uuid(uuid: Uuid, into: &mut Vec<u8>) {
    into.extend_from_slice(uuid.hyphenated().encode_lower(&mut [0; 36]).as_bytes());
}

fn write_number(number: impl itoa::Integer, into: &mut Vec<u8>) {
    into.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests;
