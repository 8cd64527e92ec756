//! Topics that are made, where one is needed that is missing and the settings say how.
//!
//! One after the other: the question for a topic waits for the one before, so a pattern that fits more than was meant makes
//! no storm, and the log has a line for each.

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic as Request, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::runtime::Handle;

use super::asking::{Answer, NotThere, ask, is_missing};
use super::clients::{client_config, keep_signed_in, unusable};
use super::failure::is_denied;
use super::producers::Producers;
use crate::config::{KafkaSettings, NewTopic};
use walpost_core::publish::sink::SinkError;

/// A topic that was made is asked for so often, until a broker that answers has heard of it.
const HEARD_INTERVAL: Duration = Duration::from_millis(50);

/// Makes topics.
#[derive(Debug, Clone)]
pub(super) struct Maker {
    kafka: KafkaSettings,
}

/// What the controller said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Made {
    /// It is made, or would be.
    Now,
    /// Somebody made it before.
    Before,
}

impl Maker {
    pub(super) fn new(kafka: &KafkaSettings) -> Self {
        Self { kafka: kafka.clone() }
    }

    /// Asks for a topic, and makes it where it is missing and is to be made. Waits itself: for a thread where it may, of a
    /// runtime that goes on meanwhile.
    pub(super) fn seek(&self, producers: &Producers, topic: &str, timeout: Duration) -> Answer {
        match (ask(producers, topic, timeout), self.kafka.missing.to_be_made(topic)) {
            (Err(NotThere::Code(code)), Some(new)) if is_missing(code) => {
                self.make(topic, new, timeout)?;
                self.until_heard_of(producers, topic, timeout)
            }
            (answer, _) => answer,
        }
    }

    fn make(&self, topic: &str, new: &NewTopic, timeout: Duration) -> Result<(), SinkError> {
        let made = self.request(topic, new, timeout, false);
        match &made {
            Ok(Made::Now) => tracing::info!(topic, new = %new, "made a topic"),
            Ok(Made::Before) => tracing::info!(topic, "a topic that was missing was made by another"),
            Err(error) => tracing::warn!(topic, new = %new, %error, "a topic is not made"),
        }
        made.map(drop)
    }

    /// The controller has the topic; brokers hear of it a moment later.
    fn until_heard_of(&self, producers: &Producers, topic: &str, timeout: Duration) -> Answer {
        let until = Instant::now() + timeout;
        loop {
            match ask(producers, topic, timeout) {
                Err(NotThere::Code(code)) if is_missing(code) || code == Code::LeaderNotAvailable => {}
                answer => return answer,
            }
            if Instant::now() >= until {
                let reason =
                    "the controller has it by now, and the brokers that answer do not know it yet".to_owned();
                return Err(self
                    .not_made(
                        topic,
                        reason,
                        "if it stays so, look at the brokers' logs: walpost goes on by itself",
                    )
                    .into());
            }
            std::thread::sleep(HEARD_INTERVAL);
        }
    }

    /// Asks the controller for the topic, or only whether it would make it.
    fn request(
        &self,
        topic: &str,
        new: &NewTopic,
        timeout: Duration,
        only_whether: bool,
    ) -> Result<Made, SinkError> {
        let admin: AdminClient<DefaultClientContext> =
            client_config(&self.kafka).create().map_err(|error| unusable(&error))?;
        keep_signed_in(admin.inner(), self.kafka.sign_in.clone().as_ref(), &self.kafka.brokers)?;
        let options = AdminOptions::new()
            .request_timeout(Some(timeout))
            .operation_timeout(Some(timeout))
            .validate_only(only_whether);
        let asked = Handle::current().block_on(admin.create_topics([&request(topic, new)], &options));
        let unreachable =
            |reason: String| SinkError::Unreachable { brokers: self.kafka.brokers.clone(), reason };
        let said = asked.map_err(|error| unreachable(error.to_string()))?.into_iter().next();
        match said {
            Some(Ok(_)) => Ok(Made::Now),
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(Made::Before),
            Some(Err((_, code))) => {
                Err(self.not_made(topic, code.to_string(), &remedy(code, topic, new, &self.kafka.brokers)))
            }
            None => Err(unreachable("no answer to the making of a topic".to_owned())),
        }
    }

