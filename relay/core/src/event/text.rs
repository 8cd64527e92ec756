//! A template compiled against a description of the table, and what it says of a row.

use super::error::OutboxError;
use super::row::Row;
use super::template::Filter;
use super::value::{Kind, Reason, Value, in_years};
use super::write;
use crate::time;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// A compiled template.
#[derive(Debug, Clone)]
pub(super) struct Text {
    /// The setting that has it, for messages.
    pub(super) setting: String,
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, Clone)]
pub(super) enum Part {
    Text(String),
    Expression(Expression),
}

/// A compiled expression.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    /// As it was written, for messages.
    pub(super) shown: String,
    pub(super) operands: Vec<Operand>,
    pub(super) filters: Vec<Filter>,
}

#[derive(Debug, Clone)]
pub(super) enum Operand {
    Column {
        index: usize,
        kind: Kind,
    },
    /// What was found for a path.
    Member {
        slot: usize,
    },
    /// The same for what stands for a column: a text is without its quotes wherever it goes.
    Field {
        slot: usize,
        /// Its name, where it must be there: as a column it would have been looked for at the start.
        must_be: Option<String>,
    },
    /// The content type of such a part.
    TypeOfField {
        slot: usize,
    },
    Constant(String),
    Row,
    Topic,
    CommittedAt,
    Lsn,
    Ordinal,
}

/// What an expression says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Said<'a> {
    Null,
    /// A value, not written yet.
    Value(Value<'a>),
    /// All columns.
    Row,
    /// It is written to the end of the buffer, as text or bytes.
    Written,
    /// The same, and is JSON.
    WrittenJson,
}

impl Text {
    /// Text that is the same for every row.
    pub(super) fn constant(setting: &str, text: &str) -> Self {
        Self { setting: setting.to_owned(), parts: vec![Part::Text(text.to_owned())] }
    }

    /// The expression, where it is all that there is.
    pub(super) fn lone(&self) -> Option<&Expression> {
        match self.parts.as_slice() {
            [Part::Expression(expression)] => Some(expression),
            _ => None,
        }
    }

    /// Appends it as text; `false`, and nothing, where it is one expression that is NULL.
    pub(super) fn write(&self, row: &Row<'_>, into: &mut Vec<u8>) -> Result<bool, OutboxError> {
        self.write_as(row, into, write::text)
    }

    /// The same, but a member of JSON in its source text: a text stays in quotes.
    pub(super) fn write_content(&self, row: &Row<'_>, into: &mut Vec<u8>) -> Result<bool, OutboxError> {
        self.write_as(row, into, |value, into| match value {
            Value::Member(json) => {
                into.extend_from_slice(json.as_bytes());
                Ok(())
            }
            other => write::text(other, into),
        })
    }

