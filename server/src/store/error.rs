//! What can go wrong in a statement, and whether repeating it can help.

use std::sync::Arc;
use std::time::Duration;

/// Why a statement failed. Its text may hold SQL and values: for the log, never for a client.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// As the driver reports it.
    #[error(transparent)]
    Driver(Arc<sqlx::Error>),
    /// Not even the server's own statement timeout was heard of: the connection is dead.
    #[error("the database did not answer within {0:?}")]
    NoAnswer(Duration),
    /// No connection became free in time.
    #[error("no connection to the database became free within {0:?}")]
    Waited(Duration),
    /// So many statements wait already that one more would only wait too.
    #[error("{0} statements wait for the database already")]
    Overloaded(usize),
    /// A session has no backend of its own, and the settings say that it has.
    #[error("two sessions share a backend: a pooler in transaction mode is on the way")]
    SharedBackend,
    /// Of several servers none is the primary.
    #[error("the server is a standby, and the primary is needed")]
    Standby,
    /// The server stops.
    #[error("the store is closed")]
    Closed,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::Driver(Arc::new(error))
    }
}

impl StoreError {
    pub(super) fn driver(&self) -> Option<&sqlx::Error> {
        if let Self::Driver(error) = self { Some(error) } else { None }
    }

    /// What Postgres gave as its reason, where it was Postgres that refused.
    #[must_use]
    pub fn sqlstate(&self) -> Option<String> {
        Some(self.driver()?.as_database_error()?.code()?.into_owned())
    }

    /// Whether the database is away, overloaded or read-only rather than refusing this statement: the same call may
    /// succeed later.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::NoAnswer(_)
            | Self::Waited(_)
            | Self::Overloaded(_)
            | Self::Closed
            | Self::Standby
            | Self::SharedBackend => true,
            Self::Driver(error) => match &**error {
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => true,
                sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| is_unavailable(&code)),
                _ => false,
            },
        }
    }

    /// Whether the statement was refused, and so rolled back. After anything else nobody knows: the answer may have
    /// been lost behind the commit.
    pub(super) fn changed_nothing(&self) -> bool {
        self.sqlstate().is_some_and(|code| is_refusal(&code))
    }

    /// Whether nothing can be written there: a standby, or a database or role that was made read-only.
    pub(super) fn is_read_only(&self) -> bool {
        self.sqlstate().is_some_and(|code| code == "25006")
    }

    /// Whether the statement that was prepared is not what it was: its columns have other types by now ("cached plan must
    /// not change result type", raised before anything is run), or it is gone, or another one has its name (a pooler).
    pub(super) fn is_of_stale_statement(&self) -> bool {
        self.sqlstate().is_some_and(|code| is_of_stale_statement(&code))
    }

    /// Whether a session has lost what it prepared, each time again: it has no backend of its own.
    #[must_use]
    pub fn is_of_shared_backend(&self) -> bool {
        let lost = |code: String| matches!(code.as_str(), "26000" | "42P05");
        matches!(self, Self::SharedBackend) || self.sqlstate().is_some_and(lost)
    }

    /// Whether the connection can go on after it.
    pub(super) fn leaves_connection(&self) -> bool {
        // Class 57P is an operator's intervention: a shutdown, a crash, a termination of this backend.
        self.sqlstate().is_some_and(|code| !code.starts_with("57P") && !code.starts_with("08"))
    }

    /// Whether the same statement may well succeed at once, and may be repeated: it is safe to repeat, or has changed
    /// nothing.
    pub(super) fn is_worth_repeating(&self, safe: bool) -> bool {
        match self.sqlstate() {
            // A serialization failure or a deadlock; a backend that was terminated, which tells so.
            Some(code) if matches!(code.as_str(), "40001" | "40P01" | "57P01" | "57P02") => true,
            Some(code) => is_of_stale_statement(&code),
            None => safe && matches!(self.driver(), Some(sqlx::Error::Io(_) | sqlx::Error::Tls(_))),
        }
    }
}

/// Class 08 is no word of Postgres about the statement: a pooler says so when it has lost Postgres, whatever became of
/// what it passed on.
fn is_refusal(code: &str) -> bool {
    !code.starts_with("08")
}

fn is_of_stale_statement(code: &str) -> bool {
    matches!(code, "0A000" | "26000" | "42P05")
}

/// By SQLSTATE, see the appendix "PostgreSQL Error Codes".
fn is_unavailable(code: &str) -> bool {
    match code {
        // A statement that was cancelled, by `statement_timeout` as a rule, or that had to wait for a lock longer than
        // `lock_timeout`. It changed nothing.
        "57014" | "55P03" => true,
        // A serialization failure, a deadlock: tried again already, in vain.
        "40001" | "40P01" => true,
        // A standby, or a primary that was told to be read-only: a failover is under way.
        "25006" => true,
        // Connection exceptions, authorization, insufficient resources, operator intervention.
        _ => matches!(code.get(..2), Some("08" | "28" | "53" | "57")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Postgres says, as the driver would report it, is hard to make by hand: the tests against a server see to
    /// it. Here is what comes without a word of it.
    #[test]
    fn what_nobody_answered_is_repeated_only_where_that_is_safe() {
        let broken = StoreError::from(sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        assert!(broken.is_worth_repeating(true) && !broken.is_worth_repeating(false));
        assert!(!broken.changed_nothing() && !broken.leaves_connection());
        let silent = StoreError::NoAnswer(Duration::from_secs(1));
        assert!(!silent.is_worth_repeating(true) && !silent.leaves_connection());
    }

    #[test]
    fn what_repeating_can_help_is_told_from_what_it_cannot() {
        for code in ["08006", "28P01", "53300", "57014", "57P01", "57P03", "25006", "55P03", "40001"] {
            assert!(is_unavailable(code), "{code}");
        }
        for code in ["23514", "42P01", "42501", "22021", "25P02", "XX000", ""] {
            assert!(!is_unavailable(code), "{code}");
        }
        assert!(is_refusal("23514") && !is_refusal("08P01"));
    }
}
