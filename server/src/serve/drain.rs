//! The end: say so, stop accepting, finish what was accepted, and not wait for ever.

use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::connections::Ending;
use crate::grpc::Health;
use crate::store::Store;

/// For the last answers to reach their clients.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Every call is over by then; what is left is to take leave of Postgres.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long each step of the end may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainSettings {
    /// Between not being ready and accepting no more: for balancers to notice.
    pub delay: Duration,
    /// For the calls that were accepted.
    pub timeout: Duration,
}

/// Waits until it is told to stop, and brings everything to its end. Whoever asks /ready hears of it at once.
pub(super) async fn when(
    shutdown: CancellationToken,
    settings: DrainSettings,
    mut health: Health,
    ending: &Ending,
    cut_off: &CancellationToken,
) {
    shutdown.cancelled().await;
    health.stop().await;
    tracing::info!(delay_ms = settings.delay.as_millis(), "not ready any more");
    tokio::time::sleep(settings.delay).await;

    ending.stop.cancel();
    ending.open.close();
    let timeout_ms = settings.timeout.as_millis();
    tracing::info!(timeout_ms, "draining: finishing the calls that were accepted");
    if timeout(settings.timeout, ending.open.wait()).await.is_err() {
        tracing::warn!(timeout_ms, "cutting off the calls that did not finish in time");
        cut_off.cancel();
        let _ = timeout(FLUSH_TIMEOUT, ending.open.wait()).await;
    }
}

/// Leaves Postgres in good order, as far as it answers.
pub(super) async fn close(store: &Store) {
    let _ = timeout(CLOSE_TIMEOUT, store.close()).await;
}
