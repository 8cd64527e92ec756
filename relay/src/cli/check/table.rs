//! A table of the side of Postgres.

use super::Side;
use super::failure::failed;
use crate::config::{CleanRule, Settings, TableSource};
use crate::postgres::Session;
use crate::postgres::names::{quoted, table_name};
use crate::postgres::preflight::{self, Outbox};
use walpost_core::event::Kind;
use walpost_core::pgoutput::{Column, Relation};

/// One of the tables, and what it is looked at with.
pub(super) struct Table<'a> {
    pub(super) session: &'a Session,
    pub(super) settings: &'a Settings,
    /// The table, with all that was guessed.
    pub(super) source: TableSource,
    /// The column that says when a row was written.
    pub(super) time: Option<String>,
}

impl Table<'_> {
    /// Looks at all of it; the table, where it is one to follow.
    pub(super) async fn check(&self, side: &mut Side<'_>) -> Option<(TableSource, Relation)> {
        let outbox = self.table(side).await?;
        self.id_index(side).await;
        self.payload_bound(side, &outbox).await;
        self.clean(side);
        self.updates(side).await;
        self.publication(side, &outbox).await;
        Some((self.source.clone(), outbox))
    }

    /// The table, where it is one to follow.
    async fn table(&self, side: &mut Side<'_>) -> Option<Relation> {
        const NAME: &str = "table";
        let table = &self.source.table;
        let relation = match preflight::check_table(self.session, table).await {
            Ok(Outbox { relation, .. }) => relation,
            Err(error) => {
                failed(side, NAME, error.into());
                return None;
            }
        };
        side.ok(NAME, format!("{}, {} columns", table.name(), relation.columns.len()));
        if let Err(error) = preflight::check_row_security(self.session, table, relation.id).await {
            failed(side, "row security", error.into());
        }
        Some(relation)
    }

    /// The table is read, and cleaned, by ranges of the column that orders it.
    async fn id_index(&self, side: &mut Side<'_>) {
        const NAME: &str = "id index";
        let table = &self.source.table;
        let name = table_name(table);
        let Some(id) = table.order.as_deref() else {
            return side.warn(
                NAME,
                "no integer orders the table: of rows that a first copy or a recovery publishes, those of one key may change \
                 places; it is read in one statement, and begun anew when that is interrupted; --clean=count cannot be used",
                "add a column such as `bigint generated always as identity`, and name it in --order",
            );
        };
        let sql = "select i.indexrelid::regclass::text from pg_index i join pg_attribute a on a.attrelid = i.indrelid \
                   and a.attnum = i.indkey[0] join pg_class c on c.oid = i.indexrelid \
                   join pg_am m on m.oid = c.relam and m.amname = 'btree' where i.indrelid = to_regclass($1) \
                   and a.attname = $2 and i.indisvalid and i.indpred is null order by i.indisprimary desc limit 1";
        match self.session.client().query_opt(sql, &[&name, &id]).await {
            Ok(Some(row)) => side.ok(NAME, row.get::<_, String>(0)),
            Ok(None) => side.warn(
                NAME,
                format!(
                    "no index begins with the column {id}: each page of a first copy sorts the whole table"
                ),
                format!("create index concurrently on {name} ({})", quoted(id)),
            ),
            Err(error) => failed(side, NAME, self.session.error("read the indexes")(error).into()),
        }
    }

    /// An event that no topic takes is better refused in the transaction that writes it.
    async fn payload_bound(&self, side: &mut Side<'_>, outbox: &Relation) {
        const NAME: &str = "payload bound";
        let table = &self.source.table;
        let name = table_name(table);
        let sql = "select pg_get_constraintdef(oid) from pg_constraint where conrelid = to_regclass($1) \
                   and contype = 'c' and pg_get_constraintdef(oid) like '%length(%' limit 1";
        match self.session.client().query_opt(sql, &[&name]).await {
            Ok(Some(row)) => side.ok(NAME, row.get::<_, String>(0)),
            Ok(None) => {
                let Some(value) = table.value_column() else { return };
                let is_bytes =
                    |column: &&Column| column.name == value && Kind::of(column.type_oid) == Kind::Bytea;
                let cast = if outbox.columns.iter().any(|column| is_bytes(&column)) { "" } else { "::text" };
                let value = format!("{}{cast}", quoted(value));
                side.warn(
                    NAME,
                    "no constraint bounds the payload: a row that no topic takes halts the relay",
                    format!("alter table {name} add check (octet_length({value}) <= 900000) not valid"),
                );
            }
            Err(error) => failed(side, NAME, self.session.error("read the constraints")(error).into()),
        }
    }

    /// What the settings promise of the table.
    async fn updates(&self, side: &mut Side<'_>) {
        const NAME: &str = "append-only";
        if !self.source.table.append_only {
            return;
        }
        let sql = "select coalesce(n_tup_upd, 0) from pg_stat_all_tables where relid = to_regclass($1)";
        let row = self.session.client().query_opt(sql, &[&table_name(&self.source.table)]).await;
        match row.map(|row| row.map_or(0, |row| row.get::<_, i64>(0))) {
            Ok(0) => side.ok(NAME, "no row has been updated"),
            Ok(rows) => side.warn(
                NAME,
                format!("{rows} rows have been updated, and append_only says that none is"),
                "with --where, a row that is updated into the condition is removed and was never published: take append_only \
                 back, or have nobody update rows",
            ),
            Err(error) => failed(side, NAME, self.session.error("read the statistics of the table")(error).into()),
        }
    }

    /// Whether rows can be removed as the settings ask for.
    fn clean(&self, side: &mut Side<'_>) {
        const NAME: &str = "cleaning";
        let Some(clean) = self.settings.clean else { return };
        let table = &self.source.table;
        match clean.rule {
            _ if table.is_partitioned => side.fail(
                NAME,
                "a partitioned table is not cleaned row by row",
                "set clean = \"off\", and detach and drop old partitions",
            ),
            CleanRule::OlderThan(_) if self.time.is_none() => side.fail(
                NAME,
                "no column of the type timestamptz or timestamp says when a row was written",
                "name one in --time, or set clean = \"off\"",
            ),
            CleanRule::AllButNewest(_) if table.order.is_none() => side.fail(
                NAME,
                "no integer orders the table, so nothing says which rows are the newest",
                "name a column that rises with each insert in --order, or clean by age",
            ),
            CleanRule::OlderThan(seconds) => {
                side.ok(NAME, format!("published rows go {seconds} s after they were written"))
            }
            CleanRule::AllButNewest(rows) => {
                side.ok(NAME, format!("all published rows go but the newest {rows}"))
            }
        }
    }

    async fn publication(&self, side: &mut Side<'_>, outbox: &Relation) {
        const NAME: &str = "publication";
        let source = &self.source;
        if let Err(error) = preflight::check_publication(self.session, source, outbox).await {
            return failed(side, NAME, error.into());
        }
        let sql = "select pubupdate or pubdelete or pubtruncate from pg_publication where pubname = $1";
        let publication = &source.publication;
        match self.session.client().query_one(sql, &[publication]).await {
            Ok(row) if row.get(0) => side.warn(
                NAME,
                format!(
                    "{publication} publishes more than inserts: rows that are removed are sent for nothing"
                ),
                format!(
                    "alter publication {publication} set (publish = 'insert'); since any alteration may have let \
                     rows pass, a relay that follows it then halts, and `walpost recover` goes on"
                ),
            ),
            Ok(_) => side.ok(NAME, format!("{publication}, inserts of {}", source.table.name())),
            Err(error) => failed(side, NAME, self.session.error("read pg_publication")(error).into()),
        }
    }
}
