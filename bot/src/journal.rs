//! Records of what was asked and of the cache's uses, for Kafka: never in the way of a reply.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::json;
use tokio::sync::oneshot;

use crate::packages::Call;
use crate::telegram::types::{Event, Update};

/// Which of the two topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// One record for each update.
    Commands,
    /// One record for each use of the cache.
    CacheEvents,
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where to.
    pub topic: Topic,
    /// Records of one key keep their order.
    pub key: String,
    /// JSON.
    pub value: String,
    /// `CloudEvents` in binary mode, and the trace.
    pub headers: Vec<(&'static str, String)>,
}

/// What takes records. It must not wait.
pub trait Writer: Send + Sync + 'static {
    /// Takes one, or drops and counts it.
    fn write(&self, record: Record) -> Written;
}

/// For a record that was taken. A Kafka that is away is left behind after that: an update is confirmed without its record.
const WRITE_MAX: Duration = Duration::from_secs(5);

/// A record's way to Kafka.
#[derive(Debug, Default)]
pub struct Written(Option<UnderWay>);

#[derive(Debug)]
struct UnderWay {
    /// Fails when its sender is dropped, which is as good.
    end: oneshot::Receiver<()>,
    behind: Arc<AtomicBool>,
}

impl Written {
    /// On its way until the sender of `end` is dropped. `behind` is set when it is given up, so that others are not waited for.
    #[must_use]
    pub fn under_way(end: oneshot::Receiver<()>, behind: Arc<AtomicBool>) -> Self {
        Self(Some(UnderWay { end, behind }))
    }

    /// Until Kafka has it, or it was dropped, or it has taken too long.
    pub async fn wait(self) {
        let Some(UnderWay { end, behind }) = self.0 else { return };
        if tokio::time::timeout(WRITE_MAX, end).await.is_err() && !behind.swap(true, Ordering::Relaxed) {
            tracing::warn!("Kafka takes no records: updates are confirmed without them until it does");
        }
    }
}

/// A use of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheEvent {
    /// A description was to be stored.
    Set,
    /// A description was looked for.
    Read,
    /// A description was to be removed.
    Remove,
}

impl CacheEvent {
    fn name(self) -> &'static str {
        match self {
            Self::Set => "Set description",
            Self::Read => "Read description",
            Self::Remove => "Remove description",
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Read => "read",
            Self::Remove => "removed",
        }
    }
}

/// `ce_source` of both topics.
const SOURCE: &str = "/logistic-package-api-bot";

/// Makes the records.
pub struct Journal {
    writer: Arc<dyn Writer>,
    uses: crate::observe::metrics::Metrics,
}

impl Journal {
    /// Writes by `writer`.
    pub fn new(writer: Arc<dyn Writer>, uses: crate::observe::metrics::Metrics) -> Self {
        Self { writer, uses }
    }

    /// What somebody has sent, whatever becomes of it. What has no sender is not recorded.
    pub fn command(&self, update: &Update, call: &Call) -> Written {
        let Some(from) = update.from() else { return Written::default() };
        let now = Utc::now();
        let (text, data) = match &update.event {
            Event::Message(message) | Event::Edited(message) => (message.text.as_deref(), None),
            Event::Pressed(query) => (None, query.data.as_deref()),
            Event::Other => (None, None),
        };
        let value = json!({
            "UserId": from.id.max(0),
            "Username": from.name(),
            "MessageText": text.unwrap_or_default(),
            "CallbackQueryData": data.unwrap_or_default(),
            "TimeStamp": rfc3339(now),
        });
        let key = from.id.to_string();
        // The same in each repetition of the update, so that a reader can tell them.
        let headers = headers(&call.key, "command", &key, now, call);
        self.writer.write(Record { topic: Topic::Commands, key, value: value.to_string(), headers })
    }

