//! Which updates are confirmed to Telegram: those before the first that is not handled yet.
//!
//! Telegram forgets an update when a later `getUpdates` asks from beyond it. So the offset of each call is the lowest id that
//! is unfinished, and a crash at any moment has the unfinished ones delivered again. While one takes long, the same call
//! gives the later ones as well, up to a hundred from it on; those that are known are passed over.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

/// After so long without any update Telegram has none of the old numbering left (it keeps them for a day), and may begin
/// another one: the offset of the old one would hide its updates.
const NUMBERING_MAX: Duration = Duration::from_secs(25 * 3600);
/// An update that is unfinished for so long, while a hundred wait behind it, holds up everybody: it is confirmed before its
/// end. A crash in these moments loses its reply; never a change, which was made within its own deadline.
const HOLD_UP_MAX: Duration = Duration::from_secs(15);

/// Confirmed updates that are still recognised, should they come again.
const RECENT_MAX: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unfinished { since: Instant },
    Finished,
}

/// Updates that were received and not yet confirmed.
#[derive(Debug)]
pub(super) struct Window {
    updates: BTreeMap<i64, State>,
    /// Behind the last one that was confirmed.
    behind: Option<i64>,
    /// Of those before it, the last ones.
    recent: VecDeque<i64>,
    last_update: Instant,
}

impl Window {
    /// Nothing received.
    #[must_use]
    pub(super) fn new() -> Self {
        Self { updates: BTreeMap::new(), behind: None, recent: VecDeque::new(), last_update: Instant::now() }
    }

    /// Where the next call begins. It confirms everything before.
    pub(super) fn offset(&mut self) -> Option<i64> {
        if self.updates.is_empty() && self.last_update.elapsed() > NUMBERING_MAX {
            self.behind = None;
            self.recent.clear();
        }
        let unfinished = self.updates.iter().find(|(_, state)| **state != State::Finished);
        let behind = || self.updates.keys().next_back().map(|last| last + 1).or(self.behind);
        unfinished.map(|(id, _)| *id).or_else(behind)
    }

    /// Takes over an update. False: it is known, and being handled or already done.
    pub(super) fn admit(&mut self, id: i64) -> bool {
        self.last_update = Instant::now();
        let new = !self.updates.contains_key(&id) && !self.recent.contains(&id);
        if new {
            self.updates.insert(id, State::Unfinished { since: self.last_update });
        }
        new
    }

    /// Its handling has ended.
    pub(super) fn finish(&mut self, id: i64) {
        if let Some(state) = self.updates.get_mut(&id) {
            *state = State::Finished;
        }
    }

    /// A call from `offset` on has succeeded: Telegram knows of none before it any more.
    pub(super) fn confirmed(&mut self, offset: Option<i64>) {
        if let Some(offset) = offset {
            let left = self.updates.split_off(&offset);
            self.recent.extend(std::mem::replace(&mut self.updates, left).into_keys());
            self.recent.drain(..self.recent.len().saturating_sub(RECENT_MAX));
            self.behind = Some(offset);
        }
    }

    /// Everything before this was confirmed.
    #[must_use]
    pub(super) fn behind(&self) -> Option<i64> {
        self.behind
    }

    /// Telegram gave as many as it can, and none of them was new: the first one is confirmed if it has taken too long.
    pub(super) fn stuck(&mut self) {
        let first = self.updates.iter().find(|(_, state)| **state != State::Finished);
        if let Some((&id, &State::Unfinished { since })) = first
            && since.elapsed() > HOLD_UP_MAX
        {
            tracing::warn!(update_id = id, "an update holds up all others: it is confirmed before its end");
            self.finish(id);
        }
    }

    /// How many are unfinished.
    #[must_use]
    pub(super) fn unfinished(&self) -> usize {
        self.updates.values().filter(|state| **state != State::Finished).count()
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_offset_stays_at_the_first_that_is_unfinished() {
        let mut window = Window::new();
        assert_eq!(window.offset(), None);
        assert!(window.admit(7) && window.admit(8) && window.admit(9) && !window.admit(8));
        window.finish(8);
        assert_eq!(window.offset(), Some(7));
        window.finish(7);
        assert_eq!(window.offset(), Some(9));
        window.confirmed(Some(9));
        window.finish(9);
        assert_eq!((window.offset(), window.unfinished()), (Some(10), 0));
        window.confirmed(Some(10));
        assert_eq!((window.offset(), window.behind()), (Some(10), Some(10)));
    }

    #[test]
    fn one_that_comes_again_after_it_was_confirmed_is_recognised() {
        let mut window = Window::new();
        window.admit(7);
        window.finish(7);
        window.confirmed(Some(8));
        assert!(!window.admit(7) && window.admit(8));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_quiet_week_numbers_may_begin_anywhere() {
        let mut window = Window::new();
        window.admit(1000);
        window.finish(1000);
        window.confirmed(Some(1001));
        tokio::time::advance(Duration::from_secs(7 * 24 * 3600)).await;
        assert_eq!(window.offset(), None);
        assert!(window.admit(5));
        window.finish(5);
        assert_eq!(window.offset(), Some(6));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_does_not_hold_up_a_hundred_for_ever() {
        let mut window = Window::new();
        (1..=100).for_each(|id| assert!(window.admit(id)));
        (2..=100).for_each(|id| window.finish(id));
        window.stuck();
        assert_eq!(window.offset(), Some(1));
        tokio::time::advance(HOLD_UP_MAX * 2).await;
        window.stuck();
        assert_eq!(window.offset(), Some(101));
    }

    /// Telegram's side: what is not forgotten yet.
    struct Server(BTreeSet<i64>);

    proptest! {
        /// Handlers end in any order, calls fail, the process crashes: each update ends at least once, and none is forgotten
        /// by Telegram before its end.
        #[test]
        fn no_update_is_forgotten_before_its_end(steps in prop::collection::vec((0u8..10, 0usize..100), 1..200)) {
            let mut server = Server((1..=150).collect());
            let (mut window, mut running, mut ended) = (Window::new(), Vec::new(), BTreeSet::new());
            for (what, which) in steps {
                match what {
                    0..4 => {
                        let offset = window.offset();
                        server.0.retain(|id| offset.is_none_or(|offset| *id >= offset));
                        // The answer may be lost.
                        if what > 0 {
                            window.confirmed(offset);
                            running.extend(server.0.iter().take(10).copied().filter(|id| window.admit(*id)));
                        }
                    }
                    4..9 if !running.is_empty() => {
                        let id = running.swap_remove(which % running.len());
                        window.finish(id);
                        ended.insert(id);
                    }
                    9 if which < 5 => (window, running) = (Window::new(), Vec::new()),
                    _ => {}
                }
                for id in 1..=150 {
                    prop_assert!(server.0.contains(&id) || ended.contains(&id), "{} is lost", id);
                }
            }
        }
    }
}
