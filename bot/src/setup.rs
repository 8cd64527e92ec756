//! What the bot tells Telegram about itself at a start.

use serde_json::{Value, json};

use crate::telegram::{Api, ApiError};
use crate::texts;

/// Puts the bot's commands into the menu, and takes away a webhook, which polling would be refused for. What fails is a
/// warning: people can be answered without.
pub async fn introduce(api: &Api) {
    if let Err(error) = remove_webhook(api).await {
        tracing::warn!(%error, "whether there is a webhook is not known");
    }
    if let Err(error) = set_commands(api).await {
        tracing::warn!(%error, "the menu of commands is not set");
    }
}

async fn remove_webhook(api: &Api) -> Result<(), ApiError> {
    let webhook = api.call("getWebhookInfo", &json!({})).await?;
    if webhook["url"].as_str().is_some_and(|url| !url.is_empty()) {
        tracing::warn!("there is a webhook: it is removed, since this bot polls");
        api.call("deleteWebhook", &json!({ "drop_pending_updates": false })).await?;
    }
    Ok(())
}

async fn set_commands(api: &Api) -> Result<(), ApiError> {
    let commands = commands();
    if api.call("getMyCommands", &json!({})).await? == commands {
        return Ok(());
    }
    api.call("setMyCommands", &json!({ "commands": commands })).await?;
    api.call("setMyDescription", &json!({ "description": texts::DESCRIPTION })).await?;
    tracing::info!("the menu of commands is set");
    Ok(())
}

fn commands() -> Value {
    let commands = texts::COMMANDS.map(|(kind, description)| {
        json!({ "command": format!("{}__logistic__package", kind.name()), "description": description })
    });
    json!(commands)
}
