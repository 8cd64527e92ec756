//! The log: events with fields, on standard error. Standard output is for records.

use std::io::{self, IsTerminal as _};
use std::str::FromStr;

use tracing::level_filters::LevelFilter;

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(LevelFilter);

impl FromStr for LogLevel {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // LevelFilter reads digits as well, which nobody would understand in a settings file.
        let level = text.parse().ok().filter(|_| text.chars().all(char::is_alphabetic) && !text.is_empty());
        level.map(Self).ok_or("expected off, error, warn, info, debug or trace")
    }
}

/// How it is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line, for machines.
    Json,
    /// One line of text an event, for a terminal.
    Pretty,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err("expected json or pretty"),
        }
    }
}

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
