//! Second part: a person talks to the Telegram bot, and the facade prints the event.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use harness::program::sibling;
use harness::{FakeTelegram, PrivateRedis, Process, Program, port, wait_for};
use serde_json::json;

use crate::screen::{Screen, human};
use crate::system::System;

/// A fresh consumer group takes some seconds until it reads.
const DEADLINE: Duration = Duration::from_secs(60);

const COMMAND: &str = "/new__logistic__package";
const FIELDS: &str = "название=Ведро; материал=пластик; объём=700.5; многоразовая=да";

/// What runs. Fields are dropped in their order: first who uses, then what is used.
struct Talk {
    bot: Process,
    facade: Process,
    telegram: FakeTelegram,
    _redis: PrivateRedis,
}

/// Has a package made by way of the bot; prints the reply, and the event as the facade prints it.
pub(crate) async fn talks(screen: &Screen, system: &System) -> Result<()> {
    screen.section("A person talks to the Telegram bot, and the facade prints the event");
    let mut talk = Talk::start(system).await?;
    screen.line("package-bot polls a Bot API of this program's own; package-facade reads the topic");
    let started = Instant::now();
    talk.say(&format!("{COMMAND} {FIELDS}"));
    screen.call(&format!("{COMMAND} {FIELDS}"));
    let reply = talk.telegram.wait_for_call("sendMessage", 1, DEADLINE).await;
    let reply = reply.with_context(|| format!("the bot has not answered\n{}", talk.bot.log_tail()))?;
    screen.line(&format!("the bot answers: {}  ({})", reply.text("text"), human(started.elapsed())));
    let printed = wait_for("the facade prints the event", DEADLINE, async || Ok(talk.printed())).await;
    let printed = printed.with_context(|| talk.facade.log_tail())?;
    screen.line("the facade prints:");
    for line in printed {
        screen.detail("", &line);
    }
    talk.bot.terminate(DEADLINE).await?;
    talk.facade.terminate(DEADLINE).await?;
    Ok(())
}

impl Talk {
    async fn start(system: &System) -> Result<Self> {
        let (telegram, redis) = (FakeTelegram::start().await?, PrivateRedis::start().await?);
        let (brokers, topic) = (&system.topic.brokers, &system.topic.name);
        let group = format!("{topic}-facade");
        let facade = Program::new(sibling("package-facade")?)
            .env("PACKAGE_FACADE_KAFKA_BROKERS", brokers)
            .env("PACKAGE_FACADE_GROUP", &group)
            .env("PACKAGE_FACADE_PACKAGE_EVENTS_TOPIC", topic)
            .env("PACKAGE_FACADE_HTTP_ADDR", port::free()?.to_string())
            .in_own_group()
            .spawn(&["run", "--commands-topic=", "--cache-events-topic="])?;
        // The bot's own records go nowhere here: the topic is that of events.
        let bot = Program::new(sibling("package-bot")?)
            .env("TOKEN", telegram.token())
            .env("PACKAGE_BOT_TELEGRAM_API_URL", telegram.url())
            .env("PACKAGE_BOT_GRPC_URL", format!("http://{}", system.grpc))
            .env("PACKAGE_BOT_REDIS_URL", redis.url())
            .env("PACKAGE_BOT_KAFKA_BROKERS", brokers)
            .env("PACKAGE_BOT_COMMANDS_TOPIC", format!("{topic}-commands"))
            .env("PACKAGE_BOT_CACHE_EVENTS_TOPIC", format!("{topic}-cache"))
            .env("PACKAGE_BOT_PACKAGE_EVENTS_TOPIC", topic)
            .env("PACKAGE_BOT_KAFKA_GROUP", format!("{topic}-bot"))
            .env("PACKAGE_BOT_HTTP_ADDR", port::free()?.to_string())
            .in_own_group()
            .spawn(&["run"])?;
        Ok(Self { bot, facade, telegram, _redis: redis })
    }

    /// As Telegram tells of a message with a command.
    fn say(&self, text: &str) {
        let command = json!([{ "type": "bot_command", "offset": 0, "length": COMMAND.len() }]);
        let from = json!({ "id": 7, "is_bot": false, "first_name": "Ivan" });
        self.telegram.push(json!({ "update_id": 1, "message": {
            "message_id": 1, "date": 1_790_000_000, "from": from, "chat": { "id": 7, "type": "private" },
            "text": text, "entities": command } }));
    }

    /// The record with the package's title, which ends with a brace at the margin.
    fn printed(&self) -> Option<Vec<String>> {
        let log = self.facade.log();
        let lines: Vec<_> = log.lines().collect();
        let title = lines.iter().position(|line| line.contains("Ведро"))?;
        let begin = lines[..title].iter().rposition(|line| *line == "{")?;
        let end = title + lines[title..].iter().position(|line| *line == "}")?;
        Some(lines[begin..=end].iter().map(|line| (*line).to_owned()).collect())
    }
}
