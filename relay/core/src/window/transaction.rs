//! The place an event has in the log: its transaction's position and its ordinal in it.
//!
//! The position is the end of the commit, which the stream gives with the Commit message, *behind* the rows. So a
//! transaction's rows are held until it has come; the server sends a transaction only when it has committed, whole, so
//! this costs no time. But memory is bounded: a transaction of more than [`HELD_ROWS_MAX`] rows or [`HELD_BYTES_MAX`]
//! bytes is published while it is being read, and its position is then the first byte *inside* its commit record:
//! above the end of every earlier transaction, below its own end, so positions still order and identify transactions.
//!
//! Which of the two it is depends on nothing but the transaction's own rows: a repeat carries the same bytes.

use std::sync::Arc;

use crate::event::dead_letter::DeadLetter;
use crate::event::{Entry, PlacedRow, Plan, Position};
use crate::lsn::Lsn;
use crate::pgoutput::Tuple;

/// Rows of a transaction that are held at most. The usual transaction of an outbox has one; a thousand rows of the
/// usual few hundred bytes are a fraction of a megabyte.
pub const HELD_ROWS_MAX: u64 = 1_000;

/// Bytes of rows that are held at most.
pub const HELD_BYTES_MAX: usize = 1 << 20;

/// The transaction that is being read, and its rows as long as they are held.
#[derive(Debug, Default)]
pub struct Transaction {
    commit_lsn: Lsn,
    committed_at: i64,
    rows: u64,
    bytes: usize,
    held: Vec<Entry>,
}

impl Transaction {
    /// A transaction begins. What an earlier one left behind when its connection broke is dropped: it comes again.
    pub fn begin(&mut self, commit_lsn: Lsn, committed_at: i64) {
        self.held.clear();
        self.commit_lsn = commit_lsn;
        self.committed_at = committed_at;
        self.rows = 0;
        self.bytes = 0;
    }

    /// Where its commit record starts.
    #[must_use]
    pub fn commit_lsn(&self) -> Lsn {
        self.commit_lsn
    }

    /// Counts a row, whether it is published or was on an earlier connection.
    pub fn count(&mut self, bytes: usize) {
        self.rows += 1;
        self.bytes += bytes;
    }

    /// A row of the transaction at its place.
    #[must_use]
    pub fn place(&self, row: Tuple, plan: Arc<Plan>, ordinal: u64) -> PlacedRow {
        PlacedRow { row, plan, position: self.position(ordinal) }
    }

    /// Holds a row of the transaction.
    pub fn hold(&mut self, placed: PlacedRow) {
        self.held.push(placed.into());
    }

    /// Holds a dead letter in the place of a row.
    pub fn hold_dead(&mut self, letter: DeadLetter) {
        self.held.push(Entry::Dead(Box::new(letter)));
    }

    /// The place of a row whose transaction is not complete yet.
    #[must_use]
    pub fn position(&self, ordinal: u64) -> Position {
        Position { lsn: Lsn(self.commit_lsn.0 + 1), ordinal, committed_at: self.committed_at }
    }

    /// The events that are held.
    #[must_use]
    pub fn held(&self) -> &[Entry] {
        &self.held
    }

    /// The events that may go while the transaction is being read: none until it is known to be large.
    pub fn overflow(&mut self) -> impl Iterator<Item = Entry> {
        let count = if self.is_large() { self.held.len() } else { 0 };
        self.held.drain(..count)
    }

    /// The transaction is complete: the events that are still held, with their position.
    pub fn commit(&mut self, end_lsn: Lsn) -> impl Iterator<Item = Entry> {
        let lsn = if self.is_large() { Lsn(self.commit_lsn.0 + 1) } else { end_lsn };
        self.held.drain(..).map(move |mut entry| {
            entry.place_at(lsn);
            entry
        })
    }

    /// The connection is gone; what is held comes again on the next.
    pub fn abandon(&mut self) {
        self.held.clear();
    }

