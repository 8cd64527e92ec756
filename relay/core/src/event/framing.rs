//! What stands before a value whose schema a registry has: Confluent's wire format. A zero byte, the schema's id in four bytes,
//! and for Protobuf the way to the message within its file
//! (<https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format>).
//!
//! The id is asked for once, before anything is sent, and is part of the plan from then on: a row that comes again has the same
//! bytes, whatever was registered meanwhile. A null value is a deletion to Kafka, and has nothing before it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use prost::encoding::encode_varint;
use prost_types::DescriptorProto;

use super::error::{OutboxError, quoted};

/// The one version of the format that there is.
const MAGIC: u8 = 0;

/// What stands before the value.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Framing {
    /// Nothing.
    #[default]
    None,
    /// A schema's id, which is yet to be asked for.
    Asked(Arc<Wanted>),
    /// The same, asked for.
    Known(Arc<Frame>),
}

/// The schema that the settings name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The subject that has it.
    pub subject: String,
    /// Which of its versions.
    pub version: Version,
    /// What it is to be, where the settings have a file with it.
    pub file: Option<SchemaFile>,
    /// The message of the bytes in the value's column, where they are Protobuf and not its file's first.
    pub message: Option<String>,
}

/// A version of a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// The newest one at the start.
    Latest,
    /// This one.
    Number(u32),
    /// The one that the file is.
    OfFile,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => write!(f, "{number}"),
            Self::OfFile => f.write_str("of the schema's file"),
        }
    }
}

/// A file with a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaFile {
    /// Where it is.
    pub path: String,
    /// The language that it is in.
    pub kind: SchemaKind,
    /// What it says.
    pub text: String,
}

/// The languages that a registry knows schemas in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaKind {
    /// Avro.
    Avro,
    /// JSON Schema.
    Json,
    /// Protobuf.
    Protobuf,
}

impl SchemaKind {
    /// As the registry's interface has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }

    /// By that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Avro, Self::Json, Self::Protobuf].into_iter().find(|kind| kind.name() == name)
    }
}

/// A schema as a registry has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// The subject.
    pub subject: String,
    /// The version.
    pub version: u32,
    /// The id that values are framed with.
    pub id: u32,
    /// The language.
    pub kind: SchemaKind,
    /// The schema.
    pub text: String,
}

impl Registered {
    /// As messages name it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("version {} of the subject {} (id {})", self.version, self.subject, self.id)
    }
}

/// What stands before each value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The schema, as messages name it.
    name: String,
    head: [u8; 5],
    kind: SchemaKind,
    /// By the full names of the messages that the schema has: the way to each, as it is written.
    messages: BTreeMap<String, Vec<u8>>,
    /// The message of bytes that are Protobuf already.
    message: String,
}

impl Frame {
    /// Whether values are in a binary form, and not in JSON.
    pub(super) fn is_binary(&self) -> bool {
        self.kind != SchemaKind::Json
    }

    pub(super) fn of(registered: &Registered, message: Option<&str>) -> Result<Self, String> {
        let id = registered.id.to_be_bytes();
        let mut frame = Self {
            name: registered.name(),
            head: [MAGIC, id[0], id[1], id[2], id[3]],
            kind: registered.kind,
            messages: BTreeMap::new(),
            message: String::new(),
        };
        if registered.kind == SchemaKind::Protobuf {
            let parsed = protox_parse::parse("schema.proto", &registered.text);
            let file = parsed.map_err(|error| format!("{} cannot be read: {error}", frame.name))?;
            collect(file.package(), &mut Vec::new(), &file.message_type, &mut frame.messages);
            let first = file.message_type.first().map(|first| joined(file.package(), first.name()));
            frame.message = message.map(str::to_owned).or(first).unwrap_or_default();
        }
        Ok(frame)
    }

    /// The language of its schema.
    #[must_use]
    pub fn kind(&self) -> SchemaKind {
        self.kind
    }

