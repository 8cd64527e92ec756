//! What the relay must remember beside the outbox, in the schema `walpost`.
//!
//! The slot alone holds the durable position. The ledger holds what the slot cannot say about itself: which server and
//! timeline it belongs to, whether the rows that stood in the table before it are published, and a position that it has
//! never passed. That position is written *before* it is confirmed, so a slot that is found ahead of it was not moved
//! by walpost: it was made anew, or moved by hand, and what lies between was never seen.
//!
//! Each session that takes the slot counts the epoch up. A relay that finds another epoch than its own knows that
//! another one had the slot meanwhile, and what it still holds is no longer its to send; and only the relay of the
//! latest epoch can write here.
//!
//! What means that rows may be missing in the stream is written here before anything else happens ([`find`]), and only the
//! publishing of the table takes it back ([`Holder::finish_backfill`]).

use serde::Deserialize as _;
use serde_json::Value;
use tokio_postgres::types::{PgLsn, ToSql};

use crate::postgres::names::{own_rows, quoted};
use crate::postgres::preflight::{PreflightError, PublicationId, Unsafe, catalogue_rows};
use crate::postgres::{DatabaseError, Session};
use walpost_core::event::OutboxTable;
use walpost_core::event::mapping::Guesses;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Oid;
use walpost_core::window::copied::CopyId;

/// What is remembered about a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The server's identifier, as IDENTIFY_SYSTEM gives it.
    pub system: String,
    /// The position that the slot has never passed.
    pub confirmed: Lsn,
    /// Whether the rows from before the slot are published.
    pub backfilled: bool,
    /// Counted up by each session that takes the slot.
    pub epoch: i64,
    /// The publication as it was when the slot was first followed, and the table's entry in it; 0 for a publication that
    /// is known to be younger than the slot's position.
    pub publication: Option<(Oid, Oid)>,
    /// The catalogue's rows of that publication, as one text that any change of them changes; none in a ledger of an
    /// older version.
    pub publication_rows: Option<String>,
    /// Why rows may be missing in the stream; kept until the table is published again.
    pub republish_why: Option<String>,
    /// The server's timeline when the slot was taken last.
    pub timeline: Option<u32>,
    /// The rows of the table up to this id are to be published from the table.
    pub copy_through: Option<i64>,
    /// Those up to this id are.
    pub copied_through: Option<i64>,
    /// The column whose numbers these are; empty for a table that has none.
    pub copy_order: Option<String>,
    /// What was guessed of the table, and the row filter, when the slot was made.
    pub guesses: Guesses,
    /// Rows of a transaction from here on may have come after `copy_through` was read; all of them are in the stream.
    pub streamed_from: Option<i64>,
}

impl Memory {
    /// Which rows come from the table, once that is fixed.
    #[must_use]
    pub fn copy(&self) -> Option<CopyId> {
        Some(CopyId { through: self.copy_through?, streamed_from: self.streamed_from? })
    }
}

/// The columns that later versions added. Each may be empty, so that a version which does not know it still works.
const ADDED: [&str; 8] = [
    "publication_rows",
    "republish_why",
    "timeline",
    "copy_through",
    "copied_through",
    "published_of",
    "copy_order",
    "guesses",
];

/// The tables of the schema. A comment on each says what it is to those who find it in their database.
const SCHEMA: &str = "
create schema if not exists walpost;
create table if not exists walpost.slot (
    slot_name text primary key,
    system_identifier text not null,
    confirmed_lsn pg_lsn not null,
    streamed_from xid8,
    backfilled_at timestamptz,
    published_below xid8,
    epoch bigint not null default 0,
    publication_oid oid,
    publication_table_oid oid,
    updated_at timestamptz not null default clock_timestamp()
);
alter table walpost.slot
    add column if not exists publication_rows text,
    add column if not exists republish_why text,
    add column if not exists timeline integer,
    add column if not exists copy_through bigint,
    add column if not exists copied_through bigint,
    add column if not exists published_of oid,
    add column if not exists copy_order text,
    add column if not exists guesses jsonb;
comment on schema walpost is 'What walpost remembers; see its documentation before changing anything here.';
comment on table walpost.slot is 'A row for each slot that walpost follows. confirmed_lsn is written before the slot is moved, so a slot ahead of it was not moved by walpost. Every transaction from streamed_from on is in the slot''s stream; every row that a transaction below published_below wrote to the table published_of is in Kafka.';
";

