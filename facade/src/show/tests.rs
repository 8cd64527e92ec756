#![allow(clippy::unwrap_used)]

use logistic_package_proto::package_event::PackageEvent;
use proptest::prelude::*;
use prost::Message as _;
use prost_types::Timestamp;
use serde_json::Value;

use super::*;

fn event(kind: i32, created: Option<(i64, i32)>, payload: &[u8]) -> PackageEvent {
    PackageEvent {
        id: u64::MAX,
        package_id: 7,
        r#type: kind,
        created: created.map(|(seconds, nanos)| Timestamp { seconds, nanos }),
        payload: payload.to_vec(),
    }
}

fn of_event(event: &PackageEvent) -> Shown {
    show(Kind::PackageEvent, Some(&event.encode_to_vec()))
}

fn text(shown: &Shown) -> &str {
    shown.text.as_deref().unwrap_or_else(|| panic!("{shown:?}"))
}

fn read(shown: &Shown) -> Value {
    serde_json::from_str(text(shown)).unwrap()
}

fn of_json(value: &str) -> Shown {
    show(Kind::Json, Some(value.as_bytes()))
}

#[test]
fn an_event_has_the_keys_and_the_order_of_the_go_program() {
    let payload = r#"{"ID": 7, "Title": "<b>&", "Sizes": [], "MaximumVolume": 700.50}"#;
    let shown = of_event(&event(1, Some((1_700_000_000, 120_000_000)), payload.as_bytes()));
    let expected = r#"{
    "ID": 18446744073709551615,
    "PackageID": 7,
    "Type": "Updated",
    "Created": "2023-11-14T22:13:20.12Z",
    "Payload": {
        "ID": 7,
        "Title": "\u003cb\u003e\u0026",
        "Sizes": [],
        "MaximumVolume": 700.50
    }
}"#;
    assert_eq!((text(&shown), &shown.complaint), (expected, &None));
}

#[test]
fn a_removal_has_no_payload_and_a_type_of_a_later_version_no_name() {
    let removed = read(&of_event(&event(2, None, b"")));
    assert_eq!((&removed["Type"], &removed["Payload"]), (&"Removed".into(), &Value::Null));
    assert_eq!(read(&of_event(&event(9, None, b"")))["Type"], "");
}

