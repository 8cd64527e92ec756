//! A record as a line of JSON, for programs.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat};
use logistic_package_proto::package_event::PackageEvent;
use serde::Serialize;
use serde_json::{Map, Value};

use super::content::{Content, Plain, type_name};
use super::terminal;
use crate::kafka::consumer::StoredRecord;

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    /// RFC 3339.
    timestamp: Option<String>,
    key: Plain<'a>,
    headers: Map<String, Value>,
    /// What `value` is: `package-event`, `json`, `text` or `bytes`.
    format: Option<&'static str>,
    value: Shown<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Event(Event<'a>),
    Plain(&'a Plain<'a>),
}

/// By the names of the .proto file.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Event<'a> {
    #[serde(rename = "ID")]
    id: u64,
    #[serde(rename = "PackageID")]
    package_id: u64,
    r#type: String,
    created: Option<String>,
    payload: &'a Plain<'static>,
}

pub(super) fn line(record: &StoredRecord, content: &Content<'_>) -> String {
    let line = Line {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: timestamp(record),
        key: Plain::text_or_null(record.key.as_deref()),
        headers: headers(record),
        format: content.format(),
        value: match content {
            Content::Event(event, payload) => Shown::Event(shown(event, payload)),
            Content::Plain(plain) => Shown::Plain(plain),
        },
    };
    // Nothing in it can fail: its keys are texts, and it is in memory.
    let line = serde_json::to_string(&line).unwrap_or_default();
    match terminal::escaped(&line) {
        Cow::Borrowed(_) => line,
        Cow::Owned(safe) => safe,
    }
}

fn shown<'a>(event: &PackageEvent, payload: &'a Plain<'static>) -> Event<'a> {
    let created = event.created.as_ref().and_then(|created| {
        let nanos = u32::try_from(created.nanos).ok()?;
        DateTime::from_timestamp(created.seconds, nanos)
    });
    Event {
        id: event.id,
        package_id: event.package_id,
        r#type: type_name(event),
        created: created.map(|created| created.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
        payload,
    }
}

/// A name that comes again has a list of its values.
fn headers(record: &StoredRecord) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, value) in &record.headers {
        let value = serde_json::to_value(Plain::text_or_null(value.as_deref())).unwrap_or_default();
        match map.get_mut(name) {
            None => drop(map.insert(name.clone(), value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    map
}

/// The record's time to the millisecond, where it has one.
pub(super) fn timestamp(record: &StoredRecord) -> Option<String> {
    let time = DateTime::from_timestamp_millis(record.timestamp_ms?)?;
    Some(time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn of(record: &StoredRecord) -> String {
        line(record, &Content::of(record.value.as_deref()))
    }

    #[test]
    fn an_event_has_the_names_of_the_contract() {
        let headers = vec![("ce_id".into(), Some(b"x".to_vec()))];
        let record = StoredRecord { headers, ..samples::updated(b"{\"ID\": 7, \"MaximumVolume\": 700.50}") };
        assert_eq!(
            of(&record),
            r#"{"topic":"commands","partition":2,"offset":14,"timestamp":"2023-11-14T22:13:20.123Z","key":"7","headers":{"ce_id":"x"},"format":"package-event","value":{"ID":9,"PackageID":7,"Type":"Updated","Created":"2023-11-14T22:13:20.120Z","Payload":{"ID":7,"MaximumVolume":700.50}}}"#
        );
    }

    #[test]
    fn null_and_empty_and_bytes_are_told_apart() {
        assert!(of(&samples::record(None)).ends_with(r#""format":null,"value":null}"#));
        assert!(of(&samples::record(Some(b"null"))).ends_with(r#""format":"json","value":null}"#));
        assert!(of(&samples::record(Some(b""))).ends_with(r#""format":"text","value":""}"#));
        assert!(
            of(&samples::record(Some(b"\xff\x00"))).ends_with(r#""format":"bytes","value":{"hex":"ff00"}}"#)
        );
        assert!(of(&samples::event(2, b"")).contains(r#""Type":"Removed","#));
        assert!(of(&samples::event(2, b"")).ends_with(r#""Payload":null}}"#));
        let bare = StoredRecord { key: None, timestamp_ms: None, ..samples::record(None) };
        assert!(of(&bare).contains(r#""timestamp":null,"key":null"#));
    }

    #[test]
    fn a_header_that_comes_again_loses_no_value() {
        let header = |value: Option<&[u8]>| ("h".to_owned(), value.map(<[u8]>::to_vec));
        let headers = vec![header(Some(b"a")), header(None), header(Some(b"\xff"))];
        let record = StoredRecord { headers, ..samples::record(None) };
        assert!(of(&record).contains(r#""headers":{"h":["a",null,{"hex":"ff"}]}"#), "{}", of(&record));
    }

    #[test]
    fn a_line_is_harmless_and_says_the_same() {
        let payload = "{\"Title\": \"\u{9b}2J\u{202e}\"}";
        let record =
            StoredRecord { key: Some(b"\x1b]0;x\x07".to_vec()), ..samples::updated(payload.as_bytes()) };
        let line = of(&record);
        assert!(!line.contains(|letter: char| letter.is_control() || letter == '\u{202e}'), "{line}");
        let read: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["value"]["Payload"]["Title"], "\u{9b}2J\u{202e}");
        assert_eq!(read["key"], "\x1b]0;x\x07");
    }
}