/// Makes the schema where it is not there, and brings one of an older version up to this one.
///
/// # Errors
/// When the database refuses.
pub async fn create(session: &Session) -> Result<(), DatabaseError> {
    // Two at a time would both find it missing, and one would fail. The lock goes with the transaction.
    let guarded = format!(
        "begin; set local client_min_messages = 'warning'; \
         select pg_advisory_xact_lock(hashtext('walpost.init')); {SCHEMA} commit;"
    );
    session.client().batch_execute(&guarded).await.map_err(session.error("make the schema walpost"))
}

/// Makes the schema where it is not there, or brings it up to this version: a role that does not own it may use one that
/// is.
///
/// # Errors
/// When the role may not, or the database refuses.
pub async fn make(session: &Session) -> Result<(), PreflightError> {
    if exists(session).await? { upgrade(session).await } else { Ok(create(session).await?) }
}

/// Checks that this role may write here: found out before a slot is made, which would hold back WAL for nothing.
///
/// # Errors
/// When it may not.
pub async fn check_rights(session: &Session) -> Result<(), PreflightError> {
    let sql = "select current_user::text, has_table_privilege(c.oid, 'select') and has_table_privilege(c.oid, 'insert') \
               and has_table_privilege(c.oid, 'update') from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = 'walpost' and c.relname = 'slot'";
    let row = session.client().query_opt(sql, &[]).await;
    match row.map_err(session.error("read the rights on walpost.slot"))? {
        Some(row) if !row.get::<_, bool>(1) => Err(Unsafe::LedgerDenied(row.get(0)).into()),
        _ => Ok(()),
    }
}

/// Brings a schema of an older version up to this one; one that is missing is left so.
///
/// # Errors
/// When the role may not, or the database refuses.
pub async fn upgrade(session: &Session) -> Result<(), PreflightError> {
    // Asked first: the statement itself locks the table, and wants its owner, even when there is nothing to add.
    let sql = "select (select count(*) from pg_attribute where attrelid = c.oid and attname = any($1) \
               and not attisdropped) from pg_class c where c.oid = to_regclass('walpost.slot')";
    let there = session.client().query_opt(sql, &[&ADDED.as_slice()]).await;
    let there = there.map_err(session.error("look at the schema walpost"))?.map(|row| row.get::<_, i64>(0));
    if there.is_none_or(|columns| usize::try_from(columns) == Ok(ADDED.len())) {
        return Ok(());
    }
    match create(session).await {
        // insufficient_privilege.
        Err(error) if error.sqlstate() == Some("42501") => Err(Unsafe::LedgerOld.into()),
        done => Ok(done?),
    }
}

/// Whether the schema is there.
///
/// # Errors
/// When the database refuses.
pub async fn exists(session: &Session) -> Result<bool, DatabaseError> {
    let row = session.client().query_one("select to_regclass('walpost.slot') is not null", &[]).await;
    Ok(row.map_err(session.error("look for the schema walpost"))?.get(0))
}

/// What is remembered about a slot, if anything.
///
/// # Errors
/// When the database refuses.
pub async fn load(session: &Session, slot: &str) -> Result<Option<Memory>, DatabaseError> {
    if !exists(session).await? {
        return Ok(None);
    }
    // What an older version of the schema lacks is absent in the JSON, and no error.
    let sql = "select system_identifier, confirmed_lsn, backfilled_at is not null, epoch, publication_oid, \
               publication_table_oid, to_jsonb(slot) from walpost.slot slot where slot_name = $1";
    let row = session.client().query_opt(sql, &[&slot]).await.map_err(session.error("read walpost.slot"))?;
    Ok(row.map(|row| {
        let added: Value = row.get(6);
        let text = |name: &str| added.get(name)?.as_str().map(str::to_owned);
        let number = |name: &str| added.get(name)?.as_i64();
        Memory {
            system: row.get(0),
            confirmed: Lsn(row.get::<_, PgLsn>(1).into()),
            backfilled: row.get(2),
            epoch: row.get(3),
            publication: publication(&row),
            publication_rows: text("publication_rows"),
            republish_why: text("republish_why"),
            timeline: number("timeline").and_then(|timeline| u32::try_from(timeline).ok()),
            copy_through: number("copy_through"),
            copied_through: number("copied_through"),
            copy_order: text("copy_order"),
            guesses: added
                .get("guesses")
                .and_then(|kept| Guesses::deserialize(kept).ok())
                .unwrap_or_default(),
            streamed_from: text("streamed_from").and_then(|number| number.parse().ok()),
        }
    }))
}

