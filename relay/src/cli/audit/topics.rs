//! Kafka's side.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::letters::Letters;
use super::rows::Reading;
use super::{AuditOptions, CommandError};
use crate::cli::progress::{Progress, count};
use crate::cli::selection::Selection;
use crate::config::Settings;
use crate::kafka::sweep::{Lying, Span, Sweep};
use walpost_core::audit::{Entry, Fingerprints, RecordAt, Side, View};
use walpost_core::time;

/// How long the brokers may give nothing while there is something to read.
const SILENT_MAX: Duration = Duration::from_secs(60);

/// A record has its commit's time, and a row an earlier one, by another clock: by so much more is read.
const SLACK_MS: i64 = 10 * 60 * 1_000;

/// Which records without a row are told of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judged {
    /// Only a part of the rows was read.
    pub(super) is_partial: bool,
    /// From this time on all of them were, microseconds since 1970-01-01 UTC.
    pub(super) since: Option<i64>,
}

/// The topics that are read, each up to its end.
pub(super) struct Topics {
    sweep: Sweep,
    /// Each with its partitions; none where it is not there.
    pub(super) found: Vec<(String, Vec<Span>)>,
    dead_letters: Option<String>,
    /// Records that were read.
    pub(super) records: u64,
}

/// The names of the topics: those of the settings, of the rows, and those that were asked for.
pub(super) fn names(settings: &Settings, options: &AuditOptions, reading: &Reading<'_>) -> Vec<String> {
    let of_settings = settings.kafka.topics.iter().chain(&settings.kafka.dead_letter_topic);
    of_settings.chain(&options.topics).chain(&reading.topics).cloned().collect()
}

impl Topics {
    /// Looks where they end now.
    pub(super) fn open(
        settings: &Settings,
        names: Vec<String>,
        selection: &Selection,
    ) -> Result<Self, CommandError> {
        let timeout = settings.timing.connect_timeout.max(SILENT_MAX);
        let sweep = Sweep::open(&settings.kafka, timeout)?;
        let since = selection.since.map(|since| (since / 1_000 - SLACK_MS).max(0));
        let mut found = Vec::new();
        for name in names {
            let spans = sweep.spans(&name, since)?;
            found.push((name, spans.unwrap_or_default()));
        }
        let dead_letters = settings.kafka.dead_letter_topic.clone();
        Ok(Self { sweep, found, dead_letters, records: 0 })
    }

    /// Reads them.
    pub(super) fn read(
        &mut self,
        marks: &Fingerprints,
        judged: Judged,
        mut letters: Letters,
        stopped: &AtomicBool,
        progress: &mut Progress,
        enter: &mut dyn FnMut(Entry) -> Result<(), CommandError>,
    ) -> Result<Letters, CommandError> {
        let total: i64 =
            self.found.iter().flat_map(|(_, spans)| spans).map(|span| span.end - span.from).sum();
        let mut first = 0;
        let mut records = 0;
        for (name, spans) in &self.found {
            let are_letters = self.dead_letters.as_ref() == Some(name);
            let mut seen = |nth: usize, lying: &Lying<'_>| {
                let partition = first + u32::try_from(nth).unwrap_or(u32::MAX);
                records += 1;
                progress.step(|| {
                    let total = u64::try_from(total).unwrap_or_default();
                    format!("{name}: {} of about {} records read", count(records), count(total))
                });
                if are_letters {
                    letters.take(marks, (partition, lying.offset()), lying.value(), lying.headers());
                    return Ok(());
                }
                enter(entry(marks, judged, name, partition, lying))
            };
            if !self.sweep.read(spans, &|| stopped.load(Ordering::Relaxed), &mut seen)? {
                return Err(CommandError::Stopped);
            }
            first += u32::try_from(spans.len()).unwrap_or(u32::MAX);
        }
        progress.clear();
        self.records = records;
        Ok(letters)
    }

    /// A record as people find it.
    pub(super) fn shown(&self, partition: u32, offset: i64) -> (String, i32, i64) {
        let mut spans = self.found.iter().flat_map(|(_, spans)| spans);
        let span = spans.nth(partition as usize);
        let (topic, partition) =
            span.map_or((String::new(), -1), |span| (span.topic.clone(), span.partition));
        (topic, partition, offset)
    }
}

fn entry(marks: &Fingerprints, judged: Judged, topic: &str, partition: u32, lying: &Lying<'_>) -> Entry {
    let (key, value) = (lying.key(), lying.value());
    let seen = marks.of(View { topic, key, value, headers: lying.headers() });
    let record = RecordAt {
        partition,
        offset: lying.offset(),
        place: seen.place,
        key: seen.key,
        source: seen.source,
        is_replay: seen.is_replay,
        is_judged: judged.is_judged(lying),
    };
    Entry { identity: seen.identity, body: seen.body, headers: seen.headers, side: Side::Record(record) }
}

impl Judged {
    /// Whether the row of a record would be among those that were read.
    fn is_judged(self, lying: &Lying<'_>) -> bool {
        match self.since {
            None => !self.is_partial,
            Some(since) => {
                let time = lying.headers().find(|(name, _)| *name == "ce_time").and_then(|(_, value)| value);
                let time = time.and_then(|time| time::parse_iso_8601(std::str::from_utf8(time).ok()?));
                time.is_some_and(|time| time >= since)
            }
        }
    }
}
