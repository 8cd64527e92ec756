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
pub use publication::{PublicationId, check_kept, check_publication, publication_exists};
pub use server::{check_not_awaited, check_server, decodes_alterations, system};
pub use slot::{SlotFacts, check_memory, check_slot, slot_facts};
pub use table::{Outbox, check_row_security, check_table};

use crate::config::SourceSettings;
use crate::postgres::Server;
use crate::postgres::Session;
use crate::postgres::ledger::{self, Memory};
use walpost_core::event::OutboxTable;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Relation;

/// What was found, and is as it must be.
#[derive(Debug)]
pub struct Found {
    /// The table as the catalogue has it.
    pub relation: Relation,
    /// The same with what the settings say of it, and all that was guessed.
    pub table: OutboxTable,
    /// The publication.
    pub publication: PublicationId,
    /// The slot.
    pub slot: SlotFacts,
    /// What is remembered about it.
    pub memory: Memory,
    /// The position that the slot has not passed: the remembered one, or that of a slot which a failover brought along.
    pub remembered: Lsn,
}

/// Asks for everything that must hold while the slot is streamed from. `server` is the one that the stream comes from.
///
/// The questions are asked one after the other, and a table may be altered between two of them: a column that is renamed
/// there looks as if the publication left it out. So what is not forgotten for a while is asked for twice. What was true
/// and is mended between the two has left its trace in the catalogue.
///
/// # Errors
/// The first thing that is not as it must be.
pub async fn verify(
    session: &Session,
    source: &SourceSettings,
    server: &Server,
) -> Result<Found, PreflightError> {
    match ask(session, source, server).await {
        Err(PreflightError::Unsafe(finding)) if finding.lets_rows_pass() => {
            ask(session, source, server).await
        }
        found => found,
    }
}

async fn ask(session: &Session, source: &SourceSettings, server: &Server) -> Result<Found, PreflightError> {
    // Before all else: on a standby the rest is as the primary had it a while ago.
    check_server(session).await?;
    if server.in_recovery {
        return Err(PreflightError::Standby(session.place().to_owned()));
    }
    let Outbox { relation, table } = check_table(session, &source.table).await?;
    let resolved = SourceSettings { table, ..source.clone() };
    let publication = check_publication(session, &resolved, &relation).await?;
    // The slot before the memory, which is never behind it.
    let slot = check_slot(session, source).await?;
    let memory = ledger::load(session, &source.slot).await?;
    let memory = memory.ok_or_else(|| Unsafe::SlotUnknown(source.slot.clone()))?;
    let remembered = check_memory(&slot, &memory, server)?;
    check_kept(source, &publication, &memory)?;
    Ok(Found { relation, table: resolved.table, publication, slot, memory, remembered })
}
