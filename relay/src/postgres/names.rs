//! Names as SQL has them.

use walpost_core::event::{OutboxTable, Role};

/// Schema and table as SQL has them.
pub(crate) fn table_name(table: &OutboxTable) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.table))
}

/// The column of the id as SQL has it.
pub(crate) fn id_column(table: &OutboxTable) -> String {
    quoted(table.column(Role::Id).unwrap_or_default())
}

/// A name as SQL has it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
