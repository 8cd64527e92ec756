//! Numbers for Prometheus, updated once a batch.

use prometheus::core::Collector;
use prometheus::{Encoder as _, Gauge, GaugeVec, IntCounter, IntGauge, Opts, Registry, TextEncoder};

use crate::lsn::Lsn;
use crate::progress::Progress;
use crate::publish::Counts;
use crate::state::State;
use crate::transaction::Entry;

/// The relay's metrics. Cheap to clone; all clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    processing: IntGauge,
    window_bytes: IntGauge,
    published: IntCounter,
    repeated: IntCounter,
    reconnects: IntCounter,
    producer_restarts: IntCounter,
    cleaned: IntCounter,
    dead_letters: IntCounter,
    sent: Gauge,
    confirmed: Gauge,
    state: GaugeVec,
}

impl Metrics {
    /// A registry with the relay's metrics and those of its process.
    ///
    /// # Errors
    /// When a name is taken or malformed, which a test would have shown.
    pub fn new() -> Result<Self, prometheus::Error> {
        let metrics = Self {
            registry: Registry::new(),
            // The name that the service's dashboards know; the others are walpost's own.
            processing: IntGauge::new(
                "logistic_package_api_retranslator_events_processing",
                "Events read and not yet acknowledged by Kafka.",
            )?,
            window_bytes: IntGauge::new("walpost_window_bytes", "Bytes of rows in flight.")?,
            published: IntCounter::new("walpost_events_published_total", "Events that Kafka acknowledged.")?,
            repeated: IntCounter::new(
                "walpost_events_repeated_total",
                "Events that a reconnect sent again and that were already in flight or published: not \
                    published twice.",
            )?,
            reconnects: IntCounter::new(
                "walpost_sessions_lost_total",
                "Sessions with Postgres or Kafka that ended with an error.",
            )?,
            producer_restarts: IntCounter::new(
                "walpost_producer_restarts_total",
                "Kafka producers replaced after a fatal error.",
            )?,
            dead_letters: IntCounter::new(
                "walpost_dead_letters_total",
                "Rows that could not be published and went to the topic of dead letters.",
            )?,
            cleaned: IntCounter::new(
                "walpost_outbox_rows_removed_total",
                "Published rows removed from the outbox.",
            )?,
            sent: Gauge::new(
                "walpost_received_lsn_bytes",
                "End of what Postgres has sent on this connection, as a number.",
            )?,
            confirmed: Gauge::new(
                "walpost_confirmed_lsn_bytes",
                "Position confirmed to Postgres, as a number.",
            )?,
            state: GaugeVec::new(
                Opts::new("walpost_state", "1 for what the relay is doing, 0 for the others."),
                &["state"],
            )?,
        };
        for collector in metrics.collectors() {
            metrics.registry.register(collector)?;
        }
        metrics.registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        vec![
            Box::new(self.processing.clone()),
            Box::new(self.window_bytes.clone()),
            Box::new(self.published.clone()),
            Box::new(self.repeated.clone()),
            Box::new(self.reconnects.clone()),
            Box::new(self.producer_restarts.clone()),
            Box::new(self.cleaned.clone()),
            Box::new(self.dead_letters.clone()),
            Box::new(self.sent.clone()),
            Box::new(self.confirmed.clone()),
            Box::new(self.state.clone()),
        ]
    }

    /// Shows the window as it is now.
    #[allow(clippy::cast_possible_wrap, clippy::cast_precision_loss)]
    pub fn show_window(&self, progress: &Progress<Entry>, counts: Counts) {
        self.processing.set(progress.records() as i64);
        self.window_bytes.set(progress.bytes() as i64);
        self.sent.set(progress.sent().0 as f64);
        self.published.inc_by(counts.acknowledged.saturating_sub(self.published.get()));
        self.dead_letters.inc_by(counts.dead_letters.saturating_sub(self.dead_letters.get()));
        self.producer_restarts.inc_by(counts.restarts.saturating_sub(self.producer_restarts.get()));
    }

    /// Shows the confirmed position.
    #[allow(clippy::cast_precision_loss)]
    pub fn show_confirmed(&self, lsn: Lsn) {
        self.confirmed.set(lsn.0 as f64);
    }

    /// Counts published rows that were removed from the outbox.
    pub fn count_cleaned(&self, rows: u64) {
        self.cleaned.inc_by(rows);
    }

    /// Counts events that a reconnect sent again.
    pub fn count_repeated(&self) {
        self.repeated.inc();
    }

    /// Counts a session that ended with an error.
    pub fn count_reconnect(&self) {
        self.reconnects.inc();
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn render(&self, state: &State) -> String {
        for name in State::NAMES {
            self.state.with_label_values(&[name]).set(f64::from(u8::from(name == state.name())));
        }
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics do not render");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_gauge_of_the_contract_and_a_series_for_each_state_are_served() {
        let text = Metrics::new().unwrap().render(&State::Streaming);
        assert!(text.contains("logistic_package_api_retranslator_events_processing 0"), "{text}");
        assert!(text.contains("walpost_state{state=\"streaming\"} 1"), "{text}");
        assert!(text.contains("walpost_state{state=\"halted\"} 0"), "{text}");
    }
}
