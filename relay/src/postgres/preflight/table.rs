//! The table: whether it is one whose rows come under its own name, whole.

use super::{PreflightError, Unsafe};
use crate::postgres::catalogue::{self, Looked};
use crate::postgres::names::{events, table_name};
use crate::postgres::{DatabaseError, Session};
use walpost_core::event::{Mistake, OutboxError, OutboxTable};
use walpost_core::pgoutput::{Oid, Relation};

/// From this version on publications have row filters.
const FILTERS: i32 = 150_000;

/// The outbox, and what is known of it.
#[derive(Debug)]
pub struct Outbox {
    /// The table as the catalogue has it.
    pub relation: Relation,
    /// The same with what the settings say of it, and all that was guessed.
    pub table: OutboxTable,
}

/// Checks the table.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn check_table(session: &Session, table: &OutboxTable) -> Result<Outbox, PreflightError> {
    let mut before = None;
    loop {
        let Some(Looked { relation, table: looked, .. }) = catalogue::look(session, table).await? else {
            // A view or another kind of relation says what it is.
            check_kind(session, table).await?;
            return Err(Unsafe::TableMissing(table.name()).into());
        };
        let named =
            OutboxTable { schema: relation.namespace.clone(), table: relation.name.clone(), ..table.clone() };
        check_kind(session, &named).await?;
        let error = match looked {
            Ok(table) => {
                check_filter(session, &table, &relation).await?;
                return Ok(Outbox { relation, table });
            }
            Err(error @ OutboxError::UnknownType { .. }) => error,
            Err(error) => return Err(error.into()),
        };
        // Two statements read the columns and their types. When an alteration came between them, the columns are others
        // by now.
        if before.as_ref() == Some(&relation) {
            return Err(error.into());
        }
        before = Some(relation);
    }
}

/// Checks that it is a table whose rows are all in the WAL, under its own name: those of a child table or a partition
/// come under the child's, and would be passed over.
async fn check_kind(session: &Session, table: &OutboxTable) -> Result<(), PreflightError> {
    let sql = "select c.relkind::text, c.relpersistence = 'p', c.relispartition, \
               (select string_agg(format('%s.%s', cn.nspname, cc.relname), ', ' order by cc.oid) from pg_inherits i \
                join pg_class cc on cc.oid = i.inhrelid join pg_namespace cn on cn.oid = cc.relnamespace \
                where i.inhparent = c.oid) \
               from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2";
    let rows = session.ask(sql, &[&table.schema, &table.table]).await;
    let rows = rows.map_err(session.error("read what kind of table the outbox is"))?;
    let row = rows.first().ok_or_else(|| Unsafe::TableMissing(table.name()))?;
    let kind: String = row.get(0);
    let what = match kind.as_str() {
        "r" if row.get::<_, bool>(2) => "a partition",
        "r" => return check_children(table.name(), row.get(1), row.get(3)),
        "p" if row.get::<_, bool>(2) => "a partition",
        "p" => return check_partitions(session, table).await,
        "v" => "a view",
        "m" => "a materialized view",
        "f" => "a foreign table",
        _ => "not a table",
    };
    Err(Unsafe::TableKind { table: table.name(), what }.into())
}

/// Rows of an unlogged or foreign partition are not in the WAL.
async fn check_partitions(session: &Session, table: &OutboxTable) -> Result<(), PreflightError> {
    let sql = "select exists (select from pg_partition_tree(to_regclass($1)) t join pg_class c on c.oid = t.relid \
               where c.relkind not in ('r', 'p') or (c.relkind = 'r' and c.relpersistence <> 'p'))";
    let row = session.client().query_one(sql, &[&table_name(table)]).await;
    match row.map_err(session.error("read the partitions"))?.get(0) {
        true => {
            let what = "a partitioned table with a foreign or unlogged partition";
            Err(Unsafe::TableKind { table: table.name(), what }.into())
        }
        false => Ok(()),
    }
}

/// Checks that Postgres takes the condition that says which rows are events.
async fn check_filter(
    session: &Session,
    table: &OutboxTable,
    relation: &Relation,
) -> Result<(), PreflightError> {
    if table.filter.is_none() {
        return Ok(());
    }
    let mistake = |what: String| OutboxError::mistake(relation, Mistake::new("where", what));
    if session.version() < FILTERS {
        let what = "row filters of publications came with PostgreSQL 15: make a table of the events alone, or upgrade";
        return Err(mistake(what.to_owned()).into());
    }
    try_condition(session, table).await?.map_err(|why| mistake(why).into())
}

/// Has Postgres read the condition that says which rows are wanted; gives back what it does not take in it.
///
/// # Errors
/// When the database refuses for another reason.
pub async fn try_condition(
    session: &Session,
    table: &OutboxTable,
) -> Result<Result<(), String>, DatabaseError> {
    let sql = format!("select from {} limit 0", events(table));
    // By the extended protocol, which takes one statement: what closes the condition and begins another one is refused.
    let tried = session.client().query_typed(&sql, &[]).await;
    let tried = match (tried, &table.filter) {
        // Of no row nothing is evaluated: that a column's type has no hash is found with one, all of NULL.
        (Ok(_), Some(filter)) => {
            let of_nulls = format!("select ({filter}) from (select (null::{}).*) outbox", table_name(table));
            session.client().query_typed(&of_nulls, &[]).await
        }
        (tried, _) => tried,
    };
    let Err(error) = tried.map_err(session.error("try the condition")) else { return Ok(Ok(())) };
    match error.sqlstate() {
        // protocol_violation: it gets no values.
        Some("08P01") => {
            Ok(Err("it has parameters ($1), and there is nothing to put in their places".to_owned()))
        }
        // Class 42, syntax or access rule; 22, data.
        Some(code) if code.starts_with("42") || code.starts_with("22") => Ok(Err(error.to_string())),
        _ => Err(error),
    }
}

fn check_children(table: String, is_permanent: bool, children: Option<String>) -> Result<(), PreflightError> {
    if !is_permanent {
        return Err(Unsafe::TableUnlogged(table).into());
    }
    match children {
        Some(children) => Err(Unsafe::TableHasChildren { table, children }.into()),
        None => Ok(()),
    }
}

/// Checks that no policy hides rows of the table `outbox` (its oid) from this role. The stream is not filtered by
/// policies, so this is for those who read the table.
///
/// # Errors
/// When a policy may.
pub async fn check_row_security(
    session: &Session,
    table: &OutboxTable,
    outbox: Oid,
) -> Result<(), PreflightError> {
    let sql = "select row_security_active(c.oid), current_user::text, \
               pg_has_role(c.relowner, 'usage') and c.relforcerowsecurity from pg_class c where c.oid = $1";
    let rows = session.ask(sql, &[&outbox]).await;
    match rows.map_err(session.error("ask for row-level security"))?.first() {
        Some(row) if row.get(0) => {
            let (role, is_forced) = (row.get(1), row.get(2));
            Err(Unsafe::RowSecurity { table: table.name(), role, is_forced }.into())
        }
        _ => Ok(()),
    }
}
