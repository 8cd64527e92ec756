//! What must hold on Postgres before anything is streamed, and while it is.
//!
//! Each of these is a way in which a relay loses events in silence, or loops on an error that says little; here it has
//! a name and a remedy.

use chrono::DateTime;
use serde::Deserialize;
use serde_json::Value;

use crate::config::SourceSettings;
use crate::database::{DatabaseError, Session};
use crate::ledger::Memory;
use crate::lsn::Lsn;
use crate::outbox::{OutboxError, OutboxTable, Plan};
use crate::pgoutput::{Column, Oid, Relation};

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
            Self::Outbox(_) => {
                "put the column back, or name another with the setting, then start walpost again".into()
            }
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

/// A row of `pg_replication_slots`; columns that a version lacks are absent.
#[derive(Debug, Clone, Deserialize)]
pub struct SlotFacts {
    /// The slot's name.
    pub slot_name: String,
    /// `pgoutput` is ours.
    pub plugin: Option<String>,
    /// A logical slot belongs to one.
    pub database: Option<String>,
    /// Whether a walsender serves it now.
    pub active: bool,
    /// That walsender's process.
    pub active_pid: Option<i64>,
    /// From where WAL is kept for it.
    pub restart_lsn: Option<String>,
    /// Up to where the client has confirmed.
    pub confirmed_flush_lsn: Option<String>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Bytes that may be written until the slot is in danger; absent without a limit.
    pub safe_wal_size: Option<i64>,
    /// Why it is lost (17 and newer).
    pub invalidation_reason: Option<String>,
    /// Whether it is copied to standbys (17 and newer).
    pub failover: Option<bool>,
    /// Whether it is such a copy (17 and newer).
    pub synced: Option<bool>,
    /// Since when nobody is connected (17 and newer).
    pub inactive_since: Option<String>,
}

impl SlotFacts {
    /// The confirmed position.
    #[must_use]
    pub fn confirmed(&self) -> Option<Lsn> {
        self.confirmed_flush_lsn.as_deref()?.parse().ok()
    }

    /// Since when nobody is connected, milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn inactive_since_ms(&self) -> Option<i64> {
        let since = DateTime::parse_from_rfc3339(self.inactive_since.as_deref()?).ok()?;
        Some(since.timestamp_millis())
    }

    /// From where log is kept for it.
    #[must_use]
    pub fn restart(&self) -> Option<Lsn> {
        self.restart_lsn.as_deref()?.parse().ok()
    }
}

/// Checks the server and the table.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn check_table(session: &Session, table: &OutboxTable) -> Result<Relation, PreflightError> {
    let row = session.client().query_one("select current_setting('wal_level')", &[]).await;
    let wal_level: String = row.map_err(session.error("read wal_level"))?.get(0);
    if wal_level != "logical" {
        return Err(Unsafe::WalLevel(wal_level).into());
    }
    let relation = describe(session, table).await?.ok_or_else(|| Unsafe::TableMissing(table.name()))?;
    Plan::new(table, &relation)?;
    Ok(relation)
}

/// Which publication it is, and which entry of the table in it: both are new when either was made anew
/// (`pg_publication.oid`, `pg_publication_rel.oid`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicationId {
    /// The publication.
    pub publication: Oid,
    /// The table's entry; 0 where the publication has it with all tables, or with its schema.
    pub table: Oid,
}

/// Checks that the publication holds the table, whole; says which it is.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn check_publication(
    session: &Session,
    source: &SourceSettings,
) -> Result<PublicationId, PreflightError> {
    let publication = &source.publication;
    let sql = "select p.pubinsert, p.oid, coalesce((select r.oid from pg_publication_rel r \
                   join pg_class c on c.oid = r.prrelid join pg_namespace n on n.oid = c.relnamespace \
                   where r.prpubid = p.oid and n.nspname = $2 and c.relname = $3), 0::oid) \
               from pg_publication p where p.pubname = $1";
    let row = session
        .client()
        .query_opt(sql, &[publication, &source.table.schema, &source.table.table])
        .await
        .map_err(session.error("read pg_publication"))?;
    let row = row.ok_or_else(|| Unsafe::PublicationMissing(publication.clone()))?;
    if !row.get::<_, bool>(0) {
        return Err(Unsafe::PublicationLacksInserts(publication.clone()).into());
    }
    let found = PublicationId { publication: row.get(1), table: row.get(2) };
    let sql = "select to_jsonb(t) from pg_publication_tables t where pubname = $1 and schemaname = $2 and \
        tablename = $3";
    let row =
        session.client().query_opt(sql, &[publication, &source.table.schema, &source.table.table]).await;
    let row = row.map_err(session.error("read pg_publication_tables"))?.ok_or_else(|| {
        Unsafe::PublicationLacksTable { publication: publication.clone(), table: source.table.name() }
    })?;
    check_filters(source, &row.get::<_, Value>(0))?;
    Ok(found)
}

