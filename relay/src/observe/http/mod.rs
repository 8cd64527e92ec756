//! What is served on :9101: a page for people at `/`, and `/live`, `/ready`, `/healthy`, `/status` and `/metrics` for
//! programs.
//!
//! Served by a thread of its own: the relay's thread rests under load, and one that hangs must not take with it what
//! says so. Nothing is written here, and no payload of an event is ever shown.

mod stream;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;

use axum::extract::State as Shared;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use socket2::{Domain, Socket, Type};
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::observe::board::Vitals;
use crate::observe::snapshot::{Places, Snapshot};
use crate::observe::state::State;
use crate::observe::{metrics, sampler};
use stream::Streams;

/// The page brings all it needs: nothing is loaded from elsewhere, and nothing in it runs that is not its own file.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// Connections at once, at most; pages that are open are bounded further.
const CONNECTIONS_MAX: usize = 256;

/// What the pages show.
#[derive(Clone)]
struct Shown {
    vitals: Vitals,
    places: Places,
    streams: Streams,
}

/// The thread that serves, and asks Postgres; it ends when the token that it was given is cancelled.
pub struct Pages(Option<JoinHandle<()>>);

impl Pages {
    /// Takes the address. `[::]` is every address of the machine, also where it has no IPv6, and whatever
    /// `net.ipv6.bindv6only` says.
    ///
    /// # Errors
    /// When it cannot be listened on.
    pub fn bind(addr: SocketAddr) -> std::io::Result<TcpListener> {
        listen(addr).or_else(|error| match addr {
            SocketAddr::V6(v6) if v6.ip().is_unspecified() && lacks_ipv6(&error) => {
                listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, v6.port())))
            }
            _ => Err(error),
        })
    }

    /// Starts the thread. Without a listener it only asks Postgres.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        listener: Option<TcpListener>,
        settings: &Settings,
        vitals: &Vitals,
        stop: &CancellationToken,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (settings, vitals, stop) = (settings.clone(), vitals.clone(), stop.clone());
        let thread = std::thread::Builder::new().name("pages".into());
        let thread = thread.spawn(move || runtime.block_on(observe(listener, settings, vitals, stop)))?;
        Ok(Self(Some(thread)))
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // The token may not have been cancelled on the way of an error: then the thread ends with the process.
        drop(self.0.take_if(|thread| thread.is_finished()).map(JoinHandle::join));
    }
}

fn listen(addr: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// EAFNOSUPPORT where the kernel has no IPv6 at all, EADDRNOTAVAIL where it is switched off.
fn lacks_ipv6(error: &std::io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.raw_os_error() == Some(EAFNOSUPPORT) || error.kind() == ErrorKind::AddrNotAvailable
}

async fn observe(listener: Option<TcpListener>, settings: Settings, vitals: Vitals, stop: CancellationToken) {
    let places = Places::of(&settings);
    if let Some(every) = settings.timing.sampling() {
        tokio::spawn(sampler::keep_asking(settings, every, vitals.clone(), stop.clone()));
    }
    let streams = Streams::start(vitals.clone(), places.clone(), stop.clone());
    let Some(listener) = listener else { return stop.cancelled().await };
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => {
            let router = router(Shown { vitals, places, streams });
            clients::serve_pages(listener, router, CONNECTIONS_MAX, stop).await;
        }
        Err(error) => tracing::error!(%error, "the pages are gone"),
    }
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/", get(|| async { asset("text/html; charset=utf-8", include_str!("page.html")) }))
        .route("/page.css", get(|| async { asset("text/css; charset=utf-8", include_str!("page.css")) }))
        .route("/page.js", get(|| async { script(include_str!("page.js")) }))
        .route("/plots.js", get(|| async { script(include_str!("plots.js")) }))
        .route("/words.js", get(|| async { script(include_str!("words.js")) }))
        .route("/events", get(events))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/healthy", get(healthy))
        .route("/status", get(status))
        .route("/metrics", get(numbers))
        .with_state(shown)
}

fn script(text: &'static str) -> Response {
    asset("text/javascript; charset=utf-8", text)
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Another version of walpost brings another page.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
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

fn answer(is_well: bool, state: State) -> Response {
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(state)).into_response()
}

/// What the page shows, for scripts and `walpost status`.
async fn status(Shared(shown): Shared<Shown>) -> Response {
    let rates = shown.streams.rates();
    Json(Snapshot::of(&shown.vitals.view(), &shown.vitals.recent(), &shown.places, &rates)).into_response()
}

async fn numbers(Shared(shown): Shared<Shown>) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(&shown.vitals.view())).into_response()
}

async fn events(Shared(shown): Shared<Shown>) -> Response {
    shown.streams.watch().into_response()
}
