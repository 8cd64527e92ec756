//! The format `avro`: a datum of a schema, in Avro's binary form and without a container, out of a JSON payload or out of
//! columns.
//!
//! | file | what |
//! |---|---|
//! | `schema`, `shape` | the schema, laid out for writing |
//! | `given`, `encode`, `scalar` | what is to be written; values that hold others; those that do not |
//! | `row` | a row's values: which column is which field, or a payload |
//! | `number` | decimals and times of the day |
//! | `walk` | members and elements of JSON |

mod encode;
mod given;
mod number;
mod row;
mod scalar;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod walk;

pub(super) use encode::Scratch;
pub(super) use row::{FromColumns, FromJson};
pub use schema::Schema;

use encode::Encoder;
use shape::{Shape, Shapes};

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
}
