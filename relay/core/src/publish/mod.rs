//! Window → records → sink → acknowledgements: the part of the path behind the stream.
//!
//! One rule sends everything: from the first record that was not handed over, in order, until the sink is full. New
//! events, a queue that was full and a producer that was replaced are the same case to it, so none of them can change
//! the order of one key. Where a partition takes nothing for a while, its records queue up here, in order, and those of
//! other partitions pass them by.

pub mod counts;
mod held;
pub mod partitions;
pub mod pattern;
pub mod sink;
pub mod transactions;

use bytes::Bytes;

use crate::clock;
use crate::event::dead_letter::DeadLetter;
use crate::event::reader::Reader;
use crate::event::render::Renderer;
use crate::event::{BadRow, Entry, OutboxError};
use crate::lsn::Lsn;
use crate::publish::counts::{Counts, Measuring, RECENT, Recent};
use crate::publish::sink::Reach;
use crate::publish::sink::{Batching, Lane, Refusal, Report, Sink, SinkError, Transaction};
use crate::window::copied::{Copied, CopyId};
use crate::window::intake::{Intake, IntakeError, Taken};
use crate::window::progress::{Place, Progress, ProgressError, Sequence};
use held::Held;

/// So many producers in a row may be replaced at once without an acknowledgement; the next ones wait.
const REPLACED_IN_VAIN_MAX: u32 = 2;

