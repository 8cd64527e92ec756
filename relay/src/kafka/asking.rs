//! Questions to Kafka: is a topic there, how many partitions has it, does anybody answer. librdkafka's own wait, so each
//! goes to a thread where it may.

use std::sync::Arc;
use std::time::Duration;

use kafka_token::SignIn;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep_until};

use super::failure::is_denied;
use super::making::Maker;
use super::producers::Producers;
use super::topics::Topics;
use super::{Client, REFRESH_INTERVAL};
use walpost_core::publish::sink::SinkError;

/// A topic's partitions, or why they are not known.
pub(super) type Answer = Result<usize, NotThere>;

/// Why a topic's partitions are not known.
#[derive(Debug)]
pub(super) enum NotThere {
    /// Kafka, or the client, says so.
    Code(RDKafkaErrorCode),
    /// It is missing, is to be made, and is not.
    NotMade(SinkError),
}

impl From<SinkError> for NotThere {
    fn from(error: SinkError) -> Self {
        Self::NotMade(error)
    }
}

/// Asks for a topic: how many of its partitions each of the producers knows of. One that has heard of fewer refuses records for
/// the others; one that has heard of none asks by itself when a record comes.
pub(super) fn ask(producers: &Producers, topic: &str, timeout: Duration) -> Answer {
    let found = ask_by(producers.on_turn().client(), topic, timeout).map_err(NotThere::Code)?;
    let resting = producers.resting().and_then(|client| ask_by(client.client(), topic, timeout).ok());
    Ok(resting.map_or(found, |known| known.min(found)))
}

/// The same by any client.
pub(super) fn ask_by<C: ClientContext>(
    client: &rdkafka::client::Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<usize, RDKafkaErrorCode> {
    let metadata = client.fetch_metadata(Some(topic), timeout).map_err(|error| code(&error))?;
    let found = metadata.topics().first().ok_or(RDKafkaErrorCode::UnknownTopicOrPartition)?;
    match found.error() {
        Some(code) => Err(code.into()),
        None if found.partitions().is_empty() => Err(RDKafkaErrorCode::UnknownTopicOrPartition),
        None => Ok(found.partitions().len()),
    }
}

/// Asks the cluster, about no topic in particular.
pub(super) fn ask_cluster(client: &Client, timeout: Duration) -> Result<(), RDKafkaErrorCode> {
    client.client().fetch_metadata(None, timeout).map(drop).map_err(|error| code(&error))
}

pub(super) fn code(error: &KafkaError) -> RDKafkaErrorCode {
    error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)
}

/// Whether the code says that there is no such topic or partition.
pub(super) fn is_missing(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition | Code::UnknownTopicId
    )
}

/// A question about a topic that a record waits for.
pub(super) struct Question {
    topic: usize,
    name: String,
    asking: JoinHandle<Answer>,
}

/// What came of it.
pub(super) struct Answered {
    /// The topic's number.
    pub(super) topic: usize,
    /// Its name.
    pub(super) name: String,
    /// Its partitions.
    pub(super) answer: Result<Answer, JoinError>,
}

impl Question {
    /// Asks; the topic is made where it is missing and is to be made.
    pub(super) fn new(
        producers: &Producers,
        maker: &Arc<Maker>,
        topic: usize,
        name: &str,
        timeout: Duration,
    ) -> Self {
        let (producers, maker, asked) = (producers.clone(), Arc::clone(maker), name.to_owned());
        let asking = tokio::task::spawn_blocking(move || maker.seek(&producers, &asked, timeout));
        Self { topic, name: name.to_owned(), asking }
    }

    /// The answer; waits for ever where nothing was asked. Safe to drop while it waits.
    pub(super) async fn answer(question: &mut Option<Self>) -> Answered {
        let Some(asked) = question else { return std::future::pending().await };
        let answer = (&mut asked.asking).await;
        let answered = Answered { topic: asked.topic, name: std::mem::take(&mut asked.name), answer };
        *question = None;
        answered
    }
}

/// Asks for the partitions of all topics that are known, on a timer.
pub(super) struct Refresh {
    due: Instant,
    asking: Option<JoinHandle<Vec<(String, usize)>>>,
}

impl Refresh {
    pub(super) fn new() -> Self {
        Self { due: Instant::now() + REFRESH_INTERVAL, asking: None }
    }

    /// The topics that Kafka answered for, when they are due. Safe to drop while it waits.
    pub(super) async fn next(
        &mut self,
        producers: &Producers,
        topics: &Topics,
        timeout: Duration,
    ) -> Vec<(String, usize)> {
        if self.asking.is_none() {
            sleep_until(self.due).await;
        }
        let asking = self.asking.get_or_insert_with(|| {
            let (producers, names) = (producers.clone(), topics.known());
            tokio::task::spawn_blocking(move || ask_all(&producers, names, timeout))
        });
        let found = asking.await;
        *self = Self::new();
        found.unwrap_or_default()
    }
}

fn ask_all(producers: &Producers, names: Vec<String>, timeout: Duration) -> Vec<(String, usize)> {
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        match ask(producers, &name, timeout) {
            Ok(partitions) => found.push((name, partitions)),
            Err(NotThere::Code(code)) if is_missing(code) || is_denied(code) => {}
            // Nobody answers: each of the others would wait as long.
            Err(_) => break,
        }
    }
    found
}

/// What clients are made of that only ask, and need no id as a producer.
#[derive(Clone)]
pub(super) struct Asker {
    config: ClientConfig,
    sign_in: Option<SignIn>,
}

impl Asker {
    pub(super) fn new(config: &ClientConfig, sign_in: Option<SignIn>) -> Self {
        let mut config = config.clone();
        config.set("statistics.interval.ms", "0");
        config.set("enable.idempotence", "false").set("enable.gapless.guarantee", "false");
        // The name of the one that sends.
        config.remove("transactional.id");
        Self { config, sign_in }
    }

    /// The same for clients that know no other broker at first.
    pub(super) fn of_broker(&self, broker: &str) -> Self {
        let mut asker = self.clone();
        asker.config.set("bootstrap.servers", broker);
        asker
    }

    /// Such a client, with its token where it signs in with one. May block while that is fetched.
    pub(super) fn client(self) -> Result<BaseProducer, RDKafkaErrorCode> {
        let client: BaseProducer = self.config.create().map_err(|error| code(&error))?;
        let signed_in = self.sign_in.map_or(Ok(()), |sign_in| sign_in.keep(client.client()));
        signed_in.map(|()| client).map_err(|_| RDKafkaErrorCode::Authentication)
    }
}

/// Asks, with a client of its own, whether one of these topics has a leader for every partition now: the producer that
/// holds records for all of them, and reports nothing, is then to blame.
pub(super) fn probe(asker: Asker, topics: Vec<String>, timeout: Duration) -> JoinHandle<bool> {
    tokio::task::spawn_blocking(move || {
        let Ok(client) = asker.client() else { return false };
        let leads = |topic: &String| {
            let metadata = client.client().fetch_metadata(Some(topic), timeout).ok()?;
            let partitions = metadata.topics().first().map_or(&[][..], |topic| topic.partitions());
            Some(!partitions.is_empty() && partitions.iter().all(|partition| partition.leader() >= 0))
        };
        // Where nobody answers for one topic nobody does for the next.
        topics.iter().map_while(leads).any(|leads| leads)
    })
}

/// What the probe has found; waits for ever where there is none.
pub(super) async fn probed(probe: &mut Option<JoinHandle<bool>>) -> bool {
    match probe {
        Some(probe) => probe.await.unwrap_or(false),
        None => std::future::pending().await,
    }
}
