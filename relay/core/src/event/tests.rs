#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use apache_avro::reader::datum::GenericDatumReader;
use logistic_package_proto::package_event::{EventType, PackageEvent};
use proptest::prelude::*;
use prost::Message as _;

use super::framing::{Framing, Registered, SchemaKind, Version, Wanted};
use super::mapping::{Choice, CloudEvents, Format, Tombstone};
use super::placed::PlacedRow;
use super::position::Position;
use super::render::Renderer;
use super::template::Template;
use super::*;
use crate::lsn::Lsn;
use crate::pgoutput::{Column, Relation, Tuple, TypeName};
use crate::time::POSTGRES_EPOCH_US;

const EVENT_ID: [u8; 16] = *b"0123456789abcdef";

const POSITION: Position =
    Position { lsn: Lsn(0x1_0000_00FF), ordinal: 3, committed_at: 1_700_000_000_123_999 };

/// The types of a database: an enum, and domains of the kinds that matter.
fn types() -> Types {
    let fact = |(oid, name, function, what): (u32, &str, &str, &str)| TypeFact {
        oid,
        namespace: "public".into(),
        name: name.into(),
        kind: Kind::sent_by(function),
        what: what.into(),
        labels: if function == "enum_send" { vec!["Created".into(), "Moved".into()] } else { Vec::new() },
    };
    Types::new(
        [
            (16_700, "event_type_enum", "enum_send", "an enum"),
            (16_701, "event_payload", "jsonb_send", "a domain over jsonb, a base type"),
            (16_702, "pair", "record_send", "a composite type"),
            (16_703, "numbers", "array_send", "a domain over integer[], an array type"),
            (16_704, "citext", "textsend", "a base type"),
        ]
        .map(fact),
    )
}

/// A table of these columns.
fn relation(columns: &[(&str, u32)]) -> Arc<Relation> {
    let columns = columns.iter().map(|(name, oid)| Column { name: (*name).into(), type_oid: *oid }).collect();
    Arc::new(Relation { id: 1, namespace: "public".into(), name: "outbox".into(), columns })
}

/// The package API's table with a column before and one between that mean nothing to it.
fn packages() -> Vec<(&'static str, u32)> {
    vec![
        ("extra", 25),
        ("package_event_id", 20),
        ("package_id", 20),
        ("event_type", 16_700),
        ("payload", 3802),
        ("other", 23),
        ("created_at", 1184),
        ("event_id", 2950),
        ("traceparent", 25),
    ]
}

fn row() -> Vec<Option<Vec<u8>>> {
    vec![
        None,
        Some(41i64.to_be_bytes().to_vec()),
        Some(7i64.to_be_bytes().to_vec()),
        Some(b"Created".to_vec()),
        Some(b"\x01{\"ID\": 7}".to_vec()),
        Some(5i32.to_be_bytes().to_vec()),
        Some((1_700_000_000_000_001 - POSTGRES_EPOCH_US).to_be_bytes().to_vec()),
        Some(EVENT_ID.to_vec()),
        None,
    ]
}

/// What a record holds.
#[derive(Debug, PartialEq)]
struct Got {
    topic: String,
    key: Option<String>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<String>)>,
    timestamp_ms: i64,
    partition: Option<i32>,
}

impl Got {
    fn value(&self) -> String {
        String::from_utf8_lossy(self.value.as_ref().unwrap()).into_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }
}

fn rendered(plan: Plan, row: &[Option<Vec<u8>>]) -> Result<Got, OutboxError> {
    let row = Tuple::from_values(row.iter().map(Option::as_deref));
    let placed = PlacedRow { row, plan: Arc::new(plan), position: POSITION };
    got(&mut Renderer::default(), &placed)
}

fn got(renderer: &mut Renderer, placed: &PlacedRow) -> Result<Got, OutboxError> {
    let checked = renderer.check(placed);
    let record = renderer.render(placed);
    assert_eq!(checked.err().as_ref(), record.as_ref().err());
    let record = record?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Got {
        topic: record.topic.name.to_owned(),
        key: record.key.map(text),
        value: record.value.map(<[u8]>::to_vec),
        headers: record.headers.iter().map(|(name, value)| (name.to_owned(), value.map(text))).collect(),
        timestamp_ms: record.timestamp_ms,
        partition: record.partition,
    })
}

/// The record of a row of the package API's table.
fn package(row: &[Option<Vec<u8>>]) -> Result<Got, OutboxError> {
    rendered(Plan::new(&fixture::table(), &relation(&packages()), &types()).unwrap(), row)
}

/// A mapping by its settings, as short as a test can have them.
fn mapping(settings: &[(&str, &str)]) -> Mapping {
    let mut mapping = Mapping::default();
    for (setting, text) in settings {
        let column = || Choice::Given(Template::column(text).unwrap());
        let template = Template::text(text);
        match *setting {
            "topic" => mapping.topic = Choice::Given(template.unwrap()),
            "key" if text.is_empty() => mapping.key = Choice::Absent,
            "key" => mapping.key = column(),
            "value" => mapping.value = column(),
            "headers_from" => mapping.headers_from = column(),
            "id" => mapping.id = column(),
            "type" => mapping.kind = column(),
            "time" => mapping.time = column(),
            "timestamp" => mapping.timestamp = Some(Template::column(text).unwrap()),
            "partition" => mapping.partition = Some(Template::column(text).unwrap()),
            "format" if *text == "json" => mapping.format = Format::Json,
            "format" => mapping.format = Format::CloudEvents,
            "cloudevents" if *text == "off" => mapping.cloudevents = CloudEvents::Off,
            "tombstone" if *text == "empty" => mapping.tombstone = Tombstone::Empty,
            "tombstone" => mapping.tombstone = Tombstone::Never,
            other => match other.split_once('.').unwrap() {
                ("headers", name) => mapping.headers.push((name.to_owned(), template.unwrap())),
                ("topics", name) => drop(mapping.topics.insert(name.to_owned(), (*text).to_owned())),
                (_, path) => {
                    let path = path.split('.').map(str::to_owned).collect();
                    mapping.fields.insert(path, template.unwrap());
                }
            },
        }
    }
    mapping
}

fn plan(settings: &[(&str, &str)], columns: &[(&str, u32)]) -> Result<Plan, OutboxError> {
    Plan::new(&OutboxTable::new("public", "outbox", mapping(settings)), &relation(columns), &types())
}

type Cell<'a> = (&'a str, u32, Option<&'a [u8]>);

