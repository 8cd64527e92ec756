//! What is tried again, and for how long.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

/// Pauses between tries: quick at first, for a connection that a restart has broken, and never long, since somebody waits.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// A quarter of a call's time goes to tries that are refused at once: a server that is away for longer is better told
/// than waited for.
const SHARE: u32 = 4;

/// Makes a call until it succeeds, or fails in a way that another try does not mend, or its time is over. What is tried
/// again is what says that nothing came of it (away, too much to do); a change is safe beyond that, by its key.
pub(super) async fn until<T, F>(timeout: Duration, mut call: impl FnMut(Duration) -> F) -> Result<T, Status>
where
    F: Future<Output = Result<T, Status>> + Send,
{
    let started = Instant::now();
    let (deadline, give_up) = (started + timeout, started + timeout / SHARE);
    let mut pause = PAUSE_MIN;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let failed = match tokio::time::timeout(left, call(left)).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(status)) => status,
            Err(_) => return Err(Status::deadline_exceeded("no answer in time")),
        };
        if !is_passing(&failed) || Instant::now() + pause > give_up {
            return Err(failed);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn is_passing(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) || is_broken_connection(status)
}

/// The connection broke in the middle of the call: the server has not answered, and a library has made up the status.
pub(super) fn is_broken_connection(status: &Status) -> bool {
    matches!(status.code(), Code::Unknown | Code::Internal) && std::error::Error::source(status).is_some()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    async fn tries(code: Code, fails: u32) -> (u32, Result<(), Code>) {
        let tried = Cell::new(0);
        let outcome = until(TIMEOUT, |_| {
            tried.set(tried.get() + 1);
            let failed = tried.get() <= fails;
            async move { if failed { Err(Status::new(code, "")) } else { Ok(()) } }
        });
        let outcome = outcome.await.map_err(|status| status.code());
        (tried.get(), outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_for_a_moment_is_asked_again() {
        assert_eq!(tries(Code::Unavailable, 2).await, (3, Ok(())));
        assert_eq!(tries(Code::ResourceExhausted, 1).await, (2, Ok(())));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_stays_away_is_given_up_well_within_the_deadline() {
        let started = Instant::now();
        let (tried, outcome) = tries(Code::Unavailable, u32::MAX).await;
        assert!(tried > 5 && outcome == Err(Code::Unavailable), "{tried}");
        assert!(started.elapsed() <= TIMEOUT / SHARE);
    }

    #[tokio::test(start_paused = true)]
    async fn other_failures_are_final() {
        for code in [
            Code::NotFound,
            Code::InvalidArgument,
            Code::Internal,
            Code::DeadlineExceeded,
            Code::Unauthenticated,
        ] {
            assert_eq!(tries(code, 1).await, (1, Err(code)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hangs_is_not_waited_for_for_ever() {
        let hung = until(TIMEOUT, |_| std::future::pending::<Result<(), Status>>()).await;
        assert_eq!(hung.expect_err("it hangs").code(), Code::DeadlineExceeded);
    }
}
