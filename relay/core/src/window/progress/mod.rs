//! Which commit is wholly acknowledged: the position that may be confirmed to Postgres.
//!
//! # Why it is safe
//!
//! Records enter the window in stream order and leave it from its front, only when acknowledged; acknowledgements come
//! in any order, one for each record. A *boundary* says "every record before me belongs to transactions that end at or
//! below this LSN". It is confirmable once no record before it is left in the window. So a confirmable LSN has all
//! records of its transaction, and of all earlier ones, in Kafka.
//!
//! Three more rules keep Postgres from skipping what was never read:
//!
//! * A boundary is set by a commit's end, or by a keepalive while no transaction is open: then it stands for a
//!   transaction of no events. In an open transaction a keepalive says nothing about the rows still to come.
//! * What may be confirmed is bounded by what *this connection* was sent. After a failover the new primary may end
//!   below what the old one had sent, and Postgres accepts a confirm from the future and then skips everything up to it.
//! * After a reconnect the stream begins again at the slot's position. Events that are already in the window, or left
//!   it acknowledged, are recognised by their place (commit LSN, ordinal) and not pushed twice.
//! * A marker in Kafka may say that events are there which no slot knows of ([`Progress::resume`]). Until the stream has
//!   shown the transaction that the marker names, nothing that was passed over for its sake is confirmable: a server that
//!   went back in time has another history, in which those events are none.
//!
//! No I/O, no clock: the property tests drive it against a model.

use std::cmp::Ordering;
use std::collections::VecDeque;

use crate::lsn::Lsn;

/// A record's number in the life of the process: consecutive, in stream order.
pub type Sequence = u64;

/// The records in flight and the position they allow to confirm.
#[derive(Debug)]
pub struct Progress<R> {
    /// In flight, in stream order; the front is the oldest that is not acknowledged.
    window: VecDeque<InFlight<R>>,
    /// The sequence of the window's front, or of the next record when the window is empty.
    front: Sequence,
    bytes: usize,
    /// In stream order, with rising LSNs; those that nothing precedes have been taken off.
    boundaries: VecDeque<Boundary>,
    /// The highest boundary before which everything is acknowledged.
    acknowledged: Lsn,
    /// The sequence of the first record behind that boundary.
    covered: Sequence,
    /// The highest end this connection was sent.
    received_lsn: Lsn,
    received: Received,
    /// The stream must show the transaction at this place before anything counts that was passed over for its sake.
    awaited: Option<Place>,
    open: Option<Open>,
}

#[derive(Debug)]
struct InFlight<R> {
    record: R,
    bytes: usize,
    /// Where its transaction committed; zero for what is in none.
    commit: Lsn,
    /// It is the last of its transaction.
    ends: bool,
    acknowledged: bool,
}

/// A place in the stream, right behind an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Where the event's transaction committed.
    pub commit: Lsn,
    /// When it did, microseconds since 1970-01-01 UTC: with the position it says which transaction that is.
    pub committed_at: i64,
    /// Events of the transaction before the place.
    pub events: u64,
    /// Whether these are all of them.
    pub whole: bool,
}

#[derive(Debug)]
struct Boundary {
    /// The sequence of the first record behind the boundary.
    before: Sequence,
    lsn: Lsn,
}

/// How far the stream has come into the window, over all connections: the place behind the last event pushed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Received {
    commit: Lsn,
    events: u64,
    whole: bool,
}

/// The transaction that is being read.
#[derive(Debug)]
struct Open {
    commit: Lsn,
    events: u64,
}

