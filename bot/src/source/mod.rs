//! Updates: polling, handing over, confirming.

mod lanes;
mod window;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use self::lanes::Lanes;
use self::window::Window;
use crate::journal::Written;
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;
use crate::telegram::types::Update;
use crate::telegram::{Api, ApiError, UPDATES_MAX};

/// While an update is unfinished Telegram gives it again at once, so calls are spaced. It treats two calls from the same
/// offset within half a second as a loop, and then gives one update alone.
const PACE: Duration = Duration::from_millis(700);
/// The first poll, and the first after a failure, is short: it shows soon whether polling works. Telegram makes shorter ones
/// wait as long.
const FIRST_POLL: Duration = Duration::from_secs(3);
/// Pauses after polls that failed.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// The end must not wait for a Telegram that is away.
const LAST_CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// What handles an update to its end.
pub trait Handle: Send + Sync + 'static {
    /// Handles one. It is confirmed when its record is written, for which nobody in its chat waits.
    fn handle(&self, update: Update) -> impl Future<Output = Written> + Send;
}

/// Telegram does not know the token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Telegram refuses the token: it is wrong, or was revoked; get one from @BotFather and give it as PACKAGE_BOT_TELEGRAM_TOKEN"
)]
pub struct WrongToken;

/// Whether an error of Telegram's says that the token is wrong: one of another form than a token's has no path at all.
#[must_use]
pub fn is_wrong_token(error: &ApiError) -> bool {
    matches!(error.code(), 401 | 404)
}

/// Polls Telegram.
pub struct Source<H> {
    api: Api,
    handler: Arc<H>,
    health: Health,
    metrics: Metrics,
    poll_timeout: Duration,
    window: Window,
    lanes: Lanes,
    /// Cancelled when updates wait for room that others have whose records are not written yet.
    room_is_needed: CancellationToken,
    ended: (UnboundedSender<i64>, UnboundedReceiver<i64>),
}

impl<H: Handle> Source<H> {
    /// Nothing is asked yet.
    pub fn new(api: Api, handler: Arc<H>, health: Health, metrics: Metrics, poll_timeout: Duration) -> Self {
        let (window, lanes, ended) = (Window::new(), Lanes::new(), unbounded_channel());
        let room_is_needed = CancellationToken::new();
        Self { api, handler, health, metrics, poll_timeout, window, lanes, room_is_needed, ended }
    }

    /// Takes updates until it is told to stop; then nothing more is taken.
    ///
    /// # Errors
    /// When Telegram does not know the token any more.
    pub async fn run(&mut self, stop: &CancellationToken) -> Result<(), WrongToken> {
        let (mut pause, mut timeout) = (PAUSE_MIN, FIRST_POLL.min(self.poll_timeout));
        while !stop.is_cancelled() {
            let (started, offset) = (Instant::now(), self.window.offset());
            // What a call that is broken off would have given is not confirmed, and comes again.
            let polling = self.api.updates(offset, UPDATES_MAX, timeout);
            let Some(polled) = stop.run_until_cancelled(polling).await else { break };
            match polled {
                Ok(updates) => {
                    (pause, timeout) = (PAUSE_MIN, self.poll_timeout);
                    self.window.confirmed(offset);
                    self.note_success();
                    let has_more = updates.len() >= UPDATES_MAX;
                    if self.take(updates) || self.window.unfinished() > 0 {
                        self.wait_for_handlers(has_more, started + PACE, stop).await;
                    } else {
                        self.wait_out(started + PACE, stop).await;
                    }
                }
                Err(error) if error.code() == 401 => return Err(WrongToken),
                Err(error) => {
                    let wait = self.note_failure(&error, pause).await;
                    self.wait_out(Instant::now() + wait, stop).await;
                    (pause, timeout) = ((pause * 2).min(PAUSE_MAX), FIRST_POLL.min(self.poll_timeout));
                }
            }
        }
        Ok(())
    }

