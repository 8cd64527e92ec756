//! What an error of librdkafka means for the record, or for the producer.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use walpost_core::publish::sink::Refusal;
use walpost_core::publish::sink::SinkError;

/// What an error means for the record that it is about, or for the producer.
///
/// What can pass by itself is known by name: the codes that Kafka's protocol calls retriable
/// (<https://kafka.apache.org/protocol#protocol_error_codes>), those about a producer's own state, which a new producer
/// does not have, librdkafka's own for a broker that is away, and a broker's for whatever went wrong inside of it. Every
/// other code is final: tried again it would come again, for ever.
pub(super) fn failure(error: &KafkaError) -> SinkError {
    match error.rdkafka_error_code() {
        Some(code) => of_code(code, code.to_string()),
        None => SinkError::Broken(error.to_string()),
    }
}

/// The same for a code, with what is said about it.
pub(super) fn of_code(code: RDKafkaErrorCode, reason: String) -> SinkError {
    use RDKafkaErrorCode as Code;
    match code {
        Code::QueueFull => SinkError::Full,
        code if is_denied(code) => SinkError::Denied(reason),
        code if passes(code) => SinkError::Broken(reason),
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize => {
            SinkError::Refused { what: Refusal::Size, reason }
        }
        Code::InvalidTimestamp => SinkError::Refused { what: Refusal::Timestamp, reason },
        Code::UnsupportedCompressionType
        | Code::UnsupportedForMessageFormat
        | Code::InvalidRequiredAcks
        | Code::UnsupportedVersion
        | Code::InvalidTopic => SinkError::Refused { what: Refusal::Topic, reason },
        _ => SinkError::Refused { what: Refusal::Other, reason },
    }
}

/// Whether the code says that the client may not do what it needs to.
pub(super) fn is_denied(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::TransactionalIdAuthorizationFailed
            | Code::SecurityDisabled
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
    )
}

/// Whether the producer gives back what it held because of something that happened to the producer, not to the record.
pub(super) fn is_about_the_producer(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::Fatal | Code::GaplessGuarantee | Code::PurgeQueue | Code::PurgeInflight)
}

fn passes(code: RDKafkaErrorCode) -> bool {
    is_about_the_producer(code) || is_retriable(code) || is_of_a_producers_state(code) || is_of_the_way(code)
}

/// Retriable by Kafka's protocol.
fn is_retriable(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::InvalidMessage
            | Code::UnknownTopicOrPartition
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NetworkException
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::NotController
            | Code::KafkaStorageError
            | Code::ListenerNotFound
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::OffsetNotAvailable
            | Code::PreferredLeaderNotAvailable
            | Code::EligibleLeadersNotAvailable
            | Code::ThrottlingQuotaExceeded
            | Code::UnknownTopicId
            | Code::ConcurrentTransactions
            | Code::RebootstrapRequired
            // Not by the protocol's table. But it is what a broker says of every exception that has no code, that its
            // rules are not loaded yet (AuthorizerNotReadyException) among them.
            | Code::Unknown
    )
}

/// A new producer has a state of its own.
fn is_of_a_producers_state(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::OutOfOrderSequenceNumber
            | Code::DuplicateSequenceNumber
            | Code::InvalidProducerEpoch
            | Code::InvalidProducerIdMapping
            | Code::UnknownProducerId
            | Code::ProducerFenced
            | Code::Fenced
            | Code::InvalidTransactionalState
            | Code::TransactionCoordinatorFenced
            | Code::State
            | Code::Inconsistent
    )
}

/// librdkafka's own, for brokers and topics that are away.
fn is_of_the_way(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::BrokerDestroy
            | Code::DestroyBroker
            | Code::Resolve
            | Code::AllBrokersDown
            | Code::UnknownBroker
            | Code::UnknownPartition
            | Code::UnknownTopic
            | Code::OperationTimedOut
            | Code::MessageTimedOut
            | Code::TimedOutQueue
            | Code::WaitingForCoordinator
            | Code::Retry
            | Code::Outdated
            | Code::InProgress
            | Code::PreviousInProgress
            | Code::SSL
            | Code::BadMessage
            | Code::Underflow
            | Code::Fail
            | Code::CriticalSystemResource
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(code: RDKafkaErrorCode) -> SinkError {
        failure(&KafkaError::MessageProduction(code))
    }

    #[test]
    fn only_what_is_known_to_pass_is_tried_again() {
        use RDKafkaErrorCode as Code;
        for code in [Code::NotLeaderForPartition, Code::NotEnoughReplicas, Code::PurgeQueue, Code::Unknown] {
            assert!(matches!(judged(code), SinkError::Broken(_)), "{code}");
        }
        let refusals = [
            (Code::InvalidTimestamp, Refusal::Timestamp),
            (Code::MessageSizeTooLarge, Refusal::Size),
            (Code::MessageBatchTooLarge, Refusal::Size),
            (Code::UnsupportedCompressionType, Refusal::Topic),
            (Code::PolicyViolation, Refusal::Other),
            (Code::UnsupportedForMessageFormat, Refusal::Topic),
            (Code::InvalidRecord, Refusal::Other),
            (Code::InvalidArgument, Refusal::Other),
        ];
        for (code, expected) in refusals {
            let judged = judged(code);
            assert!(
                matches!(judged, SinkError::Refused { what, .. } if what == expected),
                "{code}: {judged:?}"
            );
        }
        assert!(matches!(judged(Code::ClusterAuthorizationFailed), SinkError::Denied(_)));
        assert_eq!(judged(Code::QueueFull), SinkError::Full);
    }
}
