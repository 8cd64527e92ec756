//! Reads the rows of the table, page by page; see [the module above](super) for why pages may be read so.
//!
//! A page is a statement of its own, outside any transaction, and asks for about [`PAGE_BYTES`] by what the rows of the page
//! before weighed. Its rows are taken from the connection one at a time: rows that are larger than expected wait in the
//! server, not in memory. Ids need not be unique: a page has all rows of its last id.

use std::pin::Pin;
use std::time::Duration;

use futures::{Stream, TryStreamExt, stream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Row, RowStream};

use super::end;
use crate::config::TableSource;
use crate::error::Error;
use crate::postgres::checkpoint::{IS_BEFORE_THE_COPY, IS_PUBLISHED};
use crate::postgres::ledger::{self, TableMemory};
use crate::postgres::names::{events, literal, order_by, quoted, table_name};
use crate::postgres::preflight::Unsafe;
use crate::postgres::{DatabaseError, Session};
use walpost_core::event::Types;
use walpost_core::pgoutput::{Relation, Tuple};
use walpost_core::window::copied::CopyId;

/// What a page is to weigh.
pub const PAGE_BYTES: usize = 1 << 20;

/// Rows of the first page: nothing is known of their size, and a mebibyte is the most that is usual.
const FIRST_ROWS: usize = 16;

/// Rows of a page at most: where nearly all are left out they weigh next to nothing.
const PAGE_ROWS_MAX: usize = 20_000;

/// What a row weighs beside its values, on the way and in a page's account.
const ROW_BYTES: usize = 64;

/// How often it is written down how far the copy is.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// What is read.
#[derive(Debug)]
pub enum Given {
    /// Which rows come from the table is fixed; the rows up to an id are in Kafka already.
    Fixed(CopyId, Option<i64>),
    /// A row.
    Row(TableRow),
    /// Every row up to this id was given, and a page begins behind it.
    Page(i64),
    /// All rows were given; those with an id up to this one.
    End(i64),
}

/// A row of the table.
#[derive(Debug)]
pub struct TableRow {
    /// The row in the form in which the stream gives rows; `None` when it is known to be in Kafka.
    pub tuple: Option<Tuple>,
    /// Its id, unless that is NULL.
    pub id: Option<i64>,
    /// Every row up to this id was given before.
    pub behind: Option<i64>,
    /// Rows come in the order of their ids here.
    pub in_order: bool,
}

/// What is read, and where from.
pub struct Table<'a> {
    /// A connection that is used for nothing else.
    pub session: &'a Session,
    /// What is followed.
    pub source: &'a TableSource,
    /// The columns that make an event, and no other.
    pub columns: &'a Relation,
    /// What is known of their types.
    pub types: &'a Types,
    /// How long earlier transactions are waited for.
    pub slot_timeout: Duration,
    /// Rows of a page at most, so that the window takes them.
    pub rows_max: usize,
    /// The epoch in which it is written down how far the copy is.
    pub epoch: i64,
    /// An earlier session of this process was so far.
    pub earlier: Option<(CopyId, i64)>,
    /// The id up to which every row is acknowledged.
    pub acknowledged: watch::Receiver<Option<i64>>,
}

impl<'a> Table<'a> {
    /// The rows. Only a stream that is polled reads: one that is left alone at the end of a page keeps nothing open.
    pub fn rows(self) -> impl Stream<Item = Result<Given, Error>> {
        let reader = Reader {
            rows: FIRST_ROWS.min(self.rows_max),
            table: self,
            copy: CopyId { table: 0, through: i64::MIN, streamed_from: 0 },
            ids_may_be_null: false,
            types: None,
            saved: (Instant::now(), None),
            state: State::Begin,
        };
        stream::try_unfold(reader, Reader::next)
    }
}

struct Reader<'a> {
    table: Table<'a>,
    copy: CopyId,
    ids_may_be_null: bool,
    /// The types of what is read, as the first page has them.
    types: Option<Vec<u32>>,
    /// Rows that the next page asks for.
    rows: usize,
    /// When it was written down how far the copy is, and how far it was.
    saved: (Instant, Option<i64>),
    state: State,
}

