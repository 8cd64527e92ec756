//! The cases of `cases.json`, each in a world of its own.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use futures::stream;
use harness::{Received, Topic};
use serde_json::{Value, json};

use crate::expect::{all, matches};
use crate::support::{Bot, DEADLINE, World, package};

/// Everything that happens until it is quiet for so long belongs to a step.
const QUIET: Duration = Duration::from_millis(300);
/// A machine that does other things as well takes so many times longer than the cases allow; who waits for a server that
/// is away takes longer still.
const PATIENCE: u32 = 4;
/// What the bot may call at any time.
const ANY_TIME: [&str; 11] = [
    "getMe",
    "getUpdates",
    "getWebhookInfo",
    "deleteWebhook",
    "getMyCommands",
    "setMyCommands",
    "setMyDescription",
    "setMyShortDescription",
    "sendChatAction",
    "answerCallbackQuery",
    "",
];

/// A case that is under way.
struct Run {
    world: World,
    bot: Option<Bot>,
    seen: Seen,
    /// The bot is to be killed when the next change is made.
    kill_at_change: bool,
    /// Idempotency keys of the step before.
    keys: Vec<String>,
    pushed: Instant,
}

/// What belongs to earlier steps.
#[derive(Default)]
struct Seen {
    telegram: usize,
    grpc: usize,
    commands: usize,
    cache_events: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn people_see_what_the_cases_say() -> Result<()> {
    let text = include_str!("../cases.json");
    let cases: Value = serde_json::from_str(text)?;
    let cases = cases["cases"].as_array().context("cases")?.clone();
    ensure!(!cases.is_empty(), "there are no cases");
    // Each has servers of its own, and waits most of the time.
    let running = cases.iter().map(async |case| (case, Instant::now(), run(case).await));
    let mut running = stream::iter(running).buffer_unordered(6);
    let mut failed = Vec::new();
    while let Some((case, started, outcome)) = running.next().await {
        let name =
            format!("{} {}", case["id"].as_str().unwrap_or("?"), case["title"].as_str().unwrap_or("?"));
        match outcome {
            Ok(()) => println!("ok: {name} ({:?})", started.elapsed()),
            Err(error) => failed.push(format!("{name}: {error:#}")),
        }
    }
    ensure!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
    Ok(())
}

async fn run(case: &Value) -> Result<()> {
    let world = World::new().await?;
    given(&world, &case["given"]).await?;
    let bot = Some(world.bot().await?);
    let mut run = Run {
        world,
        bot,
        seen: Seen::default(),
        kill_at_change: false,
        keys: Vec::new(),
        pushed: Instant::now(),
    };
    for (nth, step) in case["steps"].as_array().context("steps")?.iter().enumerate() {
        run.step(step).await.with_context(|| format!("step {}", nth + 1))?;
    }
    Ok(())
}

async fn given(world: &World, given: &Value) -> Result<()> {
    for package in given["packages"].as_array().into_iter().flatten() {
        world.package_api.insert(package).await?;
    }
    if let Some(id) = given["next_id"].as_u64() {
        world.package_api.next_id(id).await?;
    }
    for (key, value) in given["redis"].as_object().into_iter().flatten() {
        world.redis.set(key, value.as_str().context("a text")?).await?;
    }
    Ok(())
}

impl Run {
    async fn step(&mut self, step: &Value) -> Result<()> {
        if let Some(fault) = step["fault"].as_str() {
            return self.fault(fault).await;
        }
        ensure!(step["update"].is_object(), "a step of another kind: {step}");
        let held = self.kill_at_change.then(|| self.world.calls.hold_next_change());
        self.pushed = Instant::now();
        self.world.telegram.push_unasked(step["update"].clone());
        if let Some(made) = held {
            tokio::time::timeout(DEADLINE, made.notified()).await.context("the change is made")?;
            self.bot.take().context("a bot")?.process.kill()?;
            self.kill_at_change = false;
        }
        self.wait_until_it_is_as(&step["expect"]).await?;
        self.settle().await
    }

    async fn fault(&mut self, fault: &str) -> Result<()> {
        match fault {
            "redis_down" => self.world.redis.proxy().refuse(),
            "redis_up" => self.world.redis.proxy().heal(),
            "kill_before_reply" => self.kill_at_change = true,
            "start_again" => self.bot = Some(self.world.bot().await?),
            other => bail!("no fault {other}"),
        }
        Ok(())
    }