    fn write_as(
        &self,
        row: &Row<'_>,
        into: &mut Vec<u8>,
        write: impl Fn(Value<'_>, &mut Vec<u8>) -> Result<(), Reason>,
    ) -> Result<bool, OutboxError> {
        if let Some(expression) = self.lone() {
            return self.expression(expression, row, into, &write);
        }
        for part in &self.parts {
            match part {
                Part::Text(text) => into.extend_from_slice(text.as_bytes()),
                Part::Expression(expression) => {
                    if !self.expression(expression, row, into, &write)? {
                        return Err(
                            self.error(expression, "it is NULL, and more text stands beside it".into())
                        );
                    }
                }
            }
        }
        Ok(true)
    }

    fn expression(
        &self,
        expression: &Expression,
        row: &Row<'_>,
        into: &mut Vec<u8>,
        write: impl Fn(Value<'_>, &mut Vec<u8>) -> Result<(), Reason>,
    ) -> Result<bool, OutboxError> {
        let mut writing = || -> Result<bool, Reason> {
            match expression.evaluate(row, into)? {
                Said::Null => return Ok(false),
                Said::Value(value) => write(value, into)?,
                Said::Row => write::row(row, into)?,
                Said::Written | Said::WrittenJson => {}
            }
            Ok(true)
        };
        writing().map_err(|reason| self.error(expression, reason))
    }

    /// Appends it as JSON.
    pub(super) fn write_json(&self, row: &Row<'_>, into: &mut Vec<u8>) -> Result<(), OutboxError> {
        let start = into.len();
        let Some(expression) = self.lone() else {
            self.write(row, into)?;
            return write::quote_from(start, into).map_err(|reason| self.refused(reason));
        };
        let mut writing = || -> Result<(), Reason> {
            match expression.evaluate(row, into)? {
                Said::Null => into.extend_from_slice(b"null"),
                Said::Value(value) => write::json(value, into)?,
                Said::Row => write::row(row, into)?,
                Said::Written => write::quote_from(start, into)?,
                Said::WrittenJson => {}
            }
            Ok(())
        };
        writing().map_err(|reason| self.error(expression, reason))
    }

    /// It as microseconds since 1970-01-01 UTC; `None` for NULL.
    pub(super) fn time(&self, row: &Row<'_>, scratch: &mut Vec<u8>) -> Result<Option<i64>, OutboxError> {
        scratch.clear();
        let Some(expression) = self.lone() else {
            self.write(row, scratch)?;
            return parse(scratch).map(Some).map_err(|reason| self.refused(reason));
        };
        let mut reading = || -> Result<Option<i64>, Reason> {
            let value = match expression.evaluate(row, scratch)? {
                Said::Null => return Ok(None),
                Said::Value(value) => value,
                Said::Row | Said::Written | Said::WrittenJson => return Ok(Some(parse(scratch)?)),
            };
            match value {
                Value::Time(micros) | Value::Date(micros) => Ok(Some(micros)),
                Value::Text(text) => parse(text.as_bytes()).map(Some),
                Value::Member(_) => {
                    write::text(value, scratch)?;
                    parse(scratch).map(Some)
                }
                _ => Err("it is not a time".into()),
            }
        };
        reading().map_err(|reason| self.error(expression, reason))
    }

    /// It as a number; `None` for NULL.
    pub(super) fn integer(&self, row: &Row<'_>, scratch: &mut Vec<u8>) -> Result<Option<i64>, OutboxError> {
        scratch.clear();
        if !self.write(row, scratch)? {
            return Ok(None);
        }
        let number = std::str::from_utf8(scratch).ok().and_then(|text| text.parse().ok());
        number.map(Some).ok_or_else(|| self.refused("it is not a whole number".into()))
    }

    /// What is wrong with what one of its expressions says.
    pub(super) fn error(&self, expression: &Expression, reason: Reason) -> OutboxError {
        OutboxError::Value {
            setting: self.setting.clone(),
            expression: expression.shown.clone(),
            reason: reason.into_owned(),
        }
    }

    /// What is wrong with what it says.
    pub(super) fn refused(&self, reason: Reason) -> OutboxError {
        let shown = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            Part::Expression(expression) => expression.shown.clone(),
        };
        let expression = self.parts.iter().map(shown).collect();
        OutboxError::Value { setting: self.setting.clone(), expression, reason: reason.into_owned() }
    }
}

fn parse(text: &[u8]) -> Result<i64, Reason> {
    let parsed = std::str::from_utf8(text).ok().and_then(time::parse_iso_8601);
    in_years(parsed.ok_or("it is not a time of ISO 8601, such as 2026-03-01T10:00:00Z")?)
}

impl Expression {
    /// What it says of a row; what has no other form is written to the end of `into`.
    #[inline]
    pub(super) fn evaluate<'a>(&'a self, row: &Row<'a>, into: &mut Vec<u8>) -> Result<Said<'a>, Reason> {
        // Most are a column as it is.
        if let ([Operand::Column { index, kind }], []) = (&self.operands[..], &self.filters[..]) {
            return Ok(row.column(*index, *kind)?.map_or(Said::Null, Said::Value));
        }
        self.evaluate_all(row, into)
    }

