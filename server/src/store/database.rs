//! Where the database is, and why a start fails.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use conninfo::{Conninfo, Source};
use secrecy::SecretString;
use sqlx::{Connection, PgConnection, Row};

use super::{StoreError, dial, statements};
use crate::outbox::Outbox;

/// Where the database is. Its password is never shown.
#[derive(Clone)]
pub struct Database {
    source: Arc<Source>,
    place: Arc<str>,
    pub(super) pooling: Pooling,
}

/// What a connection keeps between two transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    /// A session, with its backend, its settings and its prepared statements: Postgres itself, or a pooler that gives a
    /// client a backend for as long as it stays.
    Session,
    /// Nothing: a pooler gives each transaction whatever backend is free.
    Transaction,
}

impl FromStr for Pooling {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "session" => Ok(Self::Session),
            "transaction" => Ok(Self::Transaction),
            _ => Err("expected session or transaction".to_owned()),
        }
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.place()).finish()
    }
}

/// How the use of it is bounded.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// Connections at most.
    pub connections_max: u32,
    /// How long a call waits for a free connection, and a connection for Postgres.
    pub acquire_timeout: Duration,
    /// Statements that wait for a connection at most.
    pub queue_max: u32,
    /// How long the answer to a change with an idempotency key is kept.
    pub idempotency_ttl: Duration,
    /// How long Postgres lets a statement run, waiting for a row's lock included.
    pub statement_timeout: Duration,
    /// How long it lets a statement wait for a row's lock.
    pub lock_timeout: Duration,
}

impl Database {
    /// Reads a connection string, as libpq takes it. `file` is where it was read from, and is read again for each
    /// connection; `env` has the variables for what it leaves out.
    ///
    /// # Errors
    /// What is wrong with it, or cannot be had here. The text holds no password.
    pub fn parse(
        text: SecretString,
        file: Option<PathBuf>,
        env: &[(String, String)],
    ) -> Result<Self, String> {
        let source = Source::new(text, file, env, dial::check)?;
        let place = place(&source.last()).into();
        Ok(Self { source: Arc::new(source), place, pooling: Pooling::Session })
    }

    /// The same database by way of a pooler that keeps so much.
    #[must_use]
    pub fn pooled(self, pooling: Pooling) -> Self {
        Self { pooling, ..self }
    }

    /// `database \`name\` at host:port as \`user\``.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// A connection, within this time.
    pub(super) async fn open(&self, patience: Duration) -> Result<PgConnection, StoreError> {
        let source = self.source.clone();
        let opening = async {
            // Files are read for it, and a mount may hang.
            let conninfo = tokio::task::spawn_blocking(move || source.current()).await;
            dial::to_the_first(&conninfo.map_err(|_| StoreError::Closed)?, patience).await
        };
        tokio::time::timeout(patience, opening).await.unwrap_or(Err(StoreError::NoAnswer(patience)))
    }

    /// One connection of its own. Its statements are not logged: what the migrations do stands in their files.
    ///
    /// # Errors
    /// Why it is not to be had, and what to do about it.
    pub(super) async fn connect(&self, timeout: Duration) -> Result<PgConnection, StartError> {
        self.open(timeout).await.map_err(|error| self.unusable(error))
    }

