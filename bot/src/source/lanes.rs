//! Updates of one chat in their order, chats beside each other.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Updates that are handled at once. They mostly wait for others, so it is many; each may hold a connection to Telegram.
const AT_ONCE: usize = 64;
/// Above this many chats, those that are idle are forgotten.
const CHATS_MIN: usize = 1024;

/// The chats, each with the end of its last update.
pub(super) struct Lanes {
    ends: HashMap<i64, CancellationToken>,
    turns: Arc<Semaphore>,
}

impl Lanes {
    /// Nothing under way.
    #[must_use]
    pub(super) fn new() -> Self {
        Self { ends: HashMap::new(), turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Starts `work` when the work before it in its lane has ended, however it ended.
    pub(super) fn spawn(&mut self, lane: i64, work: impl Future<Output = ()> + Send + 'static) {
        if self.ends.len() >= CHATS_MIN {
            self.ends.retain(|_, end| !end.is_cancelled());
        }
        let end = CancellationToken::new();
        let before = self.ends.insert(lane, end.clone());
        let turns = Arc::clone(&self.turns);
        tokio::spawn(async move {
            // Also when the work panics.
            let _end = end.drop_guard();
            if let Some(before) = before {
                before.cancelled().await;
            }
            let _turn = turns.acquire().await;
            work.await;
        });
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_chat_keeps_its_order_and_does_not_wait_for_others() {
        let mut lanes = Lanes::new();
        let ended = Arc::new(Mutex::new(Vec::new()));
        for (lane, name, ms) in [(1, "slow", 100), (1, "after it", 1), (2, "other", 10)] {
            let ended = Arc::clone(&ended);
            lanes.spawn(lane, async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                ended.lock().expect("a lock").push(name);
            });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*ended.lock().expect("a lock"), ["other", "slow", "after it"]);
    }

    #[tokio::test]
    async fn a_panic_costs_one_update() {
        let mut lanes = Lanes::new();
        let (sender, done) = tokio::sync::oneshot::channel();
        lanes.spawn(1, async { panic!("of the test") });
        lanes.spawn(1, async move { sender.send(()).expect("somebody waits") });
        done.await.expect("the next one was handled");
    }
}
