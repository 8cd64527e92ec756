//! The rows of a table, page by page.

use std::pin::Pin;

use futures::TryStreamExt as _;
use tokio_postgres::RowStream;

use crate::cli::selection::{Asked, Chosen};
use crate::postgres::names::{events, quoted};
use crate::postgres::{DatabaseError, Session};
use crate::relay::backfill::table::PAGE_BYTES;

/// Rows of the first page, of whose size nothing is known.
const FIRST_ROWS: usize = 16;

/// Rows of a page at most: a page is a statement that is open until its last row is sent.
const PAGE_ROWS_MAX: usize = 1_000;

/// What a row weighs beside its values.
const ROW_BYTES: usize = 64;

/// What was there when it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Rows.
    pub(super) rows: u64,
    /// The highest number.
    pub(super) through: Option<i64>,
    /// Rows without a number, where there is a column of numbers.
    pub(super) unnumbered: u64,
    /// Whether no two rows can have one number.
    is_unique: bool,
}

/// Counts the rows, and looks up to which number they go: what is behind it is not sent.
pub(super) async fn bounds(session: &Session, table: &Chosen) -> Result<Bounds, DatabaseError> {
    let order = table.table.order.as_deref().map(|order| format!("outbox.{}", quoted(order)));
    let order = order.unwrap_or_else(|| "null".to_owned());
    let sql = format!("select count(*), count({order}), max({order}::bigint) from {}", events(&table.table));
    let row = session.client().query_one(&sql, &[]).await.map_err(session.error("count the rows"))?;
    let (rows, numbered): (i64, i64) = (row.get(0), row.get(1));
    let number = |number: i64| u64::try_from(number).unwrap_or_default();
    Ok(Bounds {
        rows: number(rows),
        through: row.get(2),
        unnumbered: number(rows - numbered),
        is_unique: is_unique(session, table).await?,
    })
}

/// Whether an index sees to it that no two rows have one number.
async fn is_unique(session: &Session, table: &Chosen) -> Result<bool, DatabaseError> {
    let sql = "select exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] \
               where i.indrelid = $1 and i.indisunique and i.indisvalid and i.indpred is null and i.indnkeyatts = 1 \
               and a.attname = $2)";
    let Some(order) = &table.table.order else { return Ok(false) };
    let row = session.client().query_one(sql, &[&table.columns.id, order]).await;
    Ok(row.map_err(session.error("look at the indexes of the table"))?.get(0))
}

/// Reads rows in the order of the table.
pub(super) struct Pages<'a> {
    session: &'a Session,
    /// The table.
    pub(super) table: &'a Chosen,
    bounds: Bounds,
    state: State,
    rows: Option<Pin<Box<RowStream>>>,
    /// Rows that a page asks for.
    asks: usize,
    /// Rows of the page so far, and their bytes.
    read: usize,
    bytes: usize,
}

/// What is read next.
#[derive(Debug, Clone, Copy)]
enum State {
    /// Rows behind this number.
    Behind(Option<i64>),
    /// Rows without a number; where the table has no order, all of them.
    Unordered,
    Ended,
}

impl<'a> Pages<'a> {
    pub(super) fn new(session: &'a Session, table: &'a Chosen, bounds: Bounds) -> Self {
        let state = match (&table.table.order, bounds.through) {
            (Some(_), Some(_)) => State::Behind(None),
            _ => State::Unordered,
        };
        Self { session, table, bounds, state, rows: None, asks: FIRST_ROWS, read: 0, bytes: 0 }
    }

    /// Whether no two rows can have one number.
    pub(super) fn is_unique(&self) -> bool {
        self.bounds.is_unique
    }

    /// Whether a page has to be opened before the next row.
    pub(super) fn is_between(&self) -> bool {
        self.rows.is_none()
    }

    /// Opens the next page; `false` when there is none.
    pub(super) async fn open(&mut self) -> Result<bool, DatabaseError> {
        let order = self.table.table.order.as_deref().map(|order| format!("outbox.{}", quoted(order)));
        let (which, limit) = match (self.state, &order) {
            (State::Ended, _) => return Ok(false),
            (State::Behind(behind), Some(order)) => {
                let behind = behind.map_or_else(String::new, |behind| format!("{order} > {behind} and "));
                let through = self.bounds.through.unwrap_or(i64::MAX);
                // Numbers need not be unique: a page has all rows of its last one.
                let limit = format!("fetch first {} rows with ties", self.asks);
                (format!("{behind}{order} <= {through}"), limit)
            }
            (_, Some(order)) => (format!("{order} is null"), String::new()),
            (_, None) => ("true".to_owned(), String::new()),
        };
        let sql = format!("{} {limit}", self.table.statement("replay", "true", "", &which, true));
        self.rows = Some(Box::pin(self.table.rows(self.session, &sql).await?));
        (self.read, self.bytes) = (0, 0);
        if !matches!(self.state, State::Behind(_)) {
            self.state = State::Ended;
        }
        Ok(true)
    }

    /// The next row of the page; none at its end. Safe to drop while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<Asked>, DatabaseError> {
        let Some(rows) = &mut self.rows else { return Ok(None) };
        let row = rows.try_next().await.map_err(self.session.error("read the rows of the table"))?;
        let Some(row) = row else {
            self.end_page();
            return Ok(None);
        };
        let asked = self.table.asked(&row);
        self.read += 1;
        self.bytes += ROW_BYTES + asked.placed.row.bytes();
        if let State::Behind(behind) = &mut self.state {
            *behind = Some(asked.number);
        }
        Ok(Some(asked))
    }

    fn end_page(&mut self) {
        self.rows = None;
        if !matches!(self.state, State::Behind(_)) {
            return;
        }
        if self.read < self.asks {
            self.state = State::Unordered;
        }
        let fits = PAGE_BYTES * self.read / self.bytes.max(1);
        self.asks = fits.clamp(1, (4 * self.asks).min(PAGE_ROWS_MAX));
    }
}