    /// Finishes what was taken, in `within` at most, and confirms it.
    pub async fn drain(&mut self, within: Duration) {
        let deadline = Instant::now() + within;
        while self.window.unfinished() > 0 {
            let Ok(Some(id)) = timeout_at(deadline, self.ended.1.recv()).await else { break };
            self.finish(id);
        }
        match self.window.unfinished() {
            0 => {}
            left => tracing::warn!(left, "updates are not finished: Telegram will give them again"),
        }
        let offset = self.window.offset();
        if offset != self.window.behind() {
            let last = self.api.updates(offset, 1, Duration::ZERO);
            match tokio::time::timeout(LAST_CALL_TIMEOUT, last).await {
                Ok(Ok(_)) => tracing::info!("what is handled is confirmed"),
                _ => tracing::warn!("what is handled is not confirmed: Telegram will give it again"),
            }
        }
    }

    /// False: all that were given are known, and would be given again at once.
    fn take(&mut self, updates: Vec<Update>) -> bool {
        let given = updates.len();
        let mut new = 0;
        for update in updates {
            if self.window.admit(update.id) {
                new += 1;
                self.start(update);
            }
        }
        if new == 0 && given >= UPDATES_MAX {
            std::mem::take(&mut self.room_is_needed).cancel();
            self.window.stuck();
        }
        self.count_unfinished();
        new > 0 || given == 0
    }

    fn start(&mut self, update: Update) {
        let end = End { id: update.id, to: self.ended.0.clone() };
        let Some(lane) = update.lane() else {
            self.metrics.updates.with_label_values(&[update.kind(), "ignored"]).inc();
            return;
        };
        let (handler, room_is_needed) = (Arc::clone(&self.handler), self.room_is_needed.clone());
        self.lanes.spawn(lane, async move {
            let recorded = handler.handle(update).await;
            tokio::spawn(async move {
                room_is_needed.run_until_cancelled(recorded.wait()).await;
                drop(end);
            });
        });
    }

    /// Until all that were taken have ended; but no longer than `until`, so that others are taken meanwhile. Where Telegram
    /// has more, no longer than until half of them have, and the next call has another offset than the last: it treats two
    /// calls from one offset as a loop.
    async fn wait_for_handlers(&mut self, has_more: bool, until: Instant, stop: &CancellationToken) {
        while self.window.unfinished() > 0 {
            let few = self.window.unfinished() <= UPDATES_MAX / 2;
            if has_more && few && self.window.offset() != self.window.behind() {
                return;
            }
            let ended = stop.run_until_cancelled(timeout_at(until, self.ended.1.recv())).await;
            let Some(Ok(Some(id))) = ended else { return };
            self.finish(id);
            // Most end at once, together.
            while let Ok(id) = self.ended.1.try_recv() {
                self.finish(id);
            }
        }
    }

    async fn wait_out(&mut self, until: Instant, stop: &CancellationToken) {
        stop.run_until_cancelled(tokio::time::sleep_until(until)).await;
        while let Ok(id) = self.ended.1.try_recv() {
            self.finish(id);
        }
    }

    fn finish(&mut self, id: i64) {
        self.window.finish(id);
        self.count_unfinished();
    }

    fn count_unfinished(&self) {
        self.metrics.unfinished.set(i64::try_from(self.window.unfinished()).unwrap_or(i64::MAX));
    }

    fn note_success(&self) {
        self.health.polled();
        self.metrics.polled();
    }

    /// How long to wait.
    async fn note_failure(&self, error: &ApiError, pause: Duration) -> Duration {
        tracing::warn!(%error, "Telegram gives no updates: trying again");
        self.health.not_polling(error.to_string());
        let ApiError::Refused(refusal) = error else { return pause };
        if refusal.code == 409 && refusal.description.contains("webhook") {
            let _ = self.api.call("deleteWebhook", &json!({ "drop_pending_updates": false })).await;
        }
        refusal
            .parameters
            .retry_after
            .map_or(pause, |seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
    }
}

/// Tells that an update has ended, also where its handler has panicked.
struct End {
    id: i64,
    to: UnboundedSender<i64>,
}

impl Drop for End {
    fn drop(&mut self) {
        // Nobody listens any more when the program ends.
        let _ = self.to.send(self.id);
    }
}
