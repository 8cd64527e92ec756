//! Several brokers are asked whether topics are there, each by itself: which of them answers a client is else left to
//! chance, and one that lags behind the controller, or is cut off from it, knows no better by being asked again.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::Producer as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::Client;
use super::asking::{Asker, ask_by, is_missing};
use super::failure::is_denied;

/// Brokers that are asked in one look: others in the next one. A client for each costs as many threads as there are brokers.
const WITNESSES_MAX: usize = 5;

/// How long a broker may take: the others have answered by then, and the next look asks again.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Between the end of a look and the next one.
const APART: Duration = Duration::from_secs(1);

/// What the brokers say of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// More than half of those that were asked say that it is not there, and none says anything else.
    Missing,
    /// One says that it is there, with so many partitions.
    There(usize),
    /// One says that it may not be looked at.
    Denied(Code),
    /// Too few have answered.
    Unsure,
}

/// What one broker says of a topic.
type Answer = Result<usize, Code>;

/// The looks, one after the other.
pub(super) struct Looks {
    due: Instant,
    looking: Option<JoinHandle<Vec<(String, Finding)>>>,
    /// How many there were.
    rounds: usize,
}

impl Looks {
    pub(super) fn new() -> Self {
        Self { due: Instant::now(), looking: None, rounds: 0 }
    }

    pub(super) fn is_looking(&self) -> bool {
        self.looking.is_some()
    }

    /// When the next one may begin, where none is under way.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.is_looking()).then_some(self.due)
    }

    /// One begins, for these topics.
    pub(super) fn begin(
        &mut self,
        client: Arc<Client>,
        asker: Asker,
        topics: Vec<String>,
        timeout: Duration,
    ) {
        let round = self.rounds;
        self.rounds += 1;
        let look = move || look(&client, &asker, topics, round, timeout.min(ANSWER_MAX));
        self.looking = Some(tokio::task::spawn_blocking(look));
    }

    /// What it finds; waits for ever where there is none. Safe to drop while it waits.
    pub(super) async fn found(&mut self) -> Vec<(String, Finding)> {
        let Some(looking) = &mut self.looking else { return std::future::pending().await };
        let found = looking.await;
        (self.looking, self.due) = (None, Instant::now() + APART);
        found.unwrap_or_default()
    }

    /// Nobody waits for what the one that is under way finds.
    pub(super) fn forget(&mut self) {
        self.looking = None;
    }
}

fn look(
    client: &Client,
    asker: &Asker,
    topics: Vec<String>,
    round: usize,
    timeout: Duration,
) -> Vec<(String, Finding)> {
    let brokers = chosen(brokers(client, &topics, timeout), round);
    let answers: Vec<_> = std::thread::scope(|scope| {
        let ask = |broker: &String| {
            let (topics, asker) = (&topics, asker.of_broker(broker));
            scope.spawn(move || ask_alone(asker, topics, timeout))
        };
        let asked: Vec<_> = brokers.iter().map(ask).collect();
        asked.into_iter().map(|asked| asked.join().unwrap_or_default()).collect()
    });
    let of = |at: usize| answers.iter().map(move |answers| answers.get(at).copied());
    topics.into_iter().enumerate().map(|(at, topic)| (topic, judged(of(at)))).collect()
}

/// Where the brokers are that are up, as far as the one knows that answers.
fn brokers(client: &Client, topics: &[String], timeout: Duration) -> Vec<String> {
    let asked = topics.first().map(|topic| client.client().fetch_metadata(Some(topic), timeout));
    let Some(Ok(metadata)) = asked else { return Vec::new() };
    metadata.brokers().iter().map(|broker| address(broker.host(), broker.port())).collect()
}

fn address(host: &str, port: i32) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(host) => format!("[{host}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

/// Those that are asked in this round.
fn chosen(mut brokers: Vec<String>, round: usize) -> Vec<String> {
    brokers.sort_unstable();
    if brokers.len() > WITNESSES_MAX {
        let first = round * WITNESSES_MAX % brokers.len();
        brokers.rotate_left(first);
        brokers.truncate(WITNESSES_MAX);
    }
    brokers
}

/// Asks one broker, by a client that knows no other: it connects to another only where this one is gone.
fn ask_alone(asker: Asker, topics: &[String], timeout: Duration) -> Vec<Answer> {
    let client = match asker.client() {
        Ok(client) => client,
        Err(code) => return vec![Err(code)],
    };
    let mut answers = Vec::with_capacity(topics.len());
    for topic in topics {
        let answer = ask_by(client.client(), topic, timeout);
        let is_silent = answer.is_err_and(|code| !is_missing(code) && !is_denied(code));
        answers.push(answer);
        if is_silent {
            break;
        }
    }
    answers
}

/// What the answers of so many brokers come to; `None` is none.
fn judged(answers: impl Iterator<Item = Option<Answer>>) -> Finding {
    let (mut asked, mut missing, mut denied) = (0, 0, None);
    for answer in answers {
        asked += 1;
        match answer {
            Some(Ok(partitions)) => return Finding::There(partitions),
            Some(Err(Code::LeaderNotAvailable)) => return Finding::Unsure,
            Some(Err(code)) if is_missing(code) => missing += 1,
            Some(Err(code)) if is_denied(code) => denied = Some(code),
            Some(Err(_)) | None => {}
        }
    }
    match denied {
        Some(code) => Finding::Denied(code),
        None if 2 * missing > asked => Finding::Missing,
        None => Finding::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MISSING: Option<Answer> = Some(Err(Code::UnknownTopicOrPartition));
    const SILENT: Option<Answer> = Some(Err(Code::OperationTimedOut));

    #[test]
    fn a_topic_is_missing_when_more_than_half_say_so_and_none_says_anything_else() {
        for (answers, finding) in [
            (&[MISSING][..], Finding::Missing),
            (&[MISSING, MISSING, SILENT], Finding::Missing),
            (&[MISSING, SILENT], Finding::Unsure),
            (&[MISSING, None, SILENT], Finding::Unsure),
            (&[SILENT], Finding::Unsure),
            (&[], Finding::Unsure),
            (&[MISSING, MISSING, Some(Ok(6))], Finding::There(6)),
            (&[MISSING, MISSING, Some(Err(Code::LeaderNotAvailable))], Finding::Unsure),
            (
                &[MISSING, MISSING, Some(Err(Code::TopicAuthorizationFailed))],
                Finding::Denied(Code::TopicAuthorizationFailed),
            ),
        ] {
            assert_eq!(judged(answers.iter().copied()), finding, "{answers:?}");
        }
    }

    #[test]
    fn of_many_brokers_some_are_asked_in_each_round_and_all_in_turn() {
        let brokers = |count: usize| (0..count).map(|broker| format!("b{broker:02}:1")).collect::<Vec<_>>();
        assert_eq!(chosen(brokers(5), 3), brokers(5));
        let rounds: std::collections::BTreeSet<_> =
            (0..3).flat_map(|round| chosen(brokers(13), round)).collect();
        assert_eq!(rounds.len(), 13);
        assert!((0..9).all(|round| chosen(brokers(13), round).len() == WITNESSES_MAX));
    }

    #[test]
    fn an_address_of_ipv6_stands_in_brackets() {
        assert_eq!(address("::1", 9092), "[::1]:9092");
        assert_eq!(address("kafka-1", 9092), "kafka-1:9092");
    }
}
