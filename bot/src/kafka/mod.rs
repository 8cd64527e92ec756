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
    /// # Errors
    /// When a property is none of librdkafka's, or its value is none of the property's.
    pub fn check(&self) -> Result<(), String> {
        self.client(&[]).create_native_config().map(drop).map_err(|error| error.to_string())
    }

    /// What a client is made of: its own defaults, and over them what the operator says. What a promise rests on was
    /// refused when the settings were read.
    fn client(&self, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.brokers).set("client.id", "logistic-package-api-bot");
        // A broker that is back is noticed soon.
        config.set("reconnect.backoff.max.ms", "2000");
        let given = self.properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in defaults.iter().copied().chain(given) {
            config.set(name, value);
        }
        config
    }
}

/// A broker that does not answer by then is away.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);