/// The stream broke a rule that everything rests on; nothing may be confirmed any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProgressError {
    /// An event or commit outside a transaction, or a transaction inside another.
    #[error("the replication stream is out of order: {0}")]
    OutOfOrder(&'static str),
    /// A transaction of which some events were published is not in the stream any more.
    #[error(
        "the transaction that committed at {vanished} was being read before the reconnect and is missing now"
    )]
    TransactionVanished {
        /// Its commit LSN.
        vanished: Lsn,
    },
    /// The stream does not have the transaction that a marker in Kafka names.
    #[error(
        "Kafka holds the events up to the transaction that committed at {0}, and the stream has another history there: the \
            server went back in time"
    )]
    AnotherHistory(Lsn),
    /// A report for a record that was never sent.
    #[error("a delivery report came for record {0}, which is not in flight")]
    UnknownRecord(Sequence),
}

impl<R> Default for Progress<R> {
    fn default() -> Self {
        Self {
            window: VecDeque::new(),
            front: 0,
            bytes: 0,
            boundaries: VecDeque::new(),
            acknowledged: Lsn::ZERO,
            covered: 0,
            received_lsn: Lsn::ZERO,
            received: Received { whole: true, ..Received::default() },
            awaited: None,
            open: None,
        }
    }
}

impl<R> Progress<R> {
    /// A new connection: its stream begins again, and it was sent nothing yet.
    pub fn connected(&mut self) {
        self.open = None;
        self.received_lsn = Lsn::ZERO;
    }

    /// Another timeline: LSNs seen so far say nothing about it. What is in flight is given up here (the stream has it
    /// again, from the slot's position) and its reports are ignored from now on.
    pub fn forget(&mut self) {
        let front = self.next_sequence();
        *self = Self { front, covered: front, ..Self::default() };
    }

    /// The events before `place` are in Kafka, as a marker there says: for a window in which nothing has been. `is_ahead`
    /// says that the slot stands before that transaction, so the stream will show it. A place behind no event is only a
    /// position, such as that of a fork: no transaction is there to be shown.
    pub fn resume(&mut self, place: Place, is_ahead: bool) {
        let Place { commit, events, whole, .. } = place;
        self.received = Received { commit, events, whole: whole || !is_ahead };
        self.awaited = (is_ahead && events > 0).then_some(place);
    }

    /// A transaction begins that committed at `commit`.
    ///
    /// # Errors
    /// When one is open, or when the one that was open before a reconnect, or that a marker names, is passed over.
    pub fn begin(&mut self, commit: Lsn) -> Result<(), ProgressError> {
        if self.open.is_some() {
            return Err(ProgressError::OutOfOrder("a transaction began inside another"));
        }
        if let Some(awaited) = self.awaited.filter(|awaited| commit > awaited.commit) {
            return Err(ProgressError::AnotherHistory(awaited.commit));
        }
        if !self.received.whole && commit > self.received.commit {
            return Err(ProgressError::TransactionVanished { vanished: self.received.commit });
        }
        self.open = Some(Open { commit, events: 0 });
        Ok(())
    }

    /// The transaction that has begun committed at that time, microseconds since 1970-01-01 UTC.
    ///
    /// # Errors
    /// When a marker names another that committed there.
    pub fn identify(&mut self, committed_at: i64) -> Result<(), ProgressError> {
        let Some(awaited) = self.awaited else { return Ok(()) };
        if self.open.as_ref().is_none_or(|open| open.commit != awaited.commit) {
            return Ok(());
        }
        if committed_at != awaited.committed_at {
            return Err(ProgressError::AnotherHistory(awaited.commit));
        }
        self.awaited = None;
        Ok(())
    }

    /// The next event of the open transaction: its ordinal, counted from 0, when it is new, or `None` when an earlier
    /// connection has pushed it.
    ///
    /// # Errors
    /// When no transaction is open.
    pub fn admit(&mut self) -> Result<Option<u64>, ProgressError> {
        let open = self.open.as_mut().ok_or(ProgressError::OutOfOrder("a row came outside a transaction"))?;
        let ordinal = open.events;
        open.events += 1;
        Ok((!is_repeated(self.received, open.commit, ordinal)).then_some(ordinal))
    }

