//! What Postgres, or the way to it, had to say.

use std::fmt;
use std::time::Duration;

/// What is done with a stream, as errors name it.
pub(crate) const FOLLOW_STREAM: &str = "follow the stream";

/// A five-character error code (PostgreSQL, "Error Codes").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqlState(pub String);

/// Something asked of Postgres did not work.
#[derive(Debug, Clone, thiserror::Error)]
pub struct DatabaseError {
    /// What was asked.
    doing: &'static str,
    /// Where: `host:port/database as user`.
    place: String,
    /// The server's code, where the server answered.
    state: Option<SqlState>,
    detail: String,
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} ({}): {}", self.doing, self.place, self.detail)?;
        if let Some(SqlState(code)) = &self.state {
            write!(f, " (SQLSTATE {code})")?;
        }
        Ok(())
    }
}

impl DatabaseError {
    /// From the SQL client.
    #[must_use]
    pub fn of_client(doing: &'static str, place: &str, error: &tokio_postgres::Error) -> Self {
        let state = error.code().map(|code| SqlState(code.code().to_owned()));
        let detail = match error.as_db_error() {
            // Details of other classes may quote what rows hold.
            Some(server) => match server.detail().filter(|_| state.as_ref().is_some_and(is_of_the_statement))
            {
                Some(detail) => format!("{}: {detail}", server.message()),
                None => server.message().to_owned(),
            },
            None => with_sources(error),
        };
        Self { doing, place: place.to_owned(), state, detail }
    }

    /// From the replication client, which gives the server's code as the end of the text only.
    #[must_use]
    pub fn of_stream(doing: &'static str, place: &str, text: &str) -> Self {
        let (detail, state) = split_sqlstate(text);
        Self { doing, place: place.to_owned(), state, detail: detail.to_owned() }
    }

    pub(super) fn of_tls(place: &str, detail: String) -> Self {
        Self::unanswered("set up TLS", place, detail)
    }

    pub(crate) fn no_answer(doing: &'static str, place: &str, timeout: Duration) -> Self {
        Self::unanswered(doing, place, format!("no answer within {} ms", timeout.as_millis()))
    }

    pub(super) fn standby(place: &str) -> Self {
        Self::unanswered("connect", place, "it is a standby, and walpost follows the primary".to_owned())
    }

    pub(super) fn closed(place: &str) -> Self {
        Self::unanswered("keep the connection", place, "the server closed it".to_owned())
    }

    /// Without a word of the server's.
    fn unanswered(doing: &'static str, place: &str, detail: String) -> Self {
        Self { doing, place: place.to_owned(), state: None, detail }
    }

    /// Whether a stream that had begun ended with it.
    #[must_use]
    pub fn is_of_followed_stream(&self) -> bool {
        self.doing == FOLLOW_STREAM
    }

    /// The same error with words that say more.
    #[must_use]
    pub fn with_detail(self, detail: String) -> Self {
        Self { detail, ..self }
    }

    /// The same error with what it may come from.
    #[must_use]
    pub(crate) fn adding(mut self, words: &str) -> Self {
        self.detail = format!("{}; {words}", self.detail);
        self
    }

    /// The server's code, where the server answered.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        self.state.as_ref().map(|SqlState(code)| code.as_str())
    }
}

/// Whether the server says that it does not do what a statement asks, or does not understand it (classes 0A and 42).
fn is_of_the_statement(state: &SqlState) -> bool {
    ["0A", "42"].iter().any(|class| state.0.starts_with(class))
}

/// The client's own errors say little; the causes behind them say why.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Splits `message (SQLSTATE 55006)`.
pub(crate) fn split_sqlstate(text: &str) -> (&str, Option<SqlState>) {
    let found =
        text.rsplit_once(" (SQLSTATE ").and_then(|(message, rest)| Some((message, rest.split_once(')')?.0)));
    match found {
        Some((message, code)) if code.len() == 5 => (message, Some(SqlState(code.to_owned()))),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_taken_from_the_end_of_the_replication_clients_text() {
        let text = "server error: replication slot \"x\" is active for PID 7 (SQLSTATE 55006)";
        let error = DatabaseError::of_stream("start streaming", "db:5432/shop as me", text);
        assert_eq!(error.sqlstate(), Some("55006"));
        assert!(
            error
                .to_string()
                .starts_with("cannot start streaming (db:5432/shop as me): server error: replication slot")
        );
        assert_eq!(DatabaseError::of_stream("x", "y", "io error: broken pipe").sqlstate(), None);
    }
}
