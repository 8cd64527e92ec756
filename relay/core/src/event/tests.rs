#![allow(clippy::unwrap_used)]

use super::*;
use crate::pgoutput::{Column, Relation, Tuple, TypeName};
use crate::time::POSTGRES_EPOCH_US;

const EVENT_ID: [u8; 16] = *b"0123456789abcdef";

fn table() -> OutboxTable {
    let columns = [
        (Role::Id, "package_event_id"),
        (Role::Key, "package_id"),
        (Role::Type, "event_type"),
        (Role::Payload, "payload"),
        (Role::CreatedAt, "created_at"),
        (Role::EventId, "event_id"),
        (Role::Traceparent, "traceparent"),
    ];
    OutboxTable::new("public", "package_event", &columns)
}

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

/// The table with a column before and one between that mean nothing to the relay.
fn relation() -> Relation {
    let columns = [
        ("extra", 25),
        ("package_event_id", 20),
        ("package_id", 20),
        ("event_type", 16_700),
        ("payload", 3802),
        ("other", 23),
        ("created_at", 1184),
        ("event_id", 2950),
        ("traceparent", 25),
    ];
    let columns = columns.map(|(name, type_oid)| Column { name: name.into(), type_oid }).to_vec();
    Relation { id: 1, namespace: "public".into(), name: "package_event".into(), columns }
}

fn row() -> Vec<Option<Vec<u8>>> {
    vec![
        None,
        Some(41i64.to_be_bytes().to_vec()),
        Some(7i64.to_be_bytes().to_vec()),
        Some(b"Updated".to_vec()),
        Some(b"\x01{\"ID\": 7}".to_vec()),
        Some(5i32.to_be_bytes().to_vec()),
        Some(1_000_000i64.to_be_bytes().to_vec()),
        Some(EVENT_ID.to_vec()),
        None,
    ]
}

fn read(row: &[Option<Vec<u8>>]) -> Result<OutboxEvent, OutboxError> {
    let row = Tuple::from_values(row.iter().map(Option::as_deref));
    Plan::new(&table(), &relation(), &types()).unwrap().event(&row)
}

#[test]
fn a_row_becomes_an_event_by_the_names_of_its_columns() {
    let expected = OutboxEvent {
        id: 41,
        key: Key::Integer(7),
        kind: Bytes::from_static(b"Updated"),
        payload: Some(Bytes::from_static(b"{\"ID\": 7}")),
        created_at: 946_684_801_000_000,
        event_id: Uuid::from_bytes(EVENT_ID),
        traceparent: None,
    };
    assert_eq!(read(&row()).unwrap(), expected);
}

#[test]
fn a_null_payload_is_no_content_and_other_nulls_are_errors() {
    let without = |index: usize| {
        let mut row = row();
        row[index] = None;
        read(&row)
    };
    assert_eq!(without(4).unwrap().payload, None);
    for (index, role) in [(1, "id"), (2, "key"), (3, "type"), (6, "created-at"), (7, "event-id")] {
        assert_eq!(without(index).unwrap_err(), OutboxError::Null(role));
    }
}

#[test]
fn a_value_that_does_not_decode_is_an_error() {
    let with = |index: usize, value: &[u8]| {
        let mut row = row();
        row[index] = Some(value.to_vec());
        read(&row).unwrap_err().to_string()
    };
    assert!(with(1, b"123").contains("id column does not decode: an integer has"));
    assert!(with(3, b"\xff").contains("type column does not decode: text that is not UTF-8"));
    assert!(with(4, b"\x02{}").contains("unknown version of jsonb"));
    assert!(with(6, &i64::MAX.to_be_bytes()).contains("infinite"));
    assert!(with(7, b"short").contains("a UUID has 16 bytes"));
}

#[test]
fn a_missing_column_is_named_with_those_that_are_there() {
    let mut relation = relation();
    relation.columns[2].name = "parcel_id".into();
    let error = Plan::new(&table(), &relation, &types()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("table public.package_event has no column `package_id` (the setting column-key)"),
        "{text}"
    );
    assert!(text.contains("parcel_id"), "{text}");
    assert!(error.remedy().contains("--column-key=NEW,package_id"), "{}", error.remedy());
}

#[test]
fn a_type_that_does_not_fit_is_named_with_those_that_do() {
    let mut relation = relation();
    relation.columns[7].type_oid = 25;
    let text = Plan::new(&table(), &relation, &types()).unwrap_err().to_string();
    assert!(text.contains("`event_id`") && text.contains("expected uuid"), "{text}");
}

#[test]
fn keys_may_be_text_and_uuids() {
    let key = |oid: u32, value: &[u8]| {
        let mut relation = relation();
        relation.columns[2].type_oid = oid;
        let mut row = row();
        row[2] = Some(value.to_vec());
        let row = Tuple::from_values(row.iter().map(Option::as_deref));
        Plan::new(&table(), &relation, &types()).unwrap().event(&row).unwrap().key
    };
    assert_eq!(key(25, b"abc"), Key::Text(Bytes::from_static(b"abc")));
    assert_eq!(key(2950, &EVENT_ID), Key::Uuid(Uuid::from_bytes(EVENT_ID)));
    assert_eq!(key(23, &9i32.to_be_bytes()), Key::Integer(9));
}

