//! The format `protobuf` out of a JSON payload: the JSON mapping of proto3 the other way round
//! (<https://protobuf.dev/programming-guides/json/>). A member that the message does not have is an error, so nothing is left
//! out; fields are written in the order of their numbers, so the same row gives the same bytes.

use std::sync::Arc;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage};

use super::error::{OutboxError, quoted};
use super::framing::Frame;
use super::protobuf::DescriptorError;
use super::row::Row;
use super::text::Text;
use super::value::Reason;

/// The messages of a descriptor.
#[derive(Debug, Clone)]
pub struct Messages(Arc<DescriptorPool>);

/// Those of the same reading of a descriptor.
impl PartialEq for Messages {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Messages {
    /// Reads a serialised `FileDescriptorSet`, with all that it imports.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(set: &[u8]) -> Result<Self, DescriptorError> {
        let pool =
            DescriptorPool::decode(set).map_err(|error| DescriptorError::NotASet(error.to_string()))?;
        Ok(Self(Arc::new(pool)))
    }

    /// Whether it has a message.
    ///
    /// # Errors
    /// The names of those that it has.
    pub fn find(&self, name: &str) -> Result<(), DescriptorError> {
        if self.0.get_message_by_name(name).is_some() {
            return Ok(());
        }
        let has: Vec<_> = self.0.all_messages().map(|message| message.full_name().to_owned()).collect();
        Err(DescriptorError::NoMessage { name: name.to_owned(), has: has.join(", ") })
    }
}

/// Which payload is written as which message.
#[derive(Debug, Clone)]
pub(super) struct FromJson {
    pub(super) messages: Messages,
    pub(super) message: Text,
    pub(super) payload: Text,
    /// What stands before each message, where the row says which it is.
    pub(super) frame: Option<Arc<Frame>>,
}

impl FromJson {
    /// Appends the message; `false` where the payload is NULL. `scratch` is overwritten.
    pub(super) fn write(
        &self,
        row: &Row<'_>,
        scratch: &mut Vec<u8>,
        into: &mut Vec<u8>,
    ) -> Result<bool, OutboxError> {
        scratch.clear();
        if !self.payload.write_content(row, scratch)? {
            return Ok(false);
        }
        let mut name = Vec::new();
        if !self.message.write(row, &mut name)? {
            return Err(self.message.refused("it is NULL, and a value needs a message".into()));
        }
        let name = String::from_utf8_lossy(&name);
        let Some(descriptor) = self.messages.0.get_message_by_name(&name) else {
            let what = format!("the descriptor has no message {}", quoted(&name));
            return Err(self.message.refused(what.into()));
        };
        if let Some(frame) = &self.frame {
            frame.write(&name, into).map_err(|what| self.message.refused(what.into()))?;
        }
        let read = || -> Result<DynamicMessage, Reason> {
            let unfit = |error: serde_json::Error| Reason::from(format!("it is no {name} in JSON: {error}"));
            let mut json = serde_json::Deserializer::from_slice(scratch);
            let options = DeserializeOptions::new().deny_unknown_fields(true);
            let message =
                DynamicMessage::deserialize_with_options(descriptor, &mut json, &options).map_err(unfit)?;
            json.end().map_err(unfit)?;
            Ok(message)
        };
        let message = read().map_err(|reason| self.payload.refused(reason))?;
        message.encode(into).map_err(|error| self.payload.refused(error.to_string().into()))?;
        Ok(true)
    }
}
