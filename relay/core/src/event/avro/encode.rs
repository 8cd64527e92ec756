//! Values in Avro's binary form (<https://avro.apache.org/docs/1.12.0/specification/#binary-encoding>), out of plain JSON and
//! out of columns.
//!
//! Plain JSON is what an application writes that knows nothing of Avro: a value of a union stands there as it is, and not in an
//! object with its type's name as Avro's own JSON has it. Which of the union's types is meant follows from the value: the first
//! that takes it, in the order of the schema.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::encoding::encode_varint;

use super::number;
use super::shape::{Decimal, Fallback, Field, Shape, Unit, Uuid as UuidShape};
use super::walk::{Class, Walk};
use super::{Refusal, Schema};
use crate::event::value::{Reason, Value};
use crate::event::write;
use crate::time;

/// So deep may arrays, maps and records stand in each other: what is deeper is no event.
const DEPTH_MAX: usize = 64;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// What is kept from one value to the next.
#[derive(Debug, Default)]
pub(in crate::event) struct Scratch {
    /// Where the members of objects stand, for the objects that are being written.
    members: Vec<Option<(usize, usize)>>,
    /// A value as text.
    text: Vec<u8>,
    /// The bytes of a decimal.
    digits: Vec<u8>,
    /// An array of a column.
    json: Vec<u8>,
}

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given<'a> {
    Null,
    /// JSON, without blanks around it.
    Json(&'a str),
    /// The same from a column or a member of one, which may also be wanted as the text that it is.
    Column(&'a str),
    Value(Value<'a>),
}

impl<'a> Given<'a> {
    /// What a column or a member of one says.
    pub(super) fn of(value: Value<'a>) -> Self {
        match value {
            Value::Json(json) | Value::Member(json) => Self::Column(json.trim_ascii()),
            other => Self::Value(other),
        }
    }

    fn json(&self) -> Option<&'a str> {
        match self {
            Self::Json(json) | Self::Column(json) => Some(json),
            Self::Null | Self::Value(_) => None,
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null) || self.json() == Some("null")
    }

    /// As messages name it: what it is, and never what it says, which may be long or secret.
    fn found(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Json(json) | Self::Column(json) => Class::of(json).name(),
            Self::Value(value) => match value {
                Value::Integer(_) | Value::Float(_) | Value::Real(_) | Value::Numeric(_) => "a number",
                Value::Boolean(_) => "a boolean",
                Value::Bytes(_) => "bytes",
                Value::Time(_) | Value::Date(_) => "a time",
                Value::Array(_) => "an array",
                Value::Uuid(_) => "a uuid",
                Value::Text(_) | Value::Json(_) | Value::Member(_) => "a text",
            },
        }
    }
}

type Written = Result<(), Refusal>;

/// Writes values of a schema.
pub(super) struct Encoder<'a> {
    pub(super) schema: &'a Schema,
    pub(super) scratch: &'a mut Scratch,
    /// In a default of the schema each character of a text is a byte; elsewhere bytes are base64, as JSON has them here.
    pub(super) bytes_are_characters: bool,
    pub(super) depth: usize,
}

