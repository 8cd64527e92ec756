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
use crate::postgres::preflight::{self, Outbox, PreflightError, PublicationId, SlotFacts, Unsafe};
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
    publication: PublicationId,
    /// The table with all that was guessed.
    source: SourceSettings,
}

/// What is to be done before the rows are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Steps {
    Nothing,
    /// An earlier recovery, or a first start, was interrupted.
    GoOn,
    /// The slot is as it should be, but its stream may lack rows.
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
    let Outbox { relation, table } = preflight::check_table(&session, &source.table).await?;
    let source = &SourceSettings { table, ..source.clone() };
    preflight::check_row_security(&session, &source.table, relation.id).await?;
    let publication = preflight::check_publication(&session, source, &relation).await?;
    let (_, server) = Connection::open(&settings.database, timeout).await?;
    let found = preflight::check_slot(&session, source).await;
    let memory = ledger::load(&session, &source.slot).await?;
    let (steps, finding) = judge(settings, found, memory.as_ref(), &publication, &server)?;
    let steps = if steps == Steps::Republish && !preflight::decodes_alterations(session.version()) {
        Steps::ReplaceSlot
    } else {
        steps
    };
    let steps = if anew && steps != Steps::MakeSlot { Steps::ReplaceSlot } else { steps };
    if matches!(steps, Steps::ReplaceSlot | Steps::Republish) {
        refuse_while_active(&session, &source.slot).await?;
    }
    let rows = match &finding {
        // What is remembered of transactions is about another server's.
        Some(Unsafe::SystemChanged { .. }) => None,
        // By another condition other rows were published.
        _ if memory.as_ref().is_none_or(|memory| source.table.check_filter(&memory.guesses).is_err()) => None,
        _ => Some(backfill::count(&session, source).await?),
    };
    let (slot, system) = (source.slot.clone(), server.system);
    let asked = || anew.then(|| "the stream is to be left, as --anew says".to_owned());
    let finding = finding.map(|finding| finding.to_string()).or_else(asked);
    Ok(Plan { finding, rows, steps, slot, system, publication, source: source.clone() })
}

fn judge(
    settings: &Settings,
    found: Result<SlotFacts, PreflightError>,
    memory: Option<&Memory>,
    publication: &PublicationId,
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
    if let Err(changed) = preflight::check_kept(&settings.source, publication, memory) {
        // A slot that is older than the publication cannot be read on from: up to 17 Postgres looks the publication up as
        // it was at each position of the stream, and ends it where there was none.
        let is_another = memory.publication.is_some_and(|(known, _)| known != publication.publication);
        return Ok((if is_another { Steps::ReplaceSlot } else { Steps::Republish }, Some(changed)));
    }
    Ok((if memory.backfilled { Steps::Nothing } else { Steps::GoOn }, None))
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
    let source = &plan.source;
    let session = Session::connect(&settings.database, settings.timing.connect_timeout).await?;
    match plan.steps {
        Steps::Nothing | Steps::GoOn => return Ok(()),
        Steps::Republish => {
            ledger::upgrade(&session).await?;
            ledger::republish(&session, &source.slot, &plan.publication, &source.table).await?;
            ledger::keep_guesses(&session, &source.slot, &source.table.guesses).await?;
            try_to_fix(&session, source, settings.timing.slot_timeout).await;
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
    ledger::begin(&session, &source.slot, &plan.system, at, &plan.publication, &source.table).await?;
    ledger::keep_guesses(&session, &source.slot, &source.table.guesses).await?;
    try_to_fix(&session, source, settings.timing.slot_timeout).await;
    Ok(())
}
