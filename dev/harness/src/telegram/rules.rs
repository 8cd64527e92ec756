//! What Telegram refuses in a message.

use serde_json::Value;

use super::Fault;

/// In UTF-16 units.
const TEXT_MAX: usize = 4096;
/// In bytes.
const BUTTON_DATA_MAX: usize = 64;
/// Of the answer to a button, in characters.
const ANSWER_MAX: usize = 200;

/// Judges the content of `sendMessage` and `editMessageText`.
pub(super) fn message(params: &Value) -> Result<(), Fault> {
    let refuse = |what: &str| Err(Fault::refuse(400, &format!("Bad Request: {what}")));
    if number(&params["chat_id"]).is_none() {
        return refuse("chat not found");
    }
    let text = params["text"].as_str().unwrap_or_default();
    let units = text.encode_utf16().count();
    if text.trim().is_empty() {
        return refuse("message text is empty");
    }
    if units > TEXT_MAX {
        return refuse("message is too long");
    }
    for entity in params["entities"].as_array().into_iter().flatten() {
        let end =
            entity["offset"].as_u64().zip(entity["length"].as_u64()).map(|(offset, length)| offset + length);
        if end.is_none_or(|end| end > units as u64) {
            return refuse("can't parse entities: an entity is beyond the end of the text");
        }
    }
    buttons(&params["reply_markup"])
}

fn buttons(markup: &Value) -> Result<(), Fault> {
    let rows = markup["inline_keyboard"].as_array().into_iter().flatten();
    for button in rows.flat_map(|row| row.as_array().into_iter().flatten()) {
        let data = button["callback_data"].as_str().unwrap_or_default();
        if data.is_empty() || data.len() > BUTTON_DATA_MAX {
            return Err(Fault::refuse(400, "Bad Request: BUTTON_DATA_INVALID"));
        }
    }
    Ok(())
}

/// Judges `answerCallbackQuery`.
pub(super) fn answer(params: &Value) -> Result<(), Fault> {
    let fits = params["text"].as_str().is_none_or(|text| text.chars().count() <= ANSWER_MAX);
    if fits { Ok(()) } else { Err(Fault::refuse(400, "Bad Request: MESSAGE_TOO_LONG")) }
}

/// Judges `setMyCommands`.
pub(super) fn commands(params: &Value) -> Result<(), Fault> {
    let commands = params["commands"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_one = |command: &Value| {
        let name = command["command"].as_str().unwrap_or_default();
        let description = command["description"].as_str().unwrap_or_default().chars().count();
        (1..=32).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && (1..=256).contains(&description)
    };
    let good = commands.len() <= 100 && commands.iter().all(is_one);
    if good { Ok(()) } else { Err(Fault::refuse(400, "Bad Request: BOT_COMMAND_INVALID")) }
}

/// Forms have numbers as text.
pub(super) fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
