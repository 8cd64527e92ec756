//! The table's side.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::TryStreamExt as _;
use tokio_postgres::types::PgLsn;

use crate::cli::progress::{Progress, count};
use crate::cli::selection::{Asked, Chosen, CommandError};
use crate::config::Settings;
use crate::postgres::checkpoint::IS_PUBLISHED;
use crate::postgres::names::{literal, table_name};
use crate::postgres::{DatabaseError, Session};
use crate::relay::backfill::end;
use walpost_core::audit::{Entry, Fingerprints, RowAt, Side, View};
use walpost_core::event::PlacedRow;
use walpost_core::event::dead_letter::DeadLetter;
use walpost_core::event::reader::Reader;
use walpost_core::event::render::Renderer;
use walpost_core::lsn::Lsn;

/// Rows between two looks at whether it is to stop.
const LOOK_ROWS: u64 = 1_000;

/// How long transactions that run are waited for: without them a record may seem to be in no row.
const EARLIER_FOR: Duration = Duration::from_secs(2);

/// One snapshot of all tables.
pub(super) struct Snapshot {
    /// Transactions before this one had ended.
    pub(super) oldest: i64,
    /// Whatever the snapshot sees was committed before this position.
    pub(super) end: Lsn,
}

impl Snapshot {
    /// Begins a transaction that reads. The locks come first: a table that is rewritten behind a snapshot is empty for it
    /// (PostgreSQL, "Caveats" of concurrency control).
    pub(super) async fn begin(session: &Session, chosen: &[Chosen]) -> Result<Self, DatabaseError> {
        let tables: Vec<_> = chosen.iter().map(|table| table_name(&table.table)).collect();
        let lock = match tables.is_empty() {
            true => String::new(),
            false => format!("; lock table {} in access share mode", tables.join(", ")),
        };
        let begin = format!("begin isolation level repeatable read, read only{lock}");
        session.client().batch_execute(&begin).await.map_err(session.error("take a snapshot"))?;
        let sql = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
        let row = session.client().query_one(sql, &[]).await.map_err(session.error("take a snapshot"))?;
        // A statement of its own: the position is read behind the snapshot.
        let end = session.client().query_one("select pg_current_wal_insert_lsn()", &[]).await;
        let end: PgLsn = end.map_err(session.error("read the end of the WAL"))?.get(0);
        Ok(Self { oldest: row.get(0), end: Lsn(end.into()) })
    }

    /// Ends the transaction.
    pub(super) async fn end(&self, session: &Session) -> Result<(), DatabaseError> {
        session.client().batch_execute("commit").await.map_err(session.error("end the snapshot"))
    }
}

/// Waits for transactions that run; what follows where they do not end.
pub(super) async fn wait_for_earlier(session: &Session, settings: &Settings) -> Option<String> {
    let within = EARLIER_FOR.min(settings.timing.slot_timeout);
    match end::wait_for_earlier(session, within).await {
        Ok(()) => None,
        Err(error) => {
            tracing::debug!(%error, "transactions that run did not end");
            Some(
                "transactions are open that ran while the topics were read: a record of theirs may be counted as in no row"
                    .to_owned(),
            )
        }
    }
}

/// Takes what is seen of rows.
pub(super) type Enter<'a> = dyn FnMut(Entry) -> std::io::Result<()> + Send + 'a;

