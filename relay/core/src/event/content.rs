//! What a record's value is made of.

use super::avro;
use super::json::Node;
use super::protobuf::Encoding;
use super::protobuf_json::FromJson;
use super::text::Text;
use super::value::Kind;

/// What the value is made of.
#[derive(Debug)]
pub(super) enum Content {
    /// A column's bytes, which need no copy.
    Column {
        index: usize,
        kind: Kind,
    },
    Text(Text),
    Json(Node),
    CloudEvent {
        data: Text,
        extensions: Node,
    },
    Protobuf(Encoding),
    ProtobufJson(FromJson),
    Avro(avro::FromColumns),
    AvroJson(avro::FromJson),
}
