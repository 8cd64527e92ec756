//! A column's value, out of its binary form.
//!
//! The forms are those of the types' send functions in the Postgres sources (`int8send`, `jsonb_send`, ...); an enum
//! is sent as its label.

use bytes::Bytes;
use uuid::Uuid;

use super::{Key, OutboxError, Role};
use crate::pgoutput::{Datum, Oid, Tuple};

/// 2000-01-01, where Postgres counts from, in microseconds since 1970-01-01.
pub(crate) const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The first object id that is not a built-in type's: an enum, where a label is looked for.
const FIRST_USER_OID: Oid = 16_384;

/// The binary form version of `jsonb`.
const JSONB_VERSION: u8 = 1;

/// How a column's value is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `smallint`, `integer`, `bigint`.
    Integer,
    /// `text`, `varchar`, `char(n)`, `json`, an enum.
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

impl Kind {
    /// The kind of a type, by its object id (`pg_type.dat` in the Postgres sources).
    #[must_use]
    pub fn of(oid: Oid) -> Self {
        match oid {
            20 | 21 | 23 => Self::Integer,
            25 | 114 | 1042 | 1043 => Self::Text,
            3802 => Self::Jsonb,
            17 => Self::Bytea,
            2950 => Self::Uuid,
            1114 | 1184 => Self::Timestamp,
            FIRST_USER_OID.. => Self::Text,
            _ => Self::Other,
        }
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
            micros => Ok(micros.saturating_add(POSTGRES_EPOCH_US)),
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
    std::str::from_utf8(value).map(str::as_bytes).map_err(|_| malformed(role, "text that is not UTF-8"))
}

fn malformed(role: Role, reason: &'static str) -> OutboxError {
    OutboxError::Malformed { role: role.name(), reason }
}
