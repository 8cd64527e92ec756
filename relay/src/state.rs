//! What the relay is doing, in a word, for `/ready`, the metrics and the log.

use serde::Serialize;
use tokio::sync::watch;

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
        /// What it is.
        reason: String,
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
    pub const NAMES: [&'static str; 7] =
        ["starting", "standby", "backfilling", "streaming", "retrying", "draining", "halted"];

    /// The state's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Standby { .. } => "standby",
            Self::Backfilling => "backfilling",
            Self::Streaming => "streaming",
            Self::Retrying { .. } => "retrying",
            Self::Draining => "draining",
            Self::Halted { .. } => "halted",
        }
    }

    /// Whether events flow.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self, Self::Backfilling | Self::Streaming)
    }
}

/// Where the relay says what it is doing, and others look.
#[derive(Debug, Clone)]
pub struct StateCell(watch::Sender<State>);

impl Default for StateCell {
    fn default() -> Self {
        Self(watch::Sender::new(State::Starting))
    }
}

impl StateCell {
    /// Says what the relay is doing now.
    pub fn set(&self, state: State) {
        self.0.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }

    /// What the relay is doing.
    #[must_use]
    pub fn get(&self) -> State {
        self.0.borrow().clone()
    }
}
