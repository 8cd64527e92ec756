//! What a program logs, and how: read alike by all that take a level and a format.

use std::str::FromStr;

use tracing::level_filters::LevelFilter;

/// What is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(pub LevelFilter);

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
