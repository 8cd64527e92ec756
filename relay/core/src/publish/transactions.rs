//! The transactions of a sink that makes them: which records are in the open one, and when they count.
//!
//! A record counts once its transaction is committed, never before. With the records goes a [`Mark`] that says how far the
//! stream is then; so where the outcome of a commit is not known, the mark that Kafka holds tells it, and a program that
//! starts anew knows by it what is to be passed over. A record is in Kafka if, and only if, the mark says so.
//!
//! No I/O, no clock: who has a producer asks here what to do with it.

use std::time::{Duration, Instant};

use crate::publish::sink::{Reach, Report, Transaction};
use crate::window::progress::Sequence;

/// A transaction takes nothing more after so long, whatever there is to hand over: consumers see nothing of it before its
/// end, and a window that is full of it takes nothing new.
const OPEN_MAX: Duration = Duration::from_millis(100);

/// What is written in a transaction beside its records: how far all is with it. No two transactions have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// In whose name it is written: each session that takes the slot has one of its own.
    pub epoch: i64,
    /// Transactions up to this one.
    pub number: u64,
    /// How far all is.
    pub reach: Reach,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// What Kafka holds is not known, or the producer is not the only one: nothing may be sent.
    Shut,
    /// No transaction is open.
    Ready,
    /// Records go into a transaction.
    Open,
    /// It has all its records and the mark; not all of them are stored.
    Closing,
    /// Kafka is asked to commit it.
    Committing,
}

/// The transactions of one producer after the other.
#[derive(Debug)]
pub struct Transactions {
    phase: Phase,
    opened_at: Option<Instant>,
    /// Records of the open transaction that are not known to be stored, the mark among them.
    missing: u64,
    /// Those that are, and count with its commit.
    stored: Vec<Sequence>,
    /// What the open transaction is marked with, or one whose commit was asked for and not answered.
    marked: Option<Mark>,
    /// What Kafka holds.
    committed: Option<Mark>,
    epoch: i64,
}

impl Default for Transactions {
    fn default() -> Self {
        Self {
            phase: Phase::Shut,
            opened_at: None,
            missing: 0,
            stored: Vec::new(),
            marked: None,
            committed: None,
            epoch: 0,
        }
    }
}

impl Transactions {
    /// What is to be done about the open transaction.
    #[must_use]
    pub fn state(&self, now: impl FnOnce() -> Instant) -> Transaction {
        let Some(opened_at) = self.opened_at.filter(|_| self.phase == Phase::Open) else {
            return Transaction::Busy;
        };
        match now().saturating_duration_since(opened_at) >= OPEN_MAX {
            true => Transaction::Due,
            false => Transaction::Open,
        }
    }

    /// Whether nothing may be sent, as it is not known what Kafka holds.
    #[must_use]
    pub fn is_shut(&self) -> bool {
        self.phase == Phase::Shut
    }

    /// Whether a transaction has to begin before a record is handed over.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Ready
    }

    /// Whether records may be handed over.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// A transaction has begun.
    pub fn begun(&mut self, now: Instant) {
        self.phase = Phase::Open;
        self.opened_at = Some(now);
        self.missing = 0;
        self.stored.clear();
    }

    /// A record was handed over to it.
    pub fn handed_over(&mut self) {
        self.missing += 1;
    }

    /// Kafka has stored a record of it; where that is known by the record's number.
    pub fn stored(&mut self, sequence: Option<Sequence>) {
        self.missing = self.missing.saturating_sub(1);
        self.stored.extend(sequence);
    }

    /// What the open transaction is to be marked with, once it has all its records.
    #[must_use]
    pub fn mark(&self, reach: Reach) -> Mark {
        let number = self.committed.map_or(0, |last| last.number) + 1;
        Mark { epoch: self.epoch, number, reach }
    }

    /// It has all its records, and this mark was handed over behind them.
    pub fn closed(&mut self, mark: Mark) {
        self.phase = Phase::Closing;
        self.marked = Some(mark);
        self.missing += 1;
    }

    /// Whether all of it is stored, so that its commit may be asked for.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.phase == Phase::Closing && self.missing == 0
    }

    /// Its commit is asked for: from here on it may be in Kafka.
    pub fn committing(&mut self) {
        self.phase = Phase::Committing;
    }

    /// It is committed: its records count.
    pub fn committed(&mut self, into: &mut Vec<Report>) {
        self.phase = Phase::Ready;
        self.committed = self.marked.take();
        into.extend(self.stored.drain(..).map(|sequence| Report { sequence, outcome: Ok(()) }));
    }

    /// The producer is replaced. A transaction whose commit was not asked for will never be in Kafka; of another that is to
    /// be seen.
    pub fn replaced(&mut self) {
        if self.phase != Phase::Committing && self.phase != Phase::Shut {
            self.stored.clear();
            self.marked = None;
        }
        self.phase = Phase::Shut;
        self.missing = 0;
    }

    /// The new producer is the only one, and this is the mark that Kafka holds. Whether it is one that was expected: then
    /// what it says of the last transaction is reported. If not, another has written meanwhile, and nothing has changed.
    #[must_use]
    pub fn opened(&mut self, found: Option<Mark>, into: &mut Vec<Report>) -> bool {
        if self.marked.is_some() && found == self.marked {
            self.committed(into);
            return true;
        }
        if found != self.committed {
            return false;
        }
        self.begin_from(found, self.epoch);
        true
    }

    /// Nothing is in flight, this is what Kafka holds, and what is written from here on is written in the name of `epoch`.
    pub fn begin_from(&mut self, found: Option<Mark>, epoch: i64) {
        *self = Self { phase: Phase::Ready, committed: found, epoch, ..Self::default() };
    }

    /// The same process has the slot in another session.
    pub fn go_on(&mut self, epoch: i64) {
        self.epoch = epoch;
    }

    /// What was sent is given up, and another may send.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}
