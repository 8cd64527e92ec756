//! Kafka: the records that the bot writes, and the package events that it reads.

mod events;
mod writer;

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;

pub use events::follow;
pub use writer::KafkaWriter;

/// Where Kafka is, and the names of what is there.
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// Bootstrap servers.
    pub brokers: String,
    /// Of what was asked.
    pub commands_topic: String,
    /// Of the cache's uses.
    pub cache_events_topic: String,
    /// Of the changes of packages.
    pub package_events_topic: String,
    /// The consumer group that remembers how far those were read.
    pub group: String,
    /// librdkafka's own properties.
    pub properties: BTreeMap<String, String>,
}

impl KafkaSettings {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "logistic-package-api-bot");
        // A broker that is back is noticed soon.
        config.set("reconnect.backoff.max.ms", "2000");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
    }
}

/// A broker that does not answer by then is away.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
