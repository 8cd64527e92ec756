//! What librdkafka's clients are told.

use std::time::Duration;

use kafka_token::SignIn;
use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::{KafkaSettings, WindowSettings};
use walpost_core::publish::partitions::Group;
use walpost_core::publish::sink::{Batching, SinkError};

/// How often the producer says how it is doing: as often as a near Prometheus scrapes.
const STATISTICS_INTERVAL_MS: &str = "5000";

/// How long a transaction may be open until Kafka aborts it: librdkafka's default.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// librdkafka's default for `message.max.bytes` and, nearly, for `batch.size`.
const MESSAGE_MAX_BYTES: usize = 1_000_000;

/// librdkafka's highest `queue.buffering.max.kbytes`.
const QUEUE_KBYTES_MAX: usize = 2_147_483_647;

/// Old records in a group: enough that a round trip is not felt, few enough that they are handed over in a moment.
const GROUP_RECORDS: u32 = 64;

/// For the producer: what keeps order and delivery safe is not to be changed.
pub(super) fn producer_config(kafka: &KafkaSettings, window: WindowSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    // What may be changed first.
    config
        .set("client.id", "walpost")
        .set("compression.type", "lz4")
        .set("linger.ms", "1")
        .set("socket.timeout.ms", kafka.peer_timeout.as_millis().to_string())
        .set("socket.keepalive.enable", "true")
        .set("statistics.interval.ms", STATISTICS_INTERVAL_MS);
    if kafka.position_topic.is_some() {
        let timeout = TRANSACTION_TIMEOUT.max(kafka.peer_timeout);
        config.set("transaction.timeout.ms", timeout.as_millis().to_string());
    }
    for (name, value) in &kafka.properties {
        config.set(name, value);
    }
    trust_the_system(&mut config);
    let queue_kbytes = queue_kbytes(&config, window);
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("enable.idempotence", "true")
        .set("enable.gapless.guarantee", "true")
        .set("message.timeout.ms", "0")
        .set("partitioner", "murmur2_random")
        // One more, since a record is reported before it has left the queue, and one for the mark of a transaction.
        .set("queue.buffering.max.messages", (window.records + 2).to_string())
        .set("queue.buffering.max.kbytes", queue_kbytes.to_string())
        .set("allow.auto.create.topics", "false");
    if let Some(name) = &kafka.position_topic {
        make_transactional(&mut config, name);
    }
    config
}

/// What fails for good ends the transaction with all that is in it, so there are no gaps; and nothing may outlast it.
fn make_transactional(config: &mut ClientConfig, id: &str) {
    let timeout = config.get("transaction.timeout.ms").unwrap_or_default().to_owned();
    config
        .set("transactional.id", id)
        .set("enable.gapless.guarantee", "false")
        .set("message.timeout.ms", timeout);
}

/// librdkafka counts what it adds to a record; twice the window leaves room for it. And the largest record must fit, or
/// there would never be room for it.
fn queue_kbytes(config: &ClientConfig, window: WindowSettings) -> usize {
    let record = number(config, "message.max.bytes").unwrap_or(MESSAGE_MAX_BYTES);
    (window.bytes / 512 + record / 512).clamp(1 << 10, QUEUE_KBYTES_MAX)
}

/// How many records that are handed over together are sure to share a request: librdkafka waits `linger.ms` for more,
/// and fills a batch up to its bounds.
pub(super) fn group(config: &ClientConfig, batching: Batching) -> Group {
    let lingers = config.get("linger.ms").and_then(|millis| millis.parse::<f64>().ok());
    let lingers = lingers.unwrap_or_default() >= 1.0;
    if batching == Batching::OneByOne || !lingers {
        return Group::ALONE;
    }
    let records = number(config, "batch.num.messages").unwrap_or(usize::MAX);
    let bounds = ["batch.size", "message.max.bytes"].map(|name| number(config, name));
    let bytes = bounds.into_iter().flatten().min().unwrap_or(MESSAGE_MAX_BYTES);
    Group {
        records: u32::try_from(records).map_or(GROUP_RECORDS, |set| set.min(GROUP_RECORDS)),
        bytes: bytes / 4,
    }
}

fn number(config: &ClientConfig, name: &str) -> Option<usize> {
    config.get(name)?.parse().ok()
}

/// Halves the batches, down to what a single record of the usual size needs.
pub(super) fn halve_batches(config: &mut ClientConfig) {
    let bytes = number(config, "batch.size").unwrap_or(MESSAGE_MAX_BYTES);
    config.set("batch.size", (bytes / 2).max(1 << 10).to_string());
}

/// How often the producer says how it is doing; zero when it does not.
pub(super) fn statistics_interval(config: &ClientConfig) -> Duration {
    let millis = config.get("statistics.interval.ms").and_then(|every| every.parse().ok());
    Duration::from_millis(millis.unwrap_or(0))
}

/// How long Kafka lets a transaction be open.
pub(super) fn transaction_timeout(config: &ClientConfig) -> Duration {
    let millis = number(config, "transaction.timeout.ms").and_then(|millis| u64::try_from(millis).ok());
    millis.map_or(TRANSACTION_TIMEOUT, Duration::from_millis)
}

/// What every client has to know, whatever it is there for: librdkafka warns of what is not meant for it.
pub(super) fn client_config(kafka: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in kafka.properties.iter().filter(|(name, _)| is_connection_property(name)) {
        config.set(name, value);
    }
    config.set("bootstrap.servers", &kafka.brokers);
    trust_the_system(&mut config);
    config
}

