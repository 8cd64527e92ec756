//! What the fuzzer does with its bytes: the path of a stream as far as the events, and what must hold of any.
//!
//! The fuzzer (`dev/fuzz`) takes this file in by its path, so the tests below replay its corpus exactly as it ran.

use std::sync::Arc;

use bytes::Bytes;

use crate::event::mapping::{Choice, Format, Mapping};
use crate::event::record::Record;
use crate::event::render::Renderer;
use crate::event::template::Template;
use crate::event::{Entry, OutboxError, OutboxTable, PlacedRow, Plan, Position, Types, fixture};
use crate::lsn::Lsn;
use crate::pgoutput::{
    Begin, Column, Commit, Datum, DecodeError, Decoder, Insert, Message, Relation, Tuple, TypeName,
};
use crate::window::intake::Intake;
use crate::window::outboxes::Outboxes;
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
    /// A row of the outbox: its record, or why it gives none.
    Event(Box<Result<Rendered, OutboxError>>),
    Type(TypeName),
    Ignored(u8),
    Error(DecodeError),
}

/// A record that is kept.
#[derive(Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Rendered {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Rendered {
    fn of(record: &Record<'_>) -> Self {
        let owned = |bytes: &[u8]| bytes.to_vec();
        let headers = record.headers.iter();
        Self {
            topic: record.topic.name.to_owned(),
            key: record.key.map(owned),
            value: record.value.map(owned),
            headers: headers.map(|(name, value)| (name.to_owned(), value.map(owned))).collect(),
        }
    }
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
    let mut intake = Intake::new(Outboxes::one(fixture::table(), fixture::OUTBOX), fixture::types(), true);
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
    let relation = fixture::relation();
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
    plan: Option<Arc<Plan>>,
    renderer: Renderer,
    types: Types,
    messages: Arc<Plan>,
}

impl Reader {
    fn new() -> Self {
        Self {
            decoder: Decoder::default(),
            plan: None,
            renderer: Renderer::default(),
            types: fixture::types(),
            messages: Arc::new(fixture::messages_plan()),
        }
    }

