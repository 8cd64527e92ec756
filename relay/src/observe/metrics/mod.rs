//! Numbers for Prometheus: what is there to see, in its text format.

mod series;
mod table;

use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric as Series, MetricFamily, MetricType,
};
use prometheus::{Encoder as _, TextEncoder};

use crate::observe::board::View;
use series::Value;
pub use table::{Kind, Metric, TABLE};

/// The version of walpost.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from, or `unknown`.
pub const REVISION: &str = program::COMMIT_HASH;

/// The content type of [`text`]
/// (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What there is to see of a source, and its name where it has one.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// The label `source` of its series; none of them has it where the source has no name.
    pub source: Option<String>,
    /// What there is to see.
    pub view: View,
}

/// What Prometheus scrapes: the metrics of [`TABLE`] of each source, and those of the process.
#[must_use]
pub fn text(sources: &[Labelled]) -> String {
    let mut families: Vec<_> = TABLE.iter().map(|metric| family(metric, sources)).collect();
    families.retain(|family| !family.get_metric().is_empty());
    families.extend(ProcessCollector::for_self().collect());
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
        tracing::error!(%error, "metrics do not render");
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn family(metric: &Metric, sources: &[Labelled]) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(metric.name.to_owned());
    family.set_help(metric.help.to_owned());
    family.set_field_type(match metric.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    let samples = sources.iter().flat_map(|source| {
        let samples = (metric.read)(&source.view).into_iter();
        samples.map(|(labels, value)| series(metric, source.source.as_deref(), labels, &value))
    });
    family.set_metric(samples.collect());
    family
}

fn series(metric: &Metric, source: Option<&str>, labels: Vec<String>, value: &Value) -> Series {
    let mut series = Series::default();
    let own = metric.labels.iter().copied().zip(labels);
    let pairs = source.map(|name| ("source", name.to_owned())).into_iter().chain(own).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    });
    series.set_label(pairs.collect());
    match (metric.kind, value) {
        (Kind::Counter, Value::Number(number)) => {
            let mut counter = Counter::default();
            counter.set_value(*number);
            series.set_counter(counter);
        }
        (_, Value::Number(number)) => {
            let mut gauge = Gauge::default();
            gauge.set_value(*number);
            series.set_gauge(gauge);
        }
        (_, Value::Latency(latency)) => {
            let mut histogram = Histogram::default();
            histogram.set_sample_count(latency.count());
            histogram.set_sample_sum(latency.sum_seconds());
            let buckets = latency.cumulative().map(|(bound, count)| {
                let mut bucket = Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(count);
                bucket
            });
            histogram.set_bucket(buckets.collect());
            series.set_histogram(histogram);
        }
    }
    series
}

#[cfg(test)]
mod tests;
