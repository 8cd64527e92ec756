//! The session that has the slot: the only one that writes about it.

use tokio_postgres::types::{PgLsn, ToSql};

use super::TableMemory;
use super::entry::{GUESSES, enter};
use crate::config::SourceSettings;
use crate::postgres::names::{own_rows, quoted, table_name};
use crate::postgres::preflight::{FoundTable, catalogue_rows};
use crate::postgres::{DatabaseError, Session};
use walpost_core::event::OutboxTable;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Oid;
use walpost_core::window::copied::CopyId;

/// The session that may write about a slot: that of the latest epoch, as long as the catalogue has the publication as
/// it is remembered, for each of its tables. All of it is asked for in the statement that writes, so nothing is written past
/// an alteration that the statement's snapshot shows.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The slot.
    pub slot: String,
    /// The epoch that the session began.
    pub epoch: i64,
    /// The publication.
    pub publication: String,
    /// The tables.
    pub outboxes: Vec<Oid>,
    /// The prefixes of logical messages.
    pub messages: Vec<String>,
}

impl Holder {
    /// A condition on the row of the slot: `$1` to `$5` are what [`Holder`] is made of. Its tables and messages are all that are
    /// followed: what is brought in beside it would be passed over. One that was dropped has nothing more to say.
    fn holds(session: &Session) -> String {
        format!(
            "slot_name = $1 and epoch = $2 and messages <@ $5::text[] and not exists (select from unnest($4::oid[]) followed (id) \
             left join walpost.outbox kept on kept.slot_name = $1 and kept.table_oid = followed.id \
             where (kept.publication_rows = {}) is not true and exists (select from pg_class where oid = followed.id)) \
             and not exists (select from walpost.outbox other join pg_class on oid = other.table_oid \
             where other.slot_name = $1 and other.table_oid <> all($4))",
            catalogue_rows(session, "$3", "followed.id")
        )
    }

    /// A condition: no rows are known to be missing.
    const NOTHING_MISSING: &'static str = "not exists (select from walpost.outbox found where found.slot_name = $1 \
         and found.table_oid = any($4) and found.republish_why is not null)";

    /// Remembers that the slot may be moved up to `confirmed`, durably. `false`: another relay has taken the slot,
    /// nothing is remembered about it any more, or rows may be missing in the stream.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn remember(&self, session: &Session, confirmed: Lsn) -> Result<bool, DatabaseError> {
        let sql = format!(
            "update walpost.slot set confirmed_lsn = greatest(confirmed_lsn, $6), updated_at = clock_timestamp() \
             where {} and {}",
            Self::holds(session),
            Self::NOTHING_MISSING
        );
        self.write(session, &sql, &PgLsn::from(confirmed.0), "remember the position in walpost.slot").await
    }

    /// Remembers that every row of a transaction below `below` is in Kafka, of each table that is copied: before that it
    /// proves nothing. `false`: as for [`Holder::remember`].
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cover(&self, session: &Session, below: i64) -> Result<bool, DatabaseError> {
        let sql = format!(
            "with held as (select 1 from walpost.slot where {} and {} for update), \
             covered as (update walpost.outbox set published_below = $6::bigint::text::xid8, updated_at = clock_timestamp() \
                 where slot_name = $1 and table_oid = any($4) and backfilled_at is not null and exists (select from held)) \
             select from held",
            Self::holds(session),
            Self::NOTHING_MISSING
        );
        self.write(session, &sql, &below, "write walpost.outbox").await
    }

    /// Remembers that the rows of a table from before the slot are published by this copy, and with them whatever was found
    /// missing. `false`: another relay has taken the slot, the publication was altered meanwhile, or something was found
    /// that asks for another copy.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn finish_backfill(&self, session: &Session, copy: CopyId) -> Result<bool, DatabaseError> {
        let CopyId { table, through, streamed_from } = copy;
        let sql = format!(
            "with held as (select 1 from walpost.slot where {} for update) \
             update walpost.outbox set backfilled_at = clock_timestamp(), republish_why = null, \
                 updated_at = clock_timestamp() \
             where slot_name = $1 and table_oid = $6 and copy_through = {through} \
             and streamed_from = '{streamed_from}'::xid8 and exists (select from held)",
            Self::holds(session)
        );
        self.write(session, &sql, &table, "write walpost.outbox").await
    }

    async fn write(
        &self,
        session: &Session,
        sql: &str,
        value: &(dyn ToSql + Sync),
        doing: &'static str,
    ) -> Result<bool, DatabaseError> {
        let values: [&(dyn ToSql + Sync); 6] =
            [&self.slot, &self.epoch, &self.publication, &self.outboxes, &self.messages, value];
        let rows = session.client().execute(sql, &values).await;
        Ok(rows.map_err(session.error(doing))? == 1)
    }
}

