//! A row in flight.

use std::sync::Arc;

use super::plan::Plan;
use super::position::Position;
use crate::pgoutput::Tuple;

/// A row, how it becomes a record, and its place: what goes into the window.
#[derive(Debug, Clone)]
pub struct PlacedRow {
    /// The row, a view into what was read.
    pub row: Tuple,
    /// How it becomes a record.
    pub plan: Arc<Plan>,
    /// Its place.
    pub position: Position,
}

/// What a row weighs in memory beside its bytes: its place, its record's headers, the producer's own bookkeeping.
pub(super) const OVERHEAD_BYTES: usize = 512;

impl PlacedRow {
    /// What it counts against the window's bound, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.row.bytes() + OVERHEAD_BYTES
    }
}
