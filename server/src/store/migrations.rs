//! The migrations, embedded in the program.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};

use super::{Database, StartError};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// Of the last migration that this build has.
pub(super) fn last_version() -> i64 {
    MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// How long to wait while another instance migrates. What a migration itself waits for, it bounds itself.
const OTHER_INSTANCE_TIMEOUT: &str = "5min";

/// Why the migrations were not applied. Each migration is one transaction, so none is half applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateFailed {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] StartError),
    /// The database was migrated by another build of this program.
    #[error("{place}: {cause}; it belongs to another version of this program: run that one, or a newer one")]
    OtherVersion {
        /// Where.
        place: String,
        /// Which migration.
        cause: MigrateError,
    },
    /// A migration failed and was rolled back.
    #[error("{place}: migration {version} was rolled back: {cause}; when that is put right, migrate again")]
    Statement {
        /// Where.
        place: String,
        /// Which migration.
        version: i64,
        /// Why, with Postgres' hint where it gave one.
        cause: String,
    },
}

/// Applies what the database lacks, one migration after the other; does nothing on one that is up to date. Instances
/// that start together wait for the first of them.
///
/// # Errors
/// What failed, where, and what to do about it.
pub async fn migrate(database: &Database, connect_timeout: Duration) -> Result<(), MigrateFailed> {
    let session = [("lock_timeout", OTHER_INSTANCE_TIMEOUT)];
    let mut connection = database.connect(connect_timeout, &session).await?;
    MIGRATOR.run_direct(None, &mut connection, false).await.map_err(|error| failed(database, error))?;
    tracing::info!(migrations = MIGRATOR.iter().count(), "the database is up to date");
    Ok(())
}

fn failed(database: &Database, error: MigrateError) -> MigrateFailed {
    match error {
        MigrateError::ExecuteMigration(cause, version) => {
            MigrateFailed::Statement { place: database.place(), version, cause: with_hint(&cause) }
        }
        MigrateError::Execute(cause) => MigrateFailed::Database(database.unusable(cause.into())),
        cause => MigrateFailed::OtherVersion { place: database.place(), cause },
    }
}

fn with_hint(cause: &sqlx::Error) -> String {
    let refusal = cause
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>());
    match refusal {
        Some(refusal) => match refusal.hint() {
            Some(hint) => format!("{} ({hint})", refusal.message()),
            None => refusal.message().to_owned(),
        },
        None => cause.to_string(),
    }
}
