//! The Telegram bot: what it holds, and how long people wait for it, beside a direct call of the package API.
//!
//! A Bot API in this process gives it updates of a thousand chats at a steady rate, whether it keeps up or not, and a
//! client makes the same calls directly meanwhile. Each update must be answered, in the order of its chat.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::program::sibling;
use harness::telegram::Call as Sent;
use harness::{Database, FakeTelegram, PrivateRedis, Process, Program, Topic, http, port, wait_until};
use logistic_package_proto::package_api::logistic_package_api_service_client::LogisticPackageApiServiceClient;
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

use crate::section::{Section, Table, percentile};
use crate::server::{Call, PACKAGES, fill, serve};
use crate::{Bench, cpu};

/// People, each in a chat of their own.
const CHATS: usize = 1_000;
/// How long it stands idle.
const IDLE: Duration = Duration::from_secs(10);
/// How long updates come.
const LASTS: Duration = Duration::from_secs(30);
/// Updates a second.
const RATES: [u32; 2] = [100, 1_000];
/// Updates are handed over so often: a person does not care, and at the highest rate five come at once.
const TICK: Duration = Duration::from_millis(5);
/// Between two direct calls: few, beside those of the bot.
const BETWEEN_CALLS: Duration = Duration::from_millis(20);
/// For what is behind at the end.
const DEADLINE: Duration = Duration::from_secs(120);

/// What people ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// A package that is not in the cache: a call each.
    Get,
    /// A new package: a call, a row with its event, and a description for the cache.
    New,
}

impl Asked {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "`/get`, not cached",
            Self::New => "`/new`",
        }
    }

    fn text(self, nth: u64) -> String {
        match self {
            Self::Get => format!("/get {}", 1 + nth * 7_919 % PACKAGES),
            Self::New => format!("/new название=p{nth}; материал=картон; объём=700,5; многоразовая=да"),
        }
    }

    fn call(self) -> Call {
        match self {
            Self::Get => Call::Describe,
            Self::New => Call::Create,
        }
    }
}

/// The bot and all that it needs.
struct World {
    telegram: FakeTelegram,
    _redis: PrivateRedis,
    api: Process,
    grpc: String,
    bot: Process,
    _topics: [Topic; 3],
    _database: Database,
}

/// What came of a load.
struct Measured {
    waited_ms: Vec<f64>,
    direct_ms: Vec<f64>,
    rate: f64,
    /// CPU seconds a second: of the bot, the package API, and this process, which is people and Telegram.
    cpu: [f64; 3],
    peak_bytes: u64,
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    let idle = idle(bench).await?;
    println!("  idle: {idle}");
    let columns = [
        "asked",
        "updates/s",
        "answered/s",
        "p50 ms",
        "p99 ms",
        "direct p50",
        "direct p99",
        "bot's CPU",
        "API's CPU",
        "peak RSS",
    ];
    let mut table = Table::new(&columns);
    for asked in [Asked::Get, Asked::New] {
        for rate in RATES {
            let measured = load(bench, asked, rate).await?;
            let row = measured.row(asked, rate);
            println!("  {}", row.join(" | "));
            table.row(row);
        }
    }
    Ok(Section {
        name: "bot".into(),
        title: "The Telegram bot".into(),
        text: format!(
            "Updates of {CHATS} chats at a steady rate for {} s, from when the Bot API has one to when it has the reply; \
             beside them the same calls, made directly, every {} ms. Every update was answered. Bot, package API, \
             Postgres, Redis, Kafka, and the Bot API with its people (which takes about as much CPU as the bot) share the \
             machine. CPU: of one core. Idle: {idle}.",
            LASTS.as_secs(),
            BETWEEN_CALLS.as_millis()
        ),
        tables: vec![table],
        plots: Vec::new(),
    })
}

impl Measured {
    fn row(&self, asked: Asked, rate: u32) -> [String; 10] {
        let ms = |values: &[f64], share| format!("{:.1}", percentile(values, share));
        [
            asked.name().to_owned(),
            rate.to_string(),
            format!("{:.0}", self.rate),
            ms(&self.waited_ms, 0.5),
            ms(&self.waited_ms, 0.99),
            ms(&self.direct_ms, 0.5),
            ms(&self.direct_ms, 0.99),
            format!("{:.0} %", self.cpu[0] * 100.0),
            format!("{:.0} %", self.cpu[1] * 100.0),
            format!("{} MiB", self.peak_bytes >> 20),
        ]
    }
}

/// Memory and CPU of a bot that nobody writes to.
async fn idle(bench: &Bench) -> Result<String> {
    let world = World::start(bench).await?;
    let before = cpu::of_process(world.bot.id())?;
    tokio::time::sleep(IDLE).await;
    let used = (cpu::of_process(world.bot.id())? - before) / IDLE.as_secs_f64() * 100.0;
    Ok(format!("{} MiB, {used:.1} % of a core", world.bot.memory("VmRSS")? >> 20))
}

async fn load(bench: &Bench, asked: Asked, rate: u32) -> Result<Measured> {
    let world = World::start(bench).await?;
    let processes = [world.bot.id(), world.api.id(), std::process::id()];
    let cpu = || processes.iter().map(|id| cpu::of_process(*id)).collect::<Result<Vec<_>>>();
    let (before, started) = (cpu()?, Instant::now());
    let direct = tokio::spawn(call_directly(world.grpc.clone(), asked.call(), started));
    let pushed = push(&world.telegram, asked, rate).await;
    let within = LASTS + DEADLINE;
    world
        .telegram
        .wait_for_call("sendMessage", pushed.len(), within)
        .await
        .with_context(|| world.bot.log_tail())?;
    let (lasted, after) = (started.elapsed().as_secs_f64(), cpu()?);
    let of = |nth: usize| (after[nth] - before[nth]) / lasted;
    Ok(Measured {
        waited_ms: waited(&pushed, &world.telegram.calls_of("sendMessage"))?,
        direct_ms: direct.await??,
        rate: u32::try_from(pushed.len()).map(f64::from)? / lasted,
        cpu: [of(0), of(1), of(2)],
        peak_bytes: world.bot.memory("VmHWM")?,
    })
}

