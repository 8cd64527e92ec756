//! Single parts of rows.

use super::buffers::{Buffers, row_of};
use super::placed::PlacedRow;
use super::text::Text;

/// Reads single parts of rows, as far as they can be read: for dead letters, and for those who look.
#[derive(Debug, Default)]
pub struct Reader {
    buffers: Buffers,
}

impl Reader {
    /// The record's key.
    pub fn key(&mut self, placed: &PlacedRow) -> Option<&[u8]> {
        self.read(placed.plan.key.as_ref()?, placed)
    }

    /// The event's id.
    pub fn id(&mut self, placed: &PlacedRow) -> Option<&[u8]> {
        self.read(placed.plan.attributes.id.as_ref()?, placed)
    }

    /// The event's type.
    pub fn kind(&mut self, placed: &PlacedRow) -> Option<&[u8]> {
        self.read(placed.plan.event_type.as_ref()?, placed)
    }

    /// The event's source.
    pub fn source(&mut self, placed: &PlacedRow) -> Option<&[u8]> {
        self.read(&placed.plan.attributes.source, placed)
    }

    fn read(&mut self, text: &Text, placed: &PlacedRow) -> Option<&[u8]> {
        let plan = &*placed.plan;
        self.buffers.find(plan, placed).ok()?;
        let Buffers { places, slots, value, .. } = &mut self.buffers;
        let row = row_of(placed, places, slots);
        value.clear();
        text.write(&row, value).ok()?.then_some(value)
    }
}
