//! A bot as a process, with a Bot API of the test's own, the real package API and real Redis, Kafka and Postgres.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::telegram::Call as TelegramCall;
use harness::{
    Database, FakeTelegram, PrivateRedis, Process, Program, Stack, Topic, port, program, wait_until,
};
use serde_json::{Value, json};

use crate::api::RecordingApi;

/// Long enough for a slow machine that does other things as well.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// The package API as a process, over a database of its own.
pub struct PackageApi {
    pub process: Process,
    pub grpc: SocketAddr,
    pub database: Database,
    status: SocketAddr,
    /// Where its spans go; empty: nowhere.
    collector: String,
}

impl PackageApi {
    async fn start(collector: &str) -> Result<Self> {
        let database = Database::fresh(&Stack::shared().await?.database_url).await?;
        let (grpc, status) = (port::free()?, port::free()?);
        let process = Self::spawn(&database, grpc, status, collector)?;
        let api = Self { process, grpc, database, status, collector: collector.to_owned() };
        api.wait_until_ready().await?;
        Ok(api)
    }

    fn spawn(database: &Database, grpc: SocketAddr, status: SocketAddr, collector: &str) -> Result<Process> {
        let program = Program::new(program::sibling("logistic-package-api")?)
            .env("PACKAGE_API_DATABASE_URL", &database.url)
            .env("PACKAGE_API_GRPC_ADDR", grpc.to_string())
            .env("PACKAGE_API_STATUS_ADDR", status.to_string())
            .env("PACKAGE_API_REST_ADDR", "127.0.0.1:0")
            .env("PACKAGE_API_METRICS_ADDR", "127.0.0.1:0")
            // A disk that others use as well may take seconds for a commit.
            .env("PACKAGE_API_DATABASE_ACQUIRE_TIMEOUT_MS", "30000")
            .env("PACKAGE_API_DATABASE_STATEMENT_TIMEOUT_MS", "30000")
            .env("PACKAGE_API_DATABASE_LOCK_TIMEOUT_MS", "30000")
            .env("PACKAGE_API_CALL_TIMEOUT_MS", "60000")
            .env("PACKAGE_API_OTLP_ENDPOINT", collector);
        program.spawn(&["serve"])
    }

    pub async fn start_again(&mut self) -> Result<()> {
        self.process = Self::spawn(&self.database, self.grpc, self.status, &self.collector)?;
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let ready = async || {
            Ok(harness::http::get(self.status, "/ready").await.is_ok_and(|ready| ready.status == 200))
        };
        wait_until("the package API is ready", DEADLINE, ready).await.with_context(|| self.process.log_tail())
    }

    /// A package that has been there for long.
    pub async fn insert(&self, package: &Value) -> Result<()> {
        let client = self.database.client().await?;
        let sql = "insert into package(package_id, title, material, max_volume, reusable, created_at) \
                   values ($1::text::bigint, $2, $3, $4::text::real, $5::text::boolean, now())";
        let text =
            |name: &str| package[name].as_str().map_or_else(|| package[name].to_string(), str::to_owned);
        client
            .execute(
                sql,
                &[&text("ID"), &text("Title"), &text("Material"), &text("MaximumVolume"), &text("Reusable")],
            )
            .await?;
        client
            .execute("select setval('package_package_id_seq', (select max(package_id) from package))", &[])
            .await?;
        Ok(())
    }

    pub async fn next_id(&self, id: u64) -> Result<()> {
        self.database.execute(&format!("alter sequence package_package_id_seq restart with {id}")).await
    }

    pub async fn count(&self, sql: &str) -> Result<i64> {
        Ok(self.database.client().await?.query_one(sql, &[]).await?.get(0))
    }
}

/// Everything around a bot.
pub struct World {
    pub telegram: FakeTelegram,
    pub redis: PrivateRedis,
    pub package_api: PackageApi,
    pub calls: RecordingApi,
    pub commands: Topic,
    pub cache_events: Topic,
    pub package_events: Topic,
    pub brokers: String,
    settings: Vec<(&'static str, String)>,
}

impl World {
    pub async fn new() -> Result<Self> {
        Self::on(&Stack::shared().await?.brokers).await
    }

    /// With another Kafka than the shared one.
    pub async fn on(brokers: &str) -> Result<Self> {
        Self::made(brokers, "").await
    }

    /// Bot and package API send their spans to a collector.
    pub async fn traced(collector: &str) -> Result<Self> {
        let mut world = Self::made(&Stack::shared().await?.brokers, collector).await?;
        world.set("PACKAGE_BOT_OTLP_ENDPOINT", collector);
        Ok(world)
    }

    async fn made(brokers: &str, collector: &str) -> Result<Self> {
        let package_api = PackageApi::start(collector).await?;
        Ok(Self {
            telegram: FakeTelegram::start().await?,
            redis: PrivateRedis::start().await?,
            calls: RecordingApi::start(package_api.grpc).await?,
            package_api,
            commands: Topic::fresh(brokers, 1).await?,
            cache_events: Topic::fresh(brokers, 1).await?,
            package_events: Topic::fresh(brokers, 1).await?,
            brokers: brokers.to_owned(),
            settings: Vec::new(),
        })
    }

