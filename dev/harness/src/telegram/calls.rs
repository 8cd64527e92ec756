//! The methods.

use serde_json::{Value, json};

use super::Fault;
use super::rules::{self, number};
use super::state::State;

/// Carries out a method; polls are apart, since they wait.
pub(super) fn answer(state: &mut State, method: &str, params: &Value) -> Result<Value, Fault> {
    match method {
        "getMe" => Ok(state.me.clone()),
        "getWebhookInfo" => {
            Ok(json!({ "url": state.webhook, "has_custom_certificate": false, "pending_update_count": 0 }))
        }
        "deleteWebhook" => {
            state.webhook.clear();
            Ok(json!(true))
        }
        "getMyCommands" => Ok(state.commands.clone()),
        "setMyCommands" => {
            rules::commands(params)?;
            state.commands = params["commands"].clone();
            Ok(json!(true))
        }
        "sendMessage" => {
            rules::message(params)?;
            state.next_message_id += 1;
            let id = state.next_message_id;
            remember(state, id, params);
            Ok(message(id, params))
        }
        "editMessageText" => edit(state, params),
        "answerCallbackQuery" => rules::answer(params).map(|()| json!(true)),
        "sendChatAction" | "setMyDescription" | "setMyShortDescription" => Ok(json!(true)),
        _ => Err(Fault::refuse(404, "Not Found: method not found")),
    }
}

fn edit(state: &mut State, params: &Value) -> Result<Value, Fault> {
    rules::message(params)?;
    let id = number(&params["message_id"])
        .ok_or_else(|| Fault::refuse(400, "Bad Request: message identifier is not specified"))?;
    let chat = number(&params["chat_id"]).unwrap_or_default();
    let content = (params["text"].as_str().unwrap_or_default().to_owned(), params["reply_markup"].clone());
    if state.messages.get(&(chat, id)) == Some(&content) {
        let same = "Bad Request: message is not modified: specified new message content and reply markup are exactly \
                    the same as a current content and reply markup of the message";
        return Err(Fault::refuse(400, same));
    }
    remember(state, id, params);
    Ok(message(id, params))
}

fn remember(state: &mut State, id: i64, params: &Value) {
    let chat = number(&params["chat_id"]).unwrap_or_default();
    let text = params["text"].as_str().unwrap_or_default().to_owned();
    state.messages.insert((chat, id), (text, params["reply_markup"].clone()));
}

fn message(id: i64, params: &Value) -> Value {
    json!({ "message_id": id, "date": 1_790_000_000, "chat": { "id": params["chat_id"], "type": "private" }, "text": params["text"] })
}