    /// Takes an admitted event of the open transaction into the window, in the order of the ordinals. Only from here
    /// on is it recognised as a repeat: what was admitted and not pushed when a connection ended comes again.
    ///
    /// # Errors
    /// When no transaction is open.
    pub fn push_event(&mut self, ordinal: u64, record: R, bytes: usize) -> Result<Sequence, ProgressError> {
        let open = self.open.as_ref().ok_or(ProgressError::OutOfOrder("a row came outside a transaction"))?;
        let commit = open.commit;
        self.received = Received { commit, events: ordinal + 1, whole: false };
        Ok(self.push_at(commit, record, bytes))
    }

    /// Takes a record into the window that is in no transaction; `bytes` is what it counts against the window's bound.
    pub fn push(&mut self, record: R, bytes: usize) -> Sequence {
        self.push_at(Lsn::ZERO, record, bytes)
    }

    /// Takes back rows of a table, those from a record on: they were not handed over, and will be read again.
    pub fn take_back(&mut self, from: Sequence) {
        while self.next_sequence() > from {
            let Some(row) = self.window.pop_back_if(|last| last.commit == Lsn::ZERO) else { return };
            self.bytes -= row.bytes;
        }
    }

    fn push_at(&mut self, commit: Lsn, record: R, bytes: usize) -> Sequence {
        let sequence = self.next_sequence();
        self.window.push_back(InFlight { record, bytes, commit, ends: false, acknowledged: false });
        self.bytes += bytes;
        sequence
    }

    /// The open transaction is complete and ends at `end`; its records, if any, have been pushed.
    ///
    /// # Errors
    /// When no transaction is open.
    pub fn commit(&mut self, end: Lsn) -> Result<(), ProgressError> {
        let open =
            self.open.take().ok_or(ProgressError::OutOfOrder("a commit came outside a transaction"))?;
        if open.commit >= self.received.commit {
            self.received = Received { commit: open.commit, events: open.events, whole: true };
        }
        if let Some(last) = self.window.back_mut().filter(|last| last.commit == open.commit) {
            last.ends = true;
        }
        self.reach(end);
        Ok(())
    }

    /// The server has sent everything below `wal_end`. Counts only between transactions.
    ///
    /// # Errors
    /// When the transaction that a marker names would have been shown before.
    pub fn keepalive(&mut self, wal_end: Lsn) -> Result<(), ProgressError> {
        if self.open.is_some() {
            return Ok(());
        }
        if let Some(awaited) = self.awaited.filter(|awaited| wal_end > awaited.commit) {
            return Err(ProgressError::AnotherHistory(awaited.commit));
        }
        if self.received.whole {
            self.reach(wal_end);
        }
        Ok(())
    }

    /// Kafka acknowledged a record. A report for one that is no longer in flight is a repeat and changes nothing.
    ///
    /// # Errors
    /// When no such record was ever pushed.
    pub fn acknowledge(&mut self, sequence: Sequence) -> Result<(), ProgressError> {
        if sequence >= self.next_sequence() {
            return Err(ProgressError::UnknownRecord(sequence));
        }
        let Some(index) = sequence.checked_sub(self.front) else { return Ok(()) };
        self.window[index_of(index)].acknowledged = true;
        while self.window.front().is_some_and(|front| front.acknowledged) {
            self.bytes -= self.window.pop_front().map_or(0, |front| front.bytes);
            self.front += 1;
        }
        self.advance();
        Ok(())
    }

    /// The highest LSN that may be confirmed now; zero when there is none.
    #[must_use]
    pub fn confirmable(&self) -> Lsn {
        self.acknowledged.min(self.received_lsn)
    }

    /// The highest LSN before which everything is acknowledged; what may be confirmed of it is bounded by what this
    /// connection was sent.
    #[must_use]
    pub fn acknowledged(&self) -> Lsn {
        self.acknowledged
    }

    /// The sequence of the first record behind that LSN.
    #[must_use]
    pub fn covered(&self) -> Sequence {
        self.covered
    }

