//! `walpost preview`: the records that the newest rows of the table would give. It needs no slot and no Kafka, and changes
//! nothing.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::config::Settings;
use crate::error::Error;
use crate::postgres::names::{events, newest_first, quoted};
use crate::postgres::preflight::{self, Outbox};
use crate::postgres::{Session, catalogue};
use crate::registry;
use crate::relay::backfill::table::tuple;
use walpost_core::event::record::Record;
use walpost_core::event::render::Renderer;
use walpost_core::event::{OutboxTable, PlacedRow, Plan, Position};
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Tuple;

/// So much of a value is shown.
const SHOWN_BYTES: usize = 400;

/// What the newest rows of each table would give.
#[derive(Debug)]
pub struct Preview(Vec<TablePreview>);

/// What the newest rows of a table would give.
#[derive(Debug)]
struct TablePreview {
    table: String,
    /// What was guessed from the names of the columns.
    guesses: Vec<String>,
    /// Each as JSON, or why there is none; the newest first.
    records: Vec<Result<Value, String>>,
}

/// Reads the newest `count` rows of each table.
///
/// # Errors
/// When the settings do not fit the table, or Postgres refuses.
pub async fn run(settings: &Settings, count: u32) -> Result<Preview, Error> {
    let source = registry::with_schemas(settings).await?;
    let session = Session::connect(&settings.database, settings.timing.connect_timeout).await?;
    let mut previews = Vec::new();
    for given in preflight::tables(&session, &source).await? {
        previews.push(of_table(&session, &given, count).await?);
    }
    Ok(Preview(previews))
}

async fn of_table(session: &Session, given: &OutboxTable, count: u32) -> Result<TablePreview, Error> {
    let Outbox { relation, table } = preflight::check_table(session, given).await?;
    let types = catalogue::types(session, [&relation], &[]).await?;
    let plan = Arc::new(Plan::new(&table, &Arc::new(relation.clone()), &types)?);
    let columns: Vec<_> = relation.columns.iter().map(|column| quoted(&column.name)).collect();
    let sql = format!(
        "select {} from {} order by {} limit {count}",
        columns.join(", "),
        events(&table),
        newest_first(&table)
    );
    let rows = session.client().query(&sql, &[]).await.map_err(session.error("read the newest rows"))?;
    let mut renderer = Renderer::default();
    let mut record =
        |row: &tokio_postgres::Row| rendered(&mut renderer, &plan, tuple(row, relation.columns.len()));
    Ok(TablePreview {
        table: table.name(),
        guesses: super::init::guesses(given, &table),
        records: rows.iter().map(&mut record).collect(),
    })
}

fn rendered(renderer: &mut Renderer, plan: &Arc<Plan>, row: Tuple) -> Result<Value, String> {
    // Only a commit has a place in the WAL.
    let position = Position { lsn: Lsn::ZERO, ordinal: 0, committed_at: Position::UNKNOWN_TIME };
    let placed = PlacedRow { row, plan: Arc::clone(plan), position };
    renderer.render(&placed).map(|record| shown(&record)).map_err(|error| error.to_string())
}

fn shown(record: &Record<'_>) -> Value {
    let headers = record.headers.iter().filter(|(name, _)| !name.starts_with("wal-"));
    let headers: serde_json::Map<_, _> =
        headers.map(|(name, value)| (name.to_owned(), value.map_or(Value::Null, text))).collect();
    json!({
        "topic": record.topic.name,
        "partition": record.partition,
        "key": record.key.map(text),
        "value": record.value.map(text),
        "value_bytes": record.value.map(<[u8]>::len),
        "headers": headers,
        "timestamp_ms": (record.timestamp_ms != 0).then_some(record.timestamp_ms),
    })
}

/// Text, or the bytes in hexadecimal as Postgres shows them.
fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")).into(),
    }
}

impl Preview {
    /// Whether every row gives a record.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.0.iter().flat_map(|table| &table.records).all(Result::is_ok)
    }

    /// A line of JSON for each row.
    #[must_use]
    pub fn json(&self) -> String {
        let line = |record: &Result<Value, String>| match record {
            Ok(record) => record.to_string(),
            Err(error) => json!({ "error": error }).to_string(),
        };
        self.0.iter().flat_map(|table| &table.records).map(line).collect::<Vec<_>>().join("\n")
    }

    /// For people.
    #[must_use]
    pub fn render(&self) -> String {
        match self.0.as_slice() {
            [] => "There is no table to show rows of: messages are in none, and a pattern may stand for none yet.".to_owned(),
            tables => tables.iter().map(TablePreview::render).collect::<Vec<_>>().join("\n\n"),
        }
    }
}

impl TablePreview {
    fn render(&self) -> String {
        let mut text = format!("table      {}", self.table);
        for guess in &self.guesses {
            let _ = write!(text, "\nguessed    {}", guess.trim_start_matches("guessed "));
        }
        if self.records.is_empty() {
            text.push_str("\n\nThe table has no rows to show: insert one, and look again.");
        }
        for record in &self.records {
            text.push_str("\n\n");
            match record {
                Ok(record) => text.push_str(&lines(record)),
                Err(error) => {
                    let _ = write!(text, "no record  {error}");
                }
            }
        }
        text
    }
}

/// A record, a part on each line.
fn lines(record: &Value) -> String {
    let part = |name: &str| match &record[name] {
        Value::Null => None,
        Value::String(text) => Some(cut(text)),
        other => Some(other.to_string()),
    };
    let mut text = format!("topic      {}", part("topic").unwrap_or_default());
    let mut add = |name: &str, value: String| {
        let _ = write!(text, "\n{name:<10} {value}");
    };
    if let Some(partition) = part("partition") {
        add("partition", partition);
    }
    add("key", part("key").unwrap_or_else(|| "none".into()));
    add(
        "value",
        part("value")
            .unwrap_or_else(|| "none: a null value, which a compacted topic takes for a deletion".into()),
    );
    for (name, value) in record["headers"].as_object().into_iter().flatten() {
        add("header", format!("{name}: {}", value.as_str().map_or_else(|| "null".into(), cut)));
    }
    add("timestamp", part("timestamp_ms").unwrap_or_else(|| "the commit's".into()));
    text
}

fn cut(text: &str) -> String {
    let line = text.replace(['\n', '\r'], " ");
    match line.len() {
        ..=SHOWN_BYTES => line,
        bytes => format!("{}… ({bytes} bytes)", &line[..line.floor_char_boundary(SHOWN_BYTES)]),
    }
}