    /// It must be so, and stay so until it is quiet.
    async fn wait_until_it_is_as(&mut self, expected: &Value) -> Result<()> {
        let started = Instant::now();
        loop {
            let mut judged = self.judge(expected).await;
            if judged.is_ok() {
                tokio::time::sleep(QUIET).await;
                judged = self.judge(expected).await.context("after it was quiet");
            }
            if judged.is_ok() {
                return Ok(());
            }
            // What is too much stays; a server that is slow to say may answer yet.
            if started.elapsed() > DEADLINE {
                return judged;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn judge(&mut self, expected: &Value) -> Result<()> {
        let list = |name: &str| expected[name].as_array().cloned().unwrap_or_default();
        let calls: Vec<_> = self.world.telegram.calls().split_off(self.seen.telegram);
        let expects_answers = list("telegram").iter().any(|call| call["method"] == "answerCallbackQuery");
        let told: Vec<_> = calls
            .iter()
            .filter(|call| {
                !ANY_TIME.contains(&call.method.as_str())
                    || (expects_answers && call.method == "answerCallbackQuery")
            })
            .collect();
        all(&list("telegram"), &told, !expects_answers, |expected, call| {
            ensure!(expected["method"] == call.method, "{} is not {}", call.method, expected["method"]);
            ensure!(call.params.get("parse_mode").is_none(), "typed text must not be markup");
            matches(&expected["params"], &call.params)
        })
        .context("Telegram")?;
        let asked = self.world.calls.calls().split_off(self.seen.grpc);
        all(&list("grpc"), &asked, false, |expected, call| {
            ensure!(expected["method"] == call.method, "{} is not {}", call.method, expected["method"]);
            matches(&expected["request"], &call.request)
        })
        .context("gRPC")?;
        self.judge_records(&list("kafka")).await.context("Kafka")?;
        self.judge_cache(&expected["redis"]).await.context("Redis")?;
        let first = told.first().map(|call| call.at);
        self.judge_improved(&expected["improved"], first).await.context("improved")
    }

    async fn records(&self) -> Result<Vec<(&'static str, Received)>> {
        let mut records = Vec::new();
        let topics = [
            ("omp-tgbot-commands", &self.world.commands, self.seen.commands),
            ("omp-tgbot-cache-events", &self.world.cache_events, self.seen.cache_events),
        ];
        for (name, topic, seen) in topics {
            records.extend(topic.read_all().await?.into_iter().skip(seen).map(|record| (name, record)));
        }
        Ok(records)
    }

    async fn judge_records(&self, expected: &[Value]) -> Result<()> {
        let records = self.records().await?;
        all(expected, &records, false, |expected, (topic, record)| {
            ensure!(expected["topic"] == *topic, "{topic} is not {}", expected["topic"]);
            ensure!(record.header("ce_specversion") == Some("1.0"), "no CloudEvents headers");
            matches(&expected["value"], &serde_json::from_slice(&record.value)?)
        })
    }

    async fn judge_cache(&self, expected: &Value) -> Result<()> {
        for (key, expected) in expected.as_object().into_iter().flatten() {
            let found = self.world.redis.get(key).await?;
            let found_package = found.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok());
            match expected {
                Value::Null => ensure!(found.is_none(), "{key} is there: {found:?}"),
                expected if expected["not_a_package"] == true => {
                    ensure!(found_package.is_none(), "{key} is {found:?}")
                }
                expected => matches(expected, &found_package.unwrap_or_default())?,
            }
        }
        Ok(())
    }

    async fn judge_improved(&mut self, expected: &Value, first: Option<Instant>) -> Result<()> {
        let asked = self.world.calls.calls().split_off(self.seen.grpc);
        for (method, metadata) in expected["grpc_metadata"].as_object().into_iter().flatten() {
            let call = asked.iter().find(|call| call.method == method).context("no such call")?;
            matches(metadata, &json!(call.metadata))?;
        }
        let keys: Vec<_> =
            asked.iter().filter_map(|call| call.metadata.get("idempotency-key").cloned()).collect();
        if expected["grpc_metadata_equal"].is_array() {
            ensure!(
                !keys.is_empty() && keys.iter().chain(&self.keys).all(|key| *key == keys[0]),
                "{keys:?} {:?}",
                self.keys
            );
        }
        if let (Some(within), Some(first)) = (expected["reply_within_ms"].as_u64(), first) {
            let took = first - self.pushed;
            ensure!(took < Duration::from_millis(within) * PATIENCE, "the reply took {took:?}");
        }
        for (key, bounds) in expected["redis_ttl_s"].as_object().into_iter().flatten() {
            let ttl = self.world.redis.ttl(key).await?;
            ensure!(ttl >= bounds["min"].as_i64().unwrap_or(1), "{key} has {ttl} s");
        }
        if let Some(created) = expected["packages_created"].as_i64() {
            let found = self.world.package_api.count("select count(*) from package").await?;
            ensure!(found == created, "{found} packages");
        }
        for (topic, key) in expected["kafka_keys"].as_object().into_iter().flatten() {
            let records = self.records().await?;
            let wrong = records.iter().find(|(name, record)| name == topic && record.key_text() != *key);
            ensure!(wrong.is_none(), "{wrong:?}");
        }
        Ok(())
    }

    /// What has happened so far belongs to this step.
    async fn settle(&mut self) -> Result<()> {
        let asked = self.world.calls.calls();
        let of_step =
            asked[self.seen.grpc..].iter().filter_map(|call| call.metadata.get("idempotency-key").cloned());
        self.keys = of_step.collect();
        let count =
            async |topic: &Topic| anyhow::Ok(usize::try_from(topic.ends().await?.values().sum::<i64>())?);
        self.seen = Seen {
            telegram: self.world.telegram.calls().len(),
            grpc: asked.len(),
            commands: count(&self.world.commands).await?,
            cache_events: count(&self.world.cache_events).await?,
        };
        Ok(())
    }
}

#[test]
fn the_runner_notices_what_is_wrong() {
    let sent = json!({ "text": "a b", "chat_id": 5, "more": 1 });
    assert!(matches(&json!({ "text": { "contains": "b" }, "chat_id": "5" }), &sent).is_ok());
    for wrong in [
        json!({ "text": { "starts_with": "b" } }),
        json!({ "chat_id": 6 }),
        json!({ "absent": 1 }),
        json!({ "text": { "regex": "^b" } }),
    ] {
        assert!(matches(&wrong, &sent).is_err(), "{wrong}");
    }
    let judge = |expected: &Value, found: &Value| matches(expected, found);
    assert!(all(&[json!(1), json!(2)], &[json!(2), json!(1)], false, judge).is_ok());
    assert!(all(&[json!(1), json!(2)], &[json!(2), json!(1)], true, judge).is_err());
    assert!(all(&[json!(1)], &[json!(1), json!(1)], false, judge).is_err());
    assert!(all(&[json!(1)], &[], false, judge).is_err());
    assert_eq!(package(3)["ID"], 3);
}
