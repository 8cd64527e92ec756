//! Packages in Postgres: one statement, one round trip, for each rpc.
//!
//! The connection is checked out of a bounded pool, and both the wait for it and the statement are bounded in time. A
//! statement that a connection has not run before takes one round trip more, to prepare it; and the pool tests a
//! connection with one of its own after the call has been answered.

mod connect;
mod error;
mod migrations;
pub mod statements;

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{PgPool, Postgres, Row};

use crate::domain::{Changes, NewPackage, Package, PackageId, Traceparent};

pub use connect::{Database, PoolSettings, StartError};
pub use error::StoreError;
pub use migrations::{MigrateFailed, migrate};

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Allowed on top of the server's own statement timeout before a connection is given up as dead.
const NETWORK_GRACE: Duration = Duration::from_secs(2);

/// The packages.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    /// Longer than Postgres lets a statement run, so it strikes only when the connection is dead.
    answer_timeout: Duration,
}

impl Store {
    /// Over a pool of connections, none of which is made before it is needed.
    #[must_use]
    pub fn new(database: &Database, settings: &PoolSettings) -> Self {
        let answer_timeout = settings.statement_timeout.saturating_add(NETWORK_GRACE);
        Self { pool: connect::pool(database, settings), answer_timeout }
    }

    /// Adds a package and its `Created` event.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn create(
        &self,
        new: &NewPackage,
        trace: Option<&Traceparent>,
    ) -> Result<PackageId, StoreError> {
        let statement = sqlx::query(statements::CREATE)
            .bind(&new.title)
            .bind(&new.material)
            .bind(new.maximum_volume)
            .bind(new.reusable)
            .bind(trace.map(Traceparent::as_str));
        let row = self.optional(statement).await?.ok_or(sqlx::Error::RowNotFound)?;
        Ok(PackageId::from_row(row.try_get("package_id")?))
    }

    /// One package, or `None`.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn describe(&self, id: PackageId) -> Result<Option<Package>, StoreError> {
        let row = self.optional(sqlx::query(statements::DESCRIBE).bind(id.as_i64())).await?;
        Ok(row.as_ref().map(package).transpose()?)
    }

    /// At most `limit` packages in the order of their ids, after the first `offset`. An offset that Postgres cannot
    /// hold lies past every end.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn list(&self, offset: u64, limit: u32) -> Result<Vec<Package>, StoreError> {
        let Ok(offset) = i64::try_from(offset) else { return Ok(Vec::new()) };
        let statement = sqlx::query(statements::LIST).bind(i64::from(limit)).bind(offset);
        let rows = self.answered(async |connection| statement.fetch_all(connection).await).await?;
        Ok(rows.iter().map(package).collect::<Result<_, _>>()?)
    }

    /// Changes a package and writes its `Updated` event; whether there is such a package.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn update(
        &self,
        id: PackageId,
        changes: &Changes,
        trace: Option<&Traceparent>,
    ) -> Result<bool, StoreError> {
        let statement = sqlx::query(statements::UPDATE)
            .bind(id.as_i64())
            .bind(&changes.title)
            .bind(&changes.material)
            .bind(changes.maximum_volume)
            .bind(changes.reusable)
            .bind(trace.map(Traceparent::as_str));
        Ok(self.optional(statement).await?.is_some())
    }

    /// Removes a package and writes its `Removed` event; whether there was such a package.
    ///
    /// # Errors
    /// When the database is away or refuses.
    pub async fn remove(&self, id: PackageId, trace: Option<&Traceparent>) -> Result<bool, StoreError> {
        let statement =
            sqlx::query(statements::REMOVE).bind(id.as_i64()).bind(trace.map(Traceparent::as_str));
        Ok(self.optional(statement).await?.is_some())
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.optional(sqlx::query("select 1")).await.map(drop)
    }

    /// Whether the tables, columns and rights that the statements need are there.
    ///
    /// # Errors
    /// With what is missing, and what to do about it.
    pub async fn check_schema(&self, database: &Database) -> Result<(), StartError> {
        let probing = self.answered(async |connection| {
            for probe in statements::PROBES {
                sqlx::query(probe).execute(&mut *connection).await?;
            }
            Ok(())
        });
        probing.await.map_err(|error| database.unusable(error))
    }

    /// Waits for the connections that are in use and closes all.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn optional(&self, statement: Statement<'_>) -> Result<Option<PgRow>, StoreError> {
        self.answered(async |connection| statement.fetch_optional(connection).await).await
    }

    /// Runs `ask` on a connection of the pool. A connection that does not answer is closed, not handed out again.
    async fn answered<T>(
        &self,
        ask: impl AsyncFnOnce(&mut sqlx::PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, StoreError> {
        let mut connection = self.pool.acquire().await?;
        match tokio::time::timeout(self.answer_timeout, ask(&mut connection)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => {
                connection.close_on_drop();
                Err(StoreError::NoAnswer(self.answer_timeout))
            }
        }
    }
}

fn package(row: &PgRow) -> Result<Package, sqlx::Error> {
    Ok(Package {
        id: PackageId::from_row(row.try_get("package_id")?),
        title: row.try_get("title")?,
        material: row.try_get("material")?,
        maximum_volume: row.try_get("max_volume")?,
        reusable: row.try_get("reusable")?,
        created_at: row.try_get::<DateTime<Utc>, _>("created_at")?,
        updated_at: row.try_get::<Option<DateTime<Utc>>, _>("updated_at")?,
    })
}
