//! Whether the records of a key first appear in the order of commits.
//!
//! The order is that of the records' places in the WAL (`wal-lsn`, then `wal-seq`); numbers in a transaction, and numbers of
//! rows that were copied from the table, mean something within one source only. Records that say no place (another tool has
//! sent them) are held against the numbers of their rows.

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

/// Looks at appearances that come in their order.
#[derive(Debug, Default)]
pub struct Order {
    /// There are several tables: what says no source may be of any of them.
    of_several: bool,
    /// Partition and key.
    of: Option<(u32, u64)>,
    /// The latest in the order of commits so far, of those with a place.
    placed: Option<RecordAt>,
    /// The highest number so far, of those without.
    numbered: Option<(i64, RecordAt)>,
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
        match record.place {
            Some(place) => self.take_placed(record, place),
            None => self.take_numbered(record, appearance.number?),
        }
    }

    fn take_placed(&mut self, record: RecordAt, (lsn, ordinal): (u64, u64)) -> Option<Inversion> {
        let Some(latest) = self.placed else {
            self.placed = Some(record);
            return None;
        };
        let (latest_lsn, latest_ordinal) = latest.place.unwrap_or_default();
        let is_of_one = record.source == latest.source && (record.source != 0 || !self.of_several);
        let is_earlier = lsn < latest_lsn || (lsn == latest_lsn && is_of_one && ordinal < latest_ordinal);
        if is_earlier {
            return Some(Inversion { record, behind: latest });
        }
        self.placed = Some(record);
        None
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