    /// Records in flight.
    #[must_use]
    pub fn records(&self) -> usize {
        self.window.len()
    }

    /// Bytes in flight, as the records were counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The commit of the newest transaction of which an event came, on any connection.
    #[must_use]
    pub fn newest_commit(&self) -> Lsn {
        self.received.commit
    }

    /// The highest end this connection was sent.
    #[must_use]
    pub fn received_lsn(&self) -> Lsn {
        self.received_lsn
    }

    /// Whether a transaction is being read.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The sequence of the oldest record in flight, or of the next one when none is.
    #[must_use]
    pub fn oldest_sequence(&self) -> Sequence {
        self.front
    }

    /// The sequence that the next record will get.
    #[must_use]
    pub fn next_sequence(&self) -> Sequence {
        self.front + self.window.len() as u64
    }

    /// The record in flight with that sequence, unless it is acknowledged or gone.
    #[must_use]
    pub fn unacknowledged(&self, sequence: Sequence) -> Option<&R> {
        let index = index_of(sequence.checked_sub(self.front)?);
        self.window.get(index).filter(|in_flight| !in_flight.acknowledged).map(|in_flight| &in_flight.record)
    }

    /// The same, to put something else in its place, which counts as it did.
    #[must_use]
    pub fn unacknowledged_mut(&mut self, sequence: Sequence) -> Option<&mut R> {
        let index = index_of(sequence.checked_sub(self.front)?);
        self.window
            .get_mut(index)
            .filter(|in_flight| !in_flight.acknowledged)
            .map(|in_flight| &mut in_flight.record)
    }

    /// A record in flight counts so much against the window's bound from now on.
    pub fn weigh(&mut self, sequence: Sequence, bytes: usize) {
        let index = sequence.checked_sub(self.front).map(index_of);
        let Some(in_flight) = index.and_then(|index| self.window.get_mut(index)) else { return };
        self.bytes = self.bytes - std::mem::replace(&mut in_flight.bytes, bytes) + bytes;
    }

    /// The record in flight right before `sequence`, where its transaction committed (zero for what is in none), and whether
    /// it is the last of that.
    #[must_use]
    pub fn before(&self, sequence: Sequence) -> Option<(&R, Lsn, bool)> {
        let index = index_of(sequence.checked_sub(self.front + 1)?);
        self.window.get(index).map(|last| (&last.record, last.commit, last.ends))
    }

    /// The oldest record in flight.
    #[must_use]
    pub fn oldest(&self) -> Option<&R> {
        self.window.front().map(|front| &front.record)
    }

    /// The newest record in flight.
    #[must_use]
    pub fn newest(&self) -> Option<&R> {
        self.window.back().map(|back| &back.record)
    }

    fn reach(&mut self, lsn: Lsn) {
        self.received_lsn = self.received_lsn.max(lsn);
        if self.awaited.is_some() {
            return;
        }
        let before = self.next_sequence();
        match self.boundaries.back_mut() {
            Some(last) if lsn <= last.lsn => {}
            Some(last) if last.before == before => last.lsn = lsn,
            _ => self.boundaries.push_back(Boundary { before, lsn }),
        }
        self.advance();
    }

    fn advance(&mut self) {
        while self.boundaries.front().is_some_and(|boundary| boundary.before <= self.front) {
            let Some(reached) = self.boundaries.pop_front() else { return };
            self.acknowledged = self.acknowledged.max(reached.lsn);
            self.covered = self.covered.max(reached.before);
        }
    }
}

fn is_repeated(received: Received, commit: Lsn, ordinal: u64) -> bool {
    match commit.cmp(&received.commit) {
        Ordering::Less => true,
        Ordering::Equal => received.whole || ordinal < received.events,
        Ordering::Greater => false,
    }
}

/// The window holds at most as many records as memory does, so its indices fit.
#[allow(clippy::cast_possible_truncation)]
fn index_of(distance: u64) -> usize {
    distance as usize
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
