//! The table: whether it is one whose rows come under its own name, whole.

use super::{PreflightError, Unsafe};
use crate::catalogue;
use crate::database::{DatabaseError, Session};
use crate::outbox::{OutboxTable, Plan};
use crate::pgoutput::{Column, Relation};

/// Checks the server and the table.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn check_table(session: &Session, table: &OutboxTable) -> Result<Relation, PreflightError> {
    let row = session.client().query_one("select current_setting('wal_level')", &[]).await;
    let wal_level: String = row.map_err(session.error("read wal_level"))?.get(0);
    if wal_level != "logical" {
        return Err(Unsafe::WalLevel(wal_level).into());
    }
    let relation = describe(session, table).await?.ok_or_else(|| Unsafe::TableMissing(table.name()))?;
    let types = catalogue::types(session, &relation, &[]).await?;
    Plan::new(table, &relation, &types)?;
    Ok(relation)
}

/// The table as the catalogue has it, in the form in which the stream describes tables.
async fn describe(session: &Session, table: &OutboxTable) -> Result<Option<Relation>, DatabaseError> {
    let sql = "select c.oid, a.attname::text, a.atttypid from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
               where n.nspname = $1 and c.relname = $2 and c.relkind = 'r' order by a.attnum";
    let rows = session.client().query(sql, &[&table.schema, &table.table]).await;
    let rows = rows.map_err(session.error("read the table's columns"))?;
    let Some(first) = rows.first() else { return Ok(None) };
    let column =
        |row: &tokio_postgres::Row| Some(Column { name: row.get::<_, Option<_>>(1)?, type_oid: row.get(2) });
    Ok(Some(Relation {
        id: first.get(0),
        namespace: table.schema.clone(),
        name: table.table.clone(),
        columns: rows.iter().filter_map(column).collect(),
    }))
}
