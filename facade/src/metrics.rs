//! The numbers, and their text for Prometheus.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::process_collector::ProcessCollector;
use prometheus::{Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::board::{Board, Standing};

/// What became of a record, as the label `outcome` says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It stands on standard output.
    Printed,
    /// It stands in the log.
    Unreadable,
}

/// What is counted. A value that is passed around, not a global: tests beside each other count apart.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Registry,
    records: IntCounterVec,
    /// Bytes written to standard output.
    pub bytes: IntCounter,
    last_record: Gauge,
    /// Commits that Kafka has taken.
    pub commits: IntCounter,
    /// Commits that Kafka has not taken.
    pub commits_failed: IntCounter,
    /// Partitions assigned or taken away, each time.
    pub rebalances: IntCounter,
    partitions: IntGauge,
    lag: IntGaugeVec,
    ready: IntGauge,
}

impl Metrics {
    /// All at 0; the counters of each topic are there from the start, so that a rate sees the first record.
    ///
    /// # Errors
    /// When two share a name.
    pub fn new<'a>(topics: impl Iterator<Item = &'a str>) -> Result<Self, prometheus::Error> {
        let metrics = Self::unregistered()?;
        for topic in topics {
            for outcome in [Outcome::Printed, Outcome::Unreadable] {
                metrics.records.with_label_values(&[topic, outcome.label()]);
            }
        }
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.records.clone()))?;
        registry.register(Box::new(metrics.bytes.clone()))?;
        registry.register(Box::new(metrics.last_record.clone()))?;
        registry.register(Box::new(metrics.commits.clone()))?;
        registry.register(Box::new(metrics.commits_failed.clone()))?;
        registry.register(Box::new(metrics.rebalances.clone()))?;
        registry.register(Box::new(metrics.partitions.clone()))?;
        registry.register(Box::new(metrics.lag.clone()))?;
        registry.register(Box::new(metrics.ready.clone()))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(metrics)
    }

    fn unregistered() -> Result<Self, prometheus::Error> {
        Ok(Self {
            registry: Registry::new(),
            records: IntCounterVec::new(
                Opts::new(
                    "package_facade_records_total",
                    "Records by topic and by what became of them: printed, or unreadable and logged.",
                ),
                &["topic", "outcome"],
            )?,
            bytes: IntCounter::new(
                "package_facade_printed_bytes_total",
                "Bytes written to standard output.",
            )?,
            last_record: Gauge::new(
                "package_facade_last_record_timestamp_seconds",
                "When the last record was printed or logged, in seconds since 1970; 0 when none was.",
            )?,
            commits: IntCounter::new("package_facade_commits_total", "Commits that Kafka has taken.")?,
            commits_failed: IntCounter::new(
                "package_facade_commits_failed_total",
                "Commits that Kafka has not taken; the next one has their offsets.",
            )?,
            rebalances: IntCounter::new(
                "package_facade_rebalances_total",
                "How often partitions were assigned or taken away.",
            )?,
            partitions: IntGauge::new("package_facade_partitions", "Partitions that this instance reads.")?,
            lag: IntGaugeVec::new(
                Opts::new(
                    "package_facade_lag_records",
                    "Records that wait to be printed, where the end is known.",
                ),
                &["topic", "partition"],
            )?,
            ready: IntGauge::new("package_facade_ready", "Whether /ready says yes: 1 or 0.")?,
        })
    }

    /// Counts a record.
    pub fn count(&self, topic: &str, outcome: Outcome) {
        self.records.with_label_values(&[topic, outcome.label()]).inc();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_record.set(now.as_secs_f64());
    }

    /// Everything in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric cannot be written as text.
    pub fn text(&self, board: &Board) -> Result<String, prometheus::Error> {
        let partitions = board.partitions();
        self.partitions.set(i64::try_from(partitions.len()).unwrap_or(i64::MAX));
        // What was taken away is another instance's to show.
        self.lag.reset();
        for ((topic, partition), lag) in &partitions {
            if let Some(lag) = lag {
                let gauge = self.lag.with_label_values(&[topic, &partition.to_string()]);
                gauge.set(i64::try_from(*lag).unwrap_or(i64::MAX));
            }
        }
        self.ready.set(i64::from(matches!(board.standing(), Standing::Ready { .. })));
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Self::Printed => "printed",
            Self::Unreadable => "unreadable",
        }
    }
}
