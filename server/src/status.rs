//! `/live`, `/ready`, `/version` and `/metrics` over HTTP.

use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::store::{Migrated, Standing, Store, StoreError};
use crate::version::Version;

/// Whoever asks for readiness waits no longer, whatever the database does: probes give up after a second or so.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// What Prometheus expects of its text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone)]
struct Ready {
    store: Store,
    shutdown: CancellationToken,
}

/// `/live`: the process runs. `/ready`: it takes calls, and the database answers, has the migrations and can be written.
/// `/version`: what it is.
pub fn status_router(store: Store, shutdown: CancellationToken, version: Version) -> Router {
    Router::new()
        .route("/live", get(async || "live\n"))
        .route("/ready", get(ready))
        .with_state(Ready { store, shutdown })
        .route("/version", get(async move || Json(version)))
}

/// `/metrics`, for Prometheus.
pub fn metrics_router(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(text)).with_state(metrics)
}

async fn ready(State(Ready { store, shutdown }): State<Ready>) -> Response {
    if shutdown.is_cancelled() {
        return unavailable("stopping\n");
    }
    match tokio::time::timeout(READY_TIMEOUT, store.standing()).await {
        Ok(Ok(Standing::Good)) => "ready\n".into_response(),
        Ok(Ok(standing)) => {
            tracing::warn!(?standing, "not ready");
            unavailable(reason(&standing))
        }
        // It takes what it can: to be taken out of service would load the others more.
        Ok(Err(StoreError::Overloaded(_))) => "ready, and overloaded\n".into_response(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "not ready");
            let shared = error.is_of_shared_backend();
            unavailable(if shared { reason(&Standing::SharedBackend) } else { "the database is away\n" })
        }
        Err(_) => {
            tracing::warn!(timeout_ms = READY_TIMEOUT.as_millis(), "not ready: the database does not answer");
            unavailable("the database does not answer\n")
        }
    }
}

/// Why calls cannot be taken, or not all of them.
fn reason(standing: &Standing) -> &'static str {
    match standing {
        Standing::Good => "ready\n",
        Standing::Standby => "the database is a standby: nothing can be written\n",
        Standing::ReadOnly => "the database is read-only: nothing can be written\n",
        Standing::NotMigrated(Migrated::Other(_)) => {
            "the database belongs to another version of this program: run that one, or a newer one\n"
        }
        Standing::NotMigrated(_) => "the database lacks migrations of this build: migrate it\n",
        Standing::SharedBackend => {
            "a pooler in transaction mode is on the way: set database-pooling=transaction, or go directly\n"
        }
        Standing::NoSlot => {
            "no logical replication slot of this database keeps events, which are messages: run walpost init, or walpost recover\n"
        }
    }
}

fn unavailable(reason: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

async fn text(State(metrics): State<Metrics>) -> Response {
    match metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
