//! Logs as events with fields, on stderr; spans, to a collector.

pub mod traces;

use std::io::{self, IsTerminal};

use settings::{Collector, LogFormat, LogLevel};
use spans::Exporting;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// Crates that tell of every frame from `debug` on. That of HTTP logs URLs as well, which hold the bot's token: it is off
/// at every level.
const CHATTY: [&str; 8] =
    ["h2", "opentelemetry", "opentelemetry_sdk", "opentelemetry-otlp", "rdkafka", "rustls", "tonic", "tower"];
const OFF: [&str; 3] = ["hyper", "hyper_util", "reqwest"];

/// Logs and spans.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetrySettings {
    /// What is logged.
    pub log_level: LogLevel,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Where spans go, if anywhere.
    pub collector: Collector,
}

/// Sends the log of the whole process to stderr, and its spans to the collector until what it returns is dropped. Needs a
/// Tokio runtime where there is a collector.
#[must_use]
pub fn init(settings: &TelemetrySettings) -> Option<Exporting> {
    let layer = fmt::layer().with_writer(io::stderr);
    let layer = match settings.log_format {
        LogFormat::Json => {
            layer.json().flatten_event(true).with_span_list(false).with_current_span(false).boxed()
        }
        LogFormat::Pretty => layer.with_ansi(io::stderr().is_terminal()).boxed(),
    };
    let (spans, unusable) = match traces::layer(&settings.collector) {
        Ok(spans) => (spans, None),
        Err(reason) => (None, Some(reason)),
    };
    let (spans, exporting) = spans.unzip();
    let log = layer.with_filter(filter(settings.log_level));
    let _ = tracing_subscriber::registry().with(log).with(spans).try_init();
    if let Some(reason) = unusable {
        tracing::warn!(reason, "no spans are sent");
    }
    exporting
}

fn filter(LogLevel(level): LogLevel) -> Targets {
    let chatty = level.min(LevelFilter::INFO);
    Targets::new()
        .with_default(level)
        .with_targets(CHATTY.map(|target| (target, chatty)))
        .with_targets(OFF.map(|target| (target, LevelFilter::OFF)))
        // Spans are not for the log.
        .with_target(spans::TARGET, LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_could_log_a_url_is_off_at_every_level() {
        let filter = filter(LogLevel(LevelFilter::TRACE));
        assert!(filter.would_enable("package_bot::telegram", &Level::TRACE));
        for target in ["reqwest::connect", "hyper_util::client::legacy", "hyper::proto"] {
            assert!(!filter.would_enable(target, &Level::ERROR), "{target}");
        }
    }

    #[test]
    fn a_level_is_a_word() {
        assert!("debug".parse::<LogLevel>().is_ok());
        assert!("3".parse::<LogLevel>().is_err() && "info,h2=trace".parse::<LogLevel>().is_err());
    }
}
