use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use harness::Received;

use super::example::{Content, Record};

/// Headers that walpost adds to every record, and that depend on where the log is.
const OF_THE_LOG: [&str; 2] = ["wal-lsn", "wal-seq"];

/// The parts of a record by their names, each in a form that differs where the part differs.
type Parts = BTreeMap<String, String>;

/// What arrived topic by topic against what was expected, in the order within each topic; `None` where it is the same.
/// Lines with `-` were expected, those with `+` were received, and the others were both.
pub(super) fn difference(expected: &[&Record], received: &[(String, Vec<Received>)]) -> Option<String> {
    let mut topics: Vec<&str> = expected.iter().map(|record| record.topic.as_str()).collect();
    topics.extend(received.iter().map(|(topic, _)| topic.as_str()));
    topics.sort_unstable();
    topics.dedup();
    let mut shown = String::new();
    let mut same = true;
    for topic in topics {
        let expected: Vec<&Record> =
            expected.iter().copied().filter(|record| record.topic == topic).collect();
        let received: Vec<&Received> =
            received.iter().filter(|(name, _)| name == topic).flat_map(|(_, records)| records).collect();
        same &= topic_is_same(topic, &expected, &received, &mut shown);
    }
    (!same).then_some(shown)
}

fn topic_is_same(topic: &str, expected: &[&Record], received: &[&Received], into: &mut String) -> bool {
    let mut same = expected.len() == received.len();
    let _ = writeln!(into, "{topic}: {} expected (-), {} received (+)", expected.len(), received.len());
    for nth in 0..expected.len().max(received.len()) {
        let (expected, received) = (expected.get(nth).copied(), received.get(nth).copied());
        let wanted = expected.map(expected_parts).unwrap_or_default();
        let found = received.map(|received| received_parts(received, expected)).unwrap_or_default();
        same &= wanted == found;
        let _ = writeln!(into, "  record {}:{}", nth + 1, if wanted == found { " as expected" } else { "" });
        show_parts(&wanted, &found, into);
    }
    same
}

fn show_parts(wanted: &Parts, found: &Parts, into: &mut String) {
    let mut names: Vec<&String> = wanted.keys().chain(found.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let (wanted, found) = (wanted.get(name), found.get(name));
        if wanted == found {
            let _ = writeln!(into, "      {name}: {}", wanted.map_or("", String::as_str));
            continue;
        }
        for (sign, text) in [('-', wanted), ('+', found)] {
            if let Some(text) = text {
                let _ = writeln!(into, "    {sign} {name}: {text}");
            }
        }
    }
}

fn expected_parts(record: &Record) -> Parts {
    let mut parts = Parts::from([
        ("key".to_owned(), shown(record.key.as_deref().map(str::as_bytes))),
        ("value".to_owned(), shown_content(record.value.as_ref())),
    ]);
    for (name, value) in &record.headers {
        parts.insert(format!("header {name}"), shown(value.as_deref().map(str::as_bytes)));
    }
    if let Some(timestamp_ms) = record.timestamp_ms {
        parts.insert("timestamp_ms".to_owned(), timestamp_ms.to_string());
    }
    parts
}

/// JSON that equals the expected one is shown in its form, so that the parts are equal. A time that is not expected
/// does not count.
fn received_parts(received: &Received, expected: Option<&Record>) -> Parts {
    let value = (!received.nulls.value).then_some(received.value.as_slice());
    let wanted = expected.and_then(|record| record.value.as_ref());
    let shown_value = if is_that_json(value, wanted) { shown_content(wanted) } else { shown(value) };
    let key = (!received.nulls.key).then_some(received.key.as_slice());
    let mut parts = Parts::from([("key".to_owned(), shown(key)), ("value".to_owned(), shown_value)]);
    for (nth, (name, value)) in received.headers.iter().enumerate() {
        if OF_THE_LOG.contains(&name.as_str()) {
            continue;
        }
        let value = (!received.nulls.headers.contains(&nth)).then_some(value.as_slice());
        let mut name = format!("header {name}");
        while parts.contains_key(&name) {
            name.push_str(" (once more)");
        }
        parts.insert(name, shown(value));
    }
    if expected.is_none_or(|record| record.timestamp_ms.is_some()) {
        parts.insert("timestamp_ms".to_owned(), received.timestamp_ms.to_string());
    }
    parts
}

fn is_that_json(value: Option<&[u8]>, wanted: Option<&Content>) -> bool {
    let Some(Content::Json(wanted)) = wanted else { return false };
    value.is_some_and(|value| {
        serde_json::from_slice(value).is_ok_and(|value: serde_json::Value| value == *wanted)
    })
}

fn shown_content(content: Option<&Content>) -> String {
    match content {
        None => shown(None),
        Some(Content::Text(text)) => shown(Some(text.as_bytes())),
        Some(Content::Base64(text)) => match BASE64_STANDARD.decode(text) {
            Ok(bytes) => shown(Some(&bytes)),
            Err(error) => format!("not base64 ({error}): {text}"),
        },
        Some(Content::Json(value)) => format!("JSON {value}"),
    }
}

/// Text as it is, between marks that tell an empty one from null; other bytes in base64.
fn shown(bytes: Option<&[u8]>) -> String {
    let Some(bytes) = bytes else { return "null".to_owned() };
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => format!("«{text}»"),
        _ => format!("base64 {}", BASE64_STANDARD.encode(bytes)),
    }
}

#[cfg(test)]
mod tests;
