//! What was found missing, and what takes it back.

use tokio_postgres::types::{PgLsn, ToSql};

use super::entry::{COLUMNS, Columns, GUESSES, PUBLISHED_BY, SAME_FILTER, enter};
use super::exists;
use crate::config::SourceSettings;
use crate::postgres::preflight::{FoundTable, Unsafe, catalogue_rows};
use crate::postgres::{DatabaseError, Session};
use walpost_core::lsn::Lsn;

/// What follows in the ledger from a finding, `$2`.
const NOTED: &str = "republish_why = coalesce(republish_why, format('%s (found %s)', $2::text, \
    date_trunc('second', clock_timestamp()))), copy_through = null, copied_through = null";

/// Remembers, before anyone stops for it, that rows may be missing in the stream, and why; the first reason stays. What is
/// known of a copy of the table that is under way is forgotten: it has to begin anew, behind what was found.
///
/// This alone waits for synchronous standbys, where the role's commits do: whoever stops for a finding does not look again, and
/// what let rows pass (a table that was a partition for a while) may be mended by the time that somebody else does.
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
    // well, and the relay that follows them must not stop for it. Nor must those of the tables that are well be published
    // again.
    let followed = catalogue_rows(
        session,
        "(select pubname from pg_publication where oid = outbox.publication_oid)",
        "outbox.table_oid",
    );
    let sql = format!(
        "update walpost.outbox set {NOTED}, publication_oid = case when $3 then 0::oid else publication_oid end \
         where slot_name = $1 and (not $4 or publication_rows is null or publication_rows is distinct from {followed}) \
         and ($5::text is null or table_name = $5 \
             or not exists (select from walpost.outbox other where other.slot_name = $1 and other.table_name = $5))"
    );
    let (is_of_catalogue, table) = (finding.is_of_the_publication(), finding.table_at_fault());
    let values: [&(dyn ToSql + Sync); 5] =
        [&slot, &finding.to_string(), &is_younger, &is_of_catalogue, &table];
    // What RESET would give, but for `off`, which does not even wait for the disk.
    let as_set =
        "(select replace(reset_val, 'off', 'local') from pg_settings where name = 'synchronous_commit')";
    commit_at(session, as_set).await?;
    let written = session.client().execute(&sql, &values).await;
    written.map_err(session.error("write walpost.outbox"))?;
    commit_at(session, "'local'").await
}

async fn commit_at(session: &Session, level: &str) -> Result<(), DatabaseError> {
    let sql = format!("select set_config('synchronous_commit', {level}, false)");
    session.client().execute(&sql, &[]).await.map_err(session.error("set synchronous_commit"))?;
    Ok(())
}

/// Remembers why the slot is about to be made, or made anew: wherever that is interrupted, nothing goes on before the
/// tables are published.
///
/// # Errors
/// When the database refuses.
pub async fn note_replacement(session: &Session, slot: &str, reason: &str) -> Result<(), DatabaseError> {
    if !exists(session).await? {
        return Ok(());
    }
    let sql = format!("update walpost.outbox set {NOTED} where slot_name = $1");
    let written = session.client().execute(&sql, &[&slot, &reason]).await;
    written.map_err(session.error("write walpost.outbox"))?;
    Ok(())
}

/// Remembers a slot from its beginning, the prefixes of messages that are followed by it, and its tables, whose earlier
/// rows are not published yet; unless another tool has published them, as someone says.
///
/// One statement: half of it would be a slot whose rows nobody publishes.
///
/// # Errors
/// When the database refuses.
pub async fn begin(
    session: &Session,
    source: &SourceSettings,
    system: &str,
    confirmed: Lsn,
    tables: &[FoundTable],
    is_published: bool,
) -> Result<(), DatabaseError> {
    // On another server transactions have other numbers, and those that are remembered say nothing; by another condition
    // other rows were published. What is read of walpost.slot is as it was before this statement.
    let sql = format!(
        "with begun as (insert into walpost.slot as old (slot_name, system_identifier, confirmed_lsn, messages) \
             values ($1, $2, $3, array(select m from unnest($12::text[]) m order by m)) \
         on conflict (slot_name) do update set system_identifier = excluded.system_identifier, \
             confirmed_lsn = excluded.confirmed_lsn, timeline = null, epoch = old.epoch + 1, \
             messages = excluded.messages, updated_at = clock_timestamp()), \
         gone as (delete from walpost.outbox where slot_name = $1 and table_oid <> all($4)) \
         insert into walpost.outbox as old ({COLUMNS}, backfilled_at) \
         select $1, t.*, case when $11 then clock_timestamp() end \
         from unnest($4::oid[], $5::text[], $6::text[], $7::oid[], $8::oid[], $9::text[], $10::jsonb[]) t \
         on conflict (slot_name, table_oid) do update set table_name = excluded.table_name, pattern = excluded.pattern, \
             {PUBLISHED_BY}, \
             published_below = case when (select system_identifier from walpost.slot where slot_name = $1) = $2 \
                 and {SAME_FILTER} then old.published_below end, \
             guesses = {GUESSES}, streamed_from = null, backfilled_at = excluded.backfilled_at, copy_through = null, \
             copied_through = null, updated_at = clock_timestamp()"
    );
    let columns = Columns::of(tables);
    let confirmed = PgLsn::from(confirmed.0);
    let prefixes = source.prefixes();
    let values: [&(dyn ToSql + Sync); 12] = [
        &source.slot,
        &system,
        &confirmed,
        &columns.oids,
        &columns.names,
        &columns.patterns,
        &columns.publications,
        &columns.entries,
        &columns.rows,
        &columns.guesses,
        &is_published,
        &prefixes,
    ];
    let written = session.client().execute(&sql, &values).await;
    written.map_err(session.error("write walpost.slot"))?;
    Ok(())
}

/// Remembers that what a table holds is to be published again, as far as it is not known to be in Kafka: rows may be missing
/// in the stream. The slot stays, and so does the reason, until the table is published. A table that was made anew under the
/// name of another takes its place.
///
/// One statement: half of it would be a publication that looks as it is remembered, and rows that nobody publishes.
///
/// # Errors
/// When the database refuses.
pub async fn republish(session: &Session, slot: &str, found: &FoundTable) -> Result<(), DatabaseError> {
    let with = "with begun as (update walpost.slot set epoch = epoch + 1, updated_at = clock_timestamp() where slot_name = $1), \
                replaced as (delete from walpost.outbox where slot_name = $1 and table_name = $3 and table_oid <> $2)";
    let update = format!(
        "{PUBLISHED_BY}, published_below = case when {SAME_FILTER} then old.published_below end, guesses = {GUESSES}, \
         backfilled_at = null, streamed_from = null, copy_through = null, copied_through = null, \
         updated_at = clock_timestamp()"
    );
    enter(session, slot, found, with, &update).await
}
