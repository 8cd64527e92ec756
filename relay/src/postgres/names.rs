//! Names as SQL has them.

use walpost_core::event::OutboxTable;

/// Schema and table as SQL has them.
pub(crate) fn table_name(table: &OutboxTable) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.table))
}

/// The columns by which rows that stand in the table are read, as SQL has them.
pub(crate) fn order_by(table: &OutboxTable) -> String {
    order_columns(table).join(", ")
}

/// The same, the newest row first.
pub(crate) fn newest_first(table: &OutboxTable) -> String {
    let columns = order_columns(table);
    columns.iter().map(|column| format!("{column} desc")).collect::<Vec<_>>().join(", ")
}

fn order_columns(table: &OutboxTable) -> Vec<String> {
    let names: Vec<_> = match &table.order {
        Some(order) => vec![order.as_str()],
        None => table.time_column().into_iter().chain(table.primary_key.iter().map(String::as_str)).collect(),
    };
    if names.is_empty() {
        // As they were inserted, as far as nothing was moved.
        return vec!["outbox.ctid".to_owned()];
    }
    names.iter().map(|name| format!("outbox.{}", quoted(name))).collect()
}

/// A name as SQL has it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
