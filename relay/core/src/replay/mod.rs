//! What the fuzzer does with its bytes: the path of a stream as far as the events, and what must hold of any.
//!
//! The fuzzer (`dev/fuzz`) takes this file in by its path, so the tests below replay its corpus exactly as it ran.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::position::{Entry, Position};
use crate::event::{Kind, OutboxError, OutboxEvent, OutboxTable, Plan, Role, TypeFact, Types};
use crate::pgoutput::{
    Begin, Column, Commit, Datum, DecodeError, Decoder, Insert, Message, Relation, Tuple, TypeName,
};
use crate::window::intake::Intake;
use crate::window::progress::Progress;

/// What became of a message.
#[derive(Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Read {
    Begin(Begin),
    Commit(Commit),
    Relation(Arc<Relation>),
    /// A table that is the outbox by its name, and that cannot be.
    Unfit(OutboxError),
    /// A row of another table.
    Row,
    Event(Box<Result<OutboxEvent, OutboxError>>),
    Type(TypeName),
    Ignored(u8),
    Error(DecodeError),
}

/// Reads a stream: messages, each behind its length in two bytes. The last one ends with the bytes.
///
/// # Panics
/// When something does not hold.
pub fn messages(stream: &[u8]) -> Vec<Read> {
    let (first, again) = (read(stream), read(stream));
    assert_eq!(first, again, "the same bytes were read in two ways");
    let (taken, again) = (take(stream), take(stream));
    assert_eq!(taken, again, "the same bytes were taken in in two ways");
    assert!(
        taken.is_sorted_by_key(|place| (place.lsn, place.ordinal)),
        "entries stand in another order: {taken:?}"
    );
    first
}

/// The places of what a stream brings into the window, up to the first message that cannot be taken in.
fn take(stream: &[u8]) -> Vec<Position> {
    let mut window = Progress::default();
    let mut intake = Intake::new(table(), outbox().id, types(), true);
    for message in cut(stream) {
        if intake.take(&message, &mut window).is_err() {
            break;
        }
    }
    let entries = (0..window.next_sequence()).filter_map(|sequence| window.unacknowledged(sequence));
    entries.map(Entry::position).collect()
}

/// Reads a row of the outbox: the number of its values and the values.
///
/// # Panics
/// When something does not hold.
pub fn row(tuple: &[u8]) -> Read {
    let relation = outbox();
    let mut reader = Reader::new();
    let described = reader.one(&describe(&relation).into());
    assert!(matches!(described, Read::Relation(read) if *read == relation));
    let insert = [b"I".as_slice(), &relation.id.to_be_bytes(), b"N", tuple].concat();
    reader.one(&insert.into())
}

fn read(stream: &[u8]) -> Vec<Read> {
    let mut reader = Reader::new();
    cut(stream).map(|message| reader.one(&message)).collect()
}

/// The messages of a stream, each behind its length.
fn cut(mut stream: &[u8]) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let (length, rest) = stream.split_first_chunk()?;
        let (message, rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*length))));
        stream = rest;
        Some(Bytes::copy_from_slice(message))
    })
}

/// What one stream is read with.
struct Reader {
    decoder: Decoder,
    plan: Option<(u32, Plan)>,
    types: Types,
}

impl Reader {
    fn new() -> Self {
        Self { decoder: Decoder::default(), plan: None, types: types() }
    }

    fn one(&mut self, message: &Bytes) -> Read {
        match self.decoder.decode(message) {
            Ok(Message::Begin(begin)) => Read::Begin(begin),
            Ok(Message::Commit(commit)) => Read::Commit(commit),
            Ok(Message::Ignored(kind)) => Read::Ignored(kind),
            Ok(Message::Insert(insert)) => {
                assert_eq!(write(&insert), message[..], "a row is not what its message holds");
                let plan = self.plan.as_ref().filter(|(relation, _)| *relation == insert.relation);
                plan.map_or(Read::Row, |(_, plan)| Read::Event(Box::new(event(plan, &insert.row))))
            }
            Ok(Message::Type(name)) => {
                self.types.named(name.clone());
                Read::Type(name)
            }
            Ok(Message::Relation(relation)) => self.relation(relation),
            Err(error) => Read::Error(error),
        }
    }

