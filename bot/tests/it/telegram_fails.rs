//! A Telegram that refuses, throttles, is away, or has another poller.

use std::time::Duration;

use anyhow::Result;
use harness::telegram::Fault;
use serde_json::json;

use crate::support::{DEADLINE, World, message, message_in};

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_throttled_or_cut_off_comes_all_the_same() -> Result<()> {
    let world = World::new().await?;
    let _bot = world.bot().await?;
    world.telegram.order("sendMessage", 1, Fault::flood(1));
    world.reply(message(1, "/start")).await?;
    let calls = world.telegram.calls_of("sendMessage");
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(1), "it was asked to wait a second");

    world.telegram.order("sendMessage", 2, Fault::Html(502));
    world.reply(message(2, "/start")).await?;
    assert_eq!(world.telegram.calls_of("sendMessage").len(), 5, "tried again twice");

    let moved = json!({ "migrate_to_chat_id": -1009 });
    let fault = Fault::Refuse(400, "Bad Request: group chat was upgraded to a supergroup chat".into(), moved);
    world.telegram.order("sendMessage", 1, fault);
    let group = json!({ "id": -9, "type": "group", "title": "g" });
    assert_eq!(world.reply(message_in(3, &group, "/start")).await?.params["chat_id"], -1009);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_cannot_be_sent_is_given_up_and_holds_up_nobody() -> Result<()> {
    let world = World::new().await?;
    let bot = world.bot().await?;
    for (nth, fault) in [
        Fault::flood(8288),
        Fault::refuse(403, "Forbidden: bot was blocked by the user"),
        Fault::refuse(400, "Bad Request: message thread not found"),
    ]
    .into_iter()
    .enumerate()
    {
        world.telegram.order("sendMessage", 1, fault);
        world.telegram.push(message(1 + i64::try_from(nth)?, "/start"));
        world.telegram.wait_until_confirmed(DEADLINE).await?;
    }
    assert_eq!(world.telegram.calls_of("sendMessage").len(), 3, "each once");
    let log = bot.process.log();
    assert!(
        log.contains("message thread not found") && log.contains("sendMessage"),
        "what was refused is in the log"
    );
    assert_eq!(bot.metric("package_bot_updates_total{kind=\"message\",outcome=\"unwanted\"}").await?, 1.0);
    world.reply(message(9, "/start")).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_poller_makes_it_not_ready_until_it_is_alone_again() -> Result<()> {
    let world = World::new().await?;
    let bot = world.bot().await?;
    bot.wait_until_ready_says(200, "ready").await?;
    let conflict =
        "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
    world.telegram.order("getUpdates", 1000, Fault::refuse(409, conflict));
    world.telegram.poll_from_elsewhere();
    bot.wait_until_ready_says(503, "409").await?;
    world.telegram.recover("getUpdates");
    bot.wait_until_ready_says(200, "ready").await?;
    world.reply(message(1, "/start")).await?;
    Ok(())
}
