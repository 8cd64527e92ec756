//! Everything that a run stands on: servers, proxies in front of them, a database, a topic and two relays.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use harness::program::sibling;
use harness::{
    Database, PrivateKafka, PrivatePostgres, Proxy, Relay, RelayProcess, Topic, http, port, wait_for,
};
use tokio::net::TcpListener;

/// More than one, so that order per key means something.
const PARTITIONS: i32 = 4;

/// Above the ports that dev/stack gives to servers, which would take this one while Kafka is down, and below those that
/// the kernel gives to outgoing connections.
const KAFKA_PORT: u16 = 32_100;

/// How long a peer may be silent in this world: short, so that a minute holds many faults.
pub(crate) const PEER_TIMEOUT: Duration = Duration::from_secs(3);

/// Nothing takes longer to come back; if it does, it does not come back.
pub(crate) const DEADLINE: Duration = Duration::from_secs(90);

/// The two relays: one streams, one stands by, and who does which changes.
pub(crate) struct Relays {
    settings: [Relay; 2],
    running: [RelayProcess; 2],
}

impl Relays {
    fn start(settings: [Relay; 2]) -> Result<Self> {
        let running = [settings[0].run()?, settings[1].run()?];
        Ok(Self { settings, running })
    }

    /// The relay that streams, as soon as one does.
    pub(crate) async fn active(&self) -> Result<usize> {
        let waited = wait_for("a relay is ready", DEADLINE, async || {
            for (index, relay) in self.running.iter().enumerate() {
                if http::get(relay.http_addr(), "/ready").await.is_ok_and(|answer| answer.status == 200) {
                    return Ok(Some(index));
                }
            }
            Ok(None)
        })
        .await;
        match waited {
            Ok(index) => Ok(index),
            Err(error) => Err(error.context(self.logs().await)),
        }
    }

    pub(crate) fn at(&mut self, index: usize) -> &mut RelayProcess {
        &mut self.running[index]
    }

    /// Starts one again that has ended.
    pub(crate) fn start_again(&mut self, index: usize) -> Result<()> {
        self.running[index] = self.settings[index].run()?;
        Ok(())
    }

    /// What both say of themselves, and the ends of their logs, for a failure's message.
    pub(crate) async fn logs(&self) -> String {
        let mut said = String::new();
        for relay in &self.running {
            for path in ["/ready", "/metrics"] {
                let page = http::get(relay.http_addr(), path).await.map(|answer| answer.body);
                let page = page.unwrap_or_else(|error| format!("{path}: {error:#}"));
                for line in page.lines().filter(|line| !line.starts_with('#') && !line.starts_with("process"))
                {
                    said += &format!("{line}\n");
                }
            }
            said += &relay.log_tail();
        }
        said
    }
}

/// The world. Fields are dropped in this order: what uses a server before the server.
pub(crate) struct World {
    pub(crate) relays: Relays,
    pub(crate) topic: Arc<Topic>,
    pub(crate) database: Arc<Database>,
    pub(crate) way_to_postgres: Proxy,
    pub(crate) way_to_kafka: Proxy,
    pub(crate) postgres: PrivatePostgres,
    pub(crate) kafka: PrivateKafka,
}

impl World {
    /// Starts it all; both relays run when this returns, and one is ready.
    ///
    /// # Errors
    /// When anything does not start.
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let kafka_target = port::free_from(KAFKA_PORT)?;
        let way_to_kafka = Proxy::on(listener, kafka_target)?;
        let (postgres, kafka) = tokio::try_join!(
            PrivatePostgres::start(),
            PrivateKafka::start_behind(kafka_target.port(), way_to_kafka.addr().port())
        )?;
        let database = Arc::new(Database::with_outbox(postgres.url()).await?);
        let way_to_postgres = Proxy::start(database.addr()?).await?;
        let topic = Arc::new(Topic::fresh(kafka.brokers(), PARTITIONS).await?);
        let url = database.relay_url_by(way_to_postgres.addr())?;
        let relay = relay(&database, &topic, &url, &way_to_kafka)?;
        relay.init().await?;
        let relays = Relays::start([relay.clone(), relay.beside()?])?;
        relays.active().await?;
        Ok(Self { relays, topic, database, way_to_postgres, way_to_kafka, postgres, kafka })
    }
}

fn relay(database: &Database, topic: &Topic, url: &str, way_to_kafka: &Proxy) -> Result<Relay> {
    let program =
        std::env::var("CHAOS_WALPOST").map_or_else(|_| sibling("walpost"), |path| Ok(path.into()))?;
    let relay = Relay::new(program, database, topic)?.with_program(|program| program.log_on_drop(false));
    let settings = [
        ("WALPOST_DATABASE_URL", url),
        ("WALPOST_KAFKA_BROKERS", &way_to_kafka.addr().to_string()),
        ("WALPOST_PEER_TIMEOUT_MS", &PEER_TIMEOUT.as_millis().to_string()),
        ("WALPOST_CONFIRM_INTERVAL_MS", "100"),
        ("WALPOST_WATCH_INTERVAL_MS", "500"),
        ("WALPOST_RETRY_MAX_MS", "500"),
        ("WALPOST_CONNECT_TIMEOUT_MS", "3000"),
        // What is published goes, so a row that goes too early is an event that is lost with its slot.
        ("WALPOST_CLEAN", "age"),
        ("WALPOST_CLEAN_AGE_S", "1"),
        ("WALPOST_CLEAN_INTERVAL_MS", "1000"),
        ("WALPOST_KAFKA_PROPERTY_RECONNECT_BACKOFF_MAX_MS", "500"),
    ];
    Ok(settings.into_iter().fold(relay, |relay, (name, value)| relay.env(name, value)))
}
