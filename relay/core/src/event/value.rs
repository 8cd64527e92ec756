//! A column's value, out of its binary form.
//!
//! The forms are those of the types' send functions in the Postgres sources (`int8send`, `jsonb_send`, ...); an enum
//! is sent as its label.

use uuid::Uuid;

use crate::pgoutput::{Datum, Oid};
use crate::time::POSTGRES_EPOCH_US;

/// The years that RFC 3339, `google.protobuf.Timestamp` and most languages know are 1 to 9999, and Postgres knows those from
/// -4713 to 294276: the first and the last such microsecond since 1970-01-01.
const YEARS_US: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// The binary form version of `jsonb`.
const JSONB_VERSION: u8 = 1;

/// How a column's value is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `smallint`, `integer`, `bigint`.
    Integer,
    /// `real`, `double precision`.
    Float,
    /// `numeric`.
    Numeric,
    /// `boolean`.
    Boolean,
    /// `text`, `varchar`, `char(n)`, `citext`, an enum.
    Text,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// `bytea`.
    Bytea,
    /// `uuid`.
    Uuid,
    /// `timestamptz`, or `timestamp` taken as UTC.
    Timestamp,
    /// `date`.
    Date,
    /// A one-dimensional array of one of these; which, its values say themselves.
    Array,
    /// `oid`: in a column of an application nearly always the number of a large object.
    Oid,
    /// Any other.
    Other,
}

/// A built-in type: its object id, its name in `pg_type`, the function that sends its values and its kind (`pg_type.dat`
/// in the Postgres sources).
type BuiltIn = (Oid, &'static str, &'static str, Kind);

const BUILT_IN: [BuiltIn; 20] = [
    (21, "int2", "int2send", Kind::Integer),
    (23, "int4", "int4send", Kind::Integer),
    (20, "int8", "int8send", Kind::Integer),
    (700, "float4", "float4send", Kind::Float),
    (701, "float8", "float8send", Kind::Float),
    (1700, "numeric", "numeric_send", Kind::Numeric),
    (16, "bool", "boolsend", Kind::Boolean),
    (25, "text", "textsend", Kind::Text),
    (19, "name", "namesend", Kind::Text),
    (1042, "bpchar", "bpcharsend", Kind::Text),
    (1043, "varchar", "varcharsend", Kind::Text),
    (3500, "anyenum", "enum_send", Kind::Text),
    (114, "json", "json_send", Kind::Json),
    (3802, "jsonb", "jsonb_send", Kind::Jsonb),
    (17, "bytea", "byteasend", Kind::Bytea),
    (2950, "uuid", "uuid_send", Kind::Uuid),
    (1114, "timestamp", "timestamp_send", Kind::Timestamp),
    (1184, "timestamptz", "timestamptz_send", Kind::Timestamp),
    (1082, "date", "date_send", Kind::Date),
    (26, "oid", "oidsend", Kind::Oid),
];

/// The arrays of those types: an array of any other type has elements whose form its own values do not explain.
const ARRAYS: [Oid; 17] =
    [1005, 1007, 1016, 1021, 1022, 1231, 1000, 1009, 1003, 1014, 1015, 199, 3807, 1001, 2951, 1115, 1185];

impl Kind {
    /// The kind of a built-in type, by its object id.
    #[must_use]
    pub fn of(oid: Oid) -> Self {
        let array = if ARRAYS.contains(&oid) || oid == 1182 { Self::Array } else { Self::Other };
        BUILT_IN.iter().find(|(known, ..)| *known == oid).map_or(array, |(.., kind)| *kind)
    }

    /// The name of a built-in type in `pg_type`.
    #[must_use]
    pub fn name_of(oid: Oid) -> Option<&'static str> {
        BUILT_IN.iter().find(|(known, ..)| *known == oid).map(|(_, name, ..)| *name)
    }

    /// The kind of a built-in type, by its name in `pg_type`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        BUILT_IN.iter().find(|(_, known, ..)| *known == name).map_or(Self::Other, |(.., kind)| *kind)
    }

    /// The kind of a type, by the function of the server itself (`pg_proc.prosrc`) that sends its values: what writes a
    /// value says how it is laid out. A domain has the function of its base type, and `citext` that of `text`.
    #[must_use]
    pub fn sent_by(function: &str) -> Self {
        BUILT_IN.iter().find(|(_, _, known, _)| *known == function).map_or(Self::Other, |(.., kind)| *kind)
    }

    /// Whether a value of it may be JSON, so that members of it can be named.
    #[must_use]
    pub fn may_be_json(self) -> bool {
        matches!(self, Self::Json | Self::Jsonb | Self::Text | Self::Bytea)
    }

    /// Whether a value of it can be put into a record.
    #[must_use]
    pub fn is_readable(self) -> bool {
        !matches!(self, Self::Oid | Self::Other)
    }
}

