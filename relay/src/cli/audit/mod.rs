//! `walpost audit`: is every row of the table in Kafka, once and in order?
//!
//! It changes nothing, and may run beside `walpost run`. What is written meanwhile does no harm, by the order of the steps:
//!
//! 1. One snapshot of all tables, and L, the end of the WAL behind it: whatever the snapshot sees is in the stream before L.
//! 2. The slot is waited for until it is confirmed up to L: then every row of the snapshot must be in the topics. Where
//!    nobody moves it that far, a temporary copy of the slot is asked what lies between (`behind`): those rows may be missing.
//!    Of a table whose first copy (or recovery) is not at its end, rows may be in no stream: those are due where the ledger
//!    proves it.
//! 3. The rows of the snapshot, rendered as `walpost run` does it (`rows`).
//! 4. The ends of the topics. What is behind them is not looked at.
//! 5. Transactions that ran are waited for, and rows that have come since the snapshot are read: their records may be there.
//! 6. The topics up to their ends (`topics`).
//! 7. Both sides are sorted by identity (`sort`) and compared ([`walpost_core::audit`]); the first records of each key are
//!    sorted once more, and held against the order of the WAL.

mod behind;
mod letters;
mod report;
mod rows;
mod sort;
mod topics;
mod verdict;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use report::Report;

use crate::cli::progress::Progress;
use crate::cli::selection::{self, Chosen, CommandError, Selection};
use crate::config::Settings;
use behind::Reached;
use letters::Letters;
use rows::Reading;
use sort::{Fixed, Sorter};
use topics::Topics;
use walpost_core::audit::{Appearance, Entry, Fingerprints};
use walpost_core::event::mapping::Mapping;

/// What is audited, and how.
#[derive(Debug, Clone)]
pub struct AuditOptions {
    /// Which rows.
    pub selection: Selection,
    /// Topics to be read beside those that settings and rows name.
    pub topics: Vec<String>,
    /// How long the slot is waited for.
    pub wait: Duration,
    /// Memory for what is sorted, in bytes.
    pub memory: usize,
    /// Where what does not fit goes.
    pub scratch: PathBuf,
    /// How many of each kind are named.
    pub shown: usize,
}

impl Fixed for Entry {
    const BYTES: usize = Self::BYTES;

    fn write(&self, into: &mut [u8]) {
        self.write(into);
    }

    fn read(bytes: &[u8]) -> Self {
        Self::read(bytes)
    }
}

impl Fixed for Appearance {
    const BYTES: usize = Self::BYTES;

    fn write(&self, into: &mut [u8]) {
        self.write(into);
    }

    fn read(bytes: &[u8]) -> Self {
        Self::read(bytes)
    }
}