fn publication(row: &tokio_postgres::Row) -> Option<(Oid, Oid)> {
    Some((row.get::<_, Option<_>>(4)?, row.get::<_, Option<_>>(5)?))
}

/// The session that may write about a slot: that of the latest epoch, as long as the catalogue has the publication as
/// it is remembered. Both are asked for in the statement that writes, so nothing is written past an alteration that the
/// statement's snapshot shows.
#[derive(Debug, Clone)]
pub struct Holder {
    /// The slot.
    pub slot: String,
    /// The epoch that the session began.
    pub epoch: i64,
    /// The publication.
    pub publication: String,
    /// The table.
    pub outbox: Oid,
}

impl Holder {
    /// Writes `set` about the slot; its value is `$5`. `false`: it may not.
    async fn write(
        &self,
        session: &Session,
        set: &str,
        only: &str,
        value: &(dyn ToSql + Sync),
        doing: &'static str,
    ) -> Result<bool, DatabaseError> {
        let sql = format!(
            "update walpost.slot set {set}, updated_at = clock_timestamp() where slot_name = $1 and epoch = $2 \
             and publication_rows = {} {only}",
            catalogue_rows(session, "$3", "$4")
        );
        let values: [&(dyn ToSql + Sync); 5] =
            [&self.slot, &self.epoch, &self.publication, &self.outbox, value];
        let rows = session.client().execute(&sql, &values).await;
        Ok(rows.map_err(session.error(doing))? == 1)
    }

    /// Remembers that the slot may be moved up to `confirmed`, durably. `false`: another relay has taken the slot,
    /// nothing is remembered about it any more, or rows may be missing in the stream.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn remember(&self, session: &Session, confirmed: Lsn) -> Result<bool, DatabaseError> {
        let (set, confirmed) = ("confirmed_lsn = greatest(confirmed_lsn, $5)", PgLsn::from(confirmed.0));
        let doing = "remember the position in walpost.slot";
        self.write(session, set, "and republish_why is null", &confirmed, doing).await
    }

    /// Remembers that every row of a transaction below `below` is in Kafka. `false`: as for [`Holder::remember`].
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn cover(&self, session: &Session, below: i64) -> Result<bool, DatabaseError> {
        // Before the table is copied it proves nothing.
        let set = "published_below = case when backfilled_at is null then published_below \
                   else $5::bigint::text::xid8 end, \
                   published_of = case when backfilled_at is null then published_of else $4 end";
        self.write(session, set, "and republish_why is null", &below, "write walpost.slot").await
    }

    /// Remembers that the rows from before the slot are published by this copy, and with them whatever was found missing.
    /// `false`: another relay has taken the slot, the publication was altered meanwhile, or something was found that asks
    /// for another copy.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn finish_backfill(&self, session: &Session, copy: CopyId) -> Result<bool, DatabaseError> {
        let set = "backfilled_at = clock_timestamp(), republish_why = $5";
        let CopyId { through, streamed_from } = copy;
        let only = format!("and copy_through = {through} and streamed_from = '{streamed_from}'::xid8");
        self.write(session, set, &only, &None::<String>, "write walpost.slot").await
    }
}

/// Remembers, before anyone stops for it, that rows may be missing in the stream, and why; the first reason stays. What is
/// known of a copy of the table that is under way is forgotten: it has to begin anew, behind what was found.
///
/// # Errors
/// When the database refuses.
pub async fn find(session: &Session, slot: &str, finding: &Unsafe) -> Result<(), DatabaseError> {
    if !exists(session).await? {
        return Ok(());
    }
    // What Postgres cannot read on from needs another slot, and that is what another publication asks for.
    let is_younger = matches!(finding, Unsafe::PublicationYounger(_));
    // A process with other settings finds another publication, or another table, at fault; those that are followed are
    // well, and the relay that follows them must not stop for it.
    let followed = catalogue_rows(
        session,
        "(select pubname from pg_publication where oid = publication_oid)",
        "substring(publication_rows from 'table ([0-9]+)')::oid",
    );
    let sql = format!(
        "update walpost.slot set {NOTED}, publication_oid = case when $3 then 0::oid else publication_oid end \
         where slot_name = $1 and (not $4 or publication_rows is null or publication_rows is distinct from {followed})"
    );
    let is_of_catalogue = finding.is_of_the_publication();
    let values: [&(dyn ToSql + Sync); 4] = [&slot, &finding.to_string(), &is_younger, &is_of_catalogue];
    let written = session.client().execute(&sql, &values).await;
    written.map_err(session.error("write walpost.slot"))?;
    Ok(())
}

