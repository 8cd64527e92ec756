//! `walpost tail`: the topic, as it grows.

use std::io::Write;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use logistic_package_proto::package_event::{EventType, PackageEvent};
use prost::Message as _;
use serde_json::{Map, Value, json};

use crate::sink::kafka::reader::{StoredRecord, TopicReader};

/// What is shown of the topic.
#[derive(Debug, Clone, Copy)]
pub struct TailOptions {
    /// From the oldest record that the topic has, instead of from now.
    pub from_start: bool,
    /// One JSON object a line, instead of text.
    pub json: bool,
    /// Stop at the end instead of waiting for more.
    pub until_end: bool,
}

/// How long a poll may take: a stop is noticed within it.
const POLL: Duration = Duration::from_millis(200);

/// Prints records until `stopped` says so or, where asked for, the end is reached. Blocks.
///
/// # Errors
/// When the topic cannot be read, or `out` not be written to.
pub fn run(
    mut reader: TopicReader,
    options: TailOptions,
    out: &mut dyn Write,
    stopped: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    while !stopped() {
        if options.until_end && reader.is_at_end() {
            break;
        }
        let Some(record) = reader.next(POLL)? else { continue };
        let line = if options.json { as_json(&record).to_string() } else { as_text(&record) };
        writeln!(out, "{line}")?;
    }
    Ok(())
}

fn as_text(record: &StoredRecord) -> String {
    let (what, payload) = match PackageEvent::decode(record.value.as_slice()) {
        Ok(event) => (
            format!("{:?} package {} event {}", event_type(&event), event.package_id, event.id),
            text(&event.payload),
        ),
        Err(_) => (format!("{} bytes", record.value.len()), String::new()),
    };
    let place = format!("{}@{}", record.partition, record.offset);
    format!("{} {place:>8} key={} {what} {payload}", timestamp(record), text(&record.key))
}

fn as_json(record: &StoredRecord) -> Value {
    let headers: Map<String, Value> =
        record.headers.iter().map(|(name, value)| (name.clone(), text(value).into())).collect();
    let value = match PackageEvent::decode(record.value.as_slice()) {
        Ok(event) => json!({
            "ID": event.id,
            "PackageID": event.package_id,
            "Type": format!("{:?}", event_type(&event)),
            "Payload": serde_json::from_slice::<Value>(&event.payload).unwrap_or(Value::Null),
        }),
        Err(_) => text(&record.value).into(),
    };
    json!({
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": timestamp(record),
        "key": text(&record.key),
        "headers": headers,
        "value": value,
    })
}

fn event_type(event: &PackageEvent) -> EventType {
    EventType::try_from(event.r#type).unwrap_or_default()
}

fn timestamp(record: &StoredRecord) -> String {
    let time = record.timestamp_ms.and_then(DateTime::from_timestamp_millis);
    time.map_or_else(|| "-".into(), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> StoredRecord {
        let event = PackageEvent {
            id: 9,
            package_id: 7,
            r#type: EventType::Updated.into(),
            created: None,
            payload: b"{\"ID\": 7}".to_vec(),
        };
        StoredRecord {
            partition: 2,
            offset: 14,
            timestamp_ms: Some(1_700_000_000_123),
            key: b"7".to_vec(),
            value: event.encode_to_vec(),
            headers: vec![("ce_id".into(), b"x".to_vec())],
        }
    }

    #[test]
    fn a_record_is_shown_as_a_line_of_text_or_of_json() {
        assert_eq!(
            as_text(&record()),
            "2023-11-14T22:13:20.123Z     2@14 key=7 Updated package 7 event 9 {\"ID\": 7}"
        );
        let json = as_json(&record());
        assert_eq!(json["value"]["Payload"]["ID"], 7);
        assert_eq!(json["headers"]["ce_id"], "x");
    }

    #[test]
    fn a_value_that_is_no_package_event_is_shown_all_the_same() {
        let record = StoredRecord { value: b"\xff\xff\xff".to_vec(), ..record() };
        assert!(as_text(&record).contains("3 bytes"), "{}", as_text(&record));
    }
}