/// Reads rows.
pub(super) struct Reading<'a> {
    marks: &'a Fingerprints,
    renderer: Renderer,
    reader: Reader,
    /// Whether rows that cannot be published become letters.
    has_letters: bool,
    /// By the renderer's numbers: whether it was noted.
    seen_topics: Vec<bool>,
    /// The topics that rows name.
    pub(super) topics: BTreeSet<String>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(marks: &'a Fingerprints, has_letters: bool) -> Self {
        Self {
            marks,
            renderer: Renderer::default(),
            reader: Reader::default(),
            has_letters,
            seen_topics: Vec::new(),
            topics: BTreeSet::new(),
        }
    }

    /// Reads all rows of a table that are asked for. With `due`, a slot, only those must have a record of which the ledger
    /// proves it.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn table(
        &mut self,
        session: &Session,
        nth: usize,
        table: &Chosen,
        due: Option<&str>,
        stopped: &AtomicBool,
        progress: &mut Progress,
        enter: &mut Enter<'_>,
    ) -> Result<u64, CommandError> {
        let (is_due, join) = match due {
            None => ("true", String::new()),
            Some(slot) => (
                IS_PUBLISHED,
                format!(
                    "left join walpost.outbox memory on memory.slot_name = {} and memory.table_oid = {}",
                    literal(slot),
                    table.columns.id
                ),
            ),
        };
        let sql = table.statement("audit", is_due, &join, "true", false);
        let mut rows = std::pin::pin!(table.rows(session, &sql).await?);
        let mut read = 0;
        while let Some(row) = rows.try_next().await.map_err(session.error("read the rows of the table"))? {
            let asked = table.asked(&row);
            let is_due = asked.is_so;
            enter(self.entry(nth, &asked, is_due, Side::Row))?;
            read += 1;
            if read % LOOK_ROWS == 0 {
                if stopped.load(Ordering::Relaxed) {
                    return Err(CommandError::Stopped);
                }
                progress.step(|| format!("{}: {} rows read", table.table.name(), count(read)));
            }
        }
        Ok(read)
    }

    /// Reads the rows that have come, or were updated, since the snapshot.
    pub(super) async fn late(
        &mut self,
        session: &Session,
        nth: usize,
        table: &Chosen,
        oldest: i64,
        enter: &mut Enter<'_>,
    ) -> Result<(), CommandError> {
        let sql = table.statement("audit, what came late", "true", "", &is_young(oldest), false);
        let doing = "read the rows that came late";
        session.client().batch_execute("begin read only").await.map_err(session.error(doing))?;
        let mut rows = std::pin::pin!(table.rows(session, &sql).await?);
        while let Some(row) = rows.try_next().await.map_err(session.error(doing))? {
            enter(self.entry(nth, &table.asked(&row), false, Side::Late))?;
        }
        session.client().batch_execute("commit").await.map_err(session.error(doing))?;
        Ok(())
    }

    /// A row of the stream that its record may lack yet.
    pub(super) fn behind(&mut self, placed: &PlacedRow) -> Option<Entry> {
        let record = self.renderer.render(placed).ok()?;
        let (topic, headers) = (record.topic.name, record.headers.iter());
        let seen = self.marks.of(View { topic, key: record.key, value: record.value, headers });
        Some(Entry { identity: seen.identity, body: seen.body, headers: seen.headers, side: Side::Behind })
    }

    fn entry(&mut self, nth: usize, asked: &Asked, is_due: bool, side: fn(RowAt) -> Side) -> Entry {
        let Asked { placed, number, is_ordered, .. } = asked;
        let table = u32::try_from(nth).unwrap_or(u32::MAX);
        let letter = if self.has_letters { self.letter(placed) } else { 0 };
        let row = RowAt { table, number: *number, is_ordered: *is_ordered, is_due, is_bad: false, letter };
        let Ok(record) = self.renderer.render(placed) else {
            let identity = self.marks.of_no_record(table, *number);
            return Entry { identity, body: 0, headers: 0, side: side(RowAt { is_bad: true, ..row }) };
        };
        let known = record.topic.id.0 as usize;
        if self.seen_topics.get(known) != Some(&true) {
            self.seen_topics.resize(self.seen_topics.len().max(known + 1), false);
            self.seen_topics[known] = true;
            self.topics.insert(record.topic.name.to_owned());
        }
        let (topic, headers) = (record.topic.name, record.headers.iter());
        let seen = self.marks.of(View { topic, key: record.key, value: record.value, headers });
        Entry { identity: seen.identity, body: seen.body, headers: seen.headers, side: side(row) }
    }

    fn letter(&mut self, placed: &PlacedRow) -> u128 {
        let table = placed.plan.table();
        let id = self.reader.id(placed);
        self.marks.letter(table, id, || DeadLetter::of(placed, String::new()).row_bytes())
    }
}

/// True for a row `outbox` whose version is by a transaction that had not ended when `oldest` was the oldest that ran. What is
/// from more than half of the transaction ids ago seems to be of the future, and is not.
fn is_young(oldest: i64) -> String {
    format!(
        "not (age(outbox.xmin) < 0 or age(outbox.xmin) = 2147483647 or age(outbox.xmin) > age('{}'::xid))",
        oldest & 0xFFFF_FFFF
    )
}
