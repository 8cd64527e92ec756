//! What is to be written: JSON, or a column's value.

use super::shape::Shape;
use super::walk::Class;
use crate::event::value::Value;

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

    pub(super) fn json(&self) -> Option<&'a str> {
        match self {
            Self::Json(json) | Self::Column(json) => Some(json),
            Self::Null | Self::Value(_) => None,
        }
    }

    pub(super) fn is_null(&self) -> bool {
        matches!(self, Self::Null) || self.json() == Some("null")
    }

    /// As messages name it: what it is, and never what it says, which may be long or secret.
    pub(super) fn found(&self) -> &'static str {
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

/// Whether a type is what such a value is usually written as: of a union the others are not tried where one is.
pub(super) fn is_natural(shape: &Shape, given: Given<'_>) -> bool {
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
