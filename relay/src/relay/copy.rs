//! The rows that the stream does not hold: read from the table and published, before the stream is followed.
//!
//! Meanwhile nothing is read from the stream, so nothing of it can be confirmed; but the connection is watched, the guard
//! looks as it does later, and a stop drains.

use std::pin::pin;
use std::sync::Arc;

use futures::{FutureExt, Stream as Rows, StreamExt};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

use super::watchdog::Watchdog;
use super::{Relay, Stopped};
use crate::error::{Error, Verdict};
use crate::observe::state::State;
use crate::postgres::Session;
use crate::postgres::ledger::Holder;
use crate::postgres::preflight::{self, Found, FoundTable};
use crate::relay::backfill::table::{Given, PAGE_BYTES, Table, TableRow, save};
use crate::relay::watch::{Guard, GuardEvent};
use crate::replication::Stream;
use walpost_core::event::render::Renderer;
use walpost_core::event::{BadRow, Entry, OutboxTable, PlacedRow, Plan, Position, Types};
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::{Oid, Relation, Tuple};
use walpost_core::window::copied::CopyId;

/// Rows taken before reports and timers are looked at again.
const BATCH_ROWS: usize = 500;

/// Progress is logged so often.
const LOGGED_ROWS: u64 = 50_000;

/// What rows of the table are read with.
struct Reading {
    /// Schema and table.
    table: String,
    plan: Arc<Plan>,
    /// What reads a row's time, and finds out whether it gives a record.
    renderer: Renderer,
    /// The slot's position, which does not move until the copy has ended.
    slot_at: Lsn,
    /// Rows published in this session.
    published: u64,
    /// At the beginning of a page: another is asked for only when the window takes all of it.
    between_pages: bool,
    ended: bool,
    acknowledged: watch::Sender<Option<i64>>,
}

impl Relay {
    /// Publishes the rows of a table; `Some` when a stop came first.
    #[allow(clippy::too_many_arguments)]
    pub(super) async fn copy(
        &mut self,
        found: &Found,
        outbox: &FoundTable,
        types: &Types,
        holder: &Holder,
        stream: &mut Stream,
        guard: &mut Guard,
        stop: &CancellationToken,
    ) -> Result<Option<Stopped>, Error> {
        self.vitals.set_state(State::Backfilling);
        self.publisher.set_timed(false);
        let (settings, epoch) = (self.settings.clone(), holder.epoch);
        let source = &settings.source.of(outbox.table.clone());
        tracing::info!(table = source.table.name(), "publishing the rows from before the slot");
        let session = Session::connect(&settings.database, settings.timing.connect_timeout).await?;
        preflight::check_one_server(&session, stream.started_us())?;
        let columns = needed(&outbox.relation, &source.table);
        let (sender, acknowledged) = watch::channel(None);
        let table = Table {
            session: &session,
            source,
            columns: &columns.clone(),
            types,
            slot_timeout: settings.timing.slot_timeout,
            rows_max: (settings.window.records / 2).max(1),
            epoch,
            earlier: self.copied_earlier(outbox.relation.id),
            acknowledged,
        };
        let mut reading = Reading {
            table: source.table.name(),
            plan: Arc::new(Plan::new(&source.table, &Arc::new(columns), types)?),
            renderer: Renderer::default(),
            slot_at: found.slot.confirmed().unwrap_or(found.remembered),
            published: 0,
            between_pages: true,
            ended: false,
            acknowledged: sender,
        };
        // Rows that nobody takes hold up what else is asked on this session, so they are gone before anything is.
        let read = self.read_table(pin!(table.rows()), &mut reading, stream, guard, stop).await;
        match read {
            Ok(true) => {}
            Ok(false) => return Ok(Some(self.stop_copy(&session, epoch).await?)),
            Err(error) => {
                // Where a person has to do something, what was read before is acknowledged first.
                if matches!(error.verdict(), Verdict::Halt { .. }) {
                    tracing::warn!(reason = %error, "halting once what was read before is published");
                    self.stop_copy(&session, epoch).await?;
                }
                return Err(error);
            }
        }
        let copy = self.publisher.copied().map(|copied| copied.of).ok_or(Error::Superseded)?;
        let finishing = holder.finish_backfill(&session, copy);
        if !session.within("write down that the copy has ended", finishing).await? {
            return Err(Error::Superseded);
        }
        self.publisher.end_copy();
        tracing::info!(
            table = reading.table,
            rows = reading.published,
            "the rows from before the slot are published"
        );
        self.publisher.set_timed(true);
        Ok(None)
    }

