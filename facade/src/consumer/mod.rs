//! The member of the group: what librdkafka is told, and what it tells.

mod context;
mod settings;

pub use settings::KafkaSettings;

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;

use crate::board::Board;
use crate::metrics::Metrics;
use context::Context;

/// How long a broker may take to say which topics there are. Nothing is printed meanwhile.
const METADATA_TIMEOUT: Duration = Duration::from_secs(2);

/// A member of the group. Dropping it commits what is stored and leaves the group.
pub struct Member(BaseConsumer<Context>);

impl Member {
    /// Joins the group, as soon as Kafka is there: a broker that is away is waited for.
    ///
    /// # Errors
    /// When librdkafka does not take the settings, which were tried when they were read.
    pub fn join<'a>(
        kafka: &KafkaSettings,
        topics: impl Iterator<Item = &'a str>,
        board: &Arc<Board>,
        metrics: &Metrics,
    ) -> KafkaResult<Self> {
        let context = Context::new(board.clone(), metrics.clone());
        let consumer: BaseConsumer<Context> = kafka.client_config().create_with_context(context)?;
        consumer.subscribe(&topics.collect::<Vec<_>>())?;
        Ok(Self(consumer))
    }

    /// The next record, waiting for it as long as `timeout`; rebalances happen meanwhile, on this thread.
    pub fn poll(&self, timeout: Duration) -> Option<KafkaResult<BorrowedMessage<'_>>> {
        self.0.poll(timeout)
    }

    /// Lets the record be committed: within a second, when its partition is taken away, or at the end.
    ///
    /// # Errors
    /// When its partition was taken away: somebody else prints the record again.
    pub fn store(&self, record: &BorrowedMessage<'_>) -> KafkaResult<()> {
        self.0.store_offset_from_message(record)
    }

    /// Whether Kafka has the topic; `None` when it does not say.
    #[must_use]
    pub fn has(&self, topic: &str) -> Option<bool> {
        let metadata = self.0.fetch_metadata(Some(topic), METADATA_TIMEOUT).ok()?;
        let found = metadata.topics().iter().find(|found| found.name() == topic)?;
        match found.error().map(RDKafkaErrorCode::from) {
            None => Some(!found.partitions().is_empty()),
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Some(false),
            Some(_) => None,
        }
    }
}

/// What an error of a poll means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// librdkafka goes on by itself when it passes.
    Waiting,
    /// The same, and somebody has to make the topic.
    TopicMissing,
    /// The same, and somebody has to give a right.
    Denied,
    /// This member is of no use any more.
    Fatal,
}

/// Judges an error by its code.
#[must_use]
pub fn trouble(error: &KafkaError) -> Trouble {
    use RDKafkaErrorCode::{
        GroupAuthorizationFailed, SaslAuthenticationFailed, TopicAuthorizationFailed, UnknownTopic,
        UnknownTopicOrPartition,
    };
    if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
        return Trouble::Fatal;
    }
    match error.rdkafka_error_code() {
        Some(UnknownTopicOrPartition | UnknownTopic) => Trouble::TopicMissing,
        Some(GroupAuthorizationFailed | TopicAuthorizationFailed | SaslAuthenticationFailed) => {
            Trouble::Denied
        }
        _ => Trouble::Waiting,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_waited_for_and_what_needs_a_hand_is_told_apart() {
        use RDKafkaErrorCode::{
            AllBrokersDown, BrokerTransportFailure, GroupAuthorizationFailed, PollExceeded, Resolve,
            TopicAuthorizationFailed, UnknownTopicOrPartition,
        };
        let of = |code| trouble(&KafkaError::MessageConsumption(code));
        for code in [AllBrokersDown, BrokerTransportFailure, Resolve, PollExceeded] {
            assert_eq!(of(code), Trouble::Waiting, "{code}");
        }
        assert_eq!(of(UnknownTopicOrPartition), Trouble::TopicMissing);
        assert_eq!(of(GroupAuthorizationFailed), Trouble::Denied);
        assert_eq!(of(TopicAuthorizationFailed), Trouble::Denied);
        assert_eq!(trouble(&KafkaError::MessageConsumptionFatal(AllBrokersDown)), Trouble::Fatal);
    }
}
