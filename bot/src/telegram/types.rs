//! What is read of an update: these fields and no others, so that nothing which Telegram adds to a message can make the
//! bot deaf to it. <https://core.telegram.org/bots/api#update>

use serde::Deserialize;
use serde_json::Value;

/// An update of one of the kinds that are asked for, or of another one.
#[derive(Debug, Clone)]
pub struct Update {
    /// Telegram's number for it; the same in each repetition.
    pub id: i64,
    /// What has happened.
    pub event: Event,
}

/// What has happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Somebody wrote.
    Message(Message),
    /// Somebody changed what was written.
    Edited(Message),
    /// Somebody pressed a button.
    Pressed(CallbackQuery),
    /// Something that the bot does not know, or cannot read.
    Other,
}

impl Update {
    /// Reads one update; `None` where it has no id, without which it can be neither answered nor confirmed. An update whose
    /// content cannot be read does not hold up the others: it is [`Event::Other`].
    #[must_use]
    pub fn read(mut value: Value) -> Option<Self> {
        let id = value.get("update_id")?.as_i64()?;
        let mut take = |name: &str| value.get_mut(name).map(Value::take);
        let message = |value: Value| serde_json::from_value::<Message>(value).ok();
        let event = if let Some(value) = take("message") {
            message(value).map(Event::Message)
        } else if let Some(value) = take("edited_message") {
            message(value).map(Event::Edited)
        } else {
            take("callback_query").and_then(|value| serde_json::from_value(value).ok()).map(Event::Pressed)
        };
        Some(Self { id, event: event.unwrap_or(Event::Other) })
    }

    /// Its kind, for metrics and logs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.event {
            Event::Message(_) => "message",
            Event::Edited(_) => "edited_message",
            Event::Pressed(_) => "callback_query",
            Event::Other => "other",
        }
    }

    /// Who sent it.
    #[must_use]
    pub fn from(&self) -> Option<&User> {
        match &self.event {
            Event::Message(message) | Event::Edited(message) => message.from.as_ref(),
            Event::Pressed(query) => Some(&query.from),
            Event::Other => None,
        }
    }

    /// The conversation in which it keeps its order: the chat, or the person where a button has none.
    #[must_use]
    pub fn lane(&self) -> Option<i64> {
        match &self.event {
            Event::Message(message) | Event::Edited(message) => Some(message.chat.id),
            Event::Pressed(query) => {
                Some(query.message.as_ref().map_or(query.from.id, |message| message.chat.id))
            }
            Event::Other => None,
        }
    }
}

/// A message, or what is left of one that is too old to be shown.
#[derive(Debug, Clone, Deserialize)]
pub struct Message {
    /// Its number in the chat.
    pub message_id: i64,
    /// Absent in channels.
    pub from: Option<User>,
    /// Where it is.
    pub chat: Chat,
    /// Absent where it is a picture, a sticker, ...
    pub text: Option<String>,
    /// Commands, links, ... in the text.
    #[serde(default)]
    pub entities: Vec<TextEntity>,
    /// The topic of a forum; also set in replies elsewhere.
    pub message_thread_id: Option<i64>,
    /// Whether it is in a topic of a forum.
    #[serde(default)]
    pub is_topic_message: bool,
}

impl Message {
    /// The forum topic that a reply belongs to.
    #[must_use]
    pub fn topic(&self) -> Option<i64> {
        self.message_thread_id.filter(|_| self.is_topic_message)
    }
}

/// A conversation.
#[derive(Debug, Clone, Deserialize)]
pub struct Chat {
    /// Negative for groups.
    pub id: i64,
    /// `private`, `group`, `supergroup` or `channel`.
    #[serde(rename = "type", default)]
    pub kind: String,
}

impl Chat {
    /// Whether it is a conversation with one person.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.kind == "private"
    }
}

/// A person, or a bot.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// Up to 52 bits.
    pub id: i64,
    /// What they call themselves.
    #[serde(default)]
    pub first_name: String,
    /// The rest of it.
    pub last_name: Option<String>,
    /// What stands behind `@`.
    pub username: Option<String>,
}

impl User {
    /// `@` name without the sign, else the first and last names.
    #[must_use]
    pub fn name(&self) -> String {
        match (&self.username, &self.last_name) {
            (Some(username), _) if !username.is_empty() => username.clone(),
            (_, Some(last)) if !last.is_empty() => format!("{} {last}", self.first_name),
            _ => self.first_name.clone(),
        }
    }
}

/// A part of a text.
#[derive(Debug, Clone, Deserialize)]
pub struct TextEntity {
    /// `bot_command`, ...
    #[serde(rename = "type")]
    pub kind: String,
    /// In UTF-16 units.
    pub offset: usize,
    /// In UTF-16 units.
    pub length: usize,
}

/// A button that was pressed.
#[derive(Debug, Clone, Deserialize)]
pub struct CallbackQuery {
    /// What the answer names.
    pub id: String,
    /// Who pressed it.
    pub from: User,
    /// The message under which it stands; absent where that is too old, or was sent by way of another chat.
    pub message: Option<Message>,
    /// What the bot put behind it.
    pub data: Option<String>,
}

/// Splits after `units` UTF-16 units; a character that would be cut in half goes to the first part.
#[must_use]
pub fn utf16_split(text: &str, units: usize) -> (&str, &str) {
    let mut left = units;
    let end = text.char_indices().find_map(|(at, character)| {
        if left == 0 {
            return Some(at);
        }
        left = left.saturating_sub(character.len_utf16());
        None
    });
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_passed_over_and_keeps_its_id() {
        for value in [
            json!({ "update_id": 1, "something_of_2030": { "x": 1 } }),
            json!({ "update_id": 1, "message": { "message_id": "no number" } }),
            json!({ "update_id": 1, "callback_query": 5 }),
            json!({ "update_id": 1 }),
        ] {
            let update = Update::read(value).unwrap();
            assert!(matches!(update.event, Event::Other) && update.id == 1);
        }
        assert!(Update::read(json!({ "message": {} })).is_none());
    }

    #[test]
    fn a_message_of_a_kind_to_come_is_read() {
        let value = json!({ "update_id": 1, "message": {
            "message_id": 2, "chat": { "id": 5, "type": "private" }, "from": { "id": 7 }, "hologram": { "x": 1 } } });
        assert!(matches!(Update::read(value).unwrap().event, Event::Message(_)));
    }

    #[test]
    fn people_have_the_name_that_is_known() {
        let name = |value| serde_json::from_value::<User>(value).unwrap().name();
        assert_eq!(
            name(json!({ "id": 1, "first_name": "Ivan", "last_name": "P", "username": "ivan" })),
            "ivan"
        );
        assert_eq!(name(json!({ "id": 1, "first_name": "Ivan", "last_name": "P" })), "Ivan P");
        assert_eq!(name(json!({ "id": 1, "first_name": "Ivan" })), "Ivan");
    }

    #[test]
    fn text_is_split_in_utf16_units() {
        assert_eq!(utf16_split("🔹a", 2), ("🔹", "a"));
        assert_eq!(utf16_split("🔹a", 1), ("🔹", "a"));
        assert_eq!(utf16_split("ab", 9), ("ab", ""));
        assert_eq!(utf16_split("ab", 0), ("", "ab"));
    }
}
