//! Whether topics are there: those that the settings name before anything is sent, and those that records name as they
//! name them.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;
use tokio::task::JoinError;

use super::asking::{Answer, Answered, Asker, NotThere, Question, ask_cluster, is_missing};
use super::failure::is_denied;
use super::topic::Unplaced;
use super::witnesses::Finding;
use super::{Arc, KafkaSink};
use crate::config::UnknownTopic;
use walpost_core::event::record::Record;
use walpost_core::publish::sink::{Refusal, SinkError};
use walpost_core::window::progress::Sequence;

impl KafkaSink {
    /// Asks for these topics, which must exist, or are made where the settings say how: auto-creation is not relied upon;
    /// and for those that a record waits for. Where there is neither, Kafka must at least answer. Returns the number of
    /// partitions of each of `names`.
    ///
    /// # Errors
    /// When no broker answers, a topic is missing, or access to it is denied.
    pub async fn check_topics(&mut self, names: &[&str], timeout: Duration) -> Result<Vec<usize>, SinkError> {
        let mut counts = Vec::with_capacity(names.len());
        for name in names {
            counts.push(self.check_topic(name, timeout).await?);
        }
        let awaited = self.topics.awaited();
        for name in &awaited {
            self.check_topic(name, timeout).await?;
        }
        if names.is_empty() && awaited.is_empty() {
            self.check_cluster(timeout).await?;
        }
        Ok(counts)
    }

    /// What was not sent is given up: no record waits for a topic any more.
    pub fn forget_awaited(&mut self) {
        self.topics.forget_awaited();
    }

    async fn check_topic(&mut self, name: &str, timeout: Duration) -> Result<usize, SinkError> {
        let (producers, maker, topic) = (self.producers.clone(), Arc::clone(&self.maker), name.to_owned());
        let asked = tokio::task::spawn_blocking(move || maker.seek(&producers, &topic, timeout)).await;
        let partitions = self.understand(name, asked)?;
        self.topics.checked(name, partitions);
        Ok(partitions)
    }

    async fn check_cluster(&self, timeout: Duration) -> Result<(), SinkError> {
        let producer = Arc::clone(self.producers.on_turn());
        let asked = tokio::task::spawn_blocking(move || ask_cluster(&producer, timeout)).await;
        match asked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(code)) => Err(self.unreachable(code.to_string())),
            Err(panicked) => Err(self.unreachable(panicked.to_string())),
        }
    }

    /// What the answer to a question about a topic means.
    fn understand(&self, name: &str, asked: Result<Answer, JoinError>) -> Result<usize, SinkError> {
        let topic = || name.to_owned();
        let code = match asked {
            Ok(Ok(partitions)) => return Ok(partitions),
            Ok(Err(NotThere::NotMade(error))) => return Err(error),
            Ok(Err(NotThere::Code(code))) => code,
            Err(panicked) => return Err(self.unreachable(panicked.to_string())),
        };
        Err(match code {
            code if is_missing(code) => {
                SinkError::TopicMissing { topic: topic(), brokers: self.brokers.clone() }
            }
            code if is_denied(code) => SinkError::TopicDenied { topic: topic(), reason: code.to_string() },
            RDKafkaErrorCode::InvalidTopic => {
                SinkError::Refused { what: Refusal::Other, reason: format!("{code} (topic `{name}`)") }
            }
            code => self.unreachable(code.to_string()),
        })
    }

    fn unreachable(&self, reason: String) -> SinkError {
        let reason = match self.complaint.say() {
            Some(said) => format!("{reason}: {said}"),
            None => reason,
        };
        SinkError::Unreachable { brokers: self.brokers.clone(), reason }
    }

    /// A record has no partition now: Kafka is asked where that helps, one question after the other.
    pub(super) fn unplaced(
        &mut self,
        sequence: Sequence,
        record: &Record<'_>,
        unplaced: Unplaced,
    ) -> SinkError {
        match unplaced {
            Unplaced::Answer(error) => error,
            Unplaced::Ask => {
                if self.question.is_none() {
                    let (index, name) = (record.topic.id.0 as usize, record.topic.name);
                    self.topics.asked(index, sequence);
                    let (producers, maker) = (&self.producers, &self.maker);
                    self.question = Some(Question::new(producers, maker, index, name, self.peer_timeout));
                }
                SinkError::Full
            }
        }
    }

    pub(super) fn answered(&mut self, Answered { topic, name, answer }: Answered) {
        match self.understand(&name, answer) {
            Err(SinkError::TopicMissing { .. }) if self.gives_up(&name) => {
                tracing::warn!(
                    topic = name,
                    "a row names a topic that is not there: several brokers are asked, twice"
                );
                self.topics.suspected(topic, no_such_topic(&name, &self.brokers));
            }
            answer => self.topics.answered(topic, answer),
        }
    }

    /// Whether rows of this topic become dead letters for want of it. One that the settings name is every row's, or that of
    /// the dead letters.
    fn gives_up(&self, name: &str) -> bool {
        self.unknown == UnknownTopic::DeadLetter && !self.named.iter().any(|named| named == name)
    }

    /// Another look for topics that are not there, as it seems.
    pub(super) fn look(&mut self) {
        let topics = self.topics.look_begins();
        let asker = Asker::new(&self.config, self.sign_in.clone());
        self.looks.begin(Arc::clone(self.producers.on_turn()), asker, topics, self.peer_timeout);
    }

    /// What it has found.
    pub(super) fn looked(&mut self, found: Vec<(String, Finding)>) {
        for (name, finding) in found {
            match finding {
                Finding::There(partitions) => self.topics.checked(&name, partitions),
                Finding::Denied(code) => {
                    let denied = SinkError::TopicDenied { topic: name.clone(), reason: code.to_string() };
                    self.topics.looked(&name, Err(denied));
                }
                Finding::Missing => self.topics.looked(&name, Ok(true)),
                Finding::Unsure => {
                    tracing::warn!(
                        topic = name,
                        "too few brokers answer to say whether the topic is there: its rows wait"
                    );
                    self.topics.looked(&name, Ok(false));
                }
            }
        }
    }
}

/// Why a row becomes a dead letter.
fn no_such_topic(name: &str, brokers: &str) -> SinkError {
    let reason = format!(
        "its topic `{name}` does not exist on {brokers}, and unknown_topic = dead-letter; make the topic, or correct what writes \
         its name, and insert the row again"
    );
    SinkError::Refused { what: Refusal::Other, reason }
}
