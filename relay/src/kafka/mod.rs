//! Kafka, through librdkafka.
//!
//! # Why order and delivery are safe
//!
//! | property | without it |
//! |---|---|
//! | `enable.idempotence` | a retry overtakes (acks=all and a bounded number of requests in flight come with it) |
//! | `enable.gapless.guarantee` | a record that fails for good is jumped over by later ones of its key |
//! | `message.timeout.ms=0` | a record that waits out a long outage expires |
//! | `partitioner=murmur2_random` | Java consumers look for a key in another partition |
//!
//! Reports are matched by the record's number, which travels as the message's opaque value: no allocation, no order
//! assumed. When a record fails for good librdkafka turns fatal, so nothing behind it is delivered; a new producer then
//! sends again from the oldest that is not acknowledged.
//!
//! All of this holds only where the broker knows the producer: [`partitions`](walpost_core::publish::partitions) has what is handed over
//! when. And a success without an offset is none: librdkafka reports one for records whose request failed when a later
//! request succeeded, which a broker that does not know the producer takes.
//!
//! # Topics
//!
//! Each record names its topic. One that is named for the first time is asked for, and so is one of which a record came
//! back because it is not there; until Kafka has answered the sink is full. One that is not there is made, where the
//! settings say how. Else that is an error of the record's, which ends the session, and the next one begins once the topic is
//! there ([`KafkaSink::check_topics`]); or, by `unknown_topic = dead-letter`, the record is held until it is sure, and is then
//! refused. So a topic may be created at any time, and nothing is sent to one that librdkafka would only wait for.

mod asking;
mod clients;
pub mod consumer;
pub mod facts;
mod failure;
mod lanes;
mod librdkafka;
pub mod making;
pub mod murmur2;
pub mod position;
mod producers;
mod readiness;
mod reporter;
mod stall;
pub mod statistics;
pub mod sweep;
mod suspicion;
pub mod tally;
mod topic;
mod topics;
pub mod traced;
mod transacting;
mod witnesses;

use std::sync::Arc;
use std::time::Duration;

use kafka_token::SignIn;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use asking::{Asker, Question, Refresh, is_missing, probe, probed};
pub use clients::refused_properties;
use clients::{group, halve_batches, producer_config, statistics_interval, transaction_timeout};
use failure::{failure, is_about_the_producer, is_denied, of_code};
use lanes::opaque;
use making::Maker;
use position::PositionTopic;
use producers::{Client, Producers};
use reporter::{Complaint, Delivery, Failed};
use stall::Stall;
use tally::TallyCell;
use topics::Topics;
use transacting::{MARK, Transacting, is_fenced};
use witnesses::Looks;

use self::statistics::StatisticsCell;
use crate::config::{KafkaSettings, UnknownTopic, WindowSettings};
use walpost_core::clock;
use walpost_core::event::record::Record;
use walpost_core::publish::partitions::Group;
use walpost_core::publish::sink::Reach;
use walpost_core::publish::sink::{Batching, Refusal, Report, Sink, SinkError, Transaction};
use walpost_core::window::progress::Sequence;

/// Reports taken at a time.
const REPORTS_MAX: usize = 4096;

/// How long a broken producer may take to give back what it holds.
const PURGE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a record takes in a request beside its contents: librdkafka counts up to 70 bytes.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// How often the topics are asked for their partitions: as often as librdkafka does by itself.
const REFRESH_INTERVAL: Duration = Duration::from_secs(300);

/// A producer for any number of topics.
pub struct KafkaSink {
    config: ClientConfig,
    sign_in: Option<SignIn>,
    brokers: String,
    topics: Topics,
    group: Group,
    producers: Producers,
    reports: mpsc::UnboundedReceiver<Delivery>,
    deliveries: Vec<Delivery>,
    /// What Kafka is asked because a record waits for it.
    question: Option<Question>,
    /// Asks for the topics' partitions, now and then.
    refresh: Refresh,
    /// What the client last said was wrong: the answer to a question says only that there was none.
    complaint: Complaint,
    statistics: StatisticsCell,
    tally: TallyCell,
    stall: Stall,
    /// Whether Kafka answers, while a stuck producer is suspected.
    probe: Option<JoinHandle<bool>>,
    /// Makes topics that are missing, where they are to be made.
    maker: Arc<Maker>,
    /// What becomes of rows whose topics are missing and not to be made.
    unknown: UnknownTopic,
    /// Topics that the settings name.
    named: Vec<String>,
    /// Looks for topics that are not there, as it seems.
    looks: Looks,
    /// Since the last replacement: whether it was for being stuck.
    stuck: bool,
    peer_timeout: Duration,
    /// A record waits for the next transaction.
    waits_for_rest: bool,
    /// How the producer was told to send.
    batching: Batching,
    /// With exactly-once delivery.
    transacting: Option<Transacting>,
}

