//! `walpost recover`: after a slot was lost, dropped or made anew, or a publication let rows pass; or, with `--anew`, when
//! the stream holds what cannot be read.
//!
//! It makes ready what `walpost run` then does anyway: a slot that is there, and a ledger which says that the rows of
//! the table are still to be published. The order makes an interruption harmless: until the ledger says so, as the last
//! step, the slot is missing or ahead of what is remembered, and `walpost run` halts on either. The rows are read after
//! the slot was made, in one snapshot: what committed before the slot's position is in the snapshot, what committed
//! later is in the stream, and nothing falls between.

use std::fmt;

use crate::cli::init;
use crate::config::{Settings, SourceSettings};
use crate::error::Error;
use crate::postgres::Server;
use crate::postgres::Session;
use crate::postgres::ledger::{self, Memory};
use crate::postgres::preflight::{self, FoundTable, Outbox, PreflightError, Published, SlotFacts, Unsafe};
use crate::relay::backfill;
use crate::relay::backfill::end::try_to_fix;
use crate::replication::Connection;

/// What is wrong, and what mends it.
#[derive(Debug)]
pub struct Plan {
    /// What was found, in words; `None` when there is nothing to recover.
    pub finding: Option<String>,
    /// Rows of the table that Kafka may lack; `None` while nothing is remembered that they could be judged by.
    pub rows: Option<i64>,
    steps: Steps,
    slot: String,
    system: String,
    /// The tables, with all that was guessed.
    tables: Vec<FoundTable>,
    /// The prefixes of messages that are followed.
    messages: Vec<String>,
}

/// What is to be done before the rows are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    Nothing,
    /// An earlier recovery, or a first start, was interrupted.
    GoOn,
    /// The slot is as it should be, but its stream may lack rows, of some of the tables.
    Republish,
    MakeSlot,
    ReplaceSlot,
}

impl Plan {
    fn reason(&self) -> &str {
        self.finding.as_deref().unwrap_or("the slot is made anew")
    }

