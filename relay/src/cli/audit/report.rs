//! What was found, for people and as JSON.

use std::fmt::Write as _;
use std::time::Instant;

use serde::Serialize;

use super::topics::Topics;
use crate::cli::progress::count;
use crate::cli::selection::Chosen;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Whether every row is in Kafka, as it is in the table, and in order.
    pub holds: bool,
    /// What was counted of rows.
    pub rows: Rows,
    /// What was counted of records.
    pub records: Records,
    /// The first of each kind.
    pub found: Found,
    /// The tables.
    pub tables: Vec<TableRead>,
    /// The topics.
    pub topics: Vec<TopicRead>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// Bytes that were sorted on disk.
    pub spilled_bytes: u64,
    /// How long it took.
    pub took_ms: u64,
    #[serde(skip)]
    began: Instant,
}

/// What was counted of rows: each is one of these.
#[derive(Debug, Default, Serialize)]
pub struct Rows {
    /// Its record is there.
    pub present: u64,
    /// It cannot be published, and is in the topic of dead letters.
    pub dead_letters: u64,
    /// It lies behind what the slot has confirmed, and has no record yet.
    pub behind: u64,
    /// It has no record, and it is not known whether it must have one.
    pub unknown: u64,
    /// A record with its id has another content.
    pub altered: u64,
    /// It has no record.
    pub missing: u64,
}

/// What was counted of records.
#[derive(Debug, Default, Serialize)]
pub struct Records {
    /// They have come before: at least once is what is promised.
    pub twice: u64,
    /// `walpost replay` has sent them.
    pub replayed: u64,
    /// They have the id of a row, and other content.
    pub altered: u64,
    /// They first appear behind a record of their key that was committed later.
    pub out_of_order: u64,
    /// No row gives them, and they are not older than the oldest row that has a record.
    pub in_no_row: u64,
    /// No row gives them, and they are older: their rows were removed.
    pub older: u64,
    /// No row that was read gives them, and others may.
    pub not_judged: u64,
    /// Dead letters.
    pub letters: u64,
}

/// The first of each kind.
#[derive(Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Found {
    pub missing: Vec<Somewhere>,
    pub altered: Vec<Somewhere>,
    pub out_of_order: Vec<Somewhere>,
    pub unknown: Vec<Somewhere>,
    pub in_no_row: Vec<Somewhere>,
    pub twice: Vec<Somewhere>,
    pub behind: Vec<Somewhere>,
    pub dead_letters: Vec<Somewhere>,
}

/// A row, a record, or both.
#[derive(Debug, Default, Serialize)]
pub struct Somewhere {
    /// The table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// A condition that finds the row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// The topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// The partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<i32>,
    /// The offset there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// What about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub what: String,
}

/// A table that was read.
#[derive(Debug, Serialize)]
pub struct TableRead {
    /// Its name.
    pub table: String,
    /// Rows that were asked for.
    pub rows: u64,
}

/// A topic that was read.
#[derive(Debug, Serialize)]
pub struct TopicRead {
    /// Its name.
    pub topic: String,
    /// Its partitions; 0: it does not exist.
    pub partitions: usize,
    /// Offsets that were read: records, and ends of transactions.
    pub offsets: i64,
    /// Offsets before the first that it still has.
    pub removed: i64,
    /// Whether dead letters go there.
    pub is_of_dead_letters: bool,
}

impl Somewhere {
    pub(super) fn at(self, other: Self) -> Self {
        Self { topic: other.topic, partition: other.partition, offset: other.offset, ..self }
    }

    pub(super) fn what(self, what: &str) -> Self {
        Self { what: what.to_owned(), ..self }
    }

    fn line(&self) -> String {
        let mut parts = Vec::new();
        if let (Some(table), Some(row)) = (&self.table, &self.row) {
            parts.push(format!("{table} where {row}"));
        }
        if let (Some(topic), Some(partition), Some(offset)) = (&self.topic, self.partition, self.offset) {
            parts.push(format!("{topic}/{partition}@{offset}"));
        }
        if !self.what.is_empty() {
            parts.push(self.what.clone());
        }
        parts.join(", ")
    }
}

impl Report {
    pub(super) fn new(chosen: &[Chosen], dead_letters: Option<&str>) -> Self {
        let table = |table: &Chosen| TableRead { table: table.table.name(), rows: 0 };
        let mut report = Self {
            holds: false,
            rows: Rows::default(),
            records: Records::default(),
            found: Found::default(),
            tables: chosen.iter().map(table).collect(),
            topics: Vec::new(),
            notes: Vec::new(),
            spilled_bytes: 0,
            took_ms: 0,
            began: Instant::now(),
        };
        if let Some(topic) = dead_letters {
            report.topics.push(TopicRead {
                topic: topic.to_owned(),
                partitions: 0,
                offsets: 0,
                removed: 0,
                is_of_dead_letters: true,
            });
        }
        if let Some(setting) = chosen.iter().find_map(Chosen::names_place) {
            report.notes.push(format!(
                "{setting} says where rows stand in the WAL, which the table does not know: records are found by their ids, \
                 and their content is not compared"
            ));
        }
        report
    }

