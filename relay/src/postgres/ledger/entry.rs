//! A table's row in the ledger, written by all who write one.

use tokio_postgres::types::ToSql;

use crate::postgres::preflight::FoundTable;
use crate::postgres::{DatabaseError, Session};

/// What a row begins with, in the order of [`Columns`] behind the slot.
pub(super) const COLUMNS: &str = "slot_name, table_oid, table_name, pattern, publication_oid, publication_table_oid, \
    publication_rows, guesses";

/// What is kept of guesses, where a row is there as `old`: what was guessed first stays. The filter is that of the publication,
/// which was looked at.
pub(super) const GUESSES: &str = "excluded.guesses || coalesce(old.guesses, '{}') \
    || jsonb_build_object('where', excluded.guesses -> 'where')";

/// By another condition other rows were published.
pub(super) const SAME_FILTER: &str =
    "old.guesses ->> 'where' is not distinct from excluded.guesses ->> 'where'";

/// The publication as it is now takes the place of the one that was remembered.
pub(super) const PUBLISHED_BY: &str = "publication_oid = excluded.publication_oid, \
    publication_table_oid = excluded.publication_table_oid, publication_rows = excluded.publication_rows";

/// Writes a table's row: behind the common table expressions `with`, and, where there is one, by `update` beside its names.
pub(super) async fn enter(
    session: &Session,
    slot: &str,
    found: &FoundTable,
    with: &str,
    update: &str,
) -> Result<(), DatabaseError> {
    let sql = format!(
        "{with} insert into walpost.outbox as old ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8) \
         on conflict (slot_name, table_oid) do update set table_name = excluded.table_name, pattern = excluded.pattern, {update}"
    );
    let Columns { oids, names, patterns, publications, entries, rows, guesses } =
        Columns::of(std::slice::from_ref(found));
    let values: [&(dyn ToSql + Sync); 8] =
        [&slot, &oids[0], &names[0], &patterns[0], &publications[0], &entries[0], &rows[0], &guesses[0]];
    session.client().execute(&sql, &values).await.map_err(session.error("write walpost.outbox"))?;
    Ok(())
}

/// What is remembered of tables, a column each.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) oids: Vec<u32>,
    pub(super) names: Vec<String>,
    pub(super) patterns: Vec<Option<String>>,
    pub(super) publications: Vec<u32>,
    pub(super) entries: Vec<u32>,
    pub(super) rows: Vec<String>,
    pub(super) guesses: Vec<serde_json::Value>,
}

impl Columns {
    pub(super) fn of(tables: &[FoundTable]) -> Self {
        let mut columns = Self::default();
        for FoundTable { relation, table, publication, .. } in tables {
            columns.oids.push(relation.id);
            columns.names.push(table.name());
            columns.patterns.push(table.found_by.as_ref().map(ToString::to_string));
            columns.publications.push(publication.publication);
            columns.entries.push(publication.table);
            columns.rows.push(publication.rows.clone());
            columns.guesses.push(serde_json::to_value(&table.guesses).unwrap_or_default());
        }
        columns
    }
}