/// The record of one row.
fn one(settings: &[(&str, &str)], cells: &[Cell<'_>]) -> Result<Got, OutboxError> {
    let columns: Vec<_> = cells.iter().map(|(name, oid, _)| (*name, *oid)).collect();
    let row: Vec<_> = cells.iter().map(|(.., value)| value.map(<[u8]>::to_vec)).collect();
    rendered(plan(settings, &columns)?, &row)
}

#[test]
fn a_package_event_is_byte_for_byte_what_prost_would_write() {
    for (kind, number) in
        [("Created", EventType::Created), ("Updated", EventType::Updated), ("Removed", EventType::Removed)]
    {
        let mut row = row();
        row[3] = Some(kind.as_bytes().to_vec());
        let payload = (kind != "Removed").then_some(b"{\"ID\": 7}".to_vec());
        row[4] = payload.as_ref().map(|payload| [&[1], payload.as_slice()].concat());
        let expected = PackageEvent {
            id: 41,
            package_id: 7,
            r#type: number.into(),
            created: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 1_000 }),
            payload: payload.unwrap_or_default(),
        };
        assert_eq!(package(&row).unwrap().value, Some(expected.encode_to_vec()));
    }
}

#[test]
fn key_headers_and_timestamp_of_a_package_event_are_those_of_the_contract() {
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut row = row();
    row[8] = Some(traceparent.as_bytes().to_vec());
    let got = package(&row).unwrap();
    assert_eq!((got.topic.as_str(), got.key.as_deref()), ("omp-package-events", Some("7")));
    assert_eq!((got.timestamp_ms, got.partition), (1_700_000_000_123, None));
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "30313233-3435-3637-3839-616263646566"),
        ("ce_type", "hablof.logistic_package_api.package.created"),
        ("ce_source", "/logistic-package-api"),
        ("ce_time", "2023-11-14T22:13:20.000001Z"),
        ("ce_subject", "7"),
        ("content-type", "application/protobuf"),
        ("traceparent", traceparent),
        ("wal-lsn", "1/FF"),
        ("wal-seq", "3"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    assert_eq!(got.headers, expected);
}

#[test]
fn a_row_that_is_no_package_event_says_why() {
    let with = |index: usize, value: Option<&[u8]>| {
        let mut row = row();
        row[index] = value.map(<[u8]>::to_vec);
        package(&row).unwrap_err().to_string()
    };
    assert_eq!(with(1, Some(b"123")), "fields.ID: {package_event_id}: an integer has 2, 4 or 8 bytes");
    assert_eq!(
        with(1, Some(&(-1i64).to_be_bytes())),
        "fields.ID: {package_event_id}: -1 is not in the range of the field ID"
    );
    assert_eq!(
        with(3, Some(b"Moved")),
        "fields.Type: {event_type}: `Moved` is not one of Created, Updated, Removed (the field Type)"
    );
    assert!(with(3, Some(b"\xff")).contains("text that is not UTF-8"));
    assert!(with(4, Some(b"\x02{}")).contains("unknown version of jsonb"));
    assert!(with(6, Some(&i64::MAX.to_be_bytes())).contains("infinite"));
    assert!(with(7, Some(b"short")).contains("a UUID has 16 bytes"));
    assert_eq!(with(7, None), "id: {event_id}: it is NULL, and a CloudEvent needs it");
    assert!(with(3, None).contains("it is NULL"));
}

