//! Removes published rows from the outbox, which is otherwise the second copy of every event.
//!
//! A row goes only when [`IS_PUBLISHED`] proves that it is in Kafka and the retention has passed. Rows are looked
//! through in the order of their ids, a batch in each transaction, each found by its id and removed by its place in its
//! table, which only together are its own; no row that a writer holds is waited for, since writers only insert. Rows that
//! nothing proves are passed over and counted. After each batch the cleaner rests as long as the
//! batch took, so it takes half of one connection's time at the most, and autovacuum can keep up.
//!
//! It works on a connection of its own: a slow removal must not delay a confirm. It fails alone, too: nothing is lost
//! when rows stay.

use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep};

use crate::config::{CleanRule, CleanSettings, Settings};
use crate::observe::board::Vitals;
use crate::postgres::catalogue::{self, Looked};
use crate::postgres::checkpoint::IS_PUBLISHED;
use crate::postgres::names::{quoted, table_name};
use crate::postgres::{DatabaseError, Session};
use walpost_core::event::OutboxTable;
use walpost_core::pgoutput::Oid;

/// The cleaner's task; it ends when this is dropped.
pub(super) struct Cleaner(Option<JoinHandle<()>>);

impl Cleaner {
    /// Starts it, where the settings ask for it.
    #[must_use]
    pub(super) fn start(settings: &Settings, vitals: &Vitals) -> Self {
        let Some(clean) = settings.clean else { return Self(None) };
        let work = Work { settings: settings.clone(), clean, vitals: vitals.clone() };
        Self(Some(tokio::spawn(work.run())))
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

struct Work {
    settings: Settings,
    clean: CleanSettings,
    vitals: Vitals,
}

/// A table that is cleaned.
struct Table<'a> {
    session: &'a Session,
    clean: CleanSettings,
    slot: &'a str,
    table: OutboxTable,
    /// Its object id.
    oid: Oid,
    /// The column with the time at which a row was written.
    time: Option<String>,
}

/// What one transaction did.
struct Batch {
    looked: i64,
    removed: i64,
    /// Rows past the retention that nothing proves to be in Kafka.
    unproven: i64,
    /// Rows within the retention.
    kept: i64,
    last: Option<i64>,
}

impl Work {
    async fn run(self) {
        let mut ticks = interval(self.clean.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.clean().await {
                Ok(0) => {}
                Ok(rows) => tracing::debug!(rows, "published rows removed from the outbox"),
                Err(error) => not_removed(&error),
            }
        }
    }

    /// Removes what is due now; returns the number of rows. What is wrong with one table is no reason to leave the others.
    async fn clean(&self) -> Result<u64, DatabaseError> {
        let session = Session::connect(&self.settings.database, self.settings.timing.connect_timeout).await?;
        let source = &self.settings.source;
        let tables =
            session.within("look for the tables", catalogue::expand(&session, &source.tables)).await?;
        let (mut total, mut unproven) = (0, 0);
        for named in &tables {
            match self.clean_one(&session, named).await {
                Ok((removed, left)) => (total, unproven) = (total + removed, unproven + left),
                Err(error) if tables.len() == 1 => return Err(error),
                Err(error) => not_removed(&error),
            }
        }
        self.vitals.show_overdue(unproven);
        if unproven > 0 {
            tracing::debug!(
                rows = unproven,
                "rows past the retention stay: nothing proves yet that Kafka has them"
            );
        }
        Ok(total)
    }
}

impl Work {
    async fn clean_one(&self, session: &Session, named: &OutboxTable) -> Result<(u64, u64), DatabaseError> {
        let looked = session.within("look up the columns", catalogue::look(session, named)).await?;
        let table = Table::look_at(session, &self.settings.source.slot, self.clean, looked)?;
        table.clean(&self.vitals).await
    }
}

fn not_removed(error: &DatabaseError) {
    tracing::warn!(%error, "published rows were not removed; trying again later");
}

impl<'a> Table<'a> {
    /// Removes what is due now; returns the number of rows, and of those that stay though they are past the retention.
    async fn clean(&self, vitals: &Vitals) -> Result<(u64, u64), DatabaseError> {
        let session = self.session;
        let Some(newest) = session.within("find the rows to keep", self.newest_due()).await? else {
            return Ok((0, 0));
        };
        let (sql, mut last, mut total, mut unproven) = (self.statement(), i64::MIN, 0, 0);
        loop {
            let started = Instant::now();
            let batch = session.within("remove published rows", self.batch(&sql, last, newest)).await?;
            let removed = u64::try_from(batch.removed).unwrap_or_default();
            vitals.count_removed(removed);
            total += removed;
            unproven += u64::try_from(batch.unproven).unwrap_or_default();
            match batch.last {
                // Only the retention ends it: what follows a batch that it keeps is younger. A batch of which nothing
                // could go since nothing proves its rows says nothing about those that follow.
                Some(at) if batch.looked >= self.clean.batch_rows && batch.kept < batch.looked => last = at,
                _ => break,
            }
            sleep(started.elapsed().max(Duration::from_millis(1))).await;
        }
        Ok((total, unproven))
    }

