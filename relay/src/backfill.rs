//! Rows that stood in the table before the slot was made: the stream never holds them, so they are published first.
//!
//! First start, takeover from a poller and recovery after a lost slot are this one operation. The slot was made
//! earlier, so a snapshot taken now sees every transaction that committed before the slot's position. Of those that
//! committed later, the ones that began after the slot was made are left to the stream (a row's `xmin` tells); the few
//! others come twice, with the same `ce_id`. Rows that a checkpoint proves to be in Kafka are left out. Rows go out in id order: writers of one key are serialised by its row's
//! lock, so for one key that is the order of commits.
//!
//! The relay holds the slot meanwhile, so a second one stands by, and nothing is confirmed until all is acknowledged.

use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};
use tokio_util::sync::CancellationToken;

use crate::config::{SourceSettings, WindowSettings};
use crate::database::{DatabaseError, Session};
use crate::dead_letter::DeadLetter;
use crate::error::{BadRow, Error};
use crate::lsn::Lsn;
use crate::outbox::{Plan, Role, Types};
use crate::pgoutput::{Column, Relation, Tuple};
use crate::publish::Publisher;
use crate::published::IS_PUBLISHED;
use crate::sink::Sink;
use crate::transaction::{Entry, PlacedEvent, Position};

/// Rows fetched at a time: a few hundred kilobytes of the usual few hundred bytes each.
const FETCHED_ROWS: usize = 500;

/// A row is left to the stream when its transaction began after the slot was made. Ages count transactions, so this
/// holds over a wrap-around of their ids; with an old slot (half of what ids can tell apart), or an xmin that says
/// nothing, it is published.
const IS_STREAMED: &str = "coalesce(age(memory.streamed_from::xid) between 0 and 1073741824 \
    and age(outbox.xmin) between 0 and age(memory.streamed_from::xid), false)";

/// Progress is logged so often.
const LOGGED_ROWS: u64 = 50_000;

/// How many rows are to be published.
///
/// # Errors
/// When the database refuses.
pub async fn count(session: &Session, source: &SourceSettings) -> Result<i64, DatabaseError> {
    let table = format!("{}.{}", quoted(&source.table.schema), quoted(&source.table.table));
    let sql = format!(
        "select count(*) from {table} outbox, walpost.slot memory where memory.slot_name = $1 \
         and not {IS_PUBLISHED}"
    );
    let row = session.client().query_one(&sql, &[&source.slot]).await;
    Ok(row.map_err(session.error("count the rows to publish"))?.get(0))
}

/// What is published, and how.
pub struct Backfill<'a, S> {
    /// What is followed.
    pub source: &'a SourceSettings,
    /// The table as the catalogue has it.
    pub relation: &'a Relation,
    /// The types of its columns.
    pub types: &'a Types,
    /// The slot's position.
    pub slot_at: Lsn,
    /// The window's bounds.
    pub window: WindowSettings,
    /// Told how far it is, once a batch.
    pub shown: &'a (dyn Fn(&Publisher<S>) + 'a),
}

