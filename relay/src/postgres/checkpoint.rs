//! Which rows of the outbox are in Kafka: a rule that cannot be wrong.
//!
//! Ids and times prove nothing, since both are handed out before the commit. Transaction ids do, together with a
//! position. A *checkpoint* is taken in this order: first X, the oldest transaction that still runs
//! (`pg_snapshot_xmin`); then L, the end of the log. Every transaction below X had ended when X was read, so its commit
//! record lies below L. Once the slot is confirmed up to L, every row of a transaction below X is in Kafka.
//!
//! X counts only where the publication is untouched, which is asked for in the statement that writes it down, and only
//! once the rows from before the slot are published. An alteration of the publication may be in the WAL and not visible
//! yet, while its transaction waits for a synchronous standby: so a checkpoint waits until every transaction that ran
//! when it was taken has ended. One that altered the publication for a row below X is among them, or had ended. What ran is
//! told by an id of our own, given out after X was read: a snapshot's end is above what has *ended*, and not above what
//! runs. A row's own `xmin` tells its transaction, so the table needs no column of ours; a subtransaction's id is above its
//! parent's. Ids wrap around: they are compared by age, and where an age says nothing (an old X, a special `xmin`) the row
//! counts as not published.
//!
//! While another transaction runs, X is below the events that were published last, and with no more of them to come nobody
//! would ever take another. So one that leaves some out is followed by a second: by then all that ran has ended, and the
//! second has everything below it.

use tokio_postgres::types::PgLsn;

use crate::postgres::{DatabaseError, Session};
use walpost_core::lsn::Lsn;

/// Whether the version of a row `outbox` is by a transaction below the bound, an `xid8`; see [`IS_PUBLISHED`]. `age`
/// counts from another number than the snapshot's end, so it is asked as well whether the bound lies in its past.
macro_rules! older_than {
    ($bound:literal) => {
        concat!(
            "pg_snapshot_xmax(pg_current_snapshot())::text::bigint - ",
            $bound,
            "::text::bigint < 2147483648 and age(",
            $bound,
            "::xid) >= 0 and age(outbox.xmin) < 2147483647 and (age(outbox.xmin) > age(",
            $bound,
            "::xid) or age(outbox.xmin) < 0)"
        )
    };
}

/// True for a row `outbox` that is in Kafka, by what is remembered in the row `memory` of walpost.outbox; else false.
///
/// `xmin` is of the transaction that wrote this *version* of the row: an UPDATE has another than the insert, and maybe a
/// lower one. It proves the insert all the same: the transaction of the version is below X, so it had ended when X was read,
/// and the row is visible, so it had committed; it found the row there, so the insert had committed before it, and has its
/// commit record below L.
///
/// Half of the ids that there are lie in the past of a transaction (PostgreSQL, "Preventing Transaction ID Wraparound
/// Failures"): an X that is older says nothing. A row that the statement sees is of the past, so one that seems to be of
/// the future is from more than half of the ids ago, and below any such X. Special ids have the highest age that there is,
/// and say nothing. All this holds in a statement that is a transaction of its own: `age` counts from the transaction's
/// number where it has one already.
///
/// X is proven for one table: another that takes its name has rows that nobody published. (Of partitions nothing is
/// proven.)
pub const IS_PUBLISHED: &str = concat!(
    "coalesce(memory.table_oid = outbox.tableoid and ",
    older_than!("memory.published_below"),
    ", false)"
);

/// True for a row `outbox` whose version is by a transaction from before the end of the copy was fixed; else false, also
/// where nothing can be said.
pub const IS_BEFORE_THE_COPY: &str = concat!("coalesce(", older_than!("memory.streamed_from"), ", false)");

/// A checkpoint that is not proven yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// X: every transaction below it had ended.
    pub below: i64,
    /// L: once the slot is confirmed up to here, their rows are in Kafka.
    pub lsn: Lsn,
    /// Above every transaction that ran when X was read, and above that of every event acknowledged by then.
    pub running_below: i64,
    /// Events acknowledged so far: when no more are, there is no need for another.
    acknowledged: u64,
}

/// Takes a checkpoint. The order of the questions is what makes it true.
///
/// # Errors
/// When the database refuses.
pub async fn take_checkpoint(session: &Session, acknowledged: u64) -> Result<Checkpoint, DatabaseError> {
    // The snapshot is older than the id, which this statement takes. Nothing else is written, so its commit waits for no
    // standby, as a rule.
    let sql =
        "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint, pg_current_xact_id()::text::bigint";
    let row = session.client().query_one(sql, &[]).await.map_err(session.error("take a transaction's id"))?;
    Ok(Checkpoint {
        below: row.get(0),
        lsn: wal_end(session).await?,
        running_below: row.get(1),
        acknowledged,
    })
}

