//! An outbox for tests, benches and the fuzzer: that of the package API, with its mapping.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::mapping::{Choice, CloudEvents, Format, Mapping};
use super::placed::PlacedRow;
use super::position::Position;
use super::protobuf::Message;
use super::template::Template;
use super::{Kind, OutboxMessages, OutboxTable, Plan, TypeFact, Types, presets};
use crate::pgoutput::{Column, Relation, Tuple};

/// The table's object id.
pub const OUTBOX: u32 = 16_401;

/// The object id of its enum.
const ENUM: u32 = 16_387;

/// Its columns, with their types; the enum's is of its database's own.
pub const COLUMNS: [(&str, u32); 7] = [
    ("package_event_id", 20),
    ("package_id", 20),
    ("event_type", ENUM),
    ("payload", 3802),
    ("created_at", 1184),
    ("event_id", 2950),
    ("traceparent", 25),
];

/// The table as the stream describes it.
#[must_use]
pub fn relation() -> Relation {
    let columns = COLUMNS.map(|(name, type_oid)| Column { name: name.to_owned(), type_oid }).to_vec();
    Relation { id: OUTBOX, namespace: "public".into(), name: "package_event".into(), columns }
}

/// What the catalogue says of its enum.
#[must_use]
pub fn types() -> Types {
    Types::new([TypeFact {
        oid: ENUM,
        namespace: "public".into(),
        name: "event_type_enum".into(),
        kind: Kind::Text,
        what: "an enum".into(),
        labels: ["Created", "Updated", "Removed"].map(str::to_owned).into(),
    }])
}

/// A preset's mapping.
///
/// # Panics
/// When the preset is not there or does not parse.
#[must_use]
#[allow(clippy::expect_used)]
pub fn preset(name: &str) -> Mapping {
    let preset = presets::named(name).expect("a preset");
    let mut mapping = Mapping { is_preset: true, ..Mapping::default() };
    for (setting, text) in preset.settings {
        let column = || Choice::Given(Template::column(text).expect("a column"));
        let template = || Template::text(text).expect("a template");
        match *setting {
            "topic" => mapping.topic = Choice::Given(template()),
            "key" => mapping.key = column(),
            "value" => mapping.value = column(),
            "headers_from" | "traceparent" if text.is_empty() => {}
            "headers_from" => mapping.headers_from = column(),
            "traceparent" => mapping.traceparent = column(),
            "id" => mapping.id = column(),
            "type" => mapping.kind = column(),
            "time" => mapping.time = column(),
            "ce_source" => mapping.ce_source = Some(template()),
            "ce_type" => mapping.ce_type = Some(template()),
            "content_type" => mapping.content_type = Some(template()),
            "cloudevents" if *text == "on" => mapping.cloudevents = CloudEvents::On,
            "cloudevents" => mapping.cloudevents = CloudEvents::Off,
            "format" if *text == "json" => mapping.format = Format::Json,
            "message" => {
                let file = presets::message(text).expect("a message");
                mapping.format =
                    Format::Protobuf(Arc::new(Message::of_files(&[file], text).expect("a message")));
            }
            _ => {}
        }
    }
    let text = |(name, text): &(&str, &str)| ((*name).to_owned(), Template::text(text).expect("a template"));
    mapping.headers = preset.headers.iter().map(text).collect();
    let field = |field| {
        let (name, template) = text(field);
        (vec![name], template)
    };
    mapping.fields = preset.fields.iter().map(field).collect::<BTreeMap<_, _>>();
    mapping
}

/// The outbox.
#[must_use]
pub fn table() -> OutboxTable {
    OutboxTable::new("public", "package_event", preset("package-event"))
}

/// How its rows become records.
///
/// # Panics
/// When the preset does not fit the table.
#[must_use]
#[allow(clippy::expect_used)]
pub fn plan() -> Plan {
    Plan::new(&table(), &Arc::new(relation()), &types()).expect("the preset fits")
}

/// The prefix of logical messages that are events.
pub const PREFIX: &str = "outbox";

/// How its messages become records: as Debezium's documentation has them.
///
/// # Panics
/// Never: the settings fit.
#[must_use]
#[allow(clippy::expect_used)]
pub fn messages_plan() -> Plan {
    let column = |text: &str| Choice::Given(Template::column(text).expect("a member"));
    let mapping = Mapping {
        topic: Choice::Given(Template::text("{aggregateType|lower}.events").expect("a template")),
        key: column("aggregateId"),
        value: column("payload"),
        id: column("id"),
        kind: column("type"),
        ..Mapping::default()
    };
    OutboxMessages::new(PREFIX, mapping).of_database("shop").plan().expect("the settings fit")
}

/// A row of it.
#[must_use]
pub fn row(id: i64, key: &str, payload: Option<&[u8]>) -> Tuple {
    let payload = payload.map(|payload| [&[1], payload].concat());
    let (id, key) = (id.to_be_bytes(), key.parse::<i64>().unwrap_or_default().to_be_bytes());
    let values: [Option<&[u8]>; 7] =
        [Some(&id), Some(&key), Some(b"Created"), payload.as_deref(), Some(&[0; 8]), Some(&[7; 16]), None];
    Tuple::from_values(values.into_iter())
}

/// A row at a position.
#[must_use]
pub fn placed(plan: &Arc<Plan>, id: i64, key: &str, position: Position) -> PlacedRow {
    PlacedRow { row: row(id, key, None), plan: Arc::clone(plan), position }
}