    /// A further variable of the environment, or another value.
    pub fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.settings.push((name, value.into()));
    }

    /// The program with its settings.
    pub fn program(&self, http: SocketAddr) -> Program {
        let settings = [
            ("TOKEN", self.telegram.token().to_owned()),
            ("PACKAGE_BOT_TELEGRAM_API_URL", self.telegram.url()),
            ("PACKAGE_BOT_GRPC_URL", format!("http://{}", self.calls.addr())),
            ("PACKAGE_BOT_REDIS_URL", self.redis.url()),
            // Machines that do other things as well are slow: who is to be given up sooner says so.
            ("PACKAGE_BOT_CACHE_TIMEOUT_MS", "5000".to_owned()),
            ("PACKAGE_BOT_CALL_TIMEOUT_MS", "60000".to_owned()),
            ("PACKAGE_BOT_KAFKA_BROKERS", self.brokers.clone()),
            ("PACKAGE_BOT_COMMANDS_TOPIC", self.commands.name.clone()),
            ("PACKAGE_BOT_CACHE_EVENTS_TOPIC", self.cache_events.name.clone()),
            ("PACKAGE_BOT_PACKAGE_EVENTS_TOPIC", self.package_events.name.clone()),
            ("PACKAGE_BOT_KAFKA_GROUP", self.commands.name.clone()),
            ("PACKAGE_BOT_HTTP_ADDR", http.to_string()),
            ("PACKAGE_BOT_LOG_LEVEL", "debug".to_owned()),
        ];
        let all = settings.iter().chain(&self.settings);
        all.fold(Program::new(env!("CARGO_BIN_EXE_package-bot")), |program, (name, value)| {
            program.env(name, value)
        })
    }

    /// Starts the bot, and waits until it polls.
    pub async fn bot(&self) -> Result<Bot> {
        let mut bot = self.starting_bot()?;
        let polls = self.telegram.polls();
        wait_until("the bot polls", DEADLINE, async || {
            bot.process.expect_running()?;
            Ok(self.telegram.polls() > polls || bot.process.log().contains("\"polling\""))
        })
        .await
        .with_context(|| bot.process.log_tail())?;
        Ok(bot)
    }

    /// Somebody sends something; gives the message that answers it.
    pub async fn reply(&self, update: Value) -> Result<TelegramCall> {
        let sent =
            || self.telegram.calls_of("sendMessage").into_iter().filter(|call| call.status == 200).count();
        let before = sent();
        self.telegram.push(update);
        self.telegram.wait_for_call("sendMessage", before + 1, DEADLINE).await
    }

    /// Starts the bot, and waits for nothing.
    pub fn starting_bot(&self) -> Result<Bot> {
        let http = port::free()?;
        Ok(Bot { process: self.program(http).spawn(&["run"])?, http })
    }
}

/// A bot that runs.
pub struct Bot {
    pub process: Process,
    pub http: SocketAddr,
}

impl Bot {
    /// The status and the body of a GET.
    pub async fn status(&self, path: &str) -> Result<(u16, String)> {
        let response = harness::http::get(self.http, path).await?;
        Ok((response.status, response.body))
    }

    pub async fn metric(&self, name: &str) -> Result<f64> {
        let page = self.status("/metrics").await?.1;
        Ok(harness::http::metric(&page, name).unwrap_or_default())
    }

    /// Waits until `/ready` has this status and text.
    pub async fn wait_until_ready_says(&self, status: u16, text: &str) -> Result<()> {
        let what = format!("/ready is {status} and says `{text}`");
        wait_until(&what, DEADLINE, async || {
            Ok(self.status("/ready").await.is_ok_and(|(found, body)| found == status && body.contains(text)))
        })
        .await
        .with_context(|| self.process.log_tail())
    }
}

/// A message in the private chat 5 of the user 7.
pub fn message(update_id: i64, text: &str) -> Value {
    message_in(update_id, &json!({ "id": 5, "type": "private", "first_name": "Ivan" }), text)
}

/// A message in a chat.
pub fn message_in(update_id: i64, chat: &Value, text: &str) -> Value {
    let command = text.split(char::is_whitespace).next().unwrap_or_default();
    let length = command.encode_utf16().count();
    let entities = if command.starts_with('/') {
        json!([{ "type": "bot_command", "offset": 0, "length": length }])
    } else {
        json!([])
    };
    json!({ "update_id": update_id, "message": {
        "message_id": update_id, "date": 1_790_000_000, "from": user(), "chat": chat, "text": text, "entities": entities } })
}

/// A button under the message 77 of chat 5.
pub fn pressed(update_id: i64, data: &str) -> Value {
    json!({ "update_id": update_id, "callback_query": {
        "id": format!("cb{update_id}"), "from": user(), "chat_instance": "1", "data": data,
        "message": { "message_id": 77, "date": 1_790_000_000, "chat": { "id": 5, "type": "private" }, "text": "x" } } })
}

fn user() -> Value {
    json!({ "id": 7, "is_bot": false, "first_name": "Ivan", "last_name": "P", "username": "ivan" })
}

/// A package as the database has it.
pub fn package(id: u64) -> Value {
    json!({ "ID": id, "Title": format!("Ящик {id}"), "Material": "Картон", "MaximumVolume": 750, "Reusable": true })
}