/// Begins a new epoch, once the slot is taken on `timeline` and found not to have passed `remembered`; returns it and the
/// position that is remembered, or `None` when nothing is remembered about the slot.
///
/// # Errors
/// When the database refuses.
pub async fn take(
    session: &Session,
    slot: &str,
    timeline: u32,
    remembered: Lsn,
) -> Result<Option<(i64, Lsn)>, DatabaseError> {
    let sql = "update walpost.slot set epoch = epoch + 1, timeline = $2, \
               confirmed_lsn = greatest(confirmed_lsn, $3), updated_at = clock_timestamp() \
               where slot_name = $1 returning epoch, confirmed_lsn";
    let timeline = i32::try_from(timeline).unwrap_or(i32::MAX);
    let row = session.client().query_opt(sql, &[&slot, &timeline, &PgLsn::from(remembered.0)]).await;
    let row = row.map_err(session.error("write walpost.slot"))?;
    Ok(row.map(|row| (row.get(0), Lsn(row.get::<_, PgLsn>(1).into()))))
}

/// Brings what is remembered of the tables in line with those that are followed: new ones, whose rows are to be published
/// from the table; what was guessed; and names. What a pattern stands for and is dropped is forgotten: the pattern says of its
/// last rows what they are.
///
/// # Errors
/// When the database refuses.
pub async fn follow(
    session: &Session,
    holder: &Holder,
    source: &SourceSettings,
    tables: &[FoundTable],
) -> Result<(), DatabaseError> {
    for table in tables {
        add(session, &holder.slot, table).await?;
    }
    add_messages(session, source).await?;
    let sql = "delete from walpost.outbox where slot_name = $1 and pattern = any($3) and table_oid <> all($2) \
               and not exists (select from pg_class where oid = table_oid)";
    let patterns: Vec<_> =
        source.tables.iter().filter_map(OutboxTable::pattern).map(|all| all.to_string()).collect();
    let forgotten = session.client().execute(sql, &[&holder.slot, &holder.outboxes, &patterns]).await;
    forgotten.map_err(session.error("forget tables that were dropped"))?;
    Ok(())
}

/// Remembers the prefixes of messages that are followed, beside those that are remembered.
///
/// # Errors
/// When the database refuses.
pub async fn add_messages(session: &Session, source: &SourceSettings) -> Result<(), DatabaseError> {
    let sql = "update walpost.slot set messages = array(select distinct m from unnest(messages || $2) m order by m), \
               updated_at = clock_timestamp() where slot_name = $1 and not messages @> $2";
    let written = session.client().execute(sql, &[&source.slot, &source.prefixes()]).await;
    written.map_err(session.error("remember the messages that are followed"))?;
    Ok(())
}

