//! Asynchronous work in `drop`.

use std::time::Duration;

use anyhow::{Context, Result};

/// Runs `work` to its end on a thread and a runtime of its own: `drop` cannot await, and the runtime of the test may be
/// gone or single-threaded. A failure is only reported: the test has already been judged.
pub(crate) fn run<F>(what: &str, within: Duration, work: impl FnOnce() -> F + Send + 'static)
where
    F: Future<Output = Result<()>>,
{
    let thread = std::thread::spawn(move || -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let outcome = runtime.block_on(async { tokio::time::timeout(within, work()).await });
        // A connection task that hangs must not hold up the test either.
        runtime.shutdown_background();
        outcome.with_context(|| format!("not done in {within:?}"))?
    });
    match thread.join() {
        Ok(Ok(())) => {}
        Ok(Err(error)) => eprintln!("could not clean up {what}: {error:#}"),
        Err(_) => eprintln!("could not clean up {what}: the clean-up panicked"),
    }
}
