//! A schema, and why a value is not written by it.

use super::shape::{Shape, Shapes};
use crate::event::value::Reason;

/// A schema that values are written by.
#[derive(Debug, Clone)]
pub struct Schema {
    pub(super) text: String,
    pub(super) shapes: Shapes,
}

/// Those of the same text.
impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Schema {
    pub(super) fn shape(&self, number: usize) -> &Shape {
        self.shapes.shapes.get(number).unwrap_or(&Shape::Null)
    }

    /// A type as messages name it.
    pub(super) fn name(&self, number: usize) -> &str {
        self.shapes.names.get(number).map_or("", String::as_str)
    }

    pub(super) fn takes_null(&self, number: usize) -> bool {
        match self.shape(number) {
            Shape::Null => true,
            Shape::Union(branches) => branches.iter().any(|branch| *self.shape(*branch) == Shape::Null),
            _ => false,
        }
    }

    pub(super) fn unfit(&self, number: usize, found: &str) -> Refusal {
        Refusal::new(format!("expected {}, found {found}", self.name(number)).into())
    }
}

/// Why a value is not written, and where in it.
#[derive(Debug)]
pub(super) struct Refusal {
    /// `order.lines[2].price`; empty for the whole.
    pub(super) path: String,
    pub(super) reason: Reason,
}

impl Refusal {
    pub(super) fn new(reason: Reason) -> Self {
        Self { path: String::new(), reason }
    }

    /// The same, seen from outside of a field or a member.
    pub(super) fn within(mut self, name: &str) -> Self {
        let dot = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path = format!("{}{dot}{}", name.trim_matches('"'), self.path);
        self
    }

    /// The same, seen from outside of an array.
    pub(super) fn at(mut self, index: usize) -> Self {
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
