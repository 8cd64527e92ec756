//! Beside the stream, on an SQL connection of its own: remembers a position before it is confirmed, and watches that
//! the ground has not moved.
//!
//! The two connections live and die together. A Postgres that shuts down ends this one first and then waits for the
//! walsender, which waits for the relay to confirm everything; since nothing can be remembered any more, the relay
//! closes the stream instead, and the shutdown goes on at once.

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Duration, MissedTickBehavior, interval};

use crate::config::SourceSettings;
use crate::error::{Error, Verdict};
use crate::postgres::Server;
use crate::postgres::Session;
use crate::postgres::checkpoint::{self, Checkpoints};
use crate::postgres::ledger::{self, Holder};
use crate::postgres::preflight::{self, Found, FoundTable, PreflightError, Unpublished, Unsafe};
use walpost_core::lsn::Lsn;

/// What the guard has to say.
#[derive(Debug)]
pub(super) enum GuardEvent {
    /// The position is remembered, durably: it may be confirmed.
    Remembered(Lsn),
    /// The ground has not moved.
    Looked(Box<Looked>),
    /// Streaming must stop.
    Failed(Error),
}

/// What a look found.
#[derive(Debug)]
pub(super) struct Looked {
    /// A checkpoint waits for this position to be confirmed.
    pub wanted: Option<Lsn>,
    /// How many looks had been asked for when it began.
    pub asked: u64,
    /// Tables that a pattern stands for, and that are not followed.
    pub unpublished: Vec<Unpublished>,
    /// A table that is to be followed from the next session on.
    pub appeared: Option<String>,
    /// Up to where the WAL was flushed when it began: what was committed before was looked at.
    pub wal_end: Lsn,
}

/// A position to remember.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    lsn: Lsn,
    /// Events acknowledged so far.
    acknowledged: u64,
}

/// The guard's task; it ends when this is dropped.
pub(super) struct Guard {
    wanted: watch::Sender<Wanted>,
    asked: watch::Sender<u64>,
    events: mpsc::Receiver<GuardEvent>,
    task: JoinHandle<()>,
}

impl Guard {
    /// Starts the guard on a connection.
    #[must_use]
    pub(super) fn start(session: Session, watched: Watched, watch_interval: Duration) -> Self {
        let (wanted, want) = watch::channel(Wanted { lsn: Lsn::ZERO, acknowledged: 0 });
        let (asked, ask) = watch::channel(0);
        let (sender, events) = mpsc::channel(4);
        let task = Watch { session, watched, sender, checkpoints: Checkpoints::default() };
        Self { wanted, asked, events, task: tokio::spawn(task.run(want, ask, watch_interval)) }
    }

    /// Asks for a look now. One that began afterwards says so: its [`Looked::asked`] is at least what this returns.
    pub(super) fn look(&self) -> u64 {
        let next = *self.asked.borrow() + 1;
        self.asked.send_replace(next);
        next
    }

    /// Asks for a position to be remembered; [`GuardEvent::Remembered`] follows.
    pub(super) fn remember(&self, lsn: Lsn, acknowledged: u64) {
        self.wanted.send_replace(Wanted { lsn, acknowledged });
    }

