//! The publication: whether it holds the table, whole, and is the one that was followed.

use serde_json::Value;

use super::{PreflightError, Unsafe, generated};
use crate::config::{SourceSettings, TableSource};
use crate::postgres::ledger::{Memory, TableMemory};
use crate::postgres::{DatabaseError, Session};
use walpost_core::pgoutput::{Oid, Relation};

/// From this version on publications hold tables by their schema, too.
const BY_SCHEMA: i32 = 150_000;

/// From this version on the catalogue leaves generated columns out of those that a publication holds; 15 names them with
/// the others, and 14 names none at all.
const TELLS_GENERATED: i32 = 160_000;

/// From this version on `pg_get_publication_tables` says of each table what it publishes.
const SETS_OF_TABLES: i32 = 160_000;

/// Which publication it is, and which entry of the table in it: both are new when either was made anew
/// (`pg_publication.oid`, `pg_publication_rel.oid`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicationId {
    /// The publication.
    pub publication: Oid,
    /// The table's entry; 0 where the publication has it with all tables, or with its schema.
    pub table: Oid,
    /// The rows of the catalogue that it is made of: see `catalogue_rows`.
    pub rows: String,
}

/// An expression of SQL for the rows of the catalogue that say which inserts of the table are published, as one text
/// that any change of them changes, also one that was taken back; null when the publication or the table is missing.
/// `publication` (its name) and `table` (its oid) are expressions, too.
///
/// Each row is told with its `xmin`, the transaction that wrote this version of it: `alter publication … set`, `add` and
/// `drop`, a new owner or name write a new one. The table's entry among the dependencies is there for publications by
/// schema: it changes when the table goes to another schema and comes back. What does not change the text (seen on 18):
/// `vacuum`, `vacuum full` and `freeze` of these catalogues, which keep a row's `xmin`; `grant`, `analyze`, columns and
/// comments. A dump or `pg_upgrade` gives all of it anew, and the server another identifier.
pub(crate) fn catalogue_rows(session: &Session, publication: &str, table: &str) -> String {
    let schemas = if session.version() >= BY_SCHEMA {
        "(select string_agg(format('%s:%s', n.oid, n.xmin), ',' order by n.oid) from pg_publication_namespace n \
          where n.pnpubid = p.oid and n.pnnspid = c.relnamespace)"
    } else {
        "null"
    };
    format!(
        "(select format('publication %s:%s table %s in schema %s entry %s schema %s', p.oid, p.xmin, c.oid, \
            (select string_agg(format('%s:%s', d.refobjid, d.xmin), ',' order by d.refobjid) from pg_depend d \
             where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.objsubid = 0 \
             and d.refclassid = 'pg_namespace'::regclass), \
            (select string_agg(format('%s:%s', r.oid, r.xmin), ',' order by r.oid) from pg_publication_rel r \
             where r.prpubid = p.oid and r.prrelid = c.oid), {schemas}) \
         from pg_publication p, pg_class c where p.pubname = {publication} and c.oid = {table})"
    )
}

/// Checks that the publication was as it is now before the slot's position: what it did not publish then is not in the stream.
///
/// Every transaction below the slot's `catalog_xmin` had ended when its position was reached (PostgreSQL, "Replication Slots":
/// it is the oldest whose changes of the catalogue the slot needs). A row of the catalogue by a younger one may be older than the
/// position as well; it is not known, and the slot is past it soon. Rows that are older than half of all ids seem to be of the
/// future.
///
/// # Errors
/// When it is missing, or not known to be older; or the database refuses.
pub async fn check_publication_is_older(
    session: &Session,
    source: &SourceSettings,
) -> Result<(), PreflightError> {
    let schemas = if session.version() >= BY_SCHEMA {
        "union all select n.xmin from pg_publication_namespace n join publication p on n.pnpubid = p.oid"
    } else {
        ""
    };
    let sql = format!(
        "with publication as (select oid, xmin from pg_publication where pubname = $1), \
         written as (select xmin from publication \
             union all select r.xmin from pg_publication_rel r join publication p on r.prpubid = p.oid {schemas}) \
         select bool_and(age(written.xmin) > age(slot.catalog_xmin) or age(written.xmin) < 0) \
         from written, pg_replication_slots slot where slot.slot_name = $2"
    );
    let row = session.client().query_one(&sql, &[&source.publication, &source.slot]).await;
    match row.map_err(session.error("compare the publication with the slot"))?.get(0) {
        Some(true) => Ok(()),
        Some(false) => {
            let (publication, slot) = (source.publication.clone(), source.slot.clone());
            Err(Unsafe::PublicationYoung { publication, slot }.into())
        }
        None => Err(Unsafe::PublicationMissing(source.publication.clone()).into()),
    }
}