/// What follows in the ledger from a finding, `$2`.
const NOTED: &str = "republish_why = coalesce(republish_why, format('%s (found %s)', $2::text, \
    date_trunc('second', clock_timestamp()))), copy_through = null, copied_through = null";

/// Remembers why the slot is about to be made, or made anew: wherever that is interrupted, nothing goes on before the
/// table is published.
///
/// # Errors
/// When the database refuses.
pub async fn note_replacement(session: &Session, slot: &str, reason: &str) -> Result<(), DatabaseError> {
    if !exists(session).await? {
        return Ok(());
    }
    let sql = format!("update walpost.slot set {NOTED} where slot_name = $1");
    let written = session.client().execute(&sql, &[&slot, &reason]).await;
    written.map_err(session.error("write walpost.slot"))?;
    Ok(())
}

/// Remembers the publication that is there, in a ledger of a version that did not remember all of it.
///
/// # Errors
/// When the database refuses.
pub async fn adopt_publication(
    session: &Session,
    slot: &str,
    publication: &PublicationId,
) -> Result<(), DatabaseError> {
    let sql = "update walpost.slot set publication_oid = $2, publication_table_oid = $3, publication_rows = $4 \
               where slot_name = $1 and publication_rows is null";
    let PublicationId { publication, table, rows } = publication;
    let written = session.client().execute(sql, &[&slot, publication, table, rows]).await;
    written.map_err(session.error("write walpost.slot"))?;
    Ok(())
}

/// Begins a new epoch, once the slot is taken on `timeline` and found not to have passed `remembered`; returns it, or
/// `None` when nothing is remembered about the slot.
///
/// # Errors
/// When the database refuses.
pub async fn take(
    session: &Session,
    slot: &str,
    timeline: u32,
    remembered: Lsn,
) -> Result<Option<i64>, DatabaseError> {
    let sql = "update walpost.slot set epoch = epoch + 1, timeline = $2, \
               confirmed_lsn = greatest(confirmed_lsn, $3), updated_at = clock_timestamp() \
               where slot_name = $1 returning epoch";
    let timeline = i32::try_from(timeline).unwrap_or(i32::MAX);
    let row = session.client().query_opt(sql, &[&slot, &timeline, &PgLsn::from(remembered.0)]).await;
    Ok(row.map_err(session.error("write walpost.slot"))?.map(|row| row.get(0)))
}

/// Remembers a slot from its beginning, whose earlier rows are not published yet.
///
/// # Errors
/// When the database refuses.
pub async fn begin(
    session: &Session,
    slot: &str,
    system: &str,
    confirmed: Lsn,
    publication: &PublicationId,
    table: &OutboxTable,
) -> Result<(), DatabaseError> {
    // On another server transactions have other numbers, and those that are remembered say nothing; by another condition
    // other rows were published.
    let sql = "insert into walpost.slot as old (slot_name, system_identifier, confirmed_lsn, \
                   publication_oid, publication_table_oid, publication_rows) values ($1, $2, $3, $4, $5, $6) \
               on conflict (slot_name) do update set system_identifier = excluded.system_identifier, \
               confirmed_lsn = excluded.confirmed_lsn, streamed_from = null, \
               publication_oid = excluded.publication_oid, \
               publication_table_oid = excluded.publication_table_oid, \
               publication_rows = excluded.publication_rows, timeline = null, epoch = old.epoch + 1, \
               published_below = case when old.system_identifier = excluded.system_identifier \
                   and old.guesses ->> 'where' is not distinct from $7 then old.published_below end, \
               backfilled_at = null, copy_through = null, copied_through = null, \
               updated_at = clock_timestamp()";
    let confirmed = PgLsn::from(confirmed.0);
    let filter = &table.filter;
    let PublicationId { publication, table, rows } = publication;
    let values: [&(dyn ToSql + Sync); 7] = [&slot, &system, &confirmed, publication, table, rows, filter];
    let written = session.client().execute(sql, &values).await;
    written.map_err(session.error("write walpost.slot"))?;
    Ok(())
}

