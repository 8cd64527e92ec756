//! What goes into the window: a row in flight, or the dead letter that takes its turn.

use super::dead_letter::DeadLetter;
use super::placed::{OVERHEAD_BYTES, PlacedRow};
use super::position::Position;
use crate::lsn::Lsn;

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