/// Whether there is a publication of that name.
///
/// # Errors
/// When the database refuses.
pub async fn publication_exists(session: &Session, publication: &str) -> Result<bool, DatabaseError> {
    let sql = "select exists (select from pg_publication where pubname = $1)";
    let row = session.client().query_one(sql, &[&publication]).await;
    Ok(row.map_err(session.error("read pg_publication"))?.get(0))
}

/// Checks that the publication holds the table `outbox`, whole, as far as it becomes part of a record; says which it is.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn check_publication(
    session: &Session,
    source: &TableSource,
    outbox: &Relation,
) -> Result<PublicationId, PreflightError> {
    let publication = &source.publication;
    let sql = format!(
        "select p.pubinsert, p.oid, coalesce((select r.oid from pg_publication_rel r \
             where r.prpubid = p.oid and r.prrelid = $2), 0::oid), {}, p.pubviaroot \
         from pg_publication p where p.pubname = $1",
        catalogue_rows(session, "$1", "$2")
    );
    let rows = session.ask(&sql, &[publication, &outbox.id]).await;
    let rows = rows.map_err(session.error("read pg_publication"))?;
    let row = rows.first().ok_or_else(|| Unsafe::PublicationMissing(publication.clone()))?;
    if !row.get::<_, bool>(0) {
        return Err(Unsafe::PublicationLacksInserts(publication.clone()).into());
    }
    if source.table.is_partitioned && !row.get::<_, bool>(4) {
        let (publication, table) = (publication.clone(), source.table.name());
        return Err(Unsafe::PublicationByPartitions { publication, table }.into());
    }
    let rows: Option<String> = row.get(3);
    let rows = rows.ok_or_else(|| Unsafe::TableMissing(source.table.name()))?;
    let found = PublicationId { publication: row.get(1), table: row.get(2), rows };
    // The view looks at every table of the publication for each that is asked for; the table's own entry says the same.
    let sql = match session.version() >= SETS_OF_TABLES {
        true => {
            "select jsonb_build_object('rowfilter', pg_get_expr(t.qual, t.relid), 'attnames', (select jsonb_agg(a.attname) \
             from pg_attribute a where a.attrelid = t.relid and a.attnum = any(t.attrs)), 'columns', (select jsonb_agg(a.attname) \
             from pg_attribute a where a.attrelid = t.relid and a.attnum > 0)) \
             from pg_get_publication_tables(variadic array[$1::text]) t where t.relid = $2"
        }
        false => {
            "select to_jsonb(t) || jsonb_build_object('columns', (select jsonb_agg(a.attname) from pg_attribute a \
             where a.attrelid = c.oid and a.attnum > 0)) from pg_publication_tables t, pg_class c join pg_namespace n \
             on n.oid = c.relnamespace where pubname = $1 and schemaname = n.nspname and tablename = c.relname \
             and c.oid = $2"
        }
    };
    let rows = session.ask(sql, &[publication, &outbox.id]).await;
    let rows = rows.map_err(session.error("read pg_publication_tables"))?;
    if rows.is_empty() {
        let (publication, table) = (publication.clone(), source.table.name());
        let filter = source.table.filter.clone();
        return Err(Unsafe::PublicationLacksTable { publication, table, filter }.into());
    }
    for row in &rows {
        check_rows_and_columns(session, source, outbox, &row.get(0)).await?;
    }
    Ok(found)
}

