//! A package API that fails, or is slow: what people are told.

use anyhow::Result;
use harness::wait_until;
use tonic::Code;

use crate::support::{DEADLINE, World, message, package, pressed};

const NEW: &str = "/new__logistic__package название=a; материал=b; объём=5; многоразовая=да";

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_the_service_is_told_as_what_it_is() -> Result<()> {
    let mut world = World::new().await?;
    // A quarter of it goes to a service that is away.
    world.set("PACKAGE_BOT_CALL_TIMEOUT_MS", "10000");
    world.package_api.insert(&package(1)).await?;
    let bot = world.bot().await?;
    let mut update_id = 0;
    let mut ask = async |text: &str| {
        update_id += 1;
        anyhow::Ok(world.reply(message(update_id, text)).await?.text("text").to_owned())
    };

    // A restart of the server is not noticed.
    world.calls.fail("DescribePackageV1", Code::Unavailable, "", 2);
    assert!(ask("/get 1").await?.starts_with("Название: Ящик 1"));
    let first: Vec<_> = world.calls.calls();
    assert_eq!(first.len(), 3, "two tries more");

    world.calls.fail("ListPackagesV1", Code::Unavailable, "", usize::MAX);
    let text = ask("/list").await?;
    assert!(
        text.contains("Ошибка сервиса") && text.contains("позже") && !text.contains("Некорректный"),
        "{text}"
    );

    world.calls.fail("CreatePackageV1", Code::DeadlineExceeded, "", 1);
    let text = ask(NEW).await?;
    assert!(text.contains("Ошибка сервиса") && text.contains("неизвестно"), "{text}");

    world.calls.fail("CreatePackageV1", Code::InvalidArgument, "MaximumVolume", 1);
    assert_eq!(ask(NEW).await?, "Некорректный аргумент: \"Объём\"");

    world.calls.fail("RemovePackageV1", Code::Internal, "the database is on fire", 1);
    let text = ask("/delete 1").await?;
    assert!(text.contains("Ошибка сервиса") && !text.contains("fire"), "{text}");
    let trace_id = text.rsplit(' ').next().unwrap_or_default();
    let call = world.calls.calls().pop().unwrap();
    assert!(trace_id.len() == 32 && call.metadata["traceparent"].contains(trace_id), "{text}");
    assert!(bot.process.log().contains(trace_id), "the code that people quote is in the log");

    assert_eq!(ask("/delete 77").await?, "Упаковка [id=77] не найдена");
    assert_eq!(ask("/edit 77; объём=5").await?, "Упаковка [id=77] не найдена");
    assert_eq!(ask("/get 77").await?, "Упаковка [id: 77] не найдена");

    world.calls.fail("DescribePackageV1", Code::Unauthenticated, "", 1);
    assert!(ask("/get 78").await?.contains("Ошибка сервиса"));
    bot.wait_until_ready_says(503, "grpc-auth-token").await?;
    assert!(bot.process.log().contains("refuses the bot"));
    ask("/get 1").await?;
    assert!(ask("/get 79").await?.contains("не найдена"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_call_shows_that_it_is_worked_on_and_holds_up_nobody_else() -> Result<()> {
    let world = World::new().await?;
    let _bot = world.bot().await?;
    let slow = world.calls.hold("DescribePackageV1");
    world.telegram.push(message(1, "/get 5"));
    wait_until("the slow call is under way", DEADLINE, async || Ok(!world.calls.calls().is_empty())).await?;

    let other = serde_json::json!({ "id": 6, "type": "private", "first_name": "Anna" });
    let reply = world.reply(crate::support::message_in(2, &other, "/start")).await?;
    assert_eq!(reply.params["chat_id"], 6);
    // The same chat waits for its turn.
    world.telegram.push(message(3, "/start"));
    world.telegram.wait_for_call("sendChatAction", 1, DEADLINE).await?;
    assert_eq!(world.telegram.calls_of("sendMessage").len(), 1, "nobody has overtaken it");
    drop(slow);
    let answer = world.telegram.wait_for_call("sendMessage", 2, DEADLINE).await?;
    assert!(answer.text("text").contains("не найдена"), "{answer:?}");
    world.telegram.wait_for_call("sendMessage", 3, DEADLINE).await?;
    world.telegram.wait_until_confirmed(DEADLINE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_bring_a_key_a_trace_and_the_token() -> Result<()> {
    let mut world = World::new().await?;
    world.set("PACKAGE_BOT_GRPC_AUTH_TOKEN", "hunter2");
    let _bot = world.bot().await?;
    assert!(world.reply(message(41, NEW)).await?.text("text").starts_with("Добавлена"));
    world.telegram.push(pressed(42, "logistic__package__list__{\"offset\":0}"));
    world.telegram.wait_for_call("editMessageText", 1, DEADLINE).await?;
    let calls = world.calls.calls();
    assert_eq!(calls[0].metadata["idempotency-key"], "tgbot-1-41");
    assert!(!calls[1].metadata.contains_key("idempotency-key"), "reading changes nothing");
    for call in &calls {
        assert_eq!(call.metadata["authorization"], "Bearer hunter2");
        assert_eq!(call.metadata["traceparent"].len(), 55);
        assert!(call.metadata.contains_key("grpc-timeout"));
    }
    Ok(())
}
