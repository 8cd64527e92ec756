//! Waiting for a condition with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Short enough that a wait adds nothing one would notice to a test, long enough to leave two cores to the servers.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Polls `probe` until it gives a value.
///
/// # Errors
/// When `within` has passed (the message names `what`), or at once when the probe itself fails.
pub async fn wait_for<T>(
    what: &str,
    within: Duration,
    mut probe: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let started = Instant::now();
    while let Some(left) = within.checked_sub(started.elapsed()) {
        // The probe is bounded too: a server that hangs must not make the wait hang with it.
        if let Ok(found) = tokio::time::timeout(left, probe()).await
            && let Some(value) = found.with_context(|| format!("waiting until {what}"))?
        {
            return Ok(value);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    bail!("waited {within:?} until {what}, in vain")
}

/// Polls `condition` until it holds.
///
/// # Errors
/// As [`wait_for`].
pub async fn wait_until(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    wait_for(what, within, async || Ok(condition().await?.then_some(()))).await
}

/// Watches that `condition` holds the whole time: for promises about what does *not* happen.
///
/// # Errors
/// At once when it does not hold, or when it cannot be judged.
pub async fn holds_for(
    what: &str,
    time: Duration,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let started = Instant::now();
    while started.elapsed() < time {
        if !condition().await.with_context(|| format!("watching that {what}"))? {
            bail!("it no longer holds after {:?} that {what}", started.elapsed());
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wait_names_what_it_waited_for() {
        let waited = wait_until("pigs fly", Duration::from_millis(50), async || Ok(false)).await;
        assert!(waited.expect_err("pigs").to_string().contains("until pigs fly"));
    }

    #[tokio::test]
    async fn a_hung_probe_does_not_hang_the_wait() {
        let probe = async || std::future::pending::<Result<bool>>().await;
        assert!(wait_until("never", Duration::from_millis(50), probe).await.is_err());
    }
}
