//! Where the database is, connections to it, and why a start fails.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, Row};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::session::{Lasting, Session, set_config};
use super::{StoreError, statements};

/// A connection that was used within this time is taken to be alive. A ping would be a second round trip for every
/// call; what it finds is a server that was restarted, and a busy pool finds that out by the first call that fails.
const TRUSTED_IDLE: Duration = Duration::from_secs(1);

/// What a connection of this age says of the whole database ("read-only") may have been true of the past only: of the
/// role's settings when it was made, or of a primary that has been demoted since.
const MAY_BE_OUTDATED: Duration = Duration::from_secs(1);

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
        // Poolers refuse a startup parameter that they do not follow, and this one is such. See `Session::SETTINGS`.
        let options = options.extra_float_digits(None).disable_statement_logging();
        Ok(Self { options, pooling: Pooling::Session })
    }

    /// The same database by way of a pooler that keeps so much.
    #[must_use]
    pub fn pooled(self, pooling: Pooling) -> Self {
        Self { pooling, ..self }
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

    /// One connection of its own. Its statements are not logged: what the migrations do stands in their files.
    ///
    /// # Errors
    /// Why it is not to be had, and what to do about it.
    pub(super) async fn connect(&self, timeout: Duration) -> Result<PgConnection, StartError> {
        self.within(timeout, self.options.connect()).await
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
    pub async fn check_schema(&self, timeout: Duration) -> Result<(), StartError> {
        let mut connection = self.connect(timeout).await?;
        let probing = async {
            for probe in statements::PROBES {
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
            let mut other = self.options.connect().await?;
            let second = backend_of(&mut other).await?;
            let _ = other.close().await;
            Ok::<_, sqlx::Error>(first == second)
        };
        // One more connection than there is room for, say: what matters of it fails elsewhere.
        matches!(tokio::time::timeout(timeout, comparing).await, Ok(Ok(true)))
    }

    pub(super) fn unusable(&self, cause: StoreError) -> StartError {
        let remedy = match cause {
            StoreError::SharedBackend => DIRECT_OR_TRANSACTION,
            _ => remedy(&cause.sqlstate().unwrap_or_default()),
        };
        StartError { place: self.place(), remedy, cause }
    }
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
        "08P01" => {
            "a pooler on the way refuses it: leave `options` out of PACKAGE_API_DATABASE_URL, or go directly"
        }
        "57P03" => "it is starting up or shutting down: try again shortly",
        "" => "is Postgres running there, and does PACKAGE_API_DATABASE_URL name it?",
        _ => "see the log of Postgres for more",
    }
}

/// Makes, tries and ends the connections of the lanes.
#[derive(Debug)]
pub(super) struct Connector {
    options: PgConnectOptions,
    pooling: Pooling,
    /// What a new session is told, and asked: its backend.
    entering: Arc<str>,
    /// What each transaction is told.
    begin: Arc<str>,
    connect_timeout: Duration,
    /// Longer than Postgres lets a statement run, so it strikes only when the connection is dead.
    answer_timeout: Duration,
    /// Of the connections that may be used. It rises when one of them learnt what holds for all of that age.
    generation: AtomicU64,
    cancels: Semaphore,
    open: Arc<AtomicUsize>,
}

/// A connection, and what its lane has to know of it.
pub(super) struct Connected {
    pub(super) session: Session,
    pub(super) used: Instant,
    since: Instant,
    generation: u64,
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
        let _ = timeout(CLOSE_TIMEOUT, self.session.connection.close()).await;
    }
}

impl Connector {
    pub(super) fn new(database: &Database, settings: &PoolSettings) -> Self {
        let statement_timeout = settings.statement_timeout.as_millis().to_string();
        let lock_timeout = settings.lock_timeout.as_millis().to_string();
        let bounds = [("statement_timeout", &*statement_timeout), ("lock_timeout", &*lock_timeout)];
        let all = |lasting| set_config(bounds.iter().chain(&Session::SETTINGS).copied(), lasting);
        let begin = match database.pooling {
            Pooling::Session => "begin".to_owned(),
            // Nothing of the session is there to rely on, not even its default level.
            Pooling::Transaction => {
                format!("begin isolation level read committed; {}", all(Lasting::Transaction))
            }
        };
        Self {
            options: database.options.clone(),
            pooling: database.pooling,
            entering: format!("{}; select pg_backend_pid()", all(Lasting::Session)).into(),
            begin: begin.into(),
            connect_timeout: settings.acquire_timeout,
            answer_timeout: settings.statement_timeout.saturating_add(NETWORK_GRACE),
            generation: AtomicU64::new(0),
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
            if connected.since.elapsed() > LIFETIME_MAX || connected.generation != self.generation() {
                connected.close().await;
            } else if connected.used.elapsed() < TRUSTED_IDLE
                || matches!(
                    timeout(self.connect_timeout, connected.session.connection.ping()).await,
                    Ok(Ok(()))
                )
            {
                return Ok(connected);
            }
        }
        self.within(self.connect()).await
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Has every connection that is as old as this one made anew before it is used again: its prepared statements are of
    /// another table, and so are theirs.
    pub(super) fn renew(&self, like: &Connected) {
        // Where another one said so before, those that were made since are not given up for it.
        let of = like.generation;
        let renewed =
            self.generation.compare_exchange(of, of + 1, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if renewed {
            tracing::debug!(generation = of + 1, "connections are made anew before they are used again");
        }
    }

    /// The same, unless this one is so new that it tells how things are now.
    pub(super) fn renew_if_outdated(&self, like: &Connected) {
        if like.since.elapsed() >= MAY_BE_OUTDATED {
            self.renew(like);
        }
    }

    async fn connect(&self) -> Result<Connected, sqlx::Error> {
        // Read first: what is learnt while it is made holds for it too.
        let generation = self.generation();
        let mut connection = self.options.connect().await?;
        let process = match self.pooling {
            Pooling::Session => Some(enter(&mut connection, &self.entering).await?),
            Pooling::Transaction => None,
        };
        let now = Instant::now();
        Ok(Connected {
            session: Session::new(connection, process, self.begin.clone()),
            used: now,
            since: now,
            generation,
            _counted: Counted::new(&self.open),
        })
    }

    /// Asks Postgres to cancel what a backend runs. Best effort: the statement timeout ends it as well.
    pub(super) async fn cancel(&self, process: i32) {
        let cancelling = async {
            let _permit = self.cancels.acquire().await;
            let mut connected = self.connect().await?;
            let cancel = sqlx::query("select pg_cancel_backend($1)").bind(process);
            cancel.execute(&mut connected.session.connection).await?;
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

/// Says what a session is told first, all of it in one round trip, and gives the backend that serves it.
async fn enter(connection: &mut PgConnection, entering: &str) -> Result<i32, sqlx::Error> {
    let rows = sqlx::raw_sql(AssertSqlSafe(entering)).fetch_all(connection).await?;
    rows.last().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
}
