//! Values as text and as JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeSeed, IgnoredAny, Visitor};
use serde::{Deserializer, Serialize};

use super::row::Row;
use super::value::{Kind, Reason, Value, binary};
use crate::lsn::Lsn;
use crate::time;

/// Appends a value as text; `bytea` as it is.
pub(super) fn text(value: Value<'_>, into: &mut Vec<u8>) -> Result<(), Reason> {
    match value {
        Value::Integer(number) => integer(number, into),
        Value::Float(number) if number.is_finite() => decimal(number, into),
        Value::Float(number) => special(number.is_nan(), number > 0.0, into),
        Value::Real(number) if number.is_finite() => decimal(number, into),
        Value::Real(number) => special(number.is_nan(), number > 0.0, into),
        Value::Numeric(digits) => numeric(digits, into)?,
        Value::Boolean(is) => into.extend_from_slice(if is { b"true" } else { b"false" }),
        Value::Text(text) | Value::Json(text) => into.extend_from_slice(text.as_bytes()),
        Value::Member(json) => member(json, into)?,
        Value::Bytes(bytes) => into.extend_from_slice(bytes),
        Value::Uuid(uuid) => into.extend_from_slice(uuid.hyphenated().encode_lower(&mut [0; 36]).as_bytes()),
        Value::Time(micros) => time::write_rfc3339(micros, into),
        Value::Date(micros) => time::write_date(micros, into),
        Value::Array(bytes) => array(bytes, into)?,
    }
    Ok(())
}

/// Appends a value as JSON.
pub(super) fn json(value: Value<'_>, into: &mut Vec<u8>) -> Result<(), Reason> {
    match value {
        Value::Integer(_) | Value::Boolean(_) | Value::Array(_) => text(value, into),
        Value::Float(number) if !number.is_finite() => quoted(value, into),
        Value::Real(number) if !number.is_finite() => quoted(value, into),
        Value::Float(_) | Value::Real(_) => text(value, into),
        Value::Numeric(digits) if is_special(digits) => quoted(value, into),
        Value::Numeric(_) => text(value, into),
        Value::Json(json) | Value::Member(json) => {
            into.extend_from_slice(json.as_bytes());
            Ok(())
        }
        Value::Text(text) => {
            quote(text, into);
            Ok(())
        }
        Value::Bytes(bytes) => {
            into.push(b'"');
            base64(bytes, into);
            into.push(b'"');
            Ok(())
        }
        Value::Uuid(_) | Value::Time(_) | Value::Date(_) => quoted(value, into),
    }
}

/// The text of a value between quotes, for values whose text needs no escapes.
fn quoted(value: Value<'_>, into: &mut Vec<u8>) -> Result<(), Reason> {
    into.push(b'"');
    text(value, into)?;
    into.push(b'"');
    Ok(())
}

/// Appends text as a JSON string.
pub(super) fn quote(text: &str, into: &mut Vec<u8>) {
    // Writing into a Vec cannot fail.
    drop(serde_json::to_writer(into, text));
}

/// What stands in the buffer from `start` on becomes a JSON string.
pub(super) fn quote_from(start: usize, into: &mut Vec<u8>) -> Result<(), Reason> {
    let end = into.len();
    let text = std::str::from_utf8(&into[start..]).map_err(|_| "bytes that are no text")?.to_owned();
    quote(&text, into);
    into.drain(start..end);
    Ok(())
}

/// All columns of a row as a JSON object.
pub(super) fn row(row: &Row<'_>, into: &mut Vec<u8>) -> Result<(), Reason> {
    into.push(b'{');
    for (index, (column, kind)) in row.relation.columns.iter().zip(row.kinds).enumerate() {
        if index > 0 {
            into.push(b',');
        }
        quote(&column.name, into);
        into.push(b':');
        let value = row.column(index, *kind).map_err(|reason| format!("column {}: {reason}", column.name))?;
        match value {
            Some(value) => json(value, into)?,
            None => into.extend_from_slice(b"null"),
        }
    }
    into.push(b'}');
    Ok(())
}

pub(super) fn integer(number: impl itoa::Integer, into: &mut Vec<u8>) {
    into.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// As Postgres shows it: every record has one, and a formatter takes several times as long.
pub(super) fn lsn(lsn: Lsn, into: &mut Vec<u8>) {
    hexadecimal(lsn.0 >> 32, into);
    into.push(b'/');
    hexadecimal(lsn.0 & 0xFFFF_FFFF, into);
}

fn hexadecimal(number: u64, into: &mut Vec<u8>) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        let [.., last] = (number >> (4 * digit)).to_be_bytes();
        into.push(b"0123456789ABCDEF"[usize::from(last & 15)]);
    }
}

pub(super) fn base64(bytes: &[u8], into: &mut Vec<u8>) {
    let start = into.len();
    into.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64.encode_slice(bytes, &mut into[start..]).unwrap_or_default();
    into.truncate(start + written);
}

/// The shortest decimal that reads back as the same number; as Postgres has it, a whole number has no point.
fn decimal(number: impl Serialize, into: &mut Vec<u8>) {
    let start = into.len();
    // Writing into a Vec cannot fail.
    drop(serde_json::to_writer(&mut *into, &number));
    if into[start..].ends_with(b".0") {
        into.truncate(into.len() - 2);
    }
}