/// What a consumer says beside records: that a partition has ended is none of its errors.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        tracing::warn!(%error, reason, "Kafka client");
    }
}

impl ConsumerContext for Quiet {}

/// Gives a client its token, where it signs in with one and needs another. May block while one is fetched.
pub(super) fn keep_signed_in<C: ClientContext>(
    client: &Client<C>,
    sign_in: Option<&SignIn>,
    brokers: &str,
) -> Result<(), SinkError> {
    let kept = sign_in.map_or(Ok(()), |sign_in| sign_in.keep(client));
    kept.map_err(|error| SinkError::Unreachable { brokers: brokers.to_owned(), reason: error.to_string() })
}

/// Those that say how to connect; the others are a producer's.
fn is_connection_property(name: &str) -> bool {
    let prefixes = [
        "security.",
        "sasl.",
        "ssl.",
        "enable.ssl.",
        "enable.sasl.",
        "https.",
        "socket.",
        "client.",
        "broker.",
    ];
    prefixes.iter().any(|prefix| name.starts_with(prefix))
}

/// Makes librdkafka look where this system keeps the certificates it trusts: the OpenSSL that is built in knows its own
/// place only, which is on no system. Whoever says where to look is heeded.
fn trust_the_system(config: &mut ClientConfig) {
    let is_encrypted =
        config.get("security.protocol").is_some_and(|protocol| protocol.to_ascii_lowercase().contains("ssl"));
    let is_told = config.get("ssl.ca.location").is_some()
        || config.get("ssl.ca.pem").is_some()
        || ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    if is_encrypted && !is_told {
        config.set("ssl.ca.location", "probe");
    }
}

/// A property that librdkafka does not take, without its value: it may be a password.
pub(super) fn unusable(error: &KafkaError) -> SinkError {
    SinkError::Settings(match error {
        KafkaError::ClientConfig(_, reason, name, _) => format!("{reason} (property `{name}`)"),
        error => error.to_string(),
    })
}

/// This one loads what it names when it is set.
const LOADED_WHEN_SET: &str = "plugin.library.paths";

/// What is said of a property that this build may lack.
const OF_THIS_BUILD: &str = match cfg!(feature = "kafka-tls") {
    true => "",
    false => {
        " (this walpost was built without TLS for Kafka, as the demo's is: build it with its default features)"
    }
};

/// What librdkafka does not take: names that it does not know, and values that are none of theirs. Each is set by itself, by which
/// nothing is read or connected: files that are named are looked for by a client.
#[must_use]
pub fn refused_properties(kafka: &KafkaSettings) -> Vec<String> {
    let refused = |(name, value): (&String, &String)| {
        let mut config = ClientConfig::new();
        let error = config.set(name, value).create_native_config().err()?;
        let reason = match &error {
            KafkaError::ClientConfig(_, reason, _, _) => reason.trim_end(),
            _ => "librdkafka does not take it",
        };
        // Elsewhere it is a mistake in any build.
        let of_build = if reason.contains("OpenSSL") { OF_THIS_BUILD } else { "" };
        Some(format!("kafka property `{name}`: {reason}{of_build}"))
    };
    kafka.properties.iter().filter(|(name, _)| *name != LOADED_WHEN_SET).filter_map(refused).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(properties: &[(&str, &str)]) -> KafkaSettings {
        KafkaSettings {
            brokers: "b:1".into(),
            topics: Vec::new(),
            dead_letter_topic: None,
            missing: crate::config::MissingTopics::default(),
            properties: properties.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            sign_in: None,
            peer_timeout: Duration::from_secs(1),
            late_after: None,
            position_topic: None,
        }
    }

    #[test]
    fn a_property_is_judged_by_name_and_value_and_no_file_is_looked_for() {
        let good = [
            ("linger.ms", "5"),
            ("compression.codec", "zstd"),
            ("ssl.ca.location", "/no/such/file.pem"),
            ("ssl.keystore.location", "/no/such/file.p12"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.password", "hunter2"),
            ("fetch.min.bytes", "1"),
            (LOADED_WHEN_SET, "no-such-library"),
        ];
        assert_eq!(refused_properties(&with(&good)), [""; 0]);
        for (name, value, part) in [
            ("linger.mss", "5", "No such configuration property"),
            ("sasl.pasword", "hunter2", "No such configuration property"),
            ("linger.ms", "soon", "Invalid value"),
            ("batch.size", "-1", "outside allowed range"),
            ("compression.type", "zip", "Invalid value"),
            ("socket.keepalive.enable", "perhaps", "true or false"),
        ] {
            let said = refused_properties(&with(&[(name, value), ("linger.ms.", "1")])).join("\n");
            assert!(said.contains(&format!("kafka property `{name}`: ")) && said.contains(part), "{said}");
            assert!(said.contains("`linger.ms.`") && !said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn every_property_that_says_how_to_connect_is_passed_on_and_no_producers_is() {
        for name in
            ["security.protocol", "enable.ssl.certificate.verification", "sasl.mechanism", "https.ca.pem"]
        {
            assert!(is_connection_property(name), "{name}");
        }
        for name in ["linger.ms", "compression.type", "enable.idempotence", "statistics.interval.ms"] {
            assert!(!is_connection_property(name), "{name}");
        }
    }
}
