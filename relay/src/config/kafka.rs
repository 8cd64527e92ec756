//! Where Kafka is, and what may be told to librdkafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_token::{SignIn, Source, Tokens};

use super::topics::KEPT;
use super::{MissingTopics, NewTopic, shard};
use settings::Values;
use walpost_core::event::template::Template;
use walpost_core::publish::pattern::TopicPattern;

/// Where Kafka is, and how records are sent.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port,host:port`.
    pub brokers: String,
    /// Topics that the settings name in full; others are said by the rows.
    pub topics: Vec<String>,
    /// Where rows go that cannot be published; without it they halt the relay.
    pub dead_letter_topic: Option<String>,
    /// What becomes of topics that do not exist.
    pub missing: MissingTopics,
    /// Properties that are passed on; some are secret, so they are never shown.
    pub properties: BTreeMap<String, String>,
    /// How clients sign in, where it is with a token.
    pub sign_in: Option<SignIn>,
    /// How long a broker may take to answer until the connection counts as gone.
    pub peer_timeout: Duration,
    /// An event whose time lies further back when it is published carries the time of its publishing instead.
    pub late_after: Option<Duration>,
    /// With exactly-once delivery: the topic that holds the position, of whose name the transactional ids come.
    pub position_topic: Option<String>,
}

impl std::fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            brokers,
            topics,
            dead_letter_topic,
            missing,
            properties,
            sign_in,
            peer_timeout,
            late_after,
            position_topic,
        } = self;
        let names: Vec<_> = properties.keys().collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", brokers)
            .field("topics", topics)
            .field("dead_letter_topic", dead_letter_topic)
            .field("missing", missing)
            .field("properties", &names)
            .field("sign_in", sign_in)
            .field("peer_timeout", peer_timeout)
            .field("late_after", late_after)
            .field("position_topic", position_topic)
            .finish()
    }
}

/// Properties that are refused, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (&["enable.idempotence"], "without it a retry changes the order of events"),
    (&["enable.gapless.guarantee"], "without it a failed record leaves a gap that later ones jump over"),
    (
        &["acks", "request.required.acks"],
        "an event counts as published only when every in-sync replica has it",
    ),
    (&["message.timeout.ms", "delivery.timeout.ms"], "an event that expires in the queue is lost"),
    (&["retries", "message.send.max.retries"], "an event that is given up is lost"),
    (&["partitioner"], "events of one key would go to another partition than Java's clients expect"),
    (
        &["transactional.id"],
        "with --delivery=exactly-once it comes of --position-topic; else there are no transactions",
    ),
    (&["delivery.report.only.error"], "without a report for each record nothing is ever confirmed"),
    (
        &[
            "queue.buffering.max.messages",
            "queue.buffering.max.kbytes",
            "queue.buffering.backpressure.threshold",
        ],
        "the queue is sized from --window-records and --window-bytes",
    ),
    (&["queue.buffering.max.ms"], "it is another name of linger.ms: set that"),
    (&["bootstrap.servers", "metadata.broker.list"], "that is --kafka-brokers"),
];

/// A hundred years: later than any event is.
pub(crate) const LATE_AFTER_MS_MAX: u64 = 3_155_760_000_000;

impl KafkaSettings {
    pub(super) fn read(values: &mut Values, peer_timeout: Duration) -> Option<Self> {
        let kafka = Self::read_places(values, peer_timeout);
        let topics = kafka.as_ref().map(|kafka| kafka.topics.clone()).unwrap_or_default();
        let dead_letter_topic = dead_letter_topic(values, &topics);
        let missing = MissingTopics::read(values, dead_letter_topic.is_some());
        let late_after_ms = values.number("late-after-ms", 0..=LATE_AFTER_MS_MAX)?;
        let late_after = (late_after_ms > 0).then(|| Duration::from_millis(late_after_ms));
        let position_topic = position_topic(values, &topics, dead_letter_topic.as_deref());
        let missing = missing?.with_position(position_topic.as_deref().and_then(new_position_topic));
        Some(Self { dead_letter_topic, missing, late_after, position_topic, ..kafka? })
    }

    /// For one who only looks: any topic may be looked at, that of dead letters, too.
    pub(super) fn read_places(values: &mut Values, peer_timeout: Duration) -> Option<Self> {
        let brokers = values.parse_with("kafka-brokers", broker_list);
        let topics = literal_topics(values);
        let mut properties = values.map("kafka-property");
        for name in properties.keys() {
            if let Some((_, reason)) = REFUSED.iter().find(|(names, _)| names.contains(&name.as_str())) {
                values.mistake(format!("kafka property `{name}` is refused: {reason}"));
            }
        }
        let sign_in = sign_in(values, &mut properties);
        Some(Self {
            brokers: brokers?,
            topics,
            dead_letter_topic: None,
            missing: MissingTopics::default(),
            properties,
            sign_in,
            peer_timeout,
            late_after: None,
            position_topic: None,
        })
    }
}

