//! The log: events with fields, on standard error. Standard output is for records.

use std::io::{self, IsTerminal as _};

use settings::{LogFormat, LogLevel};

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TelemetrySettings {
    /// What is logged.
    pub log_level: LogLevel,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// Sends the log of the whole process to standard error. Does nothing where a log is set up already.
pub fn init(settings: TelemetrySettings) {
    let log = tracing_subscriber::fmt().with_max_level(settings.log_level.0).with_writer(io::stderr);
    let _ = match settings.log_format {
        LogFormat::Json => {
            log.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
        }
        LogFormat::Pretty => log.with_ansi(io::stderr().is_terminal()).try_init(),
    };
}
