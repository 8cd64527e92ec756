//! The format `avro`: a datum of a schema, in Avro's binary form and without a container, out of a JSON payload or out of
//! columns.
//!
//! | file | what |
//! |---|---|
//! | `shape` | the schema, laid out for writing |
//! | `given`, `encode`, `scalar` | what is to be written; values that hold others; those that do not |
//! | `row` | a row's values: which column is which field, or a payload |
//! | `number` | decimals and times of the day |
//! | `walk` | members and elements of JSON |

mod encode;
mod given;
mod number;
mod row;
mod scalar;
mod shape;
#[cfg(test)]
mod tests;
mod walk;

pub(super) use encode::Scratch;
pub(super) use row::{FromColumns, FromJson};

use encode::Encoder;
use shape::{Shape, Shapes};

use super::value::Reason;

/// A schema that values are written by.
#[derive(Debug, Clone)]
pub struct Schema {
    text: String,
    shapes: Shapes,
}

/// Those of the same text.
impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Schema {
    /// Reads a schema, as its JSON.
    ///
    /// # Errors
    /// When it is none, or has a type that cannot be written.
    pub fn read(text: &str) -> Result<Self, String> {
        let parsed = apache_avro::Schema::parse_str(text).map_err(|error| error.to_string())?;
        let mut schema = Self { text: text.to_owned(), shapes: Shapes::of(&parsed)? };
        schema.write_defaults()?;
        Ok(schema)
    }

    /// Writes the defaults once: a row that lacks a member costs no more than one that has it.
    fn write_defaults(&mut self) -> Result<(), String> {
        for number in 0..self.shapes.shapes.len() {
            let Shape::Record(fields) = &self.shapes.shapes[number] else { continue };
            let mut written = Vec::new();
            for field in fields {
                let mut bytes = Vec::new();
                if field.default.is_some() {
                    let mut scratch = Scratch::default();
                    let mut encoder =
                        Encoder { schema: self, scratch: &mut scratch, bytes_are_characters: true, depth: 0 };
                    encoder
                        .absent(field, &mut bytes)
                        .map_err(|refusal| format!("the default of the field {}: {refusal}", field.name))?;
                }
                written.push(bytes);
            }
            let Shape::Record(fields) = &mut self.shapes.shapes[number] else { continue };
            for (field, bytes) in fields.iter_mut().zip(written) {
                if let Some(default) = &mut field.default {
                    default.written = Some(bytes);
                }
            }
        }
        Ok(())
    }

    fn shape(&self, number: usize) -> &Shape {
        self.shapes.shapes.get(number).unwrap_or(&Shape::Null)
    }

    /// A type as messages name it.
    fn name(&self, number: usize) -> &str {
        self.shapes.names.get(number).map_or("", String::as_str)
    }

    fn takes_null(&self, number: usize) -> bool {
        match self.shape(number) {
            Shape::Null => true,
            Shape::Union(branches) => branches.iter().any(|branch| *self.shape(*branch) == Shape::Null),
            _ => false,
        }
    }

    fn unfit(&self, number: usize, found: &str) -> Refusal {
        Refusal::new(format!("expected {}, found {found}", self.name(number)).into())
    }
}

/// Why a value is not written, and where in it.
#[derive(Debug)]
struct Refusal {
    /// `order.lines[2].price`; empty for the whole.
    path: String,
    reason: Reason,
}

impl Refusal {
    fn new(reason: Reason) -> Self {
        Self { path: String::new(), reason }
    }

    /// The same, seen from outside of a field or a member.
    fn within(mut self, name: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{}{dot}{}", name.trim_matches('"'), self.path);
        self
    }

    /// The same, seen from outside of an array.
    fn at(mut self, index: usize) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("[{index}]{dot}{}", self.path);
        self
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.reason),
            path => write!(f, "the field {path}: {}", self.reason),
        }
    }
}
