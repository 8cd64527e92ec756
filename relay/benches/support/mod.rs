//! The path of an event without its two ends: from the bytes of a socket to records and back to a position that may be
//! confirmed. What the benchmarks time, and what the test of allocations counts.

use bytes::BytesMut;
use futures::FutureExt;
use walpost::replication::frames::{Frame, Frames};
use walpost_core::event::OutboxTable;
use walpost_core::event::fixture::{self, OUTBOX};
use walpost_core::event::framing::{Registered, SchemaKind};
use walpost_core::event::mapping::{Choice, Format, Mapping};
use walpost_core::event::record::Record;
use walpost_core::event::render::Renderer;
use walpost_core::event::template::Template;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::{Column, Relation};
use walpost_core::publish::Publisher;
use walpost_core::publish::sink::{Batching, Report, Sink, SinkError};
use walpost_core::window::intake::Intake;
use walpost_core::window::outboxes::Outboxes;
use walpost_core::window::progress::Sequence;

/// Acknowledges everything at once.
#[derive(Default)]
pub struct Void {
    reports: Vec<Report>,
    /// Bytes of keys, values and headers, so that nothing can be left out as unused.
    pub bytes: usize,
}

impl Sink for Void {
    fn send(&mut self, sequence: Sequence, record: &Record<'_>) -> Result<(), SinkError> {
        let length = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
        self.bytes += length(record.key) + length(record.value) + record.headers.size();
        self.reports.push(Report { sequence, outcome: Ok(()) });
        Ok(())
    }

    async fn reports(&mut self, into: &mut Vec<Report>) {
        into.append(&mut self.reports);
    }