/// Remembers a table, where it is not remembered; what was guessed of it before stays.
///
/// # Errors
/// When the database refuses.
pub async fn add(session: &Session, slot: &str, found: &FoundTable) -> Result<(), DatabaseError> {
    let update = format!(
        "publication_oid = coalesce(old.publication_oid, excluded.publication_oid), \
         publication_table_oid = coalesce(old.publication_table_oid, excluded.publication_table_oid), \
         publication_rows = coalesce(old.publication_rows, excluded.publication_rows), guesses = {GUESSES} \
         where row(old.table_name, old.pattern, old.publication_rows is null, old.guesses) is distinct from \
             row(excluded.table_name, excluded.pattern, false, {GUESSES})"
    );
    enter(session, slot, found, "", &update).await
}

/// Fixes which rows come from the table, where that is not fixed: those up to the highest id that is visible now.
/// See [`crate::relay::backfill`] on what has to be waited for before.
///
/// # Errors
/// When the database refuses.
pub async fn fix_copy(
    session: &Session,
    slot: &str,
    memory: &TableMemory,
    epoch: i64,
    table: &OutboxTable,
) -> Result<(), DatabaseError> {
    // One statement has one snapshot. A table that is empty has an end all the same, and one without an order none.
    let through = match &table.order {
        Some(id) => {
            format!("coalesce((select max({})::bigint from {}), {})", quoted(id), own_rows(table), i64::MIN)
        }
        None => format!(
            "case when exists (select from {}) then {} else {} end",
            own_rows(table),
            i64::MAX,
            i64::MIN
        ),
    };
    let sql = format!(
        "update walpost.outbox set copy_through = {through}, copied_through = null, copy_order = $4, \
             streamed_from = pg_snapshot_xmin(pg_current_snapshot()), updated_at = clock_timestamp() \
         where slot_name = $1 and table_oid = $2 and {OF_THE_EPOCH} and backfilled_at is null \
         and (copy_through is null or streamed_from is null) and to_regclass($5)::oid = table_oid"
    );
    let (order, name) = (table.order.as_deref().unwrap_or_default(), table_name(table));
    // Another table may have its name by now.
    let written = session.client().execute(&sql, &[&slot, &memory.oid, &epoch, &order, &name]).await;
    written.map_err(session.error("fix which rows come from the table"))?;
    Ok(())
}

/// Forgets the end of a copy, which was told in numbers of another column than the table is ordered by now.
///
/// # Errors
/// When the database refuses.
pub async fn forget_copy(session: &Session, slot: &str, table: Oid, epoch: i64) -> Result<(), DatabaseError> {
    let sql = format!(
        "update walpost.outbox set copy_through = null, copied_through = null, copy_order = null \
         where slot_name = $1 and table_oid = $2 and {OF_THE_EPOCH} and backfilled_at is null"
    );
    let written = session.client().execute(&sql, &[&slot, &table, &epoch]).await;
    written.map_err(session.error("forget which rows come from the table"))?;
    Ok(())
}

/// Remembers that of a copy the rows up to `id` are in Kafka. `false`: another relay has taken the slot, or it is
/// another copy by now.
///
/// # Errors
/// When the database refuses.
pub async fn save_copy(
    session: &Session,
    slot: &str,
    epoch: i64,
    copy: CopyId,
    id: i64,
) -> Result<bool, DatabaseError> {
    let CopyId { table, through, streamed_from } = copy;
    let sql = format!(
        "update walpost.outbox set copied_through = greatest(copied_through, $4), updated_at = clock_timestamp() \
         where slot_name = $1 and table_oid = $2 and {OF_THE_EPOCH} and copy_through = {through} \
         and streamed_from = '{streamed_from}'::xid8"
    );
    let rows = session.client().execute(&sql, &[&slot, &table, &epoch, &id]).await;
    Ok(rows.map_err(session.error("write down how far the copy is"))? == 1)
}

/// A condition: the session of the epoch `$3` has the slot `$1`. A session that takes it waits until this is written.
const OF_THE_EPOCH: &str =
    "exists (select from walpost.slot held where held.slot_name = $1 and held.epoch = $3 for share)";
