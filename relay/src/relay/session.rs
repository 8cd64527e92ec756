//! One session: open, publish what stood there before, follow the stream, drain.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::confirm::{Confirming, Next};
use super::open::Opened;
use super::pace::{Bursts, Pace, is_late};
use super::watchdog::{Alarm, Watchdog};
use super::{Relay, Stopped};
use crate::config::WindowSettings;
use crate::error::{Error, Verdict};
use crate::observe::state::{Peer, State};
use crate::postgres::DatabaseError;
use crate::postgres::ledger::Memory;
use crate::postgres::names::{literal, written};
use crate::postgres::preflight::{FoundTable, Unpublished, Unsafe};
use crate::relay::cleaner::Cleaner;
use crate::relay::watch::{Guard, GuardEvent, Looked, Watched};
use crate::replication::{Stream, StreamEvent};
use walpost_core::clock;
use walpost_core::event::{OutboxError, OutboxMessages, OutboxTable};
use walpost_core::lsn::Lsn;
use walpost_core::publish::sink::Sink;
use walpost_core::publish::{PublishError, Publisher};
use walpost_core::window::intake::{Intake, IntakeError};
use walpost_core::window::outboxes::Outboxes;

/// Messages taken from the stream before reports and timers are looked at again.
const BATCH_MESSAGES: u32 = 4096;

/// How long a batch may take, about: others of this thread have their turn behind it, and a look at the catalogue is some twenty
/// questions one after the other. A machine that had little time to give took more for them than the peer's time-out; so did
/// the next relay, from the same position, and the one after it, for ever.
const BATCH_MAX: Duration = Duration::from_millis(10);

/// Messages between two looks at the clock.
const CLOCK_EVERY: u32 = 64;

/// How long the server may take to hear the last position.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

impl WindowSettings {
    /// Whether more may be read.
    pub(crate) fn has_room<S: Sink>(&self, publisher: &Publisher<S>) -> bool {
        publisher.is_caught_up() && self.is_open(1, publisher)
    }

    /// The same, whether or not everything before has been handed over.
    pub(crate) fn is_open<S: Sink>(&self, records: usize, publisher: &Publisher<S>) -> bool {
        let progress = publisher.progress();
        progress.records() + records <= self.records && progress.bytes() < self.bytes
    }
}

/// What holds the reading back. Postgres describes a table again in front of its next row after anything about the table
/// or the publication has changed (`get_rel_sync_entry` in its pgoutput.c), and so it does when a publication has let rows
/// pass for a moment. The rows behind such a description wait for a look of the guard that began after it: were they
/// published, and rows found missing in front of them, a key would have its events out of order for good.
///
/// What was committed before a look began, that look has seen: a description in front of rows from before needs no other.
#[derive(Debug)]
struct Held {
    /// The look that is waited for.
    wanted: Option<u64>,
    /// Where the WAL ended when the last one began that found all well.
    looked_at: Lsn,
}

impl Held {
    /// A look has found all well.
    fn looked(&mut self, looked: &Looked) {
        self.wanted = self.wanted.filter(|wanted| *wanted > looked.asked);
        self.looked_at = self.looked_at.max(looked.wal_end);
    }

    /// A table was described in front of rows that were committed there.
    fn described(&mut self, commit: Lsn, guard: &Guard) {
        if commit >= self.looked_at {
            self.wanted = Some(guard.look());
        }
    }

    fn is_held(&self) -> bool {
        self.wanted.is_some()
    }
}