impl Encoder<'_> {
    /// Appends a value of the shape with this number; what stands there after a refusal is of no use.
    pub(super) fn write(&mut self, number: usize, given: Given<'_>, into: &mut Vec<u8>) -> Written {
        let schema = self.schema;
        match schema.shape(number) {
            Shape::Null if given.is_null() => Ok(()),
            Shape::Union(branches) => self.union(branches, given, into),
            Shape::Record(_) | Shape::Array(_) | Shape::Map(_) => {
                self.depth += 1;
                let written = self.nest(number, given, into);
                self.depth -= 1;
                written
            }
            shape => self.scalar(shape, given, into).map_err(|reason| match reason {
                Some(reason) => Refusal::new(reason),
                None => schema.unfit(number, given.found()),
            }),
        }
    }

    fn union(&mut self, branches: &[usize], given: Given<'_>, into: &mut Vec<u8>) -> Written {
        let (start, schema) = (into.len(), self.schema);
        let is_natural = |branch: &usize| is_natural(schema.shape(*branch), given);
        // A column of numbers may be wanted as text, but not where the union has numbers.
        let takes_other = !given.is_null() && !branches.iter().any(is_natural);
        let (mut tried, mut refused) = (0, None);
        for (index, branch) in (0i64..).zip(branches) {
            if !takes_other && !is_natural(branch) {
                continue;
            }
            long(index, into);
            match self.write(*branch, given, into) {
                Ok(()) => return Ok(()),
                Err(refusal) => refused = Some(refusal),
            }
            tried += 1;
            into.truncate(start);
        }
        match refused {
            // Only one could be meant, so it knows best what is wrong.
            Some(refusal) if tried == 1 => Err(refusal),
            _ => {
                let names: Vec<_> = branches.iter().map(|branch| schema.name(*branch)).collect();
                let what = format!("expected one of {}, found {}", names.join(", "), given.found());
                Err(Refusal::new(what.into()))
            }
        }
    }

    fn nest(&mut self, number: usize, given: Given<'_>, into: &mut Vec<u8>) -> Written {
        if self.depth > DEPTH_MAX {
            return Err(Refusal::new("it is nested too deeply".into()));
        }
        if let Given::Value(Value::Array(_)) = given {
            return self.array_of_column(number, given, into);
        }
        let schema = self.schema;
        let unfit = || schema.unfit(number, given.found());
        let json = given.json().ok_or_else(unfit)?;
        match (schema.shape(number), Class::of(json)) {
            (Shape::Record(fields), Class::Object) => self.record(fields, json, into),
            (Shape::Array(items), Class::Array) => self.array(*items, json, into),
            (Shape::Map(values), Class::Object) => self.map(*values, json, into),
            _ => Err(unfit()),
        }
    }

    /// An array of Postgres, by way of JSON.
    fn array_of_column(&mut self, number: usize, given: Given<'_>, into: &mut Vec<u8>) -> Written {
        let Given::Value(value) = given else { return Ok(()) };
        let mut json = std::mem::take(&mut self.scratch.json);
        json.clear();
        let written = write::json(value, &mut json).map_err(Refusal::new);
        let written = written.and_then(|()| {
            self.nest(number, Given::Json(std::str::from_utf8(&json).unwrap_or_default()), into)
        });
        self.scratch.json = json;
        written
    }

    /// One block of all items, and the end.
    fn array(&mut self, items: usize, json: &str, into: &mut Vec<u8>) -> Written {
        let mut walk = Walk::inside(json);
        count(std::iter::from_fn(|| walk.value()).count(), into);
        let mut walk = Walk::inside(json);
        for (index, item) in std::iter::from_fn(|| walk.value()).enumerate() {
            self.write(items, Given::Json(item), into).map_err(|refusal| refusal.at(index))?;
        }
        into.push(0);
        Ok(())
    }

    fn map(&mut self, values: usize, json: &str, into: &mut Vec<u8>) -> Written {
        let mut walk = Walk::inside(json);
        let members = std::iter::from_fn(|| walk.member()).count();
        count(members, into);
        let mut walk = Walk::inside(json);
        while let Some((name, value)) = walk.member() {
            self.string(Given::Json(name), into)
                .map_err(|_| Refusal::new("a name that is no text".into()))?;
            self.write(values, Given::Json(value), into).map_err(|refusal| refusal.within(name))?;
        }
        into.push(0);
        Ok(())
    }

    /// The members of an object in the order of the record's fields.
    fn record(&mut self, fields: &[Field], json: &str, into: &mut Vec<u8>) -> Written {
        let base = self.scratch.members.len();
        self.scratch.members.resize(base + fields.len(), None);
        let written = self.find(fields, base, json).and_then(|()| {
            (0..).zip(fields).try_for_each(|(index, field): (usize, _)| {
                let written = match self.scratch.members[base + index] {
                    Some((start, end)) => self.write(field.shape, Given::Json(&json[start..end]), into),
                    None => self.absent(field, into),
                };
                written.map_err(|refusal| refusal.within(&field.name))
            })
        });
        self.scratch.members.truncate(base);
        written
    }

    /// Finds the members of a record; of those that are there twice the last counts.
    fn find(&mut self, fields: &[Field], base: usize, json: &str) -> Written {
        let mut walk = Walk::inside(json);
        while let Some((name, value)) = walk.member() {
            // A field's name is of letters, digits and `_`, so it needs no escapes; one that has some is looked at closely.
            let bare = name.get(1..name.len() - 1).unwrap_or_default();
            let index = if bare.contains('\\') {
                let unescaped: String = serde_json::from_str(name).unwrap_or_default();
                fields.iter().position(|field| field.name == unescaped)
            } else {
                fields.iter().position(|field| field.name == bare)
            };
            let Some(index) = index else {
                let has: Vec<_> = fields.iter().map(|field| field.name.as_str()).collect();
                let what = format!("the schema has no field {name}; it has: {}", has.join(", "));
                return Err(Refusal::new(what.into()));
            };
            let start = value.as_ptr().addr() - json.as_ptr().addr();
            self.scratch.members[base + index] = Some((start, start + value.len()));
        }
        Ok(())
    }

    /// What stands in a field of which nothing is said.
    pub(super) fn absent(&mut self, field: &Field, into: &mut Vec<u8>) -> Written {
        match &field.default {
            Some(Fallback { written: Some(written), .. }) => {
                into.extend_from_slice(written);
                Ok(())
            }
            Some(Fallback { json, written: None }) => {
                let mut encoder = Encoder {
                    schema: self.schema,
                    scratch: &mut *self.scratch,
                    bytes_are_characters: true,
                    depth: self.depth,
                };
                encoder.write(field.shape, Given::Json(json), into)
            }
            None if self.schema.takes_null(field.shape) => self.write(field.shape, Given::Null, into),
            None => Err(Refusal::new("it is absent, and the schema has no default for it".into())),
        }
    }

    /// A value that holds no other; `None` where it is of another type.
    fn scalar(&mut self, shape: &Shape, given: Given<'_>, into: &mut Vec<u8>) -> Result<(), Option<Reason>> {
        if given.is_null() {
            return Err(None);
        }
        match shape {
            Shape::Boolean => into.push(u8::from(boolean(given).ok_or(None)?)),
            Shape::Int => {
                let number = self.whole(given)?;
                let fits = i32::try_from(number).map(i64::from);
                long(fits.map_err(|_| beyond("int"))?, into);
            }
            Shape::Long => long(self.whole(given)?, into),
            #[allow(clippy::cast_possible_truncation)]
            Shape::Float => {
                let number = self.real(given)?;
                let narrow = number as f32;
                if number.is_finite() && narrow.is_infinite() {
                    return Err(beyond("float"));
                }
                into.extend_from_slice(&narrow.to_le_bytes());
            }
            Shape::Double => into.extend_from_slice(&self.real(given)?.to_le_bytes()),
            Shape::Bytes => self.bytes(given, None, into)?,
            Shape::Fixed(size) => self.bytes(given, Some(*size), into)?,
            Shape::String => self.string(given, into)?,
            Shape::Enum(symbols) => self.symbol(symbols, given, into)?,
            Shape::Decimal(decimal) => self.decimal(*decimal, given, into)?,
            Shape::Uuid(shape) => self.uuid(*shape, given, into)?,
            Shape::Date => long(self.date(given)?, into),
            Shape::TimeOfDay(unit) => long(self.time_of_day(*unit, given)?, into),
            Shape::Timestamp(unit) => long(self.timestamp(*unit, given)?, into),
            Shape::Null | Shape::Union(_) | Shape::Record(_) | Shape::Array(_) | Shape::Map(_) => {
                return Err(None);
            }
        }
        Ok(())
    }

    /// Hands a value over as text: that of a JSON string without its quotes, anything else as it is written.
    fn text<T>(
        &mut self,
        given: Given<'_>,
        take: impl FnOnce(&str, &mut Vec<u8>) -> Result<T, Reason>,
        into: &mut Vec<u8>,
    ) -> Result<T, Reason> {
        let mut text = std::mem::take(&mut self.scratch.text);
        text.clear();
        let written = match given {
            Given::Null => Ok(()),
            Given::Json(json) | Given::Column(json) => write::member(json, &mut text),
            Given::Value(value) => write::text(value, &mut text),
        };
        let taken = written.and_then(|()| {
            let text = std::str::from_utf8(&text).map_err(|_| "bytes that are no text")?;
            take(text, into)
        });
        self.scratch.text = text;
        taken
    }

    /// The same, where it is a text or a number.
    fn parsed<T>(
        &mut self,
        given: Given<'_>,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Result<T, Option<Reason>> {
        let is_known = match given {
            Given::Null => false,
            Given::Json(json) | Given::Column(json) => matches!(Class::of(json), Class::Text | Class::Number),
            Given::Value(value) => {
                !matches!(value, Value::Boolean(_) | Value::Bytes(_) | Value::Array(_) | Value::Uuid(_))
            }
        };
        if !is_known {
            return Err(None);
        }
        self.text(given, |text, _| parse(text), &mut Vec::new()).map_err(Some)
    }

    fn whole(&mut self, given: Given<'_>) -> Result<i64, Option<Reason>> {
        match given {
            Given::Value(Value::Integer(number)) => Ok(number),
            Given::Value(Value::Text(_) | Value::Numeric(_)) => self
                .parsed(given, |text| text.parse().map_err(|_| "expected a whole number of 64 bits".into())),
            Given::Json(json) | Given::Column(json) if Class::of(json) == Class::Number => {
                json.parse().map_err(|_| Some("expected a whole number of 64 bits".into()))
            }
            _ => Err(None),
        }
    }

    fn real(&mut self, given: Given<'_>) -> Result<f64, Option<Reason>> {
        match given {
            Given::Value(Value::Float(number)) => Ok(number),
            Given::Value(Value::Real(number)) => Ok(number.into()),
            Given::Value(Value::Time(_) | Value::Date(_)) => Err(None),
            _ => self.parsed(given, |text| {
                let number: f64 = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    _ => {
                        // Rust takes more words for numbers than JSON does.
                        let is_number = text
                            .bytes()
                            .all(|byte| !byte.is_ascii_alphabetic() || matches!(byte, b'e' | b'E'));
                        let number = text.parse().ok().filter(|number: &f64| is_number && number.is_finite());
                        number.ok_or("expected a number")?
                    }
                };
                Ok(number)
            }),
        }
    }

    fn string(&mut self, given: Given<'_>, into: &mut Vec<u8>) -> Result<(), Option<Reason>> {
        match given {
            Given::Value(Value::Text(text)) => {
                bytes(text.as_bytes(), into);
                return Ok(());
            }
            Given::Json(json) if Class::of(json) != Class::Text => return Err(None),
            _ => {}
        }
        let write = |text: &str, into: &mut Vec<u8>| {
            bytes(text.as_bytes(), into);
            Ok(())
        };
        self.text(given, write, into).map_err(Some)
    }

    fn symbol(
        &mut self,
        symbols: &[String],
        given: Given<'_>,
        into: &mut Vec<u8>,
    ) -> Result<(), Option<Reason>> {
        let is_text = match given {
            Given::Json(json) | Given::Column(json) => Class::of(json) == Class::Text,
            Given::Value(value) => matches!(value, Value::Text(_)),
            Given::Null => false,
        };
        if !is_text {
            return Err(None);
        }
        let index = self.parsed(given, |text| {
            let found = symbols.iter().position(|symbol| symbol == text);
            found.ok_or_else(|| {
                let found = crate::event::error::quoted(text);
                format!("{found} is not one of {}", symbols.join(", ")).into()
            })
        })?;
        long(i64::try_from(index).unwrap_or_default(), into);
        Ok(())
    }

    /// Bytes, with their length before them, or just so many.
    fn bytes(
        &mut self,
        given: Given<'_>,
        size: Option<usize>,
        into: &mut Vec<u8>,
    ) -> Result<(), Option<Reason>> {
        let fit = |value: &[u8], into: &mut Vec<u8>| match size {
            None => {
                bytes(value, into);
                Ok(())
            }
            Some(size) if size == value.len() => {
                into.extend_from_slice(value);
                Ok(())
            }
            Some(size) => Err(Reason::from(format!("expected {size} bytes, found {}", value.len()))),
        };
        match given {
            Given::Value(Value::Bytes(value)) => return fit(value, into).map_err(Some),
            Given::Value(Value::Text(text)) => return fit(text.as_bytes(), into).map_err(Some),
            Given::Value(Value::Uuid(uuid)) => return fit(uuid.as_bytes(), into).map_err(Some),
            Given::Json(json) | Given::Column(json) if Class::of(json) == Class::Text => {}
            _ => return Err(None),
        }
        let are_characters = self.bytes_are_characters;
        let write = |text: &str, into: &mut Vec<u8>| {
            let decoded = if are_characters {
                text.chars().map(u8::try_from).collect::<Result<Vec<_>, _>>().ok()
            } else {
                BASE64.decode(text).ok()
            };
            fit(&decoded.ok_or("expected bytes in base64")?, into)
        };
        self.text(given, write, into).map_err(Some)
    }

    fn decimal(
        &mut self,
        decimal: Decimal,
        given: Given<'_>,
        into: &mut Vec<u8>,
    ) -> Result<(), Option<Reason>> {
        if self.bytes_are_characters {
            return self.bytes(given, decimal.size, into);
        }
        if matches!(given, Given::Value(Value::Time(_) | Value::Date(_))) {
            return Err(None);
        }
        let mut digits = std::mem::take(&mut self.scratch.digits);
        digits.clear();
        let written = self.parsed(given, |text| number::decimal(text, decimal, &mut digits));
        if written.is_ok() {
            match decimal.size {
                Some(_) => into.extend_from_slice(&digits),
                None => bytes(&digits, into),
            }
        }
        self.scratch.digits = digits;
        written
    }

    fn uuid(&mut self, shape: UuidShape, given: Given<'_>, into: &mut Vec<u8>) -> Result<(), Option<Reason>> {
        let uuid = match given {
            Given::Value(Value::Uuid(uuid)) => uuid,
            Given::Value(Value::Bytes(bytes)) => {
                uuid::Uuid::from_slice(bytes).map_err(|_| Some("a UUID has 16 bytes".into()))?
            }
            _ => self.parsed(given, |text| text.parse().map_err(|_| "expected a UUID".into()))?,
        };
        match shape {
            UuidShape::Text => bytes(uuid.hyphenated().encode_lower(&mut [0; 36]).as_bytes(), into),
            UuidShape::Bytes => bytes(uuid.as_bytes(), into),
            UuidShape::Fixed => into.extend_from_slice(uuid.as_bytes()),
        }
        Ok(())
    }

    fn date(&mut self, given: Given<'_>) -> Result<i64, Option<Reason>> {
        let days = match given {
            Given::Value(Value::Date(micros)) => return Ok(micros.div_euclid(DAY_US)),
            Given::Value(Value::Time(_)) => return Err(None),
            _ if is_text(given) => self.parsed(given, |text| {
                let micros = time::parse_iso_8601(text).filter(|micros| micros % DAY_US == 0);
                micros
                    .map(|micros| micros / DAY_US)
                    .ok_or_else(|| "expected a date, such as 2026-03-01".into())
            })?,
            _ => self.whole(given)?,
        };
        i32::try_from(days).map(i64::from).map_err(|_| beyond("date"))
    }

    fn time_of_day(&mut self, unit: Unit, given: Given<'_>) -> Result<i64, Option<Reason>> {
        let number = if is_text(given) {
            self.parsed(given, |text| {
                number::time_of_day(text, unit)
                    .ok_or_else(|| "expected a time of the day, such as 10:20:30.5".into())
            })?
        } else {
            self.whole(given)?
        };
        let day = DAY_US * 1_000 / number::nanos_of(unit);
        if (0..day).contains(&number) { Ok(number) } else { Err(beyond("day")) }
    }

    fn timestamp(&mut self, unit: Unit, given: Given<'_>) -> Result<i64, Option<Reason>> {
        match given {
            Given::Value(Value::Time(micros) | Value::Date(micros)) => {
                number::timestamp(micros, unit).map_err(Some)
            }
            _ if is_text(given) => self.parsed(given, |text| {
                let micros = time::parse_iso_8601(text);
                let micros = micros.ok_or("expected a time of ISO 8601, such as 2026-03-01T10:00:00Z")?;
                number::timestamp(micros, unit)
            }),
            _ => self.whole(given),
        }
    }
}

