//! A server of a test's own, over a database of its own.

use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use clap::Command;
use harness::{Database, Stack};
use logistic_package_api::config::{Settings, TABLE};
use logistic_package_api::serve::{Addresses, ServeError, Server};
use logistic_package_proto::package_api::logistic_package_api_service_client::LogisticPackageApiServiceClient;
use logistic_package_proto::package_api::{CreatePackageV1Request, Package, UpdatePackageV1Request};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Long enough for a slow machine that does other things as well.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub type Client = LogisticPackageApiServiceClient<Channel>;

/// An empty database.
pub async fn database() -> Result<Database> {
    Database::fresh(&server_url().await?).await
}

async fn server_url() -> Result<String> {
    match std::env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => Ok(url),
        _ => Ok(Stack::shared().await?.database_url.clone()),
    }
}

/// The settings of a test: free ports on loopback, and what `arguments` say.
pub fn settings(database_url: &str, arguments: &[&str]) -> Settings {
    settings_with(database_url, arguments, &[])
}

/// As [`settings`], with further variables of the environment.
pub fn settings_with(database_url: &str, arguments: &[&str], env: &[(&str, &str)]) -> Settings {
    let places = ["--grpc-addr", "--rest-addr", "--status-addr", "--metrics-addr"];
    let loopback: Vec<_> = places.into_iter().flat_map(|flag| [flag, "127.0.0.1:0"]).collect();
    let command = Command::new("test").args(TABLE.args());
    let matches = command.get_matches_from([&["test"], &loopback[..], arguments].concat());
    // No balancer watches.
    let mut all = vec![("DATABASE_URL", database_url), ("PACKAGE_API_SHUTDOWN_DELAY_MS", "0")];
    all.extend_from_slice(env);
    let env: Vec<_> = all.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Settings::load(&matches, &env).unwrap()
}

/// A server that runs in the test's process.
pub struct TestServer {
    pub addresses: Addresses,
    pub shutdown: CancellationToken,
    pub running: JoinHandle<Result<(), ServeError>>,
}

impl TestServer {
    pub async fn start(settings: Settings) -> Result<Self> {
        let server = Server::start(settings).await?;
        let addresses = server.addresses();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server.run(shutdown.clone()));
        Ok(Self { addresses, shutdown, running })
    }

    pub async fn channel(&self) -> Result<Channel> {
        let endpoint = Channel::from_shared(format!("http://{}", self.addresses.grpc))?;
        Ok(endpoint.connect_timeout(DEADLINE).timeout(DEADLINE).connect().await?)
    }

    /// The status and the body of a GET from the status port.
    pub async fn status(&self, path: &str) -> Result<(u16, String)> {
        let response = harness::http::get(self.addresses.status, path).await?;
        Ok((response.status, response.body))
    }

    pub async fn metric(&self, name: &str) -> Result<f64> {
        let page = harness::http::get(self.addresses.metrics, "/metrics").await?.body;
        harness::http::metric(&page, name).with_context(|| format!("no {name} in\n{page}"))
    }

    /// Stops it and waits until it has.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        Ok(tokio::time::timeout(DEADLINE, self.running).await.context("the server does not stop")???)
    }
}

/// A migrated database, a server over it and a client of that server.
pub struct Setup {
    pub client: Client,
    pub server: TestServer,
    pub database: Database,
}

impl Setup {
    pub async fn new() -> Result<Self> {
        Self::with(&[]).await
    }

    /// With further settings.
    pub async fn with(arguments: &[&str]) -> Result<Self> {
        Self::over_with(database().await?, arguments).await
    }

    /// Over a database that is there.
    pub async fn over(database: Database) -> Result<Self> {
        Self::over_with(database, &[]).await
    }

    /// Over a database that is there, with further settings.
    pub async fn over_with(database: Database, arguments: &[&str]) -> Result<Self> {
        let server = TestServer::start(settings(&database.url, arguments)).await?;
        let client = Client::new(server.channel().await?);
        Ok(Self { client, server, database })
    }

    pub async fn create(&mut self, title: &str) -> Result<u64> {
        let request = CreatePackageV1Request { title: title.into(), ..box_of_wood() };
        Ok(self.client.create_package_v1(request).await?.into_inner().id)
    }

    pub async fn describe(&mut self, package_id: u64) -> Result<Package, tonic::Status> {
        let request = logistic_package_proto::package_api::DescribePackageV1Request { package_id };
        Ok(self.client.describe_package_v1(request).await?.into_inner().value.unwrap())
    }
}

/// Statements in this database that wait for a lock.
pub async fn statements_that_wait(observer: &tokio_postgres::Client) -> Result<i64> {
    let waiting = "select count(*) from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock'";
    Ok(observer.query_one(waiting, &[]).await?.get(0))
}

pub fn box_of_wood() -> CreatePackageV1Request {
    CreatePackageV1Request {
        title: "box".into(),
        material: "wood".into(),
        maximum_volume: 700.5,
        reusable: true,
    }
}

pub fn new_title(package_id: u64, title: &str) -> UpdatePackageV1Request {
    UpdatePackageV1Request { package_id, title: title.into(), ..Default::default() }
}

pub fn utc(time: prost_types::Timestamp) -> DateTime<Utc> {
    DateTime::from_timestamp(time.seconds, time.nanos.cast_unsigned()).unwrap()
}

/// As events have it.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
