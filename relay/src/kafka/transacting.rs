//! Kafka's transactions, with exactly-once delivery: begins them, asks for their commit, and finds out what Kafka holds where
//! an answer was lost.
//!
//! What is asked for waits on a thread where it may; the loop goes on meanwhile, and nothing is handed over. A commit is asked
//! for once every record is known to be stored, with its offset: librdkafka would wait for that, too, but in steps of a tenth
//! of a second, and would count a record that it only concludes to be stored.
//!
//! Two producers take turns ([`Producers`]), so that a transaction does not wait until the one before is written down everywhere.
//!
//! A producer that is replaced has the same name, so it ends whatever the old one had open, and may send once it has read the
//! position that was committed last. A producer that was fenced is not replaced: another relay may have the slot. The session
//! ends, and whoever has the slot then begins from the position.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::failure::{failure, is_denied};
use super::lanes::opaque;
use super::position::{Identity, Position, PositionTopic};
use super::producers::Producers;
use super::{Client, KafkaSink};
use walpost_core::lsn::Lsn;
use walpost_core::publish::sink::Reach;
use walpost_core::publish::sink::{Lane, Report, Sink, SinkError, Transaction};
use walpost_core::publish::transactions::{Mark, Transactions};
use walpost_core::window::progress::Sequence;

/// The number of the record that holds the position: none of the window's, and small enough to travel.
pub(super) const MARK: Sequence = (1 << 43) - 1;

/// How often it is asked whether the last report is put away.
const PUT_AWAY_INTERVAL: Duration = Duration::from_micros(50);

/// The client's own wait where a transaction begins too early.
const REST_MAX: Duration = Duration::from_millis(20);

/// What a thread waits for.
enum Work {
    Opening {
        found: JoinHandle<Result<Option<Position>, SinkError>>,
        /// Once nobody waits the thread takes no further name: it may be another producer's by now.
        _waited_for: DropGuard,
    },
    Committing(JoinHandle<Result<(), SinkError>>),
}

/// What came of it.
pub(super) enum Done {
    Opened(Result<Option<Position>, SinkError>),
    Committed(Result<(), SinkError>),
}

/// The transactions of the sink's producers.
pub(super) struct Transacting {
    topic: PositionTopic,
    transactions: Transactions,
    /// In whose name positions are written; none while another may have the slot.
    identity: Option<Identity>,
    remembered: Lsn,
    work: Option<Work>,
    /// Reports on a transaction that was found out to be committed.
    resolved: Vec<Report>,
    /// Why the open transaction cannot go on.
    failure: Option<SinkError>,
    /// The producer was initiated, or tried to be: that is done once.
    is_spent: bool,
    /// When the last transaction began.
    since: Option<Instant>,
    /// When all of it was stored.
    stored_at: Option<Instant>,
    /// A commit is answered in so long, of late.
    answers_in: Duration,
    /// No other transaction begins before: until then the one that this producer committed last is not written down everywhere.
    rests_until: Option<Instant>,
    /// The same of the producer whose turn it is not.
    other_rests_until: Option<Instant>,
    timeout: Duration,
    /// How long a transaction may take from its beginning to its end.
    patience: Duration,
}

impl Transacting {
    /// `lasts` is how long Kafka lets a transaction be open.
    pub(super) fn new(topic: PositionTopic, timeout: Duration, lasts: Duration) -> Self {
        Self {
            topic,
            transactions: Transactions::default(),
            identity: None,
            remembered: Lsn::ZERO,
            work: None,
            resolved: Vec::new(),
            failure: None,
            is_spent: false,
            since: None,
            stored_at: None,
            answers_in: Duration::ZERO,
            rests_until: None,
            other_rests_until: None,
            timeout,
            // Its commit may be asked for when it is about to end, and answered late.
            patience: lasts + 2 * timeout,
        }
    }

    pub(super) fn state(&self) -> Transaction {
        // What was found to be committed leaves the window first.
        if !self.resolved.is_empty() {
            return Transaction::Busy;
        }
        self.transactions.state(|| Instant::now().into_std())
    }

