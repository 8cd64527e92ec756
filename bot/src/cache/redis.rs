//! A connection to Redis that never keeps anybody waiting.

use std::sync::{Mutex as StdMutex, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// After a failure nobody tries to connect for so long: many chats at once would otherwise wait one after the other.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection that a restart has broken shows that at the next command, which is worth a second try.
const TRIES: u32 = 2;

pub(super) struct Connection {
    client: redis::Client,
    /// For a connection, and for each answer.
    timeout: Duration,
    open: Mutex<Option<MultiplexedConnection>>,
    failed: StdMutex<Option<Instant>>,
}

/// Why a command has failed.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: RedisError,
    /// Whether it may have reached the server.
    pub(super) sent: bool,
}

impl Connection {
    pub(super) fn new(client: redis::Client, timeout: Duration) -> Self {
        Self { client, timeout, open: Mutex::default(), failed: StdMutex::default() }
    }

    pub(super) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Failure> {
        let mut tried = 0;
        loop {
            tried += 1;
            let mut connection =
                self.connection().await.map_err(|error| Failure { error, sent: tried > 1 })?;
            match command.query_async(&mut connection).await {
                // What the server itself says is no reason to leave it.
                Err(error) if is_connections(&error) => {
                    self.open.lock().await.take();
                    if tried == TRIES || error.is_timeout() {
                        self.note_failure();
                        return Err(Failure { error, sent: true });
                    }
                }
                outcome => return outcome.map_err(|error| Failure { error, sent: false }),
            }
        }
    }

    async fn connection(&self) -> Result<MultiplexedConnection, RedisError> {
        let mut open = self.open.lock().await;
        if let Some(connection) = &*open {
            return Ok(connection.clone());
        }
        if self.failed_lately() {
            return Err((ErrorKind::Io, "Redis was away a moment ago").into());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(Some(self.timeout));
        // The greeting on a new connection has no time-out of its own.
        let connecting = tokio::time::timeout(
            2 * self.timeout,
            self.client.get_multiplexed_async_connection_with_config(&config),
        );
        let connected =
            connecting.await.unwrap_or_else(|_| Err((ErrorKind::Io, "Redis does not answer").into()));
        let connection = connected.inspect_err(|_| self.note_failure())?;
        Ok(open.insert(connection).clone())
    }

    fn note_failure(&self) {
        *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn failed_lately(&self) -> bool {
        let failed = *self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < PAUSE)
    }
}

fn is_connections(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_connection_dropped()
        || error.is_timeout()
        || error.is_unrecoverable_error()
}
