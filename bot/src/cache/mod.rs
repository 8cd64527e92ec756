//! Descriptions of packages in Redis, and when one of them may be believed.
//!
//! A description is right when it was read from the server after the last change of its package that this process knows
//! of, its own and those that events tell of. Three rules keep that:
//!
//! 1. What is read from the server is stored only if no change became known meanwhile: a ticket, taken before the read, is
//!    compared under the lock of the id. So a slow read never overwrites what a change has removed.
//! 2. A key that could not be removed is *dirty*: it is not read before its removal has succeeded, which is tried again
//!    until then. A write whose outcome is not known makes it dirty as well.
//! 3. What nobody tells of (another bot's write that was late, a lost event) ends with the time to live.

mod ledger;
mod redis;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use self::ledger::Ledger;
pub use self::ledger::Ticket;
use self::redis::{Connection, Failure};
use crate::packages::Package;

/// Removals that failed are tried again so often.
const RETRY_INTERVAL: Duration = Duration::from_millis(200);

/// How the cache is reached, and how long it keeps what it has.
#[derive(Debug, Clone)]
pub struct CacheSettings {
    /// Where Redis is.
    pub client: ::redis::Client,
    /// Seconds a description is kept.
    pub ttl_s: u64,
    /// For a connection, and for each answer: the reply to a person waits for it.
    pub timeout: Duration,
}

/// A cache of descriptions.
pub trait Cache: Send + Sync + 'static {
    /// The description of a package, if there is one to be believed, and a ticket for storing a newer one.
    fn read(&self, id: u64) -> impl Future<Output = (Option<Package>, Ticket)> + Send;
    /// Stores what was read from the server after the ticket was taken. False: it is not stored.
    fn store(&self, ticket: Ticket, package: &Package) -> impl Future<Output = bool> + Send;
    /// Forgets a package, which has changed. False: the old description may still be there, and is not read.
    fn forget(&self, id: u64) -> impl Future<Output = bool> + Send;
}

/// The cache in Redis; copies share it.
#[derive(Clone)]
pub struct RedisCache {
    connection: Arc<Connection>,
    ledger: Arc<Ledger>,
    ttl_s: u64,
}

/// A description as it is stored; the keys and their meaning are shared with other bots.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    id: u64,
    title: String,
    material: String,
    volume: f32,
    reusable: bool,
}

fn key(id: u64) -> String {
    format!("package{id}")
}

impl RedisCache {
    /// Needs no server yet. `remembered` is how long a read from the server may take.
    #[must_use]
    pub fn new(settings: &CacheSettings, remembered: Duration) -> Self {
        Self {
            connection: Arc::new(Connection::new(settings.client.clone(), settings.timeout)),
            ledger: Arc::new(Ledger::new(remembered)),
            ttl_s: settings.ttl_s,
        }
    }

    /// Whether it answers.
    pub async fn is_there(&self) -> bool {
        self.connection.query::<String>(&::redis::cmd("PING")).await.is_ok()
    }

    /// Whether a removal is still to be made.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.ledger.is_dirty()
    }

    /// Makes the removals that failed, until it is told to stop.
    pub async fn keep_clean(&self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(RETRY_INTERVAL)).await.is_some() {
            for id in self.ledger.dirty() {
                // Where one fails, the others would as well.
                if !self.clean(id).await {
                    break;
                }
            }
        }
    }

    async fn clean(&self, id: u64) -> bool {
        let _turn = self.ledger.lock(id).await;
        !self.ledger.is_dirty_id(id) || self.remove(id).await
    }

    /// Under the lock of the id.
    async fn remove(&self, id: u64) -> bool {
        let removed: Result<u64, _> = self.connection.query(::redis::cmd("DEL").arg(key(id))).await;
        let removed = removed.inspect_err(|error| note(error, id, "not removed"));
        self.ledger.set_dirty(id, removed.is_err());
        removed.is_ok()
    }

    async fn get(&self, id: u64) -> Option<Package> {
        let found: Option<Vec<u8>> = self
            .connection
            .query(::redis::cmd("GET").arg(key(id)))
            .await
            .inspect_err(|error| note(error, id, "not read"))
            .ok()?;
        let Ok(stored) = serde_json::from_slice::<Stored>(&found?) else {
            let _turn = self.ledger.lock(id).await;
            self.remove(id).await;
            return None;
        };
        let Stored { title, material, volume, reusable, .. } = stored;
        // The number that was asked for: other bots have never compared the one inside.
        Some(Package { id, title, material, volume, reusable })
    }
}

impl Cache for RedisCache {
    async fn read(&self, id: u64) -> (Option<Package>, Ticket) {
        let clean = self.clean(id).await;
        let ticket = self.ledger.ticket(id);
        let found = if clean { self.get(id).await } else { None };
        // A change that became known meanwhile may have failed to remove what was just read.
        (found.filter(|_| self.ledger.ticket(id) == ticket), ticket)
    }

    async fn store(&self, ticket: Ticket, package: &Package) -> bool {
        let Package { id, title, material, volume, reusable } = package.clone();
        let Ok(value) = serde_json::to_vec(&Stored { id, title, material, volume, reusable }) else {
            return false;
        };
        let _turn = self.ledger.lock(id).await;
        if self.ledger.ticket(id) != ticket {
            return false;
        }
        let mut set = ::redis::cmd("SET");
        set.arg(key(id)).arg(value).arg("EX").arg(self.ttl_s);
        let stored: Result<(), _> = self.connection.query(&set).await;
        match &stored {
            Ok(()) => self.ledger.set_dirty(id, false),
            Err(failure) => {
                note(failure, id, "not stored");
                // It may yet be carried out, after a removal to come.
                if failure.sent {
                    self.ledger.set_dirty(id, true);
                }
            }
        }
        stored.is_ok()
    }

    async fn forget(&self, id: u64) -> bool {
        let _turn = self.ledger.lock(id).await;
        self.ledger.changed(id);
        self.remove(id).await
    }
}

fn note(failure: &Failure, id: u64, what: &str) {
    tracing::debug!(error = %failure.error, id, what, "Redis failed");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_written_as_other_bots_read_it() {
        let stored =
            Stored { id: 1, title: "<b>".into(), material: "m".into(), volume: 700.1, reusable: true };
        let text = serde_json::to_string(&stored).expect("JSON");
        assert_eq!(text, r#"{"id":1,"title":"<b>","material":"m","volume":700.1,"reusable":true}"#);
        for volume in ["700", "700.0", "7e+2", "7E2"] {
            let text = text.replace("700.1", volume);
            assert_eq!(serde_json::from_str::<Stored>(&text).expect(volume).volume.to_string(), "700");
        }
        for junk in [
            "",
            "-",
            "{}",
            "5",
            "null",
            r#"{"id":1,"title":"a","material":"m","volume":"5","reusable":true}"#,
        ] {
            assert!(serde_json::from_str::<Stored>(junk).is_err(), "{junk}");
        }
    }
}
