//! What is kept of a row and of a record while they wait for each other: so many bytes, whatever they hold.

use std::cmp::Ordering;

/// One side's account of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Which record it is.
    pub identity: u128,
    /// Topic, key and value.
    pub body: u64,
    /// Its headers.
    pub headers: u64,
    /// Where it was seen.
    pub side: Side,
}

/// Where a record was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the table, which is to have its record in a topic.
    Row(RowAt),
    /// In the table when it was read once more behind the snapshot: its record may be there.
    Late(RowAt),
    /// In the stream behind what the slot has confirmed: its record may be missing yet.
    Behind,
    /// In a topic.
    Record(RecordAt),
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowAt {
    /// The table's number, counted from 0.
    pub table: u32,
    /// What the table is ordered by; where it has no such column, where the row lies in it.
    pub number: i64,
    /// Whether the number orders rows.
    pub is_ordered: bool,
    /// Whether it is known that its record must be there.
    pub is_due: bool,
    /// Whether it gives no record.
    pub is_bad: bool,
    /// What it has in common with a dead letter.
    pub letter: u128,
}

/// Where a record lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordAt {
    /// The partition's number among all that are read.
    pub partition: u32,
    /// Its offset there.
    pub offset: i64,
    /// Its place in the WAL, where it says one.
    pub place: Option<(u64, u64)>,
    /// Its topic and key, where it has a key.
    pub key: Option<u64>,
    /// Its source; 0 where it says none.
    pub source: u32,
    /// Whether it was sent by `walpost replay`.
    pub is_replay: bool,
    /// Whether its row would be among those that were read.
    pub is_judged: bool,
}

impl Entry {
    /// Bytes of an entry.
    pub const BYTES: usize = 34 + RecordAt::BYTES;

    /// Equal ones stand together, rows before records, a row that was read again behind itself, records as they lie in their
    /// partitions.
    fn rank(&self) -> (u128, u64, u64, u8, u32, i64, bool) {
        let (rank, one, other, is_late) = match self.side {
            Side::Row(row) => (0, row.table, row.number, false),
            Side::Late(row) => (0, row.table, row.number, true),
            Side::Behind => (1, 0, 0, false),
            Side::Record(record) => (2, record.partition, record.offset, false),
        };
        (self.identity, self.body, self.headers, rank, one, other, is_late)
    }

    /// Writes it into `BYTES` bytes.
    pub fn write(&self, into: &mut [u8]) {
        let mut out = Writer(into);
        out.put(&self.identity.to_be_bytes());
        out.put(&self.body.to_be_bytes());
        out.put(&self.headers.to_be_bytes());
        match self.side {
            Side::Row(row) => row.write(0, &mut out),
            Side::Late(row) => row.write(1, &mut out),
            Side::Behind => out.put(&[2, 0]),
            Side::Record(record) => {
                out.put(&[3, 0]);
                record.write(&mut out);
            }
        }
    }

    /// Reads it back.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut bytes = Reader(bytes);
        let (identity, body, headers) = (bytes.u128(), bytes.u64(), bytes.u64());
        let [side, flags] = bytes.take();
        let side = match side {
            0 => Side::Row(RowAt::read(flags, &mut bytes)),
            1 => Side::Late(RowAt::read(flags, &mut bytes)),
            2 => Side::Behind,
            _ => Side::Record(RecordAt::read(&mut bytes)),
        };
        Self { identity, body, headers, side }
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl RowAt {
    /// Whether it is the same row, seen at two times.
    pub(super) fn is(&self, other: &Self) -> bool {
        (self.table, self.number) == (other.table, other.number)
    }

    fn write(self, side: u8, out: &mut Writer<'_>) {
        let flags = u8::from(self.is_ordered) | u8::from(self.is_due) << 1 | u8::from(self.is_bad) << 2;
        out.put(&[side, flags]);
        out.put(&self.table.to_be_bytes());
        out.put(&self.number.to_be_bytes());
        out.put(&self.letter.to_be_bytes());
    }

    fn read(flags: u8, bytes: &mut Reader<'_>) -> Self {
        Self {
            table: bytes.u32(),
            number: bytes.i64(),
            letter: bytes.u128(),
            is_ordered: flags & 1 != 0,
            is_due: flags & 2 != 0,
            is_bad: flags & 4 != 0,
        }
    }
}

impl RecordAt {
    /// Bytes of one.
    pub(super) const BYTES: usize = 41;

    pub(super) fn write(&self, out: &mut Writer<'_>) {
        let flags = u8::from(self.place.is_some())
            | u8::from(self.key.is_some()) << 1
            | u8::from(self.is_replay) << 2
            | u8::from(self.is_judged) << 3;
        let (lsn, ordinal) = self.place.unwrap_or_default();
        out.put(&[flags]);
        out.put(&self.partition.to_be_bytes());
        out.put(&self.offset.to_be_bytes());
        out.put(&lsn.to_be_bytes());
        out.put(&ordinal.to_be_bytes());
        out.put(&self.key.unwrap_or_default().to_be_bytes());
        out.put(&self.source.to_be_bytes());
    }

    pub(super) fn read(bytes: &mut Reader<'_>) -> Self {
        let [flags] = bytes.take();
        let (partition, offset) = (bytes.u32(), bytes.i64());
        let (place, key, source) = ((bytes.u64(), bytes.u64()), bytes.u64(), bytes.u32());
        Self {
            partition,
            offset,
            place: (flags & 1 != 0).then_some(place),
            key: (flags & 2 != 0).then_some(key),
            source,
            is_replay: flags & 4 != 0,
            is_judged: flags & 8 != 0,
        }
    }
}

/// Writes numbers one behind the other; what has no room is left out.
pub(super) struct Writer<'a>(pub(super) &'a mut [u8]);

impl Writer<'_> {
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let whole = std::mem::take(&mut self.0);
        if let Some((room, rest)) = whole.split_at_mut_checked(bytes.len()) {
            room.copy_from_slice(bytes);
            self.0 = rest;
        }
    }
}

/// Reads numbers one behind the other; what is not there is 0.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((bytes, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *bytes
    }

    pub(super) fn u128(&mut self) -> u128 {
        u128::from_be_bytes(self.take())
    }

    pub(super) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    pub(super) fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }

    pub(super) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }
}
