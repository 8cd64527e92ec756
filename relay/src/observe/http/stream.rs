//! What the page is told as it happens: server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! One task looks, once a second, and writes down what there is to say once for all pages that are open; when none is, it
//! only keeps the history.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use futures::stream::{self, Stream};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::observe::board::Vitals;
use crate::observe::history::{History, STEP_SECONDS};
use crate::observe::snapshot::{Places, Rates, Snapshot};

/// Pages that may be open at once: each costs a connection and a few kilobytes a second.
const OPEN_MAX: usize = 32;

/// What there is to say now.
#[derive(Debug, Default, Clone)]
struct Said {
    snapshot: Arc<str>,
    /// With every second snapshot.
    point: Option<Arc<str>>,
}

/// The pages that are open.
#[derive(Clone)]
pub(super) struct Streams {
    history: Arc<Mutex<History>>,
    said: watch::Sender<Said>,
    open: Open,
    stop: CancellationToken,
}

impl Streams {
    /// Starts to look.
    pub(super) fn start(vitals: Vitals, places: Places, stop: CancellationToken) -> Self {
        let streams =
            Self { history: Arc::default(), said: watch::Sender::default(), open: Open::default(), stop };
        tokio::spawn(streams.clone().keep_looking(vitals, places));
        streams
    }

    /// How fast things change now.
    pub(super) fn rates(&self) -> Rates {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).rates()
    }

    async fn keep_looking(self, vitals: Vitals, places: Places) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for second in 0_u64.. {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let is_point = second.is_multiple_of(STEP_SECONDS);
            let point = self.look(&vitals, is_point);
            if self.open.some() {
                let snapshot = Snapshot::of(&vitals.view(), &vitals.recent(), &places, &self.rates());
                let snapshot = serde_json::to_string(&snapshot).unwrap_or_default().into();
                self.said.send_replace(Said { snapshot, point });
            }
        }
    }

    /// Takes a point, where it is time for one.
    fn look(&self, vitals: &Vitals, is_point: bool) -> Option<Arc<str>> {
        if !is_point {
            return None;
        }
        let view = vitals.view();
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.take(&view);
        Some(serde_json::to_string(history.newest()?).ok()?.into())
    }

    /// A page opens: the history at once, then what there is to say, as it comes.
    pub(super) fn watch(&self) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let place = self.open.take();
        let history = {
            let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            json!({"step_seconds": STEP_SECONDS, "points": history.points()}).to_string()
        };
        let reader = Reader { said: self.said.subscribe(), waiting: None, stop: self.stop.clone(), place };
        let first = stream::iter([Ok(Event::default().event("history").data(history))]);
        let rest = stream::unfold(reader, Reader::next);
        Sse::new(stream::StreamExt::chain(first, rest))
    }
}

/// The pages that are open, the oldest at the front, each with what tells it to end. A page that has stopped reading is
/// told by nothing from one that reads, until what the kernel keeps for it is full: so no page is refused for another.
#[derive(Debug, Clone, Default)]
struct Open(Arc<Mutex<VecDeque<Weak<Notify>>>>);

impl Open {
    fn take(&self) -> Arc<Notify> {
        let (place, mut open) =
            (Arc::new(Notify::new()), self.0.lock().unwrap_or_else(PoisonError::into_inner));
        open.retain(|page| page.strong_count() > 0);
        if open.len() >= OPEN_MAX
            && let Some(oldest) = open.pop_front().and_then(|page| page.upgrade())
        {
            oldest.notify_one();
        }
        open.push_back(Arc::downgrade(&place));
        place
    }

    fn some(&self) -> bool {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().any(|page| page.strong_count() > 0)
    }
}

struct Reader {
    said: watch::Receiver<Said>,
    /// The point that goes out after its snapshot.
    waiting: Option<Arc<str>>,
    stop: CancellationToken,
    /// Told when another page needs its place.
    place: Arc<Notify>,
}

impl Reader {
    /// The next event; none when the relay stops, or another page opens and there is no room for both.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if let Some(point) = self.waiting.take() {
            return Some((Ok(Event::default().event("point").data(&*point)), self));
        }
        tokio::select! {
            () = self.stop.cancelled() => return None,
            () = self.place.notified() => return None,
            changed = self.said.changed() => changed.ok()?,
        }
        let said = self.said.borrow_and_update().clone();
        self.waiting = said.point;
        Some((Ok(Event::default().event("snapshot").data(&*said.snapshot)), self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_so_many_pages_may_be_open_and_the_oldest_makes_room() {
        let open = Open::default();
        let places: Vec<_> = (0..OPEN_MAX).map(|_| open.take()).collect();
        assert!(open.some());
        let newest = open.take();
        places[0].notified().await;
        assert_eq!(open.0.lock().unwrap_or_else(PoisonError::into_inner).len(), OPEN_MAX);
        drop((places, newest));
        assert!(!open.some());
    }
}
