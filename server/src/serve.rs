//! Listening, serving, draining.
//!
//! [`Server::start`] does everything that can fail for a reason an operator can mend; [`Server::run`] serves until it
//! is told to stop. In between, [`Server::addresses`] says where it listens.

mod connections;
mod delivery;
mod drain;
mod tls;

use std::io;
use std::net::SocketAddr;

use std::time::Duration;

use clients::WhenFull;
use connections::{Door, Ending, Limits, Protocol};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt;

use crate::calls::Calls;
use crate::config::{Listen, Settings};
use crate::grpc::{self, Health, PackageApi};
use crate::metrics::Metrics;
use crate::rest::Rest;
use crate::status::{metrics_router, status_router};
use crate::store::{self, MigrateFailed, StartError, Store};
use crate::version::Version;

pub use drain::DrainSettings;
pub use tls::{TlsError, TlsSettings};

/// Of the two ports for operators: probes and Prometheus. A probe that is refused would have the server restarted, so
/// the connection that is there longest makes room for it.
const OPERATORS: Limits = Limits {
    connections_max: 100,
    age_max: Duration::from_mins(10),
    grace: Duration::from_secs(10),
    when_full: WhenFull::EndOldest,
};

/// On top of what a call may take, for its answer to be read.
const ANSWER_GRACE: Duration = Duration::from_secs(15);

/// Why the server does not start, or stops by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] StartError),
    /// The migrations were not applied.
    #[error(transparent)]
    Migrate(#[from] MigrateFailed),
    /// An address is taken, or not ours.
    #[error("cannot listen on {address}: {cause}; free it, or choose another with --{setting}")]
    Listen {
        /// The setting that names the address.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// Two descriptors that contradict each other: a mistake in the build.
    #[error("reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// Two metrics of one name: a mistake in the build.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The descriptors say something that cannot be served as REST: a mistake in the build.
    #[error("REST: {0}")]
    Rest(#[from] crate::rest::DescriptorError),
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Where the server listens; with port 0 in the settings, the ports it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
    /// REST.
    pub rest: SocketAddr,
    /// `/live`, `/ready`, `/version`.
    pub status: SocketAddr,
    /// `/metrics`.
    pub metrics: SocketAddr,
}

/// A server that listens and does not answer yet.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    store: Store,
    metrics: Metrics,
    listeners: Listeners,
    addresses: Addresses,
}

#[derive(Debug)]
struct Listeners {
    grpc: TcpListener,
    rest: TcpListener,
    status: TcpListener,
    metrics: TcpListener,
}

impl Server {
    /// Looks at the database, migrates it where the settings say so, and listens.
    ///
    /// # Errors
    /// What is wrong, where, and what to do about it.
    pub async fn start(settings: Settings) -> Result<Self, ServeError> {
        settings.database.check(settings.pool.acquire_timeout).await?;
        if settings.migrate {
            store::migrate(&settings.database, settings.pool.acquire_timeout).await?;
        }
        settings.database.check_schema(settings.pool.acquire_timeout, &settings.outbox).await?;
        let store = Store::new(&settings.database, &settings.pool, &settings.outbox);
        let metrics = Metrics::new()?;
        metrics.watch(store.clone())?;
        let (listeners, addresses) = listen(&settings.listen).await?;
        Ok(Self { settings, store, metrics, listeners, addresses })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `shutdown` is cancelled, then stops accepting and finishes the calls it accepted, within the time
    /// the settings give.
    ///
    /// # Errors
    /// When a part of it cannot be served.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { settings, store, metrics, listeners, addresses } = self;
        let version = Version::new(&settings);
        let (health, cut_off) = (Health::serving().await, CancellationToken::new());
        let api = PackageApi::new(store.clone(), metrics.clone(), settings.grpc.page_size_default);
        let others = other_services(&health, settings.grpc.reflection)?;
        let calls = Calls::new(api, others, settings.calls.clone(), metrics.clone(), cut_off.clone());
        let rest = Rest::new(calls.clone(), metrics.clone(), &settings.rest)?;

        // They answer while calls drain, so that /ready can say so and the last counts are seen.
        let operators = Ending { stop: CancellationToken::new(), open: TaskTracker::new() };
        let _operators_end_with_us = operators.stop.clone().drop_guard();
        let status = status_router(store.clone(), shutdown.clone(), version.clone());
        tokio::spawn(for_operators(listeners.status).serve(status, operators.clone()));
        tokio::spawn(for_operators(listeners.metrics).serve(metrics_router(metrics), operators));

        let clients = Ending { stop: CancellationToken::new(), open: TaskTracker::new() };
        let door = |listener, protocol, alpn: &[&str]| -> Result<Door, ServeError> {
            let tls = settings.tls.as_ref().map(|settings| tls::acceptor(settings, alpn)).transpose()?;
            let limits = settings.clients.limits(settings.calls.timeout);
            Ok(Door { listener, tls, protocol, limits })
        };
        let grpc = door(listeners.grpc, Protocol::Http2, &["h2"])?;
        let gateway = door(listeners.rest, Protocol::Any, &["h2", "http/1.1"])?;
        let calls = calls.map_request(|request: http::Request<Incoming>| request.map(Body::new));
        tokio::spawn(grpc.serve(calls, clients.clone()));
        tokio::spawn(gateway.serve(rest, clients.clone()));
        tracing::info!(
            version = version.version,
            commit = version.commit_hash,
            grpc = %addresses.grpc,
            rest = %addresses.rest,
            status = %addresses.status,
            metrics = %addresses.metrics,
            "serving"
        );
        drain::when(shutdown, settings.drain, health, &clients, &cut_off).await;
        drain::close(&store).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Bounds on the connections of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSettings {
    /// To each of gRPC and REST at once, at most.
    pub connections_max: usize,
    /// After so long a client is asked to connect anew.
    pub age_max: Duration,
}

impl ClientSettings {
    fn limits(self, call_timeout: Duration) -> Limits {
        Limits {
            connections_max: self.connections_max,
            age_max: self.age_max,
            grace: call_timeout.saturating_add(ANSWER_GRACE),
            when_full: WhenFull::Refuse,
        }
    }
}

fn for_operators(listener: TcpListener) -> Door {
    Door { listener, tls: None, protocol: Protocol::Any, limits: OPERATORS }
}

fn other_services(health: &Health, reflection: bool) -> Result<Routes, ServeError> {
    let routes = Routes::new(health.service());
    let Some((v1, v1alpha)) = reflection.then(grpc::reflection).transpose()? else { return Ok(routes) };
    Ok(routes.add_service(v1).add_service(v1alpha))
}

async fn listen(listen: &Listen) -> Result<(Listeners, Addresses), ServeError> {
    let (grpc, grpc_address) = bind("grpc-addr", listen.grpc).await?;
    let (rest, rest_address) = bind("rest-addr", listen.rest).await?;
    let (status, status_address) = bind("status-addr", listen.status).await?;
    let (metrics, metrics_address) = bind("metrics-addr", listen.metrics).await?;
    let addresses = Addresses {
        grpc: grpc_address,
        rest: rest_address,
        status: status_address,
        metrics: metrics_address,
    };
    Ok((Listeners { grpc, rest, status, metrics }, addresses))
}

async fn bind(setting: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |cause| ServeError::Listen { setting, address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
