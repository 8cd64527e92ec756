//! A row in flight, or the dead letter that takes its turn, and where it stands in the WAL.

use std::sync::Arc;

use super::dead_letter::DeadLetter;
use super::plan::Plan;
use crate::lsn::Lsn;
use crate::pgoutput::Tuple;

/// Where a row stands in the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The end of its transaction's commit; see the module on large transactions.
    pub lsn: Lsn,
    /// Its ordinal in the transaction, counted from 0.
    pub ordinal: u64,
    /// When the transaction committed, microseconds since 1970-01-01 UTC; [`Position::UNKNOWN_TIME`] for a row that was read
    /// from the table.
    pub committed_at: i64,
}

impl Position {
    /// The table does not say when a row was committed.
    pub const UNKNOWN_TIME: i64 = i64::MIN;

    /// When the transaction committed, where that is known.
    #[must_use]
    pub fn committed(self) -> Option<i64> {
        (self.committed_at != Self::UNKNOWN_TIME).then_some(self.committed_at)
    }
}

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

/// What goes into the window: a row, or the dead letter that takes its turn.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A row.
    Row(PlacedRow),
    /// A row that cannot be published.
    Dead(Box<DeadLetter>),
}

impl From<PlacedRow> for Entry {
    fn from(placed: PlacedRow) -> Self {
        Self::Row(placed)
    }
}

impl Entry {
    /// Its place.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Row(placed) => placed.position,
            Self::Dead(letter) => letter.position,
        }
    }

    /// What it counts against the window's bound, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Row(placed) => placed.weight(),
            // Names of columns and JSON's own marks come on top of a row.
            Self::Dead(letter) => 2 * letter.row_bytes().len() + OVERHEAD_BYTES,
        }
    }

    /// Gives it the position of its transaction, which is known now.
    pub fn place_at(&mut self, lsn: Lsn) {
        match self {
            Self::Row(placed) => placed.position.lsn = lsn,
            Self::Dead(letter) => letter.position.lsn = lsn,
        }
    }
}

/// What a row weighs in memory beside its bytes: its place, its record's headers, the producer's own bookkeeping.
const OVERHEAD_BYTES: usize = 512;

impl PlacedRow {
    /// What it counts against the window's bound, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.row.bytes() + OVERHEAD_BYTES
    }
}
