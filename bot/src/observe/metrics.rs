//! The counters.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// Everything that is counted; copies count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Updates that were handled, by kind and outcome.
    pub updates: IntCounterVec,
    /// Seconds from an update's turn to its reply, by command.
    pub seconds: HistogramVec,
    /// Updates that were received and are not handled yet.
    pub unfinished: IntGauge,
    /// Uses of the cache.
    pub cache_uses: IntCounterVec,
    /// Records that Kafka did not take.
    pub dropped: IntCounterVec,
    /// Calls that Telegram refused or that did not reach it.
    pub telegram_errors: IntCounterVec,
    /// When Telegram was last asked for updates with success.
    pub last_poll: Gauge,
    /// Package events that were read.
    pub events: IntCounterVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let metrics = Self {
            updates: counter("package_bot_updates_total", "Updates that were handled.", &["kind", "outcome"]),
            seconds: histogram(
                "package_bot_command_seconds",
                "From an update's turn to the end of its reply.",
                &["command"],
            ),
            unfinished: gauge(
                "package_bot_updates_unfinished",
                "Updates that were received and are not handled yet.",
            ),
            cache_uses: counter(
                "package_bot_cache_uses_total",
                "Uses of the cache; a read succeeds when it finds something.",
                &["use", "success"],
            ),
            dropped: counter(
                "package_bot_records_dropped_total",
                "Records that Kafka did not take.",
                &["topic"],
            ),
            telegram_errors: counter(
                "package_bot_telegram_errors_total",
                "Calls that Telegram refused, by its code; 0: no answer.",
                &["method", "code"],
            ),
            last_poll: seconds_gauge(
                "package_bot_last_poll_timestamp_seconds",
                "When Telegram last gave updates, or said that there are none.",
            ),
            events: counter(
                "package_bot_package_events_total",
                "Package events that were read, by whether the cache forgot the package.",
                &["forgotten"],
            ),
            registry,
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let collectors: [Box<dyn prometheus::core::Collector>; 9] = [
            Box::new(self.updates.clone()),
            Box::new(self.seconds.clone()),
            Box::new(self.unfinished.clone()),
            Box::new(self.cache_uses.clone()),
            Box::new(self.dropped.clone()),
            Box::new(self.telegram_errors.clone()),
            Box::new(self.last_poll.clone()),
            Box::new(self.events.clone()),
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ];
        for collector in collectors {
            // Each name is there once.
            let _ = self.registry.register(collector);
        }
        for topic in ["commands", "cache_events"] {
            self.dropped.with_label_values(&[topic]).reset();
        }
    }

    /// Telegram has just been asked with success.
    pub fn polled(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_poll.set(now.as_secs_f64());
    }

    /// The page for Prometheus.
    #[must_use]
    pub fn text(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }
}

/// Names and labels are constants of this file, and valid: a test makes them all.
#[allow(clippy::unwrap_used)]
fn counter(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).unwrap()
}

#[allow(clippy::unwrap_used)]
fn histogram(name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    let options = HistogramOpts::new(name, help)
        .buckets(vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0]);
    HistogramVec::new(options, labels).unwrap()
}

#[allow(clippy::unwrap_used)]
fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).unwrap()
}

#[allow(clippy::unwrap_used)]
fn seconds_gauge(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_what_was_counted() {
        let metrics = Metrics::new();
        metrics.updates.with_label_values(&["message", "answered"]).inc();
        let page = metrics.text();
        assert!(page.contains(r#"package_bot_updates_total{kind="message",outcome="answered"} 1"#), "{page}");
        assert!(page.contains(r#"package_bot_records_dropped_total{topic="commands"} 0"#), "{page}");
    }
}
