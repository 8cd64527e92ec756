//! The settings of librdkafka.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

/// Where Kafka is, and the group.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `host:port,host:port`.
    pub brokers: String,
    /// The consumer group.
    pub group: String,
    /// Properties that are passed on; some are secret, so they are never shown.
    pub properties: BTreeMap<String, String>,
}

impl std::fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { brokers, group, properties } = self;
        let names: Vec<_> = properties.keys().collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", brokers)
            .field("group", group)
            .field("properties", &names)
            .finish()
    }
}

/// Properties that are refused, and why.
const REFUSED: [(&[&str], &str); 6] = [
    (
        &["enable.auto.commit", "auto.commit.enable"],
        "without it nothing is committed, and all is printed again",
    ),
    (&["enable.auto.offset.store"], "with it records are committed that were not printed"),
    (&["auto.offset.reset"], "a record that nobody has printed would be passed over"),
    (&["statistics.interval.ms"], "/ready and the lag come from the statistics"),
    (&["group.id"], "that is --group"),
    (&["bootstrap.servers", "metadata.broker.list"], "that is --kafka-brokers"),
];

/// What holds unless a property says otherwise.
const DEFAULTS: [(&str, &str); 9] = [
    ("client.id", "package-facade"),
    // The Go program has this one alone: members of a group need one in common.
    ("partition.assignment.strategy", "roundrobin"),
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "3000"),
    // The Go program printed records of transactions as they came.
    ("isolation.level", "read_uncommitted"),
    // A topic or partition that is made later is read a few seconds later. The default is five minutes.
    ("topic.metadata.refresh.interval.ms", "5000"),
    // Fetched and not yet printed; the default is 64 MiB, and this process needs nothing else.
    ("queued.max.messages.kbytes", "16384"),
    // A broker that comes back is found within this. The default is ten seconds.
    ("reconnect.backoff.max.ms", "2000"),
    ("socket.keepalive.enable", "true"),
];

/// What makes the promise: an offset is committed when, and only when, its record was printed.
const PROMISED: [(&str, &str); 6] = [
    // The printer stores the offset of a record that is written; what is stored is committed each second, before a
    // partition is given away, and at the end.
    ("enable.auto.commit", "true"),
    ("enable.auto.offset.store", "false"),
    ("auto.commit.interval.ms", "1000"),
    // A group without offsets, or behind what the topic still has, begins with the oldest record.
    ("auto.offset.reset", "earliest"),
    ("allow.auto.create.topics", "false"),
    ("statistics.interval.ms", "1000"),
];

impl KafkaSettings {
    /// What is wrong with the properties. Nothing is connected for it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<String> {
        let refused = |name: &String| {
            let (_, reason) = REFUSED.iter().find(|(names, _)| names.contains(&name.as_str()))?;
            Some(format!("kafka property `{name}` is refused: {reason}"))
        };
        let mut mistakes: Vec<_> = self.properties.keys().filter_map(refused).collect();
        if mistakes.is_empty() {
            mistakes.extend(self.client_config().create_native_config().err().map(|error| unusable(&error)));
        }
        mistakes
    }

    pub(super) fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Warning);
        let given = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in DEFAULTS.into_iter().chain(given).chain(PROMISED) {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers).set("group.id", &self.group);
        trust_the_system(&mut config);
        config
    }
}

/// Makes librdkafka look where this system keeps the certificates it trusts: the OpenSSL that is built in knows its own
/// folder only, which no system has. An explicit setting wins.
fn trust_the_system(config: &mut ClientConfig) {
    let is_encrypted =
        config.get("security.protocol").is_some_and(|protocol| protocol.to_ascii_lowercase().contains("ssl"));
    let is_set = config.get("ssl.ca.location").is_some()
        || config.get("ssl.ca.pem").is_some()
        || ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    if is_encrypted && !is_set {
        config.set("ssl.ca.location", "probe");
    }
}

/// A property that librdkafka does not take, without its value: it may be a password.
fn unusable(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, reason, name, _) => format!("kafka property `{name}`: {reason}"),
        error => format!("kafka properties: {error}"),
    }
}
