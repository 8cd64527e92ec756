//! Whether a client takes its answers.
//!
//! Over HTTP/2 a client may answer every ping and yet open no window for an answer, which then stays in memory: so each
//! answer that is not a stream has a time to be handed over in, or its connection ends.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep};
use tower::Service;

use crate::calls::Streamed;

/// From the end of a call to the end of its answer. A page of 500 packages is some 200 kB.
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(15);

/// How often it is looked.
const LOOK: Duration = Duration::from_secs(5);

/// The answers of one connection that are on their way.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Arc<Mutex<OnTheirWay>>);

#[derive(Debug, Default)]
struct OnTheirWay {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

impl Answers {
    fn state(&self) -> MutexGuard<'_, OnTheirWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> OnItsWay {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.since.insert(number, Instant::now());
        OnItsWay { answers: self.clone(), number }
    }

    /// Returns when an answer is not taken.
    pub(super) async fn are_not_taken(&self) {
        self.are_on_their_way_for(DELIVERY_TIMEOUT, LOOK).await;
    }

    async fn are_on_their_way_for(&self, timeout: Duration, look: Duration) {
        loop {
            sleep(look).await;
            let oldest = self.state().since.first_key_value().map(|(_, since)| *since);
            if oldest.is_some_and(|since| since.elapsed() >= timeout) {
                return;
            }
        }
    }
}

#[derive(Debug)]
struct OnItsWay {
    answers: Answers,
    number: u64,
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        self.answers.state().since.remove(&self.number);
    }
}

/// A service whose answers are watched.
#[derive(Debug, Clone)]
pub(super) struct Watched<S> {
    service: S,
    answers: Answers,
}

impl<S> Watched<S> {
    pub(super) fn new(service: S, answers: Answers) -> Self {
        Self { service, answers }
    }
}

impl<S, R, B> Service<Request<R>> for Watched<S>
where
    S: Service<Request<R>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Delivered<B>>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, request: Request<R>) -> Self::Future {
        let (answering, answers) = (self.service.call(request), self.answers.clone());
        Box::pin(async move {
            let Ok(response) = answering.await;
            let on_its_way = response.extensions().get::<Streamed>().is_none().then(|| answers.begin());
            Ok(response.map(|body| Delivered { body, _on_its_way: on_its_way }))
        })
    }
}

/// An answer's body; it has been handed over when it is dropped.
#[derive(Debug)]
pub(super) struct Delivered<B> {
    body: B,
    _on_its_way: Option<OnItsWay>,
}

impl<B: Body + Unpin> Body for Delivered<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_that_stays_is_noticed_and_one_that_goes_is_not() {
        let (timeout, look) = (Duration::from_millis(20), Duration::from_millis(5));
        let answers = Answers::default();
        let waiting = || tokio::time::timeout(timeout * 10, answers.are_on_their_way_for(timeout, look));
        drop(answers.begin());
        assert!(waiting().await.is_err());
        let stays = answers.begin();
        drop(answers.begin());
        assert!(waiting().await.is_ok());
        drop(stays);
        assert!(answers.state().since.is_empty());
    }
}