    /// When another transaction may begin, where one may.
    pub(super) fn rested(&self) -> Option<Instant> {
        self.rests_until.filter(|_| self.transactions.is_ready())
    }

    /// When the open transaction counts as lost: Kafka has aborted it by then, or its end hangs.
    pub(super) fn overdue(&self) -> Option<Instant> {
        let since = self.since.filter(|_| !self.transactions.is_shut() && !self.transactions.is_ready());
        since.map(|since| since + self.patience)
    }

    /// Makes sure that a transaction is open for a record that is handed over now.
    pub(super) fn open_for_a_record(&mut self, producer: &Client) -> Result<(), SinkError> {
        if self.transactions.is_open() {
            return Ok(());
        }
        if !self.transactions.is_ready() {
            return Err(SinkError::Full);
        }
        producer.begin_transaction().map_err(|error| understood(&error))?;
        let now = Instant::now();
        self.transactions.begun(now.into_std());
        self.since = Some(now);
        Ok(())
    }

    /// Whether a record may be handed over, once a transaction is open. What was found to be committed leaves the window
    /// first: it would go out once more.
    pub(super) fn takes_records(&self) -> bool {
        let is_rested = self.rests_until.is_none_or(|until| Instant::now() >= until);
        self.resolved.is_empty() && (self.transactions.is_open() || self.transactions.is_ready() && is_rested)
    }

    pub(super) fn handed_over(&mut self) {
        self.transactions.handed_over();
    }

    /// A record of the open transaction is stored, or the one with the position.
    pub(super) fn stored(&mut self, sequence: Sequence) {
        self.transactions.stored((sequence != MARK).then_some(sequence));
    }

    /// Why the open transaction cannot go on. Records that the client gives back then say no more than that they are given
    /// back; what it says to whoever would begin another is the reason.
    pub(super) fn failure(&mut self, producer: &Client) -> SinkError {
        let asked = || match producer.begin_transaction() {
            Ok(()) => SinkError::Broken("it gave back what it held".into()),
            Err(error) => understood(&error),
        };
        self.failure.get_or_insert_with(asked).clone()
    }

    fn close(&mut self, producer: &Client, reach: Reach) -> Result<(), SinkError> {
        let Some(of) = self.identity.clone().filter(|_| self.transactions.is_open()) else {
            return Err(SinkError::Full);
        };
        let mark = self.transactions.mark(reach);
        let position = Position { of, remembered: self.remembered, mark };
        let broken = |error: serde_json::Error| SinkError::Broken(error.to_string());
        let (value, key) = (position.write().map_err(broken)?, position.of.slot);
        let record = BaseRecord::with_opaque_to(&self.topic.name, opaque(MARK, Lane(0)));
        let sent = producer.send(record.partition(0).key(&key).payload(&value));
        sent.map_err(|(error, _)| failure(&error))?;
        self.transactions.closed(mark);
        Ok(())
    }

    /// Begins what is to be waited for, if anything is.
    fn go_on(&mut self, producers: &Producers) {
        if self.work.is_some() {
            return;
        }
        if self.transactions.is_complete() {
            self.transactions.committing();
            self.stored_at = Some(Instant::now());
            let (producer, timeout) = (Arc::clone(producers.on_turn()), self.timeout);
            self.work =
                Some(Work::Committing(tokio::task::spawn_blocking(move || commit(&producer, timeout))));
        } else if self.transactions.is_shut() && self.identity.is_some() {
            self.work = Some(self.opening(producers));
        }
    }

    fn opening(&mut self, producers: &Producers) -> Work {
        self.is_spent = true;
        let (producers, topic, timeout) = (producers.clone(), self.topic.clone(), self.timeout);
        let given_up = CancellationToken::new();
        let waited_for = given_up.clone().drop_guard();
        let found = tokio::task::spawn_blocking(move || {
            // One after the other: see there.
            for (producer, id) in producers.all().zip(topic.transactional_ids()) {
                if given_up.is_cancelled() {
                    return Err(SinkError::Broken("it was given up before it was open".into()));
                }
                let initiated = producer.init_transactions(timeout);
                initiated.map_err(|error| of_the_name(understood(&error), &id))?;
            }
            topic.last(timeout)
        });
        Work::Opening { found, _waited_for: waited_for }
    }

