//! What Kafka says of a topic.

use std::collections::HashMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer as _};
use tokio::task::JoinError;

use super::clients::{client_config, keep_signed_in, unusable};
use walpost_core::publish::sink::SinkError;

use super::is_denied;
use crate::config::KafkaSettings;

/// What Kafka says of a topic.
#[derive(Debug, Clone)]
pub struct TopicFacts {
    /// Brokers of the cluster.
    pub brokers: usize,
    /// The topic's partitions.
    pub partitions: usize,
    /// Replicas of the partition that has the fewest.
    pub replicas: usize,
    /// The topic's settings; empty when they may not be read.
    settings: HashMap<String, String>,
    /// After how long a broker forgets a producer that is idle; `None` when that may not be read.
    pub producers_expire_after: Option<Duration>,
}

impl TopicFacts {
    /// A setting of the topic.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.settings.get(name).map(String::as_str)
    }

    /// The same, as a number.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<usize> {
        self.text(name)?.parse().ok()
    }
}

/// Asks for them.
///
/// # Errors
/// When no broker answers, or the topic is missing.
pub async fn topic_facts(
    kafka: &KafkaSettings,
    topic: &str,
    timeout: Duration,
) -> Result<TopicFacts, SinkError> {
    let (admin, metadata) = ask(kafka, Some(topic), timeout).await?;
    let refused = metadata.topics().first().and_then(|topic| topic.error()).map(RDKafkaErrorCode::from);
    if let Some(code) = refused.filter(|code| is_denied(*code)) {
        return Err(SinkError::Denied(format!("{code} (topic `{topic}`)")));
    }
    let found = metadata.topics().first().filter(|topic| topic.error().is_none());
    let Some(found) = found.filter(|topic| !topic.partitions().is_empty()) else {
        return Err(SinkError::TopicMissing { topic: topic.to_owned(), brokers: kafka.brokers.clone() });
    };
    let broker = metadata.brokers().first().map(|broker| ResourceSpecifier::Broker(broker.id()));
    let broker = match &broker {
        Some(broker) => settings(&admin, broker, timeout).await,
        None => HashMap::new(),
    };
    let expiration = broker.get("producer.id.expiration.ms").and_then(|millis| millis.parse().ok());
    let replicas = found.partitions().iter().map(|partition| partition.replicas().len()).min();
    Ok(TopicFacts {
        brokers: metadata.brokers().len(),
        partitions: found.partitions().len(),
        replicas: replicas.unwrap_or_default(),
        settings: settings(&admin, &ResourceSpecifier::Topic(topic), timeout).await,
        producers_expire_after: expiration.map(Duration::from_millis),
    })
}

/// Asks the cluster, about no topic in particular, for the number of its brokers.
///
/// # Errors
/// When no broker answers.
pub async fn brokers(kafka: &KafkaSettings, timeout: Duration) -> Result<usize, SinkError> {
    ask(kafka, None, timeout).await.map(|(_, metadata)| metadata.brokers().len())
}

/// Asks for a topic, or for the cluster, by a client that can ask for more.
async fn ask(
    kafka: &KafkaSettings,
    topic: Option<&str>,
    timeout: Duration,
) -> Result<(AdminClient<DefaultClientContext>, Metadata), SinkError> {
    let admin: AdminClient<DefaultClientContext> =
        client_config(kafka).create().map_err(|error| unusable(&error))?;
    let (brokers, sign_in, name) = (kafka.brokers.clone(), kafka.sign_in.clone(), topic.map(str::to_owned));
    let asked = tokio::task::spawn_blocking(move || {
        keep_signed_in(admin.inner(), sign_in.as_ref(), &brokers)?;
        let metadata = admin.inner().fetch_metadata(name.as_deref(), timeout);
        let unreachable = |error: KafkaError| SinkError::Unreachable { brokers, reason: error.to_string() };
        Ok((admin, metadata.map_err(unreachable)?))
    });
    let panicked = |error: JoinError| SinkError::Unreachable {
        brokers: kafka.brokers.clone(),
        reason: error.to_string(),
    };
    asked.await.map_err(panicked)?
}

async fn settings(
    admin: &AdminClient<DefaultClientContext>,
    resource: &ResourceSpecifier<'_>,
    timeout: Duration,
) -> HashMap<String, String> {
    let options = AdminOptions::new().request_timeout(Some(timeout));
    let asked = admin.describe_configs([resource], &options);
    let Ok(Ok(described)) = tokio::time::timeout(timeout, asked).await else { return HashMap::new() };
    let entries = described.into_iter().flatten().flat_map(|resource| resource.entries);
    entries.filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

/// Above this a question would be too much traffic.
const ASKED_BYTES_MAX: usize = 16 << 20;

/// Room for what the format adds to a record.
const FRAME_BYTES: usize = 1 << 10;

/// Whether this client may write to the topic, found out without writing: a broker looks at the right before it looks at
/// the record, so one that is larger than the topic takes (`max_bytes`) is refused either way, and the answer tells.
/// `None` when it does not.
pub async fn may_write(
    kafka: &KafkaSettings,
    topic: &str,
    max_bytes: usize,
    timeout: Duration,
) -> Option<bool> {
    if max_bytes > ASKED_BYTES_MAX {
        return None;
    }
    let (mut config, topic) = (client_config(kafka), topic.to_owned());
    let bytes = max_bytes + FRAME_BYTES;
    config
        .set("message.max.bytes", (bytes + FRAME_BYTES).to_string())
        .set("batch.size", (bytes + FRAME_BYTES).to_string())
        .set("compression.type", "none")
        .set("enable.idempotence", "false")
        .set("message.send.max.retries", "0")
        .set("message.timeout.ms", timeout.as_millis().to_string());
    let producer: FutureProducer = config.create().ok()?;
    let (client, sign_in, brokers) = (producer.clone(), kafka.sign_in.clone(), kafka.brokers.clone());
    let signing_in = move || keep_signed_in(client.client(), sign_in.as_ref(), &brokers);
    tokio::task::spawn_blocking(signing_in).await.ok()?.ok()?;
    let payload = vec![0; bytes];
    let record = FutureRecord::<(), _>::to(&topic).payload(&payload);
    let (error, _) = producer.send(record, timeout).await.err()?;
    match error.rdkafka_error_code()? {
        RDKafkaErrorCode::MessageSizeTooLarge => Some(true),
        code if is_denied(code) => Some(false),
        _ => None,
    }
}
