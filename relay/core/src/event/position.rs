//! Where a row stands in the WAL.

use crate::lsn::Lsn;

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
