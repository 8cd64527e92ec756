//! Names as SQL has them.

use walpost_core::event::OutboxTable;

/// Schema and table as SQL has them.
pub(crate) fn table_name(table: &OutboxTable) -> String {
    format!("{}.{}", quoted(&table.schema), quoted(&table.table))
}

/// A table of this name as a publication has it, with its row filter.
pub(crate) fn with_filter(name: &str, filter: Option<&str>) -> String {
    filter.map_or_else(|| name.to_owned(), |filter| format!("{name} where ({filter})"))
}

/// The table as a source of its own rows, in a FROM clause. Rows of children are none of them, and rows of partitions are.
pub(crate) fn own_rows(table: &OutboxTable) -> String {
    if table.is_partitioned { table_name(table) } else { format!("only {}", table_name(table)) }
}

/// The rows that are events, under the name `outbox`. The condition stands in a query of its own: it names columns as they
/// are called, whatever else the statement reads.
pub(crate) fn events(table: &OutboxTable) -> String {
    let own = own_rows(table);
    match &table.filter {
        Some(filter) => format!("(select ctid, tableoid, xmin, * from {own} where ({filter})) outbox"),
        None => format!("{own} outbox"),
    }
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
        // A number in the key rises within a key, as an event store's does; a uuid says nothing.
        None => table.key_integers.iter().map(String::as_str).chain(table.time_column()).collect(),
    };
    let mut columns: Vec<_> = names.iter().map(|name| format!("outbox.{}", quoted(name))).collect();
    if table.order.is_none() {
        // As they were inserted, as far as nothing was moved.
        columns.push("outbox.ctid".to_owned());
    }
    columns
}

/// Text as SQL has it.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A table as people write it: in quotes where it needs them.
pub(crate) fn written(table: &OutboxTable) -> String {
    let plain = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && !name.starts_with(|first: char| first.is_ascii_digit())
    };
    if plain(&table.schema) && plain(&table.table) { table.name() } else { table_name(table) }
}

/// A name as SQL has it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
