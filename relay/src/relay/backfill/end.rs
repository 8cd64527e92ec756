//! Fixes which rows come from the table; see [the module above](super) for why none is lost.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::config::TableSource;
use crate::postgres::ledger::{self, TableMemory};
use crate::postgres::{DatabaseError, Session, checkpoint};
use walpost_core::pgoutput::Oid;

/// How often it is asked whether the earlier transactions have ended.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// How long `init` and `recover` wait: what they leave to `run` costs repeats of what is inserted until then.
const TRIED_FOR: Duration = Duration::from_secs(2);

/// Sessions and prepared transactions that keep earlier transactions from having ended. A prepared one has no session.
pub(crate) const HOLDERS: &str = "select who from ( \
    select format('pid %s, %s, since %s', pid, application_name, xact_start) as who, xact_start as since \
        from pg_stat_activity where backend_xid is not null and pid <> pg_backend_pid() \
    union all select format('the prepared transaction %L of %s, since %s', gid, owner, prepared), prepared \
        from pg_prepared_xacts) open order by since limit 5";

/// Fixes the end of a copy that has none yet. Does nothing when it has one, or no copy is due.
///
/// # Errors
/// When the database refuses, or transactions that were open before do not end within `timeout`; they are named.
pub async fn fix(
    session: &Session,
    source: &TableSource,
    table: Oid,
    timeout: Duration,
) -> Result<(), DatabaseError> {
    let reading = ledger::load(session, &source.slot);
    let Some(memory) = session.within("read walpost.slot", reading).await? else { return Ok(()) };
    let is_due = |table: &&TableMemory| !table.backfilled && table.copy().is_none();
    let Some(known) = memory.table(table).filter(is_due) else { return Ok(()) };
    if !wait(session, timeout).await? {
        return Err(held_up(session, "fix which rows come from the table", timeout).await);
    }
    let fixing = ledger::fix_copy(session, &source.slot, known, memory.epoch, &source.table);
    session.within("fix which rows come from the table", fixing).await
}

/// Waits until whatever was committed by now is visible.
///
/// # Errors
/// When the database refuses, or transactions that were open before do not end within `timeout`; they are named.
pub async fn wait_for_earlier(session: &Session, timeout: Duration) -> Result<(), DatabaseError> {
    if wait(session, timeout).await? {
        return Ok(());
    }
    Err(held_up(session, "look for tables that have appeared", timeout).await)
}

/// Waits for every transaction that runs now; `false` when one does not end within `timeout`.
async fn wait(session: &Session, timeout: Duration) -> Result<bool, DatabaseError> {
    let deadline = Instant::now() + timeout;
    // A number of one's own is above every number that was given before. The snapshot's upper end is not: it is above
    // those that have ended.
    let sql = "select pg_current_xact_id()::text::bigint";
    let asking = async {
        let row =
            session.client().query_one(sql, &[]).await.map_err(session.error("take a transaction number"))?;
        Ok::<i64, DatabaseError>(row.get(0))
    };
    let own = session.within("take a transaction number", asking).await?;
    while session.within("wait for earlier transactions", checkpoint::oldest_running(session)).await? <= own {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(ASK_EVERY).await;
    }
    Ok(true)
}

/// Fixes it where that takes no time; where it does, `run` does it. Nothing rests on it.
pub async fn try_to_fix(session: &Session, source: &TableSource, table: Oid, timeout: Duration) {
    if let Err(error) = fix(session, source, table, timeout.min(TRIED_FOR)).await {
        tracing::debug!(%error, "which rows come from the table is left to `walpost run` to fix");
    }
}

async fn held_up(session: &Session, doing: &'static str, timeout: Duration) -> DatabaseError {
    let asking = async { Ok::<_, DatabaseError>(holders(session).await) };
    let open = session.within("name the open transactions", asking).await.unwrap_or_default();
    DatabaseError::no_answer(doing, session.place(), timeout).with_detail(format!(
        "transactions that were open before have not ended within {} ms (--slot-timeout-ms), and their rows may be in the \
            table only: {open}; end them (pg_terminate_backend(pid), `rollback prepared` or `commit prepared`) or wait: it \
            is tried again",
        timeout.as_millis()
    ))
}

/// Names whose transactions are open.
pub(crate) async fn holders(session: &Session) -> String {
    let rows = session.client().query(HOLDERS, &[]).await.unwrap_or_default();
    let open = rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>().join("; ");
    if open.is_empty() {
        return "of sessions that this role may not see (pg_monitor may)".to_owned();
    }
    open
}
