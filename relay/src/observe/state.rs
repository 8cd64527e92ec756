//! What the relay is doing, in a word, for `/ready`, the metrics, the page and the log.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use walpost_core::clock;

/// Whose fault it is that a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Peer {
    /// Postgres, or the way to it.
    Postgres,
    /// Kafka, or the way to it.
    Kafka,
    /// The schema registry, or the way to it.
    Registry,
    /// The relay stood still, or another one took the slot.
    #[serde(rename = "self")]
    Own,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Postgres, Self::Kafka, Self::Registry, Self::Own];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Kafka => "kafka",
            Self::Registry => "registry",
            Self::Own => "self",
        }
    }
}

/// What the relay is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Connecting and checking.
    Starting,
    /// Another relay has the slot; this one takes over when it is free.
    Standby {
        /// What Postgres says.
        reason: String,
    },
    /// Publishing rows that stood in the table before the slot was made.
    Backfilling,
    /// Following the stream.
    Streaming,
    /// Something is away; trying again.
    Retrying {
        /// Whose fault it is.
        peer: Peer,
        /// What it is.
        reason: String,
    },
    /// It runs, and yet nothing is acknowledged although there is something to be; see [`crate::observe::health`].
    Stalled {
        /// What waits, and for how long.
        reason: String,
        /// What the operator can do.
        remedy: String,
    },
    /// Stopping: waiting for acknowledgements.
    Draining,
    /// Stopped for safety.
    Halted {
        /// Why.
        reason: String,
        /// What the operator can do.
        remedy: String,
    },
}

impl State {
    /// Every name, for the metric that has a series for each.
    pub const NAMES: [&'static str; 8] =
        ["starting", "standby", "backfilling", "streaming", "retrying", "stalled", "draining", "halted"];

    /// The state's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby { .. } => "standby",
            Self::Backfilling => "backfilling",
            Self::Streaming => "streaming",
            Self::Retrying { .. } => "retrying",
            Self::Stalled { .. } => "stalled",
            Self::Draining => "draining",
            Self::Halted { .. } => "halted",
        }
    }

    /// Whether events flow.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Backfilling | Self::Streaming)
    }

    /// Whether events flow, or another relay sees to them.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.is_ready() || matches!(self, Self::Standby { .. })
    }

    /// How much is wrong, the worst last: of several sources the worst is named.
    #[must_use]
    pub fn trouble(&self) -> u8 {
        match self {
            Self::Backfilling | Self::Streaming => 0,
            Self::Standby { .. } => 1,
            Self::Draining => 2,
            Self::Starting => 3,
            Self::Retrying { .. } => 4,
            Self::Stalled { .. } => 5,
            Self::Halted { .. } => 6,
        }
    }

    /// Why, where there is something to say.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Standby { reason }
            | Self::Retrying { reason, .. }
            | Self::Stalled { reason, .. }
            | Self::Halted { reason, .. } => Some(reason),
            Self::Starting | Self::Backfilling | Self::Streaming | Self::Draining => None,
        }
    }

    /// Whose fault it is, where somebody is away.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        match self {
            Self::Retrying { peer, .. } => Some(*peer),
            _ => None,
        }
    }

    /// What the operator can do, where there is something to be done.
    #[must_use]
    pub fn remedy(&self) -> Option<&str> {
        match self {
            Self::Stalled { remedy, .. } | Self::Halted { remedy, .. } => Some(remedy),
            _ => None,
        }
    }

    /// A stand-by is nobody's error.
    fn is_error(&self) -> bool {
        matches!(self, Self::Retrying { .. } | Self::Halted { .. })
    }
}

/// What went wrong last; it stays when it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// When, milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// What.
    pub text: String,
    /// What the operator could do.
    pub remedy: Option<String>,
}

/// What the relay is doing, and since when.
#[derive(Debug, Clone)]
pub struct Doing {
    /// What.
    pub state: State,
    /// Since when, milliseconds since 1970-01-01 UTC: another reason is not another state.
    pub since_ms: i64,
    /// What went wrong last.
    pub last_error: Option<LastError>,
}

/// Where the relay says what it is doing, and others look.
#[derive(Debug, Clone)]
pub struct StateCell(watch::Sender<Doing>);

impl Default for StateCell {
    fn default() -> Self {
        let doing = Doing { state: State::Starting, since_ms: clock::unix_millis(), last_error: None };
        Self(watch::Sender::new(doing))
    }
}

impl StateCell {
    /// Says what the relay is doing now.
    pub fn set(&self, state: State) {
        let now = clock::unix_millis();
        self.0.send_modify(|doing| {
            if state.name() != doing.state.name() {
                doing.since_ms = now;
            }
            if let Some(text) = state.reason().filter(|_| state.is_error()) {
                let remedy = state.remedy().map(str::to_owned);
                doing.last_error = Some(LastError { at_ms: now, text: text.to_owned(), remedy });
            }
            doing.state = state;
        });
    }

    /// What the relay is doing.
    #[must_use]
    pub fn get(&self) -> State {
        self.0.borrow().state.clone()
    }

    /// The same, with since when, and what went wrong last.
    #[must_use]
    pub fn doing(&self) -> Doing {
        self.0.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_remembered_when_it_is_over() {
        let cell = StateCell::default();
        cell.set(State::Retrying { peer: Peer::Kafka, reason: "no broker answers".into() });
        let since = cell.doing().since_ms;
        cell.set(State::Retrying { peer: Peer::Kafka, reason: "still none".into() });
        assert_eq!(cell.doing().since_ms, since, "it is the same state");
        cell.set(State::Streaming);
        let doing = cell.doing();
        assert_eq!(doing.last_error.map(|error| error.text).as_deref(), Some("still none"));
        cell.set(State::Standby { reason: "another has it".into() });
        assert_eq!(cell.doing().last_error.map(|error| error.text).as_deref(), Some("still none"));
    }
}
