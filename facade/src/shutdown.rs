//! When to stop: the signals that ask for it.
//!
//! Stopping is a token that is passed in, not a global: a test pulls it as a signal does.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that SIGTERM and SIGINT cancel. The second of them ends the process at once.
///
/// # Errors
/// When the process may not listen for signals.
pub fn on_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        for is_last in [false, true] {
            let signal = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if is_last {
                tracing::warn!(signal, "stopped at once: what was not committed is printed again");
                std::process::exit(1);
            }
            tracing::info!(signal, "stopping");
            stop.cancel();
        }
    });
    Ok(token)
}
