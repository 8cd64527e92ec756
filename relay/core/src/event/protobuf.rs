//! The format `protobuf`: a message's fields out of a row, by a descriptor.
//!
//! Fields are written in the order of their numbers and left out at their default, as proto3 has it, so the same row
//! always gives the same bytes.

use prost::Message as _;
use prost::encoding::{self, WireType};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
};

use super::error::{OutboxError, quoted};
use super::row::Row;
use super::text::{Said, Text};
use super::value::{Kind, Reason, Value};
use super::write;

/// A message that values are written as.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Its full name: `shop.OrderEvent`.
    name: String,
    fields: Vec<Field>,
}

/// A field of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    name: String,
    number: u32,
    shape: Shape,
    /// Whether it is written at its default as well, since absence means something else.
    has_presence: bool,
}

/// What a field holds.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Integer(Type),
    Double,
    Float,
    Boolean,
    Text,
    Bytes,
    /// Labels with their numbers.
    Enum(Vec<(String, i32)>),
    Timestamp,
    /// What a row cannot be written as, in words.
    Other(String),
}

/// Why a descriptor is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DescriptorError {
    /// It is not what protoc or buf writes.
    #[error(
        "it is not a FileDescriptorSet, as `protoc --include_imports --descriptor_set_out` or `buf build` writes it: {0}"
    )]
    NotASet(String),
    /// There is no such message.
    #[error("it has no message `{name}`; it has: {has}")]
    NoMessage {
        /// What was looked for.
        name: String,
        /// What there is.
        has: String,
    },
}

impl Message {
    /// Finds a message in a serialised `FileDescriptorSet`.
    ///
    /// # Errors
    /// When it is none, or has no such message.
    pub fn find(set: &[u8], name: &str) -> Result<Self, DescriptorError> {
        let set =
            FileDescriptorSet::decode(set).map_err(|error| DescriptorError::NotASet(error.to_string()))?;
        Self::of_files(&set.file, name)
    }

    /// Finds a message in files.
    ///
    /// # Errors
    /// When there is no such message.
    pub fn of_files(files: &[FileDescriptorProto], name: &str) -> Result<Self, DescriptorError> {
        let known = Known::of(files);
        let name = name.trim_start_matches('.');
        let Some((_, is_proto3, message)) = known.messages.iter().find(|(known, ..)| known == name) else {
            let has: Vec<_> = known.messages.iter().map(|(name, ..)| name.as_str()).collect();
            return Err(DescriptorError::NoMessage { name: name.to_owned(), has: has.join(", ") });
        };
        let mut fields: Vec<_> = message.field.iter().map(|field| known.field(field, *is_proto3)).collect();
        fields.sort_by_key(|field| field.number);
        Ok(Self { name: name.to_owned(), fields })
    }

    /// Its full name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A field by its name.
    pub(super) fn field(&self, path: &[String]) -> Result<&Field, String> {
        let name = path.join(".");
        let Some(field) = self.fields.iter().find(|field| field.name == name) else {
            let has: Vec<_> = self.fields.iter().map(|field| field.name.as_str()).collect();
            return Err(format!("the message {} has no such field; it has: {}", self.name, has.join(", ")));
        };
        match &field.shape {
            Shape::Other(what) => Err(format!("the field is {what}, which cannot be written from columns")),
            _ => Ok(field),
        }
    }
}

/// The messages and enums of some files, by their full names.
struct Known<'a> {
    messages: Vec<(String, bool, &'a DescriptorProto)>,
    enums: Vec<(String, &'a EnumDescriptorProto)>,
}

impl<'a> Known<'a> {
    fn of(files: &'a [FileDescriptorProto]) -> Self {
        let mut known = Self { messages: Vec::new(), enums: Vec::new() };
        for file in files {
            let within = file.package().to_owned();
            known.enums(&within, &file.enum_type);
            known.messages(&within, file.syntax() == "proto3", &file.message_type);
        }
        known
    }

    fn messages(&mut self, within: &str, is_proto3: bool, messages: &'a [DescriptorProto]) {
        for message in messages {
            let name = joined(within, message.name());
            self.enums(&name, &message.enum_type);
            self.messages(&name, is_proto3, &message.nested_type);
            self.messages.push((name, is_proto3, message));
        }
    }

    fn enums(&mut self, within: &str, enums: &'a [EnumDescriptorProto]) {
        self.enums.extend(enums.iter().map(|each| (joined(within, each.name()), each)));
    }

    /// Only proto3 has fields whose default is the same as their absence.
    fn field(&self, field: &FieldDescriptorProto, is_proto3: bool) -> Field {
        let in_oneof = field.oneof_index.is_some();
        Field {
            name: field.name().to_owned(),
            number: u32::try_from(field.number()).unwrap_or_default(),
            shape: self.shape(field),
            has_presence: !is_proto3 || field.proto3_optional() || in_oneof,
        }
    }

    fn shape(&self, field: &FieldDescriptorProto) -> Shape {
        if field.label() == Label::Repeated {
            return Shape::Other("repeated".into());
        }
        let type_name = field.type_name().trim_start_matches('.');
        match field.r#type() {
            Type::Double => Shape::Double,
            Type::Float => Shape::Float,
            Type::Bool => Shape::Boolean,
            Type::String => Shape::Text,
            Type::Bytes => Shape::Bytes,
            Type::Enum => match self.enums.iter().find(|(name, _)| name == type_name) {
                Some((_, each)) => {
                    let label = |value: &prost_types::EnumValueDescriptorProto| {
                        (value.name().to_owned(), value.number())
                    };
                    Shape::Enum(each.value.iter().map(label).collect())
                }
                None => Shape::Other(format!("the enum {type_name}, which the descriptor lacks")),
            },
            Type::Message if type_name == "google.protobuf.Timestamp" => Shape::Timestamp,
            Type::Message | Type::Group => Shape::Other(format!("the message {type_name}")),
            integer => Shape::Integer(integer),
        }
    }
}

