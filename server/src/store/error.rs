//! What can go wrong in a statement, and whether repeating it can help.

use std::time::Duration;

/// Why a statement failed. Its text may hold SQL and values: for the log, never for a client.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// As the driver reports it.
    #[error(transparent)]
    Driver(#[from] sqlx::Error),
    /// Not even the server's own statement timeout was heard of: the connection is dead.
    #[error("the database did not answer within {0:?}")]
    NoAnswer(Duration),
}

impl StoreError {
    /// Whether the database is away, overloaded or read-only rather than refusing this statement: the same call may
    /// succeed later.
    #[must_use]
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::NoAnswer(_) => true,
            Self::Driver(error) => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::Tls(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => true,
                sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| is_unavailable(&code)),
                _ => false,
            },
        }
    }
}

/// By SQLSTATE, see the appendix "PostgreSQL Error Codes".
fn is_unavailable(code: &str) -> bool {
    match code {
        // A statement that was cancelled, by `statement_timeout` as a rule. It changed nothing.
        "57014" => true,
        // A standby, or a primary that was told to be read-only: a failover is under way.
        "25006" => true,
        // Connection exceptions, authorization, insufficient resources, operator intervention.
        _ => matches!(code.get(..2), Some("08" | "28" | "53" | "57")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeating_can_help_is_told_from_what_it_cannot() {
        for code in ["08006", "28P01", "53300", "57014", "57P01", "57P03", "25006"] {
            assert!(is_unavailable(code), "{code}");
        }
        for code in ["23514", "42P01", "42501", "22021", "25P02", "XX000", ""] {
            assert!(!is_unavailable(code), "{code}");
        }
    }
}
