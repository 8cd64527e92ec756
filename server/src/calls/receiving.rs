//! The body of a request while it arrives: in time, and within what all of them together may hold.
//!
//! A client that stops in the middle of a body, or sends one byte now and then, would otherwise keep its call, and what
//! has arrived of it, for as long as it likes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

/// From the head of a request to the end of its body. A request is a few hundred bytes, and 4 MiB at most, which a line
/// of 3 Mbit/s carries in this time.
pub(crate) const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(15);

/// Of each body so much is counted with nobody else's: all requests that are valid are smaller, so that none of them is
/// refused for what others send.
const BYTES_FREE: usize = 16 << 10;

/// What all bodies together may hold beyond that: sixteen of the largest.
const BYTES_SHARED_MAX: usize = 64 << 20;

/// What is kept of each piece of a body, beside its bytes.
const PIECE_BYTES: usize = 64;

/// The room that is left for bodies.
#[derive(Debug, Clone)]
pub(crate) struct Receiving(Arc<Semaphore>);

impl Default for Receiving {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BYTES_SHARED_MAX)))
    }
}

impl Receiving {
    /// A body that must have arrived within [`ARRIVAL_TIMEOUT`].
    pub(crate) fn in_time<B>(&self, body: B) -> Arriving<B> {
        Arriving { due: Some(Instant::now() + ARRIVAL_TIMEOUT), ..self.at_leisure(body) }
    }

    /// A stream of messages, which may pause; its bytes are counted all the same.
    pub(crate) fn at_leisure<B>(&self, body: B) -> Arriving<B> {
        Arriving { body, room: self.clone(), held: None, bytes: 0, due: None, waiting: None }
    }
}

/// A body within those bounds. Past one of them it fails with a [`Status`]; what it holds is given back when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct Arriving<B> {
    body: B,
    room: Receiving,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
    due: Option<Instant>,
    /// Until then, where it has to be waited for: most bodies come with their heads.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<B> Arriving<B> {
    /// Takes what one more piece needs of the room that is shared.
    fn hold(&mut self, piece: usize) -> Result<(), Status> {
        let before = self.bytes.saturating_sub(BYTES_FREE);
        self.bytes = self.bytes.saturating_add(piece).saturating_add(PIECE_BYTES);
        let more = self.bytes.saturating_sub(BYTES_FREE) - before;
        if more == 0 {
            return Ok(());
        }
        let full = |_| Status::resource_exhausted("too many large requests arrive at once: try again later");
        let more = u32::try_from(more).map_err(|_| Status::resource_exhausted("the body is too large"))?;
        let taken = self.room.0.clone().try_acquire_many_owned(more).map_err(full)?;
        match &mut self.held {
            Some(held) => held.merge(taken),
            None => self.held = Some(taken),
        }
        Ok(())
    }
}

impl<B> Body for Arriving<B>
where
    B: Body + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = B::Data;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, Self::Error>>> {
        let this = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let Some(due) = this.due else { return Poll::Pending };
            ready!(this.waiting.get_or_insert_with(|| Box::pin(sleep_until(due))).as_mut().poll(cx));
            let late = format!("the body did not arrive within {} s", ARRIVAL_TIMEOUT.as_secs());
            return Poll::Ready(Some(Err(Status::deadline_exceeded(late).into())));
        };
        let Some(frame) = frame.transpose().map_err(Into::into)? else { return Poll::Ready(None) };
        if let Some(data) = frame.data_ref() {
            this.hold(data.remaining())?;
        }
        Poll::Ready(Some(Ok(frame)))
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
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    fn status(error: &(dyn std::error::Error + 'static)) -> tonic::Code {
        error.downcast_ref::<Status>().unwrap().code()
    }

    /// A body whose bytes have arrived and whose end has not.
    fn unfinished(bytes: usize) -> impl Body<Data = Bytes, Error = std::io::Error> + Unpin {
        let first = futures::stream::once(async move { Ok(Frame::data(Bytes::from(vec![0; bytes]))) });
        StreamBody::new(Box::pin(futures::StreamExt::chain(first, futures::stream::pending())))
    }

    #[tokio::test]
    async fn a_body_without_an_end_is_ended() {
        let due = Some(Instant::now() + Duration::from_millis(20));
        let late = Arriving { due, ..Receiving::default().at_leisure(unfinished(10)) };
        assert_eq!(status(&*late.collect().await.unwrap_err()), tonic::Code::DeadlineExceeded);
        let patient = Receiving::default().at_leisure(unfinished(10));
        assert!(tokio::time::timeout(Duration::from_millis(200), patient.collect()).await.is_err());
    }

    #[tokio::test]
    async fn large_bodies_are_bounded_together_and_small_ones_never_refused() {
        let room = Receiving::default();
        let mut held = Vec::new();
        let refused = loop {
            let mut body = room.in_time(unfinished(4 << 20));
            match body.frame().await.unwrap() {
                Ok(_) => held.push(body),
                Err(error) => break error,
            }
        };
        assert_eq!((held.len(), status(&*refused)), (16, tonic::Code::ResourceExhausted));
        let small = Full::new(Bytes::from(vec![0; BYTES_FREE / 2]));
        assert_eq!(room.in_time(small).collect().await.unwrap().to_bytes().len(), BYTES_FREE / 2);
        held.clear();
        assert_eq!(room.0.available_permits(), BYTES_SHARED_MAX);
    }

    #[tokio::test]
    async fn crumbs_are_counted_with_what_they_cost() {
        let crumbs =
            futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"x"))));
        let mut body = Receiving::default().in_time(StreamBody::new(Box::pin(crumbs)));
        for _ in 0..BYTES_FREE {
            body.frame().await.unwrap().unwrap();
        }
        assert!(body.held.unwrap().num_permits() > 10 * BYTES_FREE);
    }
}
