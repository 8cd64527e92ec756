//! Sending: what is tried again, how long, and what is no error.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Api, ApiError, Refusal};
use crate::reply::Reply;
use crate::rich::Rich;

/// A longer wait than this is a punishment for something else: the message is given up.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// Pauses before another try where Telegram cannot be reached.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);
/// So long a message is tried, all in all.
const GIVE_UP_AFTER: Duration = Duration::from_secs(180);
/// The answer to a button is worth little when it is late.
const ANSWER_GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// What the answer to a button may have, in characters.
const ANSWER_CHARS_MAX: usize = 200;

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The conversation.
    pub chat_id: i64,
    /// The topic of a forum.
    pub topic: Option<i64>,
    /// The message that is answered, where it must be shown which.
    pub reply_to: Option<i64>,
}

/// How sending ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It is there.
    Done,
    /// The person does not want it: nobody's fault.
    Unwanted,
    /// It cannot be sent.
    Failed,
}

impl Api {
    /// Sends a message.
    pub async fn send(&self, target: &Target, reply: &Reply) -> Sent {
        let mut parameters = content(reply);
        parameters["chat_id"] = target.chat_id.into();
        if let Some(topic) = target.topic {
            parameters["message_thread_id"] = topic.into();
        }
        if let Some(message_id) = target.reply_to {
            parameters["reply_parameters"] =
                json!({ "message_id": message_id, "allow_sending_without_reply": true });
        }
        judged(self.insist("sendMessage", parameters, GIVE_UP_AFTER).await)
    }

    /// Puts a reply in place of a message; where that cannot be changed any more, sends it.
    pub async fn replace(&self, target: &Target, message_id: i64, reply: &Reply) -> Sent {
        let mut parameters = content(reply);
        parameters["chat_id"] = target.chat_id.into();
        parameters["message_id"] = message_id.into();
        match self.insist("editMessageText", parameters, GIVE_UP_AFTER).await {
            Err(ApiError::Refused(refusal)) if refusal.description.contains("message is not modified") => {
                Sent::Done
            }
            Err(ApiError::Refused(Refusal { code: 400, .. })) => self.send(target, reply).await,
            outcome => judged(outcome),
        }
    }

    /// Ends the waiting of somebody who has pressed a button, with a text that pops up where there is one.
    pub async fn answer_button(&self, query_id: &str, text: Option<&str>) {
        let mut parameters = json!({ "callback_query_id": query_id });
        if let Some(text) = text {
            parameters["text"] = text.chars().take(ANSWER_CHARS_MAX).collect::<String>().into();
            parameters["show_alert"] = true.into();
        }
        // That it is too late, as in a repetition, harms nobody.
        if let Err(error) = self.insist("answerCallbackQuery", parameters, ANSWER_GIVE_UP_AFTER).await {
            tracing::debug!(%error, "a button is not answered");
        }
    }

    /// Shows that an answer is being worked on.
    pub async fn typing(&self, target: &Target) {
        let mut parameters = json!({ "chat_id": target.chat_id, "action": "typing" });
        if let Some(topic) = target.topic {
            parameters["message_thread_id"] = topic.into();
        }
        let _ = self.call("sendChatAction", &parameters).await;
    }

    /// Makes a call until Telegram has taken or refused it for good.
    async fn insist(
        &self,
        method: &'static str,
        mut parameters: Value,
        within: Duration,
    ) -> Result<Value, ApiError> {
        let give_up = Instant::now() + within;
        let mut pause = PAUSE_MIN;
        loop {
            let error = match self.call(method, &parameters).await {
                Ok(result) => return Ok(result),
                Err(error) => error,
            };
            let wait = match next(&error, pause) {
                Next::Move(chat_id) if parameters["chat_id"] != chat_id => {
                    parameters["chat_id"] = chat_id.into();
                    continue;
                }
                Next::Wait(wait) if Instant::now() + wait <= give_up => wait,
                _ => {
                    note(method, &error);
                    return Err(error);
                }
            };
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait(Duration),
    Move(i64),
    GiveUp,
}

/// What to do after a failure.
fn next(error: &ApiError, pause: Duration) -> Next {
    let ApiError::Refused(refusal) = error else { return Next::Wait(pause) };
    let parameters = &refusal.parameters;
    match refusal.code {
        429 => match Duration::from_secs(parameters.retry_after.unwrap_or(1)) {
            wait if wait <= RETRY_AFTER_MAX => Next::Wait(wait),
            _ => Next::GiveUp,
        },
        500.. => Next::Wait(pause),
        _ => parameters.migrate_to_chat_id.map_or(Next::GiveUp, Next::Move),
    }
}

fn note(method: &str, error: &ApiError) {
    match error.code() {
        // People may block a bot, and buttons may be pressed twice.
        403 => tracing::info!(method, %error, "a chat does not want messages"),
        400 if method != "sendMessage" => tracing::debug!(method, %error, "Telegram refuses a call"),
        _ => tracing::warn!(method, %error, "Telegram does not take a call: it is given up"),
    }
}

fn judged(outcome: Result<Value, ApiError>) -> Sent {
    match outcome {
        Ok(_) => Sent::Done,
        Err(ApiError::Refused(Refusal { code: 403, .. })) => Sent::Unwanted,
        Err(_) => Sent::Failed,
    }
}

fn content(reply: &Reply) -> Value {
    let Rich { text, entities } = &reply.rich;
    let mut parameters = json!({ "text": text, "link_preview_options": { "is_disabled": true } });
    if !entities.is_empty() {
        parameters["entities"] = json!(entities);
    }
    if !reply.buttons.is_empty() {
        parameters["reply_markup"] = json!({ "inline_keyboard": [reply.buttons] });
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telegram::Parameters;

    fn refused(code: u16, parameters: Parameters) -> ApiError {
        ApiError::Refused(Refusal { code, description: String::new(), parameters })
    }

    #[test]
    fn telegram_says_how_long_to_wait_and_is_obeyed_within_reason() {
        let after =
            |seconds| refused(429, Parameters { retry_after: Some(seconds), ..Parameters::default() });
        assert_eq!(next(&after(3), PAUSE_MIN), Next::Wait(Duration::from_secs(3)));
        assert_eq!(next(&after(60), PAUSE_MIN), Next::Wait(Duration::from_secs(60)));
        assert_eq!(next(&after(8288), PAUSE_MIN), Next::GiveUp);
    }

    #[test]
    fn what_passes_is_tried_again_and_what_stays_is_not() {
        assert_eq!(next(&ApiError::Broken(String::new()), PAUSE_MIN), Next::Wait(PAUSE_MIN));
        assert_eq!(next(&refused(502, Parameters::default()), PAUSE_MIN), Next::Wait(PAUSE_MIN));
        for code in [400, 401, 403, 404] {
            assert_eq!(next(&refused(code, Parameters::default()), PAUSE_MIN), Next::GiveUp);
        }
        let moved = Parameters { migrate_to_chat_id: Some(-100), ..Parameters::default() };
        assert_eq!(next(&refused(400, moved), PAUSE_MIN), Next::Move(-100));
    }
}