impl Relay {
    /// Runs one session, until a stop.
    pub(super) async fn session(&mut self, stop: &CancellationToken) -> Result<Stopped, Error> {
        let Opened { session, found, types, looked_at, mut stream, server, holder } = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(self.stopped()),
            opened = Box::pin(self.open()) => opened?,
        };
        let watched = Watched { source: self.settings.source.clone(), server, holder: holder.clone() };
        let mut guard = Guard::start(session, watched, self.settings.timing.watch_interval);
        for table in found.tables.iter().filter(|table| !table.is_backfilled()) {
            let copying = self.copy(&found, table, &types, &holder, &mut stream, &mut guard, stop);
            if let Some(stopped) = Box::pin(copying).await? {
                stream.close(CLOSE_TIMEOUT).await;
                return Ok(stopped);
            }
        }
        self.has_rows_left = false;
        self.publisher.set_timed(true);
        self.show_streaming(&found.unpublished);
        let cleaner = Cleaner::start(&self.settings, &self.vitals);
        let takes_dead_letters = self.publisher.takes_dead_letters();
        let intake = Intake::new(self.outboxes(found.tables, &found.memory), types, takes_dead_letters);
        let confirming = Confirming::new(found.remembered, self.acknowledged_at_persist);
        let followed = Box::pin(self.follow(stream, guard, intake, confirming, looked_at, stop)).await;
        drop(cleaner);
        match followed {
            Err(error) => Err(self.explain(error).await),
            stopped => stopped,
        }
    }

    /// Whose rows are events in this session.
    fn outboxes(&self, tables: Vec<FoundTable>, memory: &Memory) -> Outboxes {
        let database = &self.settings.database.conninfo.database;
        // That the settings fit was found when they were read.
        let plan =
            |messages: &OutboxMessages| Some((messages.prefix().to_owned(), Arc::new(messages.plan().ok()?)));
        let patterns = self.settings.source.tables.iter().filter(|table| table.pattern().is_some());
        Outboxes {
            tables: tables.into_iter().map(|found| (found.table, found.relation.id)).collect(),
            patterns: patterns.map(|all| OutboxTable { database: database.clone(), ..all.clone() }).collect(),
            gone: self.gone.clone(),
            remembered: memory.tables.iter().map(|table| table.oid).collect(),
            messages: self.settings.source.messages.iter().filter_map(plan).collect(),
        }
    }

    /// Rows of a table that nobody publishes are passed over: the others go on, and it is said.
    fn show_streaming(&self, unpublished: &[Unpublished]) {
        let state = match unpublished {
            [] => State::Streaming,
            [Unpublished { table, why }, rest @ ..] => {
                let remedy = match why {
                    Unsafe::PublicationLacksTable { publication, .. } => format!(
                        "run `select walpost.follow({}, {})`",
                        literal(&written(table)),
                        literal(publication)
                    ),
                    other => other.remedy(),
                };
                let others =
                    if rest.is_empty() { String::new() } else { format!(" (and {} more)", rest.len()) };
                let reason = format!(
                    "{} is not published{others}: {why}; {remedy}: then its rows are, from the first on; the other tables go on",
                    table.name()
                );
                State::Retrying { peer: Peer::Postgres, reason }
            }
        };
        if self.vitals.state().get() != state {
            if let State::Retrying { reason, .. } = &state {
                tracing::warn!(reason, "a table is not published");
            }
            self.vitals.set_state(state);
        }
    }

    /// The loop. A full window stops the reading only: status updates go out from a task of their own.
    async fn follow(
        &mut self,
        mut stream: Stream,
        mut guard: Guard,
        mut intake: Intake,
        mut confirming: Confirming,
        looked_at: Lsn,
        stop: &CancellationToken,
    ) -> Result<Stopped, Error> {
        // Of a table that is gone, a copy may have been left in its midst.
        self.publisher.end_copy();
        // What an earlier session left in the window without handing it over: nothing else would, and until it is
        // acknowledged there may be no room to read.
        if let Err(error) = self.publisher.send() {
            return self.wait_elsewhere(error, stream, guard, confirming).await;
        }
        let mut ticks = interval(self.settings.timing.confirm_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let peer_timeout = self.settings.timing.peer_timeout;
        let mut looks = interval(Watchdog::interval(peer_timeout));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let now = Instant::now().into_std();
        let (mut pace, mut watchdog) = (Pace::new(now), Watchdog::new(peer_timeout, now));
        let mut bursts = Bursts::new(now);
        let mut held = Held { wanted: None, looked_at };
        loop {
            let room = !held.is_held() && self.settings.window.has_room(&self.publisher);
            tokio::select! {
                biased;
                // 1: a stop.
                () = stop.cancelled() => return self.drain(stream, guard, confirming).await,
                // 2: the watchdog, before anything that a relay which stood still could do.
                _ = looks.tick() => self.look(&mut watchdog, room, &stream)?,
                // 3: reports, which make room.
                () = self.publisher.wait() => if let Err(error) = self.publisher.process_reports().await {
                    return self.wait_elsewhere(error, stream, guard, confirming).await;
                },
                // 4: what the guard says, on which a confirmation waits.
                event = guard.next() => match event {
                    GuardEvent::Remembered(lsn) => {
                        self.has_remembered(lsn);
                        let next = confirming.remembered(lsn, self.publisher.progress().confirmable());
                        self.acknowledged_at_persist = confirming.acknowledged_at_persist();
                        self.act(next, &stream, &guard);
                    }
                    GuardEvent::Looked(looked) => {
                        held.looked(&looked);
                        confirming.want(looked.wanted);
                        self.show_streaming(&looked.unpublished);
                        if let Some(table) = looked.appeared {
                            return self.leave(Error::Appeared(table), stream, guard, confirming).await;
                        }
                    }
                    GuardEvent::Failed(error) if is_of_the_table(&error) || matches!(error, Error::Appeared(_)) => {
                        return self.leave(error, stream, guard, confirming).await;
                    }
                    GuardEvent::Failed(error) => return Err(error),
                },
                // 5: the timer of confirmations.
                _ = ticks.tick() => {
                    let progress = self.publisher.progress();
                    let next = confirming.next(progress.confirmable(), progress.covered());
                    self.act(next, &stream, &guard);
                }
                // 6: what was gathered, where the stream brings nothing that would take it along.
                () = sleep_until(bursts.due().into()), if self.publisher.gathers() => {
                    bursts.handed_over(Instant::now().into_std());
                    if let Err(error) = self.publisher.send() {
                        return self.wait_elsewhere(error, stream, guard, confirming).await;
                    }
                }
                // 7: the stream, while there is room; last, or a catch-up would leave no turn to the others.
                event = next(&mut stream, room) => {
                    let read = self.read(event?, &mut stream, &mut intake);
                    // Also when the stream broke behind what was read.
                    let sent = if read.is_ok() { self.hand_over(&mut bursts) } else { self.publisher.send() };
                    if let Err(error) = sent {
                        return self.wait_elsewhere(error, stream, guard, confirming).await;
                    }
                    let messages = match read {
                        Ok(messages) => messages,
                        Err(error) => return self.leave(error, stream, guard, confirming).await,
                    };
                    if let Some(commit) = intake.take_described() {
                        held.described(commit, &guard);
                    }
                    let now = Instant::now().into_std();
                    watchdog.heard(self.publisher.progress().received_lsn(), &mut self.patience, now);
                    if let Some(rest) = pace.rest(messages, now) {
                        // The thread itself rests, not the task: a reactor that waits would be woken all the same.
                        std::thread::sleep(rest);
                    }
                    // Timers and other tasks have their turn only while this one waits. In a long catch-up there is
                    // always something to read, and tokio would make it wait only after 128 bursts: on a busy machine
                    // that took ten seconds, in which nothing was confirmed and the relay seemed to stand still.
                    tokio::task::yield_now().await;
                }
            }
            self.vitals.show(&self.publisher, self.acknowledged_at_persist);
        }
    }

    /// What is gathered when a session ends is handed over all the same: the next one may be long in coming. Not behind what
    /// has to be looked into first, nor behind a record that was refused.
    pub(super) fn hand_over_the_rest(&mut self, ended_by: &Error) {
        let goes_on = matches!(ended_by.verdict(), Verdict::Retry | Verdict::StandBy);
        if goes_on && self.publisher.gathers() && !matches!(ended_by, Error::Publish(_)) {
            // What is refused now is refused in the next session as well.
            drop(self.publisher.send());
        }
    }

    /// Hands over what was read; or gathers it, where it is late already.
    fn hand_over(&mut self, bursts: &mut Bursts) -> Result<(), PublishError> {
        let now = Instant::now().into_std();
        let newest = self.publisher.progress().newest().map(|entry| entry.position().committed_at);
        let is_late = newest.is_some_and(|committed_at| is_late(committed_at, clock::unix_micros()));
        // A window without room would bring nothing more to gather.
        let half = (self.settings.window.records / 2).max(1);
        let has_room = self.settings.window.is_open(half, &self.publisher);
        if is_late && has_room && now < bursts.due() {
            self.publisher.gather();
            return Ok(());
        }
        bursts.handed_over(now);
        self.publisher.send()
    }

    /// The stream cannot be read any further. Where a person has to do something about that, or a table is read first, all
    /// that was read before is acknowledged and confirmed first: the next start may know the outbox by other names, and those rows had the
    /// names of their time.
    async fn leave(
        &mut self,
        error: Error,
        stream: Stream,
        guard: Guard,
        confirming: Confirming,
    ) -> Result<Stopped, Error> {
        let halts = matches!(error.verdict(), Verdict::Halt { .. });
        if halts || matches!(error, Error::Appeared(_)) {
            if halts {
                tracing::warn!(reason = %error, "halting once what was read before is confirmed");
            }
            match self.drain(stream, guard, confirming).await {
                // It stands before what ended the session, and after that is mended it would be the next to halt.
                Err(earlier @ Error::Publish(PublishError::Row(_) | PublishError::Sink { .. })) => {
                    return Err(earlier);
                }
                Err(error) => tracing::warn!(%error, "what was read before is not confirmed: it comes again"),
                Ok(_) => {}
            }
        }
        Err(error)
    }

    /// Publishing cannot go on in this session. In front of a record, all that was handed over before is acknowledged and
    /// confirmed first: it would wait as long as the record does, for its topic or for a person, and come again then.
    async fn wait_elsewhere(
        &mut self,
        error: PublishError,
        stream: Stream,
        mut guard: Guard,
        mut confirming: Confirming,
    ) -> Result<Stopped, Error> {
        let (is_about_a_record, waits) = (error.is_about_a_record(), error.is_about_a_topic());
        let error = Error::from(error);
        let halts = is_about_a_record && !waits && matches!(error.verdict(), Verdict::Halt { .. });
        if halts || waits {
            if halts {
                tracing::warn!(reason = %error, "halting once what was handed over before is confirmed");
            }
            let timeout = if halts { self.settings.timing.drain_timeout } else { CLOSE_TIMEOUT };
            let deadline = Instant::now() + timeout;
            self.finish_handed_over(deadline).await;
            let worth = if halts { u64::MAX } else { self.publisher.progress().covered() };
            if let Err(error) = self.confirm(worth, deadline, &stream, &mut guard, &mut confirming).await {
                tracing::warn!(%error, "what is acknowledged is not confirmed yet");
            }
            self.acknowledged_at_persist = confirming.acknowledged_at_persist();
            stream.close(CLOSE_TIMEOUT).await;
        }
        Err(error)
    }

    /// Waits for reports on what was handed over, and hands over nothing new.
    async fn finish_handed_over(&mut self, deadline: Instant) {
        while let Ok(false) = self.publisher.finish_handed_over() {
            if timeout_at(deadline, self.publisher.wait()).await.is_err() {
                return;
            }
        }
    }

    pub(super) fn look(
        &mut self,
        watchdog: &mut Watchdog,
        reads: bool,
        stream: &Stream,
    ) -> Result<(), Error> {
        let sent = self.publisher.progress().received_lsn();
        match watchdog.look(reads, sent, &mut self.patience, Instant::now().into_std()) {
            None => Ok(()),
            Some(Alarm::Silence(silence)) => Err(stream.silent(silence).into()),
            Some(Alarm::Pause(pause)) => Err(Error::Paused(pause)),
        }
    }

    fn has_remembered(&mut self, lsn: Lsn) {
        self.remembered = self.remembered.max(lsn);
        self.publisher.sink_mut().inner_mut().remembered(self.remembered);
    }

    fn act(&self, next: Next, stream: &Stream, guard: &Guard) {
        match next {
            Next::Nothing => {}
            Next::Remember(lsn) => guard.remember(lsn, self.publisher.counts().acknowledged),
            Next::Confirm(lsn) => {
                stream.confirm(lsn);
                self.vitals.show_confirmed(lsn);
            }
        }
    }

    /// Takes in what has come, a batch at the most; returns the number of messages.
    fn read(&mut self, first: StreamEvent, stream: &mut Stream, intake: &mut Intake) -> Result<u32, Error> {
        let started = Instant::now();
        self.take(first, intake)?;
        for messages in 1..BATCH_MESSAGES {
            if messages % CLOCK_EVERY == 0 && started.elapsed() > BATCH_MAX {
                return Ok(messages);
            }
            if intake.has_described() || !self.settings.window.is_open(1, &self.publisher) {
                return Ok(messages);
            }
            match stream.try_next()? {
                Some(event) => self.take(event, intake)?,
                None => return Ok(messages),
            }
        }
        Ok(BATCH_MESSAGES)
    }

    fn take(&mut self, event: StreamEvent, intake: &mut Intake) -> Result<(), Error> {
        match event {
            StreamEvent::Data(message) => match self.publisher.take(&message, intake) {
                Err(IntakeError::Outbox(error @ OutboxError::UnknownType { oid, .. }))
                    if self.unknown_types.again(oid) =>
                {
                    Err(Error::Unsettled(error))
                }
                Err(IntakeError::Outbox(OutboxError::Appeared { table, oid })) => {
                    self.gone.remove(&oid);
                    self.appeared.push(oid);
                    Err(Error::Appeared(table))
                }
                taken => Ok(taken?),
            },
            StreamEvent::Keepalive(wal_end) => Ok(self.publisher.progress_mut().keepalive(wal_end)?),
        }
    }

    /// Reads no more, waits for what is in flight, confirms it and lets the slot go; bounded by the deadline.
    async fn drain(
        &mut self,
        stream: Stream,
        mut guard: Guard,
        mut confirming: Confirming,
    ) -> Result<Stopped, Error> {
        self.vitals.set_state(State::Draining);
        let timeout = self.settings.timing.drain_timeout;
        let deadline = Instant::now() + timeout;
        let refused = self.empty(deadline).await?;
        self.confirm(u64::MAX, deadline, &stream, &mut guard, &mut confirming).await?;
        let confirmed = confirming.confirmed();
        let told = stream.close(timeout.min(CLOSE_TIMEOUT)).await;
        match refused {
            Some(error) if !error.is_about_a_topic() => Err(error.into()),
            _ => Ok(report(self.publisher.progress().records(), confirmed, told)),
        }
    }

    /// Hands over all that was read, and waits until it is acknowledged or the deadline is over. In front of a record that is
    /// not published it is all that was handed over.
    pub(super) async fn empty(&mut self, deadline: Instant) -> Result<Option<PublishError>, PublishError> {
        match self.empty_wholly(deadline).await {
            Ok(()) => Ok(None),
            Err(error) if error.is_about_a_record() => {
                tracing::warn!(%error, "stopping in front of a record that is not published");
                self.finish_handed_over(deadline).await;
                Ok(Some(error))
            }
            Err(error) => Err(error),
        }
    }

    async fn empty_wholly(&mut self, deadline: Instant) -> Result<(), PublishError> {
        self.publisher.send()?;
        while self.publisher.progress().records() > 0 {
            if timeout_at(deadline, self.publisher.wait()).await.is_err() {
                break;
            }
            match timeout_at(deadline, self.publisher.process_reports()).await {
                Ok(processed) => processed?,
                Err(_) => break,
            }
            self.vitals.show(&self.publisher, self.acknowledged_at_persist);
        }
        Ok(())
    }

    /// Confirms all that is acknowledged, `acknowledged` events so far, where that is worth it; bounded by the deadline.
    async fn confirm(
        &mut self,
        acknowledged: u64,
        deadline: Instant,
        stream: &Stream,
        guard: &mut Guard,
        confirming: &mut Confirming,
    ) -> Result<(), Error> {
        let target = self.publisher.progress().confirmable();
        let next = confirming.next(target, acknowledged);
        if next == Next::Nothing {
            return Ok(());
        }
        self.act(next, stream, guard);
        while !confirming.is_confirmed(target) {
            match timeout_at(deadline, guard.next()).await {
                Ok(GuardEvent::Remembered(lsn)) => {
                    self.has_remembered(lsn);
                    self.act(confirming.remembered(lsn, target), stream, guard);
                }
                // A table that is not what it was is no reason to forget what was acknowledged.
                Ok(GuardEvent::Failed(error)) if !is_of_the_table(&error) => return Err(error),
                Ok(GuardEvent::Looked(_) | GuardEvent::Failed(_)) => {}
                Err(_) => break,
            }
        }
        Ok(())
    }
}

/// What comes in next, while there is room for it; without room only that the connection is lost. Safe to drop while it
/// waits.
async fn next(stream: &mut Stream, room: bool) -> Result<StreamEvent, DatabaseError> {
    if room { stream.next().await } else { Err(stream.lost().await) }
}

/// What the stream would halt on as well, with its next row.
fn is_of_the_table(error: &Error) -> bool {
    matches!(error, Error::Outbox(_) | Error::Unsafe(Unsafe::Outbox(_) | Unsafe::TableMissing(_)))
}

fn report(left: usize, confirmed: Lsn, told: bool) -> Stopped {
    if left == 0 && told {
        tracing::info!(%confirmed, "drained");
        return Stopped::Drained;
    }
    tracing::warn!(in_flight = left, %confirmed, told, "stopped before everything was confirmed: it comes again");
    Stopped::CutShort
}
