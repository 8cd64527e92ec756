//! A column's value, out of its binary form.
//!
//! The forms are those of the types' send functions in the Postgres sources (`int8send`, `jsonb_send`, ...); an enum
//! is sent as its label.

use bytes::Bytes;
use uuid::Uuid;

use super::{Key, OutboxError, Role};
use crate::pgoutput::{Datum, Oid, Tuple};
use crate::time::POSTGRES_EPOCH_US;

/// The years that RFC 3339, `google.protobuf.Timestamp` and most languages know are 1 to 9999, and Postgres knows those from
/// -4713 to 294276: the first and the last such microsecond since 1970-01-01.
const YEARS_US: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// The binary form version of `jsonb`.
const JSONB_VERSION: u8 = 1;

/// How a column's value is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `smallint`, `integer`, `bigint`.
    Integer,
    /// `text`, `varchar`, `char(n)`, `json`, `citext`, an enum.
    Text,
    /// `jsonb`.
    Jsonb,
    /// `bytea`.
    Bytea,
    /// `uuid`.
    Uuid,
    /// `timestamptz`, or `timestamp` taken as UTC.
    Timestamp,
    /// Any other.
    Other,
}

/// The built-in types whose values can be read (`pg_type.dat` in the Postgres sources).
const BUILT_IN: [(Oid, &str, Kind); 12] = [
    (21, "int2", Kind::Integer),
    (23, "int4", Kind::Integer),
    (20, "int8", Kind::Integer),
    (25, "text", Kind::Text),
    (114, "json", Kind::Text),
    (1042, "bpchar", Kind::Text),
    (1043, "varchar", Kind::Text),
    (3802, "jsonb", Kind::Jsonb),
    (17, "bytea", Kind::Bytea),
    (2950, "uuid", Kind::Uuid),
    (1114, "timestamp", Kind::Timestamp),
    (1184, "timestamptz", Kind::Timestamp),
];

/// The send functions of those types, of enums and of nothing else: what writes a value says how it is laid out. A domain has
/// that of its base type, and `citext` that of `text` under another name.
const SENT_BY: [(&str, Kind); 13] = [
    ("int2send", Kind::Integer),
    ("int4send", Kind::Integer),
    ("int8send", Kind::Integer),
    ("textsend", Kind::Text),
    ("json_send", Kind::Text),
    ("bpcharsend", Kind::Text),
    ("varcharsend", Kind::Text),
    ("enum_send", Kind::Text),
    ("jsonb_send", Kind::Jsonb),
    ("byteasend", Kind::Bytea),
    ("uuid_send", Kind::Uuid),
    ("timestamp_send", Kind::Timestamp),
    ("timestamptz_send", Kind::Timestamp),
];

impl Kind {
    /// The kind of a built-in type, by its object id.
    #[must_use]
    pub fn of(oid: Oid) -> Self {
        BUILT_IN.iter().find(|(known, ..)| *known == oid).map_or(Self::Other, |(.., kind)| *kind)
    }

    /// The kind of a built-in type, by its name in `pg_type`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        BUILT_IN.iter().find(|(_, known, _)| *known == name).map_or(Self::Other, |(.., kind)| *kind)
    }

    /// The kind of a type, by the function of the server itself (`pg_proc.prosrc`) that sends its values.
    #[must_use]
    pub fn sent_by(function: &str) -> Self {
        SENT_BY.iter().find(|(known, _)| *known == function).map_or(Self::Other, |(_, kind)| *kind)
    }

    /// The types of this kind, for messages.
    pub(super) fn types(self) -> &'static str {
        match self {
            Self::Integer => "smallint, integer or bigint",
            Self::Text => "text, varchar, json or an enum",
            Self::Jsonb => "jsonb",
            Self::Bytea => "bytea",
            Self::Uuid => "uuid",
            Self::Timestamp => "timestamptz",
            Self::Other => "another type",
        }
    }
}

