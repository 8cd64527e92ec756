//! Entries of one identity, rows before records: what follows from them.
//!
//! Rows and records of the same content stand for each other, however many there are of both. What is left over of rows and
//! of records of the same identity is *altered*; what is then left of rows is absent, of records in no row.
//!
//! A record that comes again has the place in the WAL of the first: it is counted once, so that without an id it does not stand
//! for the lost record of a row that is alike.

use std::collections::HashSet;

use super::entry::{Entry, RecordAt, RowAt, Side};

/// So many rows, and records, that are alike or left over are held by name. Which of rows that are alike lacks its record
/// cannot be said anyway. So many places of records that are alike are held, too.
const HELD_MAX: usize = 1_000;

/// What follows from the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// A row has its record.
    Present,
    /// A row has none yet: it is in the stream behind what the slot has confirmed.
    Behind(RowAt),
    /// A row has no record.
    Absent(RowAt),
    /// A record that has the id of a row (this one, where it has no other) and other content.
    Altered(Option<RowAt>, RecordAt, Part),
    /// A record that has come before.
    Twice(RecordAt),
    /// A record that `walpost replay` has sent, wherever to and whatever its row is now.
    Replayed(RecordAt),
    /// The first record of an identity: with the row's number where there is one row, and whether there is any.
    First(RecordAt, Option<i64>, bool),
    /// A record that no row gives.
    InNoRow(RecordAt),
}

/// What is altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Topic, key or value.
    Content,
    /// A header.
    Headers,
}

/// Compares entries that come in their order.
#[derive(Debug, Default)]
pub struct Comparison {
    /// There are several tables: what says no source may be of any of them.
    of_several: bool,
    identity: Option<u128>,
    /// Rows of this identity.
    rows: u64,
    /// One of the rows, the last that was seen, with its body.
    row: Option<(u64, RowAt)>,
    /// The record that lies before all others of this identity; replays come when somebody asks for them.
    first: Option<RecordAt>,
    alike: Alike,
    /// Rows that are left over, with their body.
    left_rows: Vec<(u64, RowAt)>,
    /// Records that are left over.
    left_records: Vec<(u64, RecordAt)>,
}

/// Entries that are alike in every part.
#[derive(Debug, Default)]
struct Alike {
    content: Option<(u64, u64)>,
    /// Rows that are to have a record.
    rows: u64,
    held: Vec<RowAt>,
    /// The last row.
    last: Option<RowAt>,
    /// Two rows have one number: where they were copied from the table, their records have one place.
    share_a_number: bool,
    /// Rows that may have one.
    late: u64,
    behind: u64,
    /// Records, each that comes again counted once, as far as their places tell.
    records: u64,
    /// The places of the records.
    places: HashSet<(u32, (u64, u64))>,
    replays: u64,
}

impl Comparison {
    /// Of one table, or of several.
    #[must_use]
    pub fn new(of_several: bool) -> Self {
        Self { of_several, ..Self::default() }
    }

