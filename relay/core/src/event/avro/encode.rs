//! Values in Avro's binary form (<https://avro.apache.org/docs/1.12.0/specification/#binary-encoding>), out of plain JSON and
//! out of columns.
//!
//! Plain JSON is what an application writes that knows nothing of Avro: a value of a union stands there as it is, and not in an
//! object with its type's name as Avro's own JSON has it. Which of the union's types is meant follows from the value: the first
//! that takes it, in the order of the schema.

use super::given::{Given, is_natural};
use super::number::{count, long};
use super::schema::{Refusal, Schema};
use super::shape::{Fallback, Field, Shape};
use super::walk::{Class, Walk};
use crate::event::value::Value;
use crate::event::write;

/// So deep may arrays, maps and records stand in each other: what is deeper is no event.
const DEPTH_MAX: usize = 64;

/// What is kept from one value to the next.
#[derive(Debug, Default)]
pub(in crate::event) struct Scratch {
    /// Where the members of objects stand, for the objects that are being written.
    members: Vec<Option<(usize, usize)>>,
    /// A value as text.
    pub(super) text: Vec<u8>,
    /// The bytes of a decimal.
    pub(super) digits: Vec<u8>,
    /// An array of a column.
    json: Vec<u8>,
    /// How often a type of a union was tried for the value that is being written.
    tries: u32,
}

/// Unions of records in each other are tried again for each way to read what stands around them: twice as often with each level,
/// where there are two. No value needs so many tries that has one way.
const TRIES_MAX: u32 = 100_000;

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
        if self.depth == 0 {
            self.scratch.tries = 0;
        }
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
            self.scratch.tries += 1;
            if self.scratch.tries > TRIES_MAX {
                return Err(Refusal::new(
                    "it may be read in too many ways: give the union fewer records".into(),
                ));
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
}
