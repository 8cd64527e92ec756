//! Window → records → sink → acknowledgements: the part of the path behind the stream.
//!
//! One rule sends everything: from the first record that was not handed over, in order, until the sink is full. New
//! events, a queue that was full and a producer that was replaced are the same case to it, so none of them can change
//! the order of one key.

use crate::encode::{EncodeError, Encoder};
use crate::outbox::OutboxEvent;
use crate::progress::{Progress, ProgressError, Sequence};
use crate::sink::{Report, Sink, SinkError};
use crate::transaction::PlacedEvent;

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

/// Counts of what has happened, for the metrics.
#[derive(Debug, Default, Clone, Copy)]
pub struct Counts {
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Producers replaced.
    pub restarts: u64,
}

/// Sends what is in the window and takes what is acknowledged out of it.
pub struct Publisher<S> {
    progress: Progress<PlacedEvent>,
    encoder: Encoder,
    sink: S,
    /// The first record that was not handed to the sink.
    next: Sequence,
    /// Why the producer must be replaced, when it said so as it was given a record.
    broken: Option<String>,
    reports: Vec<Report>,
    counts: Counts,
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
        }
    }

    /// The window and the positions.
    pub fn progress(&self) -> &Progress<PlacedEvent> {
        &self.progress
    }

    /// The window and the positions, to enter what is read.
    pub fn progress_mut(&mut self) -> &mut Progress<PlacedEvent> {
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
        while self.next < self.progress.next_sequence() {
            if let Some(placed) = self.progress.unacknowledged(self.next) {
                let record = self
                    .encoder
                    .encode(placed)
                    .map_err(|error| PublishError::Encode { event: name(&placed.event), error })?;
                match self.sink.send(self.next, record) {
                    Ok(()) => {}
                    Err(SinkError::Full) => return Ok(()),
                    Err(SinkError::Broken(reason)) => {
                        self.broken = Some(reason);
                        return Ok(());
                    }
                    Err(error) => return Err(PublishError::Sink { event: name(&placed.event), error }),
                }
            }
            self.next += 1;
        }
        Ok(())
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
        if let Some(reason) = self.broken.take().or(reported) {
            tracing::warn!(reason, "the producer is broken; a new one sends again what is not acknowledged");
            self.sink.restart(&mut self.reports).await.map_err(PublishError::Restart)?;
            self.take_reports()?;
            self.counts.restarts += 1;
            self.next = self.progress.oldest_sequence();
        }
        self.send()
    }

    /// Gives up what is in flight: the producer is replaced, and what it still has queued is not sent. Reports of what
    /// it had sent no longer count.
    ///
    /// # Errors
    /// When the producer cannot be replaced.
    pub async fn abandon(&mut self) -> Result<(), PublishError> {
        self.sink.restart(&mut self.reports).await.map_err(PublishError::Restart)?;
        self.reports.clear();
        self.broken = None;
        self.progress.forget();
        self.next = self.progress.oldest_sequence();
        Ok(())
    }

    /// Enters acknowledgements; returns why the producer is broken, if it is.
    fn take_reports(&mut self) -> Result<Option<String>, PublishError> {
        let mut broken = None;
        let mut refused = None;
        for report in self.reports.drain(..) {
            match report.outcome {
                Ok(()) => {
                    self.progress.acknowledge(report.sequence)?;
                    self.counts.acknowledged += 1;
                }
                Err(error @ (SinkError::Refused(_) | SinkError::Denied(_))) => {
                    refused.get_or_insert((report.sequence, error));
                }
                Err(error) => broken = Some(error.to_string()),
            }
        }
        if let Some((sequence, error)) = refused {
            let event =
                self.progress.unacknowledged(sequence).map_or_else(String::new, |placed| name(&placed.event));
            return Err(PublishError::Sink { event, error });
        }
        Ok(broken)
    }
}

/// The event as messages name it: enough to find the row.
fn name(event: &OutboxEvent) -> String {
    format!("{} (row {})", event.event_id, event.id)
}

#[cfg(test)]
mod tests;
