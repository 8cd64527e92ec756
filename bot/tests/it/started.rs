//! Starts without neighbours, and ends in the middle of work.

use anyhow::Result;
use harness::{FakeTelegram, PrivateKafka, Received, port, wait_until};

use crate::support::{DEADLINE, World, message, package};

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_kafka_and_the_service_it_starts_and_says_what_is_missing() -> Result<()> {
    let mut world = World::new().await?;
    world.set("PACKAGE_BOT_REDIS_URL", format!("redis://{}/0", port::free()?));
    world.set("PACKAGE_BOT_KAFKA_BROKERS", port::free()?.to_string());
    world.set("PACKAGE_BOT_GRPC_URL", format!("http://{}", port::free()?));
    world.set("PACKAGE_BOT_CALL_TIMEOUT_MS", "10000");
    let bot = world.bot().await?;
    assert!(world.reply(message(1, "/start")).await?.text("text").contains("/help__logistic__package"));
    assert!(world.reply(message(2, "/get 1")).await?.text("text").contains("Ошибка сервиса"));
    for missing in ["Redis", "Kafka", "package API"] {
        bot.wait_until_ready_says(200, missing).await?;
    }
    assert_eq!(bot.status("/live").await?.0, 200);
    assert!(bot.metric("package_bot_updates_total{kind=\"message\",outcome=\"answered\"}").await? >= 2.0);
    assert!(bot.metric("package_bot_last_poll_timestamp_seconds").await? > 1.0e9);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_kafka_does_not_take_are_counted_and_no_answer_waits_for_them() -> Result<()> {
    let mut world = World::new().await?;
    world.set("PACKAGE_BOT_KAFKA_BROKERS", port::free()?.to_string());
    world.set("PACKAGE_BOT_KAFKA_PROPERTY_MESSAGE_TIMEOUT_MS", "1000");
    let bot = world.bot().await?;
    world.reply(message(1, "/start")).await?;
    wait_until("the record is dropped, and counted", DEADLINE, async || {
        Ok(bot.metric("package_bot_records_dropped_total{topic=\"commands\"}").await? == 1.0)
    })
    .await?;
    world.telegram.wait_until_confirmed(DEADLINE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_finishes_and_confirms_what_was_taken() -> Result<()> {
    let mut world = World::new().await?;
    world.set("PACKAGE_BOT_DRAIN_TIMEOUT_MS", "60000");
    let mut bot = world.bot().await?;
    let answer = world.calls.hold("DescribePackageV1");
    world.telegram.push(message(1, "/get 5"));
    wait_until("it is under way", DEADLINE, async || Ok(!world.calls.calls().is_empty())).await?;
    bot.process.signal("TERM").await?;
    bot.wait_until_ready_says(503, "stopping").await?;
    bot.process.expect_running()?;
    drop(answer);
    let status = bot.process.exit(DEADLINE).await?;
    assert!(status.success(), "{status}");
    assert_eq!(world.telegram.calls_of("sendMessage").len(), 1, "what was begun is answered");
    assert!(world.telegram.unconfirmed().is_empty(), "{}", bot.process.log_tail());
    // Its records are in Kafka.
    assert_eq!(world.commands.read_all().await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_cannot_wait_leaves_the_update_to_the_next_start() -> Result<()> {
    let mut world = World::new().await?;
    world.set("PACKAGE_BOT_DRAIN_TIMEOUT_MS", "200");
    world.package_api.insert(&package(1)).await?;
    let mut bot = world.bot().await?;
    let made = world.calls.hold_next_change();
    world.telegram.push(message(1, "/delete 1"));
    tokio::time::timeout(DEADLINE, made.notified()).await?;
    bot.process.terminate(DEADLINE).await?;
    assert_eq!(world.telegram.unconfirmed(), [1]);
    let _next = world.bot().await?;
    // The change was made before; its repetition has the same answer.
    let reply = world.telegram.wait_for_call("sendMessage", 1, DEADLINE).await?;
    assert_eq!(reply.text("text"), "Упаковка ID=1 успешно удалена");
    assert_eq!(
        world.package_api.count("select count(*) from package_event where event_type = 'Removed'").await?,
        1
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_loses_no_record_that_kafka_was_about_to_take() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let world = World::on(kafka.brokers()).await?;
    let mut bot = world.bot().await?;
    // Its producer is known to the broker: records go out at once.
    world.reply(message(1, "/start")).await?;
    world.telegram.wait_until_confirmed(DEADLINE).await?;
    kafka.pause().await?;
    world.reply(message(2, "/start")).await?;
    // One that began behind the answer would confirm it.
    let polls = world.telegram.polls();
    wait_until("there was another poll", DEADLINE, async || Ok(world.telegram.polls() > polls)).await?;
    assert_eq!(world.telegram.unconfirmed(), [2], "it is answered, and its record is not written");
    bot.process.kill()?;
    kafka.resume().await?;
    let _next = world.bot().await?;
    let is_there = |record: &Received| record.header("ce_id") == Some("tgbot-1-2");
    world.commands.read_until("the record", DEADLINE, is_there).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_takes_nothing_keeps_no_update_from_being_confirmed() -> Result<()> {
    let kafka = PrivateKafka::start().await?;
    let world = World::on(kafka.brokers()).await?;
    let bot = world.bot().await?;
    kafka.pause().await?;
    for id in 1..=2 {
        world.reply(message(id, "/start")).await?;
        world.telegram.wait_until_confirmed(DEADLINE).await?;
    }
    assert_eq!(bot.process.log().matches("Kafka takes no records").count(), 1, "it is waited for once");
    kafka.resume().await?;
    // They were kept for it.
    assert_eq!(world.commands.read(2, DEADLINE).await?.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telegram_that_is_away_at_the_start_is_waited_for() -> Result<()> {
    let mut world = World::new().await?;
    let proxy = harness::Proxy::start(world.telegram.addr()).await?;
    proxy.refuse();
    world.set("PACKAGE_BOT_TELEGRAM_API_URL", format!("http://{}", proxy.addr()));
    let bot = world.starting_bot()?;
    bot.wait_until_ready_says(503, "Telegram").await?;
    proxy.heal();
    assert!(!world.reply(message(1, "/start")).await?.text("text").is_empty());
    bot.wait_until_ready_says(200, "ready").await
}

#[tokio::test]
async fn a_revoked_token_ends_it_with_1() -> Result<()> {
    let telegram = FakeTelegram::start().await?;
    let program = harness::Program::new(env!("CARGO_BIN_EXE_package-bot"))
        .env("TOKEN", telegram.token())
        .env("PACKAGE_BOT_TELEGRAM_API_URL", telegram.url())
        .env("PACKAGE_BOT_KAFKA_BROKERS", "127.0.0.1:1")
        .env("PACKAGE_BOT_REDIS_URL", "redis://127.0.0.1:1/0")
        .env("PACKAGE_BOT_HTTP_ADDR", port::free()?.to_string());
    let mut process = program.spawn(&["run"])?;
    wait_until("it polls", DEADLINE, async || Ok(process.log().contains("\"polling\""))).await?;
    telegram.revoke_token();
    telegram.push(message(1, "/start"));
    assert_eq!(process.exit(DEADLINE).await?.code(), Some(1));
    assert!(process.log().contains("refuses the token"));
    Ok(())
}
