//! Values of a metric, with those of its labels.

use walpost_core::publish::counts::Latency;

/// The values of the labels, in the order of their names, and the value.
pub(super) type Samples = Vec<(Vec<String>, Value)>;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Of a counter or a gauge.
    Number(f64),
    /// Of a histogram.
    Latency(Box<Latency>),
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

/// A count, as Prometheus has it. Exact up to 2^53: an LSN of 8 PiB.
#[allow(clippy::cast_precision_loss)]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

/// A yes or no, as Prometheus has it.
pub(super) fn flag(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// Without labels.
pub(super) fn one(value: f64) -> Samples {
    vec![(Vec::new(), value.into())]
}

/// Without labels, where it is known.
pub(super) fn some(value: Option<f64>) -> Samples {
    value.map_or_else(Vec::new, one)
}

/// One for each name.
pub(super) fn each(names: &[&str], value: impl Fn(&str) -> f64) -> Samples {
    names.iter().map(|name| (vec![(*name).to_owned()], value(name).into())).collect()
}

/// Those that there are.
pub(super) fn many(values: impl Iterator<Item = (Vec<String>, f64)>) -> Samples {
    values.map(|(labels, value)| (labels, value.into())).collect()
}

/// A histogram.
pub(super) fn latency(latency: &Latency) -> Samples {
    vec![(Vec::new(), Value::Latency(Box::new(*latency)))]
}