fn joined(within: &str, name: &str) -> String {
    if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") }
}

impl Field {
    /// Whether values of a column can be written to it; `labels` are those of a column of an enum.
    pub(super) fn check(&self, kind: Kind, labels: &[String]) -> Result<(), String> {
        let (fits, expected) = match &self.shape {
            Shape::Integer(_) => (kind == Kind::Integer, "smallint, integer or bigint"),
            Shape::Double | Shape::Float => (matches!(kind, Kind::Float | Kind::Integer), "a number"),
            Shape::Boolean => (kind == Kind::Boolean, "boolean"),
            Shape::Timestamp => (matches!(kind, Kind::Timestamp | Kind::Date), "timestamptz"),
            Shape::Enum(known) => {
                let knows = |label: &String| known.iter().any(|(known, _)| known == label);
                if !labels.is_empty() && !labels.iter().any(knows) {
                    let known: Vec<_> = known.iter().map(|(label, _)| label.as_str()).collect();
                    return Err(format!(
                        "none of its labels {} is one of {}",
                        labels.join(", "),
                        known.join(", ")
                    ));
                }
                (matches!(kind, Kind::Text | Kind::Integer), "text, an enum or a number")
            }
            Shape::Text | Shape::Bytes | Shape::Other(_) => (true, ""),
        };
        if fits { Ok(()) } else { Err(format!("expected {expected} for the field {}", self.name)) }
    }
}

/// Which text is written to which field, in the order of their numbers.
#[derive(Debug, Clone)]
pub(super) struct Encoding {
    fields: Vec<(Field, Text)>,
}

impl Encoding {
    pub(super) fn new(mut fields: Vec<(Field, Text)>) -> Self {
        fields.sort_by_key(|(field, _)| field.number);
        Self { fields }
    }

    /// Appends the message; `scratch` is overwritten.
    pub(super) fn write(
        &self,
        row: &Row<'_>,
        scratch: &mut Vec<u8>,
        into: &mut Vec<u8>,
    ) -> Result<(), OutboxError> {
        self.fields.iter().try_for_each(|(field, text)| field.write(text, row, scratch, into))
    }
}

impl Field {
    fn write(
        &self,
        text: &Text,
        row: &Row<'_>,
        scratch: &mut Vec<u8>,
        into: &mut Vec<u8>,
    ) -> Result<(), OutboxError> {
        scratch.clear();
        if matches!(self.shape, Shape::Text | Shape::Bytes) {
            return if text.write_content(row, scratch)? {
                self.bytes(scratch, into).map_err(|reason| text.refused(reason))
            } else {
                Ok(())
            };
        }
        if self.shape == Shape::Timestamp {
            if let Some(micros) = text.time(row, scratch)? {
                encoding::message::encode(self.number, &timestamp(micros), into);
            }
            return Ok(());
        }
        let Some(expression) = text.lone() else {
            text.write(row, scratch)?;
            return self.scalar(Value::Text(as_text(scratch)), into).map_err(|reason| text.refused(reason));
        };
        let said = expression.evaluate(row, scratch).map_err(|reason| text.error(expression, reason))?;
        let value = match said {
            Said::Null => return Ok(()),
            Said::Value(Value::Member(json)) => {
                write::member(json, scratch).map_err(|reason| text.error(expression, reason))?;
                Value::Text(as_text(scratch))
            }
            Said::Value(value) => value,
            Said::Row | Said::Written | Said::WrittenJson => Value::Text(as_text(scratch)),
        };
        self.scalar(value, into).map_err(|reason| text.error(expression, reason))
    }

    fn bytes(&self, value: &[u8], into: &mut Vec<u8>) -> Result<(), Reason> {
        if self.shape == Shape::Text && std::str::from_utf8(value).is_err() {
            return Err(format!("the field {} is text, and these bytes are none", self.name).into());
        }
        if value.is_empty() && !self.has_presence {
            return Ok(());
        }
        encoding::encode_key(self.number, WireType::LengthDelimited, into);
        encoding::encode_varint(value.len() as u64, into);
        into.extend_from_slice(value);
        Ok(())
    }

