//! The SQL side of Postgres: connections for checks, memory and the rows that stood before the slot.

mod error;
mod tls;

use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, NoTls};

use crate::config::{DatabaseSettings, SslMode};
pub use error::{DatabaseError, SqlState};

/// A connection to the database. It closes when this is dropped.
pub struct Session {
    client: Client,
    place: String,
    version: i32,
    patience: Duration,
    connection: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Session {
    /// Connects, within the deadline.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses; the error names it.
    pub async fn connect(settings: &DatabaseSettings, timeout: Duration) -> Result<Self, DatabaseError> {
        let place = settings.to_string();
        let config = client_config(settings, timeout);
        let connecting = connect(&config, settings);
        match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok((client, version, connection))) => {
                Ok(Self { client, place, version, patience: settings.peer_timeout, connection })
            }
            Ok(Err(ConnectError::Postgres(error))) => {
                Err(DatabaseError::of_client("connect", &place, &error))
            }
            Ok(Err(ConnectError::Tls(reason))) => Err(DatabaseError::settings("set up TLS", &place, reason)),
            Err(_) => Err(DatabaseError::no_answer("connect", &place, timeout)),
        }
    }

    /// The server's version as a number: 170004 is 17.4.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.version
    }

    /// Where it leads, without a password.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The client, for statements.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Gives a statement's error the name of what was done and where.
    pub fn error(&self, doing: &'static str) -> impl FnOnce(tokio_postgres::Error) -> DatabaseError {
        move |error| DatabaseError::of_client(doing, &self.place, &error)
    }

    /// Bounds statements: a server that is silent for so long counts as gone. Only a real deadline notices every kind
    /// of it: a proxy on the way may keep the connection alive when nobody is behind it any more.
    ///
    /// # Errors
    /// Those of the statements, and the deadline.
    pub async fn within<T, E: From<DatabaseError>>(
        &self,
        doing: &'static str,
        statements: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        match tokio::time::timeout(self.patience, statements).await {
            Ok(result) => result,
            Err(_) => Err(DatabaseError::no_answer(doing, &self.place, self.patience).into()),
        }
    }

    /// Waits until the connection is lost. A server that shuts down says so here first.
    pub async fn closed(&mut self) -> DatabaseError {
        match (&mut self.connection).await {
            Ok(Err(error)) => DatabaseError::of_client("keep the connection", &self.place, &error),
            Ok(Ok(())) | Err(_) => DatabaseError::closed(&self.place),
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

enum ConnectError {
    Postgres(tokio_postgres::Error),
    Tls(String),
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

type Connection = JoinHandle<Result<(), tokio_postgres::Error>>;

/// With more isolation than this a statement that waited for a table to be rewritten finds it empty (PostgreSQL, "Caveats"
/// of concurrency control), and the end of a table would be one that is none.
///
/// Policies of row-level security hide rows from a query without a word, and never from the stream. With this setting
/// Postgres refuses such a query instead (PostgreSQL, "Row Security Policies").
const PREPARE: &str = "select set_config('row_security', 'off', false), current_setting('server_version_num')::int, \
     set_config('default_transaction_isolation', 'read committed', false)";

async fn connect(
    config: &tokio_postgres::Config,
    settings: &DatabaseSettings,
) -> Result<(Client, i32, Connection), ConnectError> {
    let (client, connection) = open(config, settings).await?;
    let version = client.query_one(PREPARE, &[]).await?.get(1);
    Ok((client, version, connection))
}

async fn open(
    config: &tokio_postgres::Config,
    settings: &DatabaseSettings,
) -> Result<(Client, Connection), ConnectError> {
    if settings.ssl_mode == SslMode::Disable || settings.is_socket() {
        let (client, connection) = config.connect(NoTls).await?;
        return Ok((client, tokio::spawn(connection)));
    }
    let connector = tls::connector(settings).map_err(ConnectError::Tls)?;
    let (client, connection) = config.connect(connector).await?;
    Ok((client, tokio::spawn(connection)))
}

fn client_config(settings: &DatabaseSettings, timeout: Duration) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config
        .host(&settings.host)
        .port(settings.port)
        .user(&settings.user)
        .dbname(&settings.database)
        .application_name("walpost")
        .connect_timeout(timeout)
        .keepalives_idle(settings.peer_timeout / 2)
        .tcp_user_timeout(settings.peer_timeout)
        .ssl_mode(match settings.ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        });
    if let Some(password) = &settings.password {
        config.password(password.expose_secret());
    }
    config
}
