//! Which server it is.

use walpost_core::lsn::Lsn;

/// The server at the other end (`IDENTIFY_SYSTEM`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The cluster's identifier.
    pub system: String,
    /// The timeline: it changes when a standby is promoted.
    pub timeline: u32,
    /// Whether it is a standby that answers.
    pub in_recovery: bool,
    /// The timelines before, each with the position where it ended.
    pub ended: Vec<(u32, Lsn)>,
}

impl Server {
    /// Where a timeline ended that led to the server's own; none when it did not, or is the server's own.
    #[must_use]
    pub fn end_of(&self, timeline: u32) -> Option<Lsn> {
        self.ended.iter().find(|(ended, _)| *ended == timeline).map(|(_, end)| *end)
    }
}