    async fn restart(&mut self, _: Batching, _: &mut Vec<Report>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// The path.
pub struct Path {
    frames: Frames,
    intake: Intake,
    pub publisher: Publisher<Void>,
}

/// What a record is made of, as short as settings have it: where the value stands, and fields where it is JSON.
pub const MAPPINGS: [(&str, &str, &[&str]); 7] = [
    ("package-event", "", &[]),
    ("raw", "payload", &[]),
    ("one path", "{payload.Title}", &[]),
    (
        "ten fields",
        "",
        &[
            "package_event_id",
            "package_id",
            "event_type",
            "payload",
            "created_at",
            "event_id",
            "payload.ID",
            "payload.Title",
            "payload.MaximumVolume",
            "traceparent",
        ],
    ),
    ("framed", "payload", &[]),
    ("avro of JSON", "payload", &[]),
    (
        "avro of columns",
        "",
        &["package_event_id", "event_type", "payload", "created_at", "event_id", "traceparent"],
    ),
];

/// The schemas of the last three, as a registry has them.
fn schema(name: &str) -> Option<(SchemaKind, &'static str)> {
    match name {
        "framed" => Some((SchemaKind::Json, "{}")),
        "avro of JSON" => Some((
            SchemaKind::Avro,
            r#"{"type": "record", "name": "Package", "fields": [{"name": "ID", "type": "long"},
            {"name": "Title", "type": ["null", "string"]}, {"name": "MaximumVolume", "type": "double"},
            {"name": "Reusable", "type": "boolean", "default": false}]}"#,
        )),
        "avro of columns" => Some((
            SchemaKind::Avro,
            r#"{"type": "record", "name": "Event", "fields": [{"name": "package_event_id", "type": "long"},
            {"name": "event_type", "type": {"type": "enum", "name": "Type", "symbols": ["Created", "Updated"]}},
            {"name": "payload", "type": {"type": "record", "name": "Package", "fields": [{"name": "ID", "type": "int"},
                {"name": "Title", "type": "string"}, {"name": "MaximumVolume",
                    "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}}]}},
            {"name": "created_at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "event_id", "type": {"type": "string", "logicalType": "uuid"}},
            {"name": "traceparent", "type": ["null", "string"]}]}"#,
        )),
        _ => None,
    }
}

fn typed(name: &str, mapping: Mapping) -> Mapping {
    let Some((kind, text)) = schema(name) else { return mapping };
    let (subject, text) = ("t-value".to_owned(), text.to_owned());
    let registered = Registered { subject, version: 1, id: 7, kind, text };
    mapping.with_schema(&registered).expect("a schema that fits")
}

fn mapping((name, value, fields): (&str, &str, &[&str])) -> Mapping {
    if name == "package-event" {
        return fixture::preset(name);
    }
    let column = |text: &str| Template::column(text).expect("a column");
    let field = |name: &&str| (vec![name.replace('.', "_")], column(&format!("{{{name}}}")));
    let mapping = Mapping {
        value: if value.is_empty() { Choice::Absent } else { Choice::Given(column(value)) },
        format: match (name, fields.is_empty()) {
            ("avro of JSON", _) => Format::AvroJson(None),
            ("avro of columns", _) => Format::Avro(None),
            (_, true) => Format::Raw,
            (_, false) => Format::Json,
        },
        fields: fields.iter().map(field).collect(),
        ..Mapping {
            topic: Choice::Given(Template::constant("t")),
            key: Choice::Given(column("package_id")),
            ..Mapping::default()
        }
    };
    typed(name, mapping)
}

impl Path {
    pub fn with(settings: (&str, &str, &[&str])) -> Self {
        let table = OutboxTable::new("public", "package_event", mapping(settings));
        let mut path = Self {
            frames: Frames::default(),
            intake: Intake::new(Outboxes::one(table, OUTBOX), fixture::types(), false),
            publisher: Publisher::new(Renderer::default(), Void::default()),
        };
        path.publisher.take(&relation().into(), &mut path.intake).expect("the outbox");
        path
    }

    /// What the loop does with what one read brought.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.frames.room().extend_from_slice(bytes);
        while let Some(frame) = self.frames.next_frame().expect("frames") {
            let Frame::Data(data) = frame else { continue };
            self.publisher.take(&data, &mut self.intake).expect("a message");
        }
        self.publisher.send().expect("a record");
        self.publisher.wait().now_or_never().expect("reports");
        self.publisher.process_reports().now_or_never().expect("no wait").expect("acknowledged");
    }
}

/// A stream of one-row transactions, numbered onwards from `first`, as Postgres frames it.
pub fn stream(first: u64, transactions: u64) -> BytesMut {
    let mut into = BytesMut::new();
    for number in first..first + transactions {
        let commit = Lsn(1_000 + number * 1_000);
        let end = commit.0 + 48;
        frame(&mut into, &[&b"B"[..], &commit.0.to_be_bytes(), &[0; 8], &[0, 0, 0, 9]].concat());
        frame(&mut into, &insert(number));
        frame(&mut into, &[&b"C\0"[..], &commit.0.to_be_bytes(), &end.to_be_bytes(), &[0; 8]].concat());
    }
    into
}

/// The messages of [`stream`] that hold a row, without their frames.
pub fn insert(number: u64) -> Vec<u8> {
    let payload =
        format!("\u{1}{{\"ID\": {number}, \"Title\": \"{}\", \"MaximumVolume\": 700.5}}", "x".repeat(200));
    let key = number % 10_000;
    let values: [Option<&[u8]>; 7] = [
        Some(&number.to_be_bytes()),
        Some(&key.to_be_bytes()),
        Some(b"Updated"),
        Some(payload.as_bytes()),
        Some(&[0, 2, 3, 4, 5, 6, 7, 8]),
        Some(&[7; 16]),
        None,
    ];
    let mut bytes = [&b"I"[..], &OUTBOX.to_be_bytes(), b"N\0\x07"].concat();
    for value in values {
        match value {
            Some(value) => {
                bytes.push(b'b');
                bytes.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
                bytes.extend(value);
            }
            None => bytes.push(b'n'),
        }
    }
    bytes
}

fn frame(into: &mut BytesMut, message: &[u8]) {
    into.extend_from_slice(b"d");
    into.extend_from_slice(&u32::try_from(message.len() + 29).expect("short").to_be_bytes());
    into.extend_from_slice(b"w");
    into.extend_from_slice(&[0; 24]);
    into.extend_from_slice(message);
}

/// The message that describes the outbox.
pub fn relation() -> Vec<u8> {
    described(&fixture::relation())
}

fn described(relation: &Relation) -> Vec<u8> {
    let mut bytes = [b"R", &relation.id.to_be_bytes()[..], b"public\0package_event\0d\0\x07"].concat();
    for Column { name, type_oid } in &relation.columns {
        bytes.extend([b"\0", name.as_bytes(), b"\0", &type_oid.to_be_bytes()[..], &[255; 4]].concat());
    }
    bytes
}
