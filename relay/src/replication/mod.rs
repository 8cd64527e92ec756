//! The replication connection: bytes in, and the one call that confirms a position.
//!
//! # Why confirming here is safe
//!
//! Streaming starts at `0/0`, which means the slot's own position: a start of our own would be silently moved forward
//! when it is behind the slot, and skip rows when it is ahead. [`Stream::confirm`] is the only place from which a
//! position goes to Postgres; it refuses one above what this connection was sent.
//!
//! # How a dead peer is noticed
//!
//! The connection sets its own `wal_sender_timeout`. A walsender that has heard nothing for so long gives up and frees
//! the slot. This side asks for an answer when nothing has been said for a quarter of it; so both sides know in time.

mod binding;
mod feedback;
pub mod frames;
mod handshake;

use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use pgwire_replication::PgWireError;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::time::{Instant, timeout_at};

use crate::config::{DatabaseSettings, SourceSettings};
use crate::postgres::{DatabaseError, FOLLOW_STREAM, Server, to_the_first};
use feedback::{Feedback, terminate};
use frames::{Frame, Frames};
use handshake::{Identified, Socket};
use walpost_core::lsn::Lsn;

/// What comes in.
#[derive(Debug)]
pub enum StreamEvent {
    /// A pgoutput message.
    Data(Bytes),
    /// The server has sent everything below this position.
    Keepalive(Lsn),
}

/// A connection that may stream.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    place: String,
    started_us: i64,
    flushed: Lsn,
    peer_timeout: Duration,
}

impl Connection {
    /// Connects and asks who is there; nothing is streamed yet.
    ///
    /// # Errors
    /// When the server cannot be reached, or refuses.
    pub async fn open(
        database: &DatabaseSettings,
        timeout: Duration,
    ) -> Result<(Self, Server), DatabaseError> {
        let database = &database.current();
        let timeout = database.conninfo.connect_timeout.unwrap_or(timeout);
        to_the_first(database, |address| async move {
            let place = database.place_at(&address);
            let connecting = async {
                let mut socket = handshake::connect(database, &address).await?;
                let identified = handshake::identify(&mut socket).await?;
                Ok((socket, identified))
            };
            let connecting = within("connect for replication", &place, timeout, connecting);
            let (socket, Identified { server, started_us, flushed }) =
                connecting.await.map_err(name_poolers)?;
            let in_recovery = server.in_recovery;
            let connection = Self { socket, place, started_us, flushed, peer_timeout: database.peer_timeout };
            Ok(((connection, server), in_recovery))
        })
        .await
    }

    /// When its server was started, microseconds since 1970.
    #[must_use]
    pub fn started_us(&self) -> i64 {
        self.started_us
    }

    /// Up to where the server's WAL was on its disk when it was asked: it had sent nothing from behind that.
    #[must_use]
    pub fn flushed(&self) -> Lsn {
        self.flushed
    }

    /// Takes the slot and starts streaming from its own position.
    ///
    /// # Errors
    /// When the server refuses; 55006 says that another relay has the slot.
    pub async fn start(
        mut self,
        source: &SourceSettings,
        timeout: Duration,
    ) -> Result<Stream, DatabaseError> {
        let starting = handshake::start(&mut self.socket, source);
        within("start streaming", &self.place, timeout, starting).await?;
        let (reading, writing) = tokio::io::split(self.socket);
        let feedback = Feedback::start(writing, self.peer_timeout);
        Ok(Stream {
            feedback,
            reading,
            frames: Frames::default(),
            place: self.place,
            started_us: self.started_us,
            sent: Lsn::ZERO,
        })
    }
}

/// A pooler refuses the word that makes a connection one for replication (protocol_violation), or drops it, so that the
/// first command is none to the server behind it (syntax_error).
fn name_poolers(error: DatabaseError) -> DatabaseError {
    match error.sqlstate() {
        Some("08P01" | "42601") => error.adding(
            "a pooler may be on the way: the stream comes from Postgres itself, so give its own address",
        ),
        _ => error,
    }
}

async fn within<T>(
    doing: &'static str,
    place: &str,
    timeout: Duration,
    asking: impl Future<Output = Result<T, PgWireError>>,
) -> Result<T, DatabaseError> {
    match tokio::time::timeout(timeout, asking).await {
        Ok(result) => result.map_err(|error| DatabaseError::of_stream(doing, place, &error.to_string())),
        Err(_) => Err(DatabaseError::no_answer(doing, place, timeout)),
    }
}

/// A connection that streams.
#[derive(Debug)]
pub struct Stream {
    feedback: Feedback,
    reading: ReadHalf<Socket>,
    frames: Frames,
    place: String,
    started_us: i64,
    sent: Lsn,
}

impl Stream {
    /// When its server was started, microseconds since 1970.
    #[must_use]
    pub fn started_us(&self) -> i64 {
        self.started_us
    }

    /// The error of a server that has been silent for so long.
    #[must_use]
    pub fn silent(&self, silence: Duration) -> DatabaseError {
        DatabaseError::no_answer(FOLLOW_STREAM, &self.place, silence)
    }

