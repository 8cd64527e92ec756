//! Connections of clients: accepted, bounded in number and age, and told to go when the server stops.
//!
//! A client may stop anywhere: before its first byte, in its TLS, in the head of a request, in its body, before it has read
//! the answer. Its place is free again within half a minute; what waits for which of these says so.
//!
//! | it stops | who lets it go | after |
//! |---|---|---|
//! | before or in the TLS handshake | here | 10 s |
//! | before HTTP is told from HTTP/2 | `clients::Patient` | 10 s |
//! | before or in the head of a request over HTTP/1, between two requests | hyper | 10 s |
//! | in a body | `calls::receiving` | 15 s |
//! | anywhere, over HTTP/2 | pings that are not answered | 20 s |
//! | in the answer: takes no bytes | `clients::Patient` | 15 s |
//! | in the answer: opens no window | `delivery` | 20 s at most |

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use clients::{Patient, Places, WhenFull};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::delivery::{Answers, Watched};

/// A client that takes longer to begin, with its TLS or the head of its request, does not mean to.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that answers no ping for so long is gone, and its calls with it.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Streams of one connection at once at most; the bound on all calls is another.
const STREAMS_MAX: u32 = 1_000;

/// Headers are a few hundred bytes; the largest that gRPC's own servers take.
const HEADERS_BYTES_MAX: u32 = 16 * 1_024;

/// What is read ahead of a connection over HTTP/1; what is larger is read piece by piece.
const READ_AHEAD_BYTES_MAX: usize = 64 * 1_024;

/// After the system refuses a connection (no more files, say), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// HTTP/2 alone, as gRPC needs it.
    Http2,
    /// HTTP/1.1, or HTTP/2 where a client begins with it.
    Any,
}

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// At once, at most.
    pub(super) connections_max: usize,
    /// After so long a client is asked to connect anew, so that load spreads over servers that came later.
    pub(super) age_max: Duration,
    /// For the calls that are under way then.
    pub(super) grace: Duration,
    /// What becomes of one more.
    pub(super) when_full: WhenFull,
}

/// Where connections come in.
pub(super) struct Door {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) protocol: Protocol,
    pub(super) limits: Limits,
}

/// How it ends.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    /// Accepts no more, and asks the clients that are there to go once their calls are answered.
    pub(super) stop: CancellationToken,
    /// The connections that are still there.
    pub(super) open: TaskTracker,
}

impl Door {
    /// Serves whoever comes until it is told to stop; then connections may still be open.
    pub(super) async fn serve<S, B>(self, service: S, ending: Ending)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body + Send + Unpin + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut places = Places::new(self.limits.connections_max, self.limits.when_full);
        let builder = builder(self.protocol);
        loop {
            let accepted = tokio::select! {
                biased;
                () = ending.stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(place) = places.take().await else {
                tracing::warn!(max = self.limits.connections_max, "too many connections: one is closed");
                continue;
            };
            let (tls, builder, service) = (self.tls.clone(), builder.clone(), service.clone());
            let (stop, limits) = (ending.stop.clone(), self.limits);
            ending.open.spawn(async move {
                let serving = connection(stream, tls, &builder, service, stop, limits);
                let served = tokio::select! {
                    served = serving => served,
                    () = place.is_needed() => Err("it made room for a new one".into()),
                };
                if let Err(error) = served {
                    tracing::debug!(%error, "a connection ended");
                }
            });
        }
    }
}

fn builder(protocol: Protocol) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    if protocol == Protocol::Http2 {
        builder = builder.http2_only();
    }
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HANDSHAKE_TIMEOUT)
        .max_buf_size(READ_AHEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}

/// Clients that came together do not go together: up to a tenth less.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(1.0 - rand::random_range(0.0..0.1))
}

async fn connection<S, B>(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    builder: &Builder<TokioExecutor>,
    service: S,
    stop: CancellationToken,
    limits: Limits,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    stream.set_nodelay(true)?;
    let stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => Stream::Tls(Box::new(timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await??)),
    };
    let (stream, answers) = (Patient::new(stream, HANDSHAKE_TIMEOUT), Answers::default());
    let service = TowerToHyperService::new(Watched::new(service, answers.clone()));
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut not_taken = std::pin::pin!(answers.are_not_taken());
    let stopping = tokio::select! {
        biased;
        served = serving.as_mut() => return served,
        () = stop.cancelled() => true,
        () = sleep(jittered(limits.age_max)) => false,
        () = not_taken.as_mut() => return Err("its client does not take its answers".into()),
    };
    // The calls that are under way are finished. Those that do not end are cut off by whoever stops the server, who knows
    // how long it may take.
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        served = serving => served,
        () = not_taken => Err("its client does not take its answers".into()),
        () = sleep(limits.grace), if !stopping => Err("it is too old, and does not end".into()),
    }
}

/// A client's bytes, encrypted or not.
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