    fn evaluate_all<'a>(&'a self, row: &Row<'a>, into: &mut Vec<u8>) -> Result<Said<'a>, Reason> {
        let start = into.len();
        let mut said = Said::Null;
        for operand in &self.operands {
            said = operand.read(row, into)?;
            if said != Said::Null {
                break;
            }
        }
        if said == Said::Null {
            return Ok(said);
        }
        for filter in &self.filters {
            said = apply(filter, said, row, start, into)?;
        }
        Ok(said)
    }
}

impl Operand {
    fn read<'a>(&'a self, row: &Row<'a>, into: &mut Vec<u8>) -> Result<Said<'a>, Reason> {
        let value = match self {
            Self::Column { index, kind } => row.column(*index, *kind)?,
            Self::Member { slot } => row.member(*slot),
            Self::Field { slot, must_be: Some(name) } if row.slots.get(*slot).is_none_or(Option::is_none) => {
                return Err(format!("the message has no member `{name}`; NULL is `null`").into());
            }
            Self::Field { slot, .. } => return field(row.member(*slot), into),
            Self::TypeOfField { slot } => Some(Value::Text(match row.member(*slot) {
                Some(Value::Member(json)) if json.starts_with('"') => "text/plain",
                _ => "application/json",
            })),
            Self::Constant(text) => Some(Value::Text(text)),
            Self::Topic => Some(Value::Text(row.topic)),
            Self::Row => return Ok(Said::Row),
            Self::CommittedAt => row.position.committed().map(Value::Time),
            Self::Lsn => {
                write::lsn(row.position.lsn, into);
                return Ok(Said::Written);
            }
            Self::Ordinal => Some(Value::Integer(i64::try_from(row.position.ordinal).unwrap_or(i64::MAX))),
        };
        Ok(value.map_or(Said::Null, Said::Value))
    }
}

/// What a member is that stands for a column.
fn field<'a>(member: Option<Value<'a>>, into: &mut Vec<u8>) -> Result<Said<'a>, Reason> {
    let Some(Value::Member(json)) = member else { return Ok(Said::Null) };
    match json.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(text) if !text.contains('\\') => Ok(Said::Value(Value::Text(text))),
        Some(_) => {
            write::member(json, into)?;
            Ok(Said::Written)
        }
        None => Ok(Said::Value(Value::Member(json))),
    }
}

/// Applies a filter to what was said.
fn apply<'a>(
    filter: &Filter,
    said: Said<'a>,
    row: &Row<'a>,
    start: usize,
    into: &mut Vec<u8>,
) -> Result<Said<'a>, Reason> {
    if let Filter::Unit(micros) = filter {
        let said = unit(*micros, said, &into[start..]);
        into.truncate(start);
        return said;
    }
    match said {
        Said::Value(value) => write::text(value, into)?,
        Said::Row => write::row(row, into)?,
        Said::Null | Said::Written | Said::WrittenJson => {}
    }
    let text = &into[start..];
    match filter {
        Filter::Lower => lower(start, into)?,
        Filter::Before(separator) => {
            let end = find(text, separator).unwrap_or(text.len());
            into.truncate(start + end);
        }
        Filter::After(separator) => {
            let at = find(text, separator).map_or(text.len(), |at| at + separator.len());
            into.drain(start..start + at);
        }
        Filter::Last(separator) => {
            let found = text.windows(separator.len()).rposition(|window| window == separator.as_bytes());
            into.drain(start..start + found.map_or(0, |at| at + separator.len()));
        }
        Filter::Quote => {
            write::quote_from(start, into)?;
            return Ok(Said::WrittenJson);
        }
        Filter::Json => {
            write::check_json(text)?;
            return Ok(Said::WrittenJson);
        }
        Filter::Base64 => {
            let end = into.len();
            let decoded = BASE64.decode(&into[start..end]).map_err(|_| "it is not base64")?;
            into.truncate(start);
            into.extend_from_slice(&decoded);
        }
        Filter::Unit(_) => {}
    }
    Ok(Said::Written)
}

fn find(text: &[u8], separator: &str) -> Option<usize> {
    text.windows(separator.len()).position(|window| window == separator.as_bytes())
}

fn lower(start: usize, into: &mut Vec<u8>) -> Result<(), Reason> {
    if into[start..].is_ascii() {
        into[start..].make_ascii_lowercase();
        return Ok(());
    }
    let text = std::str::from_utf8(&into[start..]).map_err(|_| "it is not text")?.to_lowercase();
    into.truncate(start);
    into.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Of a time a number, of a number a time.
fn unit<'a>(micros: i64, said: Said<'a>, written: &[u8]) -> Result<Said<'a>, Reason> {
    let value = match said {
        Said::Value(Value::Time(time) | Value::Date(time)) => Value::Integer(time.div_euclid(micros)),
        Said::Value(Value::Integer(number)) => {
            let time = number.checked_mul(micros).ok_or("a time outside of the years 1 to 9999")?;
            Value::Time(in_years(time)?)
        }
        Said::Value(Value::Text(text)) => Value::Integer(parse(text.as_bytes())?.div_euclid(micros)),
        Said::Value(Value::Member(json)) => match json.parse::<i64>() {
            Ok(number) => Value::Time(in_years(
                number.checked_mul(micros).ok_or("a time outside of the years 1 to 9999")?,
            )?),
            Err(_) => return Err("a member of JSON is a time in this unit only as a whole number".into()),
        },
        Said::Written => Value::Integer(parse(written)?.div_euclid(micros)),
        _ => return Err("it is neither a time nor a number".into()),
    };
    Ok(Said::Value(value))
}
