//! A record's headers, from the lowest to the highest: CloudEvents, the trace context, those of a JSON column, those of the
//! settings, the position. A later one takes the place of an earlier one of its name.

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::content::Content;
use super::error::OutboxError;
use super::plan::Plan;
use super::position::Position;
use super::record::Headers;
use super::row::Row;
use super::text::Text;
use super::value::Reason;
use super::write;
use crate::time;

pub(super) fn write_headers(
    plan: &Plan,
    row: &Row<'_>,
    subject: Option<&[u8]>,
    scratch: &mut Vec<u8>,
    headers: &mut Headers,
) -> Result<(), OutboxError> {
    match &plan.value {
        Content::CloudEvent { .. } => headers.add_text("content-type", b"application/cloudevents+json"),
        _ if plan.has_headers => cloudevents(plan, row, subject, scratch, headers)?,
        _ => {}
    }
    if let Some(traceparent) = &plan.traceparent {
        headers.set("traceparent", |into| traceparent.write(row, into))?;
    }
    if let Some(text) = &plan.headers_from {
        from_json(text, row, scratch, headers)?;
    }
    for (name, text) in &plan.headers {
        headers.set(name, |into| text.write(row, into))?;
    }
    write_position(row.position, headers);
    Ok(())
}

/// Binary content mode. What has no id or type is no CloudEvent.
fn cloudevents(
    plan: &Plan,
    row: &Row<'_>,
    subject: Option<&[u8]>,
    scratch: &mut Vec<u8>,
    headers: &mut Headers,
) -> Result<(), OutboxError> {
    let attributes = &plan.attributes;
    headers.add_text("ce_specversion", b"1.0");
    for (name, text) in [("ce_id", &attributes.id), ("ce_type", &attributes.kind)] {
        let Some(text) = text else { continue };
        headers.add(name, |into| {
            if text.write(row, into)? {
                return Ok(true);
            }
            if plan.must_be_cloudevents {
                return Err(text.refused("it is NULL, and a CloudEvent needs it".into()));
            }
            Ok(false)
        })?;
    }
    if headers.get("ce_id").is_none() || headers.get("ce_type").is_none() {
        headers.clear();
        return Ok(());
    }
    headers.add("ce_source", |into| attributes.source.write(row, into))?;
    if let Some(micros) = attributes.time(row, scratch)? {
        let written: Result<(), OutboxError> = headers.add("ce_time", |into| {
            time::write_rfc3339(micros, into);
            Ok(true)
        });
        written?;
    }
    // A header of text: a key of bytes is none.
    if let Some(key) = subject.filter(|key| std::str::from_utf8(key).is_ok()) {
        headers.add_text("ce_subject", key);
    }
    headers.add("content-type", |into| attributes.content_type.write(row, into))
}

/// Headers of a record at most. Each new one is compared with those before it, and no consumer wants more.
const HEADERS_MAX: usize = 1_000;

/// The members of a JSON object as headers; a text that is blank has none.
fn from_json(
    text: &Text,
    row: &Row<'_>,
    scratch: &mut Vec<u8>,
    headers: &mut Headers,
) -> Result<(), OutboxError> {
    scratch.clear();
    if !text.write_content(row, scratch)? || matches!(scratch.trim_ascii(), b"null" | b"") {
        return Ok(());
    }
    let mut read = || -> Result<(), Reason> {
        let json = std::str::from_utf8(scratch).map_err(|_| "it is not a JSON object: it is not text")?;
        let mut deserializer = serde_json::Deserializer::from_str(json);
        let read = deserializer.deserialize_map(Object(headers)).and_then(|()| deserializer.end());
        read.map_err(|error| format!("it is not a JSON object of headers: {error}").into())
    };
    read().map_err(|reason| text.refused(reason))
}

struct Object<'a>(&'a mut Headers);

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(headers) = self;
        loop {
            let start = headers.bytes().len();
            let Some(()) = map.next_key_seed(write::Unescaped(headers.bytes()))? else { return Ok(()) };
            let end = headers.bytes().len();
            if headers.len() >= HEADERS_MAX {
                return Err(serde::de::Error::custom(format!("more than {HEADERS_MAX} headers")));
            }
            let name = &headers.bytes()[start..end];
            if name.starts_with(b"wal-") || name.starts_with(b"walpost-") {
                let what = "names that begin with wal- or walpost- are walpost's own";
                return Err(serde::de::Error::custom(what));
            }
            let value: &'de RawValue = map.next_value()?;
            if value.get() == "null" {
                headers.put(start..end, None);
                continue;
            }
            write::member(value.get(), headers.bytes()).map_err(serde::de::Error::custom)?;
            let written = headers.bytes().len();
            headers.put(start..end, Some(end..written));
        }
    }
}

pub(super) fn write_position(position: Position, headers: &mut Headers) {
    let written: Result<(), std::convert::Infallible> = headers.add("wal-lsn", |bytes| {
        write::lsn(position.lsn, bytes);
        Ok(true)
    });
    let Ok(()) = written;
    headers.add_text("wal-seq", itoa::Buffer::new().format(position.ordinal).as_bytes());
}
