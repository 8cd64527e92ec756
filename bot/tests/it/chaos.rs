//! Thousands of updates while the bot is killed, and Redis, Kafka and the package API go away, in turn.
//!
//! What must hold at the end: every update was answered at least once, each change that was confirmed to somebody was made
//! exactly once, and nothing was made that nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{FakeTelegram, PrivateKafka, Proxy, port, wait_until};
use serde_json::json;

use crate::support::{Bot, DEADLINE, World, message_in, package};

const CHATS: i64 = 40;
/// `CHAOS_UPDATES` asks for more.
const UPDATES: i64 = 2_000;
/// Of all of it, on a slow machine.
const CHAOS_DEADLINE: Duration = Duration::from_secs(480);
/// Answers between two faults, and while something is away: so that there is work in every state.
const ANSWERS: usize = 25;

/// What the updates ask for. Titles are unique, so that each change can be found.
fn text(id: i64) -> String {
    match id % 4 {
        0 | 1 => format!("/new__logistic__package название=p{id}; материал=m; объём=5; многоразовая=да"),
        // Each has its own package.
        2 => format!("/edit__logistic__package {id}; название=e{id}"),
        _ => format!("/delete__logistic__package {id}"),
    }
}

fn chat(id: i64) -> i64 {
    100 + id % CHATS
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_each_change_is_made_once_and_each_update_answered() -> Result<()> {
    let updates = std::env::var("CHAOS_UPDATES").ok().and_then(|count| count.parse().ok()).unwrap_or(UPDATES);
    // Clients stay on the way that is cut: the broker names it to them.
    let listener = port::free()?;
    let kafka = Proxy::start(listener).await?;
    let broker = PrivateKafka::start_behind(listener.port(), kafka.addr().port()).await?;
    let mut world = World::on(broker.brokers()).await?;
    fill(&world, updates).await?;
    world.set("PACKAGE_BOT_KAFKA_BROKERS", kafka.addr().to_string());
    // While the package API is away nobody is to wait for long.
    world.set("PACKAGE_BOT_CALL_TIMEOUT_MS", "20000");
    // What is logged of it all is not looked at.
    world.set("PACKAGE_BOT_LOG_LEVEL", "warn");
    let started = Instant::now();
    let mut bot = world.bot().await?;
    for id in 1..=updates {
        let chat = json!({ "id": chat(id), "type": "private" });
        world.telegram.push(message_in(id, &chat, &text(id)));
    }
    let mut kills = 0;
    while !world.telegram.unconfirmed().is_empty() {
        ensure!(
            started.elapsed() < CHAOS_DEADLINE,
            "not done: {} left\n{}",
            world.telegram.unconfirmed().len(),
            bot.process.log_tail()
        );
        kills += 1;
        bot = fault(kills, &mut world, &kafka, bot).await?;
        some_work(&world.telegram).await.with_context(|| bot.process.log_tail())?;
    }
    bot.process.terminate(Duration::from_secs(30)).await?;
    println!("{updates} updates in {:?}, {kills} faults", started.elapsed());
    ensure!(kills >= 4, "each fault must have its turn: more updates are needed");
    audit(&world, updates).await?;
    // The bot was not stopped by a Kafka that was away, and wrote again when it was back.
    ensure!(world.commands.ends().await?.values().sum::<i64>() > updates / 2, "too few records");
    Ok(())
}

/// Packages for edits and removals, each with the id of its update.
async fn fill(world: &World, updates: i64) -> Result<()> {
    world.package_api.insert(&package(1)).await?;
    let sql = format!(
        "insert into package(package_id, title, material, max_volume, reusable, created_at) \
         select id, 't' || id, 'm', 5, true, now() from generate_series(2, {updates}) as id; \
         alter sequence package_package_id_seq restart with 1000000"
    );
    world.package_api.database.execute(&sql).await
}

async fn fault(nth: u32, world: &mut World, kafka: &Proxy, mut bot: Bot) -> Result<Bot> {
    match nth % 4 {
        1 => {
            bot.process.kill()?;
            bot = world.bot().await?;
        }
        2 => {
            world.redis.kill()?;
            some_work(&world.telegram).await?;
            world.redis.start_again().await?;
        }
        3 => {
            world.package_api.process.kill()?;
            world.package_api.start_again().await?;
        }
        _ => {
            kafka.refuse();
            some_work(&world.telegram).await?;
            kafka.heal();
        }
    }
    Ok(bot)
}

/// Waits until some are answered, or none is left to be.
async fn some_work(telegram: &FakeTelegram) -> Result<()> {
    let answered = || telegram.calls_of("sendMessage").into_iter().filter(|call| call.status == 200).count();
    let enough = answered() + ANSWERS;
    wait_until("some are answered", CHAOS_DEADLINE, async || {
        Ok(answered() >= enough || telegram.unconfirmed().is_empty())
    })
    .await
}

async fn audit(world: &World, updates: i64) -> Result<()> {
    let mut answers: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for call in world.telegram.calls_of("sendMessage").into_iter().filter(|call| call.status == 200) {
        let chat = call.params["chat_id"].as_i64().unwrap_or_default();
        answers.entry(chat).or_default().push(call.text("text").to_owned());
    }
    let created =
        changes(world, "select payload->>'Title' from package_event where event_type = 'Created'").await?;
    let updated =
        changes(world, "select package_id::text from package_event where event_type = 'Updated'").await?;
    let removed =
        changes(world, "select package_id::text from package_event where event_type = 'Removed'").await?;
    // Exactly once.
    for (what, made) in [("created", &created), ("updated", &updated), ("removed", &removed)] {
        let unique: BTreeSet<_> = made.iter().collect();
        ensure!(unique.len() == made.len(), "{} were {what} more than once", made.len() - unique.len());
    }
    let mut unknown = 0;
    for chat_id in 100..100 + CHATS {
        let ids: Vec<i64> = (1..=updates).filter(|id| chat(*id) == chat_id).collect();
        let told = answers.get(&chat_id).map(Vec::as_slice).unwrap_or_default();
        // A repetition is answered again.
        ensure!(told.len() >= ids.len(), "chat {chat_id}: {} updates, {} answers", ids.len(), told.len());
        for id in ids {
            unknown += u32::from(!is_told_truly(id, told, &created, &updated, &removed)?);
        }
    }
    println!(
        "{} created, {} updated, {} removed; {unknown} whose fate was said to be unknown",
        created.len(),
        updated.len(),
        removed.len()
    );
    ensure!(i64::from(unknown) < updates / 2, "most must succeed, or nothing is proved");
    Ok(())
}

async fn changes(world: &World, sql: &'static str) -> Result<Vec<String>> {
    Ok(world
        .package_api
        .database
        .client()
        .await?
        .query(sql, &[])
        .await?
        .iter()
        .map(|row| row.get(0))
        .collect())
}

/// Whether an update's change was confirmed, and then was made. One that was not confirmed must have been answered as failed.
fn is_told_truly(
    id: i64,
    told: &[String],
    created: &[String],
    updated: &[String],
    removed: &[String],
) -> Result<bool> {
    let (confirmation, made) = match id % 4 {
        0 | 1 => return Ok(created.contains(&format!("p{id}"))),
        2 => (format!("Упаковка ID={id} успешно отредактирована"), updated.contains(&id.to_string())),
        _ => (format!("Упаковка ID={id} успешно удалена"), removed.contains(&id.to_string())),
    };
    let confirmed = told.contains(&confirmation);
    ensure!(!confirmed || made, "{confirmation}: it was not");
    Ok(confirmed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_confirmed_creation_is_a_package() -> Result<()> {
    let world = World::new().await?;
    let mut bot = world.bot().await?;
    let updates = 60;
    for id in 1..=updates {
        let text = format!("/new__logistic__package название=p{id}; материал=m; объём=5; многоразовая=нет");
        world.telegram.push(message_in(id, &json!({ "id": chat(id), "type": "private" }), &text));
    }
    for _ in 0..2 {
        some_work(&world.telegram).await?;
        bot.process.kill()?;
        bot = world.bot().await?;
    }
    world.telegram.wait_until_confirmed(DEADLINE).await?;
    let told: BTreeSet<_> =
        world.telegram.calls_of("sendMessage").iter().map(|call| call.text("text").to_owned()).collect();
    let rows =
        world.package_api.database.client().await?.query("select package_id from package", &[]).await?;
    let there: BTreeSet<_> =
        rows.iter().map(|row| format!("Добавлена новая упаковка [id: {}]", row.get::<_, i64>(0))).collect();
    assert_eq!(told, there, "the packages are those of which people were told");
    assert_eq!(there.len(), usize::try_from(updates)?);
    Ok(())
}