/// Publishing cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The row gives no record.
    #[error(transparent)]
    Row(#[from] Box<BadRow>),
    /// The sink does not take the event, or gave it back.
    #[error("the event {event} cannot be published: {error}")]
    Sink {
        /// Which event.
        event: String,
        /// Why.
        error: SinkError,
    },
    /// The producer cannot be replaced.
    #[error(transparent)]
    Restart(SinkError),
    /// Another sends in this one's place, or may.
    #[error(transparent)]
    Fenced(SinkError),
    /// The producer was replaced, and that did not help: the next try waits.
    #[error("{0} (so many producers in a row were replaced without an acknowledgement: {1})")]
    InVain(SinkError, u32),
    /// The bookkeeping does not add up.
    #[error(transparent)]
    Progress(#[from] ProgressError),
}

impl PublishError {
    /// Whether one record is refused, and what was handed over before it is delivered all the same.
    #[must_use]
    pub fn is_about_a_record(&self) -> bool {
        matches!(self, Self::Sink { .. } | Self::Row(_))
    }

    /// Whether a record waits for its topic. What was handed over before it is delivered all the same.
    #[must_use]
    pub fn is_about_a_topic(&self) -> bool {
        matches!(self, Self::Sink { error, .. } if error.is_about_a_topic())
    }
}

/// Sends what is in the window and takes what is acknowledged out of it.
pub struct Publisher<S> {
    progress: Progress<Entry>,
    renderer: Renderer,
    /// What reads single parts of rows, to be shown.
    reader: Reader,
    sink: S,
    /// Before here everything was handed to the sink, or is held.
    next: Sequence,
    /// Records whose partition took nothing more when it was their turn.
    held: Held,
    /// What came in from here on is gathered: see [`Publisher::gather`].
    gathered: Option<Sequence>,
    /// The sink had no room for a record that another than its own partition keeps waiting.
    full: bool,
    /// Why the producer must be replaced, when it said so.
    broken: Option<SinkError>,
    /// Producers that were replaced since the last acknowledgement.
    replaced_in_vain: u32,
    reports: Vec<Report>,
    counts: Counts,
    recent: Recent,
    /// Whether times from commit to acknowledgement count.
    timed: bool,
    /// Up to here records were handed over before, to a producer that was replaced.
    retried_until: Sequence,
    /// A batch was refused as a whole: up to here records go one by one, to find the one that was meant.
    careful_until: Option<Sequence>,
    /// Whether that found a record, or was not about the size of a batch.
    has_found: bool,
    /// How the producer that reports come from was told to send.
    batching: Batching,
    /// Whether rows that cannot be published become dead letters.
    takes_dead_letters: bool,
    /// How far the copy of a table is, while there is one.
    copied: Option<Copied>,
    /// The last event of the stream that is in Kafka, where transactions keep account of that.
    place: Option<Place>,
    /// The same with the transaction that is being committed, which has the records before the sequence.
    closing: Option<(Sequence, Option<Place>)>,
}

impl<S: Sink> Publisher<S> {
    /// A publisher with an empty window.
    pub fn new(renderer: Renderer, sink: S) -> Self {
        Self {
            progress: Progress::default(),
            renderer,
            reader: Reader::default(),
            sink,
            next: 0,
            held: Held::default(),
            gathered: None,
            full: false,
            broken: None,
            replaced_in_vain: 0,
            reports: Vec::new(),
            counts: Counts::default(),
            recent: Recent::default(),
            timed: true,
            retried_until: 0,
            careful_until: None,
            has_found: false,
            batching: Batching::Together,
            takes_dead_letters: false,
            copied: None,
            place: None,
            closing: None,
        }
    }

    /// Rows that cannot be published become dead letters.
    #[must_use]
    pub fn with_dead_letters(self) -> Self {
        Self { takes_dead_letters: true, ..self }
    }

    /// Whether rows that cannot be published become dead letters.
    #[must_use]
    pub fn takes_dead_letters(&self) -> bool {
        self.takes_dead_letters
    }

    /// The window and the positions.
    pub fn progress(&self) -> &Progress<Entry> {
        &self.progress
    }

    /// Takes in a message of the stream.
    ///
    /// # Errors
    /// When it cannot be.
    pub fn take(&mut self, message: &Bytes, intake: &mut Intake) -> Result<(), IntakeError> {
        match intake.take(message, &mut self.progress)? {
            Taken::Quietly => {}
            Taken::Repeated(bytes) => {
                self.counts.repeated += 1;
                self.counts.repeated_bytes += bytes as u64;
            }
            Taken::Dead(reason, bytes) => self.count_dead_letter(&reason, bytes),
        }
        Ok(())
    }

    /// How far the copy of a table is, while there is one.
    pub fn copied(&self) -> Option<&Copied> {
        self.copied.as_ref()
    }

    /// The same, to keep the account.
    pub fn copied_mut(&mut self) -> Option<&mut Copied> {
        self.copied.as_mut()
    }

    /// A copy begins, or goes on in another session: its rows are read behind an id. Where the window still holds what an
    /// earlier session of the same copy read, the account of it goes on.
    pub fn begin_copy(&mut self, of: CopyId, through: Option<i64>) {
        let goes_on = self.copied.as_ref().is_some_and(|copied| copied.of == of && copied.given() == through);
        self.take_back();
        if !goes_on {
            self.copied = Some(Copied::new(of, through, self.progress.next_sequence()));
        }
    }

    /// There is no copy, or none any more.
    pub fn end_copy(&mut self) {
        self.take_back();
        self.copied = None;
    }

    /// In transactions, rows of a copy behind the id that was given last are still here when a session ends: whoever reads on
    /// reads them again.
    fn take_back(&mut self) {
        if let Some(copied) = self.copied.as_ref().filter(|_| self.makes_transactions()) {
            self.progress.take_back(copied.sure());
        }
    }

    /// Every event of the stream up to this place is in Kafka, as a marker there says. `is_ahead` says that the slot stands
    /// before it. Whatever is in flight is given up; the producer is one that has sent nothing.
    pub fn resume(&mut self, place: Option<Place>, is_ahead: bool) {
        self.give_up();
        self.place = place;
        if let Some(place) = place {
            self.progress.resume(place, is_ahead);
        }
    }

    /// The window and the positions, to enter what is read.
    pub fn progress_mut(&mut self) -> &mut Progress<Entry> {
        &mut self.progress
    }

    /// The sink.
    pub fn sink_mut(&mut self) -> &mut S {
        &mut self.sink
    }

    /// What has happened so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The events that were acknowledged last.
    pub fn recent(&self) -> &Recent {
        &self.recent
    }

    /// Whether the times from commit to acknowledgement count from here on: those of rows that stood in the table before
    /// the slot say nothing about the relay.
    pub fn set_timed(&mut self, timed: bool) {
        self.timed = timed;
    }

    /// Whether everything in the window has been handed to the sink, as far as the partitions take it. What is gathered, or
    /// taken by a transaction only later, holds nothing up: the window bounds it.
    pub fn is_caught_up(&self) -> bool {
        self.makes_transactions() || self.next >= self.end() && !self.full
    }

    /// Before here records are to be handed over.
    fn end(&self) -> Sequence {
        let end = self.progress.next_sequence();
        self.gathered.map_or(end, |from| from.min(end))
    }

    /// Whether records are sent in transactions.
    pub fn makes_transactions(&self) -> bool {
        self.sink.transaction() != Transaction::None
    }

    /// What has come in since the last [`Publisher::send`] waits for the next one, and so does what comes in until then:
    /// records that are handed over together share a request, or a transaction.
    pub fn gather(&mut self) {
        self.gathered.get_or_insert(self.next);
    }

    /// Whether records wait for [`Publisher::send`].
    pub fn gathers(&self) -> bool {
        self.gathered.is_some()
    }

    /// Hands over what the sink has room for.
    ///
    /// # Errors
    /// When a row gives no record, or its record is refused.
    pub fn send(&mut self) -> Result<(), PublishError> {
        self.gathered = None;
        self.go_on()
    }

    /// The same, but for what is gathered.
    fn go_on(&mut self) -> Result<(), PublishError> {
        self.renderer.at(clock::unix_micros());
        self.next = self.next.max(self.progress.oldest_sequence());
        if self.next == self.progress.oldest_sequence() {
            self.sink.idle();
        }
        self.full = false;
        if self.held.is_empty() || self.send_held()? {
            self.send_new()?;
        }
        self.close();
        Ok(())
    }

    fn send_new(&mut self) -> Result<(), PublishError> {
        let limit = self.limit();
        while self.next < limit {
            match self.hand_over(self.next)? {
                Turn::Over => {}
                Turn::Held(lane) => self.held.push(lane, self.next),
                Turn::Stop => return Ok(()),
            }
            self.next += 1;
        }
        Ok(())
    }

    /// Makes a transaction of what was handed over, where the sink makes them and it is time. It has all that the window
    /// holds up to a record, and nothing from behind that: what is held back for its partition belongs to it.
    fn close(&mut self) {
        if self.may_close() && self.next >= self.limit() {
            self.close_here();
        }
    }

    fn may_close(&self) -> bool {
        matches!(self.sink.transaction(), Transaction::Open | Transaction::Due)
    }

    /// Whether rows of one id of a table are not parted here.
    fn is_whole(&self) -> bool {
        self.copied.as_ref().is_none_or(|copied| copied.whole(self.next) == self.next)
    }

    fn close_here(&mut self) {
        if !self.held.is_empty() || self.next == self.progress.oldest_sequence() || !self.is_whole() {
            return;
        }
        let place = self.place_before(self.next);
        let copied = self.copied.as_ref().and_then(|copied| Some((copied.of, copied.through(self.next)?)));
        match self.sink.close(Reach { place, copied }) {
            Ok(()) => self.closing = Some((self.next, place)),
            // It is tried again once something is reported.
            Err(SinkError::Full) => {}
            Err(error) => self.broken = Some(error),
        }
    }

    /// The last event of the stream before a record. Rows of a table have none of their own: it is that of the event before
    /// them, which may be in Kafka already.
    fn place_before(&self, until: Sequence) -> Option<Place> {
        let sequences = (self.progress.oldest_sequence()..until).rev();
        let mut in_flight = sequences.filter_map(|sequence| self.progress.before(sequence + 1));
        let last = in_flight.find(|(_, commit, _)| *commit != Lsn::ZERO);
        let place = |(entry, commit, whole): (&Entry, Lsn, bool)| {
            let position = entry.position();
            Place { commit, committed_at: position.committed_at, events: position.ordinal + 1, whole }
        };
        last.map(place).or(self.place)
    }

    /// Hands over what was held, as far as its partitions take it now; whether there may be room for more.
    fn send_held(&mut self) -> Result<bool, PublishError> {
        let mut held = std::mem::take(&mut self.held);
        let mut goes_on = Ok(true);
        // Dead letters first: what becomes one now must not pass by those that wait.
        let mut lanes = held.lanes();
        lanes.sort_by_key(|lane| !held.first(*lane).is_some_and(|first| self.is_dead(first)));
        for lane in lanes {
            while let Some(sequence) = held.first(lane) {
                match self.hand_over(sequence) {
                    Ok(Turn::Held(at)) if at == lane => break,
                    // It is another record by now: a dead letter.
                    Ok(Turn::Held(at)) => held.push(at, sequence),
                    Ok(Turn::Over) => {}
                    Ok(Turn::Stop) => goes_on = Ok(false),
                    Err(error) => goes_on = Err(error),
                }
                if !matches!(goes_on, Ok(true)) {
                    self.held = held;
                    return goes_on;
                }
                held.pop(lane);
            }
        }
        self.held = held;
        goes_on
    }

    fn is_dead(&self, sequence: Sequence) -> bool {
        matches!(self.progress.unacknowledged(sequence), Some(Entry::Dead(_)))
    }

    /// Gives the sink a record, or the dead letter that takes its place.
    fn hand_over(&mut self, sequence: Sequence) -> Result<Turn, PublishError> {
        loop {
            match self.send_one(sequence) {
                Ok(handed_over) => {
                    self.counts.retried += u64::from(handed_over && sequence < self.retried_until);
                    return Ok(Turn::Over);
                }
                Err(PublishError::Sink { error: SinkError::Held(lane), .. }) => return Ok(Turn::Held(lane)),
                Err(PublishError::Sink { error: SinkError::Full, .. }) => {
                    self.full = true;
                    return Ok(Turn::Stop);
                }
                Err(PublishError::Sink {
                    error: error @ (SinkError::Broken(_) | SinkError::Denied(_) | SinkError::Fenced(_)),
                    ..
                }) => {
                    self.broken = Some(error);
                    return Ok(Turn::Stop);
                }
                // The same turn again, with the dead letter.
                Err(error) => self.bury(sequence, error)?,
            }
        }
    }

    /// Up to where records may be handed over now. In transactions, rows of a table go as far as it can be said of them: the
    /// rows of one id go into one, also where that is due.
    fn limit(&self) -> Sequence {
        let transaction = self.sink.transaction();
        let copied = self.copied.as_ref().filter(|_| transaction != Transaction::None);
        let end = copied.map_or(self.end(), Copied::sure);
        let end = self.careful_until.map_or(end, |until| end.min(until + 1));
        // One that nothing went into has nothing to end.
        let is_due = transaction == Transaction::Due && self.next > self.progress.oldest_sequence();
        let end = if is_due { end.min(self.next) } else { end };
        copied.map_or(end, |copied| copied.whole(end))
    }

    /// Hands over a record, if it is still to be acknowledged; says whether it was.
    fn send_one(&mut self, sequence: Sequence) -> Result<bool, PublishError> {
        let Some(entry) = self.progress.unacknowledged(sequence) else { return Ok(false) };
        let record = match self.renderer.render_entry(entry) {
            Ok(record) => record,
            Err(error) => return Err(self.bad(sequence, error)),
        };
        match self.sink.send(sequence, &record) {
            Ok(()) => Ok(true),
            // These are no fault of the event's, and come often: nobody reads its name.
            Err(error @ (SinkError::Held(_) | SinkError::Full)) => {
                Err(PublishError::Sink { event: String::new(), error })
            }
            Err(error) => Err(PublishError::Sink { event: name(entry), error }),
        }
    }

    /// A row that gives no record, and where it came from.
    fn bad(&self, sequence: Sequence, error: OutboxError) -> PublishError {
        match self.progress.before(sequence + 1) {
            Some((Entry::Row(placed), commit, _)) => Box::new(BadRow::new(placed, commit, error)).into(),
            // A dead letter is a record whatever it holds.
            _ => ProgressError::UnknownRecord(sequence).into(),
        }
    }

    /// Takes the reports that have come in, and hands over what waited for its partition, but nothing new. Returns whether
    /// nothing is left to wait for of what was handed over.
    ///
    /// # Errors
    /// As [`Publisher::send`].
    pub fn finish_handed_over(&mut self) -> Result<bool, PublishError> {
        self.take_reports()?;
        if self.broken.is_some() {
            return Ok(true);
        }
        if !self.held.is_empty() {
            self.send_held()?;
        }
        if self.may_close() {
            self.close_here();
        }
        // A transaction that would part rows of one id has no end.
        let is_endless = self.may_close() && self.held.is_empty() && !self.is_whole();
        Ok(is_endless || self.progress.oldest_sequence() >= self.next)
    }

    /// Puts a dead letter in the place of an event that cannot be published, where that is the policy.
    fn bury(&mut self, sequence: Sequence, error: PublishError) -> Result<(), PublishError> {
        // What the topic takes from nobody is no fault of the event's: then every event would be a dead letter.
        let is_poison = match &error {
            PublishError::Row(_) => true,
            PublishError::Sink { error: SinkError::Refused { what, .. }, .. } => *what != Refusal::Topic,
            _ => false,
        };
        if !self.takes_dead_letters || !is_poison {
            return Err(error);
        }
        match self.progress.unacknowledged_mut(sequence) {
            None => {}
            Some(Entry::Dead(letter)) => return if letter.cut() { Ok(()) } else { Err(error) },
            Some(entry @ Entry::Row(_)) => {
                let Entry::Row(placed) = &*entry else { return Ok(()) };
                let (letter, bytes) = (DeadLetter::of(placed, error.to_string()), placed.row.bytes());
                *entry = Entry::Dead(Box::new(letter));
                let weight = entry.weight();
                self.progress.weigh(sequence, weight);
                self.count_dead_letter(&error.to_string(), bytes);
            }
        }
        Ok(())
    }

    /// Counts a row that goes to the topic of dead letters, and says so.
    fn count_dead_letter(&mut self, reason: &str, bytes: usize) {
        self.counts.dead_letters += 1;
        self.counts.dead_letter_bytes += bytes as u64;
        tracing::error!(reason, "a row cannot be published and goes to the topic of dead letters");
    }

    /// Waits for reports, or for nothing when the producer is known to be broken. Safe to drop while it waits.
    pub async fn wait(&mut self) {
        if self.broken.is_none() {
            self.sink.reports(&mut self.reports).await;
        }
    }

    /// Takes the reports that have come in, and sends what they made room for.
    ///
    /// # Errors
    /// When an event is refused for good, a broken producer cannot be replaced, or its replacements do not help.
    pub async fn process_reports(&mut self) -> Result<(), PublishError> {
        self.take_reports()?;
        if let Some(reason @ SinkError::Fenced(_)) = &self.broken {
            return Err(PublishError::Fenced(reason.clone()));
        }
        if let Some(reason) = self.broken.clone() {
            tracing::warn!(%reason, "the producer is broken; a new one sends again what is not acknowledged");
            self.restart().await?;
            self.replaced_in_vain += 1;
            if self.replaced_in_vain > REPLACED_IN_VAIN_MAX || matches!(reason, SinkError::Denied(_)) {
                return Err(PublishError::InVain(reason, self.replaced_in_vain));
            }
        } else if self.careful_until.is_some_and(|until| self.progress.oldest_sequence() > until) {
            // Nothing is in flight, so this repeats nothing.
            self.careful_until = None;
            let batching = if self.has_found { Batching::Together } else { Batching::Smaller };
            self.restart_with(batching).await?;
        }
        self.go_on()
    }

    async fn restart(&mut self) -> Result<(), PublishError> {
        let batching = if self.careful_until.is_some() { Batching::OneByOne } else { Batching::Together };
        self.restart_with(batching).await
    }

    async fn restart_with(&mut self, batching: Batching) -> Result<(), PublishError> {
        // Until there is a new one it stays known as broken: the old one says so only once.
        self.sink.restart(batching, &mut self.reports).await.map_err(PublishError::Restart)?;
        // What the old producer still had to say is judged by how it sent.
        let taken = self.take_reports();
        self.broken = None;
        self.begin_again(batching);
        self.counts.restarts += 1;
        taken
    }

    /// A new producer sends everything that is not acknowledged.
    fn begin_again(&mut self, batching: Batching) {
        self.batching = batching;
        self.retried_until = self.retried_until.max(self.next);
        self.held.clear();
        self.full = false;
        // What was being committed stays known: only later it is found out whether it was.
        self.next = self.progress.oldest_sequence();
    }

    /// Gives up what is in flight: the producer is replaced, and what it still has queued is not sent. Reports of what
    /// it had sent no longer count.
    ///
    /// # Errors
    /// When the producer cannot be replaced.
    pub async fn abandon(&mut self) -> Result<(), PublishError> {
        self.sink.forget();
        let restarted = self.sink.restart(Batching::Together, &mut self.reports).await;
        self.give_up();
        restarted.map_err(PublishError::Restart)
    }

    fn give_up(&mut self) {
        self.careful_until = None;
        self.reports.clear();
        self.broken = None;
        (self.copied, self.place, self.closing) = (None, None, None);
        self.progress.forget();
        self.begin_again(Batching::Together);
    }

    /// Enters acknowledgements, and why the producer is broken, if it is.
    fn take_reports(&mut self) -> Result<(), PublishError> {
        let mut refused = Vec::new();
        let measuring = Measuring { now: clock::unix_micros(), timed: self.timed };
        // Only the last of a batch are shown, so only those are copied.
        let shown_from = self.reports.len().saturating_sub(RECENT);
        let mut reports = std::mem::take(&mut self.reports);
        for (index, report) in reports.drain(..).enumerate() {
            match report.outcome {
                Ok(()) => {
                    if let Some(entry) = self.progress.unacknowledged(report.sequence) {
                        self.counts.acknowledged(entry, measuring);
                        if index >= shown_from {
                            self.recent.show(entry, measuring.now, &mut self.reader);
                        }
                        self.replaced_in_vain = 0;
                    }
                    self.progress.acknowledge(report.sequence)?;
                }
                Err(error @ SinkError::Refused { .. }) => refused.push((report.sequence, error)),
                // That access is denied, or another sends, says more than what follows from it.
                Err(_) if matches!(self.broken, Some(SinkError::Denied(_) | SinkError::Fenced(_))) => {}
                Err(error) => self.broken = Some(error),
            }
        }
        self.reports = reports;
        if let Some((_, place)) = self.closing.take_if(|(until, _)| self.progress.oldest_sequence() >= *until)
        {
            self.place = place;
        }
        for (sequence, error) in refused {
            self.refused(sequence, error)?;
        }
        Ok(())
    }

    /// Kafka refused a record, or the batch that it was in.
    fn refused(&mut self, sequence: Sequence, error: SinkError) -> Result<(), PublishError> {
        // After a record that failed for good the producer delivers nothing more.
        self.broken.get_or_insert_with(|| SinkError::Broken(error.to_string()));
        let Some(entry) = self.progress.unacknowledged(sequence) else { return Ok(()) };
        let event = name(entry);
        let is_about_size = matches!(error, SinkError::Refused { what: Refusal::Size, .. });
        if self.batching == Batching::OneByOne {
            // That the record was found out is no failure of the producer's.
            self.replaced_in_vain = 0;
            self.has_found = true;
            return self.bury(sequence, PublishError::Sink { event, error });
        }
        if self.careful_until.is_none() {
            self.has_found = !is_about_size;
        }
        self.careful_until = self.careful_until.max(Some(sequence));
        Ok(())
    }
}

/// What became of a record that was to be handed over.
enum Turn {
    /// It is handed over, or needs not be.
    Over,
    /// Its partition takes nothing now.
    Held(Lane),
    /// The sink takes nothing now.
    Stop,
}

/// The event as messages name it: enough to find the row.
fn name(entry: &Entry) -> String {
    let (id, what) = match entry {
        Entry::Row(placed) => (Reader::default().id(placed).map(<[u8]>::to_vec), ""),
        Entry::Dead(letter) => (letter.id.clone(), ", as a dead letter,"),
    };
    let id = id.map_or_else(|| "without an id".to_owned(), |id| String::from_utf8_lossy(&id).into_owned());
    let position = entry.position();
    format!("{id} (row {} of the transaction at {}){what}", position.ordinal, position.lsn)
}

#[cfg(test)]
mod broker;
#[cfg(test)]
mod committed;
#[cfg(test)]
mod committed_kafka;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