    fn is_large(&self) -> bool {
        self.rows > HELD_ROWS_MAX || self.bytes > HELD_BYTES_MAX
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::fixture;

    thread_local! {
        static PLAN: Arc<Plan> = Arc::new(fixture::plan());
    }

    /// A row that weighs so many bytes more than its values' frames.
    fn row(id: u64, bytes: usize) -> Tuple {
        let (id, filling) = (id.to_be_bytes(), vec![b'x'; bytes]);
        Tuple::from_values([Some(id.as_slice()), Some(filling.as_slice())].into_iter())
    }

    fn hold(transaction: &mut Transaction, id: u64, ordinal: u64, bytes: usize) {
        let placed = transaction.place(row(id, bytes), PLAN.with(Arc::clone), ordinal);
        transaction.hold(placed);
    }

    /// Reads a transaction of `rows` rows, of which the first `repeated` are not published again.
    fn read(rows: u64, repeated: u64) -> Vec<Position> {
        let mut transaction = Transaction::default();
        let mut published = Vec::new();
        transaction.begin(Lsn(0x100), 5);
        for ordinal in 0..rows {
            transaction.count(10);
            if ordinal >= repeated {
                hold(&mut transaction, 0, ordinal, 10);
            }
            published.extend(transaction.overflow().map(|entry| entry.position()));
        }
        published.extend(transaction.commit(Lsn(0x140)).map(|entry| entry.position()));
        published
    }

    #[test]
    fn events_carry_the_end_of_their_commit_and_their_ordinal() {
        let at = |ordinal| Position { lsn: Lsn(0x140), ordinal, committed_at: 5 };
        assert_eq!(read(3, 0), [at(0), at(1), at(2)]);
    }

    #[test]
    fn a_large_transaction_is_published_while_it_is_read_at_a_place_inside_its_commit() {
        let positions = read(HELD_ROWS_MAX + 5, 0);
        assert!(positions.iter().all(|position| position.lsn == Lsn(0x101)), "{:?}", positions.last());
        assert!(positions.iter().enumerate().all(|(index, position)| position.ordinal == index as u64));
    }

    #[test]
    fn a_repeat_carries_the_same_places() {
        for rows in [3, HELD_ROWS_MAX, HELD_ROWS_MAX + 1] {
            let first = read(rows, 0);
            let again = read(rows, rows - 2);
            assert_eq!(again, first[first.len() - 2..]);
        }
    }

    #[test]
    fn what_a_broken_connection_left_is_not_published_with_the_next_transaction() {
        let mut transaction = Transaction::default();
        transaction.begin(Lsn(1), 0);
        transaction.count(1);
        hold(&mut transaction, 1, 0, 1);
        transaction.begin(Lsn(5), 0);
        assert_eq!(transaction.commit(Lsn(9)).count(), 0);
    }

    fn row_of(entry: &Entry) -> &Tuple {
        match entry {
            Entry::Row(placed) => &placed.row,
            Entry::Dead(letter) => panic!("a dead letter: {letter:?}"),
        }
    }

    fn placed_id(entry: &Entry) -> (u64, Position) {
        let id = row_of(entry).iter().next().and_then(|datum| datum.bytes()).unwrap();
        (u64::from_be_bytes(id.try_into().unwrap()), entry.position())
    }

    /// A row as the stream has it: its bytes, and whether the connection breaks behind it.
    fn rows() -> impl Strategy<Value = Vec<(usize, bool)>> {
        let small = prop::collection::vec((1usize..100, prop::bool::weighted(0.1)), 0..20);
        let many = prop::collection::vec((1usize..2_000, prop::bool::weighted(0.001)), 990..1_020);
        let heavy = prop::collection::vec((1usize..HELD_BYTES_MAX / 3, prop::bool::weighted(0.1)), 0..7);
        prop_oneof![small, many, heavy]
    }

    /// Reads the rows from the first on, past those that are published, until the connection breaks or all is read.
    /// What goes into the window is published: it is not held again.
    fn connection(
        transaction: &mut Transaction,
        rows: &mut [(usize, bool)],
        published: &mut Vec<(u64, Position)>,
    ) -> bool {
        let (already, frames) = (published.len() as u64, row(0, 0).bytes());
        transaction.begin(Lsn(0x100), 5);
        for (ordinal, (bytes, breaks)) in (0u64..).zip(rows.iter_mut()) {
            transaction.count(*bytes);
            if ordinal >= already {
                hold(transaction, ordinal, ordinal, *bytes);
            }
            published.extend(transaction.overflow().map(|entry| placed_id(&entry)));
            assert!(transaction.held.len() as u64 <= HELD_ROWS_MAX, "more rows are held than may be");
            let held = transaction.held.iter().map(|entry| row_of(entry).bytes() - frames);
            assert!(held.sum::<usize>() <= HELD_BYTES_MAX);
            if std::mem::take(breaks) {
                transaction.abandon();
                return false;
            }
        }
        published.extend(transaction.commit(Lsn(0x140)).map(|entry| placed_id(&entry)));
        true
    }

    proptest! {
        #[test]
        fn a_repeat_carries_the_same_places_however_it_is_cut(mut rows in rows()) {
            let whole: Vec<_> = rows.iter().map(|(bytes, _)| (*bytes, false)).collect();
            let mut expected = Vec::new();
            connection(&mut Transaction::default(), &mut whole.clone(), &mut expected);
            let large = rows.len() as u64 > HELD_ROWS_MAX
                || rows.iter().map(|(bytes, _)| bytes).sum::<usize>() > HELD_BYTES_MAX;
            let lsn = if large { Lsn(0x101) } else { Lsn(0x140) };
            let place = |ordinal| (ordinal, Position { lsn, ordinal, committed_at: 5 });
            prop_assert_eq!(&expected, &(0..rows.len() as u64).map(place).collect::<Vec<_>>());

            let (mut transaction, mut published) = (Transaction::default(), Vec::new());
            while !connection(&mut transaction, &mut rows, &mut published) {}
            prop_assert_eq!(published, expected);
        }
    }
}
