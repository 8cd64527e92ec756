//! Logs as events with fields, on stderr; spans, to a collector.

pub(crate) mod level;
pub(crate) mod trace;

use std::io::{self, IsTerminal};

use settings::{LogFormat, LogLevel};
use spans::Exporting;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

pub use trace::TraceSettings;

/// Crates that tell of every frame and timer from `debug` on. Nobody who asks for our own debug log wants that.
const CHATTY: [&str; 9] = [
    "h2",
    "hyper",
    "hyper_util",
    "opentelemetry",
    "opentelemetry_sdk",
    "opentelemetry-otlp",
    "rustls",
    "tonic",
    "tower",
];

/// How the process is heard.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetrySettings {
    /// What is logged.
    pub log_level: LogLevel,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Whether a client may raise the level of its call.
    pub log_level_by_client: bool,
    /// Where spans go, if anywhere.
    pub traces: TraceSettings,
}

/// Sends the log of the whole process to stderr, and its spans to the collector until what it returns is dropped. Does
/// nothing where a log is set up already. Needs a Tokio runtime where there is a collector.
#[must_use]
pub fn init(settings: &TelemetrySettings) -> Option<Exporting> {
    let layer = fmt::layer().with_writer(io::stderr);
    let layer = match settings.log_format {
        LogFormat::Json => {
            layer.json().flatten_event(true).with_span_list(false).with_current_span(false).boxed()
        }
        LogFormat::Pretty => layer.with_ansi(io::stderr().is_terminal()).boxed(),
    };
    let always = filter(settings.log_level);
    let log = if settings.log_level_by_client {
        let asked_for = filter(LogLevel(LevelFilter::TRACE));
        layer.with_filter(level::PerCall { always, asked_for }).boxed()
    } else {
        layer.with_filter(always).boxed()
    };
    let (spans, unusable) = match trace::layer(&settings.traces) {
        Ok(spans) => (spans, None),
        Err(reason) => (None, Some(reason)),
    };
    let (spans, exporting) = spans.unzip();
    let _ = tracing_subscriber::registry().with(log).with(spans).try_init();
    if let Some(reason) = unusable {
        tracing::warn!(reason, "no spans are sent");
    }
    exporting
}

/// Spans are not for the log.
fn filter(LogLevel(level): LogLevel) -> Targets {
    let chatty = level.min(LevelFilter::INFO);
    Targets::new()
        .with_default(level)
        .with_targets(CHATTY.map(|target| (target, chatty)))
        .with_target(spans::TARGET, LevelFilter::OFF)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("info", true)]
    #[case("DEBUG", true)]
    #[case("off", true)]
    #[case("3", false)]
    #[case("", false)]
    #[case("inof", false)]
    #[case("info,h2=trace", false)]
    fn a_level_is_a_word(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<LogLevel>().is_ok(), valid);
    }

    #[test]
    fn chatty_crates_stay_at_info() {
        let filter = filter(LogLevel(LevelFilter::TRACE));
        assert!(filter.would_enable("logistic_package_api::grpc", &tracing::Level::TRACE));
        assert!(!filter.would_enable("h2::codec", &tracing::Level::DEBUG));
        assert!(filter.would_enable("h2::codec", &tracing::Level::INFO));
    }
}