    /// The highest id that the retention lets go; by age the table is asked row by row.
    async fn newest_due(&self) -> Result<Option<i64>, DatabaseError> {
        let CleanRule::AllButNewest(kept) = self.clean.rule else { return Ok(Some(i64::MAX)) };
        let (session, table, id) = (self.session, self.table(), self.id());
        let sql = format!(
            "select {id}::bigint from only {table} where {id} is not null order by {id} desc offset {kept} limit 1"
        );
        let row = session.client().query_opt(&sql, &[]).await;
        Ok(row.map_err(session.error("find the rows to keep"))?.map(|row| row.get(0)))
    }

    fn statement(&self) -> String {
        let due = match self.clean.rule {
            CleanRule::OlderThan(seconds) => {
                let written = quoted(self.time.as_deref().unwrap_or_default());
                format!("outbox.{written} < clock_timestamp() - interval '{seconds} seconds'")
            }
            CleanRule::AllButNewest(_) => "true".to_owned(),
        };
        match &self.table.order {
            Some(_) => self.ordered(&due),
            None => self.unordered(&due),
        }
    }

    /// A batch of a table that nothing orders: whatever is due in it. It is looked through whole each time, which a table
    /// that is cleaned is small enough for.
    fn unordered(&self, due: &str) -> String {
        let (table, oid) = (self.table(), self.oid);
        format!(
            "with looked as materialized ( \
                 select outbox.tableoid as part, outbox.ctid as place from only {table} outbox, walpost.outbox memory \
                 where memory.slot_name = $1 and memory.table_oid = {oid} and $2::bigint <= $3::bigint and {due} and {IS_PUBLISHED} limit $4), \
             removed as (delete from only {table} outbox using looked \
                 where outbox.ctid = looked.place and outbox.tableoid = looked.part and {due} returning 1) \
             select count(*), (select count(*) from removed), 0::bigint, 0::bigint, \
                 case when count(*) > 0 then 0::bigint end from looked"
        )
    }

    fn ordered(&self, due: &str) -> String {
        let (table, oid, id) = (self.table(), self.oid, self.id());
        format!(
            "with looked as materialized ( \
                 select outbox.tableoid as part, outbox.ctid as place, outbox.{id}::bigint as id, {due} as due, \
                     {IS_PUBLISHED} as published \
                 from only {table} outbox, walpost.outbox memory \
                 where memory.slot_name = $1 and memory.table_oid = {oid} and outbox.{id} > $2::bigint and outbox.{id} <= $3::bigint \
                 order by outbox.{id} fetch first $4 rows with ties), \
             removed as (delete from only {table} outbox using looked \
                 where outbox.ctid = looked.place and outbox.tableoid = looked.part and outbox.{id} = looked.id \
                 and looked.due and looked.published returning 1) \
             select count(*), (select count(*) from removed), count(*) filter (where due and not published), \
                 count(*) filter (where not due), max(id) from looked"
        )
    }

    async fn batch(&self, sql: &str, last: i64, newest: i64) -> Result<Batch, DatabaseError> {
        let session = self.session;
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&self.slot, &last, &newest, &self.clean.batch_rows];
        let row = session.client().query_one(sql, &values).await;
        let row = row.map_err(session.error("remove published rows"))?;
        let [looked, removed, unproven, kept] = [0, 1, 2, 3].map(|index| row.get(index));
        Ok(Batch { looked, removed, unproven, kept, last: row.get(4) })
    }

    fn table(&self) -> String {
        table_name(&self.table)
    }

    fn id(&self) -> String {
        quoted(self.table.order.as_deref().unwrap_or_default())
    }

    /// What rows are found by. Without that none is removed, which loses nothing.
    fn look_at(
        session: &'a Session,
        slot: &'a str,
        clean: CleanSettings,
        looked: Option<Looked>,
    ) -> Result<Self, DatabaseError> {
        let refused = |what: &str| Err(DatabaseError::of_stream("look at the outbox", session.place(), what));
        let Some(looked) = looked else { return refused("the table is not there") };
        let time = looked.time_column().map(str::to_owned);
        let (by_age, oid) = (matches!(clean.rule, CleanRule::OlderThan(_)), looked.relation.id);
        if by_age && time.is_none() {
            return refused(
                "--clean=age needs a column of the type timestamptz or timestamp that says when a row was written: name \
                 it in --time, or clean by count",
            );
        }
        let table = match looked.table {
            Ok(table) => table,
            Err(error) => return refused(&error.to_string()),
        };
        if table.is_partitioned {
            return refused(
                "--clean does not go with a partitioned table: detach and drop its old partitions instead",
            );
        }
        if table.order.is_none() && !by_age {
            return refused(
                "--clean=count needs an integer column that rises with each insert, which is the primary key or --order: \
                 this table has none, so clean by age",
            );
        }
        Ok(Self { session, clean, slot, table, oid, time })
    }
}
