//! What the page is told as it happens: server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! A task for each source looks, once a second, and writes down what there is to say once for all of its pages that are open; when
//! none is, it only keeps the history. Another one does so for the page of several sources.

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

/// Pages that may be open at once, of all sources together: each costs a connection and a few kilobytes a second.
const OPEN_MAX: usize = 32;

/// What there is to say now.
#[derive(Debug, Default, Clone)]
struct Said {
    snapshot: Arc<str>,
    /// With every second snapshot.
    point: Option<Arc<str>>,
}

/// What open pages of one kind are told.
#[derive(Clone)]
pub(super) struct Channel {
    said: watch::Sender<Said>,
    open: Open,
    stop: CancellationToken,
}

impl Channel {
    /// Nothing is said yet. `open` bounds the pages of all channels together.
    pub(super) fn new(open: &Open, stop: &CancellationToken) -> Self {
        Self { said: watch::Sender::default(), open: open.clone(), stop: stop.clone() }
    }

    /// Calls `say` once a second until the end, with the number of the second and whether somebody listens; tells what it gives.
    pub(super) async fn keep_sending(
        self,
        mut say: impl FnMut(u64, bool) -> Option<(String, Option<Arc<str>>)>,
    ) {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for second in 0_u64.. {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Some((snapshot, point)) = say(second, self.said.receiver_count() > 0) {
                self.said.send_replace(Said { snapshot: snapshot.into(), point });
            }
        }
    }

    /// A page opens: `first` at once, then what there is to say, as it comes.
    pub(super) fn watch(
        &self,
        first: Option<Event>,
    ) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
        let place = self.open.take();
        let reader = Reader { said: self.said.subscribe(), waiting: None, stop: self.stop.clone(), place };
        let rest = stream::unfold(reader, Reader::next);
        Sse::new(stream::StreamExt::chain(stream::iter(first.map(Ok)), rest))
    }
}

/// The pages of one source that are open.
#[derive(Clone)]
pub(super) struct Streams {
    history: Arc<Mutex<History>>,
    channel: Channel,
}

impl Streams {
    /// Starts to look.
    pub(super) fn start(vitals: Vitals, places: Places, channel: Channel) -> Self {
        let streams = Self { history: Arc::default(), channel };
        tokio::spawn(streams.clone().keep_looking(vitals, places));
        streams
    }

    /// How fast things change now.
    pub(super) fn rates(&self) -> Rates {
        self.history.lock().unwrap_or_else(PoisonError::into_inner).rates()
    }

    async fn keep_looking(self, vitals: Vitals, places: Places) {
        let channel = self.channel.clone();
        let say = move |second: u64, is_heard: bool| {
            let point = self.look(&vitals, second.is_multiple_of(STEP_SECONDS));
            is_heard.then(|| {
                let snapshot = Snapshot::of(&vitals.view(), &vitals.recent(), &places, &self.rates());
                (serde_json::to_string(&snapshot).unwrap_or_default(), point)
            })
        };
        channel.keep_sending(say).await;
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
        let history = {
            let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            json!({"step_seconds": STEP_SECONDS, "points": history.points()}).to_string()
        };
        self.channel.watch(Some(Event::default().event("history").data(history)))
    }
}

/// The pages that are open, the oldest at the front, each with what tells it to end. A page that has stopped reading is
/// told by nothing from one that reads, until what the kernel keeps for it is full: so no page is refused for another.
#[derive(Debug, Clone, Default)]
pub(super) struct Open(Arc<Mutex<VecDeque<Weak<Notify>>>>);

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
        let newest = open.take();
        places[0].notified().await;
        assert_eq!(open.0.lock().unwrap_or_else(PoisonError::into_inner).len(), OPEN_MAX);
        drop((places, newest));
        let _one = open.take();
        assert_eq!(
            open.0.lock().unwrap_or_else(PoisonError::into_inner).len(),
            1,
            "those that are closed leave"
        );
    }
}
