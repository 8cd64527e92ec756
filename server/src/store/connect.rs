//! Where the database is, connections to it, and why a start fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::{StoreError, statements};

/// A connection that was used within this time is taken to be alive. A ping would be a second round trip for every
/// call; what it finds is a server that was restarted, and a busy pool finds that out by the first call that fails.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// A backend keeps what it has cached of the catalogue; a connection of this age makes room for a new one.
const LIFETIME_MAX: Duration = Duration::from_mins(30);

/// Allowed on top of the server's own statement timeout before a connection is given up as dead.
const NETWORK_GRACE: Duration = Duration::from_secs(2);

/// For taking leave of Postgres; it notices by itself when nobody does.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Connections that cancel statements at once at most, beside those of the lanes.
const CANCELS_UNDER_WAY: usize = 2;

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
            Ok(connected) => connected.map_err(|error| self.unusable(error.into())),
            Err(_) => Err(self.unusable(StoreError::NoAnswer(timeout))),
        }
    }

    /// Whether the tables, columns and rights that the statements need are there.
    ///
    /// # Errors
    /// With what is missing, and what to do about it.
    pub async fn check_schema(&self, timeout: Duration) -> Result<(), StartError> {
        let mut connection = self.connect(timeout, &[]).await?;
        let probing = async {
            for probe in statements::PROBES {
                sqlx::query(probe).execute(&mut connection).await?;
            }
            connection.close().await
        };
        match tokio::time::timeout(timeout, probing).await {
            Ok(probed) => probed.map_err(|error| self.unusable(error.into())),
            Err(_) => Err(self.unusable(StoreError::NoAnswer(timeout))),
        }
    }

    /// Whether the database lets one in.
    ///
    /// # Errors
    /// Why not, and what to do about it.
    pub async fn check(&self, timeout: Duration) -> Result<(), StartError> {
        let connection = self.connect(timeout, &[]).await?;
        let _ = tokio::time::timeout(timeout, connection.close()).await;
        Ok(())
    }

    pub(super) fn unusable(&self, cause: StoreError) -> StartError {
        let code = cause.sqlstate().unwrap_or_default();
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
        "57P03" => "it is starting up or shutting down: try again shortly",
        "" => "is Postgres running there, and does PACKAGE_API_DATABASE_URL name it?",
        _ => "see the log of Postgres for more",
    }
}

/// Makes, tries and ends the connections of the lanes.
#[derive(Debug)]
pub(super) struct Connector {
    options: PgConnectOptions,
    connect_timeout: Duration,
    /// Longer than Postgres lets a statement run, so it strikes only when the connection is dead.
    answer_timeout: Duration,
    cancels: Semaphore,
    open: Arc<AtomicUsize>,
}

/// A connection, and what its lane has to know of it.
pub(super) struct Connected {
    pub(super) connection: PgConnection,
    /// The backend that serves it: whom to cancel.
    pub(super) process: i32,
    pub(super) used: Instant,
    since: Instant,
    _counted: Counted,
}

/// Counts a connection as long as it is there.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected {
    pub(super) async fn close(self) {
        let _ = timeout(CLOSE_TIMEOUT, self.connection.close()).await;
    }
}

impl Connector {
    pub(super) fn new(database: &Database, settings: &PoolSettings) -> Self {
        let statement_timeout = settings.statement_timeout.as_millis().to_string();
        let lock_timeout = settings.lock_timeout.as_millis().to_string();
        let options = database.options.clone().options([
            ("statement_timeout", statement_timeout.as_str()),
            ("lock_timeout", lock_timeout.as_str()),
            // Under another level concurrent updates of a package would fail instead of waiting for their turn.
            ("default_transaction_isolation", "read committed"),
            // Every statement goes by a primary key. A plan that was made while the table was small must not stay a
            // scan, or a hash of the whole table, when it has grown.
            ("enable_seqscan", "off"),
            ("enable_hashjoin", "off"),
            ("enable_mergejoin", "off"),
        ]);
        Self {
            options: options.disable_statement_logging(),
            connect_timeout: settings.acquire_timeout,
            answer_timeout: settings.statement_timeout.saturating_add(NETWORK_GRACE),
            cancels: Semaphore::new(CANCELS_UNDER_WAY),
            open: Arc::default(),
        }
    }

    pub(super) fn answer_timeout(&self) -> Duration {
        self.answer_timeout
    }

    /// Connections that are there.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// A connection that answers: this one, or a new one.
    pub(super) async fn ready(&self, connected: Option<Connected>) -> Result<Connected, StoreError> {
        if let Some(mut connected) = connected {
            if connected.since.elapsed() > LIFETIME_MAX {
                connected.close().await;
            } else if connected.used.elapsed() < TRUSTED_IDLE
                || matches!(timeout(self.connect_timeout, connected.connection.ping()).await, Ok(Ok(())))
            {
                return Ok(connected);
            }
        }
        self.within(self.connect()).await
    }

    async fn connect(&self) -> Result<Connected, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        let process = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut connection).await?;
        let now = Instant::now();
        Ok(Connected { connection, process, used: now, since: now, _counted: Counted::new(&self.open) })
    }

    /// Asks Postgres to cancel what a backend runs. Best effort: the statement timeout ends it as well.
    pub(super) async fn cancel(&self, process: i32) {
        let cancelling = async {
            let _permit = self.cancels.acquire().await;
            let mut connected = self.connect().await?;
            sqlx::query("select pg_cancel_backend($1)")
                .bind(process)
                .execute(&mut connected.connection)
                .await?;
            connected.close().await;
            Ok(())
        };
        match self.within(cancelling).await {
            Ok(()) => tracing::debug!(process, "cancelled a statement that nobody waits for"),
            Err(error) => {
                tracing::warn!(process, %error, "a statement that nobody waits for was not cancelled")
            }
        }
    }

    async fn within<T>(&self, doing: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        match timeout(self.connect_timeout, doing).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(StoreError::NoAnswer(self.connect_timeout)),
        }
    }
}
