//! Rows of the tables that somebody asks for, for `walpost audit` and `walpost replay`: which, and how they become records.

use std::sync::Arc;

use tokio_postgres::{Row, RowStream};

use crate::config::Settings;
use crate::error::Error;
use crate::postgres::names::{events, literal, order_by, quoted};
use crate::postgres::preflight::{self, Outbox};
use crate::postgres::{DatabaseError, Session, catalogue};
use crate::relay::backfill::table::{lift_limits, tuple};
use walpost_core::event::{Kind, OutboxTable, PlacedRow, Plan, Position};
use walpost_core::lsn::Lsn;
use walpost_core::publish::sink::SinkError;
use walpost_core::time;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It was asked for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// A server, or what is not as it must be.
    #[error("{}", .0.told())]
    Failed(#[from] Error),
    /// The file that holds what memory does not.
    #[error("cannot keep what does not fit into memory: {0}; name another folder (--scratch)")]
    Scratch(#[from] std::io::Error),
    /// Somebody stopped it.
    #[error("stopped before the end: nothing is known of the rest")]
    Stopped,
}

impl From<SinkError> for CommandError {
    fn from(error: SinkError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<DatabaseError> for CommandError {
    fn from(error: DatabaseError) -> Self {
        Self::Failed(error.into())
    }
}

/// Which rows are asked for; nothing is said: all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// A condition in SQL.
    pub condition: Option<String>,
    /// Those of this time or later, microseconds since 1970-01-01 UTC.
    pub since: Option<i64>,
    /// From this number of the column that orders the table on.
    pub from: Option<i64>,
    /// Up to this number.
    pub to: Option<i64>,
    /// The tables, of those that the settings stand for; empty: all of them.
    pub outboxes: Vec<String>,
}

impl Selection {
    /// Whether rows of the tables may be left out.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        let Self { condition, since, from, to, outboxes } = self;
        condition.is_some() || since.is_some() || from.is_some() || to.is_some() || !outboxes.is_empty()
    }
}

/// A table of which rows are asked for.
pub(super) struct Chosen {
    /// The table; its condition is that of the settings and that of the selection together.
    pub(super) table: OutboxTable,
    /// The table with the columns that make a record.
    pub(super) columns: walpost_core::pgoutput::Relation,
    /// How its rows become records.
    pub(super) plan: Arc<Plan>,
}

/// Connects to read rows: whatever a condition calls, it changes nothing, and it may take its time.
///
/// # Errors
/// When the server cannot be reached, or refuses.
pub(super) async fn connect(settings: &Settings) -> Result<Session, DatabaseError> {
    let session = Session::connect(&settings.database, settings.timing.connect_timeout).await?;
    let read_only = "set default_transaction_read_only = on";
    session.client().batch_execute(read_only).await.map_err(session.error("read only"))?;
    lift_limits(&session).await?;
    Ok(session)
}

/// The tables of which rows are asked for.
///
/// # Errors
/// When a table, or what is asked of it, is not as it must be.
pub(super) async fn tables(
    session: &Session,
    settings: &Settings,
    selection: &Selection,
) -> Result<Vec<Chosen>, CommandError> {
    let given = preflight::tables(session, &settings.source).await.map_err(Error::from)?;
    if given.is_empty() && !settings.source.messages.is_empty() {
        return Err(CommandError::Usage(
            "logical messages are in no table: there are no rows to read".into(),
        ));
    }
    let mut chosen = Vec::new();
    for given in &given {
        let Outbox { relation, table } = preflight::check_table(session, given).await.map_err(Error::from)?;
        if !selection.outboxes.is_empty() && !selection.outboxes.iter().any(|name| is_named(&table, name)) {
            continue;
        }
        preflight::check_row_security(session, &table, relation.id).await.map_err(Error::from)?;
        let names: Vec<_> = table.needed(&relation).map(str::to_owned).collect();
        let types = catalogue::types(session, [&relation], &[]).await?;
        let kind = |name: &str| {
            let column = relation.columns.iter().find(|column| column.name == name)?;
            types.kind(column.type_oid)
        };
        let filter = condition(selection, &table, |name| kind(name) == Some(Kind::Timestamp))?;
        let columns = relation.columns.iter().filter(|column| names.contains(&column.name)).cloned();
        let columns = walpost_core::pgoutput::Relation { columns: columns.collect(), ..relation.clone() };
        let plan = Plan::new(&table, &Arc::new(columns.clone()), &types).map_err(Error::from)?;
        let filter = both(table.filter.as_deref(), filter);
        let table = OutboxTable { filter, ..table };
        let unfit = |why| CommandError::Usage(format!("the condition does not fit {}: {why}", table.name()));
        preflight::try_condition(session, &table).await?.map_err(unfit)?;
        chosen.push(Chosen { table, columns, plan: Arc::new(plan) });
    }
    let known = || given.iter().map(OutboxTable::name).collect::<Vec<_>>().join(", ");
    let is_unknown =
        |name: &&String| !chosen.iter().any(|chosen: &Chosen| is_named(&chosen.table, name.as_str()));
    if let Some(unknown) = selection.outboxes.iter().find(is_unknown) {
        let what =
            format!("--outbox: {unknown} is none of the tables that the settings stand for: {}", known());
        return Err(CommandError::Usage(what));
    }
    Ok(chosen)
}

fn is_named(table: &OutboxTable, name: &str) -> bool {
    table.name() == name || (table.schema == "public" && table.table == name)
}

/// The selection as a condition in SQL. `is_time` says whether a column holds times.
fn condition(
    selection: &Selection,
    table: &OutboxTable,
    is_time: impl Fn(&str) -> bool,
) -> Result<Option<String>, CommandError> {
    let mut filter = selection.condition.as_ref().map(|condition| format!("{condition}\n"));
    let mut add = |condition: String| filter = both(filter.as_deref(), Some(condition));
    if let Some(since) = selection.since {
        let column = table.time_column().filter(|name| is_time(name)).ok_or_else(|| {
            CommandError::Usage(format!(
                "--since: {} has no column of times (the setting time): use --where, or --from-id",
                table.name()
            ))
        })?;
        let mut text = Vec::new();
        time::write_rfc3339(since, &mut text);
        let text = String::from_utf8_lossy(&text).into_owned();
        add(format!("{} >= {}::timestamptz", quoted(column), literal(&text)));
    }
    for (option, sign, number) in [("--from-id", ">=", selection.from), ("--to-id", "<=", selection.to)] {
        let Some(number) = number else { continue };
        let order = table.order.as_deref().ok_or_else(|| {
            CommandError::Usage(format!(
                "{option}: {} has no integer column that orders it (the setting order): use --where",
                table.name()
            ))
        })?;
        add(format!("{} {sign} {number}", quoted(order)));
    }
    Ok(filter)
}

/// Each on a line of its own: a comment at its end ends there.
fn both(one: Option<&str>, other: Option<String>) -> Option<String> {
    match (one, other) {
        (Some(one), Some(other)) => Some(format!("({one}\n) and ({other}\n)")),
        (one, other) => one.map(str::to_owned).or(other),
    }
}

/// A row that was asked for.
pub(super) struct Asked {
    /// The row, without a place in the WAL.
    pub(super) placed: PlacedRow,
    /// What orders it; where there is nothing of that kind, where it lies in the table.
    pub(super) number: i64,
    /// Whether the number orders rows.
    pub(super) is_ordered: bool,
    /// What was asked beside it.
    pub(super) is_so: bool,
}

/// What lies where, as a number: the page and the place in it.
const LIES_AT: &str = "((outbox.ctid::text::point)[0]::bigint << 16) + (outbox.ctid::text::point)[1]::bigint";

impl Chosen {
    /// The statement that gives its rows; beside each it asks `is_so`, from what `join` adds. `which` is a further condition.
    pub(super) fn statement(
        &self,
        what: &str,
        is_so: &str,
        join: &str,
        which: &str,
        in_order: bool,
    ) -> String {
        let columns: Vec<_> =
            self.columns.columns.iter().map(|column| format!("outbox.{}", quoted(&column.name))).collect();
        let order = self.table.order.as_deref().map(|order| format!("outbox.{}::bigint", quoted(order)));
        let order = order.unwrap_or_else(|| "null::bigint".to_owned());
        let sorted = if in_order { format!("order by {}", order_by(&self.table)) } else { String::new() };
        // The first words are what pg_stat_activity shows of it.
        format!(
            "/* walpost: {what} */ select {}{} {order}, {LIES_AT}, {is_so} from {} {join} where {which} {sorted}",
            columns.join(", "),
            if columns.is_empty() { "" } else { "," },
            events(&self.table)
        )
    }

    /// Begins to read rows.
    ///
    /// # Errors
    /// When the database refuses.
    pub(super) async fn rows(&self, session: &Session, sql: &str) -> Result<RowStream, DatabaseError> {
        let rows = session.client().query_raw(sql, std::iter::empty::<i64>()).await;
        rows.map_err(session.error("read the rows of the table"))
    }

    /// A row that [`rows`](Self::rows) gave.
    pub(super) fn asked(&self, row: &Row) -> Asked {
        let values = self.columns.columns.len();
        let position = Position { lsn: Lsn::ZERO, ordinal: 0, committed_at: Position::UNKNOWN_TIME };
        let number: Option<i64> = row.get(values);
        Asked {
            placed: PlacedRow { row: tuple(row, values), plan: Arc::clone(&self.plan), position },
            number: number.unwrap_or_else(|| row.get(values + 1)),
            is_ordered: number.is_some(),
            is_so: row.get(values + 2),
        }
    }

    /// A row as a condition that finds it.
    pub(super) fn where_is(&self, number: i64, is_ordered: bool) -> String {
        match &self.table.order {
            Some(order) if is_ordered => format!("{} = {number}", quoted(order)),
            _ => format!("ctid = '({},{})'", number >> 16, number & 0xFFFF),
        }
    }

    /// Records of it say where their rows stand in the WAL, by this setting: others are made of rows of the table.
    pub(super) fn names_place(&self) -> Option<String> {
        self.table.mapping.names_place()
    }
}

/// A time in the past: in ISO 8601, or so long ago, as in `90m`, `12h` and `7d`. Microseconds since 1970-01-01 UTC.
///
/// # Errors
/// When it is neither.
pub(super) fn since(text: &str, now: i64) -> Result<i64, CommandError> {
    let ago = || {
        let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        let number: i64 = number.parse().ok().filter(|number| *number >= 0)?;
        Some(now - number.checked_mul(seconds)?.checked_mul(1_000_000)?)
    };
    ago().or_else(|| time::parse_iso_8601(text)).ok_or_else(|| {
        CommandError::Usage(format!(
            "--since: `{text}` is no time: expected one as in 2026-03-01T10:00:00Z, or how long ago, as in 90m, 12h or 7d"
        ))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use walpost_core::event::Mapping;

    #[test]
    fn a_time_is_given_or_so_long_ago() {
        assert_eq!(since("90m", 10_000_000_000).unwrap(), 10_000_000_000 - 5_400_000_000);
        assert_eq!(since("1970-01-01T00:00:01Z", 0).unwrap(), 1_000_000);
        for wrong in ["", "d", "-1d", "yesterday", "5y", "ä"] {
            assert!(since(wrong, 0).is_err(), "{wrong}");
        }
    }

    #[test]
    fn conditions_stand_beside_each_other_whatever_they_end_with() {
        let table =
            OutboxTable { order: Some("id".into()), ..OutboxTable::new("s", "t", Mapping::default()) };
        let selection = Selection {
            condition: Some("a or b -- c".into()),
            from: Some(-1),
            to: Some(5),
            ..Selection::default()
        };
        let filter = condition(&selection, &table, |_| false).unwrap();
        assert_eq!(
            both(Some("x"), filter).unwrap(),
            "(x\n) and (((a or b -- c\n\n) and (\"id\" >= -1\n)\n) and (\"id\" <= 5\n)\n)"
        );
        let selection = Selection { since: Some(0), ..Selection::default() };
        assert!(condition(&selection, &table, |_| false).is_err(), "no column of times");
    }
}