    /// A use of the cache, and whether it succeeded.
    pub fn cache_event(&self, id: u64, event: CacheEvent, success: bool, call: &Call) {
        self.uses.cache_uses.with_label_values(&[event.kind(), if success { "true" } else { "false" }]).inc();
        let now = Utc::now();
        let value = json!({
            "id": id, "cacheEventType": event.name(), "success": success, "timestamp": rfc3339(now),
        });
        let (key, unique) = (id.to_string(), uuid::Uuid::new_v4().to_string());
        let headers = headers(&unique, &format!("cache.{}", event.kind()), &key, now, call);
        self.writer.write(Record { topic: Topic::CacheEvents, key, value: value.to_string(), headers });
    }
}

fn headers(
    id: &str,
    kind: &str,
    subject: &str,
    now: DateTime<Utc>,
    call: &Call,
) -> Vec<(&'static str, String)> {
    vec![
        ("ce_specversion", "1.0".to_owned()),
        ("ce_id", id.to_owned()),
        ("ce_source", SOURCE.to_owned()),
        ("ce_type", format!("hablof.logistic_package_api.bot.{kind}")),
        ("ce_time", rfc3339(now)),
        ("ce_subject", subject.to_owned()),
        ("content-type", "application/json".to_owned()),
        ("traceparent", call.traceparent.to_string()),
    ]
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::fakes::{Recorded, call};

    fn record_of(update: Value) -> Option<(String, Value, String)> {
        let recorded = Recorded::default();
        let journal = Journal::new(Arc::new(recorded.clone()), crate::observe::metrics::Metrics::new());
        journal.command(&Update::read(update).expect("an update"), &call());
        let record = recorded.take().pop()?;
        let header = record.headers.iter().find(|(name, _)| *name == "ce_id").map(|(_, value)| value.clone());
        Some((record.key, serde_json::from_str(&record.value).expect("JSON"), header.unwrap_or_default()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_takes_too_long_is_left_behind_and_one_that_is_dropped_is_not() {
        let behind = Arc::<AtomicBool>::default();
        let (sender, end) = oneshot::channel();
        drop(sender);
        Written::under_way(end, Arc::clone(&behind)).wait().await;
        assert!(!behind.load(Ordering::Relaxed));
        let (_kept, end) = oneshot::channel();
        Written::under_way(end, Arc::clone(&behind)).wait().await;
        assert!(behind.load(Ordering::Relaxed));
    }

    #[test]
    fn a_command_is_recorded_with_all_five_fields() {
        let update = json!({ "update_id": 1, "message": { "message_id": 2, "from": { "id": 7, "first_name": "Ivan" },
            "chat": { "id": 5 }, "text": "<hi>" } });
        let (key, value, id) = record_of(update).expect("a record");
        assert_eq!((key.as_str(), id), ("7", call().key.to_string()));
        let expected = [
            ("UserId", json!(7)),
            ("Username", json!("Ivan")),
            ("MessageText", json!("<hi>")),
            ("CallbackQueryData", json!("")),
        ];
        for (name, expected) in expected {
            assert_eq!(value[name], expected);
        }
        assert!(DateTime::parse_from_rfc3339(value["TimeStamp"].as_str().expect("text")).is_ok());
        assert_eq!(value.as_object().map(serde_json::Map::len), Some(5));
    }

    #[test]
    fn an_edited_message_and_a_button_are_recorded_too() {
        let edited = json!({ "update_id": 1, "edited_message": { "message_id": 2, "from": { "id": 7 }, "chat": { "id": 5 }, "text": "x" } });
        assert_eq!(record_of(edited).expect("a record").1["MessageText"], "x");
        let pressed = json!({ "update_id": 1, "callback_query": { "id": "q", "from": { "id": 7 }, "data": "d",
            "message": { "message_id": 2, "chat": { "id": 5 }, "text": "of the bot" } } });
        let value = record_of(pressed).expect("a record").1;
        assert_eq!((&value["MessageText"], &value["CallbackQueryData"]), (&json!(""), &json!("d")));
    }

    #[test]
    fn what_has_no_sender_is_not_recorded() {
        let update =
            json!({ "update_id": 1, "message": { "message_id": 2, "chat": { "id": 5 }, "text": "x" } });
        assert!(record_of(update).is_none());
    }
}
