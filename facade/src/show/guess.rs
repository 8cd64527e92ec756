//! Topics of which nothing is known: a value is taken for what it looks like, in the forms that `walpost tail --json` has.

use std::fmt::Write as _;

use logistic_package_proto::package_event::PackageEvent;
use prost::Message as _;

use super::indent::indented;
use super::terminal::drives_a_terminal;
use super::{Shown, event, json, quoted};

/// Everything can be shown: what is neither JSON nor an event is a string, and what is no text `{"hex": "ff00"}`.
pub(super) fn show(value: Option<&[u8]>) -> Shown {
    let Some(bytes) = value else { return Shown::text("null".to_owned()) };
    // JSON first: no event begins as JSON does, but for one without any number.
    if let Ok(json) = json(bytes) {
        return Shown::text(indented(json, drives_a_terminal));
    }
    if let Some(shown) = as_event(bytes) {
        return shown;
    }
    let line = match std::str::from_utf8(bytes) {
        Ok(text) => quoted(text),
        Err(_) => format!(r#"{{"hex":"{}"}}"#, hex(bytes)),
    };
    Shown::text(indented(&line, drives_a_terminal))
}

/// Protobuf takes what it does not know for a field of a later version: only an event has these numbers.
fn as_event(bytes: &[u8]) -> Option<Shown> {
    let event = PackageEvent::decode(bytes).ok()?;
    let shown = (event.id != 0 || event.package_id != 0).then(|| event::printed(&event))?;
    shown.text.is_some().then_some(shown)
}

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