/// Makes what is written on this connection last, where the database is set not to wait for that: a crash that took a
/// remembered position back would leave the slot ahead of it, and the relay would halt for nothing.
///
/// # Errors
/// When the database refuses.
pub async fn make_durable(session: &Session) -> Result<(), DatabaseError> {
    let sql = "select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'";
    session.client().execute(sql, &[]).await.map_err(session.error("set synchronous_commit"))?;
    Ok(())
}

/// Remembers that what the table holds is to be published again, as far as it is not known to be in Kafka: rows may
/// be missing in the stream. The slot stays, and so does the reason, until the table is published.
///
/// One statement: half of it would be a publication that looks as it is remembered, and rows that nobody publishes.
///
/// # Errors
/// When the database refuses.
pub async fn republish(
    session: &Session,
    slot: &str,
    publication: &PublicationId,
    table: &OutboxTable,
) -> Result<(), DatabaseError> {
    let sql = "update walpost.slot set publication_oid = $2, publication_table_oid = $3, publication_rows = $4, \
               published_below = case when guesses ->> 'where' is not distinct from $5 then published_below end, \
               backfilled_at = null, streamed_from = null, copy_through = null, copied_through = null, \
               epoch = epoch + 1, updated_at = clock_timestamp() where slot_name = $1";
    let filter = &table.filter;
    let PublicationId { publication, table, rows } = publication;
    let written = session.client().execute(sql, &[&slot, publication, table, rows, filter]).await;
    written.map_err(session.error("write walpost.slot"))?;
    Ok(())
}

/// Fixes which rows come from the table, where that is not fixed: those up to the highest id that is visible now.
/// `table` and `id` are in SQL's own form. See [`crate::relay::backfill`] on what has to be waited for before.
///
/// # Errors
/// When the database refuses.
pub async fn fix_copy(
    session: &Session,
    slot: &str,
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
        "update walpost.slot set copy_through = {through}, copied_through = null, copy_order = $3, streamed_from = pg_snapshot_xmin(pg_current_snapshot()), \
             updated_at = clock_timestamp() \
         where slot_name = $1 and epoch = $2 and backfilled_at is null \
         and (copy_through is null or streamed_from is null)"
    );
    let order = table.order.as_deref().unwrap_or_default();
    let written = session.client().execute(&sql, &[&slot, &epoch, &order]).await;
    written.map_err(session.error("fix which rows come from the table"))?;
    Ok(())
}

/// Forgets the end of a copy, which was told in numbers of another column than the table is ordered by now.
///
/// # Errors
/// When the database refuses.
pub async fn forget_copy(session: &Session, slot: &str, epoch: i64) -> Result<(), DatabaseError> {
    let sql = "update walpost.slot set copy_through = null, copied_through = null, copy_order = null \
               where slot_name = $1 and epoch = $2 and backfilled_at is null";
    let written = session.client().execute(sql, &[&slot, &epoch]).await;
    written.map_err(session.error("forget which rows come from the table"))?;
    Ok(())
}

/// Keeps what was guessed of the table; what was kept before stays.
///
/// # Errors
/// When the database refuses.
pub async fn keep_guesses(session: &Session, slot: &str, guesses: &Guesses) -> Result<(), DatabaseError> {
    let guesses = serde_json::to_value(guesses).unwrap_or_default();
    // The filter is that of the publication, which was looked at.
    let sql = "update walpost.slot s set guesses = n.guesses from (select slot_name, $2::jsonb || coalesce(guesses, '{}') \
                   || jsonb_build_object('where', $2::jsonb -> 'where') as guesses from walpost.slot) n \
               where s.slot_name = $1 and n.slot_name = $1 and s.guesses is distinct from n.guesses";
    let written = session.client().execute(sql, &[&slot, &guesses]).await;
    written.map_err(session.error("keep what was guessed"))?;
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
    let sql = "update walpost.slot set copied_through = greatest(copied_through, $5), updated_at = clock_timestamp() \
               where slot_name = $1 and epoch = $2 and copy_through = $3 \
               and streamed_from = $4::bigint::text::xid8";
    let values: [&(dyn ToSql + Sync); 5] = [&slot, &epoch, &copy.through, &copy.streamed_from, &id];
    let rows = session.client().execute(sql, &values).await;
    Ok(rows.map_err(session.error("write down how far the copy is"))? == 1)
}
