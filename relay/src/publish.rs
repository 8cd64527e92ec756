//! Window → records → sink → acknowledgements: the part of the path behind the stream.
//!
//! One rule sends everything: from the first record that was not handed over, in order, until the sink is full. New
//! events, a queue that was full and a producer that was replaced are the same case to it, so none of them can change
//! the order of one key.

use crate::clock;
use crate::dead_letter::DeadLetter;
use crate::encode::{EncodeError, Encoder};
use crate::measure::{Counts, Measuring, RECENT, Recent};
use crate::outbox::OutboxTable;
use crate::progress::{Progress, ProgressError, Sequence};
use crate::sink::{Batching, Report, Sink, SinkError};
use crate::transaction::{Entry, PlacedEvent};

/// Publishing cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The event does not fit the format.
    #[error("the event {event} cannot be encoded: {error}")]
    Encode {
        /// Which event.
        event: String,
        /// Why.
        error: EncodeError,
    },
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
    /// The bookkeeping does not add up.
    #[error(transparent)]
    Progress(#[from] ProgressError),
}

/// Sends what is in the window and takes what is acknowledged out of it.
pub struct Publisher<S> {
    progress: Progress<Entry>,
    encoder: Encoder,
    sink: S,
    /// The first record that was not handed to the sink.
    next: Sequence,
    /// Why the producer must be replaced, when it said so as it was given a record.
    broken: Option<String>,
    reports: Vec<Report>,
    counts: Counts,
    recent: Recent,
    /// Whether times from commit to acknowledgement count.
    timed: bool,
    /// Up to here records were handed over before, to a producer that was replaced.
    retried_until: Sequence,
    /// A batch was refused as a whole: up to here records go one by one, to find the one that was meant.
    careful_until: Option<Sequence>,
    /// How the producer that reports come from was told to send.
    batching: Batching,
    /// The outbox, where rows that cannot be published become dead letters.
    dead_letters: Option<OutboxTable>,
}

impl<S: Sink> Publisher<S> {
    /// A publisher with an empty window.
    pub fn new(encoder: Encoder, sink: S) -> Self {
        Self {
            progress: Progress::default(),
            encoder,
            sink,
            next: 0,
            broken: None,
            reports: Vec::new(),
            counts: Counts::default(),
            recent: Recent::default(),
            timed: true,
            retried_until: 0,
            careful_until: None,
            batching: Batching::Together,
            dead_letters: None,
        }
    }

    /// Rows of this table that cannot be published become dead letters.
    #[must_use]
    pub fn with_dead_letters(self, table: OutboxTable) -> Self {
        Self { dead_letters: Some(table), ..self }
    }

    /// Whether rows that cannot be published become dead letters.
    #[must_use]
    pub fn takes_dead_letters(&self) -> bool {
        self.dead_letters.is_some()
    }

    /// The window and the positions.
    pub fn progress(&self) -> &Progress<Entry> {
        &self.progress
    }

    /// The window and the positions, to enter what is read.
    pub fn progress_mut(&mut self) -> &mut Progress<Entry> {
        &mut self.progress
    }

