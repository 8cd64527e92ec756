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
use crate::database::Session;
use crate::error::Error;
use crate::ledger;
use crate::lsn::Lsn;
use crate::preflight::{self, SlotFacts, Unsafe};
use crate::published::{self, Checkpoints};

/// What the guard has to say.
#[derive(Debug)]
pub enum GuardEvent {
    /// The position is remembered, durably: it may be confirmed.
    Remembered(Lsn),
    /// The ground has not moved.
    Looked(Box<Looked>),
    /// Streaming must stop.
    Failed(Error),
}

/// What a look found.
#[derive(Debug)]
pub struct Looked {
    /// The slot, as Postgres sees it now.
    pub slot: SlotFacts,
    /// A checkpoint waits for this position to be confirmed.
    pub wanted: Option<Lsn>,
}

/// A position to remember.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    lsn: Lsn,
    /// Events acknowledged so far.
    acknowledged: u64,
}

/// The guard's task; it ends when this is dropped.
pub struct Guard {
    wanted: watch::Sender<Wanted>,
    events: mpsc::Receiver<GuardEvent>,
    task: JoinHandle<()>,
}

impl Guard {
    /// Starts the guard on a connection.
    #[must_use]
    pub fn start(session: Session, watched: Watched, watch_interval: Duration) -> Self {
        let (wanted, want) = watch::channel(Wanted { lsn: Lsn::ZERO, acknowledged: 0 });
        let (sender, events) = mpsc::channel(4);
        let task = Watch { session, watched, sender, checkpoints: Checkpoints::default() };
        Self { wanted, events, task: tokio::spawn(task.run(want, watch_interval)) }
    }

    /// Asks for a position to be remembered; [`GuardEvent::Remembered`] follows.
    pub fn remember(&self, lsn: Lsn, acknowledged: u64) {
        self.wanted.send_replace(Wanted { lsn, acknowledged });
    }

    /// Waits for what the guard has to say. Safe to drop while it waits.
    pub async fn next(&mut self) -> GuardEvent {
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
pub struct Watched {
    /// What is followed.
    pub source: SourceSettings,
    /// The server's identifier.
    pub system: String,
    /// The epoch that the session began.
    pub epoch: i64,
}

struct Watch {
    session: Session,
    watched: Watched,
    checkpoints: Checkpoints,
    sender: mpsc::Sender<GuardEvent>,
}

impl Watch {
    async fn run(mut self, mut want: watch::Receiver<Wanted>, watch_interval: Duration) {
        let mut ticks = interval(watch_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let event = tokio::select! {
                biased;
                error = self.session.closed() => Err(error.into()),
                changed = want.changed() => match changed {
                    Ok(()) => {
                        let wanted = *want.borrow_and_update();
                        self.remember(wanted.lsn).await
                    }
                    Err(_) => return,
                },
                _ = ticks.tick() => {
                    let acknowledged = want.borrow().acknowledged;
                    self.look(acknowledged).await
                }
            };
            let event = event.unwrap_or_else(GuardEvent::Failed);
            let failed = matches!(event, GuardEvent::Failed(_));
            if self.sender.send(event).await.is_err() || failed {
                return;
            }
        }
    }

    async fn remember(&self, lsn: Lsn) -> Result<GuardEvent, Error> {
        let Watched { source, epoch, .. } = &self.watched;
        let remembering = ledger::remember(&self.session, &source.slot, *epoch, lsn);
        if self.session.within("remember the position in walpost.slot", remembering).await? {
            return Ok(GuardEvent::Remembered(lsn));
        }
        Err(Error::Superseded)
    }

    /// Looks, and proves or takes a checkpoint.
    async fn look(&mut self, acknowledged: u64) -> Result<GuardEvent, Error> {
        let Self { session, watched, checkpoints, .. } = self;
        let looking = async {
            let slot = check(session, watched).await?;
            // Only now: a publication that let rows pass proves nothing.
            if let Some(proven) = slot.confirmed().and_then(|confirmed| checkpoints.prove(confirmed)) {
                ledger::cover(session, &watched.source.slot, watched.epoch, proven.below).await?;
            }
            if checkpoints.is_due(acknowledged) {
                checkpoints.wait_for(published::take_checkpoint(session, acknowledged).await?);
            }
            Ok(GuardEvent::Looked(Box::new(Looked { slot, wanted: checkpoints.wanted() })))
        };
        session.within("watch the slot", looking).await
    }
}

/// A publication without the table skips rows in silence, and a lost slot ends the stream without saying why: both are
/// looked for here, on a timer.
async fn check(session: &Session, watched: &Watched) -> Result<SlotFacts, Error> {
    let Watched { source, system, .. } = watched;
    preflight::check_table(session, &source.table).await?;
    let publication = preflight::check_publication(session, source).await?;
    let facts = preflight::check_slot(session, source).await?;
    let memory = ledger::load(session, &source.slot).await?;
    let memory = memory.ok_or_else(|| Unsafe::SlotUnknown(source.slot.clone()))?;
    preflight::check_kept(source, publication, &memory)?;
    preflight::check_memory(&facts, &memory, system)?;
    Ok(facts)
}
