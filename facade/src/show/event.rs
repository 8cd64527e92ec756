//! A package event: protobuf in, JSON out, with the names of the .proto file.

use chrono::{DateTime, Datelike as _};
use logistic_package_proto::package_event::{EventType, PackageEvent};
use prost::Message as _;
use prost_types::Timestamp;

use super::indent::indented;
use super::terminal::drives_a_terminal_or_a_page;
use super::{Complaint, Shown, json, quoted};

const NANOS_PER_SECOND: i64 = 1_000_000_000;

pub(super) fn show(bytes: &[u8]) -> Shown {
    match PackageEvent::decode(bytes) {
        Err(error) => Shown::unreadable(Complaint::NotProtobuf(error.to_string())),
        Ok(event) if event == PackageEvent::default() => Shown::unreadable(Complaint::NoField),
        Ok(event) => printed(&event),
    }
}

/// Go's `encoding/json` wrote it from a struct: this order of keys, a number for each id, the payload as the JSON in it.
pub(super) fn printed(event: &PackageEvent) -> Shown {
    let Some(created) = rfc3339(event.created.as_ref()) else { return Shown::unreadable(Complaint::Time) };
    let (payload, complaint) = payload(&event.payload);
    let line = format!(
        r#"{{"ID":{},"PackageID":{},"Type":"{}","Created":"{created}","Payload":{payload}}}"#,
        event.id,
        event.package_id,
        type_name(event)
    );
    Shown { text: Some(indented(&line, drives_a_terminal_or_a_page)), complaint }
}

/// A type that a later version knows has no name yet.
fn type_name(event: &PackageEvent) -> &'static str {
    EventType::try_from(event.r#type).map_or("", |kind| kind.as_str_name())
}

/// The JSON in it as it was written, null where there is none, else what is there as a string.
fn payload(bytes: &[u8]) -> (String, Option<Complaint>) {
    if bytes.is_empty() {
        return ("null".to_owned(), None);
    }
    match (json(bytes), std::str::from_utf8(bytes)) {
        (Ok(json), _) => (json.to_owned(), None),
        (Err(_), Ok(text)) => (quoted(text), None),
        (Err(_), Err(_)) => (quoted(&String::from_utf8_lossy(bytes)), Some(Complaint::Payload)),
    }
}

/// UTC, with as many decimals as it has, up to nine. A time that is absent is protobuf's zero, 1970. `None` where the
/// year has not four digits.
fn rfc3339(created: Option<&Timestamp>) -> Option<String> {
    let Timestamp { seconds, nanos } = created.copied().unwrap_or_default();
    // Nanoseconds beyond a second are carried over, as Go's clients do.
    let seconds = seconds.checked_add(i64::from(nanos).div_euclid(NANOS_PER_SECOND))?;
    let nanos = u32::try_from(i64::from(nanos).rem_euclid(NANOS_PER_SECOND)).ok()?;
    let time = DateTime::from_timestamp(seconds, nanos).filter(|time| (0..=9999).contains(&time.year()))?;
    let decimals = format!("{nanos:09}");
    let decimals = decimals.trim_end_matches('0');
    let point = if decimals.is_empty() { "" } else { "." };
    Some(format!("{}{point}{decimals}Z", time.format("%Y-%m-%dT%H:%M:%S")))
}
