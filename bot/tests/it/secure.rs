//! A package API that speaks TLS and wants a token.

use anyhow::Result;
use harness::secure::Certificates;
use harness::{Program, port, program, wait_until};

use crate::support::{DEADLINE, World, message, package};

#[tokio::test(flavor = "multi_thread")]
async fn a_service_behind_tls_and_a_token_is_reached() -> Result<()> {
    let mut world = World::new().await?;
    world.package_api.insert(&package(1)).await?;
    let certificates = Certificates::for_name("localhost")?;
    let grpc = port::free()?;
    let _secure = Program::new(program::sibling("logistic-package-api")?)
        .env("PACKAGE_API_DATABASE_URL", &world.package_api.database.url)
        .env("PACKAGE_API_TLS_CERT", certificates.server())
        .env("PACKAGE_API_TLS_KEY", certificates.server())
        .env("PACKAGE_API_AUTH_TOKEN", "hunter2")
        .env("PACKAGE_API_GRPC_ADDR", grpc.to_string())
        .env("PACKAGE_API_REST_ADDR", "127.0.0.1:0")
        .env("PACKAGE_API_STATUS_ADDR", "127.0.0.1:0")
        .env("PACKAGE_API_METRICS_ADDR", "127.0.0.1:0")
        .spawn(&["serve"])?;
    world.set("PACKAGE_BOT_GRPC_URL", format!("https://localhost:{}", grpc.port()));
    world.set("PACKAGE_BOT_GRPC_CA", certificates.authority().display().to_string());
    world.set("PACKAGE_BOT_GRPC_AUTH_TOKEN", "wrong");
    let bot = world.bot().await?;
    let mut update_id = 0;
    let mut ask = async |id: u64| {
        update_id += 1;
        anyhow::Ok(world.reply(message(update_id, &format!("/get {id}"))).await?.text("text").to_owned())
    };
    wait_until("the server is there, and refuses the token", DEADLINE, async || {
        Ok(ask(1).await?.contains("Ошибка сервиса") && bot.process.log().contains("refuses the bot"))
    })
    .await?;
    drop(bot);

    world.set("PACKAGE_BOT_GRPC_AUTH_TOKEN", "hunter2");
    let bot = world.bot().await?;
    let text = world.reply(message(1000, "/get 1")).await?.text("text").to_owned();
    assert!(text.contains("Ящик 1"), "{text}\n{}", bot.process.log_tail());
    Ok(())
}
