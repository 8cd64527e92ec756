//! `/live`, `/ready` and `/metrics` over HTTP.
//!
//! Connections are bounded in number and closed when nothing is asked on them; where all places are taken the oldest one
//! makes room, so that clients that stop keep no probe away.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use clients::{Patient, Places, WhenFull};
use hyper::server::conn::http1::Builder;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};

use crate::board::{Board, Standing};
use crate::metrics::Metrics;

/// At once, at most: a few probes, a Prometheus, a person.
const CONNECTIONS_MAX: usize = 64;

/// A client that takes longer to begin does not mean to.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(10);

/// A client that asks nothing for so long is let go; Prometheus connects again without a word.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// The head of a request is a few hundred bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// After the system refuses a connection (no more files, say), before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What Prometheus expects of its text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is shown.
#[derive(Clone)]
pub struct Shown {
    /// Whether it is ready.
    pub board: Arc<Board>,
    /// The numbers.
    pub metrics: Metrics,
}

/// Serves whoever comes, until it is dropped.
pub async fn serve(listener: TcpListener, shown: Shown) {
    let router = Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(numbers))
        .with_state(shown);
    let mut places = Places::new(CONNECTIONS_MAX, WhenFull::EndOldest);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(place) = places.take().await else { continue };
        let serving = connection(stream, router.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = serving => {}
                () = place.is_needed() => {}
            }
        });
    }
}

async fn connection(stream: TcpStream, router: Router) {
    let stream = TokioIo::new(Patient::new(stream, BEGIN_TIMEOUT));
    let mut builder = Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    if let Err(error) = builder.serve_connection(stream, TowerToHyperService::new(router)).await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Whether everything that it is set to print is being printed.
async fn ready(State(shown): State<Shown>) -> Response {
    let standing = shown.board.standing();
    let is_ready = matches!(standing, Standing::Ready { .. });
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{standing}\n")).into_response()
}

async fn numbers(State(shown): State<Shown>) -> Response {
    match shown.metrics.text(&shown.board) {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
