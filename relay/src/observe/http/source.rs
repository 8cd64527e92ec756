//! The pages of one source: for people, and for programs.

use axum::Router;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::stream::Streams;
use super::{answer, common, html, numbers, script};
use crate::observe::board::Vitals;
use crate::observe::metrics::Labelled;
use crate::observe::snapshot::{Places, Snapshot};

/// What the pages show.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) vitals: Vitals,
    pub(super) places: Places,
    pub(super) streams: Streams,
}

impl Shown {
    /// All that there is to see now.
    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.vitals.view(), &self.vitals.recent(), &self.places, &self.streams.rates())
    }

    /// What Prometheus is told.
    pub(super) fn labelled(&self) -> Labelled {
        Labelled { source: self.places.source().map(str::to_owned), view: self.vitals.view() }
    }
}

/// Everything of it, beneath `prefix`.
pub(super) fn routes(prefix: &str, shown: Shown) -> Router {
    let at = |path: &str| format!("{prefix}{path}");
    common(prefix)
        .route(&at("/"), get(|| async { html(include_str!("page.html")) }))
        .route(&at("/page.js"), get(|| async { script(include_str!("page.js")) }))
        .route(&at("/plots.js"), get(|| async { script(include_str!("plots.js")) }))
        .route(&at("/events"), get(events))
        .route(&at("/ready"), get(ready))
        .route(&at("/healthy"), get(healthy))
        .route(&at("/status"), get(status))
        .route(&at("/metrics"), get(metrics))
        .with_state(shown)
}

/// Whether events flow.
async fn ready(Shared(shown): Shared<Shown>) -> Response {
    let state = shown.vitals.judged();
    answer(state.is_ready(), state)
}

/// The same, and 200 for a relay that stands by as well: what a rolling update asks, in which the new one waits for the
/// old one, and the old one ends when the new one is well.
async fn healthy(Shared(shown): Shared<Shown>) -> Response {
    let state = shown.vitals.judged();
    answer(state.is_healthy(), state)
}

/// What the page shows, for scripts and `walpost status`.
async fn status(Shared(shown): Shared<Shown>) -> Response {
    axum::Json(shown.snapshot()).into_response()
}

async fn metrics(Shared(shown): Shared<Shown>) -> Response {
    numbers(&[shown.labelled()])
}

async fn events(Shared(shown): Shared<Shown>) -> Response {
    shown.streams.watch().into_response()
}
