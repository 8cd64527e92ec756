//! The end: stop accepting, finish what was accepted, and not wait for ever.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, TcpIncoming};

use crate::grpc::Health;
use crate::store::Store;

/// Every call is over by then; what is left is to take leave of Postgres.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves until `shutdown`, then drains for at most `timeout`.
pub(super) async fn serve(
    router: Router,
    incoming: TcpIncoming,
    mut health: Health,
    shutdown: CancellationToken,
    timeout: Duration,
) -> Result<(), tonic::transport::Error> {
    // On the signal tonic drops the listener, tells every client to go away, and ends when the last call has.
    let serving = router.serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
    let too_late = async {
        shutdown.cancelled().await;
        health.stop().await;
        tracing::info!(timeout_ms = timeout.as_millis(), "draining: finishing the calls that were accepted");
        tokio::time::sleep(timeout).await;
    };
    tokio::select! {
        served = serving => served,
        () = too_late => {
            tracing::warn!(timeout_ms = timeout.as_millis(), "calls were cut off: they did not finish in time");
            Ok(())
        }
    }
}

/// Leaves Postgres in good order, as far as it answers.
pub(super) async fn close(store: &Store) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, store.close()).await;
}
