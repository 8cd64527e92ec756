#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use logistic_package_proto::package_event::{EventType, PackageEvent};
use prost::Message as _;
use uuid::Uuid;

use super::*;
use crate::event::OutboxEvent;
use crate::event::position::Position;
use crate::lsn::Lsn;

fn placed(kind: &'static str, payload: Option<&'static [u8]>) -> PlacedEvent {
    let event = OutboxEvent {
        id: 41,
        key: Key::Integer(7),
        kind: Bytes::from_static(kind.as_bytes()),
        payload: payload.map(Bytes::from_static),
        created_at: 1_700_000_000_000_001,
        event_id: Uuid::from_u128(0x1234_5678_9abc_def0_1234_5678_9abc_def0),
        traceparent: Some(Bytes::from_static(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
    };
    let position = Position { lsn: Lsn(0x1_0000_00FF), ordinal: 3, committed_at: 1_700_000_000_123_999 };
    PlacedEvent { event, position, bytes: 100 }
}

fn encoder() -> Encoder {
    Encoder::new(EncoderSettings {
        format: Format::PackageEvent,
        source: "/logistic-package-api".into(),
        type_prefix: "hablof.logistic_package_api.package.".into(),
    })
}

#[test]
fn the_value_is_the_package_event_that_prost_would_write() {
    for (kind, number) in
        [("Created", EventType::Created), ("Updated", EventType::Updated), ("Removed", EventType::Removed)]
    {
        let payload = (kind != "Removed").then_some(b"{\"ID\": 7}".as_slice());
        let mut encoder = encoder();
        let record = encoder.encode(&placed(kind, payload)).unwrap();
        let expected = PackageEvent {
            id: 41,
            package_id: 7,
            r#type: number.into(),
            created: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 1_000 }),
            payload: payload.unwrap_or_default().to_vec(),
        };
        assert_eq!(record.value, expected.encode_to_vec());
    }
}

#[test]
fn key_headers_and_timestamp_are_those_of_the_contract() {
    let mut encoder = encoder();
    let record = encoder.encode(&placed("Updated", None)).unwrap();
    assert_eq!(record.key, b"7");
    assert_eq!(record.timestamp_ms, 1_700_000_000_123);
    let headers: Vec<_> =
        record.headers.iter().map(|(name, value)| (name, std::str::from_utf8(value).unwrap())).collect();
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "12345678-9abc-def0-1234-56789abcdef0"),
        ("ce_source", "/logistic-package-api"),
        ("ce_type", "hablof.logistic_package_api.package.updated"),
        ("ce_time", "2023-11-14T22:13:20.000001Z"),
        ("ce_subject", "7"),
        ("content-type", "application/protobuf"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("wal-lsn", "1/FF"),
        ("wal-seq", "3"),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn a_late_event_has_the_time_of_its_publishing_and_nothing_else_changes() {
    let placed = placed("Updated", None);
    let record = |late_after: Option<u64>, late_by_ms: i64| {
        let mut encoder = encoder().with_late_after(late_after.map(Duration::from_millis));
        encoder.at(placed.position.committed_at + late_by_ms * 1_000);
        let record = encoder.encode(&placed).unwrap();
        (record.timestamp_ms, format!("{:?} {:?} {:?}", record.key, record.value, record.headers))
    };
    let (committed_ms, rest) = record(None, 1_000_000);
    assert_eq!(committed_ms, 1_700_000_000_123);
    for (late_by_ms, expected) in [(-5_000, committed_ms), (1_000, committed_ms), (1_001, 0)] {
        assert_eq!(record(Some(1_000), late_by_ms), (expected, rest.clone()), "{late_by_ms}");
    }
}

#[test]
fn a_row_from_before_1970_has_a_time_that_kafka_knows() {
    for committed_at in [-62_135_596_800_000_000, -1, 0] {
        let mut placed = placed("Updated", None);
        placed.position.committed_at = committed_at;
        assert_eq!(encoder().encode(&placed).unwrap().timestamp_ms, 1);
    }
}

#[test]
fn buffers_used_again_hold_nothing_of_the_event_before() {
    let mut encoder = encoder();
    encoder.encode(&placed("Created", Some(b"{\"ID\": 7, \"Title\": \"a long one\"}"))).unwrap();
    let mut next = placed("Removed", None);
    next.event.traceparent = None;
    let again = format!("{:?}", encoder.encode(&next).unwrap());
    let fresh = format!("{:?}", self::encoder().encode(&next).unwrap());
    assert_eq!(again, fresh);
}

#[test]
fn an_event_that_does_not_fit_the_format_is_an_error() {
    let text = |placed: PlacedEvent| encoder().encode(&placed).unwrap_err().to_string();
    assert_eq!(text(placed("Moved", None)), "event type `Moved` is not one of Created, Updated, Removed");
    let mut negative = placed("Created", None);
    negative.event.id = -1;
    assert_eq!(text(negative), "the event's id is negative: -1");
    let mut named = placed("Created", None);
    named.event.key = Key::Text(Bytes::from_static(b"a"));
    assert_eq!(text(named), EncodeError::KeyNotANumber.to_string());
}