/// Checks that the publication is the one that is remembered, if one is.
///
/// # Errors
/// When it is not: what was inserted while it was away is not in the stream.
pub fn check_kept(source: &SourceSettings, found: PublicationId, memory: &Memory) -> Result<(), Unsafe> {
    match memory.publication {
        Some(remembered) if remembered != found => Err(Unsafe::PublicationChanged {
            publication: source.publication.clone(),
            table: source.table.name(),
        }),
        _ => Ok(()),
    }
}

/// Row filters and column lists came with 15.
fn check_filters(source: &SourceSettings, row: &Value) -> Result<(), Unsafe> {
    let filters = |what: String| Unsafe::PublicationFilters {
        publication: source.publication.clone(),
        what,
        table: source.table.name(),
    };
    if row.get("rowfilter").is_some_and(|filter| !filter.is_null()) {
        return Err(filters("rows".into()));
    }
    let Some(published) = row.get("attnames").and_then(Value::as_array) else { return Ok(()) };
    let is_left_out = |column: &&(_, String)| !published.iter().any(|name| name.as_str() == Some(&column.1));
    match source.table.columns.iter().find(is_left_out) {
        Some((_, column)) => Err(filters(format!("the column `{column}`"))),
        None => Ok(()),
    }
}

/// Checks that the slot is there, is ours and is whole.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn check_slot(session: &Session, source: &SourceSettings) -> Result<SlotFacts, PreflightError> {
    let slot = &source.slot;
    let facts = slot_facts(session, slot).await?.ok_or_else(|| Unsafe::SlotMissing(slot.clone()))?;
    if facts.plugin.as_deref() != Some("pgoutput") {
        let plugin = facts.plugin.unwrap_or_else(|| "none, it is physical".into());
        return Err(Unsafe::SlotForeignPlugin { slot: slot.clone(), plugin }.into());
    }
    let row = session.client().query_one("select current_database()::text", &[]).await;
    let here: String = row.map_err(session.error("read the database's name"))?.get(0);
    if facts.database.as_deref() != Some(&here) {
        let database = facts.database.unwrap_or_default();
        return Err(Unsafe::SlotForeignDatabase { slot: slot.clone(), database }.into());
    }
    if facts.wal_status.as_deref() == Some("lost") || facts.invalidation_reason.is_some() {
        let reason = facts.invalidation_reason.unwrap_or_else(|| "WAL that it needs was removed".into());
        return Err(Unsafe::SlotLost { slot: slot.clone(), reason }.into());
    }
    Ok(facts)
}

/// Checks the slot against what is remembered. The slot's facts must have been read before the memory.
///
/// # Errors
/// When the slot is not the one that was left.
pub fn check_memory(facts: &SlotFacts, memory: &Memory, system: &str) -> Result<(), Unsafe> {
    let slot = facts.slot_name.clone();
    if memory.system != system {
        return Err(Unsafe::SystemChanged {
            slot,
            found: system.to_owned(),
            remembered: memory.system.clone(),
        });
    }
    match facts.confirmed() {
        Some(at) if at > memory.confirmed => {
            Err(Unsafe::SlotAhead { slot, at, remembered: memory.confirmed })
        }
        _ => Ok(()),
    }
}

/// The slot as Postgres sees it, if it is there.
///
/// # Errors
/// When the database refuses.
pub async fn slot_facts(session: &Session, slot: &str) -> Result<Option<SlotFacts>, DatabaseError> {
    let sql = "select to_jsonb(s) from pg_replication_slots s where slot_name = $1";
    let row = session
        .client()
        .query_opt(sql, &[&slot])
        .await
        .map_err(session.error("read pg_replication_slots"))?;
    // The view's columns have had these types since 9.4; those that came later are optional.
    Ok(row.and_then(|row| serde_json::from_value(row.get(0)).ok()))
}

/// The table as the catalogue has it, in the form in which the stream describes tables.
async fn describe(session: &Session, table: &OutboxTable) -> Result<Option<Relation>, DatabaseError> {
    let sql = "select c.oid, a.attname::text, a.atttypid from pg_class c join pg_namespace n on n.oid = c.relnamespace \
               left join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped \
               where n.nspname = $1 and c.relname = $2 and c.relkind = 'r' order by a.attnum";
    let rows = session.client().query(sql, &[&table.schema, &table.table]).await;
    let rows = rows.map_err(session.error("read the table's columns"))?;
    let Some(first) = rows.first() else { return Ok(None) };
    let column =
        |row: &tokio_postgres::Row| Some(Column { name: row.get::<_, Option<_>>(1)?, type_oid: row.get(2) });
    Ok(Some(Relation {
        id: first.get(0),
        namespace: table.schema.clone(),
        name: table.table.clone(),
        columns: rows.iter().filter_map(column).collect(),
    }))
}
