//! Sends rows at a rate, and knows how far it is.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::pages::{Bounds, Pages};
use super::rest::{Reached, Rest};
use super::{BadRows, ReplayOptions, Say, takes};
use crate::cli::progress::{Progress, count};
use crate::cli::selection::{Asked, Chosen, CommandError};
use crate::config::{Settings, WindowSettings};
use crate::error::Error;
use crate::kafka::KafkaSink;
use walpost_core::event::render::Renderer;
use walpost_core::event::{Entry, Position};
use walpost_core::publish::Publisher;

/// The part of a second whose rows may go at once.
const BURST: Duration = Duration::from_millis(10);

/// Sends rows.
pub(super) struct Sending {
    publisher: Publisher<KafkaSink>,
    /// What checks that a row gives a record, and reads its time.
    renderer: Renderer,
    window: WindowSettings,
    rate: u32,
    total: u64,
    began: Instant,
    /// Rows that were handed over.
    handed_over: u64,
    /// Rows that were taken from the table, of those that give no record, too.
    taken: u64,
    bad: BadRows,
    /// How far the table at hand is in Kafka.
    reached: Reached,
    progress: Progress,
}

impl Sending {
    pub(super) fn new(
        settings: &Settings,
        rate: u32,
        total: u64,
        renderer: Renderer,
        sink: KafkaSink,
    ) -> Self {
        Self {
            publisher: Publisher::new(renderer, sink),
            renderer: Renderer::default(),
            window: settings.window,
            rate,
            total,
            began: Instant::now(),
            handed_over: 0,
            taken: 0,
            bad: BadRows::default(),
            reached: Reached::default(),
            progress: Progress::new(),
        }
    }

    /// Sends the rows of a table; `false` when a stop came first.
    pub(super) async fn table(
        &mut self,
        pages: &mut Pages<'_>,
        stop: &CancellationToken,
    ) -> Result<bool, CommandError> {
        self.reached = Reached::new(pages.is_unique());
        loop {
            let (has_room, due) = (self.has_room(), self.due());
            let is_due = due.is_none_or(|due| due <= Instant::now());
            if has_room && is_due && pages.is_between() {
                // Not beside the reports, each of which would end it.
                let is_open = tokio::select! {
                    biased;
                    () = stop.cancelled() => return Ok(false),
                    opened = pages.open() => opened?,
                };
                if !is_open {
                    return Ok(true);
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(false),
                () = self.publisher.wait() => {
                    self.publisher.process_reports().await.map_err(Error::from)?;
                    self.acknowledge();
                }
                asked = pages.next(), if has_room && is_due => {
                    if let Some(asked) = asked? {
                        self.enter(asked, pages.table)?;
                    }
                }
                () = sleep_until(due.unwrap_or_else(Instant::now)), if has_room && !is_due => {}
            }
            self.show();
        }
    }

    /// Waits until what was handed over is acknowledged; `false` when that takes too long.
    pub(super) async fn drain(&mut self, within: Duration) -> Result<bool, CommandError> {
        let deadline = Instant::now() + within;
        let draining = async {
            while self.publisher.progress().records() > 0 {
                self.publisher.wait().await;
                self.publisher.process_reports().await.map_err(Error::from)?;
            }
            Ok::<(), CommandError>(())
        };
        let drained = timeout_at(deadline, draining).await;
        self.acknowledge();
        self.progress.clear();
        match drained {
            Ok(drained) => drained.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Rows that are in Kafka.
    pub(super) fn acknowledged(&self) -> u64 {
        self.handed_over - self.publisher.progress().records() as u64
    }

    /// Says which rows were left out, and how many.
    pub(super) fn left_out(&self, say: &mut Say<'_>) -> std::io::Result<u64> {
        self.bad.say(say)
    }

    /// Where it stood when it ended before the end.
    pub(super) fn stood_at(&self, table: &Chosen, bounds: &Bounds, options: &ReplayOptions) -> String {
        let rest = Rest {
            table: &table.table.name(),
            order: table.table.order.as_deref(),
            selection: &options.selection,
            to: options.to.as_deref(),
            sent: self.acknowledged(),
            total: self.total,
            left_out: self.bad.count(),
            through: self.reached.through(),
            highest: bounds.through,
            unnumbered: bounds.unnumbered,
        };
        rest.stood_at()
    }

    fn has_room(&self) -> bool {
        let progress = self.publisher.progress();
        progress.records() < self.window.records && progress.bytes() < self.window.bytes
    }

    /// When the next row may go; none: now.
    fn due(&self) -> Option<Instant> {
        if self.rate == 0 {
            return None;
        }
        Some((self.began + takes(self.taken, self.rate)).checked_sub(BURST).unwrap_or(self.began))
    }

    fn enter(&mut self, asked: Asked, table: &Chosen) -> Result<(), CommandError> {
        let Asked { mut placed, number, is_ordered, .. } = asked;
        self.taken += 1;
        if let Err(error) = self.renderer.check(&placed) {
            self.bad.note(table.where_is(number, is_ordered), error.to_string());
            return Ok(());
        }
        // The nearest to the commit's time that a row of the table has, as in the first copy.
        placed.position = Position {
            committed_at: self.renderer.time(&placed).unwrap_or(Position::UNKNOWN_TIME),
            ..placed.position
        };
        let entry = Entry::from(placed);
        let weight = entry.weight();
        let sequence = self.publisher.progress_mut().push(entry, weight);
        self.reached.push(sequence, is_ordered.then_some(number));
        self.handed_over += 1;
        self.publisher.send().map_err(Error::from)?;
        Ok(())
    }

    fn acknowledge(&mut self) {
        let oldest = match self.publisher.progress().records() {
            0 => u64::MAX,
            _ => self.publisher.progress().oldest_sequence(),
        };
        self.reached.acknowledge(oldest);
    }

    fn show(&mut self) {
        let (sent, total) = (self.acknowledged(), self.total);
        let (taken, rate) = (self.taken, self.rate);
        let elapsed = self.began.elapsed();
        self.progress.step(|| {
            let left = total.saturating_sub(taken);
            let pace = taken as f64 / elapsed.as_secs_f64().max(0.001);
            let seconds =
                if rate == 0 { left as f64 / pace.max(0.001) } else { takes(left, rate).as_secs_f64() };
            format!(
                "{} of {} rows are in Kafka, {pace:.0} a second, about {seconds:.0} s to go",
                count(sent),
                count(total)
            )
        });
    }
}
