//! A row that gives no record: which one, and why.

use super::error::OutboxError;
use super::placed::PlacedRow;
use super::reader::Reader;
use crate::lsn::Lsn;

/// A row of the outbox that is not an event.
#[derive(Debug, thiserror::Error)]
#[error("{place} of {table} is not an event: {error}")]
pub struct BadRow {
    /// Which row, as far as it can be told.
    pub place: String,
    /// The outbox.
    pub table: String,
    /// What is wrong with it.
    pub error: OutboxError,
}

impl BadRow {
    /// Of a row of the stream, whose transaction committed at `commit`, or zero for one that was read from the table.
    #[must_use]
    pub fn new(placed: &PlacedRow, commit: Lsn, error: OutboxError) -> Self {
        let ordinal = placed.position.ordinal;
        let (what, table) = match placed.plan.is_of_messages() {
            true => ("message", format!("the prefix `{}`", placed.plan.table())),
            false => ("row", placed.plan.table().to_owned()),
        };
        let place = match &error {
            OutboxError::NotTransactional => format!("the message that ends at {}", Lsn(commit.0 + 1)),
            _ if commit == Lsn::ZERO => format!("the row that was read with wal-seq {ordinal}{}", id(placed)),
            _ => format!("{what} {ordinal} of the transaction that committed at {commit}"),
        };
        Self { place, table, error }
    }
}

/// The event's id, where the row gives one.
fn id(placed: &PlacedRow) -> String {
    let id = Reader::default().id(placed).map(|id| String::from_utf8_lossy(id).into_owned());
    id.map_or_else(String::new, |id| format!(" (id {id})"))
}
