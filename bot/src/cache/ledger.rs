//! What this process knows of changes: pure, but for the locks.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex as TurnMutex, MutexGuard};
use tokio::time::Instant;

/// Ids share this many locks: few meet, and the memory is bounded.
const LOCKS: usize = 64;
/// Above this many remembered changes, the old ones are forgotten.
const CHANGES_MIN: usize = 1024;

/// The state of knowledge about a package: equal ones mean that no change became known in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ticket(u64);

pub(super) struct Ledger {
    turns: Vec<TurnMutex<()>>,
    known: Mutex<Known>,
    remembered: Duration,
}

#[derive(Default)]
struct Known {
    changes: u64,
    /// Of packages that have changed of late: which change, and when.
    last: HashMap<u64, (u64, Instant)>,
    dirty: BTreeSet<u64>,
}

impl Ledger {
    /// A change is remembered for twice as long as a read from the server may take.
    pub(super) fn new(read_max: Duration) -> Self {
        let turns = (0..LOCKS).map(|_| TurnMutex::default()).collect();
        Self { turns, known: Mutex::default(), remembered: read_max * 2 }
    }

    /// The turn to write to an id's key.
    pub(super) async fn lock(&self, id: u64) -> MutexGuard<'_, ()> {
        let nth = usize::try_from(id % LOCKS as u64).unwrap_or_default();
        self.turns[nth].lock().await
    }

    pub(super) fn ticket(&self, id: u64) -> Ticket {
        self.with(|known| Ticket(known.last.get(&id).map_or(0, |(change, _)| *change)))
    }

    pub(super) fn changed(&self, id: u64) {
        let remembered = self.remembered;
        self.with(|known| {
            known.changes += 1;
            known.last.insert(id, (known.changes, Instant::now()));
            if known.last.len() >= CHANGES_MIN.max(2 * known.dirty.len()) {
                known.last.retain(|_, (_, at)| at.elapsed() < remembered);
            }
        });
    }

    pub(super) fn set_dirty(&self, id: u64, dirty: bool) {
        self.with(|known| if dirty { known.dirty.insert(id) } else { known.dirty.remove(&id) });
    }

    pub(super) fn is_dirty_id(&self, id: u64) -> bool {
        self.with(|known| known.dirty.contains(&id))
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.with(|known| !known.dirty.is_empty())
    }

    pub(super) fn dirty(&self) -> Vec<u64> {
        self.with(|known| known.dirty.iter().copied().collect())
    }

    fn with<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ_MAX: Duration = Duration::from_secs(10);

    #[test]
    fn a_ticket_is_void_after_a_change_of_its_package_alone() {
        let ledger = Ledger::new(READ_MAX);
        let (mine, other) = (ledger.ticket(1), ledger.ticket(2));
        ledger.changed(1);
        assert!(ledger.ticket(1) != mine && ledger.ticket(2) == other);
        let again = ledger.ticket(1);
        assert_eq!(ledger.ticket(1), again);
        ledger.changed(1);
        assert_ne!(ledger.ticket(1), again);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_forgotten_only_when_no_read_can_be_older() {
        let ledger = Ledger::new(READ_MAX);
        let before = ledger.ticket(1);
        ledger.changed(1);
        (2..=CHANGES_MIN as u64 + 1).for_each(|id| ledger.changed(id));
        assert_ne!(ledger.ticket(1), before);
        tokio::time::advance(READ_MAX * 3).await;
        ledger.changed(2);
        assert_eq!(ledger.ticket(1), before, "memory is bounded");
    }
}