    fn relation(&mut self, relation: Arc<Relation>) -> Read {
        self.plan = None;
        if (relation.namespace.as_str(), relation.name.as_str()) != ("public", "package_event") {
            return Read::Relation(relation);
        }
        match Plan::new(&table(), &relation, &self.types) {
            Ok(fit) => self.plan = Some((relation.id, fit)),
            Err(error) => return Read::Unfit(error),
        }
        Read::Relation(relation)
    }
}

fn event(plan: &Plan, row: &Tuple) -> Result<OutboxEvent, OutboxError> {
    let event = plan.event(row);
    if let Ok(event) = &event {
        assert!(std::str::from_utf8(&event.kind).is_ok(), "a type that is no text");
        let payload = event.payload.as_ref().map_or(0, Bytes::len);
        assert!(event.kind.len() + payload < row.bytes(), "an event larger than its row");
    }
    event
}

/// A row's message, out of what was read of it.
fn write(insert: &Insert) -> Vec<u8> {
    let mut bytes = [b"I".as_slice(), &insert.relation.to_be_bytes(), b"N"].concat();
    bytes.extend(&insert.row.len().to_be_bytes()[size_of::<usize>() - 2..]);
    for datum in insert.row.iter() {
        let (kind, value) = match datum {
            Datum::Text(value) => (b't', Some(value)),
            Datum::Binary(value) => (b'b', Some(value)),
            Datum::Null => (b'n', None),
            Datum::Unchanged => (b'u', None),
        };
        bytes.push(kind);
        if let Some(value) = value {
            bytes.extend(&value.len().to_be_bytes()[size_of::<usize>() - 4..]);
            bytes.extend(value);
        }
    }
    bytes
}

/// A table's message.
fn describe(relation: &Relation) -> Vec<u8> {
    let Relation { id, namespace, name, columns } = relation;
    let mut bytes =
        [b"R", &id.to_be_bytes()[..], namespace.as_bytes(), b"\0", name.as_bytes(), b"\0d"].concat();
    bytes.extend(&columns.len().to_be_bytes()[size_of::<usize>() - 2..]);
    for Column { name, type_oid } in columns {
        bytes.extend([b"\0", name.as_bytes(), b"\0", &type_oid.to_be_bytes()[..], &[255; 4]].concat());
    }
    bytes
}

/// The columns of the package API's outbox, with their types; the enum's is of its database's own.
const COLUMNS: [(Role, &str, u32); 7] = [
    (Role::Id, "package_event_id", 20),
    (Role::Key, "package_id", 20),
    (Role::Type, "event_type", 16_387),
    (Role::Payload, "payload", 3802),
    (Role::CreatedAt, "created_at", 1184),
    (Role::EventId, "event_id", 2950),
    (Role::Traceparent, "traceparent", 25),
];

fn table() -> OutboxTable {
    OutboxTable::new("public", "package_event", &COLUMNS.map(|(role, name, _)| (role, name)))
}

/// The enum under the object id that [`COLUMNS`] have; a stream of another database has its name.
fn types() -> Types {
    Types::new([TypeFact {
        oid: 16_387,
        namespace: "public".into(),
        name: "event_type_enum".into(),
        kind: Kind::Text,
        what: "an enum".into(),
        labels: Vec::new(),
    }])
}

fn outbox() -> Relation {
    let columns = COLUMNS.map(|(_, name, type_oid)| Column { name: name.to_owned(), type_oid }).to_vec();
    Relation { id: 16_401, namespace: "public".into(), name: "package_event".into(), columns }
}

#[cfg(test)]
mod tests;
