//! What Postgres says of the slot, its log and the outbox: asked on a timer, by a connection and a thread of its own, so
//! that nothing on the way of an event waits for it.
//!
//! Any role may read the slot's positions; one with `pg_monitor` sees the size of `pg_wal` as well. What the role may not
//! see is absent, never 0. The statements read a handful of rows and write nothing.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_postgres::types::PgLsn;
use tokio_util::sync::CancellationToken;

use crate::config::{DatabaseSettings, Settings, SourceSettings};
use crate::observe::board::Vitals;
use crate::postgres::catalogue::{self, Looked};
use crate::postgres::names::quoted;
use crate::postgres::preflight::{self, SlotFacts};
use crate::postgres::{DatabaseError, Session};
use walpost_core::clock;
use walpost_core::event::OutboxTable;
use walpost_core::lsn::Lsn;

/// What was found.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When, milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The server's version.
    pub server_version: String,
    /// The end of the log.
    pub wal_end: Lsn,
    /// Bytes of `pg_wal`, where the role may see it.
    pub wal_directory_bytes: Option<u64>,
    /// `max_slot_wal_keep_size` in bytes, where there is a limit.
    pub wal_keep_max_bytes: Option<u64>,
    /// The slot, where it exists.
    pub slot: Option<SlotFacts>,
    /// The outbox.
    pub outbox: OutboxSample,
}

/// What was found of the outbox.
#[derive(Debug, Clone, Default)]
pub struct OutboxSample {
    /// Rows, as Postgres' statistics have it.
    pub rows: Option<u64>,
    /// When the row with the lowest number was written, milliseconds since 1970-01-01 UTC; absent when there is none, or
    /// it may not be read.
    pub oldest_row_ms: Option<i64>,
}

impl Sample {
    /// Log that is kept for the slot.
    #[must_use]
    pub fn retained_wal_bytes(&self) -> Option<u64> {
        Some(self.wal_end.bytes_since(self.slot.as_ref()?.restart()?))
    }

    /// Log that is written and not confirmed.
    #[must_use]
    pub fn confirm_lag_bytes(&self) -> Option<u64> {
        Some(self.wal_end.bytes_since(self.slot.as_ref()?.confirmed()?))
    }
}

/// Asks once.
///
/// # Errors
/// When Postgres does not answer, or refuses.
pub async fn take(session: &Session, source: &SourceSettings) -> Result<Sample, DatabaseError> {
    let sql = "select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end, \
               current_setting('server_version'), \
               (select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size'), \
               has_function_privilege('pg_ls_waldir()', 'execute')";
    let row = session.client().query_one(sql, &[]).await.map_err(session.error("read the end of the log"))?;
    let keep_megabytes: Option<i64> = row.get(2);
    let may_see_wal: bool = row.get(3);
    Ok(Sample {
        at_ms: clock::unix_millis(),
        server_version: row.get(1),
        wal_end: Lsn(row.get::<_, Option<PgLsn>>(0).map_or(0, Into::into)),
        wal_directory_bytes: if may_see_wal { beside(wal_directory(session).await)? } else { None },
        // -1 is no limit.
        wal_keep_max_bytes: keep_megabytes.and_then(|size| u64::try_from(size).ok()).map(|size| size << 20),
        slot: preflight::slot_facts(session, &source.slot).await?,
        outbox: outboxes(session, &source.tables).await?,
    })
}

/// What is good to know, and no reason to know nothing of the slot when Postgres refuses it: the table may be locked for a
/// migration, or its front be full of rows that are removed and not yet vacuumed.
fn beside<T: Default>(answer: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
    match answer {
        Err(error) if error.sqlstate().is_some() => Ok(T::default()),
        answer => answer,
    }
}

async fn wal_directory(session: &Session) -> Result<Option<u64>, DatabaseError> {
    let row = session.client().query_one("select sum(size)::bigint from pg_ls_waldir()", &[]).await;
    let bytes: Option<i64> = row.map_err(session.error("read the size of pg_wal"))?.get(0);
    Ok(bytes.and_then(|bytes| u64::try_from(bytes).ok()))
}

