//! A row's datum: out of the JSON in the value's column, or out of columns, by the names of the record's fields.

use std::sync::Arc;

use super::encode::{Encoder, Scratch};
use super::given::Given;
use super::number::long;
use super::schema::{Refusal, Schema};
use super::shape::{Field, Shape};
use crate::event::error::OutboxError;
use crate::event::row::Row;
use crate::event::text::{Said, Text};
use crate::event::value::{Kind, Value};
use crate::event::write;

/// A datum out of a JSON payload.
#[derive(Debug, Clone)]
pub(in crate::event) struct FromJson {
    pub(in crate::event) schema: Arc<Schema>,
    pub(in crate::event) payload: Text,
}

impl FromJson {
    /// Appends the datum; `false` where the payload is NULL, or what `is_empty` takes for it. `text` is overwritten.
    pub(in crate::event) fn write(
        &self,
        row: &Row<'_>,
        is_empty: impl Fn(&[u8]) -> bool,
        text: &mut Vec<u8>,
        scratch: &mut Scratch,
        into: &mut Vec<u8>,
    ) -> Result<bool, OutboxError> {
        text.clear();
        if !self.payload.write_content(row, text)? || is_empty(text) {
            return Ok(false);
        }
        write::check_json(text).map_err(|reason| self.payload.refused(reason))?;
        let json = std::str::from_utf8(text).unwrap_or_default().trim_ascii();
        let mut encoder = Encoder { schema: &self.schema, scratch, bytes_are_characters: false, depth: 0 };
        encoder.write(0, Given::Json(json), into).map_err(|refusal| self.refused(&refusal))?;
        Ok(true)
    }

    fn refused(&self, refusal: &Refusal) -> OutboxError {
        self.payload.refused(refusal.to_string().into())
    }
}

/// A record out of columns.
#[derive(Debug, Clone)]
pub(in crate::event) struct FromColumns {
    schema: Arc<Schema>,
    root: Source,
}

/// What a field is written from.
#[derive(Debug, Clone)]
enum Source {
    Text(Text),
    /// The fields of a record, which may be a branch of a union.
    Record {
        branch: Option<i64>,
        number: usize,
        fields: Vec<Source>,
    },
    /// What the schema says for a field that is not there.
    Absent,
}

/// What is wrong with a setting of a field, and which it is: `fields.a.b`, or `fields` for one that is lacking.
pub(in crate::event) type Unfit = (String, String);

impl FromColumns {
    /// Finds a field for each text.
    pub(in crate::event) fn new(
        schema: &Arc<Schema>,
        texts: &[(&[String], Text)],
    ) -> Result<Self, Vec<Unfit>> {
        let mut unfit = Vec::new();
        let texts: Vec<_> = texts.iter().map(|(path, text)| (*path, text)).collect();
        let root = match record(schema, 0) {
            Some((branch, number)) => source_of_record(schema, branch, number, &texts, "", &mut unfit),
            None => {
                let what = format!("the schema is {}, and columns make a record", schema.name(0));
                unfit.push(("fields".into(), what));
                Source::Absent
            }
        };
        if unfit.is_empty() { Ok(Self { schema: Arc::clone(schema), root }) } else { Err(unfit) }
    }

    /// Appends the record; `text` is overwritten.
    pub(in crate::event) fn write(
        &self,
        row: &Row<'_>,
        text: &mut Vec<u8>,
        scratch: &mut Scratch,
        into: &mut Vec<u8>,
    ) -> Result<(), OutboxError> {
        let mut encoder = Encoder { schema: &self.schema, scratch, bytes_are_characters: false, depth: 0 };
        self.write_source(&self.root, row, text, &mut encoder, into)
    }

    fn write_source(
        &self,
        source: &Source,
        row: &Row<'_>,
        text: &mut Vec<u8>,
        encoder: &mut Encoder<'_>,
        into: &mut Vec<u8>,
    ) -> Result<(), OutboxError> {
        let Source::Record { branch, number, fields } = source else { return Ok(()) };
        let Shape::Record(shapes) = self.schema.shape(*number) else { return Ok(()) };
        if let Some(branch) = branch {
            long(*branch, into);
        }
        for (field, source) in shapes.iter().zip(fields) {
            match source {
                Source::Text(leaf) => write_leaf(leaf, field, row, text, encoder, into)?,
                Source::Record { .. } => self.write_source(source, row, text, encoder, into)?,
                Source::Absent => encoder.absent(field, into).map_err(|refusal| OutboxError::Value {
                    setting: "fields".into(),
                    expression: field.name.clone(),
                    reason: refusal.to_string(),
                })?,
            }
        }
        Ok(())
    }
}

fn write_leaf(
    leaf: &Text,
    field: &Field,
    row: &Row<'_>,
    text: &mut Vec<u8>,
    encoder: &mut Encoder<'_>,
    into: &mut Vec<u8>,
) -> Result<(), OutboxError> {
    text.clear();
    let said = match leaf.lone() {
        None => {
            leaf.write(row, text)?;
            Said::Written
        }
        Some(expression) => match expression.evaluate(row, text) {
            Ok(Said::Row) => {
                write::row(row, text).map_err(|reason| leaf.error(expression, reason))?;
                Said::WrittenJson
            }
            Ok(said) => said,
            Err(reason) => return Err(leaf.error(expression, reason)),
        },
    };
    let given = match (said, std::str::from_utf8(text)) {
        (Said::Null, _) => Given::Null,
        (Said::Value(value), _) => Given::of(value),
        (Said::WrittenJson | Said::Row, Ok(json)) => Given::Column(json.trim_ascii()),
        (Said::Written, Ok(text)) => Given::Value(Value::Text(text)),
        (_, Err(_)) => Given::Value(Value::Bytes(text)),
    };
    encoder
        .write(field.shape, given, into)
        .map_err(|refusal| leaf.refused(refusal.within(&field.name).to_string().into()))
}

