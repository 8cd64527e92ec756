//! Rows that the stream does not hold: they are read from the table, and published before the stream is followed.
//!
//! First start, takeover from a poller and recovery after a lost slot are this one operation.
//!
//! # Which rows come from the table, and why none is lost
//!
//! The slot is there, its publication is as it must be, and nothing of it is confirmed until the copy has ended. Then
//! ([`end`]) a transaction number C is taken, and every transaction up to C waited for: until each of them has *ended*,
//! which is more than that its commit is in the WAL (one that waits for a synchronous standby is not visible yet). Only
//! then M is read, the highest id, in a fresh snapshot, and kept in the ledger with S, the oldest transaction that ran.
//!
//! * A transaction whose rows the stream lacks had written them before C was taken: it committed before the slot's
//!   position, or wrote while the publication let rows pass. So it is at most C, it has ended, and its rows are visible:
//!   their ids are at most M. The table gives every row up to M, whatever was done to it since: an UPDATE or a rewrite
//!   gives a row another `xmin`, and no id. Left out are only rows that a checkpoint proves to be in Kafka
//!   ([`crate::postgres::checkpoint`]).
//! * A row above M is in the stream.
//!
//! # Why the order of a key holds
//!
//! The ids of one key are taken to rise in the order of its commits: writers of one key are serialised, as by its row's
//! lock. Then what the table gives is closed under "earlier of the same key": what is above M is later than all of it.
//!
//! The table is read a page at a time, each in a snapshot of its own ([`table`]), so that no transaction stays open while
//! Kafka takes its time. A row up to M that was committed after M was read (the stream has it, too) may be missing on the
//! page of its id, and a later one of its key be on a page that is read later. So a page gives only rows that were there
//! when M was read: those whose version is by a transaction below S. Where it has another row, what is left is read in *one*
//! snapshot: the rows behind those that were given, and before them whatever may have come since. (Updated rows look like
//! that, too; they are given again, which is harmless.)
//!
//! # Where it goes on
//!
//! When every row up to an id is acknowledged, that id is written down now and then ([`copied`](walpost_core::window::copied)); the next copy with the
//! same M begins behind it. The relay holds the slot meanwhile, so a second one stands by.

pub mod end;
pub mod table;

use crate::config::TableSource;
use crate::postgres::checkpoint::IS_PUBLISHED;
use crate::postgres::names::events;
use crate::postgres::{DatabaseError, Session};
use walpost_core::pgoutput::Oid;

/// How many rows are to be published.
///
/// # Errors
/// When the database refuses.
pub async fn count(session: &Session, source: &TableSource, table: Oid) -> Result<i64, DatabaseError> {
    let sql = format!(
        "select count(*) from {} left join walpost.outbox memory on memory.slot_name = $1 and memory.table_oid = $2 \
         where not {IS_PUBLISHED}",
        events(&source.table)
    );
    let row = session.client().query_one(&sql, &[&source.slot, &table]).await;
    Ok(row.map_err(session.error("count the rows to publish"))?.get(0))
}
