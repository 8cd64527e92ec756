//! The member of the group: the settings and the callbacks of librdkafka.

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

    /// What is known of an error that [`Member::poll`] has just returned: more than its code.
    #[must_use]
    pub fn reason(&self, error: &KafkaError) -> String {
        let reason = self.0.context().take_reason();
        reason.map_or_else(|| error.to_string(), |reason| format!("{error}: {reason}"))
    }

    /// Lets the record be committed: within a second, when its partition is taken away, or at the end.
    ///
    /// # Errors
    /// When its partition was taken away: somebody else prints the record again.
    pub fn store(&self, record: &BorrowedMessage<'_>) -> KafkaResult<()> {
        self.0.store_offset_from_message(record)
    }

    /// Asks Kafka for a topic.
    #[must_use]
    pub fn look_up(&self, topic: &str) -> Found {
        let Ok(metadata) = self.0.fetch_metadata(Some(topic), METADATA_TIMEOUT) else {
            return Found::Unknown;
        };
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
            return Found::Unknown;
        };
        match found.error().map(RDKafkaErrorCode::from) {
            None if !found.partitions().is_empty() => Found::There,
            None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                Found::Missing
            }
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => Found::Denied,
            Some(_) => Found::Unknown,
        }
    }
}

/// What Kafka says of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It has partitions.
    There,
    /// It does not exist.
    Missing,
    /// This client may not see it.
    Denied,
    /// No answer, or one that passes: leaders are being chosen.
    Unknown,
}

/// What an error of a poll means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// librdkafka goes on by itself when it passes.
    Waiting,
    /// The same; the errors before it say why.
    AllDown,
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
        AllBrokersDown, Authentication, ClusterAuthorizationFailed, GroupAuthorizationFailed,
        SaslAuthenticationFailed, TopicAuthorizationFailed, UnknownTopic, UnknownTopicOrPartition,
    };
    if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
        return Trouble::Fatal;
    }
    match error.rdkafka_error_code() {
        Some(UnknownTopicOrPartition | UnknownTopic) => Trouble::TopicMissing,
        Some(
            Authentication
            | ClusterAuthorizationFailed
            | GroupAuthorizationFailed
            | SaslAuthenticationFailed
            | TopicAuthorizationFailed,
        ) => Trouble::Denied,
        Some(AllBrokersDown) => Trouble::AllDown,
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
        assert_eq!(of(AllBrokersDown), Trouble::AllDown);
        for code in [BrokerTransportFailure, Resolve, PollExceeded] {
            assert_eq!(of(code), Trouble::Waiting, "{code}");
        }
        assert_eq!(of(UnknownTopicOrPartition), Trouble::TopicMissing);
        assert_eq!(of(GroupAuthorizationFailed), Trouble::Denied);
        assert_eq!(of(TopicAuthorizationFailed), Trouble::Denied);
        assert_eq!(trouble(&KafkaError::MessageConsumptionFatal(AllBrokersDown)), Trouble::Fatal);
    }
}