/// Whether a type is what such a value is usually written as: of a union the others are not tried where one is.
fn is_natural(shape: &Shape, given: Given<'_>) -> bool {
    let class = match given {
        Given::Null => Class::Null,
        Given::Json(json) | Given::Column(json) => Class::of(json),
        Given::Value(value) => match value {
            Value::Bytes(_) => return matches!(shape, Shape::Bytes | Shape::Fixed(_) | Shape::Uuid(_)),
            Value::Time(_) => return matches!(shape, Shape::Timestamp(_)),
            Value::Date(_) => return matches!(shape, Shape::Date | Shape::Timestamp(_)),
            Value::Integer(_) | Value::Float(_) | Value::Real(_) | Value::Numeric(_) => Class::Number,
            Value::Boolean(_) => Class::Boolean,
            Value::Array(_) => Class::Array,
            Value::Text(_) | Value::Uuid(_) | Value::Json(_) | Value::Member(_) => Class::Text,
        },
    };
    match shape {
        Shape::Null => class == Class::Null,
        Shape::Union(_) => false,
        Shape::Boolean => class == Class::Boolean,
        Shape::Int | Shape::Long => class == Class::Number,
        Shape::Array(_) => class == Class::Array,
        Shape::Map(_) | Shape::Record(_) => class == Class::Object,
        Shape::String | Shape::Bytes | Shape::Fixed(_) | Shape::Enum(_) | Shape::Uuid(_) => {
            class == Class::Text
        }
        // NaN and its kin are texts; of a column a text is one all the same where the union has a type for texts.
        Shape::Float | Shape::Double => {
            class == Class::Number || class == Class::Text && matches!(given, Given::Json(_))
        }
        Shape::Decimal(_) | Shape::Date | Shape::TimeOfDay(_) | Shape::Timestamp(_) => {
            matches!(class, Class::Number | Class::Text)
        }
    }
}

