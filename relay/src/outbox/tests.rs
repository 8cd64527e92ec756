#![allow(clippy::unwrap_used)]

use super::*;
use crate::pgoutput::Column;

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
    OutboxTable {
        schema: "public".into(),
        table: "package_event".into(),
        columns: columns.map(|(role, name)| (role, name.to_owned())).to_vec(),
    }
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
    Plan::new(&table(), &relation()).unwrap().event(&row)
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
    let text = Plan::new(&table(), &relation).unwrap_err().to_string();
    assert!(
        text.starts_with("table public.package_event has no column `package_id` (the setting column-key)"),
        "{text}"
    );
    assert!(text.contains("parcel_id"), "{text}");
}

#[test]
fn a_type_that_does_not_fit_is_named_with_those_that_do() {
    let mut relation = relation();
    relation.columns[7].type_oid = 25;
    let text = Plan::new(&table(), &relation).unwrap_err().to_string();
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
        Plan::new(&table(), &relation).unwrap().event(&row).unwrap().key
    };
    assert_eq!(key(25, b"abc"), Key::Text(Bytes::from_static(b"abc")));
    assert_eq!(key(2950, &EVENT_ID), Key::Uuid(Uuid::from_bytes(EVENT_ID)));
    assert_eq!(key(23, &9i32.to_be_bytes()), Key::Integer(9));
}

#[test]
fn the_outbox_under_another_name_is_an_error_and_another_table_is_not() {
    let mut relation = relation();
    assert_eq!(table().is(&relation, 99), Ok(true), "made anew under its name");
    relation.name = "package_event_old".into();
    assert_eq!(table().is(&relation, 99), Ok(false));
    let text = table().is(&relation, 1).unwrap_err().to_string();
    assert_eq!(
        text,
        "table public.package_event was renamed to public.package_event_old while it was followed"
    );
}
