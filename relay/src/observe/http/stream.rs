//! What the page is told as it happens: server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! One task looks, once a second, and writes down what there is to say once for all pages that are open; when none is, it
//! only keeps the history.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::response::sse::{Event, Sse};
use futures::stream::{self, Stream};
use serde_json::json;
use tokio::sync::watch;
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
    open: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Streams {
    /// Starts to look.
    pub(super) fn start(vitals: Vitals, places: Places, stop: CancellationToken) -> Self {
        let streams =
            Self { history: Arc::default(), said: watch::Sender::default(), open: Arc::default(), stop };
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
            if self.open.load(Ordering::Relaxed) > 0 {
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

    /// A page opens: the history at once, then what there is to say, as it comes. `None` when too many are open.
    pub(super) fn watch(&self) -> Option<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>> {
        let place = Place::take(&self.open)?;
        let history = {
            let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            json!({"step_seconds": STEP_SECONDS, "points": history.points()}).to_string()
        };
        let reader =
            Reader { said: self.said.subscribe(), waiting: None, stop: self.stop.clone(), _place: place };
        let first = stream::iter([Ok(Event::default().event("history").data(history))]);
        let rest = stream::unfold(reader, Reader::next);
        Some(Sse::new(stream::StreamExt::chain(first, rest)))
    }
}

/// An open page; its place is free when it is gone.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(open));
        // Given back at once where there are too many.
        (open.fetch_add(1, Ordering::Relaxed) < OPEN_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Reader {
    said: watch::Receiver<Said>,
    /// The point that goes out after its snapshot.
    waiting: Option<Arc<str>>,
    stop: CancellationToken,
    _place: Place,
}

impl Reader {
    /// The next event; none when the relay stops.
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        if let Some(point) = self.waiting.take() {
            return Some((Ok(Event::default().event("point").data(&*point)), self));
        }
        tokio::select! {
            () = self.stop.cancelled() => return None,
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

    #[test]
    fn only_so_many_pages_may_be_open_and_a_closed_one_makes_room() {
        let open = Arc::new(AtomicUsize::new(0));
        let mut places: Vec<_> = (0..OPEN_MAX).map(|_| Place::take(&open)).collect();
        assert!(places.iter().all(Option::is_some));
        assert!(Place::take(&open).is_none());
        places.pop();
        assert!(Place::take(&open).is_some());
        drop(places);
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }
}
