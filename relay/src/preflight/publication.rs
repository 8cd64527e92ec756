//! The publication: whether it holds the table, whole, and is the one that was followed.

use serde_json::Value;

use super::{PreflightError, Unsafe, generated};
use crate::config::SourceSettings;
use crate::database::Session;
use crate::ledger::Memory;
use crate::outbox::EventColumn;
use crate::pgoutput::Oid;

/// Which publication it is, and which entry of the table in it: both are new when either was made anew
/// (`pg_publication.oid`, `pg_publication_rel.oid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicationId {
    /// The publication.
    pub publication: Oid,
    /// The table's entry; 0 where the publication has it with all tables, or with its schema.
    pub table: Oid,
}

/// Checks that the publication holds the table, whole; says which it is.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn check_publication(
    session: &Session,
    source: &SourceSettings,
) -> Result<PublicationId, PreflightError> {
    let publication = &source.publication;
    let sql = "select p.pubinsert, p.oid, coalesce((select r.oid from pg_publication_rel r \
                   join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace \
                   where r.prpubid = p.oid and n.nspname = $2 and c.relname = $3), 0::oid) \
               from pg_publication p where p.pubname = $1";
    let row = session
        .client()
        .query_opt(sql, &[publication, &source.table.schema, &source.table.table])
        .await
        .map_err(session.error("read pg_publication"))?;
    let row = row.ok_or_else(|| Unsafe::PublicationMissing(publication.clone()))?;
    if !row.get::<_, bool>(0) {
        return Err(Unsafe::PublicationLacksInserts(publication.clone()).into());
    }
    let found = PublicationId { publication: row.get(1), table: row.get(2) };
    let sql = "select to_jsonb(t) from pg_publication_tables t where pubname = $1 and schemaname = $2 and \
        tablename = $3";
    let row =
        session.client().query_opt(sql, &[publication, &source.table.schema, &source.table.table]).await;
    let row = row.map_err(session.error("read pg_publication_tables"))?.ok_or_else(|| {
        Unsafe::PublicationLacksTable { publication: publication.clone(), table: source.table.name() }
    })?;
    check_rows_and_columns(session, source, &row.get(0)).await?;
    Ok(found)
}

/// Checks that the publication is the one that is remembered, if one is.
///
/// # Errors
/// When it is not: what was inserted while it was away is not in the stream.
pub fn check_kept(source: &SourceSettings, found: PublicationId, memory: &Memory) -> Result<(), Unsafe> {
    match memory.publication {
        Some(remembered) if remembered != found => Err(Unsafe::PublicationChanged {
            publication: source.publication.clone(),
            table: source.table.name(),
        }),
        _ => Ok(()),
    }
}

/// Row filters and column lists came with 15.
async fn check_rows_and_columns(
    session: &Session,
    source: &SourceSettings,
    row: &Value,
) -> Result<(), PreflightError> {
    let filters = |what: String| Unsafe::PublicationFilters {
        publication: source.publication.clone(),
        what,
        table: source.table.name(),
    };
    if row.get("rowfilter").is_some_and(|filter| !filter.is_null()) {
        return Err(filters("rows".into()).into());
    }
    let published = row.get("attnames").and_then(Value::as_array).map(Vec::as_slice);
    let is_published = |name: &String| {
        published.is_none_or(|names| names.iter().any(|known| known.as_str() == Some(name.as_str())))
    };
    let is_left_out = |column: &&EventColumn| !column.names.iter().any(is_published);
    let left_out = source.table.columns.iter().find(is_left_out);
    if (left_out.is_some() || published.is_none())
        && let Some(generated) = generated::left_out(session, source, published).await?
    {
        return Err(generated.into());
    }
    match left_out {
        Some(column) => Err(filters(format!("the column `{}`", column.names.join("` or `"))).into()),
        None => Ok(()),
    }
}
