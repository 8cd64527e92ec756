//! `walpost init`: publication, schema and slot. It takes over those that exist and fit, and may be repeated.

use std::time::Duration;

use tokio_postgres::types::PgLsn;

use crate::config::{Settings, SourceSettings};
use crate::error::Error;
use crate::postgres::Server;
use crate::postgres::ledger::{self, Memory, TableMemory};
use crate::postgres::names::{quoted, table_name, with_filter};
use crate::postgres::preflight::{self, FoundTable, Outbox, PreflightError, Published, SlotFacts, Unsafe};
use crate::postgres::{DatabaseError, Session};
use crate::registry;
use crate::relay::backfill::end::{holders, try_to_fix};
use crate::replication::Connection;
use walpost_core::event::OutboxTable;
use walpost_core::event::mapping::Choice;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Relation;

/// What was done, a line each.
pub type Steps = Vec<String>;

/// Of a slot that another tool has used: its rows from before the slot's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsBefore {
    /// Nobody says that Kafka has them: they are published from the table.
    Unpublished,
    /// The other tool has published them.
    Published {
        /// The operator says that the publication is older than the slot's position.
        publication_is_older: bool,
    },
}

/// What becomes of schemas that the settings have in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schemas {
    /// They must be registered.
    Find,
    /// They are registered.
    Register,
}

/// Makes what is missing.
///
/// # Errors
/// When something exists that does not fit, or Postgres refuses.
pub async fn run(settings: &Settings, before: RowsBefore, schemas: Schemas) -> Result<Steps, Error> {
    let timeout = settings.timing.connect_timeout;
    let registered = match schemas {
        Schemas::Register => registry::register(settings).await?,
        Schemas::Find => Vec::new(),
    };
    // Before anything is made: what cannot be published must not hold back the log.
    let source = &registry::with_schemas(settings).await?;
    let session = Session::connect(&settings.database, timeout).await?;
    preflight::check_server(&session).await?;
    if let RowsBefore::Published { publication_is_older } = before {
        check_takeover(&session, source, publication_is_older).await?;
    }
    preflight::check_encoding(&session, source)?;
    let (outboxes, looked_at) = look_at_tables(&session, source).await?;
    let mut steps = [registered, looked_at].concat();
    steps.extend(publications(&session, source, &outboxes).await?);
    let tables = published(&session, source).await?;
    let existed = ledger::exists(&session).await?;
    ledger::make(&session).await?;
    ledger::check_rights(&session).await?;
    steps.push(format!("schema walpost: {}", if existed { "there" } else { "made" }));
    let (connection, server) = Connection::open(&settings.database, timeout).await?;
    preflight::check_one_server(&session, connection.started_us())?;
    steps.extend(slot(&session, source, settings.timing.slot_timeout, &server, &tables, before).await?);
    for FoundTable { table, relation, .. } in &tables {
        let source = source.of(table.clone());
        try_to_fix(&session, &source, relation.id, settings.timing.slot_timeout).await;
    }
    steps.extend(tables.iter().filter_map(|found| warning(&found.table)));
    steps.extend(source.messages.iter().map(|messages| {
        format!(
            "messages `{}`: events from the slot's position on; there is no second copy: what a lost slot has not sent is lost",
            messages.prefix()
        )
    }));
    Ok(steps)
}

/// That rows are published can be said of a slot that another tool has used, and has left.
async fn check_takeover(
    session: &Session,
    source: &SourceSettings,
    publication_is_older: bool,
) -> Result<(), Error> {
    let slot = &source.slot;
    let known = ledger::load(session, slot).await?.is_some();
    match preflight::slot_facts(session, slot).await? {
        _ if known => Ok(()),
        None => Err(Unsafe::NothingToTakeOver(slot.clone()).into()),
        Some(SlotFacts { active: true, active_pid, .. }) => {
            Err(Unsafe::SlotActive { slot: slot.to_owned(), pid: active_pid.unwrap_or_default() }.into())
        }
        // Messages are in no publication.
        Some(_) if source.tables.is_empty() => Ok(()),
        Some(_) => match preflight::check_publication_is_older(session, source).await {
            Err(PreflightError::Unsafe(Unsafe::PublicationYoung { .. })) if publication_is_older => Ok(()),
            checked => Ok(checked?),
        },
    }
}

/// The tables, as they are, and what is to be said of them.
async fn look_at_tables(session: &Session, source: &SourceSettings) -> Result<(Vec<Outbox>, Steps), Error> {
    let (mut outboxes, mut steps) = (Vec::new(), Vec::new());
    for given in preflight::tables(session, source).await? {
        let outbox = preflight::check_table(session, &given).await?;
        preflight::check_row_security(session, &outbox.table, outbox.relation.id).await?;
        steps.push(format!("table {}: has every column an event needs", outbox.table.name()));
        steps.extend(guesses(&given, &outbox.table));
        outboxes.push(outbox);
    }
    let patterns = source.tables.iter().filter_map(OutboxTable::pattern);
    for pattern in patterns {
        if !outboxes.iter().any(|outbox| outbox.table.found_by.as_ref() == Some(&pattern)) {
            steps.push(format!("note: {pattern} stands for no table yet"));
        }
    }
    Ok((outboxes, steps))
}

