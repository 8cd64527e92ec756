//! Values that hold no other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::encode::Encoder;
use super::given::Given;
use super::number::{self, long};
use super::shape::{Decimal, Shape, Unit, Uuid as UuidShape};
use super::walk::Class;
use crate::event::error::quoted;
use crate::event::value::{Reason, Value};
use crate::event::write;
use crate::time;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// Why a value is not written; `None` where it is of another type.
pub(super) type Unfit = Option<Reason>;

impl Encoder<'_> {
    /// A value that holds no other; `None` where it is of another type.
    pub(super) fn scalar(
        &mut self,
        shape: &Shape,
        given: Given<'_>,
        into: &mut Vec<u8>,
    ) -> Result<(), Unfit> {
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
    ) -> Result<T, Unfit> {
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

    fn whole(&mut self, given: Given<'_>) -> Result<i64, Unfit> {
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

    fn real(&mut self, given: Given<'_>) -> Result<f64, Unfit> {
        match given {
            Given::Value(Value::Float(number)) => Ok(number),
            Given::Value(Value::Real(number)) => Ok(number.into()),
            Given::Value(Value::Time(_) | Value::Date(_)) => Err(None),
            // A text that looks like a number may be a postcode.
            _ if is_json_text(given) => {
                self.parsed(given, |text| word(text).ok_or_else(|| "expected a number".into()))
            }
            _ => self.parsed(given, |text| {
                if let Some(number) = word(text) {
                    return Ok(number);
                }
                // Rust takes more words for numbers than JSON does.
                let is_number =
                    text.bytes().all(|byte| !byte.is_ascii_alphabetic() || matches!(byte, b'e' | b'E'));
                let number = text.parse().ok().filter(|number: &f64| is_number && number.is_finite());
                number.ok_or_else(|| "expected a number".into())
            }),
        }
    }

    pub(super) fn string(&mut self, given: Given<'_>, into: &mut Vec<u8>) -> Result<(), Unfit> {
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

    fn symbol(&mut self, symbols: &[String], given: Given<'_>, into: &mut Vec<u8>) -> Result<(), Unfit> {
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
                let found = quoted(text);
                format!("{found} is not one of {}", symbols.join(", ")).into()
            })
        })?;
        long(i64::try_from(index).unwrap_or_default(), into);
        Ok(())
    }

    /// Bytes, with their length before them, or just so many.
    fn bytes(&mut self, given: Given<'_>, size: Option<usize>, into: &mut Vec<u8>) -> Result<(), Unfit> {
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

    fn decimal(&mut self, decimal: Decimal, given: Given<'_>, into: &mut Vec<u8>) -> Result<(), Unfit> {
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

    fn uuid(&mut self, shape: UuidShape, given: Given<'_>, into: &mut Vec<u8>) -> Result<(), Unfit> {
        let uuid = match given {
            Given::Value(Value::Uuid(uuid)) => uuid,
            Given::Value(Value::Bytes(bytes)) => {
                uuid::Uuid::from_slice(bytes).map_err(|_| Some("a UUID has 16 bytes".into()))?
            }
            _ => self.parsed(given, |text| {
                // Other forms are texts that may mean something else.
                let uuid = text.parse().ok().filter(|_| text.len() == 36);
                uuid.ok_or_else(|| "expected a UUID".into())
            })?,
        };
        match shape {
            UuidShape::Text => bytes(uuid.hyphenated().encode_lower(&mut [0; 36]).as_bytes(), into),
            UuidShape::Bytes => bytes(uuid.as_bytes(), into),
            UuidShape::Fixed => into.extend_from_slice(uuid.as_bytes()),
        }
        Ok(())
    }

    fn date(&mut self, given: Given<'_>) -> Result<i64, Unfit> {
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

    fn time_of_day(&mut self, unit: Unit, given: Given<'_>) -> Result<i64, Unfit> {
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

    fn timestamp(&mut self, unit: Unit, given: Given<'_>) -> Result<i64, Unfit> {
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

/// JSON has no numbers for these.
fn word(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

fn is_json_text(given: Given<'_>) -> bool {
    matches!(given, Given::Json(json) if Class::of(json) == Class::Text)
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

fn beyond(what: &str) -> Unfit {
    Some(format!("it is not in the range of {what}").into())
}

fn bytes(value: &[u8], into: &mut Vec<u8>) {
    long(i64::try_from(value.len()).unwrap_or(i64::MAX), into);
    into.extend_from_slice(value);
}