    /// Whether there is anything to do.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.steps != Steps::Nothing
    }

    /// What goes with the slot, in words: messages that it held and Kafka lacks.
    #[must_use]
    pub fn lost_messages(&self) -> Option<String> {
        let loses_slot = matches!(self.steps, Steps::MakeSlot | Steps::ReplaceSlot);
        let prefixes =
            || self.messages.iter().map(|prefix| format!("`{prefix}`")).collect::<Vec<_>>().join(", ");
        (loses_slot && !self.messages.is_empty()).then(|| {
            format!("messages with the prefix {} that the slot held and Kafka lacks are lost", prefixes())
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = &self.slot;
        writeln!(
            f,
            "found    {}",
            self.finding.as_deref().unwrap_or("slot and publication are as they should be")
        )?;
        match self.steps {
            Steps::Nothing => return write!(f, "steps    none: nothing to recover, `walpost run` goes on"),
            Steps::GoOn => writeln!(f, "steps    publish the rows of the table, which was not finished")?,
            Steps::Republish => writeln!(f, "steps    keep the slot {slot}, publish the rows of the table")?,
            Steps::MakeSlot => writeln!(f, "steps    make the slot {slot}, publish the rows of the table")?,
            Steps::ReplaceSlot => {
                writeln!(f, "steps    drop the slot {slot}, make it anew, publish the rows of the table")?;
            }
        }
        if let Some(lost) = self.lost_messages() {
            writeln!(f, "lost     {lost}")?;
        }
        match self.rows {
            Some(rows) => write!(f, "rows     {rows} that Kafka may lack, in the order of their ids"),
            None => write!(f, "rows     all of the table, in the order of their ids"),
        }
    }
}

/// Finds out what is to be done; changes nothing. `anew`: the slot is to be left whatever its state, since its stream
/// holds what cannot be read.
///
/// # Errors
/// When something else must be mended first, another relay has the slot, or Postgres refuses.
pub async fn plan(settings: &Settings, anew: bool) -> Result<Plan, Error> {
    let timeout = settings.timing.connect_timeout;
    let source = &settings.source;
    let session = Session::connect(&settings.database, timeout).await?;
    preflight::check_server(&session).await?;
    let published = preflight::check_tables(&session, source).await?;
    ledger::check_version(&session).await?;
    let (connection, server) = Connection::open(&settings.database, timeout).await?;
    preflight::check_one_server(&session, connection.started_us())?;
    let found = preflight::check_slot(&session, source).await;
    let memory = ledger::load(&session, &source.slot).await?;
    let tables = tables(&session, source, published, memory.as_ref()).await?;
    let (steps, finding) = judge(source, found, memory.as_ref(), &tables, &server)?;
    let steps = if steps == Steps::Republish && !preflight::decodes_alterations(session.version()) {
        Steps::ReplaceSlot
    } else {
        steps
    };
    let steps = if anew && steps != Steps::MakeSlot { Steps::ReplaceSlot } else { steps };
    if matches!(steps, Steps::ReplaceSlot | Steps::Republish) {
        refuse_while_active(&session, &source.slot).await?;
    }
    // Only the publishing of the others is not to be done again.
    let is_due = |table: &FoundTable| match steps {
        Steps::Republish => fault(source, table, memory.as_ref()).is_some(),
        Steps::GoOn => !table.is_backfilled(),
        Steps::Nothing | Steps::MakeSlot | Steps::ReplaceSlot => true,
    };
    let tables: Vec<_> = tables.into_iter().filter(is_due).collect();
    let rows = match &finding {
        // What is remembered of transactions is about another server's.
        Some(Unsafe::SystemChanged { .. }) => None,
        _ if memory.is_none() => None,
        _ => count(&session, source, &tables).await?,
    };
    let (slot, system) = (source.slot.clone(), server.system);
    let asked = || anew.then(|| "the stream is to be left, as --anew says".to_owned());
    let finding = finding.map(|finding| finding.to_string()).or_else(asked);
    Ok(Plan { finding, rows, steps, slot, system, tables, messages: source.prefixes() })
}

/// The tables that the publication holds, with what is remembered of each.
async fn tables(
    session: &Session,
    source: &SourceSettings,
    published: Vec<Published>,
    memory: Option<&Memory>,
) -> Result<Vec<FoundTable>, Error> {
    let mut tables = Vec::new();
    for Published { oid, found, .. } in published {
        let known = oid.and_then(|oid| memory?.table(oid)).cloned();
        let (Outbox { relation, table }, publication) = match found {
            // Nobody has followed it.
            Err(_) if known.is_none() => continue,
            found => found?,
        };
        preflight::check_row_security(session, &table, relation.id).await?;
        tables.push(FoundTable { relation, table, publication, memory: known });
    }
    if let Some(memory) = memory {
        preflight::check_none_forgotten(session, source, &tables, memory).await?;
    }
    Ok(tables)
}

/// Rows to publish; `None` while nothing is remembered that they could be judged by.
async fn count(
    session: &Session,
    source: &SourceSettings,
    tables: &[FoundTable],
) -> Result<Option<i64>, Error> {
    let mut rows = 0;
    for FoundTable { relation, table, memory, .. } in tables {
        // By another condition other rows were published.
        if memory.as_ref().is_some_and(|memory| table.check_filter(&memory.guesses).is_err()) {
            return Ok(None);
        }
        rows += backfill::count(session, &source.of(table.clone()), relation.id).await?;
    }
    Ok(Some(rows))
}

/// Why a table has to be published again, if it has to be.
fn fault(source: &SourceSettings, table: &FoundTable, memory: Option<&Memory>) -> Option<Unsafe> {
    let FoundTable { table, publication, memory: known, .. } = table;
    preflight::check_kept(&source.of(table.clone()), publication, known.as_ref(), memory?).err()
}

fn judge(
    source: &SourceSettings,
    found: Result<SlotFacts, PreflightError>,
    memory: Option<&Memory>,
    tables: &[FoundTable],
    server: &Server,
) -> Result<(Steps, Option<Unsafe>), Error> {
    let facts = match found {
        Ok(facts) => facts,
        Err(PreflightError::Unsafe(missing @ Unsafe::SlotMissing(_))) => {
            return Ok((Steps::MakeSlot, Some(missing)));
        }
        Err(PreflightError::Unsafe(lost @ Unsafe::SlotLost { .. })) => {
            return Ok((Steps::ReplaceSlot, Some(lost)));
        }
        Err(error) => return Err(error.into()),
    };
    let Some(memory) = memory else { return Err(Unsafe::SlotUnknown(facts.slot_name).into()) };
    if let Err(moved) = preflight::check_memory(&facts, memory, server) {
        return Ok((Steps::ReplaceSlot, Some(moved)));
    }
    if let Some(changed) = tables.iter().find_map(|table| fault(source, table, Some(memory))) {
        // A slot that is older than the publication cannot be read on from: up to 17 Postgres looks the publication up as
        // it was at each position of the stream, and ends it where there was none.
        let is_another = tables.iter().any(|table| {
            let known = table.memory.as_ref().and_then(|memory| memory.publication);
            known.is_some_and(|(known, _)| known != table.publication.publication)
        });
        return Ok((if is_another { Steps::ReplaceSlot } else { Steps::Republish }, Some(changed)));
    }
    let is_done = tables.iter().all(FoundTable::is_backfilled);
    Ok((if is_done { Steps::Nothing } else { Steps::GoOn }, None))
}

async fn refuse_while_active(session: &Session, slot: &str) -> Result<(), Error> {
    match preflight::slot_facts(session, slot).await? {
        Some(SlotFacts { active: true, active_pid, .. }) => {
            Err(Unsafe::SlotActive { slot: slot.to_owned(), pid: active_pid.unwrap_or_default() }.into())
        }
        _ => Ok(()),
    }
}

/// Carries the plan out, up to the point from which `walpost run` does the rest.
///
/// # Errors
/// When Postgres refuses; run again, it goes on from where it was.
pub async fn prepare(settings: &Settings, plan: &Plan) -> Result<(), Error> {
    let source = &settings.source;
    let session = Session::connect(&settings.database, settings.timing.connect_timeout).await?;
    match plan.steps {
        Steps::Nothing | Steps::GoOn => return Ok(()),
        Steps::Republish => {
            for table in &plan.tables {
                ledger::republish(&session, &source.slot, table).await?;
            }
            fix_ends(&session, settings, plan).await;
            return Ok(());
        }
        Steps::ReplaceSlot | Steps::MakeSlot => {}
    }
    // Before anything is dropped: what follows needs the ledger, and may be interrupted.
    ledger::make(&session).await?;
    ledger::note_replacement(&session, &source.slot, plan.reason()).await?;
    if plan.steps == Steps::ReplaceSlot {
        let drop = "select pg_drop_replication_slot($1)";
        let dropped = session.client().execute(drop, &[&source.slot]).await;
        dropped.map_err(session.error("drop the slot"))?;
    }
    let at = init::make_slot(&session, &source.slot, settings.timing.slot_timeout).await?;
    ledger::begin(&session, source, &plan.system, at, &plan.tables, false).await?;
    fix_ends(&session, settings, plan).await;
    Ok(())
}

async fn fix_ends(session: &Session, settings: &Settings, plan: &Plan) {
    for FoundTable { table, relation, .. } in &plan.tables {
        let source = settings.source.of(table.clone());
        try_to_fix(session, &source, relation.id, settings.timing.slot_timeout).await;
    }
}
