//! What the catalogue of Postgres says of the outbox' columns and their types.

use tokio_postgres::Row;

use crate::postgres::{DatabaseError, Session};
use walpost_core::event::{Kind, OutboxTable, TypeFact, Types};
use walpost_core::pgoutput::{Oid, Relation};

/// Types with all that lies below a domain, down to the type that is none. A domain is sent by the function of its base
/// type (`DefineDomain` in the Postgres sources), so that function says of each of them how its values are laid out; it
/// must be one of the server's own, or its source text means nothing here.
const TYPES: &str = "with recursive below as ( \
        select t.oid as of, t.oid, t.typtype, t.typbasetype from pg_type t where t.oid = any($1) \
        union all \
        select b.of, t.oid, t.typtype, t.typbasetype from below b join pg_type t on t.oid = b.typbasetype \
        where b.typtype = 'd') \
    select t.oid, n.nspname::text, t.typname::text, \
        case when l.lanname = 'internal' then p.prosrc else '' end, \
        t.typtype = 'd', base.typtype::text, format_type(base.oid, null), base.typcategory::text, \
        array(select e.enumlabel::text from pg_enum e where e.enumtypid = base.oid order by e.enumsortorder) \
    from below b join pg_type base on base.oid = b.oid join pg_type t on t.oid = b.of \
        join pg_namespace n on n.oid = t.typnamespace \
        left join pg_proc p on p.oid = t.typsend left join pg_language l on l.oid = p.prolang \
    where b.typtype <> 'd'";

/// What is known of the types of a table's columns, and of further ones.
///
/// # Errors
/// When the database refuses.
pub async fn types(session: &Session, relation: &Relation, further: &[Oid]) -> Result<Types, DatabaseError> {
    let of_columns = relation.columns.iter().map(|column| column.type_oid);
    let oids: Vec<Oid> = of_columns.chain(further.iter().copied()).collect();
    let rows = session.client().query(TYPES, &[&oids]).await;
    Ok(Types::new(rows.map_err(session.error("look up the types of the columns"))?.iter().map(fact)))
}

/// The table with the names that its columns have now.
///
/// # Errors
/// When the database refuses.
pub async fn resolved(session: &Session, table: &OutboxTable) -> Result<OutboxTable, DatabaseError> {
    if !table.is_ambiguous() {
        return Ok(table.clone());
    }
    let sql = "select a.attname::text from pg_attribute a join pg_class c on c.oid = a.attrelid \
               join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = $1 and c.relname = $2 and a.attnum > 0 and not a.attisdropped";
    let rows = session.client().query(sql, &[&table.schema, &table.table]).await;
    let rows = rows.map_err(session.error("read the names of the columns"))?;
    Ok(table.resolved(|name| rows.iter().any(|row| row.get::<_, &str>(0) == name)))
}

fn fact(row: &Row) -> TypeFact {
    let (is_domain, base): (bool, String) = (row.get(4), row.get(6));
    let (kind, category): (String, String) = (row.get(5), row.get(7));
    let what = match (kind.as_str(), category.as_str()) {
        ("c", _) => "a composite type",
        ("e", _) => "an enum",
        ("r", _) => "a range type",
        ("m", _) => "a multirange type",
        (_, "A") => "an array type",
        _ => "a base type",
    };
    let what = if is_domain { format!("a domain over {base}, {what}") } else { what.to_owned() };
    TypeFact {
        oid: row.get(0),
        namespace: row.get(1),
        name: row.get(2),
        kind: Kind::sent_by(row.get::<_, &str>(3)),
        what,
        labels: row.get(8),
    }
}
