//! Whether the records of a key first appear in the order of commits.
//!
//! The order is that of the records' places in the WAL (`wal-lsn`, then `wal-seq`) and of the numbers of their rows, and a record
//! is out of order where both say so. Places alone would not do: they begin anew on another timeline and in a database that was
//! restored. Nor would numbers: they are handed out before the commit. Where one of the two is not known (the row was removed,
//! or its table has no order; another tool has sent the record, which says no place) the other one decides. Numbers in a
//! transaction, and numbers of rows that were copied from the table, mean something within one source only.

use std::cmp::Ordering;

use super::entry::{Reader, RecordAt, Writer};

/// A record, where it is the first of its identity or has no row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appearance {
    /// Where it lies.
    pub record: RecordAt,
    /// The number of its row, where it has one row with a number.
    pub number: Option<i64>,
    /// Whether it is the first record of its identity.
    pub is_first: bool,
    /// Whether a row gives it.
    pub has_row: bool,
}

impl Appearance {
    /// Bytes of one.
    pub const BYTES: usize = 9 + RecordAt::BYTES;

    /// Writes it into `BYTES` bytes.
    pub fn write(&self, into: &mut [u8]) {
        let flags =
            u8::from(self.number.is_some()) | u8::from(self.is_first) << 1 | u8::from(self.has_row) << 2;
        let mut out = Writer(into);
        out.put(&[flags]);
        out.put(&self.number.unwrap_or_default().to_be_bytes());
        self.record.write(&mut out);
    }

    /// Reads it back.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut bytes = Reader(bytes);
        let [flags] = bytes.take();
        let number = bytes.i64();
        Self {
            number: (flags & 1 != 0).then_some(number),
            is_first: flags & 2 != 0,
            has_row: flags & 4 != 0,
            record: RecordAt::read(&mut bytes),
        }
    }

    /// By partition, then key, then offset.
    fn rank(&self) -> (u32, Option<u64>, i64, bool) {
        (self.record.partition, self.record.key, self.record.offset, self.is_first)
    }
}

impl PartialOrd for Appearance {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Appearance {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// A record that appears behind one of its key that was committed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inversion {
    /// The record.
    pub record: RecordAt,
    /// The one before it that is later in the order of commits.
    pub behind: RecordAt,
}

/// So many records of a key are held, of which none is later than another in both orders. Where numbers rise in the order of
/// commits these are as many as there were timelines.
const HELD_MAX: usize = 64;

/// Looks at appearances that come in their order.
#[derive(Debug, Default)]
pub struct Order {
    /// There are several tables: what says no source may be of any of them.
    of_several: bool,
    /// Partition and key.
    of: Option<(u32, u64)>,
    /// The latest in the WAL so far, of those without a number.
    placed: Option<RecordAt>,
    /// The latest in the WAL so far, of all that have a place.
    latest: Option<RecordAt>,
    /// The highest number so far, of those without a place.
    numbered: Option<(i64, RecordAt)>,
    /// The latest so far, of those with both.
    both: Vec<(i64, RecordAt)>,
}

impl Order {
    /// Of records of one table, or of several.
    #[must_use]
    pub fn new(of_several: bool) -> Self {
        Self { of_several, ..Self::default() }
    }

    /// Takes the next appearance.
    pub fn take(&mut self, appearance: &Appearance) -> Option<Inversion> {
        let record = appearance.record;
        // Nothing is promised of records without a key, and a replay comes when somebody asks for it.
        let key = record.key.filter(|_| appearance.is_first && !record.is_replay)?;
        let of = Some((record.partition, key));
        if self.of != of {
            *self = Self { of, ..Self::new(self.of_several) };
        }
        let found = match (record.place, appearance.number) {
            (Some(_), Some(number)) => self.take_both(record, number),
            (Some(_), None) => self.take_placed(record),
            (None, number) => return self.take_numbered(record, number?),
        };
        self.latest = Some(self.later(self.latest, record));
        found
    }

    /// Whether one stands before another in the WAL, as far as their places tell.
    fn is_earlier(&self, one: &RecordAt, other: &RecordAt) -> bool {
        let (Some((lsn, ordinal)), Some((other_lsn, other_ordinal))) = (one.place, other.place) else {
            return false;
        };
        let is_of_one = one.source == other.source && (one.source != 0 || !self.of_several);
        lsn < other_lsn || (lsn == other_lsn && is_of_one && ordinal < other_ordinal)
    }

    /// The later of two in the WAL; where their places do not tell, the second.
    fn later(&self, one: Option<RecordAt>, other: RecordAt) -> RecordAt {
        one.filter(|one| self.is_earlier(&other, one)).unwrap_or(other)
    }

    fn take_both(&mut self, record: RecordAt, number: i64) -> Option<Inversion> {
        let of_both = self.both.iter().filter(|(highest, _)| number < *highest);
        let mut before = of_both.map(|(_, latest)| latest).chain(&self.placed);
        if let Some(behind) = before.find(|latest| self.is_earlier(&record, latest)) {
            return Some(Inversion { record, behind: *behind });
        }
        // What is earlier than this one by both says nothing more than it does.
        let mut held = std::mem::take(&mut self.both);
        held.retain(|(other, earlier)| *other > number || !self.is_earlier(earlier, &record));
        if held.len() >= HELD_MAX {
            held.remove(0);
        }
        held.push((number, record));
        self.both = held;
        None
    }

    fn take_placed(&mut self, record: RecordAt) -> Option<Inversion> {
        self.placed = Some(self.later(self.placed, record));
        let behind = self.latest.filter(|latest| self.is_earlier(&record, latest))?;
        Some(Inversion { record, behind })
    }

    fn take_numbered(&mut self, record: RecordAt, number: i64) -> Option<Inversion> {
        match self.numbered {
            Some((highest, behind)) if number < highest => Some(Inversion { record, behind }),
            _ => {
                self.numbered = Some((number, record));
                None
            }
        }
    }
}