    fn not_made(&self, topic: &str, reason: String, remedy: &str) -> SinkError {
        let (topic, brokers) = (topic.to_owned(), self.kafka.brokers.clone());
        SinkError::TopicNotMade { topic, brokers, reason, remedy: remedy.to_owned() }
    }
}

/// Whether the topic, which is missing, is to be made, and if so, whether the controller would. Nothing is made.
///
/// # Errors
/// When it would not.
pub async fn would_be_made(
    kafka: &KafkaSettings,
    topic: &str,
    timeout: Duration,
) -> Option<Result<NewTopic, SinkError>> {
    let new = kafka.missing.to_be_made(topic)?.clone();
    let (maker, name, tried) = (Maker::new(kafka), topic.to_owned(), new.clone());
    let asked = tokio::task::spawn_blocking(move || maker.request(&name, &tried, timeout, true)).await;
    let failed = |reason: String| SinkError::Unreachable { brokers: kafka.brokers.clone(), reason };
    Some(asked.unwrap_or_else(|panicked| Err(failed(panicked.to_string()))).map(|_| new))
}

/// -1 leaves a number to the brokers (KIP-464).
fn request<'a>(topic: &'a str, new: &'a NewTopic) -> Request<'a> {
    let replication = TopicReplication::Fixed(new.replication.unwrap_or(-1));
    let request = Request::new(topic, new.partitions.unwrap_or(-1), replication);
    new.properties.iter().fold(request, |request, (name, value)| request.set(name, value))
}

/// What the operator can do. The client passes on Kafka's code and not the text beside it.
fn remedy(code: Code, topic: &str, new: &NewTopic, brokers: &str) -> String {
    let by_hand = format!(
        "make it yourself (kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} --partitions …): walpost goes \
         on by itself"
    );
    let setting = format!("[create_topics] \"{}\"", new.pattern);
    match code {
        code if is_denied(code) => format!("grant the client CREATE on the topic, or {by_hand}"),
        Code::InvalidReplicationFactor => format!(
            "a topic has at most as many replicas as brokers are up: start brokers, or {by_hand}; {setting} says {}",
            new.replication.map_or_else(|| "nothing of it".to_owned(), |replication| replication.to_string())
        ),
        Code::InvalidTopic => {
            format!(
                "perhaps its name differs only in dots and underscores from that of another: remove that one, or {by_hand}"
            )
        }
        Code::InvalidConfig | Code::InvalidPartitions | Code::InvalidRequest | Code::PolicyViolation => {
            let properties: Vec<_> =
                new.properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let properties = if properties.is_empty() {
                "the brokers' own defaults".to_owned()
            } else {
                properties.join(", ")
            };
            format!("look at {setting} ({properties}), correct it and start walpost again, or {by_hand}")
        }
        _ => format!("if it stays so, {by_hand}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use walpost_core::publish::pattern::TopicPattern;

    use super::*;

    #[test]
    fn each_refusal_names_a_way_out_and_the_setting_where_it_is_to_blame() {
        let new = NewTopic {
            pattern: TopicPattern::parse("shop.*").unwrap(),
            partitions: None,
            replication: Some(3),
            properties: BTreeMap::from([("cleanup.policy".to_owned(), "compat".to_owned())]),
        };
        for (code, parts) in [
            (Code::TopicAuthorizationFailed, &["grant the client CREATE"][..]),
            (Code::ClusterAuthorizationFailed, &["grant the client CREATE"]),
            (Code::InvalidReplicationFactor, &["brokers are up", "\"shop.*\" says 3"]),
            (
                Code::InvalidConfig,
                &["[create_topics] \"shop.*\"", "cleanup.policy=compat", "start walpost again"],
            ),
            (Code::PolicyViolation, &["[create_topics] \"shop.*\"", "start walpost again"]),
            (Code::InvalidTopic, &["dots and underscores"]),
            (Code::ThrottlingQuotaExceeded, &["if it stays so"]),
        ] {
            let said = remedy(code, "shop.orders", &new, "b:1");
            for part in parts.iter().chain(&["--bootstrap-server b:1 --create --topic shop.orders"]) {
                assert!(said.contains(part), "{code}: {part} in {said}");
            }
        }
    }
}