/// Makes the publication, or brings in what is new.
async fn publications(
    session: &Session,
    source: &SourceSettings,
    outboxes: &[Outbox],
) -> Result<Steps, Error> {
    let name = &source.publication;
    if !preflight::publication_exists(session, name).await? {
        return Ok(vec![make_publication(session, name, outboxes).await?]);
    }
    if ledger::exists(session).await? {
        ledger::upgrade(session).await?;
    }
    let memory = ledger::load(session, &source.slot).await?;
    let mut steps = Vec::new();
    for Outbox { relation, table } in outboxes {
        match preflight::check_publication(session, &source.of(table.clone()), relation).await {
            Ok(_) if outboxes.len() == 1 => steps.push(format!("publication {name}: there, with the table")),
            Ok(_) => steps.push(format!("publication {name}: there, with the table {}", table.name())),
            Err(PreflightError::Unsafe(Unsafe::PublicationLacksTable { .. }))
                if memory.as_ref().is_some_and(|memory| is_new(memory, relation, table)) =>
            {
                let sql = format!("alter publication {} add table {}", quoted(name), entry(table));
                let doing = "bring the table into the publication";
                session.client().batch_execute(&sql).await.map_err(session.error(doing))?;
                steps.push(format!("publication {name}: takes in {}", table.name()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(steps)
}

/// Whether it is a table beside others that are followed, and was never followed itself: nothing of it can have been
/// passed over.
fn is_new(memory: &Memory, relation: &Relation, table: &OutboxTable) -> bool {
    let is_known = |known: &TableMemory| known.oid == relation.id || known.name == table.name();
    !memory.tables.iter().any(is_known)
}

async fn make_publication(session: &Session, name: &str, outboxes: &[Outbox]) -> Result<String, Error> {
    let entries: Vec<_> = outboxes.iter().map(|outbox| entry(&outbox.table)).collect();
    let tables = match entries.is_empty() {
        // There are patterns, or messages, which belong to no publication; Postgres demands one all the same.
        true => String::new(),
        false => format!(" for table {}", entries.join(", ")),
    };
    let has_partitions = outboxes.iter().any(|outbox| outbox.table.is_partitioned);
    let via_root = if has_partitions { ", publish_via_partition_root = true" } else { "" };
    let sql = format!("create publication {}{tables} with (publish = 'insert'{via_root})", quoted(name));
    session.client().batch_execute(&sql).await.map_err(session.error("make the publication"))?;
    let names: Vec<_> = outboxes.iter().map(|outbox| outbox.table.name()).collect();
    Ok(match names.is_empty() {
        true => format!("publication {name}: made, without a table"),
        false => format!("publication {name}: made, inserts of {} only", names.join(", ")),
    })
}

/// The table as a publication has it.
fn entry(table: &OutboxTable) -> String {
    with_filter(&table_name(table), table.filter.as_deref())
}

/// The tables with their publication, which has all of them by now.
async fn published(session: &Session, source: &SourceSettings) -> Result<Vec<FoundTable>, Error> {
    let mut tables = Vec::new();
    for Published { found, .. } in preflight::check_tables(session, source).await? {
        let (Outbox { relation, table }, publication) = found?;
        tables.push(FoundTable { relation, table, publication, memory: None });
    }
    Ok(tables)
}

async fn slot(
    session: &Session,
    source: &SourceSettings,
    timeout: Duration,
    server: &Server,
    tables: &[FoundTable],
    before: RowsBefore,
) -> Result<Steps, Error> {
    match preflight::check_slot(session, source).await {
        Ok(facts) => match ledger::load(session, &source.slot).await? {
            Some(memory) => {
                preflight::check_memory(&facts, &memory, server)?;
                let mut steps = keep(session, source, tables, &memory).await?;
                steps.push(format!("slot {}: there, at {}", source.slot, memory.confirmed));
                if matches!(before, RowsBefore::Published { .. }) {
                    let note = "walpost knows the slot already: `--rows-before published` changes nothing";
                    steps.push(format!("note: {note}"));
                }
                Ok(steps)
            }
            None => {
                let at = facts.confirmed().unwrap_or(Lsn::ZERO);
                let is_published = matches!(before, RowsBefore::Published { .. });
                ledger::begin(session, source, &server.system, at, tables, is_published).await?;
                let then = match before {
                    _ if tables.is_empty() => "`walpost run` goes on from there",
                    RowsBefore::Unpublished => "`walpost run` first publishes the rows of the table",
                    RowsBefore::Published { .. } => {
                        "what was committed before is taken for published, as you say"
                    }
                };
                Ok(vec![format!("slot {}: taken over at {at}; {then}", source.slot)])
            }
        },
        Err(PreflightError::Unsafe(Unsafe::SlotMissing(_))) => {
            if let Some(memory) = ledger::load(session, &source.slot).await? {
                preflight::check_none_forgotten(session, source, tables, &memory).await?;
                check_filters(tables, &memory)?;
                if !memory.messages.is_empty() {
                    let (slot, prefixes) = (source.slot.clone(), memory.messages.join(", "));
                    return Err(Unsafe::MessagesLost { slot, prefixes }.into());
                }
                // A failover between the two that follow would bring a slot that stands ahead of what is remembered.
                ledger::note_replacement(session, &source.slot, "walpost init makes the slot anew").await?;
            }
            let at = make_slot(session, &source.slot, timeout).await?;
            ledger::begin(session, source, &server.system, at, tables, false).await?;
            let then = match tables.is_empty() {
                true => "`walpost run` goes on from there",
                false => "`walpost run` first publishes the rows that are in the table now",
            };
            Ok(vec![format!("slot {}: made at {at}; {then}", source.slot)])
        }
        Err(error) => Err(error.into()),
    }
}

/// A publication that is as it was has the filter that it had: a setting that is another by now would be remembered as its.
fn check_filters(tables: &[FoundTable], memory: &Memory) -> Result<(), Error> {
    for FoundTable { relation, table, publication, .. } in tables {
        let known = memory.table(relation.id);
        let is_as_it_was = |known: &&TableMemory| known.publication_rows.as_ref() == Some(&publication.rows);
        if let Some(known) = known.filter(is_as_it_was) {
            table.check_filter(&known.guesses)?;
        }
    }
    Ok(())
}

/// Checks that what is followed is as it is remembered, and remembers what is new.
async fn keep(
    session: &Session,
    source: &SourceSettings,
    tables: &[FoundTable],
    memory: &Memory,
) -> Result<Steps, Error> {
    // Before anything is remembered: what is refused changes nothing.
    preflight::check_none_forgotten(session, source, tables, memory).await?;
    let mut steps = Vec::new();
    for found in tables {
        let known = memory.table(found.relation.id);
        preflight::check_kept(&source.of(found.table.clone()), &found.publication, known, memory)?;
        ledger::add(session, &source.slot, found).await?;
        if known.is_none() {
            steps.push(format!(
                "table {}: followed from now on; `walpost run` first publishes the rows that are in it now",
                found.table.name()
            ));
        }
    }
    ledger::add_messages(session, source).await?;
    Ok(steps)
}

/// What the order of rows from before the slot rests on, where that is not certain.
fn warning(table: &OutboxTable) -> Option<String> {
    table.order.is_none().then(|| {
        format!(
            "note: no integer orders {}: of rows that stand in it already, those of one key may change places; name a column \
             that rises with each insert in --order, if there is one",
            table.name()
        )
    })
}

/// What was guessed from the names of the columns, a line each.
pub(super) fn guesses(given: &OutboxTable, table: &OutboxTable) -> Vec<String> {
    let (before, after) = (&given.mapping, &table.mapping);
    let parts = [
        ("topic", &before.topic, &after.topic),
        ("key", &before.key, &after.key),
        ("value", &before.value, &after.value),
        ("headers_from", &before.headers_from, &after.headers_from),
        ("id", &before.id, &after.id),
        ("type", &before.kind, &after.kind),
        ("time", &before.time, &after.time),
        ("traceparent", &before.traceparent, &after.traceparent),
    ];
    let guessed = parts.into_iter().filter_map(|(name, before, after)| match (before, after) {
        (Choice::Guess, Choice::Given(template)) => Some(format!("guessed {name} = \"{template}\"")),
        _ => None,
    });
    guessed.collect()
}

/// Makes the slot. Postgres waits for every transaction that is open; past the deadline they are named instead.
///
/// From 17 on the slot is copied to standbys that ask for it (`failover`).
pub(crate) async fn make_slot(session: &Session, slot: &str, timeout: Duration) -> Result<Lsn, Error> {
    let version = session.client().query_one("select current_setting('server_version_num')::int", &[]).await;
    let version: i32 = version.map_err(session.error("read the server's version"))?.get(0);
    let failover = if version >= 170_000 { ", failover => true" } else { "" };
    let limit = format!("set statement_timeout = {}", timeout.as_millis());
    session.client().batch_execute(&limit).await.map_err(session.error("limit the wait for the slot"))?;
    let sql = format!("select lsn from pg_create_logical_replication_slot('{slot}', 'pgoutput'{failover})");
    let made =
        session.client().query_one(&sql, &[]).await.map_err(session.error("make the replication slot"));
    session
        .client()
        .batch_execute("reset statement_timeout")
        .await
        .map_err(session.error("reset the wait"))?;
    match made {
        Ok(row) => Ok(Lsn(row.get::<_, PgLsn>(0).into())),
        // query_canceled: the deadline.
        Err(error) if error.sqlstate() == Some("57014") => Err(waited_for(session, error).await),
        Err(error) => Err(error.into()),
    }
}

/// Names whose open transactions the slot waited for.
async fn waited_for(session: &Session, error: DatabaseError) -> Error {
    let open = holders(session).await;
    error
        .with_detail(format!(
            "it waits for transactions that are open: {open}; end them (pg_terminate_backend(pid), `rollback prepared` or \
            `commit prepared`) or wait, and run `walpost init` again"
        ))
        .into()
}
