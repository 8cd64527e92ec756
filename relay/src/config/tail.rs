//! What `walpost tail` needs to know: nothing of Postgres, so that nobody has to give a database to read topics.

use std::time::Duration;

use settings::{Mistakes, Values};

use super::kafka::topic_name;
use super::{KafkaSettings, TimingSettings, log_format, log_level};

/// What `walpost tail` needs to know.
#[derive(Debug, Clone)]
pub struct TailSettings {
    /// Where Kafka is.
    pub kafka: KafkaSettings,
    /// The topics that are shown: that of events first, which must exist.
    pub topics: Vec<String>,
    /// For a question to Kafka.
    pub connect_timeout: Duration,
    /// A filter of tracing-subscriber.
    pub log_level: String,
    /// JSON lines instead of text.
    pub log_json: bool,
}

impl TailSettings {
    /// Turns what was typed into what it means.
    ///
    /// # Errors
    /// Every mistake in the settings that concern it, together.
    pub fn read(mut values: Values) -> Result<Self, Mistakes> {
        super::mapping::read_preset(&mut values);
        let timing = TimingSettings::read(&mut values);
        let peer_timeout = timing.map_or(Duration::ZERO, |timing| timing.peer_timeout);
        let kafka = KafkaSettings::read_places(&mut values, peer_timeout);
        let beside = values.parse_with("tail-topics", topic_list);
        for topic in kafka.iter().flat_map(|kafka| &kafka.topics) {
            if let Err(expected) = topic_name(topic) {
                values.mistake(format!("topic: `{topic}`: {expected}"));
            }
        }
        if kafka.as_ref().is_some_and(|kafka| kafka.topics.is_empty())
            && beside.as_ref().is_some_and(Vec::is_empty)
        {
            values.missing(
                "tail-topics",
                "rows say their topics: name those to show, as in --tail-topics=orders,payments",
            );
        }
        let log_level = values.parse_with("log-level", log_level);
        let log_json = values.parse_with("log-format", log_format);
        let read = || {
            let kafka = kafka?;
            let mut topics = kafka.topics.clone();
            for topic in beside? {
                if !topics.contains(&topic) {
                    topics.push(topic);
                }
            }
            Some(Self {
                kafka,
                topics,
                connect_timeout: timing?.connect_timeout,
                log_level: log_level?,
                log_json: log_json?,
            })
        };
        let read = read();
        values.finish()?;
        read.ok_or_else(|| Mistakes(vec!["a setting is absent that has no default".into()]))
    }
}

/// Names with commas between; none where there is no text. One that is named twice is read once.
pub(crate) fn topic_list(text: &str) -> Result<Vec<String>, String> {
    let mut topics = Vec::new();
    for name in text.split(',').map(str::trim).filter(|_| !text.trim().is_empty()) {
        let name = topic_name(name).map_err(|expected| format!("`{name}`: {expected}"))?;
        if !topics.contains(&name) {
            topics.push(name);
        }
    }
    Ok(topics)
}
