//! The replication connection: bytes in, and the one call that confirms a position.
//!
//! # Why confirming here is safe
//!
//! Streaming starts at `0/0`, which means the slot's own position: a start of our own would be silently moved forward
//! when it is behind the slot, and skip rows when it is ahead. [`Stream::confirm`] is the only place from which a
//! position goes to Postgres; it refuses one above what this connection was sent.
//!
//! Status updates go out from the client's own task, on a timer and when asked, whether or not the events it has read
//! are taken: a full window never makes Postgres think that the relay is dead.
//!
//! # How a dead peer is noticed
//!
//! The connection sets its own `wal_sender_timeout`. At half of it a walsender that has heard nothing asks for a reply,
//! and after all of it gives up and frees the slot; so both sides know within that time. When nothing flows the client
//! waits for that question instead of reporting on its own: the question is the sign of life that this side needs.

use std::time::Duration;

use futures::FutureExt;
use pgwire_replication::{Lsn as WireLsn, ReplicationClient, ReplicationConfig, ReplicationEvent, TlsConfig};
use secrecy::ExposeSecret;

use crate::config::{DatabaseSettings, SourceSettings, SslMode};
use crate::database::DatabaseError;
use crate::lsn::Lsn;
use crate::pgoutput::{Begin, Commit};

/// Messages that are read ahead. They come on top of the window: small, since each may be as large as a row.
const READ_AHEAD: usize = 256;

/// How often the position is reported while data flows: this bounds how long a confirm may wait to be sent.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Microseconds from 1970 to 2000, where Postgres counts from.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;

/// The server at the other end (`IDENTIFY_SYSTEM`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The cluster's identifier.
    pub system: String,
    /// The timeline: it changes when a standby is promoted.
    pub timeline: u32,
}

/// What comes in.
#[derive(Debug)]
pub enum StreamEvent {
    /// A transaction begins.
    Begin(Begin),
    /// A pgoutput message other than Begin and Commit.
    Data(bytes::Bytes),
    /// The transaction is complete.
    Commit(Commit),
    /// The server has sent everything below this position.
    Keepalive(Lsn),
}

/// A connection that may stream.
pub struct Stream {
    client: ReplicationClient,
    place: String,
    sent: Lsn,
}

impl Stream {
    /// Connects and asks who is there; nothing is streamed yet.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses.
    pub async fn connect(
        database: &DatabaseSettings,
        source: &SourceSettings,
        timeout: Duration,
    ) -> Result<(Self, Server), DatabaseError> {
        let place = database.to_string();
        let connecting = async {
            let mut client = ReplicationClient::connect_gated(client_config(database, source)).await?;
            let system = client.identify_system().await?;
            Ok((client, Server { system: system.system_id, timeline: system.timeline }))
        };
        match tokio::time::timeout(timeout, connecting).await {
            Ok(Ok((client, server))) => Ok((Self { client, place, sent: Lsn::ZERO }, server)),
            Ok(Err(error)) => Err(stream_error("connect for replication", &place, &error)),
            Err(_) => Err(DatabaseError::no_answer("connect for replication", &place, timeout)),
        }
    }

    /// Takes the slot and starts streaming from its own position.
    ///
    /// # Errors
    /// When the server refuses; 55006 says that another relay has the slot.
    pub async fn start(&mut self, timeout: Duration) -> Result<(), DatabaseError> {
        const DOING: &str = "start streaming";
        let starting = async {
            self.client.start().await?;
            self.client.wait_started().await
        };
        match tokio::time::timeout(timeout, starting).await {
            Ok(result) => result.map_err(|error| stream_error(DOING, &self.place, &error)),
            Err(_) => Err(DatabaseError::no_answer(DOING, &self.place, timeout)),
        }
    }

    /// The error of a server that has been silent for so long.
    #[must_use]
    pub fn silent(&self, silence: Duration) -> DatabaseError {
        DatabaseError::no_answer("follow the stream", &self.place, silence)
    }

    /// Waits for what comes in next. Safe to drop while it waits.
    ///
    /// # Errors
    /// When the connection is lost, or the server ends the stream.
    pub async fn next(&mut self) -> Result<StreamEvent, DatabaseError> {
        loop {
            let received = self.client.recv().await;
            if let Some(event) = self.take(received)? {
                return Ok(event);
            }
        }
    }

