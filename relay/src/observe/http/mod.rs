//! What is served on :9101: a page for people at `/`, and `/live`, `/ready`, `/healthy`, `/status` and `/metrics` for
//! programs. Where sources have names, each has all of it beneath `/sources/NAME/`, and `/` is of all of them.
//!
//! Served by a thread of its own: the relay's thread rests under load, and one that hangs must not take with it what
//! says so. Nothing is written here, and no payload of an event is ever shown.

mod fleet;
mod source;
mod stream;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::JoinHandle;

use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use socket2::{Domain, Socket, Type};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::config::Settings;
use crate::observe::board::Vitals;
use crate::observe::snapshot::Places;
use crate::observe::{metrics, sampler};
use crate::telemetry::label;
use source::Shown;
use stream::{Channel, Open, Streams};

/// The page brings all it needs: nothing is loaded from elsewhere, and nothing in it runs that is not its own file.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// Connections at once, at most; pages that are open are bounded further.
const CONNECTIONS_MAX: usize = 256;

/// A source, and where it says how it is.
#[derive(Debug, Clone)]
pub struct Observed {
    /// What it was told.
    pub settings: Settings,
    /// What it shows of itself.
    pub vitals: Vitals,
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

    /// Starts the thread, for all sources. Without a listener it only asks Postgres.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        listener: Option<TcpListener>,
        sources: Vec<Observed>,
        stop: &CancellationToken,
    ) -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let stop = stop.clone();
        let thread = std::thread::Builder::new().name("pages".into());
        let thread = thread.spawn(move || runtime.block_on(observe(listener, sources, stop)))?;
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

async fn observe(listener: Option<TcpListener>, sources: Vec<Observed>, stop: CancellationToken) {
    let open = Open::default();
    let shown: Vec<_> =
        sources.into_iter().map(|observed| look_at(observed, Channel::new(&open, &stop), &stop)).collect();
    let Some(listener) = listener else { return stop.cancelled().await };
    match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => {
            let router = router(shown, Channel::new(&open, &stop));
            clients::serve_pages(listener, router, CONNECTIONS_MAX, stop).await;
        }
        Err(error) => tracing::error!(%error, "the pages are gone"),
    }
}

/// Asks Postgres how the source is, and keeps its history.
fn look_at(observed: Observed, channel: Channel, stop: &CancellationToken) -> Shown {
    let Observed { settings, vitals } = observed;
    let places = Places::of(&settings);
    if let Some(every) = settings.timing.sampling() {
        let span = label::span(settings.name.as_deref());
        let asking = sampler::keep_asking(settings, every, vitals.clone(), stop.clone());
        tokio::spawn(asking.instrument(span));
    }
    let streams = Streams::start(vitals.clone(), places.clone(), channel);
    Shown { vitals, places, streams }
}

/// Of a source without a name, its own pages; of those with names a page of all of them, and their own beneath it.
fn router(mut shown: Vec<Shown>, channel: Channel) -> Router {
    match shown.pop() {
        Some(only) if only.places.source().is_none() => source::routes("", only),
        last => {
            shown.extend(last);
            fleet::routes(shown, channel)
        }
    }
}

/// What every page loads, and what every folder of pages answers alike, beneath `prefix`.
fn common<S: Clone + Send + Sync + 'static>(prefix: &str) -> Router<S> {
    let at = |path: &str| format!("{prefix}{path}");
    Router::new()
        .route(&at("/page.css"), get(|| async { style() }))
        .route(&at("/live.js"), get(|| async { script(include_str!("live.js")) }))
        .route(&at("/judge.js"), get(|| async { script(include_str!("judge.js")) }))
        .route(&at("/words.js"), get(|| async { script(include_str!("words.js")) }))
        .route(&at("/live"), get(|| async { "live\n" }))
}

fn script(text: &'static str) -> Response {
    asset("text/javascript; charset=utf-8", text)
}

fn html(text: &'static str) -> Response {
    asset("text/html; charset=utf-8", text)
}

fn style() -> Response {
    asset("text/css; charset=utf-8", include_str!("page.css"))
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

/// 200 where all is well, 503 else, with what there is to say.
fn answer(is_well: bool, said: impl Serialize) -> Response {
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(said)).into_response()
}

fn numbers(views: &[metrics::Labelled]) -> Response {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text(views)).into_response()
}