impl KafkaSink {
    /// Makes the producer. It connects in the background; [`KafkaSink::check_topics`] says whether it could.
    ///
    /// # Errors
    /// When librdkafka refuses a property.
    pub fn new(kafka: &KafkaSettings, window: WindowSettings) -> Result<Self, SinkError> {
        let config = producer_config(kafka, window);
        let statistics = StatisticsCell::new(3 * statistics_interval(&config));
        let complaint = Complaint::default();
        let (producers, reports) =
            Producers::start(&config, kafka.sign_in.as_ref(), &complaint, &statistics)?;
        let group = group(&config, Batching::Together);
        let lasts = transaction_timeout(&config);
        Ok(Self {
            config,
            sign_in: kafka.sign_in.clone(),
            brokers: kafka.brokers.clone(),
            topics: Topics::new(group),
            group,
            producers,
            reports,
            deliveries: Vec::new(),
            question: None,
            refresh: Refresh::new(),
            complaint,
            statistics,
            tally: TallyCell::default(),
            stall: Stall::new(kafka.peer_timeout, Instant::now()),
            probe: None,
            maker: Arc::new(Maker::new(kafka)),
            unknown: kafka.missing.unknown,
            named: kafka.topics.iter().chain(&kafka.dead_letter_topic).cloned().collect(),
            looks: Looks::new(),
            stuck: false,
            peer_timeout: kafka.peer_timeout,
            waits_for_rest: false,
            batching: Batching::Together,
            transacting: PositionTopic::of(kafka)
                .map(|topic| Transacting::new(topic, kafka.peer_timeout, lasts)),
        })
    }

    /// Where the producer says how it is doing.
    #[must_use]
    pub fn statistics(&self) -> StatisticsCell {
        self.statistics.clone()
    }

    /// Where it says what became of records, by topic.
    #[must_use]
    pub fn tally(&self) -> TallyCell {
        self.tally.clone()
    }

    /// Says it.
    fn tell(&mut self) {
        let topics = &mut self.topics;
        self.tally.update(|tally| topics.tell(tally));
    }
}

impl KafkaSink {
    /// Takes the deliveries that have come in: what they say of the partitions, and a report for each.
    fn take(&mut self, into: &mut Vec<Report>) {
        let now = Instant::now();
        self.stall.reported(self.deliveries.len() as u64, now);
        self.topics.set_time(clock::unix_millis());
        let mut deliveries = std::mem::take(&mut self.deliveries);
        for Delivery { lane, sequence, outcome, at } in deliveries.drain(..) {
            if sequence != MARK {
                self.topics.reported(lane, outcome.is_ok(), is_of_a_missing_topic(&outcome), at);
            }
            if let (Some(transacting), Ok(())) = (&mut self.transacting, &outcome) {
                transacting.stored(sequence);
                continue;
            }
            let sequence = if sequence == MARK { Sequence::MAX } else { sequence };
            let outcome = match &mut self.transacting {
                Some(transacting) if is_given_back(&outcome) => {
                    Err(transacting.failure(self.producers.on_turn()))
                }
                _ => outcome.map_err(|failed| failed.judged_by(|error| self.judge(error))),
            };
            let outcome = outcome
                .map_err(|error| if sequence == Sequence::MAX { of_the_position(error) } else { error });
            into.push(Report { sequence, outcome });
        }
        self.deliveries = deliveries;
    }

    /// What an error means. Where the producer gave the record back because it is broken itself, the reason is asked for.
    fn judge(&self, error: &KafkaError) -> SinkError {
        let code = error.rdkafka_error_code();
        if self.transacting.is_some() && code.is_some_and(is_fenced) {
            return SinkError::Fenced(error.to_string());
        }
        let about_the_producer = code.is_some_and(is_about_the_producer);
        match self.producers.on_turn().client().fatal_error().filter(|_| about_the_producer) {
            Some((code, reason)) => match of_code(code, reason) {
                denied @ SinkError::Denied(_) => denied,
                other if self.transacting.is_some() && is_fenced(code) => {
                    SinkError::Fenced(other.to_string())
                }
                // What broke the producer is no fault of this record's: its own report says so where it is.
                other => SinkError::Broken(other.to_string()),
            },
            None => failure(error),
        }
    }

