//! The sink against librdkafka's own mock of a cluster, which knows topics, their errors and idempotence.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::Message as _;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::timeout;

use super::*;
use crate::config::{MissingTopics, UnknownTopic};
use walpost_core::event::record::{Content, Headers, TopicId, TopicName};
use walpost_core::publish::sink::Lane;

const SOON: Duration = Duration::from_secs(20);

fn settings(brokers: String) -> (KafkaSettings, WindowSettings) {
    let kafka = KafkaSettings {
        brokers,
        topics: Vec::new(),
        dead_letter_topic: None,
        missing: MissingTopics::default(),
        properties: BTreeMap::new(),
        sign_in: None,
        peer_timeout: Duration::from_secs(2),
        late_after: None,
        position_topic: None,
    };
    (kafka, WindowSettings { records: 1_000, bytes: 1 << 20 })
}

struct Case {
    cluster: MockCluster<'static, DefaultProducerContext>,
    sink: KafkaSink,
    headers: Headers,
}

impl Case {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        let (kafka, window) = settings(cluster.bootstrap_servers());
        let sink = KafkaSink::new(&kafka, window).unwrap();
        Self { cluster, sink, headers: Headers::default() }
    }

    fn offer(&mut self, sequence: Sequence, id: u32, name: &str) -> Result<(), SinkError> {
        self.offer_to(sequence, TopicName { id: TopicId(id), name }, None, Some(b"21"))
    }

    fn offer_to(
        &mut self,
        sequence: Sequence,
        topic: TopicName<'_>,
        partition: Option<i32>,
        key: Option<&[u8]>,
    ) -> Result<(), SinkError> {
        let record = Record {
            topic,
            partition,
            key,
            value: None,
            headers: &self.headers,
            timestamp_ms: 0,
            traceparent: None,
            content: Content::Event,
        };
        self.sink.send(sequence, &record)
    }

    /// Waits until the sink wakes.
    async fn wake(&mut self) -> Vec<Report> {
        let mut reports = Vec::new();
        timeout(SOON, self.sink.reports(&mut reports)).await.unwrap();
        reports
    }

    async fn delivers(&mut self, sequence: Sequence) {
        let reports = self.wake().await;
        let outcomes: Vec<_> = reports.iter().map(|report| (report.sequence, &report.outcome)).collect();
        assert!(matches!(outcomes[..], [(reported, Ok(()))] if reported == sequence), "{outcomes:?}");
    }
}

#[tokio::test]
async fn a_topic_is_asked_for_as_it_is_named_first_and_then_written_to() {
    let mut case = Case::new();
    case.cluster.create_topic("a", 3, 1).unwrap();
    case.cluster.create_topic("b", 3, 1).unwrap();
    assert_eq!(case.offer(0, 0, "a"), Err(SinkError::Full));
    assert_eq!(case.offer(0, 0, "a"), Err(SinkError::Full), "it is asked once");
    assert!(case.wake().await.is_empty());
    case.offer(0, 0, "a").unwrap();
    assert!(matches!(case.offer(1, 0, "a"), Err(SinkError::Held(_))), "the first goes alone");
    assert_eq!(case.offer(2, 1, "b"), Err(SinkError::Full));
    // The report of the first, and the answer, in any order.
    let mut reports = Vec::new();
    while reports.is_empty() || case.offer(2, 1, "b") == Err(SinkError::Full) {
        reports.extend(case.wake().await);
    }
    assert!(matches!(reports[..], [Report { sequence: 0, outcome: Ok(()) }]), "{reports:?}");
    case.delivers(2).await;
}

#[tokio::test]
async fn a_missing_topic_is_said_to_be_and_found_once_it_is_created() {
    let mut case = Case::new();
    for _ in 0..2 {
        assert_eq!(case.offer(0, 0, "later"), Err(SinkError::Full));
        assert!(case.wake().await.is_empty());
        let error = case.offer(0, 0, "later").unwrap_err();
        assert!(matches!(&error, SinkError::TopicMissing { topic, .. } if topic == "later"), "{error}");
    }
    // What the next session begins with.
    let error = case.sink.check_topics(&[], SOON).await.unwrap_err();
    assert!(matches!(&error, SinkError::TopicMissing { topic, .. } if topic == "later"), "{error}");
    case.cluster.create_topic("later", 3, 1).unwrap();
    assert!(case.sink.check_topics(&[], SOON).await.unwrap().is_empty());
    case.offer(0, 0, "later").unwrap();
    case.delivers(0).await;
}