/// The record that a type is, or that a union has, and its branch there.
fn record(schema: &Schema, number: usize) -> Option<(Option<i64>, usize)> {
    match schema.shape(number) {
        Shape::Record(_) => Some((None, number)),
        Shape::Union(branches) => {
            let is_record = |(_, branch): &(i64, &usize)| matches!(schema.shape(**branch), Shape::Record(_));
            (0i64..).zip(branches).find(is_record).map(|(index, branch)| (Some(index), *branch))
        }
        _ => None,
    }
}

fn source_of_record(
    schema: &Schema,
    branch: Option<i64>,
    number: usize,
    texts: &[(&[String], &Text)],
    within: &str,
    unfit: &mut Vec<Unfit>,
) -> Source {
    let Shape::Record(shapes) = schema.shape(number) else { return Source::Absent };
    for (path, text) in texts {
        let is_known = path.first().is_some_and(|name| shapes.iter().any(|field| field.name == *name));
        if !is_known {
            let has: Vec<_> = shapes.iter().map(|field| field.name.as_str()).collect();
            let what =
                format!("the record {} has no such field; it has: {}", schema.name(number), has.join(", "));
            unfit.push((text.setting.clone(), what));
        }
    }
    let source = |field: &Field| source_of_field(schema, field, texts, within, unfit);
    Source::Record { branch, number, fields: shapes.iter().map(source).collect() }
}

fn source_of_field(
    schema: &Schema,
    field: &Field,
    texts: &[(&[String], &Text)],
    within: &str,
    unfit: &mut Vec<Unfit>,
) -> Source {
    let name = format!("{within}{}", field.name);
    let of_field = texts.iter().filter(|(path, _)| path.first() == Some(&field.name));
    let inside: Vec<_> = of_field.map(|(path, text)| (&path[1..], *text)).collect();
    match inside.as_slice() {
        [] if field.default.is_none() && !schema.takes_null(field.shape) => {
            unfit.push((
                "fields".into(),
                format!("the field {name} is needed: the schema has no default for it"),
            ));
            Source::Absent
        }
        [] => Source::Absent,
        [([], text)] => Source::Text((*text).clone()),
        several if several.iter().any(|(path, _)| path.is_empty()) => {
            unfit.push((format!("fields.{name}"), "another field stands in its way".into()));
            Source::Absent
        }
        several => match record(schema, field.shape) {
            Some((branch, number)) => {
                source_of_record(schema, branch, number, several, &format!("{name}."), unfit)
            }
            None => {
                let what = format!("it is {}, which has no fields", schema.name(field.shape));
                unfit.push((format!("fields.{name}"), what));
                Source::Absent
            }
        },
    }
}

impl Schema {
    /// Whether values of a column can be written to the field with this path; `labels` are those of a column of an enum.
    pub(in crate::event) fn check(
        &self,
        path: &[String],
        kind: Kind,
        labels: &[String],
    ) -> Result<(), String> {
        let Some(number) = self.find(0, path) else { return Ok(()) };
        if let Shape::Enum(symbols) = self.shape(number)
            && !labels.is_empty()
            && !labels.iter().any(|label| symbols.contains(label))
        {
            return Err(format!("none of its labels {} is one of {}", labels.join(", "), symbols.join(", ")));
        }
        if self.takes(number, kind) { Ok(()) } else { Err(format!("the field is {}", self.shown(number))) }
    }

    fn find(&self, number: usize, path: &[String]) -> Option<usize> {
        let Some((name, rest)) = path.split_first() else { return Some(number) };
        let Shape::Record(fields) = self.shape(record(self, number)?.1) else { return None };
        self.find(fields.iter().find(|field| field.name == *name)?.shape, rest)
    }

    fn shown(&self, number: usize) -> String {
        match self.shape(number) {
            Shape::Union(branches) => {
                let names: Vec<_> = branches.iter().map(|branch| self.name(*branch)).collect();
                format!("one of {}", names.join(", "))
            }
            _ => self.name(number).to_owned(),
        }
    }

    fn takes(&self, number: usize, kind: Kind) -> bool {
        let shape = self.shape(number);
        let is_number =
            matches!(shape, Shape::Int | Shape::Long | Shape::Float | Shape::Double | Shape::Decimal(_));
        let is_nest = matches!(shape, Shape::Record(_) | Shape::Array(_) | Shape::Map(_));
        match (shape, kind) {
            (Shape::Union(branches), _) => branches.iter().any(|branch| self.takes(*branch, kind)),
            (Shape::Null, _) => false,
            (Shape::String, _) | (_, Kind::Json | Kind::Jsonb) => true,
            (Shape::Timestamp(_), Kind::Timestamp | Kind::Date | Kind::Integer) => true,
            (Shape::Date, Kind::Date | Kind::Integer) | (Shape::TimeOfDay(_), Kind::Integer) => true,
            (Shape::Bytes | Shape::Fixed(_) | Shape::Uuid(_), Kind::Bytea | Kind::Uuid) => true,
            (_, Kind::Integer | Kind::Numeric) => is_number,
            (_, Kind::Float) => matches!(shape, Shape::Float | Shape::Double),
            (_, Kind::Boolean) => *shape == Shape::Boolean,
            (_, Kind::Array) => matches!(shape, Shape::Array(_)),
            (_, Kind::Text) => !is_nest,
            _ => false,
        }
    }
}