    /// What librdkafka says of a record that it does not take.
    fn refused(&self, error: &KafkaError) -> SinkError {
        match self.judge(error) {
            // It is larger than the whole queue: there would be no room for ever.
            SinkError::Full if self.stall.in_flight() == 0 => {
                let reason = "it is larger than the producer's queue".to_owned();
                SinkError::Refused { what: Refusal::Size, reason }
            }
            other => other,
        }
    }

    /// Waits for what comes next: see [`Sink::reports`].
    async fn next(&mut self, into: &mut Vec<Report>) {
        if self.transacting.as_mut().is_some_and(|transacting| transacting.give_resolved(into)) {
            return;
        }
        loop {
            self.go_on_transacting();
            let rested =
                self.transacting.as_ref().and_then(Transacting::rested).filter(|_| self.waits_for_rest);
            let overdue = self.transacting.as_ref().and_then(Transacting::overdue);
            let due = self.stall.due().filter(|_| self.probe.is_none());
            let look = self.looks.due().filter(|_| self.topics.are_suspected());
            tokio::select! {
                biased;
                // Never closed: this side holds the producer, and with it the sender.
                _ = self.reports.recv_many(&mut self.deliveries, REPORTS_MAX) => {
                    self.probe = None;
                    self.take(into);
                    return self.go_on_transacting();
                }
                done = transacting::next(&mut self.transacting) => return self.transacted(done, into),
                () = sleep_until(rested.unwrap_or_else(Instant::now)), if rested.is_some() => {
                    self.waits_for_rest = false;
                    return;
                }
                () = sleep_until(overdue.unwrap_or_else(Instant::now)), if overdue.is_some() => {
                    return Self::report_broken("a transaction was open for too long", into);
                }
                // Behind reports, which came first; what waits for it is sent again now.
                answered = Question::answer(&mut self.question), if self.question.is_some() => {
                    return self.answered(answered);
                }
                found = self.looks.found(), if self.looks.is_looking() => return self.looked(found),
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => self.look(),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    let topics = self.topics.in_flight();
                    let asker = Asker::new(&self.config, self.sign_in.clone());
                    self.probe = Some(probe(asker, topics, self.peer_timeout));
                }
                answers = probed(&mut self.probe), if self.probe.is_some() => {
                    self.probe = None;
                    if answers {
                        self.stuck = true;
                        return Self::report_broken("it acknowledges nothing, although Kafka answers", into);
                    }
                    self.stall.excused(Instant::now());
                }
                found = self.refresh.next(&self.producers, &self.topics, self.peer_timeout) => {
                    if let Some(reason) = self.refreshed(&found) {
                        return Self::report_broken(reason, into);
                    }
                }
            }
        }
    }

    /// The topics were asked for their partitions, and these are found. Returns why the producer must be replaced, if it
    /// must.
    fn refreshed(&mut self, found: &[(String, usize)]) -> Option<&'static str> {
        for (name, partitions) in found {
            self.topics.checked(name, *partitions);
        }
        let now = Instant::now().into_std();
        self.topics.set_time(clock::unix_millis());
        if self.topics.may_be_forgotten(now, REFRESH_INTERVAL) {
            return Some("what it holds is so old that the brokers may have forgotten it");
        }
        let answered: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        let is_silent = self.topics.is_silent(&answered, now, REFRESH_INTERVAL);
        is_silent.then_some("a partition acknowledges nothing for minutes, although Kafka answers")
    }

    /// Says that the producer must be replaced.
    fn report_broken(reason: &str, into: &mut Vec<Report>) {
        // It is about no record.
        into.push(Report { sequence: Sequence::MAX, outcome: Err(SinkError::Broken(reason.to_owned())) });
    }
}

impl Sink for KafkaSink {
    fn send(&mut self, sequence: Sequence, record: &Record<'_>) -> Result<(), SinkError> {
        // What has no time of its own has that of its publishing.
        let timestamp_ms = if record.timestamp_ms == 0 { clock::unix_millis() } else { record.timestamp_ms };
        let bytes = size(record);
        let (partition, topic) = match self.topics.place(self.producers.turn(), sequence, record) {
            Ok(placed) => placed,
            Err(unplaced) => return Err(self.unplaced(sequence, record, unplaced)),
        };
        let lane = topic.lane(partition);
        let now = || Instant::now().into_std();
        if self.transacting.as_ref().is_some_and(|transacting| !transacting.takes_records()) {
            self.waits_for_rest = true;
            return Err(SinkError::Full);
        }
        if !topic.partitions.admits(partition, timestamp_ms, bytes, now) {
            return Err(SinkError::Held(lane));
        }
        if let Some(transacting) = &mut self.transacting {
            transacting.open_for_a_record(self.producers.on_turn())?;
        }
        let mut message = BaseRecord::with_opaque_to(record.topic.name, opaque(sequence, lane))
            .partition(i32::try_from(partition).unwrap_or(i32::MAX))
            .timestamp(timestamp_ms)
            .headers(headers(record));
        // Without one it is null, which is not the same as an empty one.
        (message.key, message.payload) = (record.key, record.value);
        match self.producers.on_turn().send(message) {
            Ok(()) => {
                topic.partitions.handed_over(partition, timestamp_ms, bytes);
                self.stall.sent(Instant::now);
                if let Some(transacting) = &mut self.transacting {
                    transacting.handed_over();
                }
                Ok(())
            }
            Err((error, _)) => {
                if error.rdkafka_error_code().is_some_and(is_missing) {
                    topic.doubt();
                }
                Err(self.refused(&error))
            }
        }
    }

