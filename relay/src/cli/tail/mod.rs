//! `walpost tail`: the topics, as they grow. Whatever a record holds is shown as it is, on one line, and nothing in it
//! can drive the terminal.

mod content;
mod filter;
mod json;
mod screen;
mod terminal;

use std::io::{self, BufWriter, Write};
use std::time::Duration;

use crate::kafka::consumer::{StoredRecord, TopicReader};
use content::Content;
pub use filter::Filter;
use screen::Screen;
use walpost_core::publish::sink::SinkError;

/// What is shown of the topics, and how.
#[derive(Debug, Clone)]
pub struct TailOptions {
    /// Stop at the end instead of waiting for more.
    pub until_end: bool,
    /// One JSON object a line, instead of text.
    pub json: bool,
    /// Text with the colours of a terminal.
    pub colours: bool,
    /// Which records.
    pub filter: Filter,
}

/// Why it stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The topics cannot be read.
    #[error(transparent)]
    Read(#[from] SinkError),
    /// What is shown cannot be written.
    #[error("cannot write what was read: {0}")]
    Write(#[from] io::Error),
}

/// How long a poll may take: a stop is noticed within it.
const POLL: Duration = Duration::from_millis(200);

/// Lines that are written at once while there is more to read.
const BUFFER_BYTES: usize = 64 << 10;

/// Prints records until `stopped` says so, nobody reads `out` any more or, where asked for, the end is reached. Blocks.
///
/// # Errors
/// When the topics cannot be read, or `out` not be written to.
pub fn run(
    mut reader: TopicReader,
    options: &TailOptions,
    out: &mut dyn Write,
    stopped: &dyn Fn() -> bool,
) -> Result<(), TailError> {
    let screen = Screen::new(options.colours, reader.topics());
    let mut out = BufWriter::with_capacity(BUFFER_BYTES, out);
    match copy(&mut reader, options, &screen, &mut out, stopped) {
        // `walpost tail | head` has seen enough.
        Err(TailError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        ended => ended,
    }
}

fn copy(
    reader: &mut TopicReader,
    options: &TailOptions,
    screen: &Screen,
    out: &mut impl Write,
    stopped: &dyn Fn() -> bool,
) -> Result<(), TailError> {
    while !stopped() {
        if options.until_end && reader.is_at_end() {
            break;
        }
        let record = match reader.next(Duration::ZERO)? {
            Some(record) => Some(record),
            None => {
                // Before a wait, all that was read is shown.
                out.flush()?;
                reader.next(POLL)?
            }
        };
        let Some(record) = record else { continue };
        if let Some(line) = line(&record, options, screen) {
            writeln!(out, "{line}")?;
        }
    }
    Ok(out.flush()?)
}

fn line(record: &StoredRecord, options: &TailOptions, screen: &Screen) -> Option<String> {
    let content = Content::of(record.value.as_deref());
    let is_shown = options.filter.passes(record, &content);
    is_shown.then(|| if options.json { json::line(record, &content) } else { screen.line(record, &content) })
}

/// A record of each kind, for the tests of this module.
#[cfg(test)]
mod samples {
    use logistic_package_proto::package_event::{EventType, PackageEvent};
    use prost::Message as _;

    use super::StoredRecord;

    pub(super) fn record(value: Option<&[u8]>) -> StoredRecord {
        StoredRecord {
            topic: "commands".into(),
            partition: 2,
            offset: 14,
            timestamp_ms: Some(1_700_000_000_123),
            key: Some(b"7".to_vec()),
            value: value.map(<[u8]>::to_vec),
            headers: Vec::new(),
        }
    }

    pub(super) fn event(kind: i32, payload: &[u8]) -> StoredRecord {
        let event = PackageEvent {
            id: 9,
            package_id: 7,
            r#type: kind,
            created: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 120_000_000 }),
            payload: payload.to_vec(),
        };
        record(Some(&event.encode_to_vec()))
    }

    pub(super) fn updated(payload: &[u8]) -> StoredRecord {
        event(EventType::Updated.into(), payload)
    }
}
