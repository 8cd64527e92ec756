//! The SQL side of Postgres: connections for checks, memory and the rows that stood before the slot.

pub mod catalogue;
pub mod checkpoint;
mod dial;
mod error;
pub mod ledger;
pub(crate) mod names;
pub mod preflight;
mod server;
pub(crate) mod tls;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use conninfo::{Address, ChannelBinding, Encryption, Place, SslMode, by_mode, depends_on_encryption};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::config::DatabaseSettings;
pub(crate) use dial::{dial, dial_socket, to_the_first};
pub use error::{DatabaseError, SqlState};
pub(crate) use error::{FOLLOW_STREAM, split_sqlstate};
pub use server::Server;

/// A connection to the database. It closes when this is dropped.
pub struct Session {
    client: Client,
    /// Questions that are asked again and again, by their text.
    prepared: Mutex<HashMap<String, Statement>>,
    place: String,
    application: String,
    version: i32,
    encoding: String,
    started_us: i64,
    patience: Duration,
    connection: JoinHandle<Result<(), tokio_postgres::Error>>,
}

impl Session {
    /// Connects, with the deadline for each address.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses; the error names it.
    pub async fn connect(settings: &DatabaseSettings, timeout: Duration) -> Result<Self, DatabaseError> {
        let settings = &settings.current();
        let timeout = settings.conninfo.connect_timeout.unwrap_or(timeout);
        let connector = &Connector::new(settings)?;
        to_the_first(settings, |address| async move {
            let place = settings.place_at(&address);
            let opened = match tokio::time::timeout(timeout, connector.open(settings, &address)).await {
                Ok(opened) => opened.map_err(|error| error.at(&place))?,
                Err(_) => return Err(DatabaseError::no_answer("connect", &place, timeout)),
            };
            let application = application_name(settings).to_owned();
            let Opened { client, connection, version, encoding, started_us, in_recovery } = opened;
            let patience = settings.peer_timeout;
            let prepared = Mutex::default();
            let session = Self {
                client,
                prepared,
                place,
                application,
                version,
                encoding,
                started_us,
                patience,
                connection,
            };
            Ok((session, in_recovery))
        })
        .await
    }

    /// How the connection is named, and the one for replication beside it.
    #[must_use]
    pub fn application(&self) -> &str {
        &self.application
    }

    /// The server's version as a number: 170004 is 17.4.
    #[must_use]
    pub fn version(&self) -> i32 {
        self.version
    }

    /// The database's encoding, as `UTF8`.
    #[must_use]
    pub fn encoding(&self) -> &str {
        &self.encoding
    }