#[tokio::test]
async fn a_topic_that_may_not_be_used_is_said_to_be_and_the_producer_lives() {
    let mut case = Case::new();
    case.cluster.create_topic("open", 1, 1).unwrap();
    case.cluster.create_topic("closed", 1, 1).unwrap();
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    case.cluster.topic_error("closed", denied).unwrap();
    assert_eq!(case.sink.check_topics(&["open"], SOON).await.unwrap(), [1]);
    case.offer(0, 0, "open").unwrap();
    case.delivers(0).await;
    assert_eq!(case.offer(1, 1, "closed"), Err(SinkError::Full));
    case.wake().await;
    let error = case.offer(1, 1, "closed").unwrap_err();
    assert!(matches!(&error, SinkError::TopicDenied { topic, .. } if topic == "closed"), "{error}");
    case.offer(2, 0, "open").unwrap();
    case.delivers(2).await;
}

#[tokio::test]
async fn a_partition_that_is_named_is_written_to_and_one_that_is_not_there_is_refused() {
    let mut case = Case::new();
    case.cluster.create_topic("a", 6, 1).unwrap();
    assert_eq!(case.sink.check_topics(&["a"], SOON).await.unwrap(), [6]);
    let topic = TopicName { id: TopicId(0), name: "a" };
    assert_eq!(case.offer_to(0, topic, Some(9), None), Err(SinkError::Full), "it may be new");
    case.wake().await;
    let error = case.offer_to(0, topic, Some(9), None).unwrap_err();
    assert_eq!(error.to_string(), "Kafka refuses the record: partition 9 is not there: `a` has 6");
    case.offer_to(1, topic, Some(5), None).unwrap();
    case.delivers(1).await;

    let stored = read_back(&case.cluster.bootstrap_servers(), "a", 5);
    assert_eq!(stored, (None, None), "neither key nor value is null where it is empty");
}

/// The key and the value of the first record of a partition.
fn read_back(brokers: &str, topic: &str, partition: i32) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "test");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut assigned = TopicPartitionList::new();
    assigned.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    consumer.assign(&assigned).unwrap();
    let message = consumer.poll(SOON).unwrap().unwrap();
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    (owned(message.key()), owned(message.payload()))
}