/// Compares rows and records.
///
/// # Errors
/// When it is asked for what cannot be, a server refuses, or `stopped` says so before the end.
pub async fn run(
    settings: &Settings,
    options: &AuditOptions,
    stopped: Arc<AtomicBool>,
) -> Result<Report, CommandError> {
    let mut progress = Progress::new();
    let session = selection::connect(settings).await?;
    let chosen = selection::tables(&session, settings, &options.selection).await?;
    let marks = Arc::new(fingerprints(&chosen)?);
    let mut report = Report::new(&chosen, settings.kafka.dead_letter_topic.as_deref());
    let snapshot = rows::Snapshot::begin(&session, &chosen).await?;
    let mut sorter = Sorter::new(&options.scratch, options.memory / 2);

    let mut reading = Reading::new(&marks, settings.kafka.dead_letter_topic.is_some());
    let mut enter = |entry| sorter.push(entry);
    let reached = behind::wait(settings, options.wait, snapshot.end, &mut progress).await?;
    let has_slot = !matches!(reached, Reached::NoSlot(_));
    let remembered = behind::remembered(settings, &chosen).await?;
    let (is_known, note) = match reached {
        Reached::All => (true, None),
        Reached::NoSlot(note) => (true, Some(note)),
        Reached::UpTo(confirmed) => {
            let read = behind::read(settings, &chosen, snapshot.end, &mut reading, &mut enter).await;
            behind::judge(read, confirmed, snapshot.end)
        }
    };
    report.note(note);
    report.note(has_slot.then(|| remembered.note(&chosen)).flatten());
    report.note(of_messages(settings));
    let slot = &settings.source.slot;
    for (nth, table) in chosen.iter().enumerate() {
        let is_known = is_known && (!has_slot || remembered.is_copied(nth));
        let due = if is_known { None } else { Some(slot.as_str()) };
        let rows = reading.table(&session, nth, table, due, &stopped, &mut progress, &mut enter).await?;
        report.tables[nth].rows = rows;
    }
    snapshot.end(&session).await?;

    let mut names = topics::names(settings, options, &reading);
    names.sort();
    names.dedup();
    let mut topics = Topics::open(settings, names, &options.selection)?;
    report.note(rows::wait_for_earlier(&session, settings).await);
    for (nth, table) in chosen.iter().enumerate() {
        reading.late(&session, nth, table, snapshot.oldest, &mut enter).await?;
    }
    drop(session);

    let letters = Letters::of(&chosen);
    let (is_partial, since) = (options.selection.is_partial(), options.selection.since);
    let judged = topics::Judged { is_partial, since };
    let reading_topics = {
        let (marks, stopped) = (Arc::clone(&marks), Arc::clone(&stopped));
        tokio::task::spawn_blocking(move || -> Result<_, CommandError> {
            let letters = topics.read(&marks, judged, letters, &stopped, &mut progress, &mut |entry| {
                Ok(sorter.push(entry)?)
            })?;
            Ok((topics, letters, sorter))
        })
    };
    let (topics, letters, sorter) =
        reading_topics.await.map_err(|_| CommandError::Stopped).and_then(|read| read)?;
    report.of_topics(&topics);
    let appearances = Sorter::new(&options.scratch, options.memory / 2);
    let begins_anew = remembered.begins_anew();
    let judge = verdict::Judge::new(report, chosen, topics, letters, options.shown, begins_anew);
    let comparing = tokio::task::spawn_blocking(move || {
        judge.compare(sorter, appearances, &|| stopped.load(Ordering::Relaxed))
    });
    comparing.await.map_err(|_| CommandError::Stopped)?
}

/// What is to be said of logical messages.
fn of_messages(settings: &Settings) -> Option<String> {
    (!settings.source.messages.is_empty()).then(|| {
        "logical messages are in no table: whether all of them are in Kafka is not looked at, and their records are in no row"
            .to_owned()
    })
}

/// What identifies records of these tables.
fn fingerprints(chosen: &[Chosen]) -> Result<Fingerprints, CommandError> {
    let mut id_headers: Vec<String> = Vec::new();
    for name in chosen.iter().flat_map(|table| table.table.mapping.id_headers()) {
        if !id_headers.iter().any(|known| known == name) {
            id_headers.push(name.to_owned());
        }
    }
    let placed = chosen.iter().find_map(|table| Some((table, table.names_place()?)));
    if let Some((table, setting)) = &placed
        && !has_ids(&table.table.mapping)
    {
        return Err(CommandError::Usage(format!(
            "{setting}: records of {} say where their rows stand in the WAL, which the table does not know, and have no id: \
             there is nothing by which a record could be found",
            table.table.name()
        )));
    }
    Ok(Fingerprints::new(id_headers, placed.is_none()))
}

/// Whether records of it have an id in a header.
fn has_ids(mapping: &Mapping) -> bool {
    !mapping.id_headers().is_empty()
        || (mapping.cloudevents != walpost_core::event::mapping::CloudEvents::Off
            && mapping.id.given().is_some()
            && (mapping.kind.given().is_some() || mapping.ce_type.is_some()))
}
