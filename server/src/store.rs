//! Packages in Postgres: one statement, one round trip, for each rpc.
//!
//! A call puts its statement into a queue, where one of a bounded number of lanes takes it. Under load calls of
//! one kind that wait at the same time share a statement, and so a round trip and a commit: this is what makes the
//! service faster than its number of statements, and the database does less for the same changes. What shares a
//! statement fails apart: where it is refused, each call is tried on its own.
//!
//! A statement that a connection has not run before takes one round trip more, to prepare it.

mod connect;
mod database;
mod dial;
mod error;
mod kinds;
mod lane;
mod migrations;
mod once;
mod queue;
mod session;
mod statement;
pub mod statements;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::domain::{Changes, IdempotencyKey, NewPackage, Package, PackageId, Traceparent};
use crate::outbox::Outbox;
use connect::Connector;
use kinds::{Create, Describe, List, Ping, Remove, Update};
use lane::Lane;
use once::{Change, Once};
use queue::Queue;
use statement::Statement;

pub use database::{Database, PoolSettings, Pooling, StartError};
pub use error::StoreError;
pub use kinds::Standing;
pub use migrations::{MigrateFailed, Migrated, Newer, migrate};
pub use once::Outcome;

/// The packages.
#[derive(Debug, Clone)]
pub struct Store {
    queue: Arc<Queue>,
    connector: Arc<Connector>,
    lanes: TaskTracker,
    idempotency_ttl: Duration,
    outbox: Outbox,
}

/// How the store is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Connections at most.
    pub connections_max: usize,
    /// Connections.
    pub connections_open: usize,
    /// Connections that run a statement.
    pub connections_busy: usize,
    /// Statements that wait for a connection.
    pub statements_waiting: usize,
}

impl Store {
    /// Over as many connections as the settings allow, none of which is made before it is needed; events go to `outbox`.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    #[must_use]
    pub fn new(database: &Database, settings: &PoolSettings, outbox: &Outbox) -> Self {
        let number = usize::try_from(settings.connections_max).unwrap_or(usize::MAX);
        let length_max = usize::try_from(settings.queue_max).unwrap_or(usize::MAX);
        let queue = Arc::new(Queue::new(number, length_max, settings.acquire_timeout));
        let connector = Arc::new(Connector::new(database, settings, outbox.clone()));
        let lanes = TaskTracker::new();
        for lane in 0..number {
            lanes.spawn(Lane::new(lane, queue.clone(), connector.clone()).serve());
        }
        let expiring = queue.clone();
        lanes.spawn(async move { expiring.expire().await });
        lanes.close();
        Self { queue, connector, lanes, idempotency_ttl: settings.idempotency_ttl, outbox: outbox.clone() }
    }

    /// Adds a package and its `Created` event.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn create(&self, new: NewPackage, trace: Option<Traceparent>) -> Result<PackageId, StoreError> {
        self.ask(Create { new, trace }).await
    }

    /// One package, or `None`.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn describe(&self, id: PackageId) -> Result<Option<Package>, StoreError> {
        self.ask(Describe { id }).await
    }

    /// At most `limit` packages in the order of their ids, after the first `offset`. An offset that Postgres cannot
    /// hold lies past every end.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn list(&self, offset: u64, limit: u32) -> Result<Vec<Package>, StoreError> {
        let Ok(offset) = i64::try_from(offset) else { return Ok(Vec::new()) };
        self.ask(List { offset, limit }).await
    }

    /// Changes a package and writes its `Updated` event; whether there is such a package.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn update(
        &self,
        id: PackageId,
        changes: Changes,
        trace: Option<Traceparent>,
    ) -> Result<bool, StoreError> {
        self.ask(Update { id, changes, trace }).await
    }

    /// Removes a package and writes its `Removed` event; whether there was such a package.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn remove(&self, id: PackageId, trace: Option<Traceparent>) -> Result<bool, StoreError> {
        self.ask(Remove { id, trace }).await
    }

    /// As [`Store::create`], once for a key: a repeat of `request` returns the first answer.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn create_once(
        &self,
        new: NewPackage,
        trace: Option<Traceparent>,
        once: (IdempotencyKey, Vec<u8>),
    ) -> Result<Outcome, StoreError> {
        self.once(once, Change::Create(Create { new, trace })).await
    }

    /// As [`Store::update`], once for a key.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn update_once(
        &self,
        id: PackageId,
        changes: Changes,
        trace: Option<Traceparent>,
        once: (IdempotencyKey, Vec<u8>),
    ) -> Result<Outcome, StoreError> {
        self.once(once, Change::Update(Update { id, changes, trace })).await
    }

    /// As [`Store::remove`], once for a key.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn remove_once(
        &self,
        id: PackageId,
        trace: Option<Traceparent>,
        once: (IdempotencyKey, Vec<u8>),
    ) -> Result<Outcome, StoreError> {
        self.once(once, Change::Remove(Remove { id, trace })).await
    }

    async fn once(
        &self,
        (key, request): (IdempotencyKey, Vec<u8>),
        change: Change,
    ) -> Result<Outcome, StoreError> {
        self.ask(Once { key, request, change, ttl: self.idempotency_ttl }).await
    }

    /// What the database is good for now, by a connection such as calls have.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn standing(&self) -> Result<Standing, StoreError> {
        self.ask(Ping).await
    }

    /// How it is used now.
    #[must_use]
    pub fn usage(&self) -> Use {
        Use {
            connections_max: self.queue.lanes(),
            connections_open: self.connector.open(),
            connections_busy: self.queue.busy(),
            statements_waiting: self.queue.length(),
        }
    }

    /// Finishes what is asked for and closes every connection.
    pub async fn close(&self) {
        self.queue.close();
        self.lanes.wait().await;
    }

    /// The span of a statement is its caller's, though others may share the statement.
    async fn ask<S: Statement>(&self, statement: S) -> Result<S::Answer, StoreError> {
        let repository = tracing::info_span!(target: spans::TARGET, "repository", otel.name = S::NAME);
        let sql = tracing::info_span!(
            target: spans::TARGET,
            parent: &repository,
            "sql",
            otel.name = S::NAME,
            otel.kind = "client",
            db.system.name = "postgresql",
            db.operation.name = S::NAME,
            db.query.text = S::text(&self.outbox),
        );
        tracing::debug!(statement = S::NAME, "asking the database");
        let asking = async { self.queue.ask(statement)?.await.unwrap_or(Err(StoreError::Closed)) };
        asking.instrument(sql).instrument(repository).await
    }
}
