//! The places that connections have, and what becomes of one more.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// For a connection that is told to end to be gone.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// What is done where connections are as many as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The new one is closed.
    Refuse,
    /// The one that is there longest is closed for it.
    EndOldest,
}

/// The places that connections have, those that came first at the front.
pub struct Places {
    when_full: WhenFull,
    room: Arc<Semaphore>,
    taken: VecDeque<Weak<Notify>>,
}

/// Of one connection, as long as it is there.
pub struct Place {
    /// Tells it to end.
    end: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Returns when a new connection has been given this place.
    pub async fn is_needed(&self) {
        self.end.notified().await;
    }
}

impl Places {
    /// At most so many.
    #[must_use]
    pub fn new(connections_max: usize, when_full: WhenFull) -> Self {
        let room = Arc::new(Semaphore::new(connections_max));
        Self { when_full, room, taken: VecDeque::new() }
    }

    /// A place for one more, if there is one.
    pub async fn take(&mut self) -> Option<Place> {
        match self.room.clone().try_acquire_owned() {
            Ok(permit) => Some(self.place(permit)),
            Err(_) if self.when_full == WhenFull::EndOldest => {
                let oldest = std::iter::from_fn(|| self.taken.pop_front()).find_map(|end| end.upgrade())?;
                oldest.notify_one();
                let permit = timeout(END_TIMEOUT, self.room.clone().acquire_owned()).await.ok()?.ok()?;
                Some(self.place(permit))
            }
            Err(_) => None,
        }
    }

    fn place(&mut self, permit: OwnedSemaphorePermit) -> Place {
        let end = Arc::new(Notify::new());
        if self.when_full == WhenFull::EndOldest {
            self.taken.retain(|end| end.strong_count() > 0);
            self.taken.push_back(Arc::downgrade(&end));
        }
        Place { end, _permit: permit }
    }
}
