//! The format `cloudevents`: structured content mode, one JSON object
//! (<https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>).

use super::error::OutboxError;
use super::json::Node;
use super::plan::Plan;
use super::row::Row;
use super::text::{Said, Text};
use super::value::{Reason, Value};
use super::write;
use crate::time;

/// Appends the event; `false` where its data is NULL.
pub(super) fn write(
    plan: &Plan,
    data: &Text,
    extensions: &Node,
    row: &Row<'_>,
    subject: Option<&[u8]>,
    scratch: &mut Vec<u8>,
    into: &mut Vec<u8>,
) -> Result<bool, OutboxError> {
    let attributes = &plan.attributes;
    into.extend_from_slice(br#"{"specversion":"1.0""#);
    for (name, text) in [("id", &attributes.id), ("type", &attributes.kind)] {
        let Some(text) = text else { continue };
        if !attribute(name, text, row, scratch, into)? {
            return Err(text.refused("it is NULL, and a CloudEvent needs it".into()));
        }
    }
    attribute("source", &attributes.source, row, scratch, into)?;
    if let Some(micros) = attributes.time(row, scratch)? {
        into.extend_from_slice(br#","time":""#);
        time::write_rfc3339(micros, into);
        into.push(b'"');
    }
    if let Some(key) = subject.and_then(|key| std::str::from_utf8(key).ok()) {
        into.extend_from_slice(br#","subject":"#);
        write::quote(key, into);
    }
    attribute("datacontenttype", &attributes.content_type, row, scratch, into)?;
    let members = into.len();
    into.push(b',');
    if !extensions.write_members(row, into)? {
        into.truncate(members);
    }
    let has_data = write_data(data, row, into)?;
    into.push(b'}');
    Ok(has_data)
}

/// Appends an attribute as a JSON string; `false`, and nothing, where it is NULL.
fn attribute(
    name: &str,
    text: &Text,
    row: &Row<'_>,
    scratch: &mut Vec<u8>,
    into: &mut Vec<u8>,
) -> Result<bool, OutboxError> {
    scratch.clear();
    if !text.write(row, scratch)? {
        return Ok(false);
    }
    let value = std::str::from_utf8(scratch).map_err(|_| text.refused("bytes that are no text".into()))?;
    into.push(b',');
    write::quote(name, into);
    into.push(b':');
    write::quote(value, into);
    Ok(true)
}

fn write_data(data: &Text, row: &Row<'_>, into: &mut Vec<u8>) -> Result<bool, OutboxError> {
    let start = into.len();
    let Some(expression) = data.lone() else {
        into.extend_from_slice(br#","data":"#);
        data.write_json(row, into)?;
        return Ok(true);
    };
    let mut writing = || -> Result<bool, Reason> {
        into.extend_from_slice(br#","data":"#);
        let at = into.len();
        match expression.evaluate(row, into)? {
            Said::Null => {
                into.truncate(start);
                return Ok(false);
            }
            Said::Value(value @ Value::Bytes(_)) => {
                into.truncate(start);
                into.extend_from_slice(br#","data_base64":"#);
                write::json(value, into)?;
            }
            Said::Value(value) => write::json(value, into)?,
            Said::Row => write::row(row, into)?,
            Said::Written => write::quote_from(at, into)?,
            Said::WrittenJson => {}
        }
        Ok(true)
    };
    writing().map_err(|reason| data.error(expression, reason))
}