enum State {
    Begin,
    /// Behind this id.
    Between(Option<i64>),
    Reading(Page),
    Ended,
}

/// A statement whose rows are being taken.
struct Page {
    rows: Pin<Box<RowStream>>,
    /// It has all that is left: in one snapshot, with what may have come late.
    is_rest: bool,
    asked: usize,
    count: usize,
    bytes: usize,
    /// Every row up to here was given.
    behind: Option<i64>,
    /// The id of the row that was taken last.
    last: Option<i64>,
}

impl<'a> Reader<'a> {
    async fn next(mut self) -> Result<Option<(Given, Self)>, Error> {
        loop {
            match std::mem::replace(&mut self.state, State::Ended) {
                State::Begin => {
                    let behind = self.begin().await?;
                    self.state = State::Between(behind);
                    return Ok(Some((Given::Fixed(self.copy, behind), self)));
                }
                State::Between(behind) => {
                    self.save().await?;
                    // What has no order is read in one go, and in one snapshot.
                    let is_rest = self.table.source.table.order.is_none();
                    self.state = State::Reading(self.open(behind, is_rest).await?);
                }
                State::Reading(page) => {
                    if let Some(given) = self.read(page).await? {
                        return Ok(Some((given, self)));
                    }
                }
                State::Ended => return Ok(None),
            }
        }
    }

    /// Fixes which rows come from the table, where that is not done; says behind which id to begin.
    async fn begin(&mut self) -> Result<Option<i64>, Error> {
        let Table { session, source, slot_timeout, .. } = self.table;
        session.within("lift the limits of statements", lift_limits(session)).await?;
        let id = self.table.columns.id;
        let mut memory = self.load().await?;
        let order = source.table.order.as_deref().unwrap_or_default();
        if memory.copy().is_some() && memory.copy_order.as_deref() != Some(order) {
            // Numbers of another column say nothing; those rows come once more at the worst.
            let forgetting = ledger::forget_copy(session, &source.slot, id, self.table.epoch);
            session.within("forget which rows come from the table", forgetting).await?;
            memory = self.load().await?;
        }
        if memory.copy().is_none() {
            end::fix(session, source, id, slot_timeout).await?;
            memory = self.load().await?;
        }
        // Forgotten in this moment: something was found, and the next look says what.
        self.copy = memory.copy().ok_or(Error::Superseded)?;
        self.ids_may_be_null = session.within("look at the table", ids_may_be_null(session, source)).await?;
        self.saved = (Instant::now(), memory.copied_through);
        let earlier = self.table.earlier.filter(|(copy, _)| *copy == self.copy).map(|(_, given)| given);
        Ok(memory.copied_through.max(earlier))
    }

    /// What is remembered of the table.
    async fn load(&self) -> Result<TableMemory, Error> {
        let Table { session, source, columns, .. } = &self.table;
        let loaded = session.within("read walpost.slot", ledger::load(session, &source.slot)).await?;
        let known = loaded.and_then(|memory| memory.table(columns.id).cloned());
        Ok(known.ok_or_else(|| Unsafe::SlotUnknown(source.slot.clone()))?)
    }

    async fn open(&self, behind: Option<i64>, is_rest: bool) -> Result<Page, DatabaseError> {
        let session = self.table.session;
        let sql = self.statement(behind, is_rest);
        let opening = async {
            let rows = session.client().query_raw(&sql, std::iter::empty::<i64>()).await;
            rows.map_err(session.error("read the rows of the table"))
        };
        // What is left is looked for in all of the table, and says nothing until there are some kilobytes of it: that
        // it is stalled is seen, and nothing is gained by asking again.
        let rows = Box::pin(match is_rest {
            true => opening.await?,
            false => session.within("read the rows of the table", opening).await?,
        });
        Ok(Page { rows, is_rest, asked: self.rows, count: 0, bytes: 0, behind, last: None })
    }

