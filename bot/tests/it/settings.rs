//! Wrong and missing settings, and secrets.

use anyhow::Result;
use harness::{FakeTelegram, Program, Proxy, port, wait_until};

use crate::support::{DEADLINE, World, message};

fn program() -> Program {
    Program::new(env!("CARGO_BIN_EXE_package-bot"))
}

#[tokio::test]
async fn wrong_settings_end_it_with_2_and_are_all_named() -> Result<()> {
    let ended = program()
        .env("PACKAGE_BOT_PAGE_SIZE", "0")
        .env("PACKAGE_BOT_HTTP_ADDR", "x")
        .output(&["run"])
        .await?;
    assert_eq!(ended.code(), 2);
    for part in ["telegram-token", "PACKAGE_BOT_PAGE_SIZE", "PACKAGE_BOT_HTTP_ADDR"] {
        assert!(ended.stderr.contains(part), "{}", ended.stderr);
    }
    Ok(())
}

#[tokio::test]
async fn check_config_shows_every_setting_and_no_secret() -> Result<()> {
    let ended = program().env("TOKEN", "1:hunter2").output(&["check-config"]).await?.success()?;
    assert!(ended.stdout.contains("page-size = 5") && !ended.stdout.contains("hunter2"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains("redis-url = redis://redis:6379/0"),
        "a default is no secret: {}",
        ended.stdout
    );
    assert!(ended.stdout.contains("everybody who finds the bot may change packages"), "{}", ended.stdout);
    let some =
        program().env("TOKEN", "1:hunter2").output(&["check-config", "--allowed-ids=7"]).await?.success()?;
    assert!(!some.stdout.contains("everybody"), "{}", some.stdout);
    Ok(())
}

#[tokio::test]
async fn a_wrong_token_ends_it_with_1_and_says_so() -> Result<()> {
    let telegram = FakeTelegram::start().await?;
    let program = program()
        .env("TOKEN", "1:wrong")
        .env("PACKAGE_BOT_TELEGRAM_API_URL", telegram.url())
        .env("PACKAGE_BOT_KAFKA_BROKERS", "127.0.0.1:1")
        .env("PACKAGE_BOT_HTTP_ADDR", port::free()?.to_string());
    let ended = program.output(&["run"]).await?;
    assert_eq!(ended.code(), 1);
    assert!(
        ended.stderr.contains("refuses the token") && !ended.stderr.contains("1:wrong"),
        "{}",
        ended.stderr
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_is_in_no_log_and_texts_are_logged_at_trace_alone() -> Result<()> {
    for (level, shows_texts) in [("debug", false), ("trace", true)] {
        let mut world = World::new().await?;
        let proxy = Proxy::start(world.telegram.addr()).await?;
        world.set("PACKAGE_BOT_TELEGRAM_API_URL", format!("http://{}", proxy.addr()));
        world.set("PACKAGE_BOT_LOG_LEVEL", level);
        let bot = world.bot().await?;
        // Each way in which a call can fail, that of the connection among them.
        use harness::telegram::Fault;
        world.telegram.order("sendMessage", 1, Fault::Html(502));
        let echoing = format!("Bad Request: {} is odd", world.telegram.token());
        world.telegram.order("getUpdates", 1, Fault::refuse(500, &echoing));
        world.telegram.poll_from_elsewhere();
        world.reply(message(1, "a secret of mine")).await?;
        let token = world.telegram.token().to_owned();
        proxy.refuse();
        wait_until("the connection fails", DEADLINE, async || {
            Ok(bot.process.log().contains("trying again")
                && bot.process.log().contains("error sending request"))
        })
        .await?;
        let log = bot.process.log();
        let secret = token.split(':').nth(1).unwrap();
        assert!(!log.contains(secret), "{}", bot.process.log_tail());
        assert_eq!(log.contains("a secret of mine"), shows_texts, "at {level}");
    }
    Ok(())
}
