//! Groups, topics, buttons and the menu: where and how people are answered.

use anyhow::Result;
use harness::telegram::Fault;
use serde_json::json;

use crate::support::{DEADLINE, World, message, message_in, package, pressed};

#[tokio::test(flavor = "multi_thread")]
async fn in_groups_commands_are_answered_in_their_topic_and_nothing_else() -> Result<()> {
    let world = World::new().await?;
    let _bot = world.bot().await?;
    let group = json!({ "id": -1001, "type": "supergroup", "title": "g" });
    world.telegram.push(message_in(1, &group, "hello"));
    world.telegram.push(message_in(2, &group, "/list@other_bot"));
    world.telegram.push(message_in(3, &group, "/weather"));
    let mut in_topic = message_in(4, &group, "/list@OMP_bot");
    in_topic["message"]["message_thread_id"] = 17.into();
    in_topic["message"]["is_topic_message"] = true.into();
    let reply = world.reply(in_topic).await?;
    assert_eq!(reply.params["message_thread_id"], 17);
    assert_eq!(
        reply.params["reply_parameters"],
        json!({ "message_id": 4, "allow_sending_without_reply": true })
    );
    let mut thread = message_in(5, &group, "/start");
    thread["message"]["message_thread_id"] = 17.into();
    let reply = world.reply(thread).await?;
    assert!(reply.params.get("message_thread_id").is_none(), "a thread of replies is no topic");
    assert_eq!(world.telegram.calls_of("sendMessage").len(), 2);
    let reply = world.reply(message(6, "/start")).await?;
    assert!(reply.params.get("reply_parameters").is_none(), "in a private chat it is clear what is answered");
    assert_eq!(reply.params["link_preview_options"]["is_disabled"], true);
    // What was not answered is recorded all the same.
    assert_eq!(world.commands.read(6, DEADLINE).await?.len(), 6);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_button_is_always_answered() -> Result<()> {
    let world = World::new().await?;
    for id in 1..=7 {
        world.package_api.insert(&package(id)).await?;
    }
    let _bot = world.bot().await?;
    let page = |offset: i64| format!("logistic__package__list__{{\"offset\":{offset}}}");
    let answers = async |count| world.telegram.wait_for_call("answerCallbackQuery", count, DEADLINE).await;

    world.telegram.push(pressed(1, &page(5)));
    assert!(answers(1).await?.text("text").is_empty());
    // The same page once more: Telegram says that nothing is modified, which is fine.
    world.telegram.push(pressed(2, &page(5)));
    answers(2).await?;
    // A page past the end is the last one.
    world.telegram.push(pressed(3, &page(500)));
    answers(3).await?;
    world.telegram.wait_until_confirmed(DEADLINE).await?;
    assert_eq!(world.telegram.calls_of("sendMessage").len(), 0);
    let edits = world.telegram.calls_of("editMessageText");
    assert!(
        edits
            .iter()
            .all(|edit| edit.text("text").contains("7. Ящик 7 [id: 7]") && edit.params["message_id"] == 77)
    );

    // A message that cannot be edited is sent anew.
    world.telegram.order("editMessageText", 1, Fault::refuse(400, "Bad Request: message can't be edited"));
    let sent = world.reply(pressed(4, &page(0))).await?;
    assert!(sent.text("text").contains("1. Ящик 1 [id: 1]"));
    answers(4).await?;

    for (nth, odd) in
        ["logistic__package__list__nonsense", "demo__subdomain__list__{}", ""].into_iter().enumerate()
    {
        world.telegram.push(pressed(5 + i64::try_from(nth)?, odd));
        assert!(!answers(5 + nth).await?.text("text").is_empty());
    }
    let mut without_message = pressed(8, &page(0));
    without_message["callback_query"].as_object_mut().unwrap().remove("message");
    world.telegram.push(without_message);
    answers(8).await?;

    world.calls.fail("ListPackagesV1", tonic::Code::Internal, "", 1);
    world.telegram.push(pressed(9, &page(0)));
    let failed = answers(9).await?;
    assert!(failed.text("text").contains("Ошибка сервиса"), "{failed:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_menu_is_set_when_it_differs_and_a_webhook_goes() -> Result<()> {
    let world = World::new().await?;
    world.telegram.set_webhook("https://old.example/hook");
    drop(world.bot().await?);
    world.telegram.wait_for_call("deleteWebhook", 1, DEADLINE).await?;
    let menu = world.telegram.wait_for_call("setMyCommands", 1, DEADLINE).await?;
    let names: Vec<_> = menu.params["commands"]
        .as_array()
        .unwrap()
        .iter()
        .map(|command| command["command"].clone())
        .collect();
    assert!(names.contains(&json!("get__logistic__package")) && names.len() == 6, "{names:?}");
    let bot = world.bot().await?;
    world.reply(message(1, "/start")).await?;
    assert_eq!(world.telegram.calls_of("setMyCommands").len(), 1, "it is set already");
    drop(bot);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_those_on_the_list_may_change_packages() -> Result<()> {
    let mut world = World::new().await?;
    world.set("PACKAGE_BOT_ALLOWED_IDS", "8,-5");
    world.package_api.insert(&package(1)).await?;
    let _bot = world.bot().await?;
    let refused = world.reply(message(1, "/delete 1")).await?;
    assert!(
        refused.text("text").contains("не разрешено") && refused.text("text").contains("user 7"),
        "{refused:?}"
    );
    assert!(world.reply(message(2, "/get 1")).await?.text("text").contains("Ящик 1"));
    let group = json!({ "id": -5, "type": "group", "title": "g" });
    assert!(world.reply(message_in(3, &group, "/delete 1")).await?.text("text").contains("успешно удалена"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_answered_with_how_it_is_written() -> Result<()> {
    let world = World::new().await?;
    let _bot = world.bot().await?;
    let expected = [
        ("/gte__logistic__package 5", "Нет такой команды", "/help__logistic__package"),
        ("/get__logistic__package", "Некорректный запрос", "/get__logistic__package 15"),
        ("/get__logistic__package 0", "Некорректный аргумент: \"PackageID\"", ""),
        ("/new__logistic__package", "неверное количество аргументов", "название="),
        ("/edit__logistic__package 15; название=", "Некорректный аргумент: \"Название\"", ""),
        ("/edit__logistic__package 15; foo=1; материал=b", "Некорректный аргумент: \"foo\"", ""),
        ("/help__logistic__package", "🔹", "многоразовая"),
    ];
    for (nth, (text, start, part)) in expected.into_iter().enumerate() {
        let reply = world.reply(message(1 + i64::try_from(nth)?, text)).await?;
        let answer = reply.text("text");
        assert!(answer.starts_with(start) && answer.contains(part), "{text}: {answer}");
        assert!(reply.params.get("parse_mode").is_none());
    }
    let long = format!("/edit__logistic__package {}", "я".repeat(4000));
    assert!(world.reply(message(50, &long)).await?.text("text").starts_with("идентификатор не может быть"));
    assert!(world.calls.calls().is_empty(), "nothing is asked of the service");
    Ok(())
}