#[test]
fn what_is_not_said_is_guessed_from_names() {
    let cells: [Cell<'_>; 8] = [
        ("eventId", 2950, Some(&EVENT_ID)),
        ("aggregateId", 25, Some(b"a-1")),
        ("Event_Type", 25, Some(b"made")),
        ("payload", 114, Some(b"{\"a\":  1}")),
        ("headers", 3802, Some(b"\x01{\"n\": 1, \"s\": \"x\\ny\", \"z\": null, \"o\": {\"p\": 2}}")),
        ("createdAt", 1114, Some(&0i64.to_be_bytes())),
        ("topic", 25, Some(b"orders")),
        ("traceparent", 25, None),
    ];
    let got = one(&[], &cells).unwrap();
    assert_eq!((got.topic.as_str(), got.key.as_deref()), ("orders", Some("a-1")));
    assert_eq!(got.value(), "{\"a\":  1}", "the bytes are untouched");
    let expected = [
        ("ce_specversion", Some("1.0")),
        ("ce_id", Some("30313233-3435-3637-3839-616263646566")),
        ("ce_type", Some("made")),
        ("ce_source", Some("//public.outbox")),
        ("ce_time", Some("2000-01-01T00:00:00.000000Z")),
        ("ce_subject", Some("a-1")),
        ("content-type", Some("application/json")),
        ("n", Some("1")),
        ("s", Some("x\ny")),
        ("z", None),
        ("o", Some("{\"p\": 2}")),
        ("wal-lsn", Some("1/FF")),
        ("wal-seq", Some("3")),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
    assert_eq!(got.headers, expected);
}

#[test]
fn all_mistakes_are_said_at_once_with_the_nearest_column() {
    let settings = [
        ("topic", "{agregate_type}.events"),
        ("headers.kind", "{event_typ}"),
        ("headers.wal-x", "1"),
        ("partition", "event_type"),
        ("time", "number"),
        ("value", "blob"),
    ];
    let columns = [
        ("aggregate_type", 25),
        ("event_type", 25),
        ("number", 20),
        ("blob", 26),
        ("key", 25),
        ("message_key", 25),
    ];
    let told = plan(&settings, &columns).unwrap_err().to_string();
    for part in [
        "the settings do not fit the table public.outbox: ",
        "topic: {agregate_type} is not a column of public.outbox; nearest: aggregate_type",
        "headers.kind: {event_typ} is not a column of public.outbox; nearest: event_type",
        "headers.wal-x: names that begin with wal- or walpost- are walpost's own",
        "partition: `event_type` has the type text: expected an integer",
        "time: `number` is a number: say its unit, as in `{number|ms}`",
        "value: `blob` has the type oid: in a table of events it is the number of a large object",
        "key: key and message_key could each be it",
        "the table has: aggregate_type text, event_type text, number int8",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
    let told = plan(&[], &[("a", 25)]).unwrap_err().to_string();
    for part in ["topic: no column's name", "key: no column's name", "value: no column's name"] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}

#[test]
fn a_column_that_was_renamed_is_found_by_either_name() {
    let settings = [
        ("topic", "t"),
        ("key", "{package_id}"),
        ("value", "v"),
        ("headers.x", "{package_id}"),
        ("cloudevents", "off"),
    ];
    let mut mapping = mapping(&settings);
    mapping.renamed.push(("package_id".into(), "parcel_id".into()));
    let table =
        OutboxTable { order: Some("package_id".into()), ..OutboxTable::new("public", "outbox", mapping) };
    let row = [Some(9i32.to_be_bytes().to_vec()), Some(b"x".to_vec())];
    let relations = ["parcel_id", "package_id"].map(|name| relation(&[(name, 23), ("v", 25)]));
    for now in &relations {
        // What was looked up in the table of now reads rows of both times.
        let looked = table.guessed(now, &types(), &mapping::Guesses::new()).unwrap();
        assert_eq!(looked.order.as_deref(), Some(now.columns[0].name.as_str()));
        assert_eq!(looked.needed(now).collect::<Vec<_>>(), [now.columns[0].name.as_str(), "v"]);
        for then in &relations {
            let got = rendered(Plan::new(&looked, then, &types()).unwrap(), &row).unwrap();
            assert_eq!((got.key.as_deref(), got.header("x")), (Some("9"), Some("9")));
        }
    }
    let other = relation(&[("box_id", 23), ("v", 25)]);
    let error = Plan::new(&table, &other, &types()).unwrap_err();
    assert!(error.to_string().contains("key: {package_id} is not a column of public.outbox"), "{error}");
    assert!(error.remedy().contains("--renamed-column=OLD=NEW"), "{}", error.remedy());
}

#[test]
fn paths_and_filters_read_into_columns() {
    let json = br#"{"order": {"id": 5, "name": "A \"b\""}, "list": [1], "none": null, "b64": "aGk="}"#;
    let says = |text: &str| {
        let cells: [Cell<'_>; 4] = [
            ("data", 114, Some(json)),
            ("kind", 25, Some(b"shop.Order-Made")),
            ("at", 1184, Some(&1_500_000i64.to_be_bytes())),
            ("n", 20, Some(&1_772_359_200i64.to_be_bytes())),
        ];
        let settings =
            [("topic", "t"), ("key", ""), ("value", "{kind}"), ("cloudevents", "off"), ("headers.x", text)];
        let got = one(&settings, &cells).unwrap();
        got.header("x").map(str::to_owned)
    };
    for (text, expected) in [
        ("{data.order.id}", Some("5")),
        ("{data.order.name}", Some("A \"b\"")),
        ("{data.order}", Some(r#"{"id": 5, "name": "A \"b\""}"#)),
        ("{data.list}", Some("[1]")),
        ("{data.none}", None),
        ("{data.absent.deeper}", None),
        ("{data.list.member}", None),
        ("{data.absent ?? data.order.id ?? kind}", Some("5")),
        ("{kind|lower}", Some("shop.order-made")),
        ("{kind|before:.}-{kind|after:-}", Some("shop-Made")),
        ("{kind|last:.|before:-|lower}", Some("order")),
        ("{kind|last:/}", Some("shop.Order-Made")),
        ("{kind|after:/}", Some("")),
        ("{kind|quote}", Some("\"shop.Order-Made\"")),
        ("{data.order.name|quote}", Some(r#""A \"b\"""#)),
        ("{data.b64|base64}", Some("hi")),
        ("{at}", Some("2000-01-01T00:00:01.500000Z")),
        ("{at|ms}", Some("946684801500")),
        ("{n|s}", Some("2026-03-01T10:00:00.000000Z")),
        ("{n|s|ms}", Some("1772359200000")),
        ("{@schema}.{@table} {@topic} {@lsn} {@seq}", Some("public.outbox t 1/FF 3")),
        ("{@committed_at|ms}", Some("1700000000123")),
    ] {
        assert_eq!(says(text).as_deref(), expected, "{text}");
    }
}

#[test]
fn values_are_what_postgres_has() {
    let numeric = |digits: &[i16], weight: i16, sign: u16, scale: u16| {
        let head = [
            i16::try_from(digits.len()).unwrap().to_be_bytes(),
            weight.to_be_bytes(),
            sign.to_be_bytes(),
            scale.to_be_bytes(),
        ];
        [head.concat(), digits.iter().flat_map(|digit| digit.to_be_bytes()).collect()].concat()
    };
    let array = [
        1i32.to_be_bytes(),
        1i32.to_be_bytes(),
        25i32.to_be_bytes(),
        2i32.to_be_bytes(),
        1i32.to_be_bytes(),
        1i32.to_be_bytes(),
        *b"a\xff\xff\xff",
        [0xff, 0, 0, 0],
    ]
    .concat();
    let array = [&array[..25], &[255; 4]].concat();
    let cases: [(u32, Vec<u8>, &str, &str); 16] = [
        (21, 5i16.to_be_bytes().into(), "5", "5"),
        (16, vec![1], "true", "true"),
        (700, 700.1f32.to_be_bytes().into(), "700.1", "700.1"),
        (701, 1e300f64.to_be_bytes().into(), "1e+300", "1e+300"),
        (701, 3f64.to_be_bytes().into(), "3", "3"),
        (701, f64::NAN.to_be_bytes().into(), "NaN", "\"NaN\""),
        (1700, numeric(&[1, 2345, 6000], 1, 0, 2), "12345.60", "12345.60"),
        (1700, numeric(&[12], -1, 0x4000, 4), "-0.0012", "-0.0012"),
        (1700, numeric(&[], 0, 0, 0), "0", "0"),
        (1700, numeric(&[1], 2, 0, 0), "100000000", "100000000"),
        (1700, numeric(&[], 0, 0xC000, 0), "NaN", "\"NaN\""),
        (25, b"a\"b".to_vec(), "a\"b", "\"a\\\"b\""),
        (17, vec![104, 105], "hi", "\"aGk=\""),
        (1082, 60i32.to_be_bytes().into(), "2000-03-01", "\"2000-03-01\""),
        (
            2950,
            EVENT_ID.to_vec(),
            "30313233-3435-3637-3839-616263646566",
            "\"30313233-3435-3637-3839-616263646566\"",
        ),
        (1009, array, "[\"a\",null]", "[\"a\",null]"),
    ];
    for (oid, value, text, json) in cases {
        let cells: [Cell<'_>; 1] = [("x", oid, Some(&value))];
        let base = [("topic", "t"), ("key", ""), ("cloudevents", "off")];
        let raw = one(&[&base[..], &[("value", "x")]].concat(), &cells).unwrap();
        assert_eq!(raw.value(), text);
        let all = one(&[&base[..], &[("format", "json")]].concat(), &cells).unwrap();
        assert_eq!(all.value(), format!("{{\"x\":{json}}}"));
    }
}

#[test]
fn json_is_put_together_of_fields_that_nest() {
    let settings = [
        ("topic", "t"),
        ("key", ""),
        ("cloudevents", "off"),
        ("format", "json"),
        ("fields.a.number", "{n}"),
        ("fields.a.text", "n={n}"),
        ("fields.doc", "{doc}"),
        ("fields.inner", "{doc.x}"),
        ("fields.none", "{none}"),
        ("fields.plain", "as it is"),
        ("fields.text_is_json", "{text|json}"),
    ];
    let cells: [Cell<'_>; 4] = [
        ("n", 20, Some(&5i64.to_be_bytes())),
        ("doc", 3802, Some(b"\x01{\"x\":  [1]}")),
        ("none", 25, None),
        ("text", 25, Some(b"{\"k\":1}")),
    ];
    let got = one(&settings, &cells).unwrap();
    let expected = r#"{"a":{"number":5,"text":"n=5"},"doc":{"x":  [1]},"inner":[1],"none":null,"plain":"as it is","text_is_json":{"k":1}}"#;
    assert_eq!(got.value(), expected);
}

#[test]
fn a_structured_cloudevent_has_its_data_as_it_is() {
    let settings = [("topic", "t"), ("format", "cloudevents"), ("fields.tenant", "{tenant}")];
    let cell = |payload: Option<&'static [u8]>, oid| -> [Cell<'static>; 5] {
        [
            ("id", 25, Some(b"1")),
            ("type", 25, Some(b"made")),
            ("key", 25, Some(b"k")),
            ("payload", oid, payload),
            ("tenant", 25, Some(b"north")),
        ]
    };
    let head = r#"{"specversion":"1.0","id":"1","type":"made","source":"//public.outbox","subject":"k","datacontenttype":"#;
    let json = one(&settings, &cell(Some(b"{\"a\":  1}"), 114)).unwrap();
    assert_eq!(
        json.value(),
        format!("{head}\"application/json\",\"tenant\":\"north\",\"data\":{{\"a\":  1}}}}")
    );
    assert_eq!(json.header("content-type"), Some("application/cloudevents+json"));
    assert_eq!(json.headers.len(), 3);
    let bytes = one(&settings, &cell(Some(b"hi"), 17)).unwrap();
    assert_eq!(
        bytes.value(),
        format!("{head}\"application/octet-stream\",\"tenant\":\"north\",\"data_base64\":\"aGk=\"}}")
    );
    assert_eq!(one(&settings, &cell(None, 114)).unwrap().value, None);
}

#[test]
fn tombstones_are_what_the_setting_says() {
    let value = |tombstone: Option<&str>, value: Option<&[u8]>| {
        let mut settings = vec![("topic", "t"), ("key", ""), ("value", "v"), ("cloudevents", "off")];
        settings.extend(tombstone.map(|tombstone| ("tombstone", tombstone)));
        one(&settings, &[("v", 114, value)]).map(|got| got.value)
    };
    assert_eq!(value(None, None), Ok(None));
    assert_eq!(value(None, Some(b"null")), Ok(Some(b"null".to_vec())));
    for empty in [b"null".as_slice(), b" ", b""] {
        assert_eq!(value(Some("empty"), Some(empty)), Ok(None));
    }
    assert_eq!(value(Some("never"), Some(b"")), Ok(Some(Vec::new())));
    assert!(value(Some("never"), None).unwrap_err().to_string().contains("allows no null value"));
}

#[test]
fn a_topic_is_renamed_and_must_be_a_name() {
    let topic = |name: &[u8]| {
        let settings = [
            ("topic", "{t}"),
            ("topics.Order Made", "orders"),
            ("key", ""),
            ("value", "t"),
            ("cloudevents", "off"),
        ];
        one(&settings, &[("t", 25, Some(name))]).map(|got| got.topic).map_err(|error| error.to_string())
    };
    assert_eq!(topic(b"Order Made").as_deref(), Ok("orders"));
    assert_eq!(topic(b"orders.v1").as_deref(), Ok("orders.v1"));
    let told = topic("zażółć".as_bytes()).unwrap_err();
    assert!(
        told.starts_with("topic: {t}: `zażółć` is no topic's name") && told.contains("[topics]"),
        "{told}"
    );
}

#[test]
fn null_in_longer_text_is_an_error_and_alone_it_is_left_out() {
    let settings =
        [("topic", "t"), ("key", "{a}:{b}"), ("value", "a"), ("cloudevents", "off"), ("headers.b", "{b}")];
    let cells: [Cell<'_>; 2] = [("a", 25, Some(b"x")), ("b", 25, None)];
    let told = one(&settings, &cells).unwrap_err().to_string();
    assert_eq!(told, "key: {b}: it is NULL, and more text stands beside it");
    let settings =
        [("topic", "t"), ("key", "b"), ("value", "a"), ("cloudevents", "off"), ("headers.b", "{b}")];
    let got = one(&settings, &cells).unwrap();
    assert_eq!((got.key, got.headers.len()), (None, 2));
}

#[test]
fn a_partition_and_a_time_come_from_columns() {
    let settings = [
        ("topic", "t"),
        ("key", ""),
        ("value", "a"),
        ("cloudevents", "off"),
        ("partition", "p"),
        ("timestamp", "{at|ms}"),
    ];
    let cells = |p: i32| -> [(&'static str, u32, Option<Vec<u8>>); 3] {
        [
            ("a", 25, Some(b"x".to_vec())),
            ("p", 23, Some(p.to_be_bytes().to_vec())),
            ("at", 20, Some(1_772_359_200_250i64.to_be_bytes().to_vec())),
        ]
    };
    let record = |p: i32| {
        let cells = cells(p);
        let cells: Vec<Cell<'_>> =
            cells.iter().map(|(name, oid, value)| (*name, *oid, value.as_deref())).collect();
        one(&settings, &cells)
    };
    let got = record(4).unwrap();
    assert_eq!((got.partition, got.timestamp_ms), (Some(4), 1_772_359_200_250));
    assert!(record(-1).unwrap_err().to_string().contains("-1 is no partition's number"));
}

#[test]
fn a_domain_is_read_as_its_base_type_and_what_has_no_such_form_is_refused_by_name() {
    let settings = [("topic", "t"), ("key", ""), ("value", "v"), ("cloudevents", "off")];
    assert_eq!(one(&settings, &[("v", 16_701, Some(b"\x01{}"))]).unwrap().value(), "{}");
    assert_eq!(one(&settings, &[("v", 16_704, Some(b"x"))]).unwrap().value(), "x");
    for (oid, what) in
        [(16_702, "public.pair (a composite type)"), (16_703, "integer[]"), (600, "with oid 600")]
    {
        let told = one(&settings, &[("v", oid, None)]).unwrap_err().to_string();
        assert!(told.contains(what) && told.contains("value: `v`"), "{told}");
    }
}

#[test]
fn a_type_that_the_catalogue_has_no_more_is_what_the_stream_calls_it_or_unknown() {
    let settings = [("topic", "t"), ("key", ""), ("value", "v"), ("cloudevents", "off")];
    let table = OutboxTable::new("public", "outbox", mapping(&settings));
    let name = |namespace: &str, name: &str| TypeName {
        oid: 16_999,
        namespace: namespace.into(),
        name: name.into(),
    };
    let with = |types: &Types| Plan::new(&table, &relation(&[("v", 16_999)]), types);
    let unknown = with(&types()).unwrap_err();
    assert!(matches!(unknown, OutboxError::UnknownType { oid: 16_999, .. }), "{unknown}");
    let mut known = types();
    known.named(name("public", "event_type_enum"));
    assert!(with(&known).is_ok(), "an enum that was made anew");
    known.named(name("pg_catalog", "jsonb"));
    assert!(with(&known).is_ok(), "a domain that was dropped");
    known.named(name("public", "something_else"));
    let told = with(&known).unwrap_err().to_string();
    assert!(told.contains("public.something_else (oid 16999)"), "{told}");
}

#[test]
fn an_enum_none_of_whose_labels_the_message_has_is_refused_before_any_row() {
    let columns = |type_oid: u32| {
        let mut columns = packages();
        columns[2].1 = type_oid;
        columns
    };
    let with =
        |columns: &[(&str, u32)], types: &Types| Plan::new(&fixture::table(), &relation(columns), types);
    let told = with(&columns(25), &types()).unwrap_err().to_string();
    assert!(told.contains("fields.PackageID: `package_id` has the type text: expected smallint"), "{told}");
    let foreign = Types::new([TypeFact {
        oid: 16_700,
        namespace: "public".into(),
        name: "status".into(),
        kind: Kind::Text,
        what: "an enum".into(),
        labels: vec!["Opened".into()],
    }]);
    let told = with(&columns(20), &foreign).unwrap_err().to_string();
    assert!(told.contains("none of its labels Opened is one of Created, Updated, Removed"), "{told}");
}

#[test]
fn a_late_event_has_the_time_of_its_publishing_and_nothing_else_changes() {
    let plan = Arc::new(fixture::plan());
    let placed = fixture::placed(&plan, 1, "7", POSITION);
    let record = |late_after: Option<u64>, late_by_ms: i64| {
        let mut renderer = Renderer::default().with_late_after(late_after.map(Duration::from_millis));
        renderer.at(POSITION.committed_at + late_by_ms * 1_000);
        let got = got(&mut renderer, &placed).unwrap();
        (got.timestamp_ms, Got { timestamp_ms: 0, ..got })
    };
    let (committed_ms, rest) = record(None, 1_000_000);
    assert_eq!(committed_ms, 1_700_000_000_123);
    for (late_by_ms, expected) in [(-5_000, committed_ms), (1_000, committed_ms), (1_001, 0)] {
        let (timestamp_ms, others) = record(Some(1_000), late_by_ms);
        assert_eq!(timestamp_ms, expected, "{late_by_ms}");
        assert_eq!(others, rest);
    }
}

#[test]
fn a_row_from_before_1970_has_a_time_that_kafka_knows_and_one_without_a_time_that_of_publishing() {
    let plan = Arc::new(fixture::plan());
    for (committed_at, expected) in
        [(-62_135_596_800_000_000, 1), (-1, 1), (0, 1), (Position::UNKNOWN_TIME, 0)]
    {
        let placed = fixture::placed(&plan, 1, "7", Position { committed_at, ..POSITION });
        assert_eq!(got(&mut Renderer::default(), &placed).unwrap().timestamp_ms, expected);
    }
}

#[test]
fn what_was_guessed_stays_whatever_columns_are_added() {
    let columns = [("id", 20), ("key", 25), ("payload", 25), ("topic", 25)];
    let table = OutboxTable::new("public", "outbox", Mapping::default());
    let before = table.guessed(&relation(&columns), &types(), &mapping::Guesses::new()).unwrap();
    assert_eq!(before.guesses["id"].as_deref(), Some("id"));
    assert_eq!(before.guesses["type"], None);
    // One that would be another key, one that makes the value ambiguous, one that would be the type.
    let added = [&columns[..], &[("message_key", 25), ("message", 25), ("event_type", 25)]].concat();
    assert!(table.guessed(&relation(&added), &types(), &mapping::Guesses::new()).is_err());
    let after = table.guessed(&relation(&added), &types(), &before.guesses).unwrap();
    assert_eq!((&after.mapping, &after.guesses), (&before.mapping, &before.guesses));
    // Rows of both times are read.
    for described in [&columns[..], &added] {
        assert!(Plan::new(&after, &relation(described), &types()).is_ok());
    }
    // What is said wins over what was guessed.
    let said = OutboxTable::new("public", "outbox", mapping(&[("type", "event_type")]));
    let said = said.guessed(&relation(&added), &types(), &before.guesses).unwrap();
    assert_eq!(said.mapping.kind.given().unwrap().source, "event_type");
}

#[test]
fn a_row_with_more_headers_than_anyone_wants_is_refused_at_once() {
    let members: Vec<_> = (0..100_000).map(|n| format!("\"h{n}\": 1")).collect();
    let json = format!("{{{}}}", members.join(", "));
    let settings =
        [("topic", "t"), ("key", ""), ("value", "j"), ("headers_from", "j"), ("cloudevents", "off")];
    let told = one(&settings, &[("j", 114, Some(json.as_bytes()))]).unwrap_err().to_string();
    assert!(
        told.contains("headers-from: {j}: it is not a JSON object of headers: more than 1000 headers"),
        "{told}"
    );
    let blank = one(&settings, &[("j", 25, Some(b" "))]).unwrap();
    assert_eq!(blank.headers.len(), 2);
}

#[test]
fn a_reason_quotes_a_little_of_what_it_is_about() {
    let long = "x y".repeat(100_000);
    let settings = [("topic", "{t}"), ("key", ""), ("value", "t"), ("cloudevents", "off")];
    let told = one(&settings, &[("t", 25, Some(long.as_bytes()))]).unwrap_err().to_string();
    assert!(told.len() < 500 && told.contains("…` (300000 bytes)"), "{}", told.len());
    let told = one(&settings, &[("t", 25, Some(b"__consumer_offsets"))]).unwrap_err().to_string();
    assert!(told.contains("`__consumer_offsets` is a topic that Kafka keeps for itself"), "{told}");
}

#[test]
fn mistakes_that_only_rows_would_show_are_said_before_any_row() {
    let said =
        |settings: &[(&str, &str)], columns: &[(&str, u32)]| plan(settings, columns).unwrap_err().to_string();
    let base = [("topic", "t"), ("key", ""), ("cloudevents", "off")];
    let told = said(&[&base[..], &[("value", "{@row}")]].concat(), &[("a", 869)]);
    assert!(
        told.contains("value: `a` has the type with oid 869, which cannot be part of a record"),
        "{told}"
    );
    let told =
        said(&[&base[..], &[("value", "a"), ("time", "{at|ms}")]].concat(), &[("a", 25), ("at", 1184)]);
    assert!(told.contains("time: `at` is a time already"), "{told}");
    let mapping = Mapping { value: Choice::Absent, ..mapping(&base) };
    let table = OutboxTable { order: Some("as".into()), ..OutboxTable::new("public", "outbox", mapping) };
    let told = Plan::new(&table, &relation(&[("a", 25)]), &types()).unwrap_err().to_string();
    assert!(told.contains("value: the format needs one"), "{told}");
    let told =
        table.guessed(&relation(&[("a", 25)]), &types(), &mapping::Guesses::new()).unwrap_err().to_string();
    assert!(told.contains("order: `as` is not a column of public.outbox; nearest: a"), "{told}");
}

#[test]
fn what_is_called_json_is_text_and_of_members_that_are_there_twice_the_last_counts() {
    let settings =
        [("topic", "t"), ("key", ""), ("format", "json"), ("fields.f", "{b|json}"), ("cloudevents", "off")];
    let told = one(&settings, &[("b", 17, Some(b"{\"a\":\"\xff\"}"))]).unwrap_err().to_string();
    assert!(told.contains("it is not JSON: it is not text"), "{told}");
    let settings = [("topic", "t"), ("key", "{j.a.b}"), ("value", "j"), ("cloudevents", "off")];
    let key = |json: &[u8]| one(&settings, &[("j", 114, Some(json))]).map(|got| got.key);
    assert_eq!(key(br#"{"a":{"b":1},"a":{}}"#), Ok(None));
    assert_eq!(key(br#"{"a":{"b":1},"a":{"b":2}}"#), Ok(Some("2".into())));
    assert_eq!(key(b"1e999"), Ok(None));
    assert!(key(b"{\"a\":").is_err());
}

#[test]
fn a_field_of_proto2_is_written_at_its_default_too() {
    use prost_types::field_descriptor_proto::{Label, Type};
    use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};
    let file = |syntax: &str| FileDescriptorProto {
        syntax: Some(syntax.into()),
        message_type: vec![DescriptorProto {
            name: Some("M".into()),
            field: vec![FieldDescriptorProto {
                name: Some("n".into()),
                number: Some(1),
                label: Some(Label::Optional.into()),
                r#type: Some(Type::Int32.into()),
                ..FieldDescriptorProto::default()
            }],
            ..DescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    for (syntax, expected) in [("proto2", vec![8, 0]), ("proto3", vec![])] {
        let message = protobuf::Message::of_files(&[file(syntax)], "M").unwrap();
        let mut mapping =
            mapping(&[("topic", "t"), ("key", ""), ("fields.n", "{n}"), ("cloudevents", "off")]);
        mapping.format = Format::Protobuf(Arc::new(message));
        let table = OutboxTable::new("public", "outbox", mapping);
        let plan = Plan::new(&table, &relation(&[("n", 23)]), &types()).unwrap();
        assert_eq!(rendered(plan, &[Some(vec![0; 4])]).unwrap().value, Some(expected), "{syntax}");
    }
}

/// `message M { string id = 1; int32 qty = 2; repeated string tags = 3; }`, as a serialised set.
fn shop() -> Vec<u8> {
    use prost_types::field_descriptor_proto::{Label, Type};
    use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet};
    let field = |name: &str, number, kind: Type, label: Label| FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(label.into()),
        r#type: Some(kind.into()),
        ..FieldDescriptorProto::default()
    };
    let message = DescriptorProto {
        name: Some("Made".into()),
        field: vec![
            field("id", 1, Type::String, Label::Optional),
            field("qty", 2, Type::Int32, Label::Optional),
            field("tags", 3, Type::String, Label::Repeated),
        ],
        ..DescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("shop.proto".into()),
        package: Some("shop".into()),
        syntax: Some("proto3".into()),
        message_type: vec![message],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

#[test]
fn a_json_payload_becomes_the_message_that_its_row_names() {
    let messages = protobuf_json::Messages::read(&shop()).unwrap();
    let render = |message: &str, kind: &[u8], payload: Option<&[u8]>| {
        let mut mapping =
            mapping(&[("topic", "t"), ("key", ""), ("value", "payload"), ("cloudevents", "off")]);
        mapping.format = Format::ProtobufJson(messages.clone());
        mapping.message = Some(Template::text(message).unwrap());
        let table = OutboxTable::new("public", "outbox", mapping);
        let plan = Plan::new(&table, &relation(&[("kind", 25), ("payload", 3802)]), &types())?;
        let payload = payload.map(|payload| [&[1], payload].concat());
        rendered(plan, &[Some(kind.to_vec()), payload]).map(|got| got.value)
    };
    let json = br#"{"tags": ["a", "b"], "qty": 2, "id": "7"}"#;
    let expected = b"\x0a\x017\x10\x02\x1a\x01a\x1a\x01b".to_vec();
    assert_eq!(render("shop.{kind}", b"Made", Some(json)), Ok(Some(expected)));
    assert_eq!(render("shop.Made", b"", None), Ok(None));
    let told =
        |message, kind: &[u8], payload: &[u8]| render(message, kind, Some(payload)).unwrap_err().to_string();
    assert!(told("shop.{kind}", b"Lost", json).contains("the descriptor has no message `shop.Lost`"));
    assert!(told("shop.{kind}", b"Made", br#"{"id": "7", "more": 1}"#).contains("more"), "an unknown member");
    assert!(told("shop.{kind}", b"Made", br#"{"qty": "many"}"#).contains("it is no shop.Made in JSON"));
    assert!(
        told("shop.Mad", b"", b"{}").contains("message: it has no message `shop.Mad`; it has: shop.Made")
    );
}

/// With the schema that a registry has.
fn typed(settings: &[(&str, &str)], format: Format, kind: SchemaKind, text: &str) -> Mapping {
    let mapping = Mapping { format, ..mapping(settings) };
    let (subject, text) = ("t-value".to_owned(), text.to_owned());
    mapping.with_schema(&Registered { subject, version: 1, id: 7, kind, text }).unwrap()
}

const FRONT: [u8; 5] = [0, 0, 0, 0, 7];

#[test]
fn a_value_has_the_id_of_its_schema_before_it_and_a_null_has_nothing() {
    let settings =
        [("topic", "t"), ("key", ""), ("value", "v"), ("cloudevents", "off"), ("tombstone", "empty")];
    let render = |mapping: Mapping, oid: u32, value: Option<&[u8]>| {
        let plan =
            Plan::new(&OutboxTable::new("public", "outbox", mapping), &relation(&[("v", oid)]), &types());
        rendered(plan.unwrap(), &[value.map(<[u8]>::to_vec)]).map(|got| got.value)
    };
    let framed = |bytes: &[u8]| Ok(Some([&FRONT, bytes].concat()));
    let json = || typed(&settings, Format::Raw, SchemaKind::Json, "{}");
    assert_eq!(
        render(json(), 3802, Some(b"\x01{\"a\":  1}")),
        framed(b"{\"a\":  1}"),
        "the bytes are untouched"
    );
    assert_eq!(render(json(), 25, Some(b"[1]")), framed(b"[1]"));
    assert!(render(json(), 25, Some(b"no JSON")).unwrap_err().to_string().contains("it is not JSON"));
    let avro = || typed(&settings, Format::AvroJson(None), SchemaKind::Avro, "\"string\"");
    assert_eq!(render(avro(), 3802, Some(b"\x01\"hi\"")), framed(b"\x04hi"));
    let bytes = || typed(&settings, Format::Raw, SchemaKind::Avro, "\"string\"");
    assert_eq!(render(bytes(), 17, Some(b"\x04hi")), framed(b"\x04hi"));
    for (mapping, oid) in [(json(), 25), (avro(), 25), (bytes(), 17)] {
        assert_eq!(render(mapping.clone(), oid, None), Ok(None));
        assert_eq!(render(mapping, oid, Some(b"")), Ok(None), "the setting tombstone");
    }
    let text = Plan::new(&OutboxTable::new("public", "outbox", bytes()), &relation(&[("v", 25)]), &types());
    assert!(text.unwrap_err().to_string().contains("raw is the value as it is"), "text is no Avro");
}

#[test]
fn each_message_that_a_row_names_has_its_own_indexes() {
    let messages = protobuf_json::Messages::read(&shop()).unwrap();
    let proto = "syntax = \"proto3\"; package shop; message First {} message Made { string id = 1; }";
    let settings = [("topic", "t"), ("key", ""), ("value", "payload"), ("cloudevents", "off")];
    let render = |message: &str, proto: &str| {
        let mut mapping =
            typed(&settings, Format::ProtobufJson(messages.clone()), SchemaKind::Protobuf, proto);
        mapping.message = Some(Template::text(message).unwrap());
        let table = OutboxTable::new("public", "outbox", mapping);
        let plan = Plan::new(&table, &relation(&[("kind", 25), ("payload", 3802)]), &types())?;
        rendered(plan, &[Some(b"Made".to_vec()), Some(b"\x01{\"id\": \"7\"}".to_vec())]).map(|got| got.value)
    };
    let expected = [&FRONT[..], b"\x02\x02\x0a\x017"].concat();
    assert_eq!(render("shop.Made", proto), Ok(Some(expected.clone())));
    assert_eq!(render("shop.{kind}", proto), Ok(Some(expected)));
    let lacks = proto.replace("Made", "Gone");
    for message in ["shop.Made", "shop.{kind}"] {
        let told = render(message, &lacks).unwrap_err().to_string();
        assert!(told.contains("message: ") && told.contains("has no message `shop.Made`"), "{told}");
    }
}

/// Else records would go out that nobody could read.
#[test]
fn nothing_is_sent_before_the_registry_was_asked() {
    let wanted = Wanted { subject: "t-value".into(), version: Version::Latest, file: None, message: None };
    let settings = [("topic", "t"), ("key", ""), ("value", "v"), ("cloudevents", "off")];
    for format in [Format::Raw, Format::AvroJson(None)] {
        let framing = Framing::Asked(Arc::new(wanted.clone()));
        let mapping = Mapping { format, framing, ..mapping(&settings) };
        let plan =
            Plan::new(&OutboxTable::new("public", "outbox", mapping), &relation(&[("v", 3802)]), &types());
        let told = rendered(plan.unwrap(), &[Some(b"\x01{}".to_vec())]).unwrap_err().to_string();
        assert!(told.contains("the registry has not been asked"), "{told}");
    }
}

#[test]
fn columns_that_do_not_fit_their_fields_are_said_at_once() {
    let schema = r#"{"type": "record", "name": "Order", "fields": [{"name": "id", "type": "int"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["Paid"]}},
        {"name": "sum", "type": "string"}, {"name": "note", "type": ["null", "string"]}]}"#;
    let settings = [
        ("topic", "t"),
        ("key", ""),
        ("fields.id", "{flag}"),
        ("fields.at.x", "{id}"),
        ("fields.state", "{kind}"),
        ("fields.not", "{id}"),
    ];
    let mapping = typed(&settings, Format::Avro(None), SchemaKind::Avro, schema);
    let table = OutboxTable::new("public", "outbox", mapping);
    let told = Plan::new(&table, &relation(&[("id", 20), ("flag", 16), ("kind", 16_700)]), &types());
    let told = told.unwrap_err().to_string();
    for part in [
        "fields.id: `flag` has the type bool: the field is int",
        "fields.at: it is timestamp-millis, which has no fields",
        "none of its labels Created, Moved is one of Paid",
        "fields.not: the record Order has no such field; it has: id, at, state, sum, note",
        "fields: the field sum is needed: the schema has no default for it",
    ] {
        assert!(told.contains(part), "{part}\n{told}");
    }
}

/// In 64 bits of microseconds the last of them would come round to another year.
#[test]
fn a_date_that_no_record_can_have_is_refused_however_far_it_is() {
    let settings = [("topic", "t"), ("key", ""), ("value", "{day}"), ("cloudevents", "off")];
    let of = |days: i32| one(&settings, &[("day", 1082, Some(&days.to_be_bytes()))]).map(|got| got.value());
    assert_eq!(of(0), Ok("2000-01-01".into()));
    for days in [i32::MAX - 1, i32::MIN + 1, 2_145_031_948, 213_503_982, -213_503_983] {
        assert!(of(days).unwrap_err().to_string().contains("outside of the years 1 to 9999"), "{days}");
    }
}

/// A value of one of the types, in its binary form or anything else.
fn value() -> impl Strategy<Value = (u32, Option<Vec<u8>>)> {
    let oid = prop::sample::select(vec![
        21u32, 23, 20, 700, 701, 1700, 16, 25, 1043, 114, 3802, 17, 2950, 1114, 1184, 1082, 1009, 1007,
        16_700, 16_701,
    ]);
    let bytes = prop_oneof![
        3 => prop::collection::vec(any::<u8>(), 0..24),
        2 => Just(8i64.to_be_bytes().to_vec()),
        1 => Just(vec![1]),
        2 => "[a-z{}\\[\\]\",:1 ]{0,12}".prop_map(String::into_bytes),
        1 => "\u{1}[a-z{}\\[\\]\",:1 ]{0,12}".prop_map(String::into_bytes),
        2 => Just(b"{\"a\": {\"b\": \"x\"}, \"n\": 1}".to_vec()),
        1 => Just(b"\x01{\"a\": {\"b\": \"x\"}, \"n\": 1}".to_vec()),
        1 => Just(b"2026-03-01T10:00:00Z".to_vec()),
    ];
    (oid, prop::option::weighted(0.9, bytes))
}

fn expression() -> impl Strategy<Value = String> {
    let operand = prop_oneof![
        4 => prop::sample::select(vec!["c0", "c1", "c2", "c0.a", "c1.a.b", "c2.n"]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["@table", "@row", "@lsn", "@seq", "@topic", "@committed_at"]).prop_map(str::to_owned),
    ];
    let filter = prop::sample::select(vec![
        "|lower",
        "|before:a",
        "|after:a",
        "|last:a",
        "|quote",
        "|json",
        "|base64",
        "|ms",
        "|us",
        "|s",
    ]);
    (prop::collection::vec(operand, 1..3), prop::collection::vec(filter, 0..3))
        .prop_map(|(operands, filters)| format!("{{{}{}}}", operands.join(" ?? "), filters.concat()))
}

fn template() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => expression(),
        1 => (expression(), expression()).prop_map(|(a, b)| format!("{a}-{b}")),
        1 => Just("constant".to_owned()),
    ]
}

proptest! {
    /// Any row of any types through any settings: refused at the start, or each row gives the same record twice, or says
    /// twice in the same words why it gives none.
    #[test]
    fn a_row_gives_the_same_bytes_twice_whatever_it_is(
        cells in prop::collection::vec(value(), 3),
        texts in prop::collection::vec(template(), 6),
        format in 0usize..3,
    ) {
        let mut settings = vec![
            ("topic", "t"), ("key", texts[0].as_str()), ("value", &texts[1]), ("headers.x", &texts[2]),
            ("headers_from", &texts[3]), ("timestamp", &texts[4]), ("fields.f", &texts[5]),
        ];
        match format {
            0 => settings.retain(|(setting, _)| *setting != "fields.f"),
            1 => settings.push(("format", "json")),
            _ => settings.extend([("format", "cloudevents"), ("id", &texts[2]), ("type", "c1")]),
        }
        let names = ["c0", "c1", "c2"];
        let columns: Vec<_> = names.into_iter().zip(&cells).map(|(name, (oid, _))| (name, *oid)).collect();
        if let Ok(plan) = plan(&settings, &columns) {
            let row: Vec<_> = cells.iter().map(|(_, value)| value.clone()).collect();
            let row = Tuple::from_values(row.iter().map(Option::as_deref));
            let placed = PlacedRow { row, plan: Arc::new(plan), position: POSITION };
            let mut used = Renderer::default();
            let first = got(&mut used, &placed);
            let other = got(&mut used, &fixture::placed(&Arc::new(fixture::plan()), 1, "7", POSITION));
            prop_assert!(other.is_ok());
            prop_assert_eq!(&first, &got(&mut used, &placed), "buffers that were used");
            prop_assert_eq!(&first, &got(&mut Renderer::default(), &placed), "new buffers");
            if let Ok(got) = &first
                && format > 0
                && let Some(value) = &got.value
            {
                prop_assert!(serde_json::from_slice::<serde_json::Value>(value).is_ok(), "{}", got.value());
            }
        }
    }

    /// The same of values with a schema: what is admitted is written, and what is not says so twice in the same words.
    #[test]
    fn a_row_gives_the_same_datum_twice_whatever_it_is(
        cells in prop::collection::vec(value(), 3),
        texts in prop::collection::vec(template(), 3),
        shape in prop::sample::select(vec![
            "\"string\"", "\"long\"", "\"bytes\"", "\"double\"", "[\"null\", \"long\", \"string\"]",
            "{\"type\": \"map\", \"values\": [\"string\", \"int\", {\"type\": \"map\", \"values\": \"string\"}]}",
            "{\"type\": \"array\", \"items\": [\"null\", \"int\", \"string\"]}",
            "{\"type\": \"bytes\", \"logicalType\": \"decimal\", \"precision\": 9, \"scale\": 2}",
            "{\"type\": \"long\", \"logicalType\": \"timestamp-millis\"}", "{\"type\": \"int\", \"logicalType\": \"date\"}",
            "{\"type\": \"string\", \"logicalType\": \"uuid\"}",
        ]),
        is_of_columns in any::<bool>(),
    ) {
        let (settings, format, schema) = if is_of_columns {
            let field = |name: &str| format!("{{\"name\": \"{name}\", \"type\": {shape}}}");
            let schema = format!("{{\"type\": \"record\", \"name\": \"R\", \"fields\": [{}]}}", field("f"));
            (vec![("topic", "t"), ("key", ""), ("fields.f", texts[0].as_str())], Format::Avro(None), schema)
        } else {
            (vec![("topic", "t"), ("key", ""), ("value", &texts[1])], Format::AvroJson(None), shape.to_owned())
        };
        let names = ["c0", "c1", "c2"];
        let columns: Vec<_> = names.into_iter().zip(&cells).map(|(name, (oid, _))| (name, *oid)).collect();
        let table = OutboxTable::new("public", "outbox", typed(&settings, format, SchemaKind::Avro, &schema));
        if let Ok(plan) = Plan::new(&table, &relation(&columns), &types()) {
            let row = Tuple::from_values(cells.iter().map(|(_, value)| value.as_deref()));
            let placed = PlacedRow { row, plan: Arc::new(plan), position: POSITION };
            let mut used = Renderer::default();
            let first = got(&mut used, &placed);
            prop_assert_eq!(&first, &got(&mut used, &placed), "buffers that were used");
            prop_assert_eq!(&first, &got(&mut Renderer::default(), &placed), "new buffers");
            if let Ok(Got { value: Some(value), .. }) = &first {
                prop_assert_eq!(&value[..5], &FRONT[..]);
                let parsed = apache_avro::Schema::parse_str(&schema).unwrap();
                let reader = GenericDatumReader::builder(&parsed).build().unwrap();
                let mut left = &value[5..];
                prop_assert!(reader.read_value(&mut left).is_ok() && left.is_empty(), "{:?}", value);
            }
        }
    }
}