    /// When its server was started, microseconds since 1970.
    #[must_use]
    pub fn started_us(&self) -> i64 {
        self.started_us
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

    /// Asks what is asked of each table, at each look: with many of them most of the time goes into parsing and planning. Only
    /// for the catalogue and the ledger, whose columns nobody alters: a statement that is kept does not outlive an alteration.
    ///
    /// # Errors
    /// As [`Client::query`].
    pub async fn ask(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let known = self.kept().get(sql).cloned();
        let statement = match known {
            Some(statement) => statement,
            None => {
                let statement = self.client.prepare(sql).await?;
                self.kept().insert(sql.to_owned(), statement.clone());
                statement
            }
        };
        self.client.query(&statement, values).await
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<String, Statement>> {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner)
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

/// How the connections are named, in `pg_stat_activity` and `pg_stat_replication`.
pub(crate) fn application_name(settings: &DatabaseSettings) -> &str {
    settings.conninfo.application_name.as_deref().unwrap_or("walpost")
}

enum ConnectError {
    Tcp(std::io::Error),
    Postgres(tokio_postgres::Error),
    Tls(String),
}

impl ConnectError {
    fn at(self, place: &str) -> DatabaseError {
        match self {
            Self::Postgres(error) => DatabaseError::of_client("connect", place, &error),
            Self::Tcp(error) => {
                DatabaseError::of_stream("connect", place, &format!("error connecting to server: {error}"))
            }
            Self::Tls(reason) => DatabaseError::of_tls(place, reason),
        }
    }

    /// Whether it may be otherwise with, or without, encryption.
    fn depends_on_encryption(&self) -> bool {
        match self {
            Self::Postgres(error) => match error.code() {
                Some(code) => depends_on_encryption(code.code()),
                // Its kind is not to be had otherwise.
                None => error.to_string().starts_with("error performing TLS handshake"),
            },
            Self::Tcp(_) | Self::Tls(_) => false,
        }
    }
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

type Connection = JoinHandle<Result<(), tokio_postgres::Error>>;

/// When the server was started, microseconds since 1970: what tells it from every other.
pub(crate) const STARTED_US: &str = "(extract(epoch from pg_postmaster_start_time()) * 1000000)::bigint";

/// With more isolation than this a statement that waited for a table to be rewritten finds it empty (PostgreSQL, "Caveats"
/// of concurrency control), and the end of a table would be one that is none.
///
/// Policies of row-level security hide rows from a query without a word, and never from the stream. With this setting
/// Postgres refuses such a query instead (PostgreSQL, "Row Security Policies").
///
/// A service that finds its disk nearly full makes its databases read-only by this default. The WAL that fills the disk
/// goes once it is confirmed, and nothing is confirmed before it is written into the ledger: a row that is updated in
/// place. Any role may set this.
///
/// A commit is on the disk of this server before it is answered, also where the database is set not to wait for that: a crash
/// that took a remembered position back would leave the slot ahead of it, and the relay would halt for nothing. It does not
/// wait for a synchronous standby: while one is away such a wait has no end, cannot be left (Postgres does not notice there
/// that its client has gone), and holds the ledger's row locked. What a failover takes back of the ledger leads to repeats, or
/// leaves it behind the slot, which is known where Postgres copied the slot ([`preflight::check_memory`]); of what was found
/// missing nothing may be taken back (`ledger::find`).
///
/// A statement that waits for a lock goes on when its client has gone, and one is left behind by each try, up to
/// `max_connections`: so Postgres is to look for its client (`client_connection_check_interval`). It can on Linux.
const PREPARE: &str = "current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('server_encoding'), \
     set_config('row_security', 'off', false), set_config('TimeZone', 'UTC', false), set_config('default_transaction_isolation', 'read committed', false), \
     set_config('default_transaction_read_only', 'off', false), set_config('synchronous_commit', 'local', false), \
     case when version() like '%linux%' and current_setting('client_connection_check_interval', true) = '0' \
         then set_config('client_connection_check_interval', '5s', false) end";

/// A connection that was made.
struct Opened {
    client: Client,
    connection: Connection,
    version: i32,
    encoding: String,
    started_us: i64,
    in_recovery: bool,
}

/// What the connections of one moment have in common.
struct Connector {
    config: tokio_postgres::Config,
    tls: Option<MakeRustlsConnect>,
}

impl Connector {
    fn new(settings: &DatabaseSettings) -> Result<Self, DatabaseError> {
        let conninfo = &settings.conninfo;
        let unusable = |reason| DatabaseError::of_tls(&settings.to_string(), reason);
        let tls = match conninfo.tls.mode {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(tls::client_config(&conninfo.tls).map_err(unusable)?)),
        };
        Ok(Self { config: client_config(settings), tls })
    }

    async fn open(&self, settings: &DatabaseSettings, address: &Address) -> Result<Opened, ConnectError> {
        let open = |encryption| self.open_by(settings, address, encryption);
        by_mode(settings.conninfo.tls.mode, ConnectError::depends_on_encryption, open).await
    }

    async fn open_by(
        &self,
        settings: &DatabaseSettings,
        address: &Address,
        encryption: Encryption,
    ) -> Result<Opened, ConnectError> {
        let mut config = self.config.clone();
        if let Some(password) = &address.password {
            config.password(password.expose_secret());
        }
        let (client, connection) = match &address.place {
            Place::Socket(folder) => {
                let stream = dial_socket(folder, address.port).await.map_err(ConnectError::Tcp)?;
                start(&config, stream, NoTls).await?
            }
            Place::Tcp { host, addr } => {
                config.ssl_mode(match encryption {
                    Encryption::None => tokio_postgres::config::SslMode::Disable,
                    Encryption::IfOffered => tokio_postgres::config::SslMode::Prefer,
                    Encryption::Always => tokio_postgres::config::SslMode::Require,
                });
                let stream = dial(settings, host, *addr, address.port).await.map_err(ConnectError::Tcp)?;
                match self.tls.clone() {
                    None => start(&config, stream, NoTls).await?,
                    Some(mut tls) => {
                        let tls = MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls, host);
                        let tls = tls.map_err(|error| ConnectError::Tls(error.to_string()))?;
                        start(&config, stream, tls).await?
                    }
                }
            }
        };
        let row = client.query_one(&format!("select {STARTED_US}, {PREPARE}"), &[]).await?;
        Ok(Opened {
            started_us: row.get(0),
            version: row.get(1),
            in_recovery: row.get(2),
            encoding: row.get(3),
            client,
            connection,
        })
    }
}

/// Logs in on a stream; the connection's task runs until the client is gone.
async fn start<S, T>(
    config: &tokio_postgres::Config,
    stream: S,
    tls: T,
) -> Result<(Client, Connection), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsConnect<S>,
    T::Stream: Send + 'static,
{
    let (client, connection) = config.connect_raw(stream, tls).await?;
    Ok((client, tokio::spawn(connection)))
}

fn client_config(settings: &DatabaseSettings) -> tokio_postgres::Config {
    let conninfo = &settings.conninfo;
    let mut config = tokio_postgres::Config::new();
    config
        .user(&conninfo.user)
        .dbname(&conninfo.database)
        .application_name(application_name(settings))
        .channel_binding(match conninfo.channel_binding {
            ChannelBinding::Disable => tokio_postgres::config::ChannelBinding::Disable,
            ChannelBinding::Prefer => tokio_postgres::config::ChannelBinding::Prefer,
            ChannelBinding::Require => tokio_postgres::config::ChannelBinding::Require,
        });
    if conninfo.tls.direct {
        config.ssl_negotiation(tokio_postgres::config::SslNegotiation::Direct);
    }
    if let Some(options) = &conninfo.options {
        config.options(options);
    }
    config
}
