//! What the relay must remember beside the outbox, in the schema `walpost`.
//!
//! The slot alone holds the durable position. The ledger holds what the slot cannot say about itself: which server and
//! timeline it belongs to, which tables it is followed for, whether the rows that stood in each before it are published, and a
//! position that it has never passed. That position is written *before* it is confirmed, so a slot that is found ahead of it was not moved
//! by walpost: it was made anew, or moved by hand, and what lies between was never seen.
//!
//! Each session that takes the slot counts the epoch up. A relay that finds another epoch than its own knows that
//! another one had the slot meanwhile, and what it still holds is no longer its to send; and only the relay of the
//! latest epoch can write here.
//!
//! What means that rows may be missing in the stream is written here before anything else happens ([`find`]), and only the
//! publishing of the table takes it back ([`Holder::finish_backfill`]).

mod entry;
mod finding;
mod holder;
mod schema;

use serde::Deserialize as _;
use serde_json::Value;
use tokio_postgres::types::PgLsn;

pub use finding::{begin, find, note_replacement, republish};
pub use holder::{Holder, add, add_messages, fix_copy, follow, forget_copy, save_copy, take};
pub use schema::{check_rights, check_version, create, exists, make, upgrade};

use crate::postgres::{DatabaseError, Session};
use walpost_core::event::mapping::Guesses;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Oid;
use walpost_core::window::copied::CopyId;

/// What is remembered about a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// The server's identifier, as IDENTIFY_SYSTEM gives it.
    pub system: String,
    /// The position that the slot has never passed.
    pub confirmed: Lsn,
    /// Counted up by each session that takes the slot.
    pub epoch: i64,
    /// The server's timeline when the slot was taken last.
    pub timeline: Option<u32>,
    /// The tables that are followed by it.
    pub tables: Vec<TableMemory>,
    /// The prefixes of logical messages that are.
    pub messages: Vec<String>,
}

/// What is remembered about a table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableMemory {
    /// The table's object id.
    pub oid: Oid,
    /// Schema and table, as it was called last.
    pub name: String,
    /// Whether the rows from before the slot are published.
    pub backfilled: bool,
    /// The publication as it was when the table was first followed, and the table's entry in it; 0 for a publication that
    /// is known to be younger than the slot's position.
    pub publication: Option<(Oid, Oid)>,
    /// The catalogue's rows of that publication, as one text that any change of them changes; none in a ledger of an
    /// older version.
    pub publication_rows: Option<String>,
    /// Why rows may be missing in the stream; kept until the table is published again.
    pub republish_why: Option<String>,
    /// The rows of the table up to this id are to be published from the table.
    pub copy_through: Option<i64>,
    /// Those up to this id are.
    pub copied_through: Option<i64>,
    /// The column whose numbers these are; empty for a table that has none.
    pub copy_order: Option<String>,
    /// What was guessed of the table, and the row filter, when it was first followed.
    pub guesses: Guesses,
    /// Rows of a transaction from here on may have come after `copy_through` was read; all of them are in the stream.
    pub streamed_from: Option<i64>,
}

impl Memory {
    /// What is remembered about a table.
    #[must_use]
    pub fn table(&self, oid: Oid) -> Option<&TableMemory> {
        self.tables.iter().find(|table| table.oid == oid)
    }
}

impl TableMemory {
    /// Which rows come from the table, once that is fixed.
    #[must_use]
    pub fn copy(&self) -> Option<CopyId> {
        Some(CopyId { table: self.oid, through: self.copy_through?, streamed_from: self.streamed_from? })
    }

    fn read(row: &Value) -> Self {
        let text = |name: &str| row.get(name)?.as_str().map(str::to_owned);
        // Types without a form of their own in JSON are text there.
        let oid = |name: &str| text(name)?.parse().ok();
        let number = |name: &str| row.get(name)?.as_i64();
        let guesses = row.get("guesses").and_then(|kept| Guesses::deserialize(kept).ok());
        Self {
            oid: oid("table_oid").unwrap_or_default(),
            name: text("table_name").unwrap_or_default(),
            backfilled: text("backfilled_at").is_some(),
            publication: oid("publication_oid").zip(oid("publication_table_oid")),
            publication_rows: text("publication_rows"),
            republish_why: text("republish_why"),
            copy_through: number("copy_through"),
            copied_through: number("copied_through"),
            copy_order: text("copy_order"),
            guesses: guesses.unwrap_or_default(),
            streamed_from: text("streamed_from").and_then(|number| number.parse().ok()),
        }
    }
}

/// What is remembered about a slot, if anything.
///
/// # Errors
/// When the database refuses.
pub async fn load(session: &Session, slot: &str) -> Result<Option<Memory>, DatabaseError> {
    if !exists(session).await? {
        return Ok(None);
    }
    let sql = "select system_identifier, confirmed_lsn, epoch, timeline, \
                   (select coalesce(jsonb_agg(to_jsonb(o) order by o.table_name), '[]') from walpost.outbox o \
                    where o.slot_name = s.slot_name), messages \
               from walpost.slot s where slot_name = $1";
    let row = session.client().query_opt(sql, &[&slot]).await.map_err(session.error("read walpost.slot"))?;
    Ok(row.map(|row| {
        let tables: Value = row.get(4);
        Memory {
            system: row.get(0),
            confirmed: Lsn(row.get::<_, PgLsn>(1).into()),
            epoch: row.get(2),
            timeline: row.get::<_, Option<i32>>(3).and_then(|timeline| u32::try_from(timeline).ok()),
            tables: tables.as_array().into_iter().flatten().map(TableMemory::read).collect(),
            messages: row.get(5),
        }
    }))
}
