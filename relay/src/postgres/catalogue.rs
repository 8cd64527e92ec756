//! What the catalogue of Postgres says of the outbox' columns and their types.

use tokio_postgres::Row;

use crate::postgres::names::table_name;
use crate::postgres::{DatabaseError, Session};
use walpost_core::event::mapping::Guesses;
use walpost_core::event::{Kind, OutboxError, OutboxTable, Pattern, TypeFact, Types};
use walpost_core::pgoutput::{Column, Oid, Relation};

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

/// What is known of the types of tables' columns, and of further ones.
///
/// # Errors
/// When the database refuses.
pub async fn types<'a>(
    session: &Session,
    relations: impl IntoIterator<Item = &'a Relation>,
    further: &[Oid],
) -> Result<Types, DatabaseError> {
    let columns = relations.into_iter().flat_map(|relation| &relation.columns);
    let of_columns = columns.map(|column| column.type_oid);
    let oids: Vec<Oid> = of_columns.chain(further.iter().copied()).collect();
    let rows = session.ask(TYPES, &[&oids]).await;
    Ok(Types::new(rows.map_err(session.error("look up the types of the columns"))?.iter().map(fact)))
}

/// The outbox as the catalogue has it now.
#[derive(Debug)]
pub struct Looked {
    /// In the form in which the stream describes tables.
    pub relation: Relation,
    /// What is known of the types of its columns.
    pub types: Types,
    /// The table with all that was guessed of it, or what cannot be.
    pub table: Result<OutboxTable, OutboxError>,
}

impl Looked {
    /// The column with the time at which a row was written, where there is one of a type that is a time.
    #[must_use]
    pub fn time_column(&self) -> Option<&str> {
        let name = self.table.as_ref().ok()?.time_column()?;
        let column = self.relation.columns.iter().find(|column| column.name == name)?;
        (self.types.kind(column.type_oid) == Some(Kind::Timestamp)).then_some(name)
    }
}

/// Looks at the outbox; `None` where there is no such table.
///
/// # Errors
/// When the database refuses.
pub async fn look(session: &Session, table: &OutboxTable) -> Result<Option<Looked>, DatabaseError> {
    let Some(table) = find(session, table).await? else { return Ok(None) };
    let Some(relation) = describe(session, &table).await? else { return Ok(None) };
    let types = types(session, [&relation], &[]).await?;
    let kept = kept_guesses(session, &table.slot, relation.id).await?;
    let table = table.guessed(&relation, &types, &kept);
    Ok(Some(Looked { relation, types, table }))
}

/// What was guessed when the slot was made; nothing where it is not there yet, or this role may not see it.
async fn kept_guesses(session: &Session, slot: &str, table: Oid) -> Result<Guesses, DatabaseError> {
    let sql = "select exists (select from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = 'walpost' and c.relname = 'outbox' and has_schema_privilege(n.oid, 'usage') \
               and has_table_privilege(c.oid, 'select'))";
    let doing = "look for what was guessed";
    let there = session.ask(sql, &[]).await.map_err(session.error(doing))?;
    if !there.iter().any(|row| row.get::<_, bool>(0)) {
        return Ok(Guesses::new());
    }
    let sql = "select guesses from walpost.outbox where slot_name = $1 and table_oid = $2";
    let rows = session.ask(sql, &[&slot, &table]).await.map_err(session.error(doing))?;
    let kept: Option<serde_json::Value> = rows.first().and_then(|row| row.get(0));
    Ok(kept.and_then(|kept| serde_json::from_value(kept).ok()).unwrap_or_default())
}

/// The tables that the settings stand for: each by its name, those of a pattern in the order of theirs.
///
/// # Errors
/// When the database refuses.
pub async fn expand(session: &Session, tables: &[OutboxTable]) -> Result<Vec<OutboxTable>, DatabaseError> {
    let mut expanded = Vec::new();
    for table in tables {
        match table.pattern() {
            None => expanded.push(table.clone()),
            Some(pattern) => expanded.extend(of_pattern(session, table, &pattern).await?),
        }
    }
    Ok(expanded)
}

/// A table's object id, where it is there.
///
/// # Errors
/// When the database refuses.
pub async fn oid_of(session: &Session, table: &OutboxTable) -> Result<Option<Oid>, DatabaseError> {
    let row = session.client().query_one("select to_regclass($1)::oid", &[&table_name(table)]).await;
    Ok(row.map_err(session.error("look for the table"))?.get(0))
}