    fn idle(&mut self) {
        self.topics.set_time(clock::unix_millis());
        self.topics.idle();
    }

    fn transaction(&self) -> Transaction {
        self.transacting.as_ref().map_or(Transaction::None, Transacting::state)
    }

    fn close(&mut self, reach: Reach) -> Result<(), SinkError> {
        self.close_transaction(reach)
    }

    fn forget(&mut self) {
        if let Some(transacting) = &mut self.transacting {
            transacting.forget();
        }
    }

    async fn reports(&mut self, into: &mut Vec<Report>) {
        self.next(into).await;
        self.tell();
    }

    async fn restart(&mut self, batching: Batching, into: &mut Vec<Report>) -> Result<(), SinkError> {
        self.batching = batching;
        if batching == Batching::Smaller {
            halve_batches(&mut self.config);
        }
        let mut config = self.config.clone();
        if batching == Batching::OneByOne {
            config.set("batch.num.messages", "1");
        }
        // The settings made a producer before, so what is wrong passes: a certificate that is being replaced, say.
        let (producers, reports) =
            Producers::start(&config, self.sign_in.as_ref(), &self.complaint, &self.statistics)
                .map_err(|error| SinkError::Broken(format!("there is no new one: {error}")))?;
        let broken = std::mem::replace(&mut self.producers, producers);
        if let Some(transacting) = &mut self.transacting {
            transacting.replaced();
        }
        (self.probe, self.question) = (None, None);
        self.looks.forget();
        self.stall.replaced(Instant::now(), std::mem::take(&mut self.stuck));
        let mut left = std::mem::replace(&mut self.reports, reports);
        drop(tokio::task::spawn_blocking(move || broken.end(PURGE_TIMEOUT)).await);
        while let Ok(Delivery { lane, sequence, outcome, at }) = left.try_recv() {
            // What was stored in a transaction that is over does not count.
            if self.transacting.is_some() && outcome.is_ok() || sequence == MARK {
                continue;
            }
            self.topics.reported(lane, outcome.is_ok(), is_of_a_missing_topic(&outcome), at);
            let outcome = outcome.map_err(|failed| failed.judged_by(failure));
            into.push(Report { sequence, outcome });
        }
        self.deliveries.clear();
        // The brokers know nothing of the new one.
        self.group = group(&config, batching);
        self.topics.reset(self.group);
        Ok(())
    }
}

/// Bytes of a record in a request.
fn size(record: &Record<'_>) -> usize {
    let len = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    len(record.key) + len(record.value) + record.headers.size() + RECORD_OVERHEAD_BYTES
}

/// A header without a value is null, as librdkafka sends it.
fn headers(record: &Record<'_>) -> OwnedHeaders {
    let headers = record.headers.iter();
    let start = OwnedHeaders::new_with_capacity(headers.len());
    headers.fold(start, |all, (key, value)| all.insert(Header { key, value }))
}

/// A record of the position that is refused for good says nothing of any event: it is tried again, with its reason.
fn of_the_position(error: SinkError) -> SinkError {
    match error {
        SinkError::Refused { reason, .. } => {
            SinkError::Broken(format!("Kafka refuses the record of the position: {reason}"))
        }
        other => other,
    }
}

/// Whether the client gives the record back for what happened to the client.
fn is_given_back(outcome: &Result<(), Failed>) -> bool {
    matches!(outcome, Err(Failed::Error(error)) if error.rdkafka_error_code().is_some_and(is_about_the_producer))
}

/// Whether the record is not stored since there is no such topic or partition.
fn is_of_a_missing_topic(outcome: &Result<(), Failed>) -> bool {
    matches!(outcome, Err(Failed::Error(error)) if error.rdkafka_error_code().is_some_and(is_missing))
}

#[cfg(test)]
mod tests;
