//! What may be found, and what mends it.

use crate::postgres::DatabaseError;
use crate::postgres::names::{literal, with_filter};
use walpost_core::event::OutboxError;
use walpost_core::lsn::Lsn;

/// Something on Postgres is not as it must be; going on could lose events.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unsafe {
    /// Logical decoding is off.
    #[error("wal_level is `{0}`, logical replication needs `logical`")]
    WalLevel(String),
    /// No such table.
    #[error("the outbox table {0} does not exist in this database")]
    TableMissing(String),
    /// Two of the settings stand for one table.
    #[error("two of the settings `[[outbox]]` stand for the table {0}")]
    TableTwice(String),
    /// A table is followed that the settings do not name.
    #[error(
        "walpost has followed {0} by this slot, and the settings do not name it any more: its rows would be passed over"
    )]
    TableForgotten(String),
    /// Messages are followed that the settings do not name.
    #[error(
        "walpost has followed messages with the prefix `{prefix}` by this slot, and the settings do not name it any more: they \
            would be passed over"
    )]
    MessagesForgotten {
        /// The slot.
        slot: String,
        /// The prefix.
        prefix: String,
    },
    /// The slot is gone, and messages with it.
    #[error(
        "the replication slot `{slot}` does not exist any more, and messages with the prefix {prefixes} went with it"
    )]
    MessagesLost {
        /// The slot.
        slot: String,
        /// The prefixes.
        prefixes: String,
    },
    /// Messages are not converted.
    #[error(
        "the database is in {0}, and the content of logical messages comes as it stands there, unlike rows: walpost takes it for \
            UTF-8"
    )]
    MessagesEncoding(String),
    /// It is something else than an ordinary table.
    #[error("{table} is {what}: walpost follows an ordinary table, whose rows come under its own name")]
    TableKind {
        /// The table.
        table: String,
        /// What it is.
        what: &'static str,
    },
    /// Other tables inherit from it.
    #[error(
        "the outbox table {table} has child tables ({children}): their rows come in the stream under their own \
            names, and would be passed over"
    )]
    TableHasChildren {
        /// The table.
        table: String,
        /// They.
        children: String,
    },
    /// Its rows are not in the WAL.
    #[error("the outbox table {0} is unlogged or temporary: its rows are not in the WAL")]
    TableUnlogged(String),
    /// Policies hide rows from this role.
    #[error(
        "row-level security of {table} may hide rows from the role {role}: what walpost reads from the table \
            would be incomplete"
    )]
    RowSecurity {
        /// The table.
        table: String,
        /// The role.
        role: String,
        /// The role owns the table, and its policies are for the owner, too.
        is_forced: bool,
    },
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
        /// The row filter that it is to have there.
        filter: Option<String>,
    },
    /// The publication was altered or made anew, or the table was taken out of it and put back.
    #[error(
        "the publication `{publication}` is not as it was when it was followed: it was altered or made anew, or \
            {table} was taken out of it and put back; rows inserted meanwhile may have been skipped without an error"
    )]
    PublicationChanged {
        /// The publication.
        publication: String,
        /// The table.
        table: String,
    },
    /// The slot's position lies before the publication was made.
    #[error("the publication `{0}` is younger than the slot's position: Postgres cannot read on from there")]
    PublicationYounger(String),
    /// Found earlier, and not mended by publishing the table.
    #[error("rows may be missing in the stream: {0}")]
    RowsMayBeMissing(String),
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
    /// The publication has rows of a partitioned table under the names of its partitions.
    #[error(
        "the publication `{publication}` publishes rows of the partitioned table {table} under the names of its partitions: \
            they would be skipped without an error"
    )]
    PublicationByPartitions {
        /// The publication.
        publication: String,
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
    /// Nobody has used it, so nobody can have published what came before.
    #[error(
        "there is no replication slot `{0}` to take over, so nothing says which rows another tool has published"
    )]
    NothingToTakeOver(String),
    /// Nothing says that the publication is older than the slot's position: rows between the two are in the stream of nobody.
    #[error(
        "the publication `{publication}` is not known to be older than the position of the slot `{slot}`: rows that were \
            written before it are not in the stream, and would be taken for published"
    )]
    PublicationYoung {
        /// The publication.
        publication: String,
        /// The slot.
        slot: String,
    },
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
    /// The schema is of a newer version.
    #[error(
        "the schema walpost is of version {found}, which a newer walpost made: this one knows versions up to {known}"
    )]
    LedgerNew {
        /// The version.
        found: i32,
        /// The newest that is known.
        known: i32,
    },
    /// This role may not write into the schema.
    #[error(
        "the role {0} may not read and write the tables of the schema walpost, where walpost keeps what it must remember"
    )]
    LedgerDenied(String),
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
    /// Whether it is about the publication, whose catalogue rows show each alteration.
    #[must_use]
    pub fn is_of_the_publication(&self) -> bool {
        self.lets_rows_pass()
            && !matches!(
                self,
                Self::TableKind { .. }
                    | Self::TableHasChildren { .. }
                    | Self::TableUnlogged(_)
                    | Self::PublicationYounger(_)
            )
    }

    /// Whether it is about what all tables have in common.
    #[must_use]
    pub fn is_of_every_table(&self) -> bool {
        matches!(self, Self::PublicationMissing(_) | Self::PublicationLacksInserts(_) | Self::WalLevel(_))
    }

    /// The table at fault, where it is one that the catalogue's rows of the publication say nothing of.
    #[must_use]
    pub fn table_at_fault(&self) -> Option<&str> {
        match self {
            Self::TableKind { table, .. }
            | Self::TableHasChildren { table, .. }
            | Self::TableUnlogged(table) => Some(table),
            _ => None,
        }
    }

    /// Whether it means that rows may be missing in the stream, also when all is well again: then the ledger must know of
    /// it, and only the publishing of the table takes it back.
    ///
    /// The publication's findings leave a trace in the catalogue as well: whatever mends one of them writes its rows
    /// anew, so what is remembered of them never fits again (`catalogue_rows`). So they are not forgotten either where
    /// the ledger cannot be written at that moment, because the database is read-only. Without that trace are children
    /// that were taken away again, whose rows are no rows of the table, and a table that was unlogged.
    #[must_use]
    pub fn lets_rows_pass(&self) -> bool {
        match self {
            // Its rows came under the name of the table that it is a part of, where the publication has them so.
            Self::TableKind { what: "a partition", .. }
            | Self::TableHasChildren { .. }
            | Self::TableUnlogged(_)
            | Self::PublicationMissing(_)
            | Self::PublicationLacksTable { .. }
            | Self::PublicationChanged { .. }
            | Self::PublicationYounger(_)
            | Self::PublicationLacksInserts(_)
            | Self::PublicationByPartitions { .. }
            | Self::PublicationLacksGenerated { .. }
            | Self::PublicationFilters { .. } => true,
            Self::WalLevel(_)
            | Self::TableMissing(_)
            | Self::TableTwice(_)
            | Self::TableForgotten(_)
            | Self::MessagesForgotten { .. }
            | Self::MessagesLost { .. }
            | Self::MessagesEncoding(_)
            | Self::TableKind { .. }
            | Self::RowSecurity { .. }
            | Self::Outbox(_)
            | Self::RowsMayBeMissing(_)
            | Self::SlotMissing(_)
            | Self::NothingToTakeOver(_)
            | Self::PublicationYoung { .. }
            | Self::SlotForeignPlugin { .. }
            | Self::SlotForeignDatabase { .. }
            | Self::SlotLost { .. }
            | Self::SlotActive { .. }
            | Self::SlotUnknown(_)
            | Self::LedgerOld
            | Self::LedgerNew { .. }
            | Self::LedgerDenied(_)
            | Self::SlotAhead { .. }
            | Self::SystemChanged { .. } => false,
        }
    }

    /// What the operator can do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::WalLevel(_) => "set wal_level = logical in postgresql.conf and restart Postgres".into(),
            Self::TableMissing(table) => format!(
                "apply the migrations that make {table}, or name the table \
                with --table"
            ),
            Self::TableTwice(table) => format!("let one of them stand for {table}: name another table, or a narrower pattern"),
            Self::TableForgotten(tables) => format!(
                "name it again; or, where it is to be published no more: once a relay that names it has published its last \
                 rows, run `alter publication … drop table {tables}` and `delete from walpost.outbox where table_oid = \
                 '{tables}'::regclass`"
            ),
            Self::MessagesForgotten { slot, prefix } => {
                let prefix = literal(prefix);
                format!(
                    "name it again; or, where they are to be published no more: once a relay that names it has published the \
                     last ones, run `update walpost.slot set messages = array_remove(messages, {prefix}) where slot_name = \
                     '{slot}'`"
                )
            }
            Self::MessagesLost { .. } => "run `walpost recover`, which makes a new slot and publishes what tables hold: with \
                --messages-lost, since no table holds those; where the application can emit them again, have it do so \
                afterwards"
                .into(),
            Self::MessagesEncoding(_) => "keep events in a table, or have a database in UTF8".into(),
            Self::TableKind { .. } => "name an ordinary table with --table, or a partitioned one whose partitions are \
                ordinary tables (one partition's rows are not all)"
                .into(),
            Self::TableHasChildren { table, .. } => format!(
                "for each child: move its rows into {table} (`with moved as (delete from only CHILD returning *) \
                 insert into {table} select * from moved`) and run `alter table CHILD no inherit {table}`; then run \
                 `walpost recover`, if walpost has followed the table before"
            ),
            Self::TableUnlogged(table) => format!("run `alter table {table} set logged`; {RECOVER}"),
            Self::RowSecurity { table, is_forced: true, .. } => {
                format!("run `alter table {table} no force row level security` (the role owns the table)")
            }
            Self::RowSecurity { role, .. } => {
                format!("run `alter role {role} bypassrls` as a superuser; a policy for the role is not enough")
            }
            Self::PublicationYounger(_) => "run `walpost recover`: it makes the slot anew, publishes what the \
                table holds and Kafka may lack, and goes on (where only messages are followed any publication that is as old \
                as the slot's position will do: name it with --publication; or leave them with `walpost recover --anew \
                --messages-lost`)"
                .into(),
            Self::RowsMayBeMissing(_) => "run `walpost recover`: it publishes what the table holds and Kafka may \
                lack, and goes on"
                .into(),
            Self::Outbox(error) => error.remedy(),
            Self::PublicationMissing(_) => format!("run `walpost init` as the owner of the table, which makes it; {RECOVER}"),
            Self::PublicationLacksTable { publication, table, filter } => {
                let table = with_filter(table, filter.as_deref());
                format!("run `alter publication {publication} add table {table}`; {RECOVER}")
            }
            Self::PublicationLacksInserts(publication) => {
                format!("run `alter publication {publication} set (publish = 'insert')`; {RECOVER}")
            }
            Self::PublicationFilters { publication, table, .. } => {
                format!(
                    "give walpost the filter by --where, where that was left away; or run `alter publication {publication} drop table \
                     {table}` and `alter publication {publication} add table {table}`, with the filter that --where has, or without one (`add table {table} where (…)`); {RECOVER}"
                )
            }
            Self::PublicationByPartitions { publication, .. } => format!(
                "run `alter publication {publication} set (publish_via_partition_root = true)`; {RECOVER}"
            ),
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
            Self::NothingToTakeOver(_) => "name the other tool's slot with --slot (`select slot_name, plugin from \
                pg_replication_slots`); without `--rows-before published` init makes a new one, and the rows of the table are \
                published from it"
                .into(),
            Self::PublicationYoung { publication, slot } => format!(
                "name the publication of the other tool with --publication; if it is `{publication}`, and was altered lately, \
                 let the other tool go on until the slot `{slot}` is past that (half a minute with traffic), and stop it again; where \
                 you know that it is older (a slot that was just made has the age of the oldest slot of the server), say so with \
                 --publication-is-older; without `--rows-before published` the rows of the table are published, those from before, too"
            ),
            Self::SlotForeignPlugin { .. } | Self::SlotForeignDatabase { .. } => "name another slot with \
                --slot, and run `walpost init`"
                .into(),
            Self::SlotLost { .. } | Self::SlotAhead { .. } => "no event in the table is lost: run `walpost \
                recover`, which makes a new slot, publishes what the table holds and Kafka may lack, and goes on"
                .into(),
            Self::SlotActive { .. } => "stop the relay that streams from it first".into(),
            Self::SlotUnknown(_) => "run `walpost init`, which takes the slot over: with `--rows-before published` where \
                another tool has published the earlier rows"
                .into(),
            Self::LedgerOld => "run `walpost init` once as the role that owns the schema walpost, then start \
                walpost again"
                .into(),
            Self::LedgerDenied(role) => format!(
                "run `grant usage on schema walpost to {role}; grant select, insert, update, delete on all tables in schema \
                 walpost to {role}` as its owner"
            ),
            Self::LedgerNew { .. } => "run the newer walpost; this one must not write there".into(),
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
    /// It answered from a standby.
    #[error("{0} is a standby")]
    Standby(String),
    /// It would have commits wait for this program.
    #[error("synchronous_standby_names of {place} is `{names}`")]
    Awaited {
        /// The server.
        place: String,
        /// The setting.
        names: String,
    },
    /// Another connection leads to another server.
    #[error("{0} is not the server that another connection leads to")]
    TwoServers(String),
    /// It did, and it is not safe to go on.
    #[error(transparent)]
    Unsafe(#[from] Unsafe),
}

impl From<OutboxError> for PreflightError {
    fn from(error: OutboxError) -> Self {
        Self::Unsafe(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_rows_pass_is_written_down() {
        let kind = |what| Unsafe::TableKind { table: "public.outbox".into(), what };
        assert!(kind("a partition").lets_rows_pass() && !kind("a partition").is_of_the_publication());
        assert!(!kind("a view").lets_rows_pass(), "a wrong setting is no gap");
        assert!(Unsafe::TableUnlogged("public.outbox".into()).lets_rows_pass());
        assert!(!Unsafe::SlotMissing("s".into()).lets_rows_pass());
    }
}
