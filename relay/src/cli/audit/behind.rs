//! How far the slot is, and which rows lie behind that: they may be missing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt as _;
use std::collections::HashMap;
use std::sync::Arc;

use super::rows::{Enter, Reading};
use crate::cli::progress::Progress;
use crate::cli::selection::{self, Chosen, CommandError};
use crate::config::Settings;
use crate::error::Error;
use crate::postgres::names::literal;
use crate::postgres::preflight::slot_facts;
use crate::postgres::{Session, catalogue, ledger};
use crate::relay::backfill::table::lift_limits;
use walpost_core::event::{PlacedRow, Plan, Position};
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::{Decoder, Message};

/// Between two looks at the slot.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// So much WAL behind the slot's position is read sooner than waited for: where nothing is written it may stay so for half a
/// minute, until Postgres tells of it.
const SMALL_BYTES: u64 = 16 << 20;

/// A relay that gets on confirms within this time.
const SMALL_FOR: Duration = Duration::from_secs(1);

/// What is known of the rows of the snapshot.
pub(super) enum Reached {
    /// All of them are confirmed.
    All,
    /// There is no slot, and nobody will publish anything: what that means.
    NoSlot(String),
    /// The slot is confirmed up to here only.
    UpTo(Lsn),
}

/// Waits until the slot is confirmed up to `end`, as long as somebody moves it, and there is much to wait for.
pub(super) async fn wait(
    settings: &Settings,
    patience: Duration,
    end: Lsn,
    progress: &mut Progress,
) -> Result<Reached, CommandError> {
    let session = Session::connect(&settings.database, settings.timing.connect_timeout).await?;
    let (slot, started) = (&settings.source.slot, Instant::now());
    loop {
        let Some(facts) = slot_facts(&session, slot).await? else {
            let note = format!("there is no slot {slot}: every row is expected to be in Kafka");
            return Ok(Reached::NoSlot(note));
        };
        let confirmed = facts.confirmed().unwrap_or_default();
        if confirmed >= end {
            return Ok(Reached::All);
        }
        let waited = started.elapsed();
        let is_near = end.bytes_since(confirmed) <= SMALL_BYTES && waited >= SMALL_FOR;
        if !facts.active || is_near || waited >= patience {
            return Ok(Reached::UpTo(confirmed));
        }
        progress.step(|| {
            format!("waiting for the slot: it is confirmed up to {confirmed}, the table is at {end}")
        });
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the ledger says now of the tables: whether the rows from before the slot are published, and on which timeline the slot
/// was taken last. Without a ledger nothing is published.
pub(super) struct Remembered {
    are_copied: Vec<bool>,
    timeline: u32,
}

/// Reads it. As the topics are read up to ends that are taken later, what is published by it is in them.
pub(super) async fn remembered(settings: &Settings, chosen: &[Chosen]) -> Result<Remembered, CommandError> {
    let session = Session::connect(&settings.database, settings.timing.connect_timeout).await?;
    let memory = ledger::load(&session, &settings.source.slot).await?;
    let is_copied = |table: &Chosen| {
        let known = memory.as_ref().and_then(|memory| memory.table(table.columns.id));
        known.is_some_and(|known| known.backfilled)
    };
    let timeline = memory.as_ref().and_then(|memory| memory.timeline).unwrap_or(1);
    Ok(Remembered { are_copied: chosen.iter().map(is_copied).collect(), timeline })
}

impl Remembered {
    /// Whether a table's rows from before the slot are published: else its rows are in no stream, and may be still to come.
    pub(super) fn is_copied(&self, nth: usize) -> bool {
        self.are_copied.get(nth).copied().unwrap_or_default()
    }

    /// Whether places in the WAL may have begun anew since the first record: positions of timelines overlap.
    pub(super) fn begins_anew(&self) -> bool {
        self.timeline > 1
    }

    /// What is to be said of tables that are not published yet.
    pub(super) fn note(&self, chosen: &[Chosen]) -> Option<String> {
        let tables = chosen.iter().enumerate().filter(|(nth, _)| !self.is_copied(*nth));
        let names: Vec<_> = tables.map(|(_, table)| table.table.name()).collect();
        (!names.is_empty()).then(|| {
            format!(
                "the rows that {} held before the slot are not all published yet (first copy, or recovery): a row that has no \
                 record counts as missing only where the ledger proves that it was published",
                names.join(", ")
            )
        })
    }
}

/// Reads what lies between the slot's position and `end` from a copy of the slot that is gone with the connection; the slot
/// itself is not touched. Returns how many rows that are.
pub(super) async fn read(
    settings: &Settings,
    chosen: &[Chosen],
    end: Lsn,
    reading: &mut Reading<'_>,
    enter: &mut Enter<'_>,
) -> Result<u64, CommandError> {
    let session = Session::connect(&settings.database, settings.timing.connect_timeout).await?;
    lift_limits(&session).await?;
    let (slot, copy) = (&settings.source.slot, format!("walpost_audit_{:016x}", rand::random::<u64>()));
    let sql = "select from pg_copy_logical_replication_slot($1::text::name, $2::text::name, true)";
    session.client().execute(sql, &[slot, &copy]).await.map_err(session.error("copy the slot"))?;
    let publication = format!("\"{}\"", settings.source.publication);
    let sql = format!(
        "select data from pg_logical_slot_get_binary_changes({}, '{end}'::pg_lsn, null, 'proto_version', '1', \
         'publication_names', {}, 'binary', 'true')",
        literal(&copy),
        literal(&publication)
    );
    let doing = "read what lies behind the slot's position";
    let messages = session.client().query_raw(&sql, std::iter::empty::<i64>()).await;
    let mut messages = std::pin::pin!(messages.map_err(session.error(doing))?);
    // Types cannot be asked for on a connection that is giving rows.
    let catalogue_session = selection::connect(settings).await?;
    let (mut decoder, mut plans) = (Decoder::default(), HashMap::new());
    let mut rows = 0;
    while let Some(row) = messages.try_next().await.map_err(session.error(doing))? {
        let message = Bytes::copy_from_slice(row.get(0));
        match decoder.decode(&message).map_err(Error::from)? {
            Message::Relation(relation) => {
                let Some(table) = chosen.iter().find(|table| table.columns.id == relation.id) else {
                    continue;
                };
                let types = catalogue::types(&catalogue_session, [&*relation], &[]).await?;
                let plan = Plan::new(&table.table, &relation, &types).map_err(Error::from)?;
                plans.insert(relation.id, Arc::new(plan));
            }
            Message::Insert(insert) => {
                let Some(plan) = plans.get(&insert.relation).map(Arc::clone) else { continue };
                let position = Position { lsn: Lsn::ZERO, ordinal: 0, committed_at: Position::UNKNOWN_TIME };
                if let Some(entry) = reading.behind(&PlacedRow { row: insert.row, plan, position }) {
                    enter(entry)?;
                    rows += 1;
                }
            }
            // Logical messages are not asked for: no table holds them.
            Message::Begin(_)
            | Message::Commit(_)
            | Message::Type(_)
            | Message::Logical(_)
            | Message::Ignored(_) => {}
        }
    }
    Ok(rows)
}

/// Whether it is known which rows must be there, and what is to be said.
pub(super) fn judge(read: Result<u64, CommandError>, confirmed: Lsn, end: Lsn) -> (bool, Option<String>) {
    match read {
        Ok(0) => (true, None),
        Ok(rows) => {
            let note = format!(
                "the slot is confirmed up to {confirmed}, the tables are at {end}: {rows} rows lie between, and may be missing"
            );
            (true, Some(note))
        }
        Err(error) => {
            let note = format!(
                "the slot is confirmed up to {confirmed}, the tables are at {end}, and what lies between cannot be read \
                 ({error}): a row that has no record counts as missing only where the ledger proves that it was published"
            );
            (false, Some(note))
        }
    }
}
