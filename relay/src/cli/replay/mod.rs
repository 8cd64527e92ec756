//! `walpost replay`: rows of the table again, because somebody asks for them.
//!
//! A record is what `walpost run` made of the row, but for two things: it has the header `walpost-replay`, and no place in the
//! WAL (`wal-lsn`, `wal-seq`), which the table does not know. Neither the slot nor the ledger is touched, so it may run
//! beside `walpost run`, before it and without it.
//!
//! Rows go in the order of the table, as in the first copy: by its integer order, which is that of commits within a key where
//! writers of a key wait for each other. They are read in pages, so that no transaction stays open while it takes its time;
//! a table without such an order is read in one go.

mod pages;
mod rest;
mod sending;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::cli::progress::count;
use crate::cli::selection::{self, Chosen, CommandError, Selection};
use crate::config::{KafkaSettings, Settings};
use crate::kafka::KafkaSink;
use crate::postgres::Session;
use pages::{Bounds, Pages};
use sending::Sending;
use walpost_core::clock;
use walpost_core::event::render::{Renderer, Replay};
use walpost_core::time;

/// What is sent again, and how.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// Which rows.
    pub selection: Selection,
    /// The topic that all of them go to, in place of their own.
    pub to: Option<String>,
    /// Rows a second; 0 is without a limit.
    pub rate: u32,
    /// Only say what would be sent.
    pub dry_run: bool,
}

/// So many rows that give no record are named.
const NAMED_MAX: u64 = 10;

/// Says a line.
pub type Say<'a> = dyn FnMut(String) -> std::io::Result<()> + 'a;

/// Sends rows again; whether all of them are in Kafka now.
///
/// # Errors
/// When it is asked for what cannot be, or a server refuses; what was said before names where it stood.
pub async fn run(
    settings: Settings,
    options: &ReplayOptions,
    stop: &CancellationToken,
    say: &mut Say<'_>,
) -> Result<bool, CommandError> {
    let timeout = settings.timing.connect_timeout;
    let session = selection::connect(&settings).await?;
    let chosen = selection::tables(&session, &settings, &options.selection).await?;
    check(&chosen)?;
    let (mut tables, mut total) = (Vec::new(), 0);
    for table in chosen {
        let bounds = pages::bounds(&session, &table).await?;
        let to = options.to.clone().unwrap_or_else(|| table.table.shown_topic());
        say(format!("rows     {} of {}, to {to}", count(bounds.rows), table.table.name()))?;
        total += bounds.rows;
        tables.push((table, bounds));
    }
    if options.dry_run {
        return look(&session, &tables, options, say).await;
    }
    if total == 0 {
        say("sent     nothing: there are no such rows".to_owned())?;
        return Ok(true);
    }
    let mut id = Vec::new();
    time::write_rfc3339(clock::unix_micros(), &mut id);
    let replay = Replay { id: String::from_utf8_lossy(&id).into_owned(), to: options.to.clone() };
    let pace =
        if options.rate == 0 { "without a limit".to_owned() } else { format!("{} a second", options.rate) };
    say(format!("header   walpost-replay: {}; {pace}", replay.id))?;
    let kafka = of_topics(&settings.kafka, options);
    let mut sink = KafkaSink::new(&kafka, settings.window)?;
    let named: Vec<&str> = options.to.iter().map(String::as_str).collect();
    sink.check_topics(&named, timeout).await?;
    let renderer = Renderer::default().with_late_after(kafka.late_after).with_replay(replay);
    let mut sending = Sending::new(&settings, options.rate, total, renderer, sink);
    for (table, bounds) in &tables {
        let mut pages = Pages::new(&session, table, *bounds);
        let sent = sending.table(&mut pages, stop).await;
        let is_done = matches!(sent, Ok(true));
        let drained = sending.drain(settings.timing.drain_timeout).await;
        if !is_done || !matches!(drained, Ok(true)) {
            say(sending.stood_at(table, bounds, options))?;
            sending.left_out(say)?;
            // What went wrong first says more than what followed.
            sent?;
            drained?;
            return Ok(false);
        }
    }
    say(format!("sent     {} rows: all of them are in Kafka", count(sending.acknowledged())))?;
    Ok(sending.left_out(say)? == 0)
}

fn check(chosen: &[Chosen]) -> Result<(), CommandError> {
    if chosen.len() > 1 {
        let names: Vec<_> = chosen.iter().map(|table| table.table.name()).collect();
        let what = format!("the settings stand for {}: say of which by --outbox", names.join(", "));
        return Err(CommandError::Usage(what));
    }
    if let Some((table, setting)) = chosen.iter().find_map(|table| Some((table, table.names_place()?))) {
        return Err(CommandError::Usage(format!(
            "{setting}: records of {} say where their rows stand in the WAL, which the table does not know: the same bytes \
             cannot be had",
            table.table.name()
        )));
    }
    Ok(())
}

/// With a topic for all of them, no other has to be there.
fn of_topics(kafka: &KafkaSettings, options: &ReplayOptions) -> KafkaSettings {
    let topics = if options.to.is_some() { Vec::new() } else { kafka.topics.clone() };
    // A row that gives no record is left out, and named. A repeat is in no transaction of the relay's: its name is the relay's.
    KafkaSettings { topics, dead_letter_topic: None, position_topic: None, ..kafka.clone() }
}

/// Says what would be sent.
async fn look(
    session: &Session,
    tables: &[(Chosen, Bounds)],
    options: &ReplayOptions,
    say: &mut Say<'_>,
) -> Result<bool, CommandError> {
    let (mut topics, mut bad) = (BTreeMap::<String, u64>::new(), BadRows::default());
    let mut renderer = Renderer::default();
    for (table, bounds) in tables {
        let mut pages = Pages::new(session, table, *bounds);
        while !pages.is_between() || pages.open().await? {
            let Some(asked) = pages.next().await? else { continue };
            match renderer.render(&asked.placed) {
                Ok(record) => {
                    let topic = options.to.as_deref().unwrap_or(record.topic.name);
                    *topics.entry(topic.to_owned()).or_default() += 1;
                }
                Err(error) => bad.note(table.where_is(asked.number, asked.is_ordered), error.to_string()),
            }
        }
    }
    for (topic, rows) in &topics {
        say(format!("topic    {topic}: {} records", count(*rows)))?;
    }
    say("dry run  nothing was sent".to_owned())?;
    Ok(bad.say(say)? == 0)
}

/// Rows that give no record.
#[derive(Debug, Default)]
pub(super) struct BadRows {
    count: u64,
    named: Vec<String>,
}

impl BadRows {
    fn note(&mut self, row: String, reason: String) {
        self.count += 1;
        if self.count <= NAMED_MAX {
            self.named.push(format!("{row}: {reason}"));
        }
    }

    fn count(&self) -> u64 {
        self.count
    }

    /// Names them; how many there are.
    fn say(&self, say: &mut Say<'_>) -> std::io::Result<u64> {
        if self.count > 0 {
            let mut text = format!("left out {} rows that give no record", count(self.count));
            for named in &self.named {
                let _ = write!(text, "\n    {named}");
            }
            say(text)?;
        }
        Ok(self.count)
    }
}

/// How long `rows` take at a rate.
fn takes(rows: u64, rate: u32) -> Duration {
    Duration::from_secs_f64(rows as f64 / f64::from(rate.max(1)))
}
