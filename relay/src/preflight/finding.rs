//! What may be found, and what mends it.

use crate::database::DatabaseError;
use crate::lsn::Lsn;
use crate::outbox::OutboxError;

/// Something on Postgres is not as it must be; going on could lose events.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unsafe {
    /// Logical decoding is off.
    #[error("wal_level is `{0}`, logical replication needs `logical`")]
    WalLevel(String),
    /// No such table.
    #[error("the outbox table {0} does not exist in this database, or is not an ordinary table")]
    TableMissing(String),
    /// A column is missing or of the wrong type.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// No such publication.
    #[error("the publication `{0}` does not exist")]
    PublicationMissing(String),
    /// The publication does not have the table.
    #[error(
        "the publication `{publication}` does not hold the table {table}: its rows would be skipped without \
            an error"
    )]
    PublicationLacksTable {
        /// The publication.
        publication: String,
        /// The table.
        table: String,
    },
    /// The publication was made anew, or the table was taken out of it and put back.
    #[error(
        "the publication `{publication}` is not the one that was followed, or {table} was taken out of it and \
            put back: rows inserted meanwhile were skipped without an error"
    )]
    PublicationChanged {
        /// The publication.
        publication: String,
        /// The table.
        table: String,
    },
    /// The publication does not publish inserts.
    #[error("the publication `{0}` does not publish inserts")]
    PublicationLacksInserts(String),
    /// The publication leaves rows or columns out.
    #[error("the publication `{publication}` filters {what} of {table}")]
    PublicationFilters {
        /// The publication.
        publication: String,
        /// Rows, or a column that an event needs.
        what: String,
        /// The table.
        table: String,
    },
    /// The publication leaves a generated column out, as it does by default.
    #[error(
        "the column `{column}` of {table} is generated, and the publication `{publication}` does not publish generated \
            columns: it is in the table and not in the stream"
    )]
    PublicationLacksGenerated {
        /// The publication.
        publication: String,
        /// The column.
        column: String,
        /// The table.
        table: String,
        /// Whether this server can publish it.
        may_publish: bool,
    },
    /// No such slot.
    #[error("the replication slot `{0}` does not exist")]
    SlotMissing(String),
    /// The slot is of another kind.
    #[error("the replication slot `{slot}` has the plugin `{plugin}`, walpost needs pgoutput")]
    SlotForeignPlugin {
        /// The slot.
        slot: String,
        /// Its plugin, or "physical".
        plugin: String,
    },
    /// The slot is of another database.
    #[error("the replication slot `{slot}` belongs to the database `{database}`, the outbox is in another")]
    SlotForeignDatabase {
        /// The slot.
        slot: String,
        /// Its database.
        database: String,
    },
    /// The slot lost WAL that it needs.
    #[error("the replication slot `{slot}` is lost: {reason}")]
    SlotLost {
        /// The slot.
        slot: String,
        /// Postgres' word for it.
        reason: String,
    },
    /// Another relay has the slot, where nobody may.
    #[error("the slot `{slot}` is in use by the walsender with pid {pid}")]
    SlotActive {
        /// The slot.
        slot: String,
        /// The walsender.
        pid: i64,
    },
    /// Nothing is remembered about the slot.
    #[error(
        "the slot `{0}` is not known to walpost in this database: nothing says whether earlier rows were \
            published"
    )]
    SlotUnknown(String),
    /// The schema is of an older version, and this role may not change it.
    #[error("the schema walpost is of an older version, and this role may not bring it up to date")]
    LedgerOld,
    /// The slot was moved, or made anew.
    #[error(
        "the slot `{slot}` is at {at}, ahead of {remembered}, the last position walpost meant to confirm: it \
            was made anew or moved by someone else, and events between the two may never have been seen"
    )]
    SlotAhead {
        /// The slot.
        slot: String,
        /// Where it is.
        at: Lsn,
        /// Where it should be at the most.
        remembered: Lsn,
    },
    /// The database is on another server.
    #[error(
        "this server is not the one that the slot `{slot}` was made on (system identifier {found}, remembered \
            {remembered})"
    )]
    SystemChanged {
        /// The slot.
        slot: String,
        /// This server's identifier.
        found: String,
        /// The remembered one.
        remembered: String,
    },
}

/// What follows a publication that let rows pass.
const RECOVER: &str = "rows inserted meanwhile are not in the stream but in the table: then run `walpost recover`, \
    which publishes them";

impl Unsafe {
    /// What the operator can do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::WalLevel(_) => "set wal_level = logical in postgresql.conf and restart Postgres".into(),
            Self::TableMissing(table) => format!(
                "apply the migrations that make {table}, or name the table \
                with --table"
            ),
            Self::Outbox(error) => error.remedy(),
            Self::PublicationMissing(_) => format!("run `walpost init`, which makes it; {RECOVER}"),
            Self::PublicationLacksTable { publication, table } => {
                format!("run `alter publication {publication} add table {table}`; {RECOVER}")
            }
            Self::PublicationLacksInserts(publication) => {
                format!("run `alter publication {publication} set (publish = 'insert')`; {RECOVER}")
            }
            Self::PublicationFilters { publication, table, .. } => {
                format!("run `alter publication {publication} set table {table}`, without a filter; {RECOVER}")
            }
            Self::PublicationLacksGenerated { publication, may_publish: true, .. } => format!(
                "run `alter publication {publication} set (publish_generated_columns = stored)`, or name another column; \
                    where walpost ran before, then run `walpost recover`"
            ),
            Self::PublicationLacksGenerated { .. } => "name another column, or fill an ordinary one, by a trigger say: \
                this server publishes stored generated columns from version 18 on, and virtual ones never"
                .into(),
            Self::PublicationChanged { .. } => "run `walpost recover`: it publishes what the table holds and \
                Kafka may lack"
                .into(),
            Self::SlotMissing(_) => "if the slot was never made: run `walpost init`; if it was dropped: run \
                `walpost recover`, which makes it, publishes what the table holds and Kafka may lack, and goes on"
                .into(),
            Self::SlotForeignPlugin { .. } | Self::SlotForeignDatabase { .. } => "name another slot with \
                --slot, and run `walpost init`"
                .into(),
            Self::SlotLost { .. } | Self::SlotAhead { .. } => "no event in the table is lost: run `walpost \
                recover`, which makes a new slot, publishes what the table holds and Kafka may lack, and goes on"
                .into(),
            Self::SlotActive { .. } => "stop the relay that streams from it first".into(),
            Self::SlotUnknown(_) => "run `walpost init`, which takes the slot over".into(),
            Self::LedgerOld => "run `walpost init` once as the role that owns the schema walpost, then start \
                walpost again"
                .into(),
            Self::SystemChanged { .. } => "check --database-url; if this server is meant (a restored copy), \
                run `walpost recover`"
                .into(),
        }
    }
}

/// A finding of the preflight.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Postgres did not answer the question.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// It did, and it is not safe to go on.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
}

impl From<OutboxError> for PreflightError {
    fn from(error: OutboxError) -> Self {
        Self::Unsafe(error.into())
    }
}
