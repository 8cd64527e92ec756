//! What the comparison finds, counted and named.

use super::letters::Letters;
use super::report::{Report, Somewhere};
use super::sort::Sorter;
use super::topics::Topics;
use crate::cli::progress::{Progress, count};
use crate::cli::selection::{Chosen, CommandError};
use walpost_core::audit::{Appearance, Comparison, Entry, Finding, Inversion, Order, Part, RecordAt, RowAt};

/// Entries between two looks at whether it is to stop.
const LOOK_ENTRIES: u64 = 10_000;

/// Counts and names what is found.
pub(super) struct Judge {
    report: Report,
    /// Name and how a row is found, of each table.
    tables: Vec<Chosen>,
    topics: Topics,
    letters: Letters,
    shown: usize,
    /// The first place in the WAL of a record that has a row.
    oldest: Option<(u64, u64)>,
    /// Places in the WAL may have begun anew: alone they say nothing of an order.
    begins_anew: bool,
    /// Records of which therefore no order is known.
    without_order: u64,
}

impl Judge {
    pub(super) fn new(
        report: Report,
        tables: Vec<Chosen>,
        topics: Topics,
        letters: Letters,
        shown: usize,
        begins_anew: bool,
    ) -> Self {
        Self { report, tables, topics, letters, shown, oldest: None, begins_anew, without_order: 0 }
    }