/// A row's values by role.
pub(super) struct Values<'a> {
    pub(super) row: &'a Tuple,
    pub(super) values: [(Datum<'a>, Kind); Role::ALL.len()],
}

impl<'a> Values<'a> {
    pub(super) fn integer(&self, role: Role) -> Result<i64, OutboxError> {
        integer(role, self.needed(role)?)
    }

    pub(super) fn uuid(&self, role: Role) -> Result<Uuid, OutboxError> {
        uuid(role, self.needed(role)?)
    }

    pub(super) fn key(&self) -> Result<Key, OutboxError> {
        let value = self.needed(Role::Key)?;
        match self.values[Role::Key as usize].1 {
            Kind::Integer => integer(Role::Key, value).map(Key::Integer),
            Kind::Uuid => uuid(Role::Key, value).map(Key::Uuid),
            _ => checked_text(Role::Key, value).map(|text| Key::Text(self.row.view(text))),
        }
    }

    /// Microseconds since 1970-01-01 UTC.
    pub(super) fn timestamp(&self, role: Role) -> Result<i64, OutboxError> {
        let bytes = self.needed(role)?.try_into().map_err(|_| malformed(role, "a timestamp has 8 bytes"))?;
        match i64::from_be_bytes(bytes) {
            i64::MAX | i64::MIN => Err(malformed(role, "an infinite timestamp")),
            micros => {
                let micros = micros.saturating_add(POSTGRES_EPOCH_US);
                let fits = YEARS_US.contains(&micros).then_some(micros);
                fits.ok_or_else(|| malformed(role, "a time outside of the years 1 to 9999"))
            }
        }
    }

    pub(super) fn text(&self, role: Role) -> Result<Option<Bytes>, OutboxError> {
        let Some(value) = self.optional(role)? else { return Ok(None) };
        checked_text(role, value).map(|text| Some(self.row.view(text)))
    }

    pub(super) fn payload(&self) -> Result<Option<Bytes>, OutboxError> {
        let Some(value) = self.optional(Role::Payload)? else { return Ok(None) };
        let content = match self.values[Role::Payload as usize] {
            (Datum::Binary(_), Kind::Jsonb) => match value.split_first() {
                Some((&JSONB_VERSION, text)) => text,
                _ => return Err(malformed(Role::Payload, "an unknown version of jsonb")),
            },
            _ => value,
        };
        Ok(Some(self.row.view(content)))
    }

    fn needed(&self, role: Role) -> Result<&'a [u8], OutboxError> {
        self.optional(role)?.ok_or(OutboxError::Null(role.name()))
    }

    /// The bytes of a value; the text form stands only where it is the same as the binary one, or nearly (`jsonb`).
    fn optional(&self, role: Role) -> Result<Option<&'a [u8]>, OutboxError> {
        match self.values[role as usize] {
            (Datum::Null, _) => Ok(None),
            (Datum::Binary(value), _) | (Datum::Text(value), Kind::Text | Kind::Jsonb) => Ok(Some(value)),
            (Datum::Text(_), _) => Err(malformed(role, "it came in text form")),
            (Datum::Unchanged, _) => Err(malformed(role, "its value is not in the stream")),
        }
    }
}

fn integer(role: Role, value: &[u8]) -> Result<i64, OutboxError> {
    let number = match *value {
        [a, b] => i64::from(i16::from_be_bytes([a, b])),
        [a, b, c, d] => i64::from(i32::from_be_bytes([a, b, c, d])),
        _ => i64::from_be_bytes(
            value.try_into().map_err(|_| malformed(role, "an integer has 2, 4 or 8 bytes"))?,
        ),
    };
    Ok(number)
}

fn uuid(role: Role, value: &[u8]) -> Result<Uuid, OutboxError> {
    Uuid::from_slice(value).map_err(|_| malformed(role, "a UUID has 16 bytes"))
}

fn checked_text(role: Role, value: &[u8]) -> Result<&[u8], OutboxError> {
    // No text of Postgres holds a zero byte, and the binary form of nearly every other type does.
    if value.contains(&0) {
        return Err(malformed(role, "text with a zero byte: the binary form of some other type"));
    }
    std::str::from_utf8(value).map(str::as_bytes).map_err(|_| malformed(role, "text that is not UTF-8"))
}

fn malformed(role: Role, reason: &'static str) -> OutboxError {
    OutboxError::Malformed { role: role.name(), reason }
}
