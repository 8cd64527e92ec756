//! The migrations, embedded in the program, and what those of a database are to them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::database::Pooling;
use super::session::{Lasting, set_config};
use super::{Database, StartError, StoreError, statements};

/// It applies what is missing; what it may be applied to is judged here, for it and for readiness alike.
static MIGRATOR: LazyLock<Migrator> = LazyLock::new(|| {
    let mut migrator = sqlx::migrate!("../migrations");
    migrator.set_ignore_missing(true).set_locking(false);
    migrator
});

/// How long to wait while another instance migrates. What a migration itself waits for, it bounds itself.
const OTHER_INSTANCE_TIMEOUT: &str = "5min";

/// Why the migrations were not applied. Each migration is one transaction, so none is half applied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateFailed {
    /// The database cannot be used.
    #[error(transparent)]
    Database(#[from] StartError),
    /// The database was migrated by another build of this program.
    #[error("{place}: {why}; it belongs to another version of this program: run that one, or a newer one")]
    OtherVersion {
        /// Where.
        place: String,
        /// Which migration.
        why: String,
    },
    /// There is something to apply, and no session to do it in.
    #[error(
        "{place}: it lacks migrations ({}), and they are not applied through a pooler in transaction mode; run \
         `logistic-package-api migrate` with a PACKAGE_API_DATABASE_URL that leads to Postgres itself",
        numbers(lacks)
    )]
    Pooled {
        /// Where.
        place: String,
        /// Which.
        lacks: Vec<i64>,
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

/// A migration that a newer build has applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newer {
    version: i64,
    description: String,
}

impl fmt::Display for Newer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.version, self.description)
    }
}

/// What the migrations of a database are to this build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Migrated {
    /// All of this build's are applied. Those behind them are of a newer build: the release before must be able to run
    /// on what the next one has migrated, so they only add.
    Whole {
        /// Those behind.
        newer: Vec<Newer>,
    },
    /// These are to be applied.
    Lacks(Vec<i64>),
    /// It is not this build's history: why.
    Other(String),
}

/// A migration that was applied.
#[derive(Debug, Clone)]
pub(super) struct Applied {
    version: i64,
    description: String,
    checksum: Vec<u8>,
    success: bool,
}

/// From rows of [`statements::MIGRATIONS`].
pub(super) fn applied(rows: &[PgRow]) -> Result<Vec<Applied>, sqlx::Error> {
    let each = rows.iter().map(|row| {
        Ok(Applied {
            version: row.try_get(0)?,
            description: row.try_get(1)?,
            checksum: row.try_get(2)?,
            success: row.try_get(3)?,
        })
    });
    each.collect()
}

/// What these are to this build.
pub(super) fn judge(applied: &[Applied]) -> Migrated {
    let ours: BTreeMap<i64, &[u8]> =
        MIGRATOR.iter().map(|migration| (migration.version, &*migration.checksum)).collect();
    let last = ours.keys().next_back().copied().unwrap_or_default();
    let mut newer = Vec::new();
    for Applied { version, description, checksum, success } in applied {
        match ours.get(version) {
            _ if !success => {
                return Migrated::Other(format!("migration {version} was begun and not finished"));
            }
            Some(ours) if *ours != checksum.as_slice() => {
                return Migrated::Other(format!("migration {version} is not the one that this build has"));
            }
            Some(_) => {}
            None if *version > last => {
                newer.push(Newer { version: *version, description: description.clone() });
            }
            None => return Migrated::Other(format!("migration {version} is unknown to this build")),
        }
    }
    let is_applied = |version: &i64| applied.iter().any(|one| one.version == *version);
    let lacks: Vec<i64> = ours.into_keys().filter(|version| !is_applied(version)).collect();
    match (lacks.is_empty(), newer.first()) {
        (true, _) => Migrated::Whole { newer },
        (false, None) => Migrated::Lacks(lacks),
        (false, Some(newest)) => {
            Migrated::Other(format!("it has migration {newest} and lacks {}", numbers(&lacks)))
        }
    }
}

fn numbers(versions: &[i64]) -> String {
    versions.iter().map(i64::to_string).collect::<Vec<_>>().join(", ")
}

