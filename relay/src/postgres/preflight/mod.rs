//! What must hold on Postgres before anything is streamed, and while it is.
//!
//! Each of these is a way in which a relay loses events in silence, or loops on an error that says little; here it has
//! a name and a remedy. [`verify`] asks for all of it, in the order in which the answers mean something; commands that
//! make or mend a part of it ask for the parts.
//!
//! A finding which says that rows may have passed ([`Unsafe::lets_rows_pass`]) is written into the ledger by those who
//! stream, before they stop: see `ledger::find`.

mod finding;
mod generated;
mod publication;
mod server;
mod slot;
mod table;

pub use finding::{PreflightError, Unsafe};
pub(crate) use publication::catalogue_rows;
pub use publication::{
    PublicationId, check_kept, check_publication, check_publication_is_older, publication_exists,
};
pub use server::{check_not_awaited, check_one_server, check_server, decodes_alterations, system};
pub use slot::{SlotFacts, check_memory, check_slot, slot_facts};
pub use table::{Outbox, check_row_security, check_table, try_condition};

use crate::config::SourceSettings;
use crate::postgres::Server;
use crate::postgres::Session;
use crate::postgres::catalogue;
use crate::postgres::ledger::{self, Memory, TableMemory};
use walpost_core::event::OutboxTable;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::{Oid, Relation};

/// What was found, and is as it must be.
#[derive(Debug)]
pub struct Found {
    /// The tables, in the order in which the settings name them.
    pub tables: Vec<FoundTable>,
    /// Tables that a pattern stands for, and that are not followed: why not.
    pub unpublished: Vec<Unpublished>,
    /// The slot.
    pub slot: SlotFacts,
    /// What is remembered about it.
    pub memory: Memory,
    /// The position that the slot has not passed: the remembered one, or that of a slot which a failover brought along.
    pub remembered: Lsn,
}

/// A table that was found.
#[derive(Debug, Clone)]
pub struct FoundTable {
    /// The table as the catalogue has it.
    pub relation: Relation,
    /// The same with what the settings say of it, and all that was guessed.
    pub table: OutboxTable,
    /// The publication, and the table's entry in it.
    pub publication: PublicationId,
    /// What is remembered about it; nothing of one that has appeared.
    pub memory: Option<TableMemory>,
}

/// A table that a pattern stands for, and that is not followed.
#[derive(Debug, Clone)]
pub struct Unpublished {
    /// The table.
    pub table: OutboxTable,
    /// What is not as it must be.
    pub why: Unsafe,
}

impl Found {
    /// Whether the rows from before the slot are published, of every table.
    #[must_use]
    pub fn is_backfilled(&self) -> bool {
        self.tables.iter().all(FoundTable::is_backfilled)
    }
}

impl FoundTable {
    /// Whether the rows from before the slot are published.
    #[must_use]
    pub fn is_backfilled(&self) -> bool {
        self.memory.as_ref().is_some_and(|memory| memory.backfilled)
    }
}

/// A table that the settings stand for, and whether it can be followed.
#[derive(Debug)]
pub struct Published {
    /// The table as the settings have it.
    pub named: OutboxTable,
    /// Its object id.
    pub oid: Option<Oid>,
    /// The same with what is known of it, and the publication's entry; or what is not as it must be.
    pub found: Result<(Outbox, PublicationId), Unsafe>,
}

/// Asks for everything that must hold while the slot is streamed from. `server` is the one that the stream comes from.
///
/// The questions are asked one after the other, and a table may be altered between two of them: a column that is renamed
/// there looks as if the publication left it out, a table that goes by another name as if nobody named it any more. So
/// nobody halts before all is asked once more: one alteration cannot lie in both. What was true and is mended between the
/// two has left its trace in the catalogue.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn verify(
    session: &Session,
    source: &SourceSettings,
    server: &Server,
) -> Result<Found, PreflightError> {
    match ask(session, source, server).await {
        Err(PreflightError::Unsafe(_)) => ask(session, source, server).await,
        found => found,
    }
}

async fn ask(session: &Session, source: &SourceSettings, server: &Server) -> Result<Found, PreflightError> {
    // Before all else: on a standby the rest is as the primary had it a while ago.
    check_server(session).await?;
    if server.in_recovery {
        return Err(PreflightError::Standby(session.place().to_owned()));
    }
    check_encoding(session, source)?;
    let published = check_tables(session, source).await?;
    // The slot before the memory, which is never behind it.
    let slot = check_slot(session, source).await?;
    let memory = ledger::load(session, &source.slot).await?;
    let memory = memory.ok_or_else(|| Unsafe::SlotUnknown(source.slot.clone()))?;
    let remembered = check_memory(&slot, &memory, server)?;
    let (tables, unpublished) = check_all_kept(source, published, &memory)?;
    check_none_forgotten(session, source, &tables, &memory).await?;
    Ok(Found { tables, unpublished, slot, memory, remembered })
}

