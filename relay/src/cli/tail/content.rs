//! What a value is, as far as it can be told from its bytes.

use std::fmt::Write as _;

use logistic_package_proto::package_event::{EventType, PackageEvent};
use prost::Message as _;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use crate::kafka::consumer::StoredRecord;

/// The value of a record.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// A `PackageEvent`, and its payload.
    Event(PackageEvent, Plain<'static>),
    /// Anything else.
    Plain(Plain<'a>),
}

/// Bytes that say nothing of what they are.
#[derive(Debug)]
pub(super) enum Plain<'a> {
    /// There are none.
    Null,
    /// JSON on one line, every number as it was written.
    Json(Box<RawValue>),
    /// UTF-8.
    Text(std::borrow::Cow<'a, str>),
    /// Something else.
    Bytes(std::borrow::Cow<'a, [u8]>),
}

impl<'a> Content<'a> {
    pub(super) fn of(value: Option<&'a [u8]>) -> Self {
        let Some(bytes) = value else { return Self::Plain(Plain::Null) };
        // JSON first: no event begins as JSON does, but for one without any number.
        let plain = Plain::of(bytes);
        if matches!(plain, Plain::Json(_)) {
            return Self::Plain(plain);
        }
        // Protobuf takes what it does not know for a field of a later version: only an event has these numbers.
        match PackageEvent::decode(bytes) {
            Ok(mut event) if event.id != 0 || event.package_id != 0 => {
                let payload = Plain::owned(std::mem::take(&mut event.payload));
                Self::Event(event, payload)
            }
            _ => Self::Plain(plain),
        }
    }

    /// Its name, as the JSON form has it.
    pub(super) fn format(&self) -> Option<&'static str> {
        match self {
            Self::Event(..) => Some("package-event"),
            Self::Plain(Plain::Null) => None,
            Self::Plain(Plain::Json(_)) => Some("json"),
            Self::Plain(Plain::Text(_)) => Some("text"),
            Self::Plain(Plain::Bytes(_)) => Some("bytes"),
        }
    }

    /// What happened: the event's type, or the end of the header `ce_type`.
    pub(super) fn event_type(&self, record: &StoredRecord) -> Option<String> {
        match self {
            Self::Event(event, _) => Some(type_name(event)),
            Self::Plain(_) => ce_type(record).map(|name| name.rsplit('.').next().unwrap_or(name).to_owned()),
        }
    }
}

/// The name of the event's type, or the number of one that is not known.
pub(super) fn type_name(event: &PackageEvent) -> String {
    EventType::try_from(event.r#type)
        .map_or_else(|_| event.r#type.to_string(), |kind| kind.as_str_name().to_owned())
}

/// The header `ce_type`.
pub(super) fn ce_type(record: &StoredRecord) -> Option<&str> {
    let (_, value) = record.headers.iter().find(|(name, _)| name == "ce_type")?;
    std::str::from_utf8(value.as_deref()?).ok()
}

impl<'a> Plain<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        match serde_json::from_slice::<&RawValue>(bytes).ok().and_then(on_one_line) {
            Some(json) => Self::Json(json),
            None => Self::text(bytes),
        }
    }

    /// The payload of an event, of which protobuf does not tell whether it is absent or empty.
    fn owned(bytes: Vec<u8>) -> Plain<'static> {
        match Plain::of(&bytes) {
            _ if bytes.is_empty() => Plain::Null,
            Plain::Json(json) => Plain::Json(json),
            _ => match String::from_utf8(bytes) {
                Ok(text) => Plain::Text(text.into()),
                Err(error) => Plain::Bytes(error.into_bytes().into()),
            },
        }
    }

    /// What is a text wherever it is one: a key, a header.
    pub(super) fn text(bytes: &'a [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Bytes(bytes.into()),
        }
    }

    /// The same, where it may be absent.
    pub(super) fn text_or_null(bytes: Option<&'a [u8]>) -> Self {
        bytes.map_or(Self::Null, Self::text)
    }
}

/// JSON has no line breaks but between its tokens.
fn on_one_line(json: &RawValue) -> Option<Box<RawValue>> {
    let (mut in_text, mut escaped) = (false, false);
    let mut compact = String::with_capacity(json.get().len());
    for letter in json.get().chars() {
        if !in_text && letter.is_ascii_whitespace() {
            continue;
        }
        if letter == '"' && !escaped {
            in_text = !in_text;
        }
        escaped = letter == '\\' && !escaped;
        compact.push(letter);
    }
    RawValue::from_string(compact).ok()
}

/// JSON is itself, a text a string, and bytes that are neither `{"hex": "00ff"}`.
impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Json(json) => json.serialize(serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("hex", &hex(bytes))?;
                map.end()
            }
        }
    }
}

/// Two digits a byte.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    fn format(value: Option<&[u8]>) -> Option<&'static str> {
        Content::of(value).format()
    }

    #[test]
    fn a_value_is_taken_for_what_it_is() {
        let event = samples::updated(b"{}");
        assert_eq!(format(event.value.as_deref()), Some("package-event"));
        assert_eq!(format(Some(b"{\"a\": 1}")), Some("json"));
        assert_eq!(format(Some(b" 7\n")), Some("json"));
        assert_eq!(format(Some(b"")), Some("text"));
        assert_eq!(format(Some(b"\xff\x00")), Some("bytes"));
        assert_eq!(format(None), None);
        // Protobuf reads it as field 13.
        assert_eq!(format(Some(b"hi")), Some("text"));
    }

    #[test]
    fn json_comes_on_one_line_and_with_its_numbers() {
        let value =
            b"{\n  \"a b\": \"c \\\" \\\\\",\r\n\t\"n\": [ 700.50, 123456789012345678901234567890 ]\n}";
        let Content::Plain(Plain::Json(json)) = Content::of(Some(value)) else { panic!("not JSON") };
        assert_eq!(json.get(), r#"{"a b":"c \" \\","n":[700.50,123456789012345678901234567890]}"#);
    }

    #[test]
    fn a_type_that_is_not_known_is_its_number() {
        let record = samples::event(42, b"");
        assert_eq!(Content::of(record.value.as_deref()).event_type(&record).as_deref(), Some("42"));
    }
}