    fn statement(&self, behind: Option<i64>, is_rest: bool) -> String {
        let Table { source, columns, .. } = &self.table;
        let events = events(&source.table);
        let payload = source.table.value_column();
        let value = |name: &str| {
            let column = format!("outbox.{}", quoted(name));
            // The one that may be large is not fetched for nothing.
            if Some(name) != payload {
                return column;
            }
            format!("case when {IS_PUBLISHED} then null else {column} end")
        };
        let values: Vec<_> = columns.columns.iter().map(|column| value(&column.name)).collect();
        let values = values.join(", ");
        let is_old = IS_BEFORE_THE_COPY;
        let through = self.copy.through;
        let id = source.table.order.as_deref().map(|id| format!("outbox.{}", quoted(id)));
        let (id, which, limit) = match id {
            // All of them, unless the table was empty when the end was fixed: whatever came later is in the stream.
            None => ("null".to_owned(), (through != i64::MIN).to_string(), String::new()),
            Some(id) => {
                let after = behind.map_or_else(|| "true".to_owned(), |behind| format!("{id} > {behind}"));
                let (which, limit) = if is_rest {
                    let is_due = format!("{id} <= {through} and ({after} or not {is_old})");
                    (format!("({id} is null or {is_due})"), String::new())
                } else {
                    let limit = format!("fetch first {} rows with ties", self.rows);
                    (format!("{after} and {id} <= {through}"), limit)
                };
                (id, which, limit)
            }
        };
        // Another table may have its name by now, and that it has no more rows would be taken for the end of this one: an error
        // ends the copy, which then looks again. While a statement reads a table, nobody can rename it.
        let is_it = format!(
            "case when to_regclass({name})::oid = {oid} then 1 else (to_regclass({name})::oid::text || ' is another table')::int \
             end = 1",
            name = literal(&table_name(&source.table)),
            oid = columns.id,
        );
        // The first words are what pg_stat_activity shows of it.
        format!(
            "/* walpost: copy */ select {values}, {id}::bigint, {IS_PUBLISHED}, {is_old} \
             from {events}, walpost.outbox memory \
             where memory.slot_name = '{slot}' and memory.table_oid = {oid} and {is_it} and {which} order by {order} {limit}",
            slot = source.slot,
            oid = columns.id,
            order = order_by(&source.table),
        )
    }

    /// Takes the next row of a page; `None` when there is nothing to give yet.
    async fn read(&mut self, mut page: Page) -> Result<Option<Given>, Error> {
        let session = self.table.session;
        let taking =
            async { page.rows.try_next().await.map_err(session.error("read the rows of the table")) };
        let taken = match page.is_rest {
            true => taking.await?,
            false => session.within("read the rows of the table", taking).await?,
        };
        let Some(row) = taken else { return self.end_page(page).await };
        if page.count == 0 {
            self.check_types(&row)?;
        }
        let values = self.table.columns.columns.len();
        let id: Option<i64> = row.get(values);
        let (is_published, is_old): (bool, bool) = (row.get(values + 1), row.get(values + 2));
        if !is_published && !is_old && !page.is_rest {
            // Another may have come late before it.
            let behind = if page.last == id { page.behind } else { page.last.or(page.behind) };
            drop(page);
            self.state = State::Reading(self.open(behind, true).await?);
            return Ok(None);
        }
        if page.last.is_some() && page.last != id {
            page.behind = page.behind.max(page.last);
        }
        page.last = id;
        page.count += 1;
        let tuple = (!is_published).then(|| tuple(&row, values));
        page.bytes += ROW_BYTES + tuple.as_ref().map_or(0, Tuple::bytes);
        let (behind, in_order) = (page.behind, !page.is_rest);
        self.state = State::Reading(page);
        Ok(Some(Given::Row(TableRow { tuple, id, behind, in_order })))
    }

