//! The loop that joins the path: sessions with Postgres, one after the other, around one window and one producer.
//!
//! What outlives a session is the window with its positions and the producer with its queue: so a reconnect repeats
//! nothing that is already queued. Everything else begins anew with each session, checks included.

pub mod backfill;
mod cleaner;
mod confirm;
mod copy;
mod exactly_once;
mod open;
mod pace;
mod session;
mod unknown;
mod unreadable;
mod watch;
mod watchdog;

use std::collections::BTreeMap;

use opentelemetry_sdk::trace::SdkTracer;
use rand::RngExt;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::error::{Error, Verdict};
use crate::kafka::KafkaSink;
use crate::kafka::traced::{Traced, Tracing};
use crate::observe::board::Vitals;
use crate::observe::state::State;
use crate::postgres::Server;
use crate::retry::Backoff;
use unknown::UnknownTypes;
use unreadable::Unreadable;
use walpost_core::event::render::Renderer;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Oid;
use walpost_core::publish::sink::SinkError;
use walpost_core::publish::{PublishError, Publisher};
use walpost_core::window::copied::CopyId;
use walpost_core::window::progress::ProgressError;
use watchdog::Patience;

/// The first wait after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(100);

/// How often a relay that stands by tries to take the slot: it is to take over within a second.
const STANDBY_RETRY: Duration = Duration::from_millis(500);

/// The relay stopped for safety.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}; what to do: {remedy}")]
pub struct Halt {
    /// Why.
    pub reason: String,
    /// What the operator can do.
    pub remedy: String,
}

/// How the relay stopped when it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everything that was read is acknowledged and confirmed.
    Drained,
    /// The deadline, or a server that was away, came first: what is not confirmed comes again.
    CutShort,
}

/// The relay.
pub struct Relay {
    settings: Settings,
    publisher: Publisher<Traced<KafkaSink>>,
    /// Events acknowledged before the position that is remembered: the sequence of the first behind it.
    acknowledged_at_persist: u64,
    /// The highest position that this process has had remembered.
    remembered: Lsn,
    /// Who was at the other end last.
    server: Option<Server>,
    /// The epoch of the last session that had the slot.
    epoch: Option<i64>,
    patience: Patience,
    unknown_types: UnknownTypes,
    unreadable: Unreadable,
    /// Tables that a pattern stands for, seen in the stream and not followed.
    appeared: Vec<Oid>,
    /// Of these, those that were looked for in vain, and where the WAL ended then.
    gone: BTreeMap<Oid, Lsn>,
    /// How far the copy of a table is in Kafka, as the position there says.
    copied_before: Option<(CopyId, i64)>,
    /// The server has another history than the position in Kafka says: it counts no more.
    distrusts_position: bool,
    /// Rows of the table are known to be left to publish.
    has_rows_left: bool,
    vitals: Vitals,
}

impl Relay {
    /// Makes the producer; nothing is connected yet.
    ///
    /// # Errors
    /// When librdkafka refuses its settings.
    pub fn new(settings: Settings, vitals: Vitals, tracer: Option<SdkTracer>) -> Result<Self, SinkError> {
        let tracing = tracer.map(|tracer| Tracing { tracer });
        let sink = KafkaSink::new(&settings.kafka, settings.window)?;
        vitals.watch_kafka(sink.statistics(), sink.tally());
        let sink = Traced::new(sink, tracing);
        let patience = Patience::new(settings.timing.peer_timeout);
        let dead_letter_topic = settings.kafka.dead_letter_topic.clone();
        let takes_dead_letters = dead_letter_topic.is_some();
        let renderer = Renderer::new(dead_letter_topic).with_late_after(settings.kafka.late_after);
        let mut publisher = Publisher::new(renderer, sink);
        if takes_dead_letters {
            publisher = publisher.with_dead_letters();
        }
        Ok(Self {
            settings,
            publisher,
            acknowledged_at_persist: 0,
            remembered: Lsn::ZERO,
            server: None,
            epoch: None,
            patience,
            unknown_types: UnknownTypes::default(),
            unreadable: Unreadable::default(),
            appeared: Vec::new(),
            gone: BTreeMap::new(),
            copied_before: None,
            distrusts_position: false,
            has_rows_left: false,
            vitals,
        })
    }

    /// Runs until `stop`, and then drains; or until it is not safe to go on.
    ///
    /// Wants a thread of its own, with a runtime of one thread: under load the thread rests for half a millisecond at a
    /// time.
    ///
    /// # Errors
    /// The reason of the halt.
    pub async fn run(mut self, stop: CancellationToken) -> Result<Stopped, Halt> {
        let mut backoff = Backoff::new(RETRY_FIRST, self.settings.timing.retry_max);
        loop {
            let started = Instant::now();
            let error = match self.session(&stop).await {
                Ok(stopped) => return Ok(stopped),
                Err(error) => error,
            };
            if let Error::Progress(ProgressError::AnotherHistory(_)) = &error {
                self.distrusts_position = true;
            }
            if gives_up(&error) {
                // Before anything else: a queue that is still being sent is the successor's by now.
                self.give_up().await;
            } else {
                self.hand_over_the_rest(&error);
            }
            if stop.is_cancelled() {
                tracing::warn!(%error, "stopped while something was away: what is not confirmed comes again");
                return Ok(Stopped::CutShort);
            }
            if started.elapsed() > self.settings.timing.retry_max {
                backoff.reset();
            }
            let (reached, patience) =
                (self.publisher.progress().acknowledged(), self.settings.timing.stall_timeout);
            let error = self.unreadable.judge(error, reached, Instant::now(), patience);
            let wait = self.after(&error, &mut backoff)?;
            tokio::select! {
                () = stop.cancelled() => return Ok(self.stopped()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn give_up(&mut self) {
        if let Err(error) = self.abandon().await {
            tracing::error!(%error, "the producer cannot be replaced");
        }
    }

    /// Decides what follows from an error: how long to wait before the next session, or a halt.
    fn after(&self, error: &Error, backoff: &mut Backoff) -> Result<Duration, Halt> {
        let reason = self.settings.with_source(error.reason());
        match error.verdict() {
            Verdict::Halt { remedy } => {
                let remedy = self.settings.with_source(remedy);
                tracing::error!(reason, remedy, "halted");
                self.vitals.set_state(State::Halted { reason: reason.clone(), remedy: remedy.clone() });
                Err(Halt { reason, remedy })
            }
            Verdict::StandBy => {
                if !matches!(self.vitals.state().get(), State::Standby { .. }) {
                    tracing::info!(reason, "standing by: another relay has the slot");
                }
                self.vitals.set_state(State::Standby { reason });
                Ok(STANDBY_RETRY)
            }
            Verdict::Retry => {
                let wait = backoff.wait(rand::rng().random());
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(reason, wait_ms, "trying again");
                self.vitals.count_reconnect(error.peer());
                self.vitals.set_state(State::Retrying { peer: error.peer(), reason });
                Ok(wait)
            }
        }
    }
}

/// Whether what is in flight is not this relay's to send any more, or was not to be passed over.
fn gives_up(error: &Error) -> bool {
    matches!(
        error,
        Error::Paused(_)
            | Error::Superseded
            | Error::Publish(PublishError::Fenced(_))
            | Error::Progress(ProgressError::AnotherHistory(_))
    )
}