/// Checks that the publication is the one that is remembered of the table, and that no rows may be missing in the stream.
/// One of which nothing is remembered has appeared; unless another had its name, which was not one of many.
///
/// # Errors
/// When it is not: what was inserted while it was away is not in the stream.
pub fn check_kept(
    source: &TableSource,
    found: &PublicationId,
    known: Option<&TableMemory>,
    memory: &Memory,
) -> Result<(), Unsafe> {
    let name = source.table.name();
    let changed = || {
        let publication = source.publication.clone();
        Err(Unsafe::PublicationChanged { publication, table: name.clone() })
    };
    let Some(known) = known else {
        let is_made_anew = memory.tables.iter().any(|other| other.name == name);
        return if is_made_anew && source.table.found_by.is_none() { changed() } else { Ok(()) };
    };
    let oids = Some((found.publication, found.table));
    let is_kept = known.publication.is_none_or(|_| known.publication == oids)
        && known.publication_rows.as_ref().is_none_or(|rows| *rows == found.rows);
    if !is_kept {
        return changed();
    }
    source.table.check_filter(&known.guesses)?;
    match &known.republish_why {
        // While the table is being published, that is what it is published for.
        Some(why) if known.backfilled => Err(Unsafe::RowsMayBeMissing(why.clone())),
        _ => Ok(()),
    }
}

/// Whether a publication's filter lacks the part that makes the shard of the settings.
fn is_of_another_shard(filter: &str, set: &str) -> bool {
    let bare = |text: &str| text.replace([' ', '(', ')', '"'], "").to_lowercase();
    set.rfind("(hash_record(row(").is_some_and(|at| !bare(filter).contains(&bare(&set[at..])))
}

/// Row filters and column lists came with 15.
async fn check_rows_and_columns(
    session: &Session,
    source: &TableSource,
    outbox: &Relation,
    row: &Value,
) -> Result<(), PreflightError> {
    let filters = |what: String| Unsafe::PublicationFilters {
        publication: source.publication.clone(),
        what,
        table: source.table.name(),
    };
    let filter = row.get("rowfilter").and_then(Value::as_str);
    match (filter, &source.table.filter) {
        (None, None) => {}
        // What a person wrote comes out of the catalogue in other words; what makes shards comes out as it is.
        (Some(filter), Some(set)) if is_of_another_shard(filter, set) => {
            return Err(filters(format!("rows ({filter}), which is not this shard's,")).into());
        }
        (Some(_), Some(_)) => {}
        (Some(filter), None) => {
            return Err(filters(format!("rows ({filter}), and the setting where does not say so,")).into());
        }
        (None, Some(_)) => return Err(filters("no rows, though the setting where says so,".into()).into()),
    }
    let names = |what: &str| row.get(what).and_then(Value::as_array).map(Vec::as_slice);
    let has = |names: &[Value], name: &str| names.iter().any(|known| known.as_str() == Some(name));
    let (published, columns) = (names("attnames"), names("columns"));
    // A column that was renamed since the table was described has another name here. That is no filter, and whoever looks
    // next describes the table as it is by then.
    let is_published = |name: &str| {
        published.is_none_or(|published| has(published, name))
            || columns.is_some_and(|columns| !has(columns, name))
    };
    let needed: Vec<_> = source.table.needed(outbox).collect();
    let left_out = needed.iter().find(|name| !is_published(name));
    let tells_generated = session.version() >= TELLS_GENERATED;
    if (left_out.is_some() || !tells_generated)
        && let Some(generated) =
            generated::left_out(session, source, &needed, published.filter(|_| tells_generated)).await?
    {
        return Err(generated.into());
    }
    match left_out {
        Some(column) => Err(filters(format!("the column `{column}`")).into()),
        None => Ok(()),
    }
}
