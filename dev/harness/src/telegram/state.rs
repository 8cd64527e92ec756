//! What the server knows, and its rules for updates.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::{Call, Fault};

/// The same offset again within that time looks like a loop: one update alone is given.
const LOOP_WITHIN: Duration = Duration::from_millis(500);

pub(super) struct Shared {
    pub(super) token: String,
    state: Mutex<State>,
    /// Rises with each update and each poll: whoever waits looks again.
    changed: watch::Sender<u64>,
}

pub(super) struct State {
    pub(super) me: Value,
    pub(super) updates: BTreeMap<i64, Value>,
    /// Kinds that are asked for; none: all.
    allowed: Vec<String>,
    pub(super) calls: Vec<Call>,
    faults: HashMap<String, VecDeque<Fault>>,
    pub(super) polls: u64,
    poll: u64,
    last_poll: Option<(i64, Instant)>,
    pub(super) revoked: bool,
    pub(super) webhook: String,
    pub(super) commands: Value,
    pub(super) next_message_id: i64,
    /// Text and buttons of messages, by chat and id.
    pub(super) messages: HashMap<(i64, i64), (String, Value)>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new() -> Self {
        let secret = uuid::Uuid::new_v4().simple();
        let state = State {
            me: json!({ "id": 1, "is_bot": true, "first_name": "b", "username": "omp_bot" }),
            updates: BTreeMap::new(),
            allowed: Vec::new(),
            calls: Vec::new(),
            faults: HashMap::new(),
            polls: 0,
            poll: 0,
            last_poll: None,
            revoked: false,
            webhook: String::new(),
            commands: json!([]),
            next_message_id: 1000,
            messages: HashMap::new(),
        };
        Self { token: format!("1:{secret}"), state: Mutex::new(state), changed: watch::channel(0).0 }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn push(&self, update: Value, unasked: bool) {
        let Some(id) = update["update_id"].as_i64() else { return };
        let mut state = self.lock();
        let kinds = update.as_object().into_iter().flat_map(|fields| fields.keys());
        let wanted =
            unasked || state.allowed.is_empty() || kinds.clone().any(|kind| state.allowed.contains(kind));
        if wanted {
            state.updates.insert(id, update);
        }
        drop(state);
        self.wake();
    }

    pub(super) fn order(&self, method: &str, times: usize, fault: Fault) {
        let mut state = self.lock();
        let faults = state.faults.entry(method.to_owned()).or_default();
        faults.extend(std::iter::repeat_n(fault, times));
    }

    pub(super) fn fault(&self, method: &str) -> Option<Fault> {
        self.lock().faults.get_mut(method)?.pop_front()
    }

    pub(super) fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn wake(&self) {
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// A poll begins: the one before it ends with 409.
    pub(super) fn begin_poll(&self) -> u64 {
        let mut state = self.lock();
        state.poll += 1;
        let poll = state.poll;
        drop(state);
        self.wake();
        poll
    }
}

impl State {
    pub(super) fn has_begun(&self) -> bool {
        self.last_poll.is_some()
    }

    pub(super) fn recover(&mut self, method: &str) {
        self.faults.remove(method);
    }

    pub(super) fn is_latest_poll(&self, poll: u64) -> bool {
        self.poll == poll
    }

    /// Takes over what a poll says, and gives the limit that it gets.
    pub(super) fn begin(&mut self, offset: i64, limit: usize, allowed: Option<Vec<String>>) -> usize {
        if let Some(allowed) = allowed {
            self.allowed = allowed;
        }
        if offset < 0 {
            let keep = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
            while self.updates.len() > keep {
                self.updates.pop_first();
            }
        } else {
            self.updates = self.updates.split_off(&offset);
        }
        let looping = self.last_poll.is_some_and(|(last, at)| last == offset && at.elapsed() < LOOP_WITHIN);
        self.last_poll = Some((offset, Instant::now()));
        // A poll without an offset confirms nothing and is no loop when there is nothing.
        if looping && !self.updates.is_empty() { 1 } else { limit }
    }

    pub(super) fn first(&self, limit: usize) -> Vec<Value> {
        self.updates.values().take(limit).cloned().collect()
    }
}
