use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::program::sibling;
use harness::{
    Database, FakeTelegram, PrivatePostgres, Process, Program, Relay, RelayProcess, Stack, Topic, http, port,
    wait_until,
};
use observe::names;
use observe::prometheus::Prometheus;

const READY_DEADLINE: Duration = Duration::from_secs(30);

/// Fields are dropped in their order: first who uses, then what is used.
pub(crate) struct System {
    pub(crate) prometheus: Prometheus,
    relay: RelayProcess,
    _bot: Process,
    telegram: FakeTelegram,
    bot_http: SocketAddr,
    _server: Process,
    rest: SocketAddr,
    metrics: SocketAddr,
    facade: SocketAddr,
    _facade: Process,
    _topic: Topic,
    _database: Database,
    _postgres: PrivatePostgres,
}

impl System {
    /// As production has it: a limit for slots, a role that sees everything, and a failover slot.
    pub(crate) async fn start() -> Result<Self> {
        let postgres = PrivatePostgres::start_with(&["max_slot_wal_keep_size=1GB"]).await?;
        let database = Database::fresh(postgres.url()).await?;
        let (grpc, rest, status, metrics) = (port::free()?, port::free()?, port::free()?, port::free()?);
        let server = Program::new(sibling("logistic-package-api")?)
            .env("PACKAGE_API_DATABASE_URL", &database.url)
            .env("PACKAGE_API_GRPC_ADDR", grpc.to_string())
            .env("PACKAGE_API_REST_ADDR", rest.to_string())
            .env("PACKAGE_API_STATUS_ADDR", status.to_string())
            .env("PACKAGE_API_METRICS_ADDR", metrics.to_string())
            .log_on_drop(true)
            .spawn(&["serve"])?;
        wait_until("the service is ready", READY_DEADLINE, async || {
            Ok(http::get(status, "/ready").await.is_ok_and(|ready| ready.status == 200))
        })
        .await?;
        let topic = Topic::fresh(&Stack::shared().await?.brokers, 3).await?;
        let relay = Relay::new(sibling("walpost")?, &database, &topic)?
            .env("WALPOST_MONITOR_DATABASE_URL", &database.url)
            .env("WALPOST_SAMPLE_INTERVAL_MS", "1000")
            .env("WALPOST_KAFKA_PROPERTY_STATISTICS_INTERVAL_MS", "1000");
        let relay = relay.init_and_run().await?;
        let facade_addr = port::free()?;
        let facade = Program::new(sibling("package-facade")?)
            .env("PACKAGE_FACADE_KAFKA_BROKERS", &topic.brokers)
            .env("PACKAGE_FACADE_GROUP", &topic.name)
            .env("PACKAGE_FACADE_PACKAGE_EVENTS_TOPIC", &topic.name)
            .env("PACKAGE_FACADE_HTTP_ADDR", facade_addr.to_string())
            .spawn(&["run", "--commands-topic=", "--cache-events-topic="])?;
        let (telegram, bot_http) = (FakeTelegram::start().await?, port::free()?);
        let bot = bot(&telegram, &topic, grpc, bot_http)?;
        let targets = [
            ("logistic-package-api-bot:9102", bot_http),
            ("logistic-package-api:9100", metrics),
            ("logistic-package-api-retranslator:9101", relay.http_addr()),
            ("logistic-package-api-facade:9103", facade_addr),
        ];
        let prometheus = Prometheus::start(&targets).await?;
        Ok(Self {
            prometheus,
            relay,
            _bot: bot,
            telegram,
            bot_http,
            _server: server,
            rest,
            metrics,
            facade: facade_addr,
            _facade: facade,
            _topic: topic,
            _database: database,
            _postgres: postgres,
        })
    }

    /// A package's life, and a call that finds none; somebody asks the bot for one.
    pub(crate) async fn change_packages(&self) -> Result<()> {
        self.ask_bot();
        let call = async |verb: &str, path: &str, body: &str, expected: u16| {
            let answer = http::send(self.rest, verb, path, &[], body).await?;
            ensure!(answer.status == expected, "{verb} {path}: {}", answer.body);
            Ok(answer.body)
        };
        let made =
            call("POST", "/v1/packages", r#"{"Title":"box","Material":"wood","MaximumVolume":1}"#, 200)
                .await?;
        let made: serde_json::Value = serde_json::from_str(&made)?;
        let package = made.get("ID").and_then(serde_json::Value::as_str).context("no id")?;
        let path = format!("/v1/packages/{package}");
        call("PUT", &format!("{path}?Title=crate"), "", 200).await?;
        call("GET", &path, "", 200).await?;
        call("GET", "/v1/packages", "", 200).await?;
        call("DELETE", &path, "", 200).await?;
        call("GET", &path, "", 404).await?;
        Ok(())
    }

    /// The metrics that the system serves.
    pub(crate) async fn served(&self) -> Result<BTreeSet<String>> {
        let relay = self.relay.get("/metrics").await?.body;
        let server = http::get(self.metrics, "/metrics").await?.body;
        let bot = http::get(self.bot_http, "/metrics").await?.body;
        let facade = http::get(self.facade, "/metrics").await?.body;
        Ok([relay, server, bot, facade].iter().flat_map(|page| names::served(page)).collect())
    }

    fn ask_bot(&self) {
        static UPDATES: AtomicI64 = AtomicI64::new(1);
        let id = UPDATES.fetch_add(1, Ordering::Relaxed);
        self.telegram.push(serde_json::json!({ "update_id": id, "message": {
            "message_id": id, "date": 0, "from": { "id": 7, "first_name": "I" }, "chat": { "id": 5, "type": "private" },
            "text": "/get 1", "entities": [{ "type": "bot_command", "offset": 0, "length": 4 }] } }));
    }
}

/// The bot, with no Redis. One topic does for all its records: nobody reads them.
fn bot(telegram: &FakeTelegram, topic: &Topic, grpc: SocketAddr, http: SocketAddr) -> Result<Process> {
    Program::new(sibling("package-bot")?)
        .env("TOKEN", telegram.token())
        .env("PACKAGE_BOT_TELEGRAM_API_URL", telegram.url())
        .env("PACKAGE_BOT_GRPC_URL", format!("http://{grpc}"))
        .env("PACKAGE_BOT_REDIS_URL", "redis://127.0.0.1:1/0")
        .env("PACKAGE_BOT_KAFKA_BROKERS", &topic.brokers)
        .env("PACKAGE_BOT_COMMANDS_TOPIC", &topic.name)
        .env("PACKAGE_BOT_CACHE_EVENTS_TOPIC", &topic.name)
        .env("PACKAGE_BOT_PACKAGE_EVENTS_TOPIC", &topic.name)
        .env("PACKAGE_BOT_KAFKA_GROUP", &topic.name)
        .env("PACKAGE_BOT_HTTP_ADDR", http.to_string())
        .log_on_drop(true)
        .spawn(&["run"])
}