#[tokio::test]
async fn without_a_topic_to_check_kafka_must_answer_all_the_same() {
    let case = &mut Case::new();
    assert!(case.sink.check_topics(&[], SOON).await.unwrap().is_empty());
    let (kafka, window) = settings("127.0.0.1:1".into());
    let mut sink = KafkaSink::new(&kafka, window).unwrap();
    let error = sink.check_topics(&[], Duration::from_millis(500)).await.unwrap_err();
    assert!(matches!(error, SinkError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_question_that_nobody_answers_ends_and_is_asked_again() {
    let mut case = Case::new();
    let (kafka, window) = settings("127.0.0.1:1".into());
    let peer_timeout = Duration::from_millis(500);
    case.sink = KafkaSink::new(&KafkaSettings { peer_timeout, ..kafka }, window).unwrap();
    assert_eq!(case.offer(0, 0, "a"), Err(SinkError::Full));
    assert!(case.wake().await.is_empty());
    let error = case.offer(0, 0, "a").unwrap_err();
    assert!(matches!(error, SinkError::Unreachable { .. }), "{error}");
    assert_eq!(case.offer(0, 0, "a"), Err(SinkError::Full));
}

#[tokio::test]
async fn a_topic_that_went_away_is_asked_for_anew_by_the_next_producer() {
    let mut case = Case::new();
    case.cluster.create_topic("a", 1, 1).unwrap();
    case.sink.check_topics(&["a"], SOON).await.unwrap();
    case.offer(0, 0, "a").unwrap();
    case.delivers(0).await;
    let missing = RDKafkaErrorCode::UnknownTopicOrPartition;
    let lost = Err(Failed::Error(KafkaError::MessageProduction(missing)));
    // The first lane is its only partition's.
    let lane = Lane(0);
    let at = std::time::Instant::now();
    case.sink.deliveries.push(Delivery { lane, sequence: 1, outcome: lost, at });
    let mut reports = Vec::new();
    case.sink.take(&mut reports);
    assert!(matches!(&reports[..], [Report { outcome: Err(SinkError::Broken(_)), .. }]), "{reports:?}");
    case.sink.restart(Batching::Together, &mut reports).await.unwrap();
    assert_eq!(case.offer(1, 0, "a"), Err(SinkError::Full), "it is asked for");
    case.wake().await;
    case.offer(1, 0, "a").unwrap();
    case.delivers(1).await;
}

impl Case {
    /// On so many brokers, where rows of unknown topics become dead letters, but for those of `named`.
    fn that_gives_up(brokers: i32, named: &str) -> Self {
        let cluster = MockCluster::new(brokers).unwrap();
        let (mut kafka, window) = settings(cluster.bootstrap_servers());
        kafka.missing.unknown = UnknownTopic::DeadLetter;
        kafka.topics = vec![named.to_owned()];
        let sink = KafkaSink::new(&kafka, window).unwrap();
        Self { cluster, sink, headers: Headers::default() }
    }

    /// What the sink says to a record in the end, once Kafka was asked.
    async fn answer(&mut self, sequence: Sequence, id: u32, name: &str) -> Result<(), SinkError> {
        loop {
            match self.offer(sequence, id, name) {
                Err(SinkError::Full | SinkError::Held(_)) => drop(self.wake().await),
                said => return said,
            }
        }
    }
}

#[tokio::test]
async fn a_record_of_a_missing_topic_is_held_while_others_go_and_refused_after_two_looks() {
    let mut case = Case::that_gives_up(3, "named");
    case.cluster.create_topic("there", 1, 1).unwrap();
    case.sink.check_topics(&["there"], SOON).await.unwrap();
    assert_eq!(case.offer(0, 0, "gone"), Err(SinkError::Full));
    assert!(case.wake().await.is_empty());
    let began = std::time::Instant::now();
    let held = case.offer(0, 0, "gone").unwrap_err();
    assert!(matches!(held, SinkError::Held(_)), "{held}");
    case.offer(1, 1, "there").unwrap();
    assert_eq!(case.offer(2, 0, "gone"), Err(held));
    let Err(SinkError::Refused { what: Refusal::Other, reason }) = case.answer(0, 0, "gone").await else {
        panic!("taken")
    };
    assert!(reason.contains("`gone`") && reason.contains("unknown_topic = dead-letter"), "{reason}");
    assert!(began.elapsed() >= Duration::from_secs(1), "two looks are a second apart");
    assert!(matches!(case.offer(2, 0, "gone"), Err(SinkError::Refused { .. })), "it came before both, too");
    assert!(matches!(case.offer(3, 0, "gone"), Err(SinkError::Held(_))), "this one came later");
    case.cluster.create_topic("gone", 1, 1).unwrap();
    case.answer(3, 0, "gone").await.unwrap();
}

/// Of three brokers so many do not answer; whichever is asked first, a record of a missing topic is offered until the sink
/// says what becomes of it.
async fn with_silent_brokers(silent: i32) -> Result<(), SinkError> {
    let mut case = Case::that_gives_up(3, "named");
    for broker in 1..=silent {
        case.cluster.broker_round_trip_time(broker, Duration::from_secs(60)).unwrap();
    }
    loop {
        match case.answer(0, 0, "gone").await {
            Err(SinkError::Unreachable { .. }) => {}
            said => return said,
        }
    }
}

#[tokio::test]
async fn no_record_is_given_up_while_most_brokers_do_not_answer() {
    assert!(timeout(Duration::from_secs(8), with_silent_brokers(2)).await.is_err(), "one of three says so");
    assert!(matches!(with_silent_brokers(1).await, Err(SinkError::Refused { .. })), "two of three do");
}

#[tokio::test]
async fn a_topic_that_may_not_be_looked_at_is_no_missing_one() {
    let mut case = Case::that_gives_up(3, "named");
    case.cluster.create_topic("closed", 1, 1).unwrap();
    let denied = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    case.cluster.topic_error("closed", denied).unwrap();
    let said = case.answer(0, 0, "closed").await;
    assert!(matches!(&said, Err(SinkError::TopicDenied { topic, .. }) if topic == "closed"), "{said:?}");
}

#[tokio::test]
async fn a_topic_that_the_settings_name_is_never_given_up() {
    let mut case = Case::that_gives_up(1, "named");
    let said = case.answer(0, 0, "named").await;
    assert!(matches!(&said, Err(SinkError::TopicMissing { topic, .. }) if topic == "named"), "{said:?}");
}