/// Hands over updates at a steady rate; gives when each came, the first being that of chat 1.
async fn push(telegram: &FakeTelegram, asked: Asked, rate: u32) -> Vec<Instant> {
    let (started, mut pushed, mut ticks) = (Instant::now(), Vec::new(), tokio::time::interval(TICK));
    while started.elapsed() < LASTS {
        ticks.tick().await;
        let due = started.elapsed().mul_f64(f64::from(rate)).as_secs();
        while (pushed.len() as u64) < due {
            let nth = pushed.len();
            pushed.push(Instant::now());
            telegram.push(update(nth, &asked.text(nth as u64)));
        }
    }
    pushed
}

fn update(nth: usize, text: &str) -> Value {
    let chat = 1 + nth % CHATS;
    let command = text.split(' ').next().unwrap_or_default().len();
    json!({ "update_id": 1 + nth, "message": {
        "message_id": 1 + nth, "date": 1_790_000_000,
        "from": { "id": chat, "is_bot": false, "first_name": "Ivan", "username": "ivan" },
        "chat": { "id": chat, "type": "private", "first_name": "Ivan" },
        "text": text, "entities": [{ "type": "bot_command", "offset": 0, "length": command }] } })
}

/// How long each update waited for its reply, sorted. In a chat replies come in the order of its updates.
fn waited(pushed: &[Instant], sent: &[Sent]) -> Result<Vec<f64>> {
    ensure!(pushed.len() == sent.len(), "{} updates, {} replies", pushed.len(), sent.len());
    let mut replies: HashMap<usize, VecDeque<&Sent>> = HashMap::new();
    for reply in sent {
        let good = ["Название: ", "Добавлена новая упаковка"]
            .iter()
            .any(|start| reply.text("text").starts_with(start));
        ensure!(good && reply.status == 200, "an update was answered with {reply:?}");
        let chat = reply.params["chat_id"].as_u64().context("chat_id")?;
        replies.entry(usize::try_from(chat)?).or_default().push_back(reply);
    }
    let mut waited = Vec::new();
    for (nth, at) in pushed.iter().enumerate() {
        let reply = replies.get_mut(&(1 + nth % CHATS)).and_then(VecDeque::pop_front).context("no reply")?;
        waited.push(reply.at.saturating_duration_since(*at).as_secs_f64() * 1_000.0);
    }
    waited.sort_by(f64::total_cmp);
    Ok(waited)
}

/// Milliseconds that each call took, sorted.
async fn call_directly(grpc: String, call: Call, started: Instant) -> Result<Vec<f64>> {
    let channel: Channel = Endpoint::from_shared(grpc)?.tcp_nodelay(true).connect().await?;
    let mut client = LogisticPackageApiServiceClient::new(channel);
    let (mut took, mut ticks) = (Vec::new(), tokio::time::interval(BETWEEN_CALLS));
    while started.elapsed() < LASTS {
        ticks.tick().await;
        let before = Instant::now();
        call.make(&mut client, 1 + took.len() as u64 * 104_729 % PACKAGES).await?;
        took.push(before.elapsed().as_secs_f64() * 1_000.0);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

impl World {
    /// All of it, fresh, and a bot that polls.
    async fn start(bench: &Bench) -> Result<Self> {
        let database = Database::fresh(&bench.stack.database_url).await?;
        let (api, grpc) = serve(&database).await?;
        fill(&database).await?;
        let (telegram, redis) = (FakeTelegram::start().await?, PrivateRedis::start().await?);
        let topics = [bench.topic().await?, bench.topic().await?, bench.topic().await?];
        let http_addr = port::free()?;
        let mut bot = Program::new(sibling("package-bot")?)
            .env("PACKAGE_BOT_TELEGRAM_TOKEN", telegram.token())
            .env("PACKAGE_BOT_TELEGRAM_API_URL", telegram.url())
            .env("PACKAGE_BOT_GRPC_URL", &grpc)
            .env("PACKAGE_BOT_REDIS_URL", redis.direct_url())
            .env("PACKAGE_BOT_KAFKA_BROKERS", &bench.stack.brokers)
            .env("PACKAGE_BOT_COMMANDS_TOPIC", &topics[0].name)
            .env("PACKAGE_BOT_CACHE_EVENTS_TOPIC", &topics[1].name)
            .env("PACKAGE_BOT_PACKAGE_EVENTS_TOPIC", &topics[2].name)
            .env("PACKAGE_BOT_KAFKA_GROUP", &topics[0].name)
            .env("PACKAGE_BOT_HTTP_ADDR", http_addr.to_string())
            .spawn(&["run"])?;
        wait_until("the bot polls", Duration::from_secs(30), async || {
            bot.expect_running()?;
            let ready = http::get(http_addr, "/ready").await;
            Ok(ready.is_ok_and(|ready| ready.status == 200 && !ready.body.contains("missing")))
        })
        .await
        .with_context(|| bot.log_tail())?;
        Ok(Self { telegram, _redis: redis, api, grpc, bot, _topics: topics, _database: database })
    }
}