    /// Waits until the connection is known to be lost without reading from it. Safe to drop while it waits.
    pub async fn lost(&mut self) -> DatabaseError {
        let error = self.feedback.failed().await;
        self.error(&error.into())
    }

    /// Waits for what comes in next. Safe to drop while it waits.
    ///
    /// # Errors
    /// When the connection is lost, or the server ends the stream.
    pub async fn next(&mut self) -> Result<StreamEvent, DatabaseError> {
        loop {
            if let Some(event) = self.buffered()? {
                return Ok(event);
            }
            self.fill().await?;
        }
    }

    /// What has come in already, without waiting.
    ///
    /// # Errors
    /// As for [`Stream::next`].
    pub fn try_next(&mut self) -> Result<Option<StreamEvent>, DatabaseError> {
        loop {
            if let Some(event) = self.buffered()? {
                return Ok(Some(event));
            }
            match self.fill().now_or_never() {
                Some(filled) => filled?,
                None => return Ok(None),
            }
        }
    }

    /// Confirms to Postgres that everything below `lsn` is in Kafka: the one call that does.
    ///
    /// Goes out within a tenth of a second; a position at or below an earlier one changes nothing.
    ///
    /// # Panics
    /// When `lsn` is above what this connection was sent: Postgres would accept it and skip everything up to it.
    pub fn confirm(&self, lsn: Lsn) {
        assert!(lsn <= self.sent, "{lsn} is above {}, the end of what this connection was sent", self.sent);
        self.feedback.confirm(lsn);
    }

    /// Ends the stream once the confirmed position has gone out, or the deadline has passed. Returns whether it has.
    pub async fn close(mut self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let Some(writing) = self.feedback.close(deadline).await else { return false };
        // What is not read when a connection closes resets it, and the server may not see the position any more.
        while let Ok(Ok(true)) = timeout_at(deadline, self.pass_over()).await {}
        terminate(writing, deadline).await;
        true
    }

    /// Reads on without looking; whether there may be more.
    async fn pass_over(&mut self) -> Result<bool, DatabaseError> {
        while let Some(frame) = self.frames.next_frame().map_err(|error| self.error(&error))? {
            if frame == Frame::Done {
                return Ok(false);
            }
        }
        self.fill().await?;
        Ok(true)
    }

    async fn fill(&mut self) -> Result<(), DatabaseError> {
        match self.reading.read_buf(self.frames.room()).await {
            Ok(0) => {
                Err(DatabaseError::of_stream(FOLLOW_STREAM, &self.place, "the server closed the connection"))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(&error.into())),
        }
    }

    fn buffered(&mut self) -> Result<Option<StreamEvent>, DatabaseError> {
        let frame = self.frames.next_frame().map_err(|error| self.error(&error))?;
        Ok(Some(match frame {
            None => return Ok(None),
            Some(Frame::Data(data)) => {
                if let Some(end) = end_of(&data) {
                    self.reached(end);
                }
                StreamEvent::Data(data)
            }
            Some(Frame::Keepalive(wal_end, asks)) => {
                self.reached(wal_end);
                if asks {
                    self.feedback.answer();
                }
                StreamEvent::Keepalive(wal_end)
            }
            Some(Frame::Done) => {
                return Err(DatabaseError::of_stream(FOLLOW_STREAM, &self.place, "the server ended it"));
            }
        }))
    }

    fn reached(&mut self, lsn: Lsn) {
        self.sent = self.sent.max(lsn);
        self.feedback.received(self.sent);
    }

    fn error(&self, error: &PgWireError) -> DatabaseError {
        DatabaseError::of_stream(FOLLOW_STREAM, &self.place, &error.to_string())
    }
}

/// Up to where all was sent with this message: a transaction, if it is its Commit (kind, flags, and two positions), or a
/// logical message that is in none (kind, flags without the first bit, and where it ends).
fn end_of(data: &[u8]) -> Option<Lsn> {
    let position = |rest: &[u8]| Some(Lsn(u64::from_be_bytes(*rest.first_chunk::<8>()?)));
    match data {
        [b'C', _, rest @ ..] => position(rest.get(8..)?),
        [b'M', flags, rest @ ..] if flags & 1 == 0 => position(rest),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_and_a_message_outside_of_transactions_say_how_far_the_stream_is() {
        let (one, two) = (0x10_u64.to_be_bytes(), 0x20_u64.to_be_bytes());
        assert_eq!(end_of(&[&b"C\0"[..], &one, &two, &one].concat()), Some(Lsn(0x20)));
        assert_eq!(end_of(&[&b"M\0"[..], &one, b"p\0", &[0; 4]].concat()), Some(Lsn(0x10)));
        assert_eq!(end_of(&[&b"M\x01"[..], &one, b"p\0", &[0; 4]].concat()), None, "its commit is to come");
        assert_eq!((end_of(b"C\0\0"), end_of(b"M\0\0"), end_of(b"I")), (None, None, None));
    }
}
