//! `/live`, `/ready` and `/metrics` over HTTP.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::board::{Board, Standing};
use crate::metrics::Metrics;

/// Connections at once, at most: a few probes, a Prometheus, a person.
const CONNECTIONS_MAX: usize = 64;

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

/// Serves whoever comes, until it is dropped: also while the program stops.
pub async fn serve(listener: TcpListener, shown: Shown) {
    let router = Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(numbers))
        .with_state(shown);
    clients::serve_pages(listener, router, CONNECTIONS_MAX, CancellationToken::new()).await;
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