    /// Compares what was sorted.
    pub(super) fn compare(
        mut self,
        entries: Sorter<Entry>,
        mut appearances: Sorter<Appearance>,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Report, CommandError> {
        let mut progress = Progress::new();
        self.report.spilled_bytes = entries.spilled();
        let (mut sorted, mut comparison, mut taken) =
            (entries.sorted()?, Comparison::new(self.tables.len() > 1), 0);
        while let Some(entry) = sorted.next()? {
            comparison.take(entry, &mut |finding| self.found(finding, &mut appearances))?;
            taken += 1;
            if taken % LOOK_ENTRIES == 0 {
                if stopped() {
                    return Err(CommandError::Stopped);
                }
                progress.step(|| format!("{} rows and records compared", count(taken)));
            }
        }
        comparison.finish(&mut |finding| self.found(finding, &mut appearances))?;
        drop(sorted);
        self.report.spilled_bytes += appearances.spilled();
        let mut order = Order::new(self.tables.len() > 1);
        let mut sorted = appearances.sorted()?;
        while let Some(appearance) = sorted.next()? {
            self.appears(&appearance, &mut order);
        }
        progress.clear();
        if self.without_order > 0 {
            let note = format!(
                "the database has been on another timeline, where places in the WAL begin anew: the order of {} records whose \
                 rows have no number, or were removed, is not looked at",
                count(self.without_order)
            );
            self.report.note(Some(note));
        }
        self.report.records.letters = self.letters.read;
        if self.letters.left_out > 0 {
            let note = format!("{} dead letters more than are kept account of", self.letters.left_out);
            self.report.note(Some(note));
        }
        self.report.finish();
        Ok(self.report)
    }

    fn found(&mut self, finding: Finding, appearances: &mut Sorter<Appearance>) -> Result<(), CommandError> {
        let (rows, records) = (&mut self.report.rows, &mut self.report.records);
        match finding {
            Finding::Present => rows.present += 1,
            Finding::Behind(row) => {
                rows.behind += 1;
                let at = self.row(row);
                keep(&mut self.report.found.behind, self.shown, at);
            }
            Finding::Absent(row) => self.absent(row),
            Finding::Altered(row, record, part) => {
                rows.altered += u64::from(row.is_some());
                records.altered += 1;
                let mut at = self.record(record);
                if let Some(row) = row {
                    at = self.row(row).at(at);
                }
                let part = if part == Part::Headers { "headers" } else { "topic, key or value" };
                keep(&mut self.report.found.altered, self.shown, at.what(part));
            }
            Finding::Twice(record) => {
                records.twice += 1;
                let at = self.record(record);
                keep(&mut self.report.found.twice, self.shown, at);
            }
            Finding::Replayed(_) => records.replayed += 1,
            Finding::First(record, number, has_row) => {
                if has_row && !record.is_replay {
                    self.oldest = match (self.oldest, record.place) {
                        (Some(oldest), Some(place)) => Some(oldest.min(place)),
                        (oldest, place) => oldest.or(place),
                    };
                }
                appearances.push(Appearance { record, number, is_first: true, has_row })?;
            }
            // Whether it is older than the table is known in the end.
            Finding::InNoRow(record) => {
                appearances.push(Appearance { record, number: None, is_first: false, has_row: false })?;
            }
        }
        Ok(())
    }

    fn absent(&mut self, row: RowAt) {
        let rows = &mut self.report.rows;
        if let Some((partition, offset)) = self.letters.of_row(row.letter) {
            rows.dead_letters += 1;
            let at = self.row(row).at(self.lies(partition, offset));
            keep(&mut self.report.found.dead_letters, self.shown, at);
            return;
        }
        if !row.is_due {
            rows.unknown += 1;
            let at = self.row(row);
            keep(&mut self.report.found.unknown, self.shown, at);
            return;
        }
        rows.missing += 1;
        let mut at = self.row(row);
        if row.is_bad {
            at = at.what("it gives no record: `walpost preview` says why");
        }
        keep(&mut self.report.found.missing, self.shown, at);
    }

    fn appears(&mut self, appearance: &Appearance, order: &mut Order) {
        let record = appearance.record;
        let is_older = match (record.place, self.oldest) {
            (Some(place), Some(oldest)) => place < oldest,
            // Of an empty table all that walpost has sent is older.
            (Some(_), None) => true,
            (None, _) => false,
        };
        // What no row gives and is not older may be of a transaction that a failover has lost: the WAL after it is another.
        let is_of_place_alone = record.place.is_some() && appearance.number.is_none();
        if is_of_place_alone && self.begins_anew {
            let has_order = appearance.is_first && record.key.is_some() && !record.is_replay;
            self.without_order += u64::from(has_order && (appearance.has_row || is_older));
        } else if (appearance.has_row || is_older)
            && let Some(Inversion { behind, .. }) = order.take(appearance)
        {
            self.report.records.out_of_order += 1;
            let (topic, partition, offset) = self.topics.shown(behind.partition, behind.offset);
            let what = format!("behind {topic}/{partition}@{offset}, which was committed later");
            let at = self.record(record).what(&what);
            keep(&mut self.report.found.out_of_order, self.shown, at);
        }
        if appearance.has_row || appearance.is_first {
            return;
        }
        let records = &mut self.report.records;
        if !record.is_judged {
            records.not_judged += 1;
        } else if is_older {
            records.older += 1;
        } else {
            records.in_no_row += 1;
            let what = if record.place.is_none() { "it says no place in the WAL (wal-lsn)" } else { "" };
            let at = self.record(record).what(what);
            keep(&mut self.report.found.in_no_row, self.shown, at);
        }
    }

    fn row(&self, row: RowAt) -> Somewhere {
        let table = self.tables.get(row.table as usize);
        Somewhere {
            table: table.map(|table| table.table.name()),
            row: table.map(|table| table.where_is(row.number, row.is_ordered)),
            ..Somewhere::default()
        }
    }

    fn record(&self, record: RecordAt) -> Somewhere {
        self.lies(record.partition, record.offset)
    }

    fn lies(&self, partition: u32, offset: i64) -> Somewhere {
        let (topic, partition, offset) = self.topics.shown(partition, offset);
        Somewhere {
            topic: Some(topic),
            partition: Some(partition),
            offset: Some(offset),
            ..Somewhere::default()
        }
    }
}

fn keep(list: &mut Vec<Somewhere>, shown: usize, at: Somewhere) {
    if list.len() < shown {
        list.push(at);
    }
}