    /// The loop, until every row is acknowledged; `false` when a stop came first. Its order is that of the stream's loop.
    async fn read_table(
        &mut self,
        mut rows: std::pin::Pin<&mut impl Rows<Item = Result<Given, Error>>>,
        reading: &mut Reading,
        stream: &mut Stream,
        guard: &mut Guard,
        stop: &CancellationToken,
    ) -> Result<bool, Error> {
        // What an earlier session left in the window without handing it over: nothing else would.
        self.publisher.send()?;
        let peer_timeout = self.settings.timing.peer_timeout;
        let mut looks = interval(Watchdog::interval(peer_timeout));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watchdog = Watchdog::new(peer_timeout, Instant::now().into_std());
        while !reading.ended || self.publisher.progress().records() > 0 {
            let room = !reading.ended && self.has_room_to_copy(reading.between_pages);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(false),
                _ = looks.tick() => self.look(&mut watchdog, false, stream)?,
                () = self.publisher.wait() => self.publisher.process_reports().await?,
                event = guard.next() => if let GuardEvent::Failed(error) = event {
                    return Err(error);
                },
                error = stream.lost() => return Err(error.into()),
                given = rows.next(), if room => {
                    let taken = self.take_rows(given, rows.as_mut(), reading);
                    // Also when the connection broke behind what was read.
                    self.publisher.send()?;
                    taken?;
                    self.vitals.read_table();
                }
            }
            if self.is_full_of_one_number() {
                self.go_on_without_order();
                self.publisher.send()?;
            }
            let oldest = self.publisher.progress().oldest_sequence();
            if let Some(copied) = self.publisher.copied_mut() {
                reading.acknowledged.send_replace(copied.acknowledged(oldest));
            }
            self.vitals.show(&self.publisher, self.acknowledged_at_persist);
        }
        Ok(true)
    }

    /// In the midst of a page a row may come; where a page is to begin, all of it is to have room.
    fn has_room_to_copy(&self, between_pages: bool) -> bool {
        let (window, progress) = (self.settings.window, self.publisher.progress());
        let has_room = window.has_room(&self.publisher);
        if !between_pages {
            return has_room;
        }
        let fits = progress.records() <= window.records / 2 && progress.bytes() + PAGE_BYTES <= window.bytes;
        has_room && (fits || progress.records() == 0)
    }

    /// Takes what has come in, a batch at the most, as far as there is room.
    fn take_rows(
        &mut self,
        first: Option<Result<Given, Error>>,
        mut rows: std::pin::Pin<&mut impl Rows<Item = Result<Given, Error>>>,
        reading: &mut Reading,
    ) -> Result<(), Error> {
        let mut next = first;
        for _ in 0..BATCH_ROWS {
            let Some(given) = next else {
                reading.ended = true;
                return Ok(());
            };
            self.take_given(given?, reading)?;
            if reading.ended || reading.between_pages || !self.settings.window.is_open(1, &self.publisher) {
                return Ok(());
            }
            let Some(come) = rows.next().now_or_never() else { return Ok(()) };
            next = come;
        }
        if let Some(given) = next {
            self.take_given(given?, reading)?;
        }
        Ok(())
    }

    fn take_given(&mut self, given: Given, reading: &mut Reading) -> Result<(), Error> {
        reading.between_pages = !matches!(given, Given::Row(_));
        match given {
            Given::Fixed(copy, through) => self.begin_copy(copy, through),
            Given::Page(id) => self.give(id),
            Given::End(id) => {
                self.give(id);
                reading.ended = true;
            }
            Given::Row(row) => {
                if let Some(id) = row.behind {
                    self.give(id);
                }
                self.enter_row(&row, reading)?;
                if !row.in_order {
                    self.go_on_without_order();
                }
            }
        }
        Ok(())
    }

    /// Where the window still holds what an earlier session of the same copy read, the account of it goes on.
    fn begin_copy(&mut self, copy: CopyId, through: Option<i64>) {
        self.publisher.begin_copy(copy, through);
        if let Some(through) = through {
            tracing::info!(
                behind = through,
                "rows up to this id are published or on their way: going on behind it"
            );
        }
    }

    fn give(&mut self, id: i64) {
        let next = self.publisher.progress().next_sequence();
        if let Some(copied) = self.publisher.copied_mut() {
            copied.give(id, next);
        }
    }

    /// Whether the window takes nothing more and all that it holds waits for the next number.
    fn is_full_of_one_number(&self) -> bool {
        let oldest = self.publisher.progress().oldest_sequence();
        !self.settings.window.is_open(1, &self.publisher)
            && self.publisher.copied().is_some_and(|copied| copied.sure() <= oldest)
    }

    /// Of rows in no order, and of more rows of one number than the window takes, nothing can be said in their midst.
    fn go_on_without_order(&mut self) {
        let next = self.publisher.progress().next_sequence();
        if let Some(copied) = self.publisher.copied_mut() {
            copied.go_on_without_order(next);
        }
    }

    /// How far the copy of a table was in an earlier session of this process, or is in Kafka, as the position there says.
    fn copied_earlier(&self, table: Oid) -> Option<(CopyId, i64)> {
        let own = self.publisher.copied().and_then(|copied| Some((copied.of, copied.given()?)));
        own.or(self.copied_before).filter(|(copy, _)| copy.table == table)
    }

    fn enter_row(&mut self, row: &TableRow, reading: &mut Reading) -> Result<(), Error> {
        let Some(tuple) = &row.tuple else { return Ok(()) };
        let placed = placed(tuple, row.id, reading);
        // In transactions, rows of one id go together: one in their midst that cannot be sent would keep all before it back.
        if self.publisher.makes_transactions()
            && !self.publisher.takes_dead_letters()
            && let Err(error) = reading.renderer.check(&placed)
        {
            return Err(Box::new(BadRow::new(&placed, Lsn::ZERO, error)).into());
        }
        let entry = Entry::from(placed);
        let weight = entry.weight();
        self.publisher.progress_mut().push(entry, weight);
        reading.published += 1;
        if reading.published.is_multiple_of(LOGGED_ROWS) {
            tracing::info!(rows = reading.published, "publishing rows from before the slot");
        }
        Ok(())
    }

    /// Reads no more, waits for what is in flight, and writes down how far the copy is; bounded by the deadline. Rows are
    /// left, so this is never a whole drain.
    async fn stop_copy(&mut self, session: &Session, epoch: i64) -> Result<Stopped, Error> {
        self.vitals.set_state(State::Draining);
        let deadline = Instant::now() + self.settings.timing.drain_timeout;
        let refused = self.empty(deadline).await?;
        let in_flight = self.publisher.progress().records();
        let oldest = self.publisher.progress().oldest_sequence();
        let copied = self.publisher.copied_mut();
        let through = copied.and_then(|copied| Some((copied.of, copied.acknowledged(oldest)?)));
        if let Some((copy, id)) = through {
            // A little more where the deadline has passed: it is one small write.
            let deadline = deadline.max(Instant::now() + super::session::CLOSE_TIMEOUT);
            let saving = save(session, &self.settings.source.slot, epoch, copy, id);
            match timeout_at(deadline, saving).await {
                Ok(saved) => saved?,
                Err(_) => tracing::warn!("it could not be written down in time how far the copy is"),
            }
        }
        if let Some(error) = refused.filter(|error| !error.is_about_a_topic()) {
            return Err(error.into());
        }
        let through = through.map(|(_, id)| id);
        tracing::warn!(
            in_flight,
            ?through,
            "stopped before all rows of the table were published: it goes on there"
        );
        Ok(Stopped::CutShort)
    }
}

/// A row has no place in the stream. It gets the slot's position, and for an ordinal its number, or, where the table has none,
/// its turn.
fn placed(tuple: &Tuple, id: Option<i64>, reading: &mut Reading) -> PlacedRow {
    let ordinal = id.map_or(reading.published, |id| u64::try_from(id).unwrap_or_default());
    let position = Position { lsn: reading.slot_at, ordinal, committed_at: Position::UNKNOWN_TIME };
    let mut placed = PlacedRow { row: tuple.clone(), plan: Arc::clone(&reading.plan), position };
    // The nearest to the commit's time that a row of the table has.
    if let Some(written_at) = reading.renderer.time(&placed) {
        placed.position.committed_at = written_at;
    }
    placed
}

/// The table with the columns that make a record, and no other.
fn needed(relation: &Relation, table: &OutboxTable) -> Relation {
    let names: Vec<_> = table.needed(relation).collect();
    let columns = relation.columns.iter().filter(|column| names.contains(&column.name.as_str()));
    Relation { columns: columns.cloned().collect(), ..relation.clone() }
}