impl<S: Sink> Backfill<'_, S> {
    /// Publishes the rows of the table. Returns their number, or `None` when `stop` came first.
    ///
    /// # Errors
    /// When Postgres or Kafka does, or a row does not decode.
    pub async fn run(
        &self,
        session: &Session,
        publisher: &mut Publisher<S>,
        stop: &CancellationToken,
    ) -> Result<Option<u64>, Error> {
        let Self { source, relation, types, slot_at, window, shown } = *self;
        let columns = needed(relation, source);
        let plan = Plan::new(&source.table, &columns, types)?;
        let rows = Cursor::open(session, source, &columns).await?;
        // What an earlier session left in the window without handing it over: nothing else would.
        publisher.send()?;
        let count = FETCHED_ROWS.min(window.records);
        let mut published = 0;
        loop {
            while !window.has_room_for(count, publisher) {
                if !settled(publisher, stop).await? {
                    return Ok(None);
                }
                shown(publisher);
            }
            let batch = rows.fetch(session, count).await?;
            if batch.is_empty() {
                break;
            }
            for row in &batch {
                let tuple = tuple(row);
                let position = Position { lsn: slot_at, ordinal: published, committed_at: 0 };
                let entry = match plan.event(&tuple) {
                    Ok(event) => {
                        let position = Position { committed_at: event.created_at, ..position };
                        PlacedEvent { event, position, bytes: tuple.bytes() }.into()
                    }
                    Err(error) => {
                        let place = format!("row {published}, counted from 0 in the order of ids,");
                        let bad = Box::new(BadRow { place, table: source.table.name(), error });
                        if !publisher.takes_dead_letters() {
                            return Err(bad.into());
                        }
                        publisher.count_dead_letter(&bad.to_string(), tuple.bytes());
                        let (table, reason) = (&source.table, bad.to_string());
                        Entry::Dead(Box::new(DeadLetter::of_row(
                            table, &columns, &plan, &tuple, reason, position,
                        )))
                    }
                };
                let weight = entry.weight();
                publisher.progress_mut().push(entry, weight);
                published += 1;
                if published % LOGGED_ROWS == 0 {
                    tracing::info!(rows = published, "publishing rows from before the slot");
                }
            }
            publisher.send()?;
            shown(publisher);
        }
        while publisher.progress().records() > 0 {
            if !settled(publisher, stop).await? {
                return Ok(None);
            }
            shown(publisher);
        }
        rows.close(session).await?;
        Ok(Some(published))
    }
}

/// The table with the columns that make an event, and no other.
fn needed(relation: &Relation, source: &SourceSettings) -> Relation {
    let is_needed =
        |column: &&Column| source.table.columns.iter().any(|wanted| wanted.names.contains(&column.name));
    Relation { columns: relation.columns.iter().filter(is_needed).cloned().collect(), ..relation.clone() }
}

/// Waits for acknowledgements; `false` when it is to stop.
async fn settled<S: Sink>(publisher: &mut Publisher<S>, stop: &CancellationToken) -> Result<bool, Error> {
    tokio::select! {
        () = stop.cancelled() => return Ok(false),
        () = publisher.wait() => {}
    }
    publisher.settle().await?;
    Ok(true)
}

/// A snapshot of the table, read piece by piece.
struct Cursor;

impl Cursor {
    async fn open(session: &Session, source: &SourceSettings, relation: &Relation) -> Result<Self, Error> {
        let columns: Vec<_> =
            relation.columns.iter().map(|column| format!("outbox.{}", quoted(&column.name))).collect();
        let table = format!("{}.{}", quoted(&relation.namespace), quoted(&relation.name));
        let order = format!("outbox.{}", quoted(source.table.column(Role::Id).unwrap_or_default()));
        let sql = format!(
            "begin isolation level repeatable read, read only; \
             declare walpost_backfill no scroll cursor for select {columns} from {table} outbox, walpost.slot memory \
             where memory.slot_name = '{slot}' and not {IS_STREAMED} and not {IS_PUBLISHED} order by {order}",
            columns = columns.join(", "),
            slot = source.slot,
        );
        session
            .client()
            .batch_execute(&sql)
            .await
            .map_err(session.error("read the rows from before the slot"))?;
        Ok(Self)
    }

    async fn fetch(&self, session: &Session, count: usize) -> Result<Vec<Row>, Error> {
        let sql = format!("fetch {count} from walpost_backfill");
        let rows = session.client().query(&sql, &[]).await;
        Ok(rows.map_err(session.error("read the rows from before the slot"))?)
    }

    async fn close(self, session: &Session) -> Result<(), Error> {
        let closed = session.client().batch_execute("commit").await;
        Ok(closed.map_err(session.error("end the reading of the rows from before the slot"))?)
    }
}

/// A row in the form in which the stream gives rows; values come in the same binary form.
fn tuple(row: &Row) -> Tuple {
    let values: Vec<Option<Raw<'_>>> = (0..row.len()).map(|index| row.get(index)).collect();
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

/// A name as SQL has it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