fn is_text(given: Given<'_>) -> bool {
    match given {
        Given::Value(value) => matches!(value, Value::Text(_)),
        _ => given.json().is_some_and(|json| Class::of(json) == Class::Text),
    }
}

fn boolean(given: Given<'_>) -> Option<bool> {
    match given {
        Given::Json("true") | Given::Column("true") => Some(true),
        Given::Json("false") | Given::Column("false") => Some(false),
        Given::Value(Value::Boolean(is)) => Some(is),
        Given::Value(Value::Text(text)) => text.parse().ok(),
        _ => None,
    }
}

fn beyond(what: &str) -> Option<Reason> {
    Some(format!("it is not in the range of {what}").into())
}

/// A number, zigzag and in as few bytes as it needs.
#[allow(clippy::cast_sign_loss)]
pub(super) fn long(number: i64, into: &mut Vec<u8>) {
    encode_varint(((number << 1) ^ (number >> 63)) as u64, into);
}

fn bytes(value: &[u8], into: &mut Vec<u8>) {
    long(i64::try_from(value.len()).unwrap_or(i64::MAX), into);
    into.extend_from_slice(value);
}

/// How many items the one block has; where there are none, there is no block. A zero ends the blocks.
fn count(items: usize, into: &mut Vec<u8>) {
    if items > 0 {
        long(i64::try_from(items).unwrap_or(i64::MAX), into);
    }
}
