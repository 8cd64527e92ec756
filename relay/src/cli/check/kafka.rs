//! The side of Kafka.

use std::time::Duration;

use super::{Side, times};
use crate::config::{Settings, UnknownTopic};
use crate::error::{Error, Verdict};
use crate::kafka::facts::{TopicFacts, brokers, may_write, topic_facts};
use crate::kafka::making::would_be_made;
use walpost_core::publish::partitions::OLD_AFTER_MS;
use walpost_core::publish::sink::SinkError;

/// librdkafka's default for `message.max.bytes`.
const MESSAGE_MAX_BYTES: u64 = 1_000_000;

pub(super) async fn check(settings: &Settings, side: &mut Side<'_>) {
    let events = settings.kafka.topics.iter().map(|topic| ("topic", topic));
    let dead_letters = settings.kafka.dead_letter_topic.iter().map(|topic| ("dead letters", topic));
    let topics: Vec<_> = events.chain(dead_letters).collect();
    for table in settings.source.tables.iter().filter(|table| table.topic().is_none()) {
        let create = "`walpost preview` shows those of the newest rows; create the ones that rows will name";
        named_by_each(settings, side, "row", &table.shown_topic(), create);
    }
    for messages in settings.source.messages.iter().filter(|messages| messages.topic().is_none()) {
        named_by_each(
            settings,
            side,
            "message",
            &messages.shown_topic(),
            "create those that messages will name",
        );
    }
    if topics.is_empty() {
        check_cluster(settings, side).await;
    }
    for (name, topic) in topics {
        match topic_facts(&settings.kafka, topic, settings.timing.connect_timeout).await {
            Ok(facts) => {
                check_topic(settings, side, name, topic, &facts);
                // A dead letter always has the time of its publishing.
                if settings.kafka.topics.contains(topic) {
                    times::check(settings, side, topic, &facts).await;
                }
                check_rights(settings, side, topic, &facts).await;
            }
            Err(error @ SinkError::Unreachable { .. }) => return failed(side, "connection", error),
            Err(error @ SinkError::TopicMissing { .. }) => missing(settings, side, name, topic, error).await,
            Err(error) => failed(side, name, error),
        }
    }
    if let Some(topic) = &settings.kafka.position_topic {
        check_position(settings, side, topic).await;
    }
}

/// The topic that holds the position, with exactly-once delivery. Nothing is asked in the name of a transactional id: the
/// relay that runs would be ended by it.
async fn check_position(settings: &Settings, side: &mut Side<'_>, topic: &str) {
    const NAME: &str = "position";
    let facts = match topic_facts(&settings.kafka, topic, settings.timing.connect_timeout).await {
        Ok(facts) => facts,
        Err(error @ SinkError::TopicMissing { .. }) => {
            return missing(settings, side, NAME, topic, error).await;
        }
        Err(error) => return failed(side, NAME, error),
    };
    match facts.text("cleanup.policy") {
        Some("compact") => side.ok(NAME, format!("{topic} keeps the last position, however old")),
        Some(policy) => side.fail(
            NAME,
            format!("{topic} has cleanup.policy={policy}: the position may be deleted, and events that Kafka has come again"),
            format!("kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=compact"),
        ),
        None => side.unknown(NAME, "the topic's settings cannot be read", "grant DESCRIBE_CONFIGS"),
    }
    check_replicas(side, topic, &facts);
    check_rights(settings, side, topic, &facts).await;
}

/// Topics that only the events themselves name.
fn named_by_each(settings: &Settings, side: &mut Side<'_>, what: &str, shown: &str, create: &str) {
    let then = match &settings.kafka.missing {
        missing if missing.makes_any() => {
            "one that is missing is made where [create_topics] has a name like it"
        }
        missing if missing.unknown == UnknownTopic::DeadLetter => {
            "an event of one that is missing becomes a dead letter"
        }
        _ => "walpost waits for one that is missing",
    };
    side.unknown("topic", format!("each {what} names its own ({shown})"), format!("{create}: {then}"));
}

/// Whether it is going to be made; here nothing is.
async fn missing(
    settings: &Settings,
    side: &mut Side<'_>,
    name: &'static str,
    topic: &str,
    error: SinkError,
) {
    match would_be_made(&settings.kafka, topic, settings.timing.connect_timeout).await {
        None => failed(side, name, error),
        Some(Ok(new)) => side.ok(name, format!("{topic} does not exist yet, and walpost makes it: {new}")),
        Some(Err(SinkError::TopicNotMade { reason, remedy, .. })) => {
            side.fail(name, format!("{topic} does not exist, and Kafka would not make it: {reason}"), remedy);
        }
        Some(Err(error)) => failed(side, name, error),
    }
}

/// Only the rows say which topics there are to be.
async fn check_cluster(settings: &Settings, side: &mut Side<'_>) {
    match brokers(&settings.kafka, settings.timing.connect_timeout).await {
        Ok(brokers) => side.ok("connection", format!("{brokers} brokers")),
        Err(error) => failed(side, "connection", error),
    }
}

