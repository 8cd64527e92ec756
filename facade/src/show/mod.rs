//! What is printed for a value: pure, and the same for the same bytes.
//!
//! What cannot be read is never printed as something else. It is handed back as a [`Complaint`], which goes to the log
//! with the record's topic, partition, offset and bytes.

mod event;
mod guess;
mod indent;
mod terminal;

use serde_json::value::RawValue;

pub(crate) use guess::hex;

/// How the values of a topic are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Protobuf `hablof.proto.v1.PackageEvent`.
    PackageEvent,
    /// JSON.
    Json,
    /// Anything: JSON, a `PackageEvent`, a text or bytes, by what the value looks like.
    Guess,
}

/// What becomes of a record: a text, a complaint, or both.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// For standard output, without the line break behind it.
    pub text: Option<String>,
    /// For the log, with the bytes of the record.
    pub complaint: Option<Complaint>,
}

/// Why a value, or a part of it, cannot be shown as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Complaint {
    /// A tombstone.
    #[error("the record has no value")]
    Null,
    /// No byte.
    #[error("the value is empty")]
    Empty,
    /// Not JSON where JSON is expected.
    #[error("the value is not JSON: {0}")]
    NotJson(String),
    /// Not protobuf where an event is expected.
    #[error("the value is not a PackageEvent: {0}")]
    NotProtobuf(String),
    /// Protobuf takes unknown fields for those of a later version: to print this would be to make up an event.
    #[error("the value has no field of a PackageEvent")]
    NoField,
    /// RFC 3339 has four digits for the year.
    #[error("the event's time is not in the years 0 to 9999")]
    Time,
    /// The event was printed, these bytes with U+FFFD in their place.
    #[error("the event's payload is neither JSON nor UTF-8: it is printed with U+FFFD for what is no text")]
    Payload,
}

impl Shown {
    fn text(text: String) -> Self {
        Self { text: Some(text), complaint: None }
    }

    fn unreadable(complaint: Complaint) -> Self {
        Self { text: None, complaint: Some(complaint) }
    }
}

/// What is printed for a value of this kind.
#[must_use]
pub fn show(kind: Kind, value: Option<&[u8]>) -> Shown {
    if kind == Kind::Guess {
        return guess::show(value);
    }
    match value {
        None => Shown::unreadable(Complaint::Null),
        Some([]) => Shown::unreadable(Complaint::Empty),
        Some(bytes) if kind == Kind::PackageEvent => event::show(bytes),
        Some(bytes) => match json(bytes) {
            Ok(json) => Shown::text(indent::indented(json, terminal::drives_a_terminal)),
            Err(error) => Shown::unreadable(Complaint::NotJson(error)),
        },
    }
}

/// The value as text when it is JSON, or why it is not. Numbers, escapes, doubled keys: nothing in it is touched.
fn json(bytes: &[u8]) -> Result<&str, String> {
    let json: &RawValue = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    Ok(json.get())
}

/// A text as a string of JSON.
fn quoted(text: &str) -> String {
    // A string is always JSON, and memory takes it.
    serde_json::to_string(text).unwrap_or_default()
}

#[cfg(test)]
mod tests;
