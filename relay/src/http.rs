//! `/live`, `/ready`, `/status` and `/metrics`.

use std::net::SocketAddr;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::state::{State, StateCell};

/// What the pages show.
#[derive(Clone)]
pub struct Shown {
    /// What the relay is doing.
    pub state: StateCell,
    /// Its numbers.
    pub metrics: Metrics,
}

/// Serves until the token is cancelled.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(addr: SocketAddr, shown: Shown, stop: CancellationToken) -> std::io::Result<()> {
    let listener = TcpListener::bind(addr).await?;
    tokio::spawn(async move {
        let serving = axum::serve(listener, router(shown)).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(%error, "the status pages are gone");
        }
    });
    Ok(())
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(shown)
}

async fn ready(Shared(shown): Shared<Shown>) -> Response {
    let state = shown.state.get();
    let status = if state.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(state)).into_response()
}

/// The same as `/ready` says, for those who ask what and not whether.
async fn status(Shared(shown): Shared<Shown>) -> Json<State> {
    Json(shown.state.get())
}

async fn metrics(Shared(shown): Shared<Shown>) -> Response {
    let text = shown.metrics.render(&shown.state.get());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}
