//! The pages of several sources together: one row for each, and answers for programs that name those that are not well.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::source::{self, Shown};
use super::stream::Channel;
use super::{answer, common, html, numbers, script};
use crate::observe::metrics;
use crate::observe::snapshot::{SlotView, Snapshot, WindowFacts};
use crate::observe::state::State;

/// All sources, in the order of the file.
#[derive(Clone)]
struct All {
    sources: Arc<[Shown]>,
    channel: Channel,
}

/// Everything of each source beneath `/sources/NAME`, and what is of all of them.
pub(super) fn routes(shown: Vec<Shown>, channel: Channel) -> Router {
    let mut router = Router::new();
    for one in &shown {
        let Some(name) = one.places.source().map(str::to_owned) else { continue };
        let own = format!("/sources/{name}");
        // Links of its page are relative to its folder, also where a proxy has put that elsewhere.
        let to_folder = move || {
            let folder = format!("{name}/");
            async move { (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, folder)]).into_response() }
        };
        router = router.route(&own, get(to_folder)).merge(source::routes(&own, one.clone()));
    }
    let all = All { sources: shown.into(), channel };
    tokio::spawn(keep_sending(all.clone()));
    router.merge(own_routes(all))
}

fn own_routes(all: All) -> Router {
    common("")
        .route("/", get(|| async { html(include_str!("fleet.html")) }))
        .route("/fleet.js", get(|| async { script(include_str!("fleet.js")) }))
        .route("/events", get(events))
        .route("/ready", get(ready))
        .route("/healthy", get(healthy))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .with_state(all)
}

/// Whether events of every source flow.
async fn ready(Shared(all): Shared<All>) -> Response {
    let not_ready = all.that_are_not(State::is_ready);
    answer(not_ready.is_empty(), Ready { ready: not_ready.is_empty(), not_ready })
}

/// The same, where a source that another process follows is well, too.
async fn healthy(Shared(all): Shared<All>) -> Response {
    let not_healthy = all.that_are_not(State::is_healthy);
    answer(not_healthy.is_empty(), Healthy { healthy: not_healthy.is_empty(), not_healthy })
}

#[derive(Serialize)]
struct Ready {
    ready: bool,
    not_ready: BTreeMap<String, State>,
}

#[derive(Serialize)]
struct Healthy {
    healthy: bool,
    not_healthy: BTreeMap<String, State>,
}

/// What the pages of all sources show.
#[derive(Serialize)]
struct Status {
    version: &'static str,
    revision: &'static str,
    sources: BTreeMap<String, Snapshot>,
}

async fn status(Shared(all): Shared<All>) -> Response {
    let sources = all.sources.iter().map(|shown| (name(shown), shown.snapshot())).collect();
    Json(Status { version: metrics::VERSION, revision: metrics::REVISION, sources }).into_response()
}

async fn metrics(Shared(all): Shared<All>) -> Response {
    numbers(&all.sources.iter().map(Shown::labelled).collect::<Vec<_>>())
}

async fn events(Shared(all): Shared<All>) -> Response {
    all.channel.watch(None).into_response()
}

impl All {
    /// What those sources do that are not so.
    fn that_are_not(&self, are: fn(&State) -> bool) -> BTreeMap<String, State> {
        let states = self.sources.iter().map(|shown| (name(shown), shown.vitals.judged()));
        states.filter(|(_, state)| !are(state)).collect()
    }

    fn rows(&self) -> Rows {
        let rows: Vec<_> = self.sources.iter().map(|shown| Row::of(shown.snapshot())).collect();
        let now_ms = rows.iter().map(|row| row.now_ms).max().unwrap_or_default();
        Rows { version: metrics::VERSION, revision: metrics::REVISION, now_ms, sources: rows }
    }
}

fn name(shown: &Shown) -> String {
    shown.places.source().unwrap_or_default().to_owned()
}

/// What the page of all sources is told.
#[derive(Serialize)]
struct Rows {
    version: &'static str,
    revision: &'static str,
    now_ms: i64,
    sources: Vec<Row>,
}

/// A source in a line: the part of its snapshot that the page of all of them shows, under the same names.
#[derive(Serialize)]
struct Row {
    source: Option<String>,
    now_ms: i64,
    state: String,
    since_ms: i64,
    reason: Option<String>,
    remedy: Option<String>,
    window: WindowFacts,
    slot: SlotView,
    relay: Rate,
    sampled_ms: Option<i64>,
    sample_interval_ms: Option<u64>,
}

#[derive(Serialize)]
struct Rate {
    events_per_second: f64,
}

impl Row {
    fn of(snapshot: Snapshot) -> Self {
        Self {
            source: snapshot.source,
            now_ms: snapshot.now_ms,
            state: snapshot.state,
            since_ms: snapshot.since_ms,
            reason: snapshot.reason,
            remedy: snapshot.remedy,
            window: snapshot.window,
            slot: snapshot.slot,
            relay: Rate { events_per_second: snapshot.relay.events_per_second },
            sampled_ms: snapshot.sampled_ms,
            sample_interval_ms: snapshot.sample_interval_ms,
        }
    }
}

/// Tells the pages that are open how all sources are.
async fn keep_sending(all: All) {
    let say =
        |_, is_heard: bool| is_heard.then(|| (serde_json::to_string(&all.rows()).unwrap_or_default(), None));
    all.channel.clone().keep_sending(say).await;
}