    /// What has come in already, without waiting.
    ///
    /// # Errors
    /// As for [`Stream::next`].
    pub fn try_next(&mut self) -> Result<Option<StreamEvent>, DatabaseError> {
        while let Some(received) = self.client.recv().now_or_never() {
            if let Some(event) = self.take(received)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Confirms to Postgres that everything below `lsn` is in Kafka: the one call that does.
    ///
    /// Goes out within a tenth of a second; a position at or below an earlier one changes nothing.
    ///
    /// # Panics
    /// When `lsn` is above what this connection was sent: Postgres would accept it and skip everything up to it.
    pub fn confirm(&self, lsn: Lsn) {
        assert!(lsn <= self.sent, "{lsn} is above {}, the end of what this connection was sent", self.sent);
        self.client.update_applied_lsn(WireLsn::from_u64(lsn.0));
    }

    /// Ends the stream once the confirmed position has gone out, or the deadline has passed. Returns whether it has.
    pub async fn close(mut self, confirmed: Lsn, timeout: Duration) -> bool {
        let metrics = self.client.metrics();
        let sent = || lsn(metrics.last_applied_lsn()) >= confirmed;
        let deadline = tokio::time::Instant::now() + timeout;
        while !sent() && tokio::time::Instant::now() < deadline {
            // What still comes in is not wanted; to take it keeps the client's task going.
            match tokio::time::timeout(STATUS_INTERVAL / 4, self.client.recv()).await {
                Ok(Ok(Some(_))) | Err(_) => {}
                Ok(Ok(None) | Err(_)) => return sent(),
            }
        }
        let sent = sent();
        let _ = tokio::time::timeout(timeout, self.client.shutdown()).await;
        sent
    }

    fn take(
        &mut self,
        received: pgwire_replication::Result<Option<ReplicationEvent>>,
    ) -> Result<Option<StreamEvent>, DatabaseError> {
        const DOING: &str = "follow the stream";
        let event = match received {
            Ok(Some(event)) => event,
            Ok(None) => return Err(DatabaseError::of_stream(DOING, &self.place, "the server ended it")),
            Err(error) => return Err(stream_error(DOING, &self.place, &error)),
        };
        Ok(match event {
            ReplicationEvent::Begin { final_lsn, xid, commit_time_micros } => {
                Some(StreamEvent::Begin(Begin {
                    commit_lsn: lsn(final_lsn),
                    commit_time: commit_time_micros,
                    xid,
                }))
            }
            ReplicationEvent::Commit { lsn: commit, end_lsn, .. } => {
                self.sent = self.sent.max(lsn(end_lsn));
                Some(StreamEvent::Commit(Commit { commit_lsn: lsn(commit), end_lsn: lsn(end_lsn) }))
            }
            ReplicationEvent::XLogData { data, .. } => Some(StreamEvent::Data(data)),
            ReplicationEvent::KeepAlive { wal_end, .. } => {
                self.sent = self.sent.max(lsn(wal_end));
                Some(StreamEvent::Keepalive(lsn(wal_end)))
            }
            // Logical messages are no events; a stop position is never set.
            ReplicationEvent::Message { .. } | ReplicationEvent::StoppedAt { .. } => None,
        })
    }
}

/// Microseconds since 1970-01-01 UTC for a time of the stream.
#[must_use]
pub fn unix_micros(stream_time: i64) -> i64 {
    stream_time.saturating_add(POSTGRES_EPOCH_US)
}

fn lsn(lsn: WireLsn) -> Lsn {
    Lsn(lsn.as_u64())
}

fn stream_error(doing: &'static str, place: &str, error: &pgwire_replication::PgWireError) -> DatabaseError {
    DatabaseError::of_stream(doing, place, &error.to_string())
}

fn client_config(database: &DatabaseSettings, source: &SourceSettings) -> ReplicationConfig {
    let password = database.password.as_ref().map_or("", |password| password.expose_secret());
    ReplicationConfig::new(
        &database.host,
        &database.user,
        password,
        &database.database,
        &source.slot,
        source.publication.as_str(),
    )
    .with_port(database.port)
    .with_tls(tls(database))
    .with_binary(true)
    .with_buffer_size(READ_AHEAD)
    .with_status_interval(STATUS_INTERVAL)
    .with_wakeup_interval(database.peer_timeout)
    .with_options(format!("-c wal_sender_timeout={}", database.peer_timeout.as_millis()))
    .with_application_name("walpost")
}

fn tls(database: &DatabaseSettings) -> TlsConfig {
    if database.is_socket() {
        return TlsConfig::disabled();
    }
    match database.ssl_mode {
        SslMode::Disable => TlsConfig::disabled(),
        SslMode::Prefer => {
            let mut tls = TlsConfig::require();
            tls.mode = pgwire_replication::SslMode::Prefer;
            tls
        }
        SslMode::Require => TlsConfig::require(),
        SslMode::VerifyFull => TlsConfig::verify_full(database.ssl_root_cert.clone()),
    }
}