/// Tokens for SASL/OAUTHBEARER, where a setting says where they come from.
fn sign_in(values: &mut Values, properties: &mut BTreeMap<String, String>) -> Option<SignIn> {
    let (file, command) = (values.text("kafka-token-file"), values.text("kafka-token-command"));
    let named = ["sasl.mechanism", "sasl.mechanisms"].iter().find_map(|name| properties.get(*name));
    let is_bearer = named.map(|mechanism| mechanism.eq_ignore_ascii_case("OAUTHBEARER"));
    let source = match (file, command) {
        (Some(_), Some(_)) => {
            values.mistake("one of --kafka-token-file and --kafka-token-command, not both".to_owned());
            return None;
        }
        (Some(path), None) => Source::File(path.into()),
        (None, Some(line)) => Source::Command(line),
        (None, None) => {
            if is_bearer == Some(true) && !properties.contains_key("enable.sasl.oauthbearer.unsecure.jwt") {
                values.mistake(
                    "sasl.mechanism=OAUTHBEARER needs a token: --kafka-token-file or --kafka-token-command"
                        .to_owned(),
                );
            }
            return None;
        }
    };
    if is_bearer == Some(false) {
        values.mistake("a token is for sasl.mechanism=OAUTHBEARER: leave the property away".to_owned());
    }
    // What is not said otherwise. Librdkafka knows extensions for another way of fetching tokens only.
    properties.entry("security.protocol".to_owned()).or_insert_with(|| "SASL_SSL".to_owned());
    if is_bearer.is_none() {
        properties.insert("sasl.mechanism".to_owned(), "OAUTHBEARER".to_owned());
    }
    let extensions = properties.remove("sasl.oauthbearer.extensions").unwrap_or_default();
    let sign_in = name_value_pairs(&extensions).and_then(|pairs| {
        SignIn::new(Arc::new(Tokens::new(source)), &pairs).map_err(|error| error.to_string())
    });
    sign_in.map_err(|error| values.mistake(format!("sasl.oauthbearer.extensions: {error}"))).ok()
}

fn name_value_pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or("expected NAME=VALUE,…")?;
        Ok((name.to_owned(), value.to_owned()))
    };
    pairs.map(pair).collect()
}

/// Topics that the settings name, of each outbox.
fn literal_topics(values: &Values) -> Vec<String> {
    let entries: Vec<_> = super::mapping::entries(values).into_iter().map(|(entry, _)| entry).collect();
    let all = if entries.is_empty() { std::slice::from_ref(values) } else { &entries };
    let mut topics = Vec::new();
    for topic in all.iter().filter_map(literal_topic) {
        if !topics.contains(&topic) {
            topics.push(topic);
        }
    }
    topics
}

/// The topic's name, where it is text without columns; what is wrong with the setting is said where the mapping is read.
pub(super) fn literal_topic(values: &Values) -> Option<String> {
    let template = Template::text(&values.text("topic")?).ok()?;
    let name = template.as_constant().filter(|name| !name.is_empty())?;
    Some(values.map("rename-topic").get(name).cloned().unwrap_or_else(|| name.to_owned()))
}

fn dead_letter_topic(values: &mut Values, topics: &[String]) -> Option<String> {
    let is_wanted = values.parse_with("poison", |text| match text {
        "halt" => Ok(false),
        "dead-letter" => Ok(true),
        _ => Err("expected halt or dead-letter".into()),
    })?;
    let name = match values.text("dead-letter-topic") {
        None => String::new(),
        Some(_) => values.parse_with("dead-letter-topic", topic_name)?,
    };
    match (is_wanted, name.as_str()) {
        (false, _) => return None,
        (true, "") => values.mistake("poison = dead-letter needs a topic: --dead-letter-topic".to_owned()),
        (true, name) if topics.iter().any(|topic| topic == name) => {
            values.mistake("the topic of dead letters must be another than that of events".to_owned());
        }
        (true, _) => return Some(name),
    }
    None
}

/// The topic that holds the position, where delivery is exactly once.
fn position_topic(values: &mut Values, topics: &[String], dead_letters: Option<&str>) -> Option<String> {
    let is_wanted = values.parse_with("delivery", |text| match text {
        "at-least-once" => Ok(false),
        "exactly-once" => Ok(true),
        _ => Err("expected at-least-once or exactly-once".into()),
    });
    let named = values.text("position-topic").and_then(|_| values.parse_with("position-topic", topic_name));
    let named = named.map(|name| shard::own(values, name));
    if is_wanted != Some(true) {
        return None;
    }
    let name = named.or_else(|| Some(format!("walpost-position-{}", shard::slot(values)?)))?;
    if topics.contains(&name) || dead_letters == Some(&name) {
        values.mistake("position-topic must be another topic than those of events and of dead letters");
    }
    Some(name)
}

/// One partition, so that there is one last position; compacted, so that it stays for ever; in small segments, since only
/// those that are full are compacted.
fn new_position_topic(name: &str) -> Option<NewTopic> {
    let properties = [KEPT, ("segment.bytes", "16777216")];
    let properties = properties.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let pattern = TopicPattern::parse(name).ok()?;
    Some(NewTopic { pattern, partitions: Some(1), replication: None, properties: properties.into() })
}

fn broker_list(text: &str) -> Result<String, String> {
    let is_address = |address: &str| {
        address
            .trim()
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    if text.split(',').all(is_address) {
        Ok(text.to_owned())
    } else {
        Err("expected host:port, or several with commas between".into())
    }
}

/// Kafka's own rule (`Topic.validate` in its sources).
pub(super) fn topic_name(text: &str) -> Result<String, String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=249).contains(&text.len()) && text.bytes().all(allowed) && text != "." && text != ".." {
        Ok(text.to_owned())
    } else {
        Err("expected 1 to 249 letters, digits, dots, underscores and hyphens".into())
    }
}