/// The end of the WAL.
///
/// # Errors
/// When the database refuses.
pub async fn wal_end(session: &Session) -> Result<Lsn, DatabaseError> {
    let end = session.client().query_one("select pg_current_wal_insert_lsn()", &[]).await;
    let end: PgLsn = end.map_err(session.error("read the end of the log"))?.get(0);
    Ok(Lsn(end.into()))
}

/// The oldest transaction that runs: every one below it has ended. Prepared ones, and those that wait for a standby, have
/// not.
///
/// # Errors
/// When the database refuses.
pub async fn oldest_running(session: &Session) -> Result<i64, DatabaseError> {
    let sql = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
    let row = session.client().query_one(sql, &[]).await;
    Ok(row.map_err(session.error("read the oldest transaction"))?.get(0))
}

/// Up to where the WAL is flushed: what was committed before is visible by now, but for the blink of an eye. (A transaction that
/// waits for a synchronous standby is not.)
///
/// # Errors
/// When the database refuses.
pub async fn wal_flushed(session: &Session) -> Result<Lsn, DatabaseError> {
    let end = session.client().query_one("select pg_current_wal_flush_lsn()", &[]).await;
    let end: PgLsn = end.map_err(session.error("read the end of the log"))?.get(0);
    Ok(Lsn(end.into()))
}

/// When a checkpoint is taken, and when it is proven.
#[derive(Debug, Default)]
pub struct Checkpoints {
    pending: Option<Checkpoint>,
    proven: Option<Proven>,
}

/// What the last checkpoint that was proven says.
#[derive(Debug, Clone, Copy)]
struct Proven {
    below: i64,
    /// Events acknowledged when it was taken.
    acknowledged: u64,
    /// Above the transactions of all of these.
    all_below: i64,
}

impl Proven {
    fn covers(self, acknowledged: u64) -> bool {
        self.acknowledged == acknowledged && self.all_below <= self.below
    }
}

impl Checkpoints {
    /// The one that a slot confirmed up to `confirmed` has reached, if it has.
    #[must_use]
    pub fn reached(&self, confirmed: Lsn) -> Option<Checkpoint> {
        self.pending.filter(|pending| pending.lsn <= confirmed)
    }

    /// The one that was waited for is proven, and written down.
    pub fn prove(&mut self) {
        let Some(Checkpoint { below, acknowledged, running_below, .. }) = self.pending.take() else { return };
        let earlier = self.proven.filter(|proven| proven.acknowledged == acknowledged);
        let all_below = earlier.map_or(running_below, |proven| proven.all_below);
        self.proven = Some(Proven { below, acknowledged, all_below });
    }

    /// Whether another is to be taken: none is waited for, and the last that was proven leaves events out.
    #[must_use]
    pub fn is_due(&self, acknowledged: u64) -> bool {
        self.pending.is_none() && !self.proven.is_some_and(|proven| proven.covers(acknowledged))
    }

    /// Waits for this one.
    pub fn wait_for(&mut self, checkpoint: Checkpoint) {
        self.pending = Some(checkpoint);
    }

    /// The position that proves the one that is waited for.
    #[must_use]
    pub fn wanted(&self) -> Option<Lsn> {
        self.pending.map(|pending| pending.lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(lsn: u64, acknowledged: u64) -> Checkpoint {
        Checkpoint { below: 7, lsn: Lsn(lsn), running_below: 7, acknowledged }
    }

    #[test]
    fn a_checkpoint_is_proven_only_when_the_slot_is_confirmed_up_to_it() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.wait_for(at(100, 5));
        assert_eq!(checkpoints.reached(Lsn(99)), None);
        assert_eq!(checkpoints.wanted(), Some(Lsn(100)));
        assert_eq!(checkpoints.reached(Lsn(100)), Some(at(100, 5)));
        checkpoints.prove();
        assert_eq!(checkpoints.reached(Lsn(200)), None, "once");
    }

    #[test]
    fn none_is_taken_while_nothing_is_published() {
        let mut checkpoints = Checkpoints::default();
        assert!(checkpoints.is_due(0), "what an earlier session left behind is not known");
        checkpoints.wait_for(at(100, 0));
        assert!(!checkpoints.is_due(3), "one at a time");
        checkpoints.prove();
        assert!(!checkpoints.is_due(0));
        assert!(checkpoints.is_due(1));
    }

    #[test]
    fn one_that_leaves_events_out_is_followed_by_another_although_nothing_is_published() {
        let mut checkpoints = Checkpoints::default();
        checkpoints.wait_for(Checkpoint { running_below: 12, ..at(100, 5) });
        checkpoints.prove();
        assert!(checkpoints.is_due(5), "events of transactions up to 11, proven below 7");
        checkpoints.wait_for(Checkpoint { below: 12, running_below: 20, ..at(200, 5) });
        checkpoints.prove();
        assert!(!checkpoints.is_due(5), "what runs now has published nothing");
    }
}