/// Applies what the database lacks, one migration after the other; does nothing on one that is up to date, or newer.
/// Instances that start together wait for the first of them. Gives the migrations of a newer build that it has.
///
/// # Errors
/// What failed, where, and what to do about it.
pub async fn migrate(database: &Database, connect_timeout: Duration) -> Result<Vec<Newer>, MigrateFailed> {
    let mut connection = database.connect(connect_timeout).await?;
    let newer = match standing(database, &mut connection).await? {
        Migrated::Lacks(lacks) if database.pooling == Pooling::Transaction => {
            return Err(MigrateFailed::Pooled { place: database.place().to_owned(), lacks });
        }
        Migrated::Lacks(_) => {
            // It locks for its session: a pooler that shares backends would keep that lock, and lose it.
            database.check(connect_timeout).await?;
            apply(database, &mut connection).await?
        }
        Migrated::Whole { newer } => newer,
        Migrated::Other(why) => {
            return Err(MigrateFailed::OtherVersion { place: database.place().to_owned(), why });
        }
    };
    if newer.is_empty() {
        tracing::info!(migrations = MIGRATOR.iter().count(), "the database is up to date");
    } else {
        let newer: Vec<_> = newer.iter().map(ToString::to_string).collect();
        tracing::warn!(?newer, "the database is newer than this build, which leaves it as it is");
    }
    Ok(newer)
}

/// Alone, and only what is still missing by then.
async fn apply(database: &Database, connection: &mut PgConnection) -> Result<Vec<Newer>, MigrateFailed> {
    let unusable = |error: sqlx::Error| MigrateFailed::Database(database.unusable(error.into()));
    let waiting = [("lock_timeout", OTHER_INSTANCE_TIMEOUT)];
    let waiting = set_config(waiting.into_iter(), Lasting::Session);
    sqlx::raw_sql(sqlx::AssertSqlSafe(waiting)).execute(&mut *connection).await.map_err(unusable)?;
    connection.lock().await.map_err(|error| failed(database, error))?;
    let newer = match standing(database, connection).await? {
        Migrated::Other(why) => {
            return Err(MigrateFailed::OtherVersion { place: database.place().to_owned(), why });
        }
        Migrated::Whole { newer } => newer,
        Migrated::Lacks(_) => {
            MIGRATOR.run_direct(None, connection, false).await.map_err(|error| failed(database, error))?;
            Vec::new()
        }
    };
    // The lock ends with the connection at the latest.
    let _ = connection.unlock().await;
    Ok(newer)
}

async fn standing(database: &Database, connection: &mut PgConnection) -> Result<Migrated, MigrateFailed> {
    // Unprepared, so that it passes through any pooler.
    match sqlx::raw_sql(statements::MIGRATIONS).fetch_all(connection).await {
        Ok(rows) => {
            let applied = applied(&rows).map_err(|error| database.unusable(error.into()))?;
            Ok(judge(&applied))
        }
        // There is no such table yet.
        Err(sqlx::Error::Database(refusal)) if refusal.code().as_deref() == Some("42P01") => Ok(judge(&[])),
        Err(error) => Err(database.unusable(StoreError::from(error)).into()),
    }
}

fn failed(database: &Database, error: MigrateError) -> MigrateFailed {
    match error {
        MigrateError::ExecuteMigration(cause, version) => {
            MigrateFailed::Statement { place: database.place().to_owned(), version, cause: with_hint(&cause) }
        }
        MigrateError::Execute(cause) => MigrateFailed::Database(database.unusable(cause.into())),
        cause => MigrateFailed::OtherVersion { place: database.place().to_owned(), why: cause.to_string() },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ours() -> Vec<Applied> {
        let all = MIGRATOR.iter().map(|migration| Applied {
            version: migration.version,
            description: migration.description.to_string(),
            checksum: migration.checksum.to_vec(),
            success: true,
        });
        all.collect()
    }

    fn later(version: i64) -> Applied {
        Applied { version, description: "later".into(), checksum: vec![0], success: true }
    }

    #[test]
    fn a_newer_database_is_as_good() {
        assert_eq!(judge(&ours()), Migrated::Whole { newer: vec![] });
        let newer = vec![Newer { version: 9999, description: "later".into() }];
        assert_eq!(newer[0].to_string(), "9999 (later)");
        assert_eq!(judge(&[ours(), vec![later(9999)]].concat()), Migrated::Whole { newer });
    }

    #[test]
    fn what_is_missing_is_to_be_applied() {
        let mut some = ours();
        let last = some.pop().map(|last| last.version).into_iter().collect();
        assert_eq!(judge(&some), Migrated::Lacks(last));
        assert!(matches!(judge(&[]), Migrated::Lacks(all) if all.len() == ours().len()));
    }

    #[test]
    fn another_history_is_not_touched() {
        let other = |applied: &[Applied]| matches!(judge(applied), Migrated::Other(_));
        let (mut checksum, mut unfinished, mut gap) = (ours(), ours(), ours());
        checksum[0].checksum.clear();
        unfinished[0].success = false;
        gap[0] = later(9999);
        assert!(other(&checksum) && other(&unfinished) && other(&gap));
        assert!(other(&[ours(), vec![later(-1)]].concat()));
    }
}
