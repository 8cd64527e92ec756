//! What records are written into, used again and again.

use super::avro;
use super::error::OutboxError;
use super::placed::PlacedRow;
use super::plan::Plan;
use super::record::Headers;
use super::row::{Row, Slot};
use crate::pgoutput::Place;

/// So much of a buffer is kept for the next row: more than a record usually has.
const BUFFER_KEPT_BYTES: usize = 1 << 20;

#[derive(Debug, Default)]
pub(super) struct Buffers {
    pub(super) topic: Vec<u8>,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    pub(super) scratch: Vec<u8>,
    pub(super) headers: Headers,
    pub(super) avro: avro::Scratch,
    pub(super) places: Vec<Place>,
    pub(super) slots: Vec<Slot>,
}

impl Buffers {
    /// Finds the columns of a row, and what is read of those that hold JSON.
    pub(super) fn find(&mut self, plan: &Plan, placed: &PlacedRow) -> Result<(), OutboxError> {
        placed.row.find(&mut self.places);
        self.slots.clear();
        self.slots.resize(plan.members.slots, None);
        plan.members
            .columns
            .iter()
            .try_for_each(|column| column.find(&placed.row, &self.places, &mut self.slots))
    }

    /// What a large row left behind is given back; what the usual one needs is kept.
    pub(super) fn shrink(&mut self) {
        for buffer in [&mut self.key, &mut self.value, &mut self.scratch] {
            if buffer.capacity() > BUFFER_KEPT_BYTES {
                buffer.clear();
                buffer.shrink_to(BUFFER_KEPT_BYTES);
            }
        }
    }
}

/// A row before its topic is known.
pub(super) fn row_of<'a>(placed: &'a PlacedRow, places: &'a [Place], slots: &'a [Slot]) -> Row<'a> {
    Row {
        tuple: &placed.row,
        places,
        kinds: &placed.plan.kinds,
        relation: &placed.plan.relation,
        slots,
        topic: "",
        position: placed.position,
    }
}