    /// The rows are read by the description of the table that the session began with.
    fn check_types(&mut self, row: &Row) -> Result<(), DatabaseError> {
        let types: Vec<_> = row.columns().iter().map(|column| column.type_().oid()).collect();
        let known = self.types.get_or_insert_with(|| types.clone());
        // Of a domain the server names the base type here, so what counts is how values are laid out.
        let Table { columns, types: described, .. } = &self.table;
        let mut laid_out = types.iter().zip(&columns.columns).map(|(oid, column)| {
            described.kind(*oid).is_none_or(|kind| described.kind(column.type_oid) == Some(kind))
        });
        if *known == types && laid_out.all(|same| same) {
            return Ok(());
        }
        let changed = "a column has another type than when the copy began: the table is looked at again";
        Err(DatabaseError::of_stream("read the rows of the table", self.table.session.place(), changed))
    }

    async fn end_page(&mut self, page: Page) -> Result<Option<Given>, Error> {
        let behind = page.behind.max(page.last);
        if page.is_rest {
            return Ok(Some(Given::End(self.copy.through)));
        }
        if page.count < page.asked {
            if self.ids_may_be_null {
                self.state = State::Reading(self.open(behind, true).await?);
                return Ok(None);
            }
            return Ok(Some(Given::End(self.copy.through)));
        }
        let fits = PAGE_BYTES * page.count / page.bytes.max(1);
        // A page of small rows says little of those that follow.
        self.rows = fits.clamp(1, (4 * page.asked).min(PAGE_ROWS_MAX)).min(self.table.rows_max).max(1);
        self.state = State::Between(behind);
        Ok(behind.map(Given::Page))
    }

    /// Writes down how far the copy is, now and then.
    async fn save(&mut self) -> Result<(), Error> {
        let Table { session, source, epoch, .. } = &self.table;
        let acknowledged = *self.table.acknowledged.borrow();
        let (at, saved) = self.saved;
        let Some(id) = acknowledged.filter(|id| saved.is_none_or(|saved| saved < *id)) else { return Ok(()) };
        if at.elapsed() < SAVE_EVERY {
            return Ok(());
        }
        save(session, &source.slot, *epoch, self.copy, id).await?;
        self.saved = (Instant::now(), acknowledged);
        Ok(())
    }
}

/// Writes down that the rows up to `id` are in Kafka.
///
/// # Errors
/// When the database refuses, or another relay has taken the slot.
pub async fn save(session: &Session, slot: &str, epoch: i64, copy: CopyId, id: i64) -> Result<(), Error> {
    let saving = ledger::save_copy(session, slot, epoch, copy, id);
    if session.within("write down how far the copy is", saving).await? {
        return Ok(());
    }
    Err(Error::Superseded)
}

/// A page that waits for Kafka is a long statement to a server with such limits, and would be ended each time.
pub(crate) async fn lift_limits(session: &Session) -> Result<(), DatabaseError> {
    let sql = "select set_config(name, '0', false) from pg_settings where name in \
               ('statement_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')";
    session.client().execute(sql, &[]).await.map_err(session.error("lift the limits of statements"))?;
    Ok(())
}

async fn ids_may_be_null(session: &Session, source: &TableSource) -> Result<bool, DatabaseError> {
    // From 18 on a constraint may be there that was not checked for the rows from before it.
    let sql = "select not a.attnotnull or exists (select from pg_constraint c where c.conrelid = a.attrelid \
               and c.contype = 'n' and not c.convalidated and a.attnum = any(c.conkey)) \
               from pg_attribute a where a.attrelid = to_regclass($1) and a.attname = $2";
    let Some(id) = &source.table.order else { return Ok(false) };
    let table = table_name(&source.table);
    let row = session.client().query_opt(sql, &[&table, &id]).await;
    Ok(row.map_err(session.error("look at the column of the id"))?.is_none_or(|row| row.get(0)))
}

/// The first values of a row in the form in which the stream gives rows; they come in the same binary form.
pub(crate) fn tuple(row: &Row, values: usize) -> Tuple {
    let values: Vec<Option<Raw<'_>>> = (0..values).map(|index| row.get(index)).collect();
    Tuple::from_values(values.iter().map(|value| value.as_ref().map(|raw| raw.0)))
}

/// A value's bytes, whatever its type.
struct Raw<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(raw))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