#[test]
fn a_time_has_as_many_decimals_as_it_has() {
    let created =
        |seconds, nanos| read(&of_event(&event(0, Some((seconds, nanos)), b"")))["Created"].to_string();
    assert_eq!(created(1_700_000_000, 0), r#""2023-11-14T22:13:20Z""#);
    assert_eq!(created(1_700_000_000, 700_000_000), r#""2023-11-14T22:13:20.7Z""#);
    assert_eq!(created(1_700_000_000, 1), r#""2023-11-14T22:13:20.000000001Z""#);
    // Carried over, as by Go's time.Unix.
    assert_eq!(created(1_700_000_000, -1), r#""2023-11-14T22:13:19.999999999Z""#);
    assert_eq!(created(0, 2_000_000_000), r#""1970-01-01T00:00:02Z""#);
    assert_eq!(created(-62_135_596_800, 0), r#""0001-01-01T00:00:00Z""#);
    // Absent is protobuf's zero.
    assert_eq!(read(&of_event(&event(0, None, b"")))["Created"], "1970-01-01T00:00:00Z");
    for seconds in [i64::MAX, i64::MIN, 253_402_300_800] {
        let shown = of_event(&event(0, Some((seconds, 0)), b""));
        assert_eq!(shown, Shown::unreadable(Complaint::Time));
    }
}

#[test]
fn a_payload_that_is_no_json_is_a_string() {
    assert_eq!(read(&of_event(&event(0, None, b"hello\x1b")))["Payload"], "hello\x1b");
    assert_eq!(read(&of_event(&event(0, None, b" ")))["Payload"], " ");
    let shown = of_event(&event(0, None, b"a\xff"));
    assert_eq!(read(&shown)["Payload"], "a\u{fffd}");
    assert_eq!(shown.complaint, Some(Complaint::Payload));
}

#[test]
fn nothing_is_made_up_of_what_is_no_event() {
    let complaint = |value| show(Kind::PackageEvent, value).complaint.unwrap();
    let text_of = |value| show(Kind::PackageEvent, value).text;
    assert_eq!(complaint(None), Complaint::Null);
    assert_eq!(complaint(Some(b"")), Complaint::Empty);
    assert!(matches!(complaint(Some(b"\xff\x00")), Complaint::NotProtobuf(_)));
    assert!(matches!(complaint(Some(b"{\"ID\": 1}")), Complaint::NotProtobuf(_)));
    // Protobuf reads it as field 13.
    assert_eq!(complaint(Some(b"hi")), Complaint::NoField);
    for value in [None, Some(&b""[..]), Some(b"\xff\x00"), Some(b"hi")] {
        assert_eq!(text_of(value), None);
    }
}

#[test]
fn a_record_of_the_bot_keeps_its_numbers_and_escapes() {
    let shown = of_json(
        "{\"a\":1.50,\r\n\t\"b\" : \"<\\u003c \\\" \\\\\", \"a\":[ ], \"c\":[{},[1e400,true]], \"d\": { }}",
    );
    let expected = r#"{
    "a": 1.50,
    "b": "<\u003c \" \\",
    "a": [],
    "c": [
        {},
        [
            1e400,
            true
        ]
    ],
    "d": {}
}"#;
    assert_eq!(text(&shown), expected);
    assert_eq!(text(&of_json(" 7\n")), "7");
    assert_eq!(text(&of_json(r#""\ud800""#)), r#""\ud800""#);
}

#[test]
fn a_record_of_the_bot_that_is_no_json_is_a_complaint() {
    for value in [None, Some(&b""[..]), Some(b" "), Some(b"hello"), Some(b"{} {}"), Some(b"\"\xff\"")] {
        let shown = show(Kind::Json, value);
        assert!(shown.text.is_none() && shown.complaint.is_some(), "{value:?}: {shown:?}");
    }
}

#[test]
fn a_value_of_an_unknown_topic_is_taken_for_what_it_looks_like() {
    let guess = |value| show(Kind::Guess, value);
    assert_eq!(text(&guess(Some(b"[1]"))), "[\n    1\n]");
    let removed = event(2, None, b"{}").encode_to_vec();
    assert_eq!(read(&guess(Some(&removed)))["Type"], "Removed");
    assert_eq!(text(&guess(Some(b"hi \x1b[2J"))), r#""hi \u001b[2J""#);
    assert_eq!(text(&guess(Some(b"\xff\x00"))), "{\n    \"hex\": \"ff00\"\n}");
    assert_eq!(text(&guess(Some(b""))), r#""""#);
    assert_eq!(text(&guess(None)), "null");
}

#[test]
fn brackets_alone_do_not_become_a_flood() {
    let deep = 100_000;
    let value = format!("{}1{}", "[".repeat(deep), "]".repeat(deep));
    let shown = of_json(&value);
    assert!(text(&shown).len() < value.len() + 10_000, "{}", text(&shown).len());
    assert_eq!(text(&shown).split_whitespace().collect::<String>(), value);
    // Siblings stay on the line as well.
    let wide = format!("{}0,0{}", "[".repeat(30), "]".repeat(30));
    assert!(text(&of_json(&wide)).contains("[[[[[[[[[0,0]]]]]]]]]"), "{}", text(&of_json(&wide)));
}

/// Any JSON, as `serde_json` has it.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[\\PC\u{0}-\u{9f}\u{2028}\u{202e}\"\\\\<&]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn is_harmless(text: &str) -> bool {
    !text.contains(|letter| letter != '\n' && terminal::drives_a_terminal(letter))
}

proptest! {
    #[test]
    fn json_stays_the_same_and_cannot_drive_a_terminal(value in any_json(), is_pretty: bool) {
        let written = if is_pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
        let shown = of_json(&written.unwrap());
        prop_assert_eq!(&read(&shown), &value);
        prop_assert!(is_harmless(text(&shown)), "{}", text(&shown));
    }

    #[test]
    fn json_has_the_layout_of_a_known_printer(value in any_json()) {
        let mut expected = Vec::new();
        let four = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        serde::Serialize::serialize(&value, &mut serde_json::Serializer::with_formatter(&mut expected, four)).unwrap();
        let shown = indent::indented(&serde_json::to_string(&value).unwrap(), |_| false);
        prop_assert_eq!(shown, String::from_utf8(expected).unwrap());
    }

    #[test]
    fn an_event_says_the_same_whatever_its_payload(
        value in any_json(), id: u64, package_id: u64, kind in 0..3_i32, seconds in 0..253_402_300_800_i64, nanos in 0..1_000_000_000_i32
    ) {
        let payload = serde_json::to_vec(&value).unwrap();
        let event = PackageEvent { id, package_id, ..event(kind, Some((seconds, nanos)), &payload) };
        let shown = of_event(&event);
        let read = read(&shown);
        prop_assert_eq!(&read["Payload"], &value);
        prop_assert_eq!((read["ID"].as_u64(), read["PackageID"].as_u64()), (Some(id), Some(package_id)));
        let created = chrono::DateTime::parse_from_rfc3339(read["Created"].as_str().unwrap()).unwrap();
        prop_assert_eq!((created.timestamp(), created.timestamp_subsec_nanos()), (seconds, u32::try_from(nanos).unwrap()));
        prop_assert!(is_harmless(text(&shown)), "{}", text(&shown));
    }

    #[test]
    fn whatever_the_bytes_something_is_said_and_all_that_is_printed_is_harmless_json(
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..64), any::<String>().prop_map(String::into_bytes)]
    ) {
        for kind in [Kind::PackageEvent, Kind::Json, Kind::Guess] {
            let shown = show(kind, Some(&bytes));
            prop_assert!(shown.text.is_some() || shown.complaint.is_some());
            if let Some(text) = &shown.text {
                prop_assert!(serde_json::from_str::<&RawValue>(text).is_ok(), "{}", text);
                prop_assert!(is_harmless(text), "{}", text);
            }
        }
    }
}
