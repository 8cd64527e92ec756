//! The statements of the service as the queue knows them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::migrations::{self, Migrated};
use super::queue::{Line, Lines};
use super::session::{Bound, Session};
use super::statement::Statement;
use super::statements;
use crate::domain::{Changes, NewPackage, Package, PackageId, Traceparent};
use crate::outbox::Outbox;

/// A batch is worth less for each further call in it, and holds its connection longer.
const TOGETHER_MAX: usize = 64;

/// While one commits, the next one gathers and a third runs.
const WRITES_UNDER_WAY: usize = 3;

/// Reads wait for no disk: two keep Postgres busy while answers are handed out.
const READS_UNDER_WAY: usize = 2;

/// Adds a package and its `Created` event.
#[derive(Debug)]
pub(super) struct Create {
    pub(super) new: NewPackage,
    pub(super) trace: Option<Traceparent>,
}

impl Statement for Create {
    type Answer = PackageId;
    const NAME: &str = "create";
    const SAFE_TO_REPEAT: bool = false;
    const TOGETHER_MAX: usize = TOGETHER_MAX;
    const UNDER_WAY_MAX: usize = WRITES_UNDER_WAY;

    fn text(outbox: &Outbox) -> &'static str {
        statements::CREATE.of(outbox)
    }

    fn line(lines: &mut Lines) -> &mut Line<Self> {
        &mut lines.creates
    }

    async fn one(&self, session: &mut Session) -> Result<PackageId, sqlx::Error> {
        let statement = session.change(&statements::CREATE, |statement| {
            statement
                .bind(&self.new.title)
                .bind(&self.new.material)
                .bind(self.new.maximum_volume)
                .bind(self.new.reusable)
                .bind(self.trace.as_ref().map(Traceparent::as_str))
        });
        let row = statement.fetch_one(&mut session.connection).await?;
        Ok(PackageId::from_row(row.try_get(0)?))
    }

    async fn together(these: &[Self], session: &mut Session) -> Result<Vec<Option<PackageId>>, sqlx::Error> {
        let statement = session.change(&statements::CREATE_MANY, |statement| {
            statement
                .bind(column(these, |this| this.new.title.as_str()))
                .bind(column(these, |this| this.new.material.as_str()))
                .bind(column(these, |this| this.new.maximum_volume))
                .bind(column(these, |this| this.new.reusable))
                .bind(column(these, |this| this.trace.as_ref().map(Traceparent::as_str)))
        });
        let mut ids = vec![None; these.len()];
        for row in statement.fetch_all(&mut session.connection).await? {
            let place: i64 = row.try_get(1)?;
            let place = usize::try_from(place - 1).ok().and_then(|place| ids.get_mut(place));
            *place.ok_or(sqlx::Error::RowNotFound)? = Some(PackageId::from_row(row.try_get(0)?));
        }
        // Each has its id, or none may say that it was not made.
        if ids.contains(&None) { Err(sqlx::Error::RowNotFound) } else { Ok(ids) }
    }
}

/// Changes a package and writes its `Updated` event; whether there is such a package.
#[derive(Debug)]
pub(super) struct Update {
    pub(super) id: PackageId,
    pub(super) changes: Changes,
    pub(super) trace: Option<Traceparent>,
}

impl Statement for Update {
    type Answer = bool;
    const NAME: &str = "update";
    const SAFE_TO_REPEAT: bool = false;
    const TOGETHER_MAX: usize = TOGETHER_MAX;
    const UNDER_WAY_MAX: usize = WRITES_UNDER_WAY;

    fn may_share(one: &Self, other: &Self) -> bool {
        one.id != other.id
    }