    /// Waits for what the guard has to say. Safe to drop while it waits.
    pub(super) async fn next(&mut self) -> GuardEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The task sends a failure before it ends, so only a panic comes here.
            None => GuardEvent::Failed(Error::Internal("the guard's task ended")),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the guard watches.
#[derive(Debug)]
pub(super) struct Watched {
    /// What is followed.
    pub source: SourceSettings,
    /// The server that the stream comes from.
    pub server: Server,
    /// In whose name positions are remembered.
    pub holder: Holder,
}

impl Watched {
    /// A table that is to be followed from the next session on.
    fn appeared_of(&self, tables: &[FoundTable]) -> Option<String> {
        let is_new = |table: &&FoundTable| !self.holder.outboxes.contains(&table.relation.id);
        tables.iter().find(is_new).map(|table| table.table.name())
    }
}

struct Watch {
    session: Session,
    watched: Watched,
    checkpoints: Checkpoints,
    sender: mpsc::Sender<GuardEvent>,
}

impl Watch {
    async fn run(
        mut self,
        mut want: watch::Receiver<Wanted>,
        mut ask: watch::Receiver<u64>,
        watch_interval: Duration,
    ) {
        let mut ticks = interval(watch_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // After a look that found something there is none more, but what was acknowledged before may still be remembered.
        let mut looks = true;
        loop {
            let event = tokio::select! {
                biased;
                error = self.session.closed() => {
                    let _ = self.sender.send(GuardEvent::Failed(error.into())).await;
                    return;
                }
                changed = want.changed() => match changed {
                    Ok(()) => {
                        let wanted = *want.borrow_and_update();
                        self.remember(wanted.lsn).await
                    }
                    Err(_) => return,
                },
                changed = ask.changed(), if looks => {
                    if changed.is_err() {
                        return;
                    }
                    let (acknowledged, asked) = (want.borrow().acknowledged, *ask.borrow_and_update());
                    self.look(acknowledged, asked).await
                }
                _ = ticks.tick(), if looks => {
                    let (acknowledged, asked) = (want.borrow().acknowledged, *ask.borrow_and_update());
                    self.look(acknowledged, asked).await
                }
            };
            let event = event.unwrap_or_else(GuardEvent::Failed);
            looks &= !matches!(event, GuardEvent::Failed(_));
            if self.sender.send(event).await.is_err() {
                return;
            }
        }
    }

    async fn remember(&self, lsn: Lsn) -> Result<GuardEvent, Error> {
        let Self { session, watched, .. } = self;
        let remembering = async {
            // Commits of the application would wait for what is confirmed by it.
            preflight::check_not_awaited(session).await?;
            if watched.holder.remember(session, lsn).await? {
                return Ok(GuardEvent::Remembered(lsn));
            }
            Err(why_not(session, watched).await?)
        };
        session.within("remember the position in walpost.slot", remembering).await
    }

    /// Looks, and proves or takes a checkpoint.
    async fn look(&mut self, acknowledged: u64, asked: u64) -> Result<GuardEvent, Error> {
        let Self { session, watched, checkpoints, .. } = self;
        let looking = async {
            let wal_end = checkpoint::wal_flushed(session).await?;
            let Found { slot, unpublished, tables, .. } = check(session, watched).await?;
            let appeared = watched.appeared_of(&tables);
            let reached = slot.confirmed().and_then(|confirmed| checkpoints.reached(confirmed));
            if let Some(reached) = reached
                && checkpoint::oldest_running(session).await? >= reached.running_below
            {
                if !watched.holder.cover(session, reached.below).await? {
                    return Err(why_not(session, watched).await?);
                }
                checkpoints.prove();
            }
            if checkpoints.is_due(acknowledged) {
                checkpoints.wait_for(checkpoint::take_checkpoint(session, acknowledged).await?);
            }
            let wanted = checkpoints.wanted();
            Ok(GuardEvent::Looked(Box::new(Looked { wanted, asked, unpublished, appeared, wal_end })))
        };
        session.within("watch the slot", looking).await
    }
}

/// A publication without the table skips rows in silence, and a lost slot ends the stream without saying why: both are
/// looked for here, on a timer. What means that rows may have passed is written down before anything stops for it.
async fn check(session: &Session, watched: &Watched) -> Result<Found, Error> {
    let Watched { source, server, holder } = watched;
    preflight::check_not_awaited(session).await?;
    match preflight::verify(session, source, server).await {
        // Another relay may go on from what it found; what this one holds is not its to send any more.
        Ok(ground) if ground.memory.epoch != holder.epoch => Err(Error::Superseded),
        Ok(ground) => Ok(ground),
        Err(PreflightError::Unsafe(finding)) => Err(found(session, &source.slot, finding).await),
        Err(error) => Err(error.into()),
    }
}

/// Why nothing was written in the name of the session.
async fn why_not(session: &Session, watched: &Watched) -> Result<Error, Error> {
    let ground = check(session, watched).await?;
    // `init` has brought a table in.
    if let Some(table) = watched.appeared_of(&ground.tables) {
        return Ok(Error::Appeared(table));
    }
    // Whatever it was has passed between the two statements.
    Ok(Error::Superseded)
}

/// Writes a finding down, where it has to outlive this process, and gives it back as the error that it is.
pub(crate) async fn found(session: &Session, slot: &str, finding: Unsafe) -> Error {
    if finding.lets_rows_pass()
        && let Err(error) = ledger::find(session, slot, &finding).await
    {
        tracing::error!(%finding, %error, "the finding could not be written into the ledger");
        let error = Error::from(error);
        // What the next session finds again is not stopped for before it is written.
        if error.verdict() == Verdict::Retry {
            return error;
        }
    }
    finding.into()
}
