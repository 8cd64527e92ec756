//! What the relay tells the server: how far it is, and that it is alive.
//!
//! A task of its own tells it, whatever the relay is busy with: a full window never makes Postgres take the relay for
//! dead. A position goes out within a tenth of a second, an answer at once, but no two closer than [`ANSWER_GAP`]. When
//! nothing has been said for a quarter of the peer time-out the server is asked for an answer: a sign of life in both
//! directions.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::handshake::Socket;
use walpost_core::lsn::Lsn;
use walpost_core::time::POSTGRES_EPOCH_US;

/// How often the position is reported while data flows: this bounds how long a confirm may wait to be sent.
const STATUS_INTERVAL: Duration = Duration::from_millis(100);

/// Postgres asks anew after each answer when it has gone on meanwhile: this bounds the talk.
const ANSWER_GAP: Duration = Duration::from_millis(10);

/// The end of the copy: type byte and length.
const COPY_DONE: [u8; 5] = [b'c', 0, 0, 0, 4];

/// The end of the connection.
const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// What is to be told.
#[derive(Debug, Default)]
struct News {
    confirmed: AtomicU64,
    received: AtomicU64,
    asked: AtomicBool,
    closing: AtomicBool,
    wake: Notify,
}

/// The task; it ends, and its half of the connection with it, when this is dropped.
#[derive(Debug)]
pub(super) struct Feedback {
    news: Arc<News>,
    task: JoinHandle<io::Result<WriteHalf<Socket>>>,
}

impl Feedback {
    pub(super) fn start(socket: WriteHalf<Socket>, peer_timeout: Duration) -> Self {
        let news = Arc::new(News::default());
        let task = tokio::spawn(tell(socket, Arc::clone(&news), peer_timeout / 4));
        Self { news, task }
    }

    /// Everything below this position is in Kafka.
    pub(super) fn confirm(&self, lsn: Lsn) {
        if self.news.confirmed.fetch_max(lsn.0, Ordering::Relaxed) < lsn.0 {
            self.news.wake.notify_one();
        }
    }

    /// The stream has come so far.
    pub(super) fn received(&self, lsn: Lsn) {
        self.news.received.store(lsn.0, Ordering::Relaxed);
    }

    /// The server wants an answer.
    pub(super) fn answer(&self) {
        self.news.asked.store(true, Ordering::Relaxed);
        self.news.wake.notify_one();
    }

    /// Waits until the connection's writing half fails: a server that is gone is noticed so also while nothing is read.
    /// Safe to drop while it waits.
    pub(super) async fn failed(&mut self) -> io::Error {
        match (&mut self.task).await {
            Ok(Err(error)) => error,
            // It ends well only when it was told to close, and then nobody waits here.
            Ok(Ok(_)) | Err(_) => io::Error::other("the sending of positions ended"),
        }
    }

    /// Tells the last position and that nothing more will be said. Returns the connection's half when that has gone
    /// out in time.
    pub(super) async fn close(&mut self, deadline: Instant) -> Option<WriteHalf<Socket>> {
        self.news.closing.store(true, Ordering::Relaxed);
        self.news.wake.notify_one();
        timeout_at(deadline, &mut self.task).await.ok()?.ok()?.ok()
    }
}

impl Drop for Feedback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Says goodbye; nobody minds when that fails.
pub(super) async fn terminate(mut socket: WriteHalf<Socket>, deadline: Instant) {
    let _ = timeout_at(deadline, socket.write_all(&TERMINATE)).await;
}

async fn tell(
    mut socket: WriteHalf<Socket>,
    news: Arc<News>,
    quiet: Duration,
) -> io::Result<WriteHalf<Socket>> {
    let (mut last, mut told) = (Instant::now(), 0);
    loop {
        let confirmed = news.confirmed.load(Ordering::Relaxed);
        let received = news.received.load(Ordering::Relaxed);
        if news.closing.load(Ordering::Relaxed) {
            socket.write_all(&status(confirmed, received, false)).await?;
            socket.write_all(&COPY_DONE).await?;
            socket.flush().await?;
            return Ok(socket);
        }
        let asked = news.asked.load(Ordering::Relaxed);
        let gap = match (asked, confirmed > told) {
            (true, _) => ANSWER_GAP,
            (false, true) => STATUS_INTERVAL,
            (false, false) => quiet,
        };
        tokio::select! {
            biased;
            () = news.wake.notified() => continue,
            () = sleep_until(last + gap) => {}
        }
        news.asked.store(false, Ordering::Relaxed);
        socket.write_all(&status(confirmed, received, gap == quiet)).await?;
        socket.flush().await?;
        (last, told) = (Instant::now(), confirmed);
    }
}

/// A standby status update in its CopyData (PostgreSQL, "Streaming Replication Protocol"). What was received counts as
/// written: where only an old position is told the server asks again at once.
fn status(confirmed: u64, received: u64, wants_answer: bool) -> [u8; 39] {
    let mut bytes = [0; 39];
    bytes[0] = b'd';
    bytes[1..5].copy_from_slice(&38u32.to_be_bytes());
    bytes[5] = b'r';
    bytes[6..14].copy_from_slice(&received.max(confirmed).to_be_bytes());
    bytes[14..22].copy_from_slice(&confirmed.to_be_bytes());
    bytes[22..30].copy_from_slice(&confirmed.to_be_bytes());
    bytes[30..38].copy_from_slice(&clock().to_be_bytes());
    bytes[38] = u8::from(wants_answer);
    bytes
}

/// Microseconds since 2000-01-01 UTC.
fn clock() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    i64::try_from(since_1970).unwrap_or(i64::MAX) - POSTGRES_EPOCH_US
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_what_is_received_as_written_and_what_is_confirmed_as_flushed() {
        let bytes = status(0x10, 0x20, true);
        assert_eq!(bytes[..6], [b'd', 0, 0, 0, 38, b'r']);
        assert_eq!(bytes[6..14], 0x20u64.to_be_bytes());
        assert_eq!(bytes[14..22], 0x10u64.to_be_bytes());
        assert_eq!(bytes[22..30], 0x10u64.to_be_bytes());
        assert_eq!(bytes[38], 1);
    }
}