    /// Waits for what was begun, for ever where nothing was. Safe to drop while it waits.
    async fn done(&mut self) -> Done {
        let gone = |error: tokio::task::JoinError| SinkError::Broken(error.to_string());
        let done = match &mut self.work {
            None => std::future::pending().await,
            Some(Work::Opening { found: work, .. }) => {
                Done::Opened(work.await.unwrap_or_else(|error| Err(gone(error))))
            }
            Some(Work::Committing(work)) => {
                Done::Committed(work.await.unwrap_or_else(|error| Err(gone(error))))
            }
        };
        self.work = None;
        done
    }

    /// Reports on what was found out.
    pub(super) fn give_resolved(&mut self, into: &mut Vec<Report>) -> bool {
        into.append(&mut self.resolved);
        !into.is_empty()
    }

    /// Takes what was waited for; why the producer must be replaced, or sends nothing more, if so.
    pub(super) fn take(&mut self, done: Done, into: &mut Vec<Report>) -> Result<(), SinkError> {
        match done {
            Done::Committed(Ok(())) => {
                let before = into.len();
                self.transactions.committed(into);
                self.rest(into.len() - before);
            }
            Done::Committed(Err(error)) => return Err(error),
            Done::Opened(found) => {
                let found = found?;
                if !self.transactions.opened(found.as_ref().map(|position| position.mark), into) {
                    return Err(SinkError::Fenced("another has written the position meanwhile".into()));
                }
            }
        }
        Ok(())
    }

    /// The producer whose turn was begins no other transaction while Kafka writes this one down: the answer has taken one
    /// write to the replicas, and what follows takes about two more. As a rule the other one's turn takes longer.
    fn rest(&mut self, records: usize) {
        let Some((since, stored_at)) = self.since.zip(self.stored_at) else { return };
        let (now, stored) = (Instant::now(), stored_at - since);
        let answered = now - stored_at;
        self.answers_in = (self.answers_in * 7 + answered) / 8;
        let rests_until = now + (self.answers_in * 4).min(REST_MAX);
        self.rests_until = self.other_rests_until.replace(rests_until);
        tracing::trace!(records, ?stored, ?answered, "a transaction");
    }

    /// The producer is replaced: the new one waits until it is known what Kafka holds.
    pub(super) fn replaced(&mut self) {
        self.transactions.replaced();
        (self.work, self.failure, self.is_spent) = (None, None, false);
        (self.rests_until, self.other_rests_until) = (None, None);
    }

    pub(super) fn forget(&mut self) {
        self.transactions.forget();
        (self.identity, self.work, self.failure) = (None, None, None);
        self.resolved.clear();
    }
}

/// Asks for the commit, and again while no answer came.
///
/// The client counts a record until its report is put away, which is a moment after it was given: whoever asks before waits for
/// the next report, which never comes, a tenth of a second at a time (`flush` of rust-rdkafka).
fn commit(producer: &Client, timeout: Duration) -> Result<(), SinkError> {
    let deadline = Instant::now() + timeout;
    while producer.in_flight_count() > 0 && Instant::now() < deadline {
        std::thread::sleep(PUT_AWAY_INTERVAL);
    }
    loop {
        match producer.commit_transaction(timeout) {
            Ok(()) => return Ok(()),
            Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
            Err(error) => return Err(understood(&error)),
        }
    }
}

/// What an answer about transactions means. Whatever it is, the producer is replaced, and finds out what Kafka holds.
fn understood(error: &KafkaError) -> SinkError {
    match error.rdkafka_error_code() {
        Some(code) if is_fenced(code) => SinkError::Fenced(error.to_string()),
        Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) => SinkError::Denied(format!(
            "{error} (for exactly-once delivery the client needs WRITE and DESCRIBE on two transactional ids as well)"
        )),
        Some(code) if is_denied(code) => SinkError::Denied(error.to_string()),
        _ => SinkError::Broken(error.to_string()),
    }
}

