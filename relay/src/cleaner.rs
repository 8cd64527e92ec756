//! Removes published rows from the outbox, which is otherwise the second copy of every event.
//!
//! A row goes only when [`IS_PUBLISHED`] proves that it is in Kafka and the retention has passed. Rows are looked
//! through in the order of their ids, a batch in each transaction, each found by its key and removed by its place; no
//! row that a writer holds is waited for, since writers only insert. After each batch the cleaner rests as long as the
//! batch took, so it takes half of one connection's time at the most, and autovacuum can keep up.
//!
//! It works on a connection of its own: a slow removal must not delay a confirm. It fails alone, too: nothing is lost
//! when rows stay.

use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval, sleep};

use crate::backfill::quoted;
use crate::catalogue;
use crate::config::{CleanRule, CleanSettings, Settings};
use crate::database::{DatabaseError, Session};
use crate::outbox::{OutboxTable, Role};
use crate::published::IS_PUBLISHED;
use crate::vitals::Vitals;

/// The cleaner's task; it ends when this is dropped.
pub struct Cleaner(Option<JoinHandle<()>>);

impl Cleaner {
    /// Starts it, where the settings ask for it.
    #[must_use]
    pub fn start(settings: &Settings, vitals: &Vitals) -> Self {
        let Some(clean) = settings.clean else { return Self(None) };
        let named = settings.source.table.clone();
        let work = Work { settings: settings.clone(), named, clean, vitals: vitals.clone() };
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
    /// The outbox with every name that a column may have.
    named: OutboxTable,
    clean: CleanSettings,
    vitals: Vitals,
}

/// What one transaction did.
struct Batch {
    looked: i64,
    removed: i64,
    last: Option<i64>,
}

impl Work {
    async fn run(mut self) {
        let mut ticks = interval(self.clean.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.clean().await {
                Ok(0) => {}
                Ok(rows) => tracing::debug!(rows, "published rows removed from the outbox"),
                Err(error) => tracing::warn!(%error, "published rows were not removed; trying again later"),
            }
        }
    }

    /// Removes what is due now; returns the number of rows.
    async fn clean(&mut self) -> Result<u64, DatabaseError> {
        let session = Session::connect(&self.settings.database, self.settings.timing.connect_timeout).await?;
        let resolving = catalogue::resolved(&session, &self.named);
        self.settings.source.table = session.within("look up the columns", resolving).await?;
        let Some(newest) = session.within("find the rows to keep", self.newest_due(&session)).await? else {
            return Ok(0);
        };
        let (sql, mut last, mut total) = (self.statement(), i64::MIN, 0);
        loop {
            let started = Instant::now();
            let removing = self.batch(&session, &sql, last, newest);
            let batch = session.within("remove published rows", removing).await?;
            let removed = u64::try_from(batch.removed).unwrap_or_default();
            self.vitals.count_removed(removed);
            total += removed;
            match batch.last {
                // A batch of which nothing could go: what follows is younger.
                Some(at) if batch.looked == self.clean.batch_rows && removed > 0 => last = at,
                _ => return Ok(total),
            }
            sleep(started.elapsed().max(Duration::from_millis(1))).await;
        }
    }

    /// The highest id that the retention lets go; by age the table is asked row by row.
    async fn newest_due(&self, session: &Session) -> Result<Option<i64>, DatabaseError> {
        let CleanRule::AllButNewest(kept) = self.clean.rule else { return Ok(Some(i64::MAX)) };
        let (table, id) = (self.table(), self.column(Role::Id));
        let sql = format!("select {id}::bigint from {table} order by {id} desc offset {kept} limit 1");
        let row = session.client().query_opt(&sql, &[]).await;
        Ok(row.map_err(session.error("find the rows to keep"))?.map(|row| row.get(0)))
    }

    fn statement(&self) -> String {
        let (table, id) = (self.table(), self.column(Role::Id));
        let due = match self.clean.rule {
            CleanRule::OlderThan(seconds) => {
                let written = self.column(Role::CreatedAt);
                format!("outbox.{written} < clock_timestamp() - interval '{seconds} seconds'")
            }
            CleanRule::AllButNewest(_) => "true".to_owned(),
        };
        format!(
            "with looked as materialized ( \
                 select outbox.ctid as place, outbox.{id}::bigint as id, {due} and {IS_PUBLISHED} as goes \
                 from {table} outbox, walpost.slot memory \
                 where memory.slot_name = $1 and outbox.{id} > $2::bigint and outbox.{id} <= $3::bigint \
                 order by outbox.{id} limit $4), \
             removed as (delete from {table} outbox using looked \
                 where outbox.ctid = looked.place and looked.goes returning 1) \
             select count(*), (select count(*) from removed), max(id) from looked"
        )
    }

    async fn batch(
        &self,
        session: &Session,
        sql: &str,
        last: i64,
        newest: i64,
    ) -> Result<Batch, DatabaseError> {
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&self.settings.source.slot, &last, &newest, &self.clean.batch_rows];
        let row = session.client().query_one(sql, &values).await;
        let row = row.map_err(session.error("remove published rows"))?;
        Ok(Batch { looked: row.get(0), removed: row.get(1), last: row.get(2) })
    }

    fn table(&self) -> String {
        let table = &self.settings.source.table;
        format!("{}.{}", quoted(&table.schema), quoted(&table.table))
    }

    fn column(&self, role: Role) -> String {
        quoted(self.settings.source.table.column(role).unwrap_or_default())
    }
}