    pub(super) fn note(&mut self, note: Option<String>) {
        self.notes.extend(note);
    }

    pub(super) fn of_topics(&mut self, topics: &Topics) {
        let letters: Vec<_> = std::mem::take(&mut self.topics).into_iter().map(|topic| topic.topic).collect();
        for (topic, spans) in &topics.found {
            let removed = spans.iter().map(|span| span.oldest).sum();
            if spans.is_empty() {
                self.notes.push(format!("the topic {topic} does not exist"));
            } else if removed > 0 {
                self.notes.push(format!(
                    "{topic} lacks its first {} offsets, by retention or by hand: records of rows that are as old count as \
                     missing",
                    count(u64::try_from(removed).unwrap_or_default())
                ));
            }
            self.topics.push(TopicRead {
                topic: topic.clone(),
                partitions: spans.len(),
                offsets: spans.iter().map(|span| span.end - span.from).sum(),
                removed,
                is_of_dead_letters: letters.contains(topic),
            });
        }
    }

    pub(super) fn finish(&mut self) {
        let (rows, records) = (&self.rows, &self.records);
        let faults = rows.missing + rows.unknown + records.altered + rows.altered + records.out_of_order;
        self.holds = faults == 0;
        self.took_ms = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
    }

    /// Whether every row is in Kafka, as it is in the table, and in order; with `strict` also once, and nothing else is there.
    #[must_use]
    pub fn is_well(&self, strict: bool) -> bool {
        self.holds && !(strict && self.records.twice + self.records.in_no_row > 0)
    }

    /// For people.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for table in &self.tables {
            let _ = writeln!(text, "table         {:>12} rows     {}", count(table.rows), table.table);
        }
        for topic in &self.topics {
            let offsets = u64::try_from(topic.offsets).unwrap_or_default();
            let what = if topic.is_of_dead_letters { " (dead letters)" } else { "" };
            let _ = writeln!(text, "topic         {:>12} records  {}{what}", count(offsets), topic.topic);
        }
        for note in &self.notes {
            let _ = writeln!(text, "note          {note}");
        }
        let (rows, records) = (&self.rows, &self.records);
        let _ = writeln!(text, "\npresent       {:>12} rows", count(rows.present));
        let found = &self.found;
        let mut part = |name: &str, number: u64, what: &str, found: &[Somewhere], is_always: bool| {
            if number == 0 && !is_always {
                return;
            }
            let _ = writeln!(text, "{name:<13} {:>12} {what}", count(number));
            for at in found {
                let _ = writeln!(text, "    {}", at.line());
            }
            if (found.len() as u64) < number && !found.is_empty() {
                let _ = writeln!(text, "    and {} more (--show)", count(number - found.len() as u64));
            }
        };
        let letters = "rows that cannot be published, in the topic of dead letters";
        part("dead letters", rows.dead_letters, letters, &found.dead_letters, false);
        part("behind", rows.behind, "rows that the slot has not confirmed yet", &found.behind, false);
        part("missing", rows.missing, "rows without a record", &found.missing, true);
        let unknown = "rows without a record, of which it is not known whether they must have one";
        part("unknown", rows.unknown, unknown, &found.unknown, false);
        let altered = "records with the id of a row and other content";
        part("altered", records.altered, altered, &found.altered, true);
        let order = "records behind one of their key that was committed later";
        part("out of order", records.out_of_order, order, &found.out_of_order, true);
        part("twice", records.twice, "records that have come before", &found.twice, true);
        part("in no row", records.in_no_row, "records that no row gives", &found.in_no_row, true);
        part("older", records.older, "records older than the oldest row: removed, as it seems", &[], false);
        part("not judged", records.not_judged, "records of rows that were not asked for", &[], false);
        part("replayed", records.replayed, "records that `walpost replay` has sent", &[], false);
        let seconds = self.took_ms as f64 / 1_000.0;
        let _ = write!(text, "\n{} ({seconds:.1} s)", verdict(self.holds, rows.behind));
        text
    }
}

/// What follows from it. Rows that the slot has not confirmed are no fault, and nobody knows whether they are in Kafka.
fn verdict(holds: bool, behind: u64) -> String {
    match (holds, behind) {
        (false, _) => "NOT every row is in Kafka, in order".to_owned(),
        (true, 0) => "every row is in Kafka, in order".to_owned(),
        (true, behind) => {
            format!(
                "every row that the slot has confirmed is in Kafka, in order; {} are behind",
                count(behind)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_behind_the_slot_are_not_said_to_be_in_kafka() {
        let confirmed = "every row that the slot has confirmed is in Kafka, in order; 1,200 are behind";
        assert_eq!(verdict(true, 1_200), confirmed);
        assert_eq!(verdict(true, 0), "every row is in Kafka, in order");
        assert!(verdict(false, 3).starts_with("NOT"));
    }
}