    /// What stands before each value, where that is not another for each message.
    pub(super) fn front(&self, message: Option<&str>) -> Result<Vec<u8>, String> {
        let mut front = Vec::new();
        match self.kind {
            SchemaKind::Protobuf => self.write(message.unwrap_or(&self.message), &mut front)?,
            SchemaKind::Avro | SchemaKind::Json => front.extend_from_slice(&self.head),
        }
        Ok(front)
    }

    /// Appends what stands before a message.
    pub(super) fn write(&self, message: &str, into: &mut Vec<u8>) -> Result<(), String> {
        let Some(way) = self.messages.get(message) else {
            let has: Vec<_> = self.messages.keys().map(String::as_str).collect();
            return Err(format!(
                "{} has no message {}; it has: {}",
                self.name,
                quoted(message),
                has.join(", ")
            ));
        };
        into.extend_from_slice(&self.head);
        into.extend_from_slice(way);
        Ok(())
    }
}

/// Every message of a file by its full name, with the indexes that lead to it from the file down.
fn collect(
    within: &str,
    way: &mut Vec<u64>,
    messages: &[DescriptorProto],
    into: &mut BTreeMap<String, Vec<u8>>,
) {
    for (index, message) in (0u64..).zip(messages) {
        way.push(index);
        let name = joined(within, message.name());
        collect(&name, way, &message.nested_type, into);
        into.insert(name, written(way));
        way.pop();
    }
}

/// How many there are, and each of them, as zigzag varints. The first message of a file, which is nearly always the one, is a
/// single zero.
fn written(way: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::new();
    if way == [0] {
        return vec![0];
    }
    // Zigzag doubles what is not negative.
    encode_varint(way.len() as u64 * 2, &mut bytes);
    way.iter().for_each(|index| encode_varint(index * 2, &mut bytes));
    bytes
}

fn joined(within: &str, name: &str) -> String {
    if within.is_empty() { name.to_owned() } else { format!("{within}.{name}") }
}

/// What a plan puts before each value.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Front {
    /// Nothing; or it is another for each message, and what writes the message writes it.
    #[default]
    None,
    /// The registry has not been asked: nothing may be sent, since it would lack what consumers look for.
    Unknown,
    Bytes(Vec<u8>),
}

impl Front {
    /// Appends it.
    pub(super) fn write(&self, into: &mut Vec<u8>) -> Result<(), OutboxError> {
        match self {
            Self::None => {}
            Self::Bytes(bytes) => into.extend_from_slice(bytes),
            Self::Unknown => {
                return Err(OutboxError::Value {
                    setting: "subject".into(),
                    expression: "framing".into(),
                    reason: "the registry has not been asked for its schema".into(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    const SHOP: &str = "syntax = \"proto3\"; package shop; import \"another.proto\";\n\
        message Order { another.Thing thing = 1; }\n\
        message Other { message A {} message B { message C {} } }";

    pub(in crate::event) fn registered(kind: SchemaKind, text: &str) -> Registered {
        Registered { subject: "orders-value".into(), version: 3, id: 0x0102_0304, kind, text: text.into() }
    }

    #[test]
    fn the_way_to_a_message_is_written_as_confluent_has_it() {
        let frame = Frame::of(&registered(SchemaKind::Protobuf, SHOP), None).unwrap();
        for (message, way) in [
            ("shop.Order", &[0][..]),
            ("shop.Other", &[2, 2]),
            ("shop.Other.A", &[4, 2, 0]),
            ("shop.Other.B.C", &[6, 2, 2, 0]),
        ] {
            let front = frame.front(Some(message)).unwrap();
            assert_eq!(front, [&[0, 1, 2, 3, 4], way].concat(), "{message}");
        }
        assert_eq!(frame.front(None).unwrap(), [0, 1, 2, 3, 4, 0], "the first");
        let told = frame.front(Some("shop.Lost")).unwrap_err();
        assert!(told.contains("(id 16909060) has no message `shop.Lost`; it has: shop.Order, "), "{told}");
        // Zigzag varints of more than a byte.
        assert_eq!(written(&[64]), [2, 0x80, 1]);
    }
}
