//! The connections of the lanes: made, tried and ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::StoreError;
use super::database::{Database, PoolSettings, Pooling};
use super::session::{Backend, Lasting, Session, set_config};
use crate::outbox::Outbox;

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

/// Makes, tries and ends the connections of the lanes.
#[derive(Debug)]
pub(super) struct Connector {
    database: Database,
    outbox: Outbox,
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
    pub(super) fn new(database: &Database, settings: &PoolSettings, outbox: Outbox) -> Self {
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
            database: database.clone(),
            outbox,
            entering: format!("{}; {}", all(Lasting::Session), Backend::SELECT).into(),
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

    async fn connect(&self) -> Result<Connected, StoreError> {
        // Read first: what is learnt while it is made holds for it too.
        let generation = self.generation();
        let mut connection = self.database.open(self.connect_timeout).await?;
        let backend = match self.database.pooling {
            Pooling::Session => Some(enter(&mut connection, &self.entering).await?),
            Pooling::Transaction => None,
        };
        let now = Instant::now();
        Ok(Connected {
            session: Session::new(connection, backend, self.begin.clone(), self.outbox.clone()),
            used: now,
            since: now,
            generation,
            _counted: Counted::new(&self.open),
        })
    }

    /// Asks Postgres to cancel what a backend runs. Best effort: the statement timeout ends it as well.
    pub(super) async fn cancel(&self, Backend { process, server }: Backend) {
        let cancelling = async {
            let _permit = self.cancels.acquire().await;
            let mut connected = self.connect().await?;
            let cancel = sqlx::query(Backend::CANCEL).bind(process).bind(&*server);
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

    async fn within<T>(&self, doing: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match timeout(self.connect_timeout, doing).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::NoAnswer(self.connect_timeout)),
        }
    }
}

/// Says what a session is told first, all of it in one round trip, and gives the backend that serves it.
async fn enter(connection: &mut PgConnection, entering: &str) -> Result<Backend, sqlx::Error> {
    let rows = sqlx::raw_sql(AssertSqlSafe(entering)).fetch_all(connection).await?;
    let row = rows.last().ok_or(sqlx::Error::RowNotFound)?;
    Ok(Backend { process: row.try_get(0)?, server: row.try_get::<String, _>(1)?.into() })
}