    /// The sink.
    pub fn sink(&self) -> &S {
        &self.sink
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

    /// Counts an event that a reconnect sent again and that is not published twice.
    pub fn count_repeated(&mut self, bytes: usize) {
        self.counts.repeated += 1;
        self.counts.repeated_bytes += bytes as u64;
    }

    /// Whether everything in the window has been handed to the sink.
    pub fn is_caught_up(&self) -> bool {
        self.next >= self.progress.next_sequence()
    }

    /// Hands over what the sink has room for.
    ///
    /// # Errors
    /// When an event cannot be encoded or is refused.
    pub fn send(&mut self) -> Result<(), PublishError> {
        self.next = self.next.max(self.progress.oldest_sequence());
        while self.next < self.limit() {
            match self.send_next() {
                Ok(handed_over) => {
                    self.counts.retried += u64::from(handed_over && self.next < self.retried_until);
                    self.next += 1;
                }
                Err(PublishError::Sink { error: SinkError::Full, .. }) => return Ok(()),
                Err(PublishError::Sink { error: SinkError::Broken(reason), .. }) => {
                    self.broken = Some(reason);
                    return Ok(());
                }
                // The same turn again, with the dead letter.
                Err(error) => self.bury(self.next, error)?,
            }
        }
        Ok(())
    }

    /// Up to where records may be handed over now.
    fn limit(&self) -> Sequence {
        let end = self.progress.next_sequence();
        self.careful_until.map_or(end, |until| end.min(until + 1))
    }

    /// Hands over the next record, if it is still to be acknowledged; says whether it was.
    fn send_next(&mut self) -> Result<bool, PublishError> {
        let Some(entry) = self.progress.unacknowledged(self.next) else { return Ok(false) };
        let record = self
            .encoder
            .encode_entry(entry)
            .map_err(|error| PublishError::Encode { event: name(entry), error })?;
        let sent = self.sink.send(self.next, record);
        sent.map(|()| true).map_err(|error| PublishError::Sink { event: name(entry), error })
    }

    /// Puts a dead letter in the place of an event that cannot be published, where that is the policy.
    fn bury(&mut self, sequence: Sequence, error: PublishError) -> Result<(), PublishError> {
        let is_poison = matches!(
            error,
            PublishError::Encode { .. } | PublishError::Sink { error: SinkError::Refused(_), .. }
        );
        let (Some(table), true) = (&self.dead_letters, is_poison) else { return Err(error) };
        match self.progress.unacknowledged_mut(sequence) {
            None => {}
            Some(Entry::Dead(letter)) => return if letter.cut() { Ok(()) } else { Err(error) },
            Some(entry @ Entry::Event(_)) => {
                let Entry::Event(placed) = &*entry else { return Ok(()) };
                let (letter, bytes) = (DeadLetter::of_event(table, placed, error.to_string()), placed.bytes);
                *entry = Entry::Dead(Box::new(letter));
                self.count_dead_letter(&error.to_string(), bytes);
            }
        }
        Ok(())
    }

    /// Counts a row that goes to the topic of dead letters, and says so.
    pub fn count_dead_letter(&mut self, reason: &str, bytes: usize) {
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
    /// When an event is refused for good, or a broken producer cannot be replaced.
    pub async fn settle(&mut self) -> Result<(), PublishError> {
        let reported = self.take_reports()?;
        self.broken = self.broken.take().or(reported);
        if let Some(reason) = &self.broken {
            tracing::warn!(reason, "the producer is broken; a new one sends again what is not acknowledged");
            self.restart().await?;
        } else if self.careful_until.is_some_and(|until| self.progress.oldest_sequence() > until) {
            // Nothing is in flight, so this repeats nothing.
            self.careful_until = None;
            self.restart().await?;
        }
        self.send()
    }

    async fn restart(&mut self) -> Result<(), PublishError> {
        let batching = if self.careful_until.is_some() { Batching::OneByOne } else { Batching::Together };
        // Until there is a new one it stays known as broken: the old one says so only once.
        self.sink.restart(batching, &mut self.reports).await.map_err(PublishError::Restart)?;
        self.broken = None;
        // What the old producer still had to say is judged by how it sent.
        self.take_reports()?;
        self.batching = batching;
        self.counts.restarts += 1;
        self.retried_until = self.retried_until.max(self.next);
        self.next = self.progress.oldest_sequence();
        Ok(())
    }

    /// Gives up what is in flight: the producer is replaced, and what it still has queued is not sent. Reports of what
    /// it had sent no longer count.
    ///
    /// # Errors
    /// When the producer cannot be replaced.
    pub async fn abandon(&mut self) -> Result<(), PublishError> {
        self.careful_until = None;
        self.batching = Batching::Together;
        self.sink.restart(self.batching, &mut self.reports).await.map_err(PublishError::Restart)?;
        self.reports.clear();
        self.broken = None;
        self.progress.forget();
        self.next = self.progress.oldest_sequence();
        Ok(())
    }

    /// Enters acknowledgements; returns why the producer is broken, if it is.
    fn take_reports(&mut self) -> Result<Option<String>, PublishError> {
        let mut broken = None;
        let mut refused = Vec::new();
        let measuring = Measuring { now: clock::unix_micros(), timed: self.timed };
        // Only the last of a batch are shown, so only those are copied.
        let shown_from = self.reports.len().saturating_sub(RECENT);
        for (index, report) in self.reports.drain(..).enumerate() {
            match report.outcome {
                Ok(()) => {
                    if let Some(entry) = self.progress.unacknowledged(report.sequence) {
                        let recent = (index >= shown_from).then_some(&mut self.recent);
                        self.counts.acknowledged(entry, measuring, recent);
                    }
                    self.progress.acknowledge(report.sequence)?;
                }
                Err(error @ (SinkError::Refused(_) | SinkError::Denied(_))) => {
                    refused.push((report.sequence, error));
                }
                Err(error) => broken = Some(error.to_string()),
            }
        }
        let is_careful = self.batching == Batching::OneByOne;
        for (sequence, error) in refused {
            let Some(entry) = self.progress.unacknowledged(sequence) else { continue };
            // After a record that failed for good the producer delivers nothing more.
            broken.get_or_insert(error.to_string());
            if is_careful || matches!(error, SinkError::Denied(_)) {
                let event = name(entry);
                self.bury(sequence, PublishError::Sink { event, error })?;
            } else {
                self.careful_until = self.careful_until.max(Some(sequence));
            }
        }
        Ok(broken)
    }
}

/// The event as messages name it: enough to find the row.
fn name(entry: &Entry) -> String {
    match entry {
        Entry::Event(PlacedEvent { event, .. }) => format!("{} (row {})", event.event_id, event.id),
        Entry::Dead(letter) => {
            let event_id = letter.event_id.map_or_else(|| "without an id".to_owned(), |id| id.to_string());
            format!("{event_id}, as a dead letter,")
        }
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
