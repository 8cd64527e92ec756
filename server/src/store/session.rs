//! What a statement runs on: a connection, and as much of a session as the way to Postgres keeps.
//!
//! Settings are made by statements, since poolers refuse them as startup `options`. Where a pooler gives each transaction
//! another backend they are made in each transaction, by `set_config(..., true)`, and every statement is in one: a setting
//! of the session would be lost, and found again by a stranger. Prepared statements have no name there, for the same
//! reason; in a transaction an unnamed one stays.

use std::sync::Arc;

use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, PgConnection, Postgres};

use crate::outbox::{ByOutbox, Outbox};

/// A statement with values.
pub(super) type Bound<'q> = Query<'q, Postgres, PgArguments>;

/// How long a setting is to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasting {
    Session,
    Transaction,
}

/// The backend that serves a session. Another server, after a failover, may have a process of that number, too.
#[derive(Debug, Clone)]
pub(super) struct Backend {
    pub(super) process: i32,
    /// When its server was started, as that says it.
    pub(super) server: Arc<str>,
}

impl Backend {
    /// Gives both, as columns.
    pub(super) const SELECT: &str =
        "select pg_backend_pid(), extract(epoch from pg_postmaster_start_time())::text";
    /// Cancels what the process ($1) runs, on that server ($2) alone.
    pub(super) const CANCEL: &str =
        "select pg_cancel_backend($1) where extract(epoch from pg_postmaster_start_time())::text = $2";
}

/// A connection, and what is known of its session.
pub(super) struct Session {
    pub(super) connection: PgConnection,
    /// The backend that serves it, whom to cancel; `None` where each transaction has another.
    backend: Option<Backend>,
    begin: Arc<str>,
    outbox: Outbox,
    /// A transaction was begun and not ended.
    open: bool,
    /// It was seen that nothing can be written here.
    read_only: bool,
}

impl Session {
    /// Beside the bounds in time, which are the operator's.
    pub(super) const SETTINGS: [(&str, &str); 5] = [
        // Under another level concurrent updates of a package would fail instead of waiting for their turn.
        ("default_transaction_isolation", "read committed"),
        // Every statement goes by a primary key. A plan that was made while the table was small must not stay a scan, or
        // a hash of the whole table, when it has grown.
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        // A volume in an event is the shortest number that reads back as the same one: by default, unless a role or a
        // database says otherwise.
        ("extra_float_digits", "1"),
    ];

    pub(super) fn new(
        connection: PgConnection,
        backend: Option<Backend>,
        begin: Arc<str>,
        outbox: Outbox,
    ) -> Self {
        Self { connection, backend, begin, outbox, open: false, read_only: false }
    }

    pub(super) fn backend(&self) -> Option<Backend> {
        self.backend.clone()
    }

    /// A statement to bind values to; prepared once for the session where there is one.
    pub(super) fn query<'q>(&self, text: &'static str) -> Bound<'q> {
        sqlx::query(text).persistent(self.backend.is_some())
    }

    /// A change with the values that `bind` gives it, in the form for where events are written.
    pub(super) fn change<'q>(
        &self,
        change: &ByOutbox,
        bind: impl FnOnce(Bound<'q>) -> Bound<'q>,
    ) -> Bound<'q> {
        let bound = bind(self.query(change.of(&self.outbox)));
        match &self.outbox {
            Outbox::Table => bound,
            // Behind the others, where both forms have the same.
            Outbox::Messages { prefix } => bound.bind(prefix.to_string()),
        }
    }

    /// Whether events are logical messages.
    pub(super) fn writes_messages(&self) -> bool {
        matches!(self.outbox, Outbox::Messages { .. })
    }

    /// Runs `ask`, in a transaction where statements need one.
    pub(super) async fn run<T>(
        &mut self,
        ask: impl AsyncFnOnce(&mut Self) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        if self.backend.is_none() {
            self.begin().await?;
        }
        let answer = ask(self).await;
        match answer {
            Ok(_) => self.commit().await?,
            // Where even this fails the connection is broken, and that is what counts.
            Err(_) => self.rollback().await?,
        }
        answer
    }

    /// Begins a transaction, unless one is open.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        if !self.open {
            sqlx::raw_sql(AssertSqlSafe(self.begin.clone())).execute(&mut self.connection).await?;
            self.open = true;
        }
        Ok(())
    }

    /// Commits what is open.
    pub(super) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.end("commit").await
    }

    /// Undoes what is open.
    pub(super) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        self.end("rollback").await
    }

    async fn end(&mut self, how: &'static str) -> Result<(), sqlx::Error> {
        if std::mem::take(&mut self.open) {
            sqlx::raw_sql(how).execute(&mut self.connection).await?;
        }
        Ok(())
    }

    /// Nothing can be written here, as a statement that succeeded has seen.
    pub(super) fn is_read_only(&mut self) {
        self.read_only = true;
    }

    /// Whether the last statement has seen that.
    pub(super) fn was_read_only(&mut self) -> bool {
        std::mem::take(&mut self.read_only)
    }
}

/// One statement that makes all of these settings. The values are ours, or numbers.
pub(super) fn set_config<'a>(settings: impl Iterator<Item = (&'a str, &'a str)>, lasting: Lasting) -> String {
    let local = lasting == Lasting::Transaction;
    let each: Vec<_> =
        settings.map(|(name, value)| format!("set_config('{name}', '{value}', {local})")).collect();
    format!("select {}", each.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_one_statement() {
        let settings = [("lock_timeout", "5"), ("enable_seqscan", "off")];
        assert_eq!(
            set_config(settings.into_iter(), Lasting::Transaction),
            "select set_config('lock_timeout', '5', true), set_config('enable_seqscan', 'off', true)"
        );
    }
}
