//! Connections to the pages: bounded in number, and closed when nothing is asked on them. The relay's own connections come
//! out of the same files of the process, and whoever can reach this port must not be able to take them all.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// At once, at most; pages that are open are bounded further.
const CONNECTIONS_MAX: usize = 256;

/// A client that asks nothing for so long is let go; Prometheus and browsers connect again without a word.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The head of a request is a few hundred bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// After the system refuses a connection (no more files, say), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves whoever comes until it is told to stop.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    serve_with(listener, router, stop, IDLE_TIMEOUT).await;
}

async fn serve_with(listener: TcpListener, router: Router, stop: CancellationToken, idle_timeout: Duration) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
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
        // One that finds no room is closed.
        if let Ok(permit) = Arc::clone(&room).try_acquire_owned() {
            let serving = connection(stream, builder.clone(), router.clone(), stop.clone());
            tokio::spawn(async move {
                serving.await;
                drop(permit);
            });
        }
    }
}

async fn connection(stream: TcpStream, builder: Builder, router: Router, stop: CancellationToken) {
    let service = TowerToHyperService::new(router);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
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

    async fn served(idle_timeout: Duration) -> (SocketAddr, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let router = Router::new().route("/live", get(|| async { "live" }));
        tokio::spawn(serve_with(listener, router, stop.clone(), idle_timeout));
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
    async fn no_more_are_open_than_there_is_room_for_and_one_that_goes_makes_room() {
        let (addr, _stop) = served(SOON * 10).await;
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            open.push(TcpStream::connect(addr).await.unwrap());
        }
        let mut one_more = TcpStream::connect(addr).await.unwrap();
        assert!(is_closed(&mut one_more).await);
        open.clear();
        timeout(SOON, async { while !answers(addr).await {} }).await.unwrap();
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