/// Of all tables that are followed.
async fn outboxes(session: &Session, tables: &[OutboxTable]) -> Result<OutboxSample, DatabaseError> {
    let mut all = OutboxSample::default();
    for table in beside(catalogue::expand(session, tables).await)? {
        let one = beside(outbox(session, &table).await)?;
        all.rows = all.rows.map_or(one.rows, |rows| Some(rows + one.rows.unwrap_or_default()));
        all.oldest_row_ms = [all.oldest_row_ms, one.oldest_row_ms].into_iter().flatten().min();
    }
    Ok(all)
}

async fn outbox(session: &Session, table: &OutboxTable) -> Result<OutboxSample, DatabaseError> {
    let looked = catalogue::look(session, table).await?;
    let time = looked.as_ref().and_then(Looked::time_column);
    let Some(Looked { table: Ok(table), .. }) = &looked else { return Ok(OutboxSample::default()) };
    let names = [table.order.as_deref(), time].map(Option::unwrap_or_default);
    let sql = "select pg_stat_get_live_tuples(c.oid), (select count(*) = 2 from pg_attribute a where a.attrelid = c.oid \
               and a.attname in ($3, $4) and has_column_privilege(c.oid, a.attnum, 'select')) \
               and has_schema_privilege(n.oid, 'usage') \
               from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2";
    let [id, created_at] = names;
    let row = session.client().query_opt(sql, &[&table.schema, &table.table, &id, &created_at]).await;
    let Some(row) = row.map_err(session.error("read the statistics of the outbox"))? else {
        return Ok(OutboxSample::default());
    };
    let (rows, may_read): (Option<i64>, bool) = (row.get(0), row.get(1));
    let rows = rows.and_then(|rows| u64::try_from(rows).ok());
    if !may_read {
        return Ok(OutboxSample { rows, oldest_row_ms: None });
    }
    let (id, created_at) = (quoted(id), quoted(created_at));
    // By number, which is the primary key: the oldest by time would need a look at every row.
    let sql = format!(
        "select case when isfinite({created_at}) then (extract(epoch from {created_at}) * 1000)::bigint end \
         from {}.{} order by {id} limit 1",
        quoted(&table.schema),
        quoted(&table.table)
    );
    let row = session.client().query_opt(&sql, &[]).await;
    let oldest_row_ms =
        row.map_err(session.error("read the oldest row of the outbox"))?.and_then(|row| row.get(0));
    Ok(OutboxSample { rows, oldest_row_ms })
}

/// Asks on a timer, until it is stopped. One that fails asks again at the next turn, with a new connection.
pub async fn keep_asking(settings: Settings, every: Duration, vitals: Vitals, stop: CancellationToken) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut session = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        session = match ask(session, &settings, &vitals).await {
            Ok(session) => Some(session),
            Err(error) => {
                vitals.sample_failed();
                // The relay says so itself, where it is the same server that is away.
                tracing::debug!(%error, "Postgres was not asked how the slot is");
                None
            }
        };
    }
}

async fn ask(
    session: Option<Session>,
    settings: &Settings,
    vitals: &Vitals,
) -> Result<Session, DatabaseError> {
    let session = match session {
        Some(session) => session,
        None => connect(&settings.monitor_database, settings.timing.connect_timeout).await?,
    };
    let source = &settings.source;
    let sample = session.within("ask how the slot is", take(&session, source)).await?;
    vitals.sampled(sample);
    Ok(session)
}

async fn connect(database: &DatabaseSettings, timeout: Duration) -> Result<Session, DatabaseError> {
    let session = Session::connect(database, timeout).await?;
    // A question that takes longer is not worth its answer, and must not hold back vacuum, nor the others.
    let limit = format!(
        "set statement_timeout = {}; set default_transaction_read_only = on",
        (timeout / 4).as_millis().max(1)
    );
    let during = "limit its own statements";
    let limited = async { session.client().batch_execute(&limit).await.map_err(session.error(during)) };
    session.within(during, limited).await?;
    Ok(session)
}