    /// Takes the next entry. What follows from those before it is told.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn take<E>(
        &mut self,
        entry: Entry,
        tell: &mut impl FnMut(Finding) -> Result<(), E>,
    ) -> Result<(), E> {
        let content = (entry.body, entry.headers);
        if self.identity != Some(entry.identity) {
            self.finish(tell)?;
            self.identity = Some(entry.identity);
            self.alike.content = Some(content);
        } else if self.alike.content != Some(content) {
            self.end_alike(tell)?;
            self.alike.content = Some(content);
        }
        match entry.side {
            Side::Row(row) => {
                self.alike.rows += 1;
                self.alike.share_a_number |= self.alike.last.is_some_and(|last| last.is(&row));
                self.alike.last = Some(row);
                self.saw_row(entry.body, row);
                if self.alike.held.len() < HELD_MAX {
                    self.alike.held.push(row);
                }
            }
            // It was in the snapshot, and is read once more because its transaction, or an older one, is young.
            Side::Late(row) if self.alike.last.is_some_and(|last| last.is(&row)) => {}
            Side::Late(row) => {
                self.alike.late += 1;
                self.saw_row(entry.body, row);
            }
            Side::Behind => self.alike.behind += 1,
            Side::Record(record) => return self.take_record(entry.body, record, tell),
        }
        Ok(())
    }

    /// Tells what follows from the entries that were taken.
    ///
    /// # Errors
    /// Those of `tell`.
    pub fn finish<E>(&mut self, tell: &mut impl FnMut(Finding) -> Result<(), E>) -> Result<(), E> {
        self.end_alike(tell)?;
        // Of several rows nobody knows which record is the first of which.
        if let Some(first) = self.first.take()
            && self.rows <= 1
        {
            let number = self.row.filter(|(_, row)| row.is_ordered).map(|(_, row)| row.number);
            tell(Finding::First(first, number, self.rows > 0))?;
        }
        let mut records = std::mem::take(&mut self.left_records).into_iter();
        for (body, row) in self.left_rows.drain(..) {
            tell(match records.next() {
                Some((other, record)) => Finding::Altered(Some(row), record, Part::between(body, other)),
                None => Finding::Absent(row),
            })?;
        }
        for (body, record) in records {
            tell(match self.row {
                Some((other, _)) => Finding::Altered(None, record, Part::between(body, other)),
                None => Finding::InNoRow(record),
            })?;
        }
        *self = Self::new(self.of_several);
        Ok(())
    }

    fn saw_row(&mut self, body: u64, row: RowAt) {
        // One that was updated between two looks is one row all the same.
        if self.row.is_none_or(|(_, last)| !last.is(&row)) {
            self.rows += 1;
        }
        self.row = Some((body, row));
    }

    fn take_record<E>(
        &mut self,
        body: u64,
        record: RecordAt,
        tell: &mut impl FnMut(Finding) -> Result<(), E>,
    ) -> Result<(), E> {
        let known = self.alike.rows + self.alike.late;
        if record.is_replay {
            self.alike.replays += 1;
            return tell(Finding::Replayed(record));
        }
        let at = |record: &RecordAt| (record.partition, record.offset);
        if self.first.is_none_or(|first| at(&record) < at(&first)) {
            self.first = Some(record);
        }
        if known == 0 && self.alike.behind == 0 {
            if self.left_records.len() < HELD_MAX {
                self.left_records.push((body, record));
                return Ok(());
            }
            return tell(Finding::InNoRow(record));
        }
        if self.comes_again(&record) {
            return tell(Finding::Twice(record));
        }
        self.alike.records += 1;
        if self.alike.records > known.max(1) { tell(Finding::Twice(record)) } else { Ok(()) }
    }

    /// Whether it has the place of one before it. Places of copied rows are their numbers, which mean something within one
    /// table only.
    fn comes_again(&mut self, record: &RecordAt) -> bool {
        let is_of_any = record.source == 0 && self.of_several;
        let Some(place) = record.place.filter(|_| !is_of_any && !self.alike.share_a_number) else {
            return false;
        };
        let (places, place) = (&mut self.alike.places, (record.source, place));
        places.contains(&place) || (places.len() < HELD_MAX && !places.insert(place))
    }

    /// All that are alike were taken.
    fn end_alike<E>(&mut self, tell: &mut impl FnMut(Finding) -> Result<(), E>) -> Result<(), E> {
        let Alike { content, rows, held, behind, records, replays, .. } = std::mem::take(&mut self.alike);
        let Some((body, _)) = content else { return Ok(()) };
        let present = rows.min(records + replays);
        for _ in 0..present {
            tell(Finding::Present)?;
        }
        for (nth, lacking) in (present..rows).enumerate() {
            // Of those that are held; from the last one on.
            let held = held.iter().rev().nth(nth % HELD_MAX).or(held.first());
            let Some(row) = held.copied() else { break };
            if lacking - present < behind {
                tell(Finding::Behind(row))?;
            } else if self.left_rows.len() < HELD_MAX {
                self.left_rows.push((body, row));
            } else {
                tell(Finding::Absent(row))?;
            }
        }
        Ok(())
    }
}

impl Part {
    fn between(one: u64, other: u64) -> Self {
        if one == other { Self::Headers } else { Self::Content }
    }
}
