//! How long a connection waits for its client: to begin, and to take what is written.
//!
//! What comes between, the head and the body of a request, is waited for where it is read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// What a client of HTTP/2 says first (RFC 9113, section 3.4). Until it is there, or something else is, nobody else is
/// counting: which HTTP it will be is not known.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A client that takes nothing of an answer for so long does not mean to.
const WRITE_TIMEOUT: Duration = Duration::from_secs(15);

/// A connection that ends when its client stops.
pub struct Patient<T> {
    stream: T,
    /// Until the client has begun: when it must have, and how much of the preface is there.
    beginning: Option<(Pin<Box<Sleep>>, usize)>,
    /// Since what is to be written does not get away.
    stalled: Option<Pin<Box<Sleep>>>,
    write_timeout: Duration,
}

impl<T> Patient<T> {
    /// A client that takes longer than `begin_timeout` to begin is let go.
    #[must_use]
    pub fn new(stream: T, begin_timeout: Duration) -> Self {
        let beginning = Some((Box::pin(sleep(begin_timeout)), 0));
        Self { stream, beginning, stalled: None, write_timeout: WRITE_TIMEOUT }
    }

    /// Looks at what was read while it may still be the preface.
    fn look_at(&mut self, bytes: &[u8]) {
        let Some((_, known)) = &mut self.beginning else { return };
        let expected = &PREFACE[*known..];
        let length = bytes.len().min(expected.len());
        *known += length;
        if bytes[..length] != expected[..length] || *known == PREFACE.len() {
            self.beginning = None;
        }
    }

    fn wait_for_begin(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some((deadline, _)) = &mut self.beginning else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(late("the client did not begin")))
    }

    fn watch<R>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<R>>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.write_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(late("the client does not read"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn late(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<T: AsyncRead + Unpin> AsyncRead for Patient<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                this.look_at(&buffer.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => this.wait_for_begin(cx),
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Patient<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.watch(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.watch(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let closed = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.watch(cx, closed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const BEGIN: Duration = Duration::from_millis(30);

    /// What reading gives when the client has said `said`, and says no more.
    async fn read_after(said: &[u8]) -> Result<io::Result<usize>, tokio::time::error::Elapsed> {
        let (mut client, server) = duplex(1_024);
        client.write_all(said).await.unwrap();
        let mut server = Patient::new(server, BEGIN);
        let mut bytes = vec![0; 64];
        if !said.is_empty() {
            assert_eq!(server.read(&mut bytes).await.unwrap(), said.len());
        }
        tokio::time::timeout(BEGIN * 10, server.read(&mut bytes)).await
    }

    fn impatient<T>(stream: T) -> Patient<T> {
        Patient { write_timeout: BEGIN, ..Patient::new(stream, BEGIN) }
    }

    #[tokio::test]
    async fn a_client_that_does_not_begin_is_let_go() {
        for silent in [&b""[..], b"P", &PREFACE[..23]] {
            assert_eq!(read_after(silent).await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        // From then on others count.
        for begun in [&b"PU"[..], b"GET / HTTP/1.1", PREFACE] {
            assert!(read_after(begun).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_is_let_go() {
        let (client, server) = duplex(8);
        let error = impatient(server).write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
    }

    #[tokio::test]
    async fn a_client_that_reads_slowly_is_waited_for() {
        let (mut client, server) = duplex(8);
        let mut server = Patient { write_timeout: BEGIN * 10, ..impatient(server) };
        let reading = tokio::spawn(async move {
            let mut bytes = [0; 8];
            for _ in 0..8 {
                sleep(BEGIN * 2).await;
                client.read_exact(&mut bytes).await.unwrap();
            }
        });
        server.write_all(&[0; 64]).await.unwrap();
        reading.await.unwrap();
    }
}