    fn text(outbox: &Outbox) -> &'static str {
        statements::UPDATE.of(outbox)
    }

    fn line(lines: &mut Lines) -> &mut Line<Self> {
        &mut lines.updates
    }

    async fn one(&self, session: &mut Session) -> Result<bool, sqlx::Error> {
        let statement = session.change(&statements::UPDATE, |statement| {
            statement
                .bind(self.id.as_i64())
                .bind(&self.changes.title)
                .bind(&self.changes.material)
                .bind(self.changes.maximum_volume)
                .bind(self.changes.reusable)
                .bind(self.trace.as_ref().map(Traceparent::as_str))
        });
        found(statement, session).await
    }

    async fn together(these: &[Self], session: &mut Session) -> Result<Vec<Option<bool>>, sqlx::Error> {
        let statement = session.change(&statements::UPDATE_MANY, |statement| {
            statement
                .bind(column(these, |this| this.id.as_i64()))
                .bind(column(these, |this| this.changes.title.as_deref()))
                .bind(column(these, |this| this.changes.material.as_deref()))
                .bind(column(these, |this| this.changes.maximum_volume))
                .bind(column(these, |this| this.changes.reusable))
                .bind(column(these, |this| this.trace.as_ref().map(Traceparent::as_str)))
        });
        let mut changed = Vec::with_capacity(these.len());
        for row in statement.fetch_all(&mut session.connection).await? {
            changed.push(PackageId::from_row(row.try_get(0)?));
        }
        // One that was not changed is locked or not there: alone it waits, or learns that.
        Ok(these.iter().map(|this| changed.contains(&this.id).then_some(true)).collect())
    }
}

/// Removes a package and writes its `Removed` event; whether there was such a package.
#[derive(Debug)]
pub(super) struct Remove {
    pub(super) id: PackageId,
    pub(super) trace: Option<Traceparent>,
}

impl Statement for Remove {
    type Answer = bool;
    const NAME: &str = "remove";
    const SAFE_TO_REPEAT: bool = false;

    fn text(outbox: &Outbox) -> &'static str {
        statements::REMOVE.of(outbox)
    }

    fn line(lines: &mut Lines) -> &mut Line<Self> {
        &mut lines.removes
    }

    async fn one(&self, session: &mut Session) -> Result<bool, sqlx::Error> {
        let trace = self.trace.as_ref().map(Traceparent::as_str);
        let statement =
            session.change(&statements::REMOVE, |statement| statement.bind(self.id.as_i64()).bind(trace));
        found(statement, session).await
    }
}

/// One package, or `None`.
#[derive(Debug)]
pub(super) struct Describe {
    pub(super) id: PackageId,
}

impl Statement for Describe {
    type Answer = Option<Package>;
    const NAME: &str = "describe";
    const SAFE_TO_REPEAT: bool = true;
    const TOGETHER_MAX: usize = TOGETHER_MAX;
    const UNDER_WAY_MAX: usize = READS_UNDER_WAY;

    fn text(_: &Outbox) -> &'static str {
        statements::DESCRIBE
    }

    fn line(lines: &mut Lines) -> &mut Line<Self> {
        &mut lines.describes
    }

    async fn one(&self, session: &mut Session) -> Result<Option<Package>, sqlx::Error> {
        let row = session
            .query(statements::DESCRIBE)
            .bind(self.id.as_i64())
            .fetch_optional(&mut session.connection)
            .await?;
        row.as_ref().map(package).transpose()
    }

    async fn together(
        these: &[Self],
        session: &mut Session,
    ) -> Result<Vec<Option<Self::Answer>>, sqlx::Error> {
        let ids: Vec<i64> = these.iter().map(|this| this.id.as_i64()).collect();
        let rows =
            session.query(statements::DESCRIBE_MANY).bind(ids).fetch_all(&mut session.connection).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let package = package(row)?;
            found.insert(package.id.as_i64(), package);
        }
        Ok(these.iter().map(|this| Some(found.get(&this.id.as_i64()).cloned())).collect())
    }
}

/// A page of packages in the order of their ids.
#[derive(Debug)]
pub(super) struct List {
    pub(super) offset: i64,
    pub(super) limit: u32,
}

