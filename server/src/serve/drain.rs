//! The end: stop accepting, finish what was accepted, and not wait for ever.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, TcpIncoming};

use crate::grpc::Health;
use crate::store::Store;

/// For the last answers to reach their clients.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Every call is over by then; what is left is to take leave of Postgres.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How the end goes.
pub(super) struct Draining {
    /// Begins it.
    pub(super) shutdown: CancellationToken,
    /// Says so to those who ask.
    pub(super) health: Health,
    /// How long the calls that were accepted may take.
    pub(super) timeout: Duration,
    /// Ends those that took longer.
    pub(super) cut_off: CancellationToken,
}

/// Serves until told to stop, then drains.
pub(super) async fn serve(
    router: Router,
    incoming: TcpIncoming,
    draining: Draining,
) -> Result<(), tonic::transport::Error> {
    let Draining { shutdown, mut health, timeout, cut_off } = draining;
    // On the signal tonic drops the listener, tells every client to go away, and ends when the last call has.
    let mut serving =
        Box::pin(router.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned()));
    let too_late = async {
        shutdown.cancelled().await;
        health.stop().await;
        tracing::info!(timeout_ms = timeout.as_millis(), "draining: finishing the calls that were accepted");
        tokio::time::sleep(timeout).await;
    };
    tokio::select! {
        served = &mut serving => return served,
        () = too_late => {}
    }
    tracing::warn!(timeout_ms = timeout.as_millis(), "cutting off the calls that did not finish in time");
    cut_off.cancel();
    tokio::time::timeout(FLUSH_TIMEOUT, serving).await.unwrap_or(Ok(()))
}

/// Leaves Postgres in good order, as far as it answers.
pub(super) async fn close(store: &Store) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, store.close()).await;
}
