//! Changes that come with an idempotency key: made once, however often they are asked for.
//!
//! The key, the change, its event and the answer are one transaction. A repeat that comes while the first is under way
//! waits for it at the key's row. That makes such a change safe to repeat when nobody knows how it ended.

use std::time::Duration;

use sqlx::Row;

use super::kinds::{Create, Remove, Update};
use super::queue::{Line, Lines};
use super::session::Session;
use super::statement::Statement;
use super::statements;
use crate::domain::{IdempotencyKey, PackageId};
use crate::outbox::Outbox;

/// A change that was asked for, with its key.
#[derive(Debug)]
pub(super) struct Once {
    pub(super) key: IdempotencyKey,
    /// The request, encoded.
    pub(super) request: Vec<u8>,
    pub(super) change: Change,
    /// How long an answer is kept.
    pub(super) ttl: Duration,
}

#[derive(Debug)]
pub(super) enum Change {
    Create(Create),
    Update(Update),
    Remove(Remove),
}

/// How a change with a key ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was made.
    Made(PackageId),
    /// It was made before.
    MadeBefore(PackageId),
    /// There is no such package; the key is free again.
    Missing,
    /// The key was used for another request.
    OtherRequest,
}

impl Change {
    fn rpc(&self) -> &'static str {
        match self {
            Self::Create(_) => Create::NAME,
            Self::Update(_) => Update::NAME,
            Self::Remove(_) => Remove::NAME,
        }
    }

    async fn make(&self, session: &mut Session) -> Result<Option<PackageId>, sqlx::Error> {
        match self {
            Self::Create(create) => create.one(session).await.map(Some),
            Self::Update(update) => Ok(update.one(session).await?.then_some(update.id)),
            Self::Remove(remove) => Ok(remove.one(session).await?.then_some(remove.id)),
        }
    }
}

impl Statement for Once {
    type Answer = Outcome;
    const NAME: &str = "once";
    const SAFE_TO_REPEAT: bool = true;

    fn text(_: &Outbox) -> &'static str {
        statements::CLAIM_KEY
    }

    fn line(lines: &mut Lines) -> &mut Line<Self> {
        &mut lines.onces
    }

    async fn one(&self, session: &mut Session) -> Result<Outcome, sqlx::Error> {
        session.begin().await?;
        let claim = session
            .query(statements::CLAIM_KEY)
            .bind(self.key.as_str())
            .bind(self.change.rpc())
            .bind(&self.request)
            .bind(self.ttl.as_secs_f64());
        if claim.fetch_optional(&mut session.connection).await?.is_none() {
            let kept = session.query(statements::KEPT_ANSWER).bind(self.key.as_str());
            let kept = kept.fetch_one(&mut session.connection).await?;
            session.rollback().await?;
            let same = kept.try_get::<&str, _>(0)? == self.change.rpc()
                && kept.try_get::<&[u8], _>(1)? == self.request;
            let id = PackageId::from_row(kept.try_get(2)?);
            return Ok(if same { Outcome::MadeBefore(id) } else { Outcome::OtherRequest });
        }
        let Some(id) = self.change.make(session).await? else {
            session.rollback().await?;
            return Ok(Outcome::Missing);
        };
        let keep = session.query(statements::KEEP_ANSWER).bind(self.key.as_str()).bind(id.as_i64());
        keep.execute(&mut session.connection).await?;
        session.commit().await?;
        Ok(Outcome::Made(id))
    }
}