impl Statement for List {
    type Answer = Vec<Package>;
    const NAME: &str = "list";
    const SAFE_TO_REPEAT: bool = true;

    fn text(_: &Outbox) -> &'static str {
        statements::LIST
    }

    fn line(lines: &mut Lines) -> &mut Line<Self> {
        &mut lines.lists
    }

    async fn one(&self, session: &mut Session) -> Result<Vec<Package>, sqlx::Error> {
        let statement = session.query(statements::LIST).bind(i64::from(self.limit)).bind(self.offset);
        statement.fetch_all(&mut session.connection).await?.iter().map(package).collect()
    }
}

/// What the database is good for now.
#[derive(Debug)]
pub(super) struct Ping;

/// What a database is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// For every call.
    Good,
    /// It is a standby: nothing can be written.
    Standby,
    /// It was made read-only: by an operator, or by a service whose disk is nearly full.
    ReadOnly,
    /// Its migrations are not those that this build needs.
    NotMigrated(Migrated),
    /// A pooler gives a session another backend from one statement to the next, and the settings say that it does not.
    SharedBackend,
    /// Events are logical messages, and no slot keeps them: those of changes made now are lost.
    NoSlot,
}

impl Statement for Ping {
    type Answer = Standing;
    const NAME: &str = "ping";
    const SAFE_TO_REPEAT: bool = true;

    fn text(_: &Outbox) -> &'static str {
        statements::STANDING
    }

    fn line(lines: &mut Lines) -> &mut Line<Self> {
        &mut lines.pings
    }

    async fn one(&self, session: &mut Session) -> Result<Standing, sqlx::Error> {
        let row = session.query(statements::STANDING).fetch_one(&mut session.connection).await?;
        let (standby, read_only): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        let backend: i32 = row.try_get(2)?;
        if session.backend().is_some_and(|known| known.process != backend) {
            return Ok(Standing::SharedBackend);
        }
        if standby || read_only {
            session.is_read_only();
            return Ok(if standby { Standing::Standby } else { Standing::ReadOnly });
        }
        if session.writes_messages() {
            let has_slot = session.query(statements::HAS_SLOT).fetch_one(&mut session.connection).await?;
            if !has_slot.try_get::<bool, _>(0)? {
                return Ok(Standing::NoSlot);
            }
        }
        let applied = session.query(statements::MIGRATIONS).fetch_all(&mut session.connection).await;
        match applied {
            Ok(rows) => Ok(match migrations::judge(&migrations::applied(&rows)?) {
                Migrated::Whole { .. } => Standing::Good,
                other => Standing::NotMigrated(other),
            }),
            // The tables were made in another way, or the role sees only its own: the start has looked at them.
            Err(sqlx::Error::Database(refusal))
                if matches!(refusal.code().as_deref(), Some("42P01" | "42501")) =>
            {
                Ok(Standing::Good)
            }
            Err(error) => Err(error),
        }
    }
}

async fn found(statement: Bound<'_>, session: &mut Session) -> Result<bool, sqlx::Error> {
    Ok(statement.fetch_optional(&mut session.connection).await?.is_some())
}

fn column<'a, S, T>(these: &'a [S], value: impl Fn(&'a S) -> T) -> Vec<T> {
    these.iter().map(value).collect()
}

/// In the order of the columns that the statements name.
fn package(row: &PgRow) -> Result<Package, sqlx::Error> {
    Ok(Package {
        id: PackageId::from_row(row.try_get(0)?),
        title: row.try_get(1)?,
        material: row.try_get(2)?,
        maximum_volume: row.try_get(3)?,
        reusable: row.try_get(4)?,
        created_at: row.try_get::<DateTime<Utc>, _>(5)?,
        updated_at: row.try_get::<Option<DateTime<Utc>>, _>(6)?,
    })
}
