//! An event, or the dead letter in its place, and where it stands in the WAL.

use super::OutboxEvent;
use super::dead_letter::DeadLetter;
use crate::lsn::Lsn;

/// Where an event stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The end of its transaction's commit; see the module on large transactions.
    pub lsn: Lsn,
    /// Its ordinal in the transaction, counted from 0.
    pub ordinal: u64,
    /// When the transaction committed, microseconds since 1970-01-01 UTC.
    pub committed_at: i64,
}

/// An event and its place: what goes into the window.
#[derive(Debug, Clone)]
pub struct PlacedEvent {
    /// The event.
    pub event: OutboxEvent,
    /// Its place.
    pub position: Position,
    /// Bytes of the row, which the event keeps in memory.
    pub bytes: usize,
}

/// What goes into the window: an event, or the dead letter that takes its turn.
#[derive(Debug, Clone)]
pub enum Entry {
    /// An event.
    Event(PlacedEvent),
    /// A row that cannot be published.
    Dead(Box<DeadLetter>),
}

impl From<PlacedEvent> for Entry {
    fn from(placed: PlacedEvent) -> Self {
        Self::Event(placed)
    }
}

impl Entry {
    /// Its place.
    #[must_use]
    pub fn position(&self) -> Position {
        match self {
            Self::Event(placed) => placed.position,
            Self::Dead(letter) => letter.position,
        }
    }

    /// What it counts against the window's bound, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Event(placed) => placed.weight(),
            // Names of columns and JSON's own marks come on top of a row.
            Self::Dead(letter) => 2 * letter.row_bytes().len() + OVERHEAD_BYTES,
        }
    }

    /// Gives it the position of its transaction, which is known now.
    pub fn place_at(&mut self, lsn: Lsn) {
        match self {
            Self::Event(placed) => placed.position.lsn = lsn,
            Self::Dead(letter) => letter.position.lsn = lsn,
        }
    }
}

/// What an event weighs in memory beside its row: its place, its record's headers, the producer's own bookkeeping.
const OVERHEAD_BYTES: usize = 512;

impl PlacedEvent {
    /// What it counts against the window's bound, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.bytes + OVERHEAD_BYTES
    }
}
