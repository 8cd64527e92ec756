//! Listening, serving, draining.
//!
//! [`Server::start`] does everything that can fail for a reason an operator can mend; [`Server::run`] serves until it
//! is told to stop. In between, [`Server::addresses`] says where it listens.

mod drain;

use std::io;
use std::net::SocketAddr;

use drain::Draining;
use logistic_package_proto::package_api::logistic_package_api_service_server::LogisticPackageApiServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, TcpIncoming};

use crate::config::{Listen, Settings};
use crate::grpc::{self, Health, PackageApi};
use crate::metrics::Metrics;
use crate::status::{metrics_router, status_router};
use crate::store::{self, MigrateFailed, StartError, Store};
use crate::version::Version;

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
    /// gRPC ended though nobody had asked.
    #[error("gRPC: {0}")]
    Grpc(#[from] tonic::transport::Error),
}

/// Where the server listens; with port 0 in the settings, the ports it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// gRPC.
    pub grpc: SocketAddr,
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
        settings.database.check_schema(settings.pool.acquire_timeout).await?;
        let store = Store::new(&settings.database, &settings.pool);
        let metrics = Metrics::new()?;
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
    /// When a part of it ends though nobody had asked.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { settings, store, metrics, listeners, addresses } = self;
        let version = Version::new(&settings);
        tracing::info!(
            version = version.version,
            commit = version.commit_hash,
            grpc = %addresses.grpc,
            status = %addresses.status,
            metrics = %addresses.metrics,
            "serving"
        );
        // They answer while gRPC drains, so that /ready can say so and the last counts are seen.
        let http = CancellationToken::new();
        let _http_ends_with_us = http.clone().drop_guard();
        serve_http(listeners.status, status_router(store.clone(), shutdown.clone(), version), http.clone());
        serve_http(listeners.metrics, metrics_router(metrics.clone()), http);

        let (health, cut_off) = (Health::serving().await, CancellationToken::new());
        let api = PackageApi::new(store.clone(), metrics, settings.grpc.page_size_default, cut_off.clone());
        let router = grpc_router(api, &health, settings.grpc.reflection)?;
        let incoming = TcpIncoming::from(listeners.grpc).with_nodelay(Some(true));
        let draining = Draining { shutdown, health, timeout: settings.shutdown_timeout, cut_off };
        drain::serve(router, incoming, draining).await?;
        drain::close(&store).await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Limits on calls and connections belong on the builder here.
fn grpc_router(api: PackageApi, health: &Health, reflection: bool) -> Result<Router, ServeError> {
    let (v1, v1alpha) = reflection.then(grpc::reflection).transpose()?.unzip();
    Ok(tonic::transport::Server::builder()
        .add_service(LogisticPackageApiServiceServer::new(api))
        .add_service(health.service())
        .add_optional_service(v1)
        .add_optional_service(v1alpha))
}

fn serve_http(listener: TcpListener, router: axum::Router, stop: CancellationToken) {
    tokio::spawn(async move {
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(%error, "HTTP ended");
        }
    });
}

async fn listen(listen: &Listen) -> Result<(Listeners, Addresses), ServeError> {
    let (grpc, grpc_address) = bind("grpc-addr", listen.grpc).await?;
    let (status, status_address) = bind("status-addr", listen.status).await?;
    let (metrics, metrics_address) = bind("metrics-addr", listen.metrics).await?;
    let addresses = Addresses { grpc: grpc_address, status: status_address, metrics: metrics_address };
    Ok((Listeners { grpc, status, metrics }, addresses))
}

async fn bind(setting: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |cause| ServeError::Listen { setting, address, cause };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}
