//! Package events, whoever made the change: the cache forgets the package.
//!
//! Offsets are committed only while no removal is left to be made, so that after a crash the events of the others are read
//! again.

use std::time::Duration;

use logistic_package_proto::package_event::{EventType, PackageEvent};
use prost::Message as _;
use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::KafkaSettings;
use crate::cache::{Cache, RedisCache};
use crate::observe::metrics::Metrics;
use crate::route::grammar;
use crate::telemetry::traces;

/// How often what was read is committed; also how long a Kafka that fails is left alone.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Follows the events until it is told to stop.
///
/// # Errors
/// When a property is none of librdkafka's.
pub async fn follow(
    settings: &KafkaSettings,
    cache: RedisCache,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), String> {
    let consumer: StreamConsumer = settings
        .client(&[
            ("group.id", settings.group.as_str()),
            // After a crash the next process waits for the end of the last one's session.
            ("session.timeout.ms", "10000"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // A group without a past forgets every package that has ever changed: what an older bot left in the cache may
            // be stale, and a removal costs little.
            ("auto.offset.reset", "earliest"),
        ])
        .create()
        .map_err(|error| format!("kafka-property: {error}"))?;
    consumer
        .subscribe(&[&settings.package_events_topic])
        .map_err(|error| format!("package-events-topic: {error}"))?;
    let mut follower = Follower { consumer, cache, metrics, uncommitted: false };
    while stop.run_until_cancelled(follower.step()).await.is_some() {}
    follower.commit(CommitMode::Sync);
    Ok(())
}

struct Follower {
    consumer: StreamConsumer,
    cache: RedisCache,
    metrics: Metrics,
    uncommitted: bool,
}

impl Follower {
    async fn step(&mut self) {
        let until = tokio::time::Instant::now() + COMMIT_INTERVAL;
        while let Ok(received) = tokio::time::timeout_at(until, self.consumer.recv()).await {
            match received {
                Ok(message) => {
                    forget(&self.cache, &self.metrics, &message).await;
                    if let Err(error) = self.consumer.store_offset_from_message(&message) {
                        tracing::debug!(%error, "an offset is not stored");
                    }
                    self.uncommitted = true;
                }
                Err(error) => {
                    tracing::debug!(%error, "no package events");
                    tokio::time::sleep_until(until).await;
                }
            }
        }
        self.commit(CommitMode::Async);
    }

    fn commit(&mut self, mode: CommitMode) {
        if self.uncommitted && self.cache.is_dirty() {
            tracing::debug!("offsets are not committed before every removal is made");
        } else if self.uncommitted {
            match self.consumer.commit_consumer_state(mode) {
                Ok(()) => self.uncommitted = false,
                Err(error) => tracing::debug!(%error, "offsets are not committed: events will be read again"),
            }
        }
    }
}

async fn forget(cache: &RedisCache, metrics: &Metrics, message: &BorrowedMessage<'_>) {
    let Some(id) = changed(message.key(), message.payload()) else { return };
    let span = traces::event_span(message.topic(), header(message, "traceparent"));
    let forgotten = cache.forget(id).instrument(span).await;
    metrics.events.with_label_values(&[if forgotten { "true" } else { "false" }]).inc();
}

fn header<'a>(message: &'a BorrowedMessage<'_>, name: &str) -> Option<&'a [u8]> {
    message.headers()?.iter().find(|header| header.key == name)?.value
}

/// The package that has changed. One that is new cannot be in the cache but by its own maker, who has the truth.
fn changed(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<u64> {
    let event = value.filter(|value| !value.is_empty()).and_then(|value| PackageEvent::decode(value).ok());
    if let Some(event) = &event
        && event.package_id > 0
    {
        return (event.r#type() != EventType::Created).then_some(event.package_id);
    }
    // Of a value in another format the key still tells.
    key.and_then(|key| std::str::from_utf8(key).ok()).and_then(grammar::id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(kind: EventType) -> Vec<u8> {
        PackageEvent { id: 1, package_id: 9, r#type: kind.into(), ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn what_changes_or_goes_is_forgotten_and_what_is_new_is_not() {
        assert_eq!(changed(Some(b"9"), Some(&value(EventType::Updated))), Some(9));
        assert_eq!(changed(Some(b"9"), Some(&value(EventType::Removed))), Some(9));
        assert_eq!(changed(Some(b"9"), Some(&value(EventType::Created))), None);
    }

    #[test]
    fn an_event_that_cannot_be_read_has_its_key() {
        assert_eq!(changed(Some(b"9"), Some(b"{\"json\":1}")), Some(9));
        assert_eq!(changed(Some(b"9"), None), Some(9));
        assert_eq!(changed(Some(b"x"), None), None);
        assert_eq!(changed(None, None), None);
    }
}