#[test]
fn a_row_is_of_the_outbox_by_its_table_and_not_by_a_name() {
    let mut relation = relation();
    assert_eq!(table().is(&relation, 1), Ok(true));
    relation.name = "package_event_old".into();
    assert_eq!(table().is(&relation, 1), Ok(true), "renamed since, or back");
    assert_eq!(table().is(&relation, 99), Ok(false), "another table");
    relation.name = "package_event".into();
    let error = table().is(&relation, 99).unwrap_err();
    assert_eq!(error, OutboxError::Replaced { table: "public.package_event".into(), was: 1, is: 99 });
    assert!(error.remedy().contains("--table-was=1:"), "{}", error.remedy());
    let told = OutboxTable { predecessors: vec![1], ..table() };
    assert_eq!(told.is(&relation, 99), Ok(true));
}

/// The table with another type of a column.
fn with_type(column: usize, type_oid: u32) -> Relation {
    let mut relation = relation();
    relation.columns[column].type_oid = type_oid;
    relation
}

#[test]
fn a_domain_is_read_as_its_base_type_and_what_has_no_such_form_is_refused_by_name() {
    let mut row = row();
    row[4] = Some(b"\x01{}".to_vec());
    let row = Tuple::from_values(row.iter().map(Option::as_deref));
    let plan = Plan::new(&table(), &with_type(4, 16_701), &types()).unwrap();
    assert_eq!(plan.event(&row).unwrap().payload, Some(Bytes::from_static(b"{}")));
    assert!(Plan::new(&table(), &with_type(4, 16_704), &types()).is_ok());
    for (oid, what) in
        [(16_702, "public.pair (a composite type)"), (16_703, "integer[]"), (600, "with oid 600")]
    {
        let text = Plan::new(&table(), &with_type(4, oid), &types()).unwrap_err().to_string();
        assert!(text.contains(what) && text.contains("column-payload"), "{text}");
    }
}

#[test]
fn a_type_that_the_catalogue_has_no_more_is_what_the_stream_calls_it_or_unknown() {
    let name = |namespace: &str, name: &str| TypeName {
        oid: 16_999,
        namespace: namespace.into(),
        name: name.into(),
    };
    let unknown = Plan::new(&table(), &with_type(3, 16_999), &types()).unwrap_err();
    assert!(matches!(unknown, OutboxError::UnknownType { oid: 16_999, .. }), "{unknown}");
    let mut known = types();
    known.named(name("public", "event_type_enum"));
    assert!(Plan::new(&table(), &with_type(3, 16_999), &known).is_ok(), "an enum that was made anew");
    known.named(name("pg_catalog", "jsonb"));
    assert!(Plan::new(&table(), &with_type(4, 16_999), &known).is_ok(), "a domain that was dropped");
    known.named(name("public", "something_else"));
    let text = Plan::new(&table(), &with_type(3, 16_999), &known).unwrap_err().to_string();
    assert!(text.contains("public.something_else (oid 16999)"), "{text}");
}

#[test]
fn a_column_may_have_several_names_and_a_table_one_of_them() {
    let mut both = table();
    both.columns[1].names = vec!["parcel_id".into(), "package_id".into()];
    let mut renamed = relation();
    renamed.columns[2].name = "parcel_id".into();
    for relation in [&relation(), &renamed] {
        assert!(Plan::new(&both, relation, &types()).is_ok());
        assert_eq!(
            both.resolved(|name| relation.has(name)).column(Role::Key),
            Some(relation.columns[2].name.as_str())
        );
    }
    renamed.columns[5].name = "package_id".into();
    let text = Plan::new(&both, &renamed, &types()).unwrap_err().to_string();
    assert!(text.contains("more than one column of the setting column-key"), "{text}");
}

#[test]
fn a_column_may_have_several_roles() {
    let mut same = table();
    same.columns[1].names = vec!["package_event_id".into()];
    let row = Tuple::from_values(row().iter().map(Option::as_deref));
    let event = Plan::new(&same, &relation(), &types()).unwrap().event(&row).unwrap();
    assert_eq!((event.id, event.key), (41, Key::Integer(41)));
}

#[test]
fn what_the_format_can_never_hold_is_refused_before_any_row() {
    let mut numbers = OutboxTable { format: "package-event", ..table() };
    numbers.columns[1].kinds = &[Kind::Integer];
    let text = Plan::new(&numbers, &with_type(2, 25), &types()).unwrap_err().to_string();
    assert!(
        text.contains("`package_id`") && text.contains("column-key in the format package-event"),
        "{text}"
    );
    let known = OutboxTable { labels: &["Created", "Removed"], ..table() };
    assert!(Plan::new(&known, &relation(), &types()).is_ok(), "one of its labels will do");
    let foreign = OutboxTable { labels: &["Opened"], ..table() };
    let text = Plan::new(&foreign, &relation(), &types()).unwrap_err().to_string();
    assert!(text.contains("the labels Created, Moved") && text.contains("only Opened"), "{text}");
}

#[test]
fn a_time_outside_of_the_years_that_everybody_knows_is_an_error() {
    let at = |unix_us: i64| {
        let mut row = row();
        row[6] = Some((unix_us - POSTGRES_EPOCH_US).to_be_bytes().to_vec());
        read(&row).map(|event| event.created_at)
    };
    let (first, last) = (-62_135_596_800_000_000, 253_402_300_799_999_999);
    assert_eq!((at(first), at(last)), (Ok(first), Ok(last)));
    for beyond in [first - 1, last + 1] {
        assert!(at(beyond).unwrap_err().to_string().contains("years 1 to 9999"));
    }
}