    fn scalar(&self, value: Value<'_>, into: &mut Vec<u8>) -> Result<(), Reason> {
        match &self.shape {
            Shape::Integer(kind) => self.integer(*kind, self.whole(value)?, into),
            Shape::Enum(labels) => {
                let number = self.label(labels, value)?;
                if number != 0 || self.has_presence {
                    encoding::int32::encode(self.number, &number, into);
                }
                Ok(())
            }
            Shape::Boolean => {
                let is = match value {
                    Value::Boolean(is) => is,
                    Value::Text("true") => true,
                    Value::Text("false") => false,
                    _ => return Err(self.unfit("true or false")),
                };
                if is || self.has_presence {
                    encoding::bool::encode(self.number, &is, into);
                }
                Ok(())
            }
            Shape::Double | Shape::Float => self.float(value, into),
            Shape::Text | Shape::Bytes | Shape::Timestamp | Shape::Other(_) => Ok(()),
        }
    }

    fn unfit(&self, expected: &str) -> Reason {
        format!("the field {} takes {expected}", self.name).into()
    }

    fn whole(&self, value: Value<'_>) -> Result<i128, Reason> {
        match value {
            Value::Integer(number) => Ok(number.into()),
            Value::Text(text) => text.parse().map_err(|_| self.unfit("a whole number")),
            _ => Err(self.unfit("a whole number")),
        }
    }

    fn integer(&self, kind: Type, number: i128, into: &mut Vec<u8>) -> Result<(), Reason> {
        if number == 0 && !self.has_presence {
            return Ok(());
        }
        let beyond = || Reason::from(format!("{number} is not in the range of the field {}", self.name));
        let (at, signed) = (self.number, i64::try_from(number));
        let (narrow, unsigned) = (i32::try_from(number), u64::try_from(number));
        let unsigned_narrow = u32::try_from(number);
        match kind {
            Type::Int64 => encoding::int64::encode(at, &signed.map_err(|_| beyond())?, into),
            Type::Sint64 => encoding::sint64::encode(at, &signed.map_err(|_| beyond())?, into),
            Type::Sfixed64 => encoding::sfixed64::encode(at, &signed.map_err(|_| beyond())?, into),
            Type::Int32 => encoding::int32::encode(at, &narrow.map_err(|_| beyond())?, into),
            Type::Sint32 => encoding::sint32::encode(at, &narrow.map_err(|_| beyond())?, into),
            Type::Sfixed32 => encoding::sfixed32::encode(at, &narrow.map_err(|_| beyond())?, into),
            Type::Uint64 => encoding::uint64::encode(at, &unsigned.map_err(|_| beyond())?, into),
            Type::Fixed64 => encoding::fixed64::encode(at, &unsigned.map_err(|_| beyond())?, into),
            Type::Uint32 => encoding::uint32::encode(at, &unsigned_narrow.map_err(|_| beyond())?, into),
            _ => encoding::fixed32::encode(at, &unsigned_narrow.map_err(|_| beyond())?, into),
        }
        Ok(())
    }

    fn label(&self, labels: &[(String, i32)], value: Value<'_>) -> Result<i32, Reason> {
        let known = || labels.iter().map(|(label, _)| label.as_str()).collect::<Vec<_>>().join(", ");
        match value {
            Value::Text(text) => {
                let found = labels.iter().find(|(label, _)| label == text);
                let numbered =
                    || text.parse().ok().filter(|number| labels.iter().any(|(_, known)| known == number));
                let unknown =
                    || format!("{} is not one of {} (the field {})", quoted(text), known(), self.name);
                found.map(|(_, number)| *number).or_else(numbered).ok_or_else(|| unknown().into())
            }
            Value::Integer(number) => {
                let found = labels.iter().find(|(_, known)| i64::from(*known) == number);
                let unknown =
                    || format!("{number} is not the number of one of {} (the field {})", known(), self.name);
                found.map(|(_, number)| *number).ok_or_else(|| unknown().into())
            }
            _ => Err(self.unfit(&known())),
        }
    }

    fn float(&self, value: Value<'_>, into: &mut Vec<u8>) -> Result<(), Reason> {
        #[allow(clippy::cast_precision_loss)]
        let number = match value {
            Value::Float(number) => number,
            Value::Real(number) => number.into(),
            Value::Integer(number) => number as f64,
            Value::Text(text) => text.parse().map_err(|_| self.unfit("a number"))?,
            _ => return Err(self.unfit("a number")),
        };
        // Minus zero is not the default.
        if number.to_bits() == 0 && !self.has_presence {
            return Ok(());
        }
        #[allow(clippy::cast_possible_truncation)]
        match self.shape {
            Shape::Double => encoding::double::encode(self.number, &number, into),
            _ => encoding::float::encode(self.number, &(number as f32), into),
        }
        Ok(())
    }
}

fn as_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

fn timestamp(micros: i64) -> prost_types::Timestamp {
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // Below 10⁹.
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}