    async fn within<T>(
        &self,
        timeout: Duration,
        doing: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, StartError> {
        match tokio::time::timeout(timeout, doing).await {
            Ok(done) => done.map_err(|error| self.unusable(error.into())),
            Err(_) => Err(self.unusable(StoreError::NoAnswer(timeout))),
        }
    }

    /// Whether the tables, columns and rights that the statements need are there.
    ///
    /// # Errors
    /// With what is missing, and what to do about it.
    pub async fn check_schema(&self, timeout: Duration, outbox: &Outbox) -> Result<(), StartError> {
        let mut connection = self.connect(timeout).await?;
        let event_probe = statements::EVENT_PROBE.of(outbox);
        let probing = async {
            for probe in statements::PROBES.into_iter().chain([event_probe]) {
                // Unprepared, so that it passes through any pooler.
                sqlx::raw_sql(probe).execute(&mut connection).await?;
            }
            connection.close().await
        };
        self.within(timeout, probing).await
    }

    /// Whether the database lets one in, and keeps as much of a session as the settings say.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub async fn check(&self, timeout: Duration) -> Result<(), StartError> {
        let mut connection = self.connect(timeout).await?;
        let shared = match self.pooling {
            Pooling::Session => self.shares_backend(timeout, &mut connection).await,
            Pooling::Transaction => false,
        };
        let _ = tokio::time::timeout(timeout, connection.close()).await;
        if shared { Err(self.unusable(StoreError::SharedBackend)) } else { Ok(()) }
    }

    /// Whether another session, open at the same time, is served by the same backend. Not every pooler can be found out
    /// so: readiness looks again, at each connection in use.
    async fn shares_backend(&self, timeout: Duration, one: &mut PgConnection) -> bool {
        let comparing = async {
            let first = backend_of(one).await?;
            let mut other = self.open(timeout).await?;
            let second = backend_of(&mut other).await?;
            let _ = other.close().await;
            Ok::<_, StoreError>(first == second)
        };
        // One more connection than there is room for, say: what matters of it fails elsewhere.
        matches!(tokio::time::timeout(timeout, comparing).await, Ok(Ok(true)))
    }

    pub(super) fn unusable(&self, cause: StoreError) -> StartError {
        let remedy = match cause {
            StoreError::SharedBackend => DIRECT_OR_TRANSACTION,
            StoreError::Standby => remedy("25006"),
            _ => remedy(&cause.sqlstate().unwrap_or_default()),
        };
        StartError { place: self.place.clone(), remedy, cause }
    }
}

fn place(conninfo: &Conninfo) -> String {
    let addresses: Vec<_> = conninfo.addresses.iter().map(ToString::to_string).collect();
    format!("database `{}` at {} as `{}`", conninfo.database, addresses.join(","), conninfo.user)
}

async fn backend_of(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    sqlx::raw_sql("select pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

const DIRECT_OR_TRANSACTION: &str = "set PACKAGE_API_DATABASE_POOLING=transaction, or let \
    PACKAGE_API_DATABASE_URL lead to Postgres itself or to a pool in session mode";

/// Why the service cannot start on this database: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {}; {remedy}", plain(cause))]
pub struct StartError {
    place: Arc<str>,
    remedy: &'static str,
    cause: StoreError,
}

/// Postgres' own words, without the driver's preface.
fn plain(cause: &StoreError) -> String {
    match cause.driver() {
        Some(sqlx::Error::Database(refusal)) => refusal.message().to_owned(),
        Some(sqlx::Error::Io(error)) => format!("cannot be reached: {error}"),
        _ => cause.to_string(),
    }
}

/// What an operator can do about a SQLSTATE; the empty one stands for no answer at all.
fn remedy(code: &str) -> &'static str {
    match code {
        "28P01" | "28000" => "check user and password in PACKAGE_API_DATABASE_URL, and pg_hba.conf",
        "3D000" => "create the database, or correct its name in PACKAGE_API_DATABASE_URL",
        "42P01" | "42703" | "42704" => {
            "run `logistic-package-api migrate`, or `serve` without `--no-migrate`"
        }
        "42501" => {
            "grant the role what migrations/roles/roles.sql grants, or connect as the owner of the tables"
        }
        "53300" => "raise max_connections of Postgres, or lower `database-connections`",
        "25006" => "this is a standby or a read-only database: connect to the primary",
        "08P01" => {
            "a pooler on the way refuses it: leave `options` out of PACKAGE_API_DATABASE_URL, or go directly"
        }
        "57P03" => "it is starting up or shutting down: try again shortly",
        "" => "is Postgres running there, and does PACKAGE_API_DATABASE_URL name it?",
        _ => "see the log of Postgres for more",
    }
}
