//! A program's pages over HTTP/1: `/live`, `/metrics` and the like.
//!
//! Connections are bounded in number, and closed when nothing is asked on them: the program's own come out of the same files
//! of the process, and whoever can reach this port must not be able to take them all. Nor must clients that stop keep
//! probes away, or a program that is well is restarted for them: where all places are taken, the connection that is there
//! longest makes room.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::{Patient, Places, WhenFull};

/// A client that asks nothing for so long is let go; Prometheus and browsers connect again without a word.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// A client that takes longer to begin does not mean to.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A client whose machine takes nothing for so long is gone.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(15);

/// What is kept for a client that does not read, some seconds of the page's events: the kernel's own bound is megabytes,
/// and the client would seem well for half an hour.
const SEND_BYTES_MAX: usize = 16 << 10;

/// The head of a request is a few hundred bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// After the system refuses a connection (no more files, say), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves whoever comes until it is told to stop, `connections_max` at once at most.
pub async fn serve_pages(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    stop: CancellationToken,
) {
    serve_with(listener, router, connections_max, stop, IDLE_TIMEOUT).await;
}

async fn serve_with(
    listener: TcpListener,
    router: Router,
    connections_max: usize,
    stop: CancellationToken,
    idle_timeout: Duration,
) {
    let mut places = Places::new(connections_max, WhenFull::EndOldest);
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle_timeout).max_buf_size(HEAD_BYTES_MAX);
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to the pages was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take().await else { continue };
        let serving = connection(stream, builder.clone(), router.clone(), stop.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = serving => {}
                () = place.is_needed() => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, builder: Builder, router: Router, stop: CancellationToken) {
    let socket = SockRef::from(&stream);
    let _ = socket.set_send_buffer_size(SEND_BYTES_MAX);
    let _ = socket.set_tcp_user_timeout(Some(ACKNOWLEDGE_TIMEOUT));
    let service = TowerToHyperService::new(router);
    let stream = TokioIo::new(Patient::new(stream, BEGIN_TIMEOUT));
    let mut serving = std::pin::pin!(builder.serve_connection(stream, service));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the pages ended");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    const CONNECTIONS_MAX: usize = 16;

    async fn served(idle_timeout: Duration) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/live", get(|| async { "live" }));
        tokio::spawn(serve_with(listener, router, CONNECTIONS_MAX, stop.clone(), idle_timeout));
        (addr, stop)
    }

    /// Whether it is closed soon.
    async fn is_closed(stream: &mut TcpStream) -> bool {
        matches!(timeout(SOON, stream.read(&mut [0; 64])).await, Ok(Ok(0) | Err(_)))
    }

    async fn answers(addr: SocketAddr) -> bool {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut said = String::new();
        let read = timeout(SOON, stream.read_to_string(&mut said)).await;
        matches!(read, Ok(Ok(_))) && said.contains("200 OK")
    }

    #[tokio::test]
    async fn a_client_that_asks_nothing_is_let_go() {
        let (addr, _stop) = served(Duration::from_millis(50)).await;
        let mut silent = TcpStream::connect(addr).await.unwrap();
        assert!(is_closed(&mut silent).await);
        let mut kept = TcpStream::connect(addr).await.unwrap();
        kept.write_all(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(timeout(SOON, kept.read(&mut [0; 4096])).await.unwrap().unwrap() > 0);
        assert!(is_closed(&mut kept).await, "one that was answered, too");
    }

    #[tokio::test]
    async fn no_more_are_open_than_there_is_room_for_and_the_oldest_makes_room() {
        let (addr, _stop) = served(SOON * 10).await;
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            open.push(TcpStream::connect(addr).await.unwrap());
        }
        for number in 0..10 {
            assert!(answers(addr).await);
            assert!(number > 0 || is_closed(&mut open[0]).await);
        }
        assert!(
            timeout(Duration::from_millis(100), open[CONNECTIONS_MAX - 1].read(&mut [0; 64])).await.is_err()
        );
    }

    #[tokio::test]
    async fn a_stop_ends_it() {
        let (addr, stop) = served(SOON * 10).await;
        let mut open = TcpStream::connect(addr).await.unwrap();
        assert!(answers(addr).await);
        stop.cancel();
        assert!(is_closed(&mut open).await);
    }
}