    fn one(&mut self, message: &Bytes) -> Read {
        match self.decoder.decode(message) {
            Ok(Message::Begin(begin)) => Read::Begin(begin),
            Ok(Message::Commit(commit)) => Read::Commit(commit),
            Ok(Message::Ignored(kind)) => Read::Ignored(kind),
            Ok(Message::Logical(message)) if message.prefix == fixture::PREFIX => {
                Read::Event(Box::new(self.event(Arc::clone(&self.messages), message.content)))
            }
            Ok(Message::Logical(_)) => Read::Ignored(b'M'),
            Ok(Message::Insert(insert)) => {
                assert_eq!(write(&insert), message[..], "a row is not what its message holds");
                let plan = self.plan.as_ref().filter(|plan| plan.relation().id == insert.relation);
                let Some(plan) = plan.map(Arc::clone) else { return Read::Row };
                Read::Event(Box::new(self.event(plan, insert.row)))
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
        match Plan::new(&fixture::table(), &relation, &self.types) {
            Ok(fit) => self.plan = Some(Arc::new(fit)),
            Err(error) => return Read::Unfit(error),
        }
        Read::Relation(relation)
    }

    fn event(&mut self, plan: Arc<Plan>, row: Tuple) -> Result<Rendered, OutboxError> {
        let bytes = row.bytes();
        let position = Position { lsn: Lsn(1), ordinal: 0, committed_at: 0 };
        let placed = PlacedRow { row, plan, position };
        let checked = self.renderer.check(&placed);
        let record = self.renderer.render(&placed).map(|record| {
            let value = record.value.map_or(0, <[u8]>::len);
            assert!(value < bytes + VALUE_OVERHEAD, "a value larger than its row");
            Rendered::of(&record)
        });
        assert_eq!(
            checked.err().as_ref(),
            record.as_ref().err(),
            "what was checked is not what was rendered"
        );
        record
    }
}

/// What the message adds to a row's own bytes at the most: keys and lengths of five fields.
const VALUE_OVERHEAD: usize = 64;

/// Reads a template and a row of a table of several types: two texts, each behind its length in a byte, the format's number,
/// and the tuple.
///
/// # Panics
/// When something does not hold.
pub fn template(bytes: &[u8]) -> Option<Result<Rendered, String>> {
    let (first, again) = (mapped(bytes), mapped(bytes));
    assert_eq!(first, again, "the same bytes gave two records");
    first
}

fn mapped(bytes: &[u8]) -> Option<Result<Rendered, String>> {
    let text = |bytes: &[u8]| -> Option<(String, usize)> {
        let (length, rest) = bytes.split_first()?;
        let text = rest.get(..usize::from(*length))?;
        Some((String::from_utf8_lossy(text).into_owned(), 1 + text.len()))
    };
    let (value, at) = text(bytes)?;
    let (header, behind) = text(bytes.get(at..)?)?;
    let (format, tuple) = bytes.get(at + behind..)?.split_first()?;
    let mapping = mapping(&value, &header, *format)?;
    let relation = Arc::new(types_of_all());
    let plan = match Plan::new(&OutboxTable::new("public", "outbox", mapping), &relation, &Types::default()) {
        Ok(plan) => Arc::new(plan),
        Err(error) => return Some(Err(error.to_string())),
    };
    let mut decoder = Decoder::default();
    let described = decoder.decode(&describe(&relation).into());
    assert!(described.is_ok(), "{described:?}");
    let insert = [b"I".as_slice(), &relation.id.to_be_bytes(), b"N", tuple].concat();
    let Ok(Message::Insert(insert)) = decoder.decode(&insert.into()) else { return None };
    let position = Position { lsn: Lsn(1), ordinal: 0, committed_at: 0 };
    let placed = PlacedRow { row: insert.row, plan, position };
    let mut renderer = Renderer::default();
    let record = renderer.render(&placed).map(|record| Rendered::of(&record));
    Some(record.map_err(|error| error.to_string()))
}

fn mapping(value: &str, header: &str, format: u8) -> Option<Mapping> {
    let (value, header) = (Template::column(value).ok()?, Template::text(header).ok()?);
    let fields = [(vec!["f".to_owned()], header.clone())].into();
    let base = Mapping {
        topic: Choice::Given(Template::constant("t")),
        key: Choice::Absent,
        id: Choice::Given(Template::of_column("uuid")),
        kind: Choice::Given(Template::of_column("text")),
        headers_from: Choice::Given(Template::of_column("json")),
        value: Choice::Given(value),
        ..Mapping::default()
    };
    Some(match format % 4 {
        0 => Mapping { headers: vec![("h".to_owned(), header)], ..base },
        1 => Mapping { format: Format::Json, fields, ..base },
        2 => Mapping { format: Format::CloudEvents, fields, ..base },
        _ => {
            let names = ["ID", "PackageID", "Type", "Created", "Payload"];
            let fields = names.map(|name| (vec![name.to_owned()], header.clone())).into();
            Mapping { fields, ..fixture::preset("package-event") }
        }
    })
}

/// A table with a column of each type.
fn types_of_all() -> Relation {
    let columns = [
        ("int", 20),
        ("text", 25),
        ("json", 114),
        ("jsonb", 3802),
        ("bytea", 17),
        ("uuid", 2950),
        ("time", 1184),
        ("date", 1082),
        ("num", 1700),
        ("float", 701),
        ("bool", 16),
        ("array", 1009),
        ("event_id", 2950),
        ("event_type", 25),
        ("created_at", 1184),
        ("package_id", 20),
        ("traceparent", 25),
    ];
    let columns = columns.map(|(name, type_oid)| Column { name: name.to_owned(), type_oid }).to_vec();
    Relation { id: 7, namespace: "public".into(), name: "outbox".into(), columns }
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

#[cfg(test)]
mod tests;
