//! Whether it is ready: judged by polling alone. A bot that another instance has put out (409), whose token was revoked or
//! that cannot reach Telegram looks alive by everything else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What it needs beside Telegram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// The package API.
    Packages,
    /// Redis.
    Cache,
    /// Kafka.
    Kafka,
}

#[derive(Default)]
struct Seen {
    last_success: Option<Instant>,
    /// Why the last poll failed.
    failure: Option<String>,
    refused: bool,
    stopping: bool,
    /// In the order of [`Neighbour`]; unknown until looked at.
    there: [Option<bool>; 3],
}

/// What is known of the bot's state; copies share it.
#[derive(Clone, Default)]
pub struct Health {
    seen: Arc<Mutex<Seen>>,
    /// A poll that takes longer hangs.
    poll_max: Duration,
}

/// A judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// Whether people are answered.
    pub ready: bool,
    /// For a person: why not, or what is missing.
    pub text: String,
}

impl Health {
    /// Of a bot whose polls end within `poll_max`.
    #[must_use]
    pub fn new(poll_max: Duration) -> Self {
        Self { poll_max, ..Self::default() }
    }

    /// A poll succeeded.
    pub fn polled(&self) {
        self.with(|seen| (seen.last_success, seen.failure) = (Some(Instant::now()), None));
    }

    /// A poll failed, or polling has not begun.
    pub fn not_polling(&self, reason: impl Into<String>) {
        self.with(|seen| seen.failure = Some(reason.into()));
    }

    /// The package API does or does not take the bot's token.
    pub fn refused(&self, refused: bool) {
        self.with(|seen| seen.refused = refused);
    }

    /// No more updates are taken.
    pub fn stopping(&self) {
        self.with(|seen| seen.stopping = true);
    }

    /// A neighbour was looked at.
    pub fn looked(&self, neighbour: Neighbour, there: bool) {
        self.with(|seen| seen.there[neighbour as usize] = Some(there));
    }

    /// Judges.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        let poll_max = self.poll_max;
        let (reason, missing) = self.with(|seen| (reason(seen, poll_max), missing(seen)));
        let verdict = reason.as_ref().map_or("ready".to_owned(), |reason| format!("not ready: {reason}"));
        let lines = std::iter::once(verdict).chain(missing.map(str::to_owned));
        Readiness { ready: reason.is_none(), text: lines.map(|line| line + "\n").collect() }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Seen) -> T) -> T {
        act(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn reason(seen: &Seen, poll_max: Duration) -> Option<String> {
    if seen.stopping {
        return Some("stopping".into());
    }
    if let Some(failure) = &seen.failure {
        return Some(format!("Telegram gives no updates: {failure}"));
    }
    match seen.last_success {
        None => return Some("Telegram has not been asked for updates yet".into()),
        Some(at) if at.elapsed() > poll_max => return Some("Telegram has not answered for too long".into()),
        Some(_) => {}
    }
    seen.refused.then(|| "the package API refuses the bot's token: give it another grpc-auth-token".into())
}

fn missing(seen: &Seen) -> impl Iterator<Item = &'static str> + use<> {
    let lines = [
        "missing: the package API does not answer",
        "missing: Redis does not answer; descriptions come from the package API",
        "missing: Kafka does not answer; records wait, or are dropped",
    ];
    let there = seen.there;
    lines.into_iter().zip(there).filter(|(_, there)| *there == Some(false)).map(|(line, _)| line)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL_MAX: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn only_a_bot_that_polls_is_ready() {
        let health = Health::new(POLL_MAX);
        assert!(!health.readiness().ready);
        health.polled();
        assert!(health.readiness().ready);
        health.not_polling("409 Conflict");
        assert!(!health.readiness().ready && health.readiness().text.contains("409"));
        health.polled();
        tokio::time::advance(POLL_MAX * 2).await;
        assert!(!health.readiness().ready);
    }

    #[test]
    fn what_is_missing_is_said_and_does_not_take_it_out_of_service() {
        let health = Health::new(POLL_MAX);
        health.polled();
        health.looked(Neighbour::Cache, false);
        let readiness = health.readiness();
        assert!(readiness.ready && readiness.text.contains("Redis") && !readiness.text.contains("Kafka"));
    }

    #[test]
    fn a_refused_token_is_not_ready() {
        let health = Health::new(POLL_MAX);
        health.polled();
        health.refused(true);
        assert!(!health.readiness().ready && health.readiness().text.contains("grpc-auth-token"));
    }
}