/// Checks the tables, each with the publication. What is wrong with a table that only a pattern stands for is given back: it
/// is no reason not to follow the others.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn check_tables(
    session: &Session,
    source: &SourceSettings,
) -> Result<Vec<Published>, PreflightError> {
    let mut published: Vec<Published> = Vec::new();
    for named in tables(session, source).await? {
        let (oid, found) = match check_one(session, source, &named).await {
            Ok((outbox, publication)) => (Some(outbox.relation.id), Ok((outbox, publication))),
            // It was dropped between two questions.
            Err(PreflightError::Unsafe(Unsafe::TableMissing(_))) if named.found_by.is_some() => continue,
            Err(PreflightError::Unsafe(why)) if named.found_by.is_some() => {
                (catalogue::oid_of(session, &named).await?, Err(why))
            }
            Err(error) => return Err(error),
        };
        if oid.is_some() && published.iter().any(|other| other.oid == oid) {
            return Err(Unsafe::TableTwice(named.name()).into());
        }
        published.push(Published { named, oid, found });
    }
    // Nobody has looked at it where a pattern stands for no table.
    if published.is_empty() && !publication_exists(session, &source.publication).await? {
        return Err(Unsafe::PublicationMissing(source.publication.clone()).into());
    }
    Ok(published)
}

async fn check_one(
    session: &Session,
    source: &SourceSettings,
    named: &OutboxTable,
) -> Result<(Outbox, PublicationId), PreflightError> {
    let outbox = check_table(session, named).await?;
    let publication = check_publication(session, &source.of(outbox.table.clone()), &outbox.relation).await?;
    Ok((outbox, publication))
}

/// The tables that the settings stand for.
///
/// # Errors
/// When two of the settings stand for one table, or the database refuses.
pub async fn tables(session: &Session, source: &SourceSettings) -> Result<Vec<OutboxTable>, PreflightError> {
    let tables = catalogue::expand(session, &source.tables).await?;
    for (index, table) in tables.iter().enumerate() {
        if tables[..index].iter().any(|other| other.name() == table.name()) {
            return Err(Unsafe::TableTwice(table.name()).into());
        }
    }
    Ok(tables)
}

fn check_all_kept(
    source: &SourceSettings,
    published: Vec<Published>,
    memory: &Memory,
) -> Result<(Vec<FoundTable>, Vec<Unpublished>), PreflightError> {
    let (mut tables, mut unpublished) = (Vec::new(), Vec::new());
    for Published { named, oid, found } in published {
        let known = oid.and_then(|oid| memory.table(oid));
        let (Outbox { relation, table }, publication) = match found {
            // What concerns all of them is told of them all.
            Err(why) if known.is_none() && !why.is_of_every_table() => {
                unpublished.push(Unpublished { table: named, why });
                continue;
            }
            found => found?,
        };
        let source = source.of(table);
        check_kept(&source, &publication, known, memory)?;
        let memory = known.cloned();
        tables.push(FoundTable { relation, table: source.table, publication, memory });
    }
    Ok((tables, unpublished))
}

/// Checks that the content of messages is what it is taken for.
///
/// # Errors
/// When it is not.
pub fn check_encoding(session: &Session, source: &SourceSettings) -> Result<(), Unsafe> {
    match session.encoding() {
        encoding if encoding != "UTF8" && !source.messages.is_empty() => {
            Err(Unsafe::MessagesEncoding(encoding.to_owned()))
        }
        _ => Ok(()),
    }
}

/// Checks that the settings name every table, and every prefix of messages, that is followed: it would be passed over.
///
/// # Errors
/// When there is one that they do not name, or the database refuses.
pub async fn check_none_forgotten(
    session: &Session,
    source: &SourceSettings,
    tables: &[FoundTable],
    memory: &Memory,
) -> Result<(), PreflightError> {
    check_messages(source, memory)?;
    // One whose name another has taken is told of by `check_kept`, unless a pattern stands for both.
    let is_found = |known: &&TableMemory| {
        let is_it = |found: &FoundTable| {
            found.relation.id == known.oid
                || (found.table.found_by.is_none() && found.table.name() == known.name)
        };
        tables.iter().any(is_it)
    };
    let missing: Vec<Oid> =
        memory.tables.iter().filter(|known| !is_found(known)).map(|known| known.oid).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let sql = "select format('%s.%s', n.nspname, c.relname), c.relispartition, c.relpersistence <> 'p' from pg_class c \
               join pg_namespace n on n.oid = c.relnamespace where c.oid = any($1) order by c.oid limit 1";
    let row = session.client().query_opt(sql, &[&missing]).await;
    // Those that are not there were dropped.
    let Some(row) = row.map_err(session.error("look for tables that were followed"))? else { return Ok(()) };
    let table: String = row.get(0);
    Err(match (row.get(1), row.get(2)) {
        // No pattern stands for these, and their rows pass.
        (true, _) => Unsafe::TableKind { table, what: "a partition" },
        (_, true) => Unsafe::TableUnlogged(table),
        _ => Unsafe::TableForgotten(table),
    }
    .into())
}

fn check_messages(source: &SourceSettings, memory: &Memory) -> Result<(), Unsafe> {
    let prefixes = source.prefixes();
    let forgotten = memory.messages.iter().find(|known| !prefixes.contains(known));
    forgotten.map_or(Ok(()), |prefix| {
        Err(Unsafe::MessagesForgotten { slot: source.slot.clone(), prefix: prefix.clone() })
    })
}