/// A value that was read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Integer(i64),
    Float(f64),
    /// Single precision has a shorter shortest form.
    Real(f32),
    Numeric(&'a [u8]),
    Boolean(bool),
    Text(&'a str),
    /// A column of JSON, in the text that the database has.
    Json(&'a str),
    /// A member of it, in its source text.
    Member(&'a str),
    Bytes(&'a [u8]),
    Uuid(Uuid),
    /// Microseconds since 1970-01-01 UTC.
    Time(i64),
    /// The same, at midnight.
    Date(i64),
    Array(&'a [u8]),
}

/// Why a value cannot be read.
pub(super) type Reason = std::borrow::Cow<'static, str>;

/// Reads a value; `None` is NULL.
pub(super) fn read(kind: Kind, datum: Datum<'_>) -> Result<Option<Value<'_>>, Reason> {
    let bytes = match datum {
        Datum::Null => return Ok(None),
        Datum::Unchanged => return Err("its value is not in the stream".into()),
        // The text form stands only where it is the same as the binary one.
        Datum::Text(bytes) if matches!(kind, Kind::Text | Kind::Json) => bytes,
        Datum::Text(bytes) if kind == Kind::Jsonb => return text(bytes).map(|text| Some(Value::Json(text))),
        Datum::Text(_) => return Err("it came in text form".into()),
        Datum::Binary(bytes) => bytes,
    };
    binary(kind, bytes).map(Some)
}

/// Reads a value's binary form.
pub(super) fn binary(kind: Kind, bytes: &[u8]) -> Result<Value<'_>, Reason> {
    let value = match kind {
        Kind::Integer => Value::Integer(integer(bytes)?),
        Kind::Float => float(bytes)?,
        Kind::Numeric => Value::Numeric(bytes),
        Kind::Boolean => match bytes {
            [0] => Value::Boolean(false),
            [1] => Value::Boolean(true),
            _ => return Err("a boolean is one byte, 0 or 1".into()),
        },
        Kind::Text => Value::Text(text(bytes)?),
        Kind::Json => Value::Json(text(bytes)?),
        Kind::Jsonb => Value::Json(text(json_of(kind, bytes)?)?),
        Kind::Bytea => Value::Bytes(bytes),
        Kind::Uuid => Value::Uuid(Uuid::from_slice(bytes).map_err(|_| "a UUID has 16 bytes")?),
        Kind::Timestamp => Value::Time(timestamp(bytes)?),
        Kind::Date => Value::Date(date(bytes)?),
        Kind::Array => Value::Array(bytes),
        Kind::Oid | Kind::Other => return Err("values of its type cannot be read".into()),
    };
    Ok(value)
}

/// The content of a value that goes on as it is: what stands behind `jsonb`'s version, or all of it.
pub(super) fn json_of(kind: Kind, bytes: &[u8]) -> Result<&[u8], Reason> {
    match (kind, bytes) {
        (Kind::Jsonb, [JSONB_VERSION, text @ ..]) => Ok(text),
        (Kind::Jsonb, _) => Err("an unknown version of jsonb".into()),
        _ => Ok(bytes),
    }
}

fn integer(bytes: &[u8]) -> Result<i64, Reason> {
    match *bytes {
        [a, b] => Ok(i16::from_be_bytes([a, b]).into()),
        [a, b, c, d] => Ok(i32::from_be_bytes([a, b, c, d]).into()),
        _ => Ok(i64::from_be_bytes(bytes.try_into().map_err(|_| "an integer has 2, 4 or 8 bytes")?)),
    }
}

fn float(bytes: &[u8]) -> Result<Value<'_>, Reason> {
    match *bytes {
        [a, b, c, d] => Ok(Value::Real(f32::from_be_bytes([a, b, c, d]))),
        _ => Ok(Value::Float(f64::from_be_bytes(
            bytes.try_into().map_err(|_| "a number with a point has 4 or 8 bytes")?,
        ))),
    }
}

fn timestamp(bytes: &[u8]) -> Result<i64, Reason> {
    match i64::from_be_bytes(bytes.try_into().map_err(|_| "a timestamp has 8 bytes")?) {
        i64::MAX | i64::MIN => Err("an infinite timestamp".into()),
        micros => in_years(micros.saturating_add(POSTGRES_EPOCH_US)),
    }
}

fn date(bytes: &[u8]) -> Result<i64, Reason> {
    match i32::from_be_bytes(bytes.try_into().map_err(|_| "a date has 4 bytes")?) {
        i32::MAX | i32::MIN => Err("an infinite date".into()),
        // Postgres has dates that microseconds of 64 bits do not: the year 5874897.
        days => in_years(i64::from(days).saturating_mul(DAY_US).saturating_add(POSTGRES_EPOCH_US)),
    }
}

/// A time that RFC 3339 knows.
pub(super) fn in_years(micros: i64) -> Result<i64, Reason> {
    let fits = YEARS_US.contains(&micros).then_some(micros);
    fits.ok_or_else(|| "a time outside of the years 1 to 9999".into())
}

/// Text, which no text of Postgres with a zero byte is; the binary form of nearly every other type has one.
fn text(bytes: &[u8]) -> Result<&str, Reason> {
    if bytes.contains(&0) {
        return Err("text with a zero byte: the binary form of some other type".into());
    }
    std::str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".into())
}
