//! `/live`, `/ready` and `/metrics`.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use super::health::Health;
use super::metrics::Metrics;

/// What Prometheus expects of its text format.
const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/live`: the process runs. `/ready`: it polls; what is missing beside. `/metrics`.
pub fn router(health: Health, metrics: Metrics) -> Router {
    Router::new().route("/live", get(async || "live\n")).route("/ready", get(ready)).with_state(health).route(
        "/metrics",
        get(async move || ([(header::CONTENT_TYPE, METRICS_CONTENT_TYPE)], metrics.text())),
    )
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let readiness = health.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, readiness.text)
}
