//! The value format `hablof.proto.v1.PackageEvent`, written field by field: building prost's message first would copy
//! the payload once more. A test holds the bytes equal to prost's.

use prost::encoding::{bytes, int32, message, uint64};

use super::EncodeError;
use crate::event::{Key, OutboxEvent};

/// Field numbers of the message.
mod field {
    pub(super) const ID: u32 = 1;
    pub(super) const PACKAGE_ID: u32 = 2;
    pub(super) const TYPE: u32 = 3;
    pub(super) const CREATED: u32 = 4;
    pub(super) const PAYLOAD: u32 = 5;
}

/// The labels of `EventType`, each at the place of its number.
pub(super) const TYPES: [&str; 3] = ["Created", "Updated", "Removed"];

/// Appends the event as a `PackageEvent`; fields at their default are left out, as proto3 has it.
pub(super) fn encode(event: &OutboxEvent, into: &mut Vec<u8>) -> Result<(), EncodeError> {
    let Key::Integer(package_id) = event.key else { return Err(EncodeError::KeyNotANumber) };
    let id = unsigned("the event's id", event.id)?;
    let package_id = unsigned("the package's id", package_id)?;
    let kind = event_type(event)?;
    if id != 0 {
        uint64::encode(field::ID, &id, into);
    }
    if package_id != 0 {
        uint64::encode(field::PACKAGE_ID, &package_id, into);
    }
    if kind != 0 {
        int32::encode(field::TYPE, &kind, into);
    }
    message::encode(field::CREATED, &timestamp(event.created_at), into);
    if let Some(payload) = event.payload.as_ref().filter(|payload| !payload.is_empty()) {
        bytes::encode(field::PAYLOAD, payload, into);
    }
    Ok(())
}

fn unsigned(what: &'static str, number: i64) -> Result<u64, EncodeError> {
    u64::try_from(number).map_err(|_| EncodeError::Negative { what, number })
}

fn event_type(event: &OutboxEvent) -> Result<i32, EncodeError> {
    let kind = event.kind.as_ref();
    match (0..).zip(TYPES).find(|(_, label)| label.as_bytes() == kind) {
        Some((number, _)) => Ok(number),
        None => Err(EncodeError::UnknownType(String::from_utf8_lossy(kind).into_owned())),
    }
}

fn timestamp(micros: i64) -> prost_types::Timestamp {
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // Below 10⁹.
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}
