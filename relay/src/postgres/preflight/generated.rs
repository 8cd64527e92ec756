//! Generated columns: in the table, and not in the stream.

use serde_json::Value;

use super::Unsafe;
use crate::config::TableSource;
use crate::postgres::{DatabaseError, Session};

/// The version from which on a publication may hold stored generated columns (`publish_generated_columns`).
const PUBLISHES_GENERATED: i32 = 180_000;

/// The first column that an event needs, and that the publication leaves out because it is generated. `published` are the
/// names that it does not leave out; up to 15 Postgres does not say, and it never holds generated ones.
pub(super) async fn left_out(
    session: &Session,
    source: &TableSource,
    needed: &[&str],
    published: Option<&[Value]>,
) -> Result<Option<Unsafe>, DatabaseError> {
    let sql = "select a.attname::text, a.attgenerated = 's', current_setting('server_version_num')::int \
               from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = $1 and c.relname = $2 and a.attgenerated <> '' and not a.attisdropped \
               and a.attname = any($3)";
    let table = &source.table;
    let rows = session.client().query(sql, &[&table.schema, &table.table, &needed]).await;
    let rows = rows.map_err(session.error("look for generated columns"))?;
    let is_published =
        |name: &str| published.is_some_and(|names| names.iter().any(|known| known.as_str() == Some(name)));
    let left_out = rows.iter().find(|row| !is_published(row.get(0)));
    Ok(left_out.map(|row| {
        let (is_stored, version): (bool, i32) = (row.get(1), row.get(2));
        Unsafe::PublicationLacksGenerated {
            publication: source.publication.clone(),
            column: row.get(0),
            table: table.name(),
            may_publish: is_stored && version >= PUBLISHES_GENERATED,
        }
    }))
}
