//! Where the database is, the pool of connections to it, and why a start fails.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use super::StoreError;

/// A connection that was used within this time is taken to be alive. A ping would be a second round trip for every
/// call; what it finds is a server that was restarted, and a busy pool finds that out by the first call that fails.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// Where the database is. Its URL, and so its password, is never shown.
#[derive(Clone)]
pub struct Database {
    options: PgConnectOptions,
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Database").field(&self.place()).finish()
    }
}

/// How the pool is bounded.
#[derive(Debug, Clone, Copy)]
pub struct PoolSettings {
    /// Connections at most.
    pub connections_max: u32,
    /// How long a call waits for a free connection.
    pub acquire_timeout: Duration,
    /// How long Postgres lets a statement run, waiting for a row's lock included.
    pub statement_timeout: Duration,
}

impl Database {
    /// Reads a URL such as `postgres://user:password@host:5432/name`.
    ///
    /// # Errors
    /// What the URL should be. The text holds nothing of it.
    pub fn parse(url: &str) -> Result<Self, String> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err("expected a URL such as postgres://user:password@host:5432/name".into());
        }
        let options: PgConnectOptions = url.parse().map_err(|error: sqlx::Error| match error {
            sqlx::Error::Configuration(cause) => format!("not a URL of a Postgres database: {cause}"),
            other => format!("not a URL of a Postgres database: {other}"),
        })?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name(env!("CARGO_PKG_NAME")),
        };
        Ok(Self { options })
    }

    /// `database \`name\` at host:port as \`user\``.
    #[must_use]
    pub fn place(&self) -> String {
        let options = &self.options;
        let name = options.get_database().unwrap_or_else(|| options.get_username());
        let host = match options.get_socket() {
            Some(folder) => folder.display().to_string(),
            None => options.get_host().to_owned(),
        };
        format!("database `{name}` at {host}:{} as `{}`", options.get_port(), options.get_username())
    }

    /// One connection of its own, with `parameters` of the session.
    ///
    /// # Errors
    /// Why it is not to be had, and what to do about it.
    pub(super) async fn connect(
        &self,
        timeout: Duration,
        parameters: &[(&str, &str)],
    ) -> Result<PgConnection, StartError> {
        // What the migrations do stands in their files; the log of each statement would repeat them whole.
        let options = self.options.clone().options(parameters.iter().copied()).disable_statement_logging();
        match tokio::time::timeout(timeout, options.connect()).await {
            Ok(connected) => connected.map_err(|error| self.unusable(StoreError::Driver(error))),
            Err(_) => Err(self.unusable(StoreError::NoAnswer(timeout))),
        }
    }

    /// Whether the database lets one in: asked once at the start, since a pool only says that it timed out.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub async fn check(&self, timeout: Duration) -> Result<(), StartError> {
        let connection = self.connect(timeout, &[]).await?;
        let _ = tokio::time::timeout(timeout, connection.close()).await;
        Ok(())
    }

    pub(super) fn unusable(&self, cause: StoreError) -> StartError {
        let code = match &cause {
            StoreError::Driver(sqlx::Error::Database(refusal)) => {
                refusal.code().unwrap_or_default().into_owned()
            }
            _ => String::new(),
        };
        StartError { place: self.place(), remedy: remedy(&code), cause }
    }
}

/// Why the service cannot start on this database: what, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {}; {remedy}", plain(cause))]
pub struct StartError {
    place: String,
    remedy: &'static str,
    cause: StoreError,
}

/// Postgres' own words, without the driver's preface.
fn plain(cause: &StoreError) -> String {
    match cause {
        StoreError::Driver(sqlx::Error::Database(refusal)) => refusal.message().to_owned(),
        StoreError::Driver(sqlx::Error::Io(error)) => format!("cannot be reached: {error}"),
        other => other.to_string(),
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
        "57P03" => "it is starting up or shutting down: try again shortly",
        "" => "is Postgres running there, and does PACKAGE_API_DATABASE_URL name it?",
        _ => "see the log of Postgres for more",
    }
}

pub(super) fn pool(database: &Database, settings: &PoolSettings) -> PgPool {
    let statement_timeout = settings.statement_timeout.as_millis().to_string();
    let options = database.options.clone().options([
        ("statement_timeout", statement_timeout.as_str()),
        // Under another level concurrent updates of a package would fail instead of waiting for their turn.
        ("default_transaction_isolation", "read committed"),
    ]);
    PgPoolOptions::new()
        .max_connections(settings.connections_max)
        .acquire_timeout(settings.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRUSTED_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}
