//! The service and the relay between a fresh database and a fresh topic.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::program::sibling;
use harness::{Database, Process, Program, Relay, RelayProcess, Topic, http, port, wait_until};
use logistic_package_proto::package_api::logistic_package_api_service_client::LogisticPackageApiServiceClient;
use tonic::transport::Channel;

use crate::arrivals::Arrivals;
use crate::screen::{Screen, human};
use crate::servers::Servers;

/// A client of the service.
pub(crate) type Client = LogisticPackageApiServiceClient<Channel>;

/// More than one, so that order per key means something.
const PARTITIONS: i32 = 3;

/// Migrations and a pool, in a debug build.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// Both drain what is under way; with nothing under way they end at once.
const STOP_DEADLINE: Duration = Duration::from_secs(20);

/// Where everything listens.
pub(crate) struct Ports {
    pub(crate) grpc: SocketAddr,
    pub(crate) rest: SocketAddr,
    pub(crate) status: SocketAddr,
    pub(crate) metrics: SocketAddr,
    pub(crate) relay: SocketAddr,
}

impl Ports {
    /// Any that are free.
    pub(crate) fn free() -> Result<Self> {
        let free = port::free;
        Ok(Self { grpc: free()?, rest: free()?, status: free()?, metrics: free()?, relay: free()? })
    }

    /// The documented ones, or the next free ones.
    pub(crate) fn documented() -> Result<Self> {
        let grpc = port::free_from(8082)?;
        let (rest, status) = (port::free_from(8080)?, port::free_from(8000)?);
        let metrics = port::free_from(9100)?;
        // Nobody listens yet, so 9101 may just have been given away.
        let relay = port::free_from(9101.max(metrics.port() + 1))?;
        Ok(Self { grpc, rest, status, metrics, relay })
    }
}

/// What runs. Fields are dropped in their order: first who uses, then what is used.
pub(crate) struct System {
    pub(crate) relay: RelayProcess,
    server: Process,
    pub(crate) settings: Relay,
    /// Where the service listens.
    pub(crate) grpc: SocketAddr,
    pub(crate) client: Client,
    pub(crate) arrivals: Arrivals,
    pub(crate) topic: Topic,
    pub(crate) database: Database,
}

impl System {
    pub(crate) async fn start(screen: &Screen, servers: &Servers, ports: &Ports) -> Result<Self> {
        screen.section("The service and the relay");
        let mut database = Database::fresh_for("demo", &servers.stack.database_url).await?;
        let topic_name = database.name().replace('_', "-");
        let topic = Topic::named(&topic_name, &servers.stack.brokers, PARTITIONS).await;
        let topic = topic.context(
            "cannot make a topic; start Kafka, correct KAFKA_BROKERS, or unset it to have a Kafka started",
        )?;
        screen.line(&format!("database {}", database.name()));
        screen.line(&format!("topic    {}, {PARTITIONS} partitions", topic.name));

        let server = serve(screen, &database, ports).await?;
        let client = Client::connect(format!("http://{}", ports.grpc)).await.context("gRPC")?;

        // A server that was given may not let its user make roles.
        if database.make_roles().await.is_ok() {
            screen.line("walpost has a role with the rights of migrations/roles, and no others");
        }
        let settings = Relay::new(sibling("walpost")?, &database, &topic)?.at(ports.relay);
        let settings = settings.with_program(|program| program.in_own_group().log_on_drop(false));
        let started = Instant::now();
        settings.init().await?;
        screen.line(&format!("walpost init: publication, slot {}", database.slot_name()));
        let relay = settings.run_ready().await?;
        screen.line(&format!("walpost run streams, {} after init began", human(started.elapsed())));
        let arrivals = Arrivals::of(&topic)?;
        Ok(Self { relay, server, settings, grpc: ports.grpc, client, arrivals, topic, database })
    }

    /// Starts the relay anew after its death.
    pub(crate) async fn revive_relay(&mut self) -> Result<()> {
        self.relay = self.settings.run_ready().await?;
        Ok(())
    }

    /// Stops both as an operator would, and says how they took it.
    pub(crate) async fn stop(mut self, screen: &Screen) -> Result<()> {
        for (name, process) in [("the relay", &mut *self.relay), ("the service", &mut self.server)] {
            let started = Instant::now();
            let status = process.terminate(STOP_DEADLINE).await?;
            ensure!(status.success(), "{name} did not end well ({status})\n{}", process.log_tail());
            screen.line(&format!("{name} drained and ended in {}", human(started.elapsed())));
        }
        Ok(())
    }

    /// What has gone wrong with the processes, if anything has: an error elsewhere often begins here.
    pub(crate) fn expect_running(&mut self) -> Result<()> {
        self.server.expect_running()?;
        self.relay.expect_running()
    }
}

async fn serve(screen: &Screen, database: &Database, ports: &Ports) -> Result<Process> {
    let started = Instant::now();
    let mut server = Program::new(sibling("logistic-package-api")?)
        .env("PACKAGE_API_DATABASE_URL", &database.url)
        .env("PACKAGE_API_GRPC_ADDR", ports.grpc.to_string())
        .env("PACKAGE_API_REST_ADDR", ports.rest.to_string())
        .env("PACKAGE_API_STATUS_ADDR", ports.status.to_string())
        .env("PACKAGE_API_METRICS_ADDR", ports.metrics.to_string())
        .in_own_group()
        .spawn(&["serve"])?;
    let ready = wait_until("logistic-package-api is ready", READY_DEADLINE, async || {
        server.expect_running()?;
        Ok(http::get(ports.status, "/ready").await.is_ok_and(|response| response.status == 200))
    });
    if let Err(error) = ready.await {
        return Err(error.context(server.log_tail()));
    }
    let took = human(started.elapsed());
    screen.line(&format!("logistic-package-api serves gRPC on {}, {took} after its start", ports.grpc));
    Ok(server)
}