/// Which of the names it is about.
fn of_the_name(error: SinkError, id: &str) -> SinkError {
    match error {
        SinkError::Denied(reason) => SinkError::Denied(format!("transactional id `{id}`: {reason}")),
        SinkError::Broken(reason) => SinkError::Broken(format!("transactional id `{id}`: {reason}")),
        other => other,
    }
}

/// Whether another producer has the name, or a transaction was aborted for being open too long: Kafka has one answer to both.
pub(super) fn is_fenced(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch)
}

impl KafkaSink {
    /// Makes this process the only one that sends for the slot, where delivery is exactly once, and goes on from what Kafka
    /// holds. `Some`: that is not what this process has sent (it has just started, or another relay has written), so what it has in flight is to be given up, and
    /// [`KafkaSink::begin_from`] called.
    ///
    /// # Errors
    /// When Kafka does not answer, or the topic holds the position of another slot.
    pub async fn open(&mut self, identity: Identity) -> Result<Option<Position>, SinkError> {
        let Some(transacting) = &self.transacting else { return Ok(None) };
        let is_owed =
            transacting.transactions.is_shut() && transacting.is_spent && transacting.work.is_none();
        if is_owed {
            // A client that was refused its name asks for it no more.
            self.restart(self.batching, &mut Vec::new()).await?;
        }
        let Some(transacting) = &mut self.transacting else { return Ok(None) };
        transacting.identity = Some(identity.clone());
        if !transacting.transactions.is_shut() {
            transacting.transactions.go_on(identity.epoch);
            return Ok(None);
        }
        if transacting.work.is_none() {
            transacting.work = Some(transacting.opening(&self.producers));
        }
        let Done::Opened(found) = transacting.done().await else {
            return Err(SinkError::Broken("a commit was under way".into()));
        };
        let found = found?;
        if let Some(position) = &found {
            transacting.topic.check(&position.of, &identity)?;
        }
        let mark = found.as_ref().map(|position| position.mark);
        if transacting.transactions.opened(mark, &mut transacting.resolved) {
            transacting.transactions.go_on(identity.epoch);
            return Ok(None);
        }
        // Where the topic was emptied, nothing is known: what is in flight may be there or not, and is sent again.
        let Some(position) = found else {
            tracing::warn!(
                topic = transacting.topic.name,
                "the topic has lost the position: events that it had counted may come again"
            );
            transacting.resolved.clear();
            transacting.transactions.begin_from(None, identity.epoch);
            return Ok(None);
        };
        Ok(Some(position))
    }

    /// Nothing is in flight, and what comes is sent behind what Kafka holds.
    pub fn begin_from(&mut self, mark: Mark) {
        if let Some(Transacting { transactions, identity: Some(identity), .. }) = &mut self.transacting {
            transactions.begin_from(Some(mark), identity.epoch);
        }
    }

    /// The slot may be moved up to here, as the ledger says.
    pub fn remembered(&mut self, lsn: Lsn) {
        if let Some(transacting) = &mut self.transacting {
            transacting.remembered = lsn;
        }
    }

    /// Begins what is to be waited for.
    pub(super) fn go_on_transacting(&mut self) {
        if let Some(transacting) = &mut self.transacting {
            transacting.go_on(&self.producers);
        }
    }

    /// What was waited for has come.
    pub(super) fn transacted(&mut self, done: Done, into: &mut Vec<Report>) {
        let Some(transacting) = &mut self.transacting else { return };
        if matches!(done, Done::Committed(Ok(()))) {
            self.producers.take_turns();
        }
        if let Err(error) = transacting.take(done, into) {
            // It is about no record.
            into.push(Report { sequence: Sequence::MAX, outcome: Err(error) });
        }
    }

    pub(super) fn close_transaction(&mut self, reach: Reach) -> Result<(), SinkError> {
        let Some(transacting) = &mut self.transacting else { return Ok(()) };
        transacting.close(self.producers.on_turn(), reach)?;
        self.stall.sent(Instant::now);
        Ok(())
    }
}

/// What comes next of transactions; waits for ever where there are none. Safe to drop while it waits.
pub(super) async fn next(transacting: &mut Option<Transacting>) -> Done {
    match transacting {
        Some(transacting) => transacting.done().await,
        None => std::future::pending().await,
    }
}