/// Nothing is written: see [`may_write`].
async fn check_rights(settings: &Settings, side: &mut Side<'_>, topic: &str, facts: &TopicFacts) {
    const NAME: &str = "write access";
    let bytes = facts.number("max.message.bytes");
    let may = match bytes {
        Some(bytes) => may_write(&settings.kafka, topic, bytes, settings.timing.connect_timeout).await,
        None => None,
    };
    match may {
        Some(true) => side.ok(NAME, format!("{topic} may be written to")),
        Some(false) => side.fail(
            NAME,
            format!("{topic} may not be written to"),
            format!("kafka-acls.sh --add --allow-principal User:… --operation Write --topic {topic}"),
        ),
        None => side.unknown(
            NAME,
            format!("whether {topic} may be written to could not be found out without writing"),
            "`walpost run` says so when it is denied, and waits: it needs WRITE and DESCRIBE on the topic",
        ),
    }
}

fn failed(side: &mut Side<'_>, name: &'static str, error: SinkError) {
    let error = Error::from(error);
    let is_missing = matches!(error, Error::Sink(SinkError::TopicMissing { .. }));
    let is_denied = matches!(error, Error::Sink(SinkError::Denied(_) | SinkError::TopicDenied { .. }));
    let remedy = match error.verdict() {
        Verdict::Halt { remedy } => remedy,
        _ if is_missing => "create it, correct --topic, or have walpost make it ([create_topics])".to_owned(),
        _ if is_denied => "grant what is missing: `walpost run` waits for it".to_owned(),
        Verdict::Retry | Verdict::StandBy => "start it, or correct --kafka-brokers".to_owned(),
    };
    side.fail(name, error.to_string(), remedy);
}

fn check_topic(
    settings: &Settings,
    side: &mut Side<'_>,
    name: &'static str,
    topic: &str,
    facts: &TopicFacts,
) {
    let TopicFacts { brokers, partitions, replicas, .. } = facts;
    side.ok(name, format!("{topic}, {partitions} partitions, {replicas} replicas, on {brokers} brokers"));
    check_replicas(side, topic, facts);
    check_sizes(settings, side, topic, facts);
    check_expiration(side, facts);
    if facts.text("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        side.warn(
            "cleanup",
            format!("{topic} is compacted: of each key only the last event stays"),
            format!("kafka-configs.sh --alter --topic {topic} --add-config cleanup.policy=delete"),
        );
    }
}

/// Whether what is acknowledged stays.
fn check_replicas(side: &mut Side<'_>, topic: &str, facts: &TopicFacts) {
    let TopicFacts { replicas, .. } = facts;
    match facts.number("min.insync.replicas") {
        None => {
            side.unknown("in-sync replicas", "the topic's settings cannot be read", "grant DESCRIBE_CONFIGS")
        }
        Some(needed) if needed > *replicas => side.fail(
            "in-sync replicas",
            format!("{topic} needs {needed} and has {replicas}: nothing can be written"),
            "lower min.insync.replicas, or add replicas",
        ),
        Some(_) if *replicas < 2 => side.warn(
            "in-sync replicas",
            format!("{topic} has one replica: what it acknowledged is lost with its disk"),
            "use three replicas and min.insync.replicas=2",
        ),
        Some(1) => side.warn(
            "in-sync replicas",
            format!("one replica alone may acknowledge for {topic}"),
            format!("kafka-configs.sh --alter --topic {topic} --add-config min.insync.replicas=2"),
        ),
        Some(needed) => side.ok("in-sync replicas", format!("{needed} of {replicas}")),
    }
    if facts.text("unclean.leader.election.enable") == Some("true") {
        side.warn(
            "leader election",
            format!(
                "{topic} may be led by a replica that lacks what was acknowledged: those events are lost then"
            ),
            format!(
                "kafka-configs.sh --alter --topic {topic} --add-config unclean.leader.election.enable=false"
            ),
        );
    }
}

fn check_sizes(settings: &Settings, side: &mut Side<'_>, topic: &str, facts: &TopicFacts) {
    const NAME: &str = "message size";
    let Some(takes) = facts.number("max.message.bytes") else { return };
    let takes = takes as u64;
    let sent = settings.kafka.properties.get("message.max.bytes");
    let sent = sent.and_then(|bytes| bytes.parse().ok()).unwrap_or(MESSAGE_MAX_BYTES);
    if takes < sent {
        side.warn(
            NAME,
            format!("{topic} takes batches of {takes} bytes, walpost sends up to {sent}: refused ones go again one by one"),
            format!("set the kafka property message.max.bytes to {takes}, or raise the topic's max.message.bytes"),
        );
    } else {
        side.ok(NAME, format!("{topic} takes {takes} bytes, walpost sends up to {sent}"));
    }
}

/// By what a broker knows of a producer it refuses what is out of order; see [`OLD_AFTER_MS`].
fn check_expiration(side: &mut Side<'_>, facts: &TopicFacts) {
    const NAME: &str = "producer expiry";
    let Some(after) = facts.producers_expire_after else { return };
    let least = 2 * Duration::from_millis(OLD_AFTER_MS.unsigned_abs());
    if after < least {
        side.warn(
            NAME,
            format!(
                "brokers forget a producer after {} s, by the timestamps of its records",
                after.as_secs()
            ),
            format!(
                "set producer.id.expiration.ms to {} or more on the brokers, as by default",
                least.as_millis()
            ),
        );
    } else {
        side.ok(NAME, format!("brokers remember a producer for {} h", after.as_secs() / 3_600));
    }
}