fn special(is_nan: bool, is_positive: bool, into: &mut Vec<u8>) {
    into.extend_from_slice(match (is_nan, is_positive) {
        (true, _) => b"NaN",
        (false, true) => b"Infinity",
        (false, false) => b"-Infinity",
    });
}

/// Signs of a `numeric` (`utils/adt/numeric.c` in the Postgres sources).
const NUMERIC_NEGATIVE: u16 = 0x4000;
const NUMERIC_NAN: u16 = 0xC000;
const NUMERIC_INFINITE: u16 = 0xD000;
const NUMERIC_MINUS_INFINITE: u16 = 0xF000;

fn is_special(digits: &[u8]) -> bool {
    matches!(u16_at(digits, 4), Ok(NUMERIC_NAN | NUMERIC_INFINITE | NUMERIC_MINUS_INFINITE))
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, Reason> {
    let two = bytes.get(at..at + 2).and_then(|two| two.try_into().ok());
    two.map(u16::from_be_bytes).ok_or_else(|| "a numeric that ends too early".into())
}

/// A `numeric` with all its digits: groups of four, the first of them worth 10000 to the weight's power.
fn numeric(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), Reason> {
    let (count, sign, scale) = (u16_at(bytes, 0)?, u16_at(bytes, 4)?, u16_at(bytes, 6)?);
    let weight = i32::from(i16::from_be_bytes(u16_at(bytes, 2)?.to_be_bytes()));
    match sign {
        NUMERIC_NAN => special(true, true, into),
        NUMERIC_INFINITE => special(false, true, into),
        NUMERIC_MINUS_INFINITE => special(false, false, into),
        _ => {
            if sign == NUMERIC_NEGATIVE {
                into.push(b'-');
            }
            let group = |index: i32| match usize::try_from(index) {
                Ok(index) if index < usize::from(count) => u16_at(bytes, 8 + 2 * index),
                _ => Ok(0),
            };
            whole(weight, group, into)?;
            fraction(weight, scale, group, into)?;
        }
    }
    Ok(())
}

fn whole(weight: i32, group: impl Fn(i32) -> Result<u16, Reason>, into: &mut Vec<u8>) -> Result<(), Reason> {
    if weight < 0 {
        into.push(b'0');
        return Ok(());
    }
    integer(group(0)?, into);
    for index in 1..=weight {
        four(group(index)?, into);
    }
    Ok(())
}

fn fraction(
    weight: i32,
    scale: u16,
    group: impl Fn(i32) -> Result<u16, Reason>,
    into: &mut Vec<u8>,
) -> Result<(), Reason> {
    if scale == 0 {
        return Ok(());
    }
    into.push(b'.');
    let start = into.len();
    let mut index = weight + 1;
    while into.len() - start < usize::from(scale) {
        four(group(index)?, into);
        index += 1;
    }
    into.truncate(start + usize::from(scale));
    Ok(())
}

fn four(group: u16, into: &mut Vec<u8>) {
    for unit in [1000, 100, 10, 1] {
        into.push(b'0' + u8::try_from(group / unit % 10).unwrap_or_default());
    }
}

/// A one-dimensional array as a JSON array (`array_send` in the Postgres sources).
fn array(bytes: &[u8], into: &mut Vec<u8>) -> Result<(), Reason> {
    let mut reader = Reader(bytes);
    let (dimensions, _has_nulls, element) = (reader.i32()?, reader.i32()?, reader.i32()?);
    if dimensions > 1 {
        return Err("an array of more than one dimension".into());
    }
    let kind = u32::try_from(element).map_or(Kind::Other, Kind::of);
    let count = if dimensions == 1 { reader.i32()? } else { 0 };
    if dimensions == 1 {
        reader.i32()?;
    }
    into.push(b'[');
    for index in 0..count {
        if index > 0 {
            into.push(b',');
        }
        match usize::try_from(reader.i32()?) {
            Ok(length) => json(binary(kind, reader.bytes(length)?)?, into)?,
            Err(_) => into.extend_from_slice(b"null"),
        }
    }
    into.push(b']');
    Ok(())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Reason> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or("an array that ends too early")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn i32(&mut self) -> Result<i32, Reason> {
        let bytes = self.bytes(4)?.try_into().map_err(|_| "an array that ends too early")?;
        Ok(i32::from_be_bytes(bytes))
    }
}

/// Whether it is JSON, whole and nothing else.
pub(super) fn check_json(text: &[u8]) -> Result<(), Reason> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not JSON: it is not text")?;
    serde_json::from_str::<IgnoredAny>(text)
        .map(|_| ())
        .map_err(|error| format!("it is not JSON: {error}").into())
}

/// The text of a JSON value: a string without its quotes and escapes, anything else as it is written.
pub(super) fn member(json: &str, into: &mut Vec<u8>) -> Result<(), Reason> {
    if !json.starts_with('"') {
        into.extend_from_slice(json.as_bytes());
        return Ok(());
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = deserializer.deserialize_str(Unescaped(into));
    read.map_err(|error| format!("it is not JSON: {error}").into())
}

/// Appends a string, or a member's name, without its quotes and escapes.
pub(super) struct Unescaped<'a>(pub(super) &'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Unescaped<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Unescaped<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_position_is_written_as_it_is_shown(number in prop_oneof![any::<u64>(), 0..1_u64 << 40, Just(0)]) {
            let mut written = Vec::new();
            lsn(Lsn(number), &mut written);
            prop_assert_eq!(String::from_utf8_lossy(&written), Lsn(number).to_string());
        }
    }
}