async fn of_pattern(
    session: &Session,
    table: &OutboxTable,
    pattern: &Pattern,
) -> Result<Vec<OutboxTable>, DatabaseError> {
    // Partitions are parts of a table, and what is of the server or of walpost is no outbox.
    let sql = "select n.nspname::text, c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where c.relkind in ('r', 'p') and not c.relispartition and c.relpersistence = 'p' \
               and n.nspname not in ('walpost', 'information_schema') and n.nspname not like 'pg\\_%' \
               and n.nspname like $1 and c.relname like $2 order by n.nspname, c.relname";
    let like = |name: &str| {
        let escaped = name.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
        escaped.replace('*', "%")
    };
    let rows = session.client().query(sql, &[&like(&table.schema), &like(&table.table)]).await;
    let rows = rows.map_err(session.error("look for the tables"))?;
    let names = rows.iter().map(|row| (row.get::<_, &str>(0), row.get::<_, &str>(1)));
    let found = names.filter(|(schema, name)| pattern.matches(schema, name));
    Ok(found.map(|(schema, name)| table.named(schema, name)).collect())
}

/// The table's name as it is stored, its database and its primary key.
async fn find(session: &Session, table: &OutboxTable) -> Result<Option<OutboxTable>, DatabaseError> {
    let sql = "select n.nspname::text, c.relname::text, current_database()::text, \
               array(select a.attname::text from pg_index i join lateral unnest(i.indkey) with ordinality k (attnum, place) \
                   on true join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum \
                   and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) \
                   where i.indrelid = c.oid and i.indisprimary order by k.place), \
               (select a.attname::text from pg_index i join pg_attribute a on a.attrelid = i.indrelid \
                   and a.attnum = i.indkey[0] where i.indrelid = c.oid and i.indisprimary and i.indnkeyatts = 1 \
                   and a.atttypid in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)) \
               , c.relkind = 'p' \
               from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               where c.relkind in ('r', 'p', 'v', 'm', 'f') and ";
    let named =
        |condition: &str| format!("{sql} {condition} order by n.nspname = $1 desc, c.relname = $2 desc");
    let ask = async |sql: &str| {
        let rows = session.ask(sql, &[&table.schema, &table.table]).await;
        rows.map_err(session.error("look for the table"))
    };
    // By the index of names first: without regard to case every table is looked at.
    let mut rows = ask(&named("n.nspname = $1 and c.relname = $2")).await?;
    if rows.is_empty() && table.found_by.is_none() {
        rows = ask(&named("lower(n.nspname) = lower($1) and lower(c.relname) = lower($2)")).await?;
    }
    let is_exact = |row: &&Row| row.get::<_, &str>(0) == table.schema && row.get::<_, &str>(1) == table.table;
    // Of several that differ in case only, none is meant but the one that is named.
    let found = rows.iter().find(is_exact).or(rows.first().filter(|_| rows.len() == 1));
    Ok(found.map(|row| OutboxTable {
        schema: row.get(0),
        table: row.get(1),
        database: row.get(2),
        key_integers: row.get(3),
        order: table.order.clone().or_else(|| row.get(4)),
        is_partitioned: row.get(5),
        ..table.clone()
    }))
}

/// The table as the catalogue has it, in the form in which the stream describes tables.
async fn describe(session: &Session, table: &OutboxTable) -> Result<Option<Relation>, DatabaseError> {
    let sql = "select c.oid, a.attname::text, a.atttypid from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
               where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p') order by a.attnum";
    let rows = session.ask(sql, &[&table.schema, &table.table]).await;
    let rows = rows.map_err(session.error("read the table's columns"))?;
    let column = |row: &Row| Some(Column { name: row.get::<_, Option<_>>(1)?, type_oid: row.get(2) });
    Ok(rows.first().map(|first| Relation {
        id: first.get(0),
        namespace: table.schema.clone(),
        name: table.table.clone(),
        columns: rows.iter().filter_map(column).collect(),
    }))
}

/// The table with all that was guessed of it.
///
/// # Errors
/// When the database refuses, there is no such table, or something cannot be guessed.
pub async fn resolved(session: &Session, table: &OutboxTable) -> Result<OutboxTable, DatabaseError> {
    let unfit = |what: &str| DatabaseError::of_stream("look at the outbox", session.place(), what);
    match look(session, table).await? {
        Some(Looked { table, .. }) => table.map_err(|error| unfit(&error.to_string())),
        None => Err(unfit(&format!("there is no table {}", table.name()))),
    }
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
