//! `walpost init`: publication, schema and slot. It takes over those that exist and fit, and may be repeated.

use std::time::Duration;

use tokio_postgres::types::PgLsn;

use crate::config::{Settings, SourceSettings};
use crate::error::Error;
use crate::postgres::Server;
use crate::postgres::ledger;
use crate::postgres::names::{quoted, table_name};
use crate::postgres::preflight::{self, Outbox, PreflightError, PublicationId, Unsafe};
use crate::postgres::{DatabaseError, Session};
use crate::relay::backfill::end::{holders, try_to_fix};
use crate::replication::Connection;
use walpost_core::event::OutboxTable;
use walpost_core::event::mapping::Choice;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Relation;

/// What was done, a line each.
pub type Steps = Vec<String>;

/// Makes what is missing.
///
/// # Errors
/// When something exists that does not fit, or Postgres refuses.
pub async fn run(settings: &Settings) -> Result<Steps, Error> {
    let timeout = settings.timing.connect_timeout;
    let source = &settings.source;
    let session = Session::connect(&settings.database, timeout).await?;
    preflight::check_server(&session).await?;
    let Outbox { relation, table } = preflight::check_table(&session, &source.table).await?;
    let source = &SourceSettings { table, ..source.clone() };
    preflight::check_row_security(&session, &source.table, relation.id).await?;
    let mut steps = vec![format!("table {}: has every column an event needs", source.table.name())];
    steps.extend(guesses(&settings.source.table, &source.table));
    steps.push(make_publication(&session, source, &relation).await?);
    let publication = preflight::check_publication(&session, source, &relation).await?;
    let existed = ledger::exists(&session).await?;
    ledger::make(&session).await?;
    ledger::check_rights(&session).await?;
    steps.push(format!("schema walpost: {}", if existed { "there" } else { "made" }));
    let (_, server) = Connection::open(&settings.database, timeout).await?;
    steps.push(slot(&session, source, settings.timing.slot_timeout, &server, &publication).await?);
    ledger::keep_guesses(&session, &source.slot, &source.table.guesses).await?;
    try_to_fix(&session, source, settings.timing.slot_timeout).await;
    steps.extend(warning(&source.table));
    Ok(steps)
}

async fn make_publication(
    session: &Session,
    source: &SourceSettings,
    outbox: &Relation,
) -> Result<String, Error> {
    let (name, table) = (&source.publication, &source.table);
    match preflight::check_publication(session, source, outbox).await {
        Ok(_) => Ok(format!("publication {name}: there, with the table")),
        Err(PreflightError::Unsafe(Unsafe::PublicationMissing(_))) => {
            let sql = format!(
                "create publication {} for table {}{} with (publish = 'insert'{})",
                quoted(name),
                table_name(table),
                table.filter.as_ref().map_or(String::new(), |filter| format!(" where ({filter})")),
                if table.is_partitioned { ", publish_via_partition_root = true" } else { "" }
            );
            session.client().batch_execute(&sql).await.map_err(session.error("make the publication"))?;
            Ok(format!("publication {name}: made, inserts of {} only", table.name()))
        }
        Err(error) => Err(error.into()),
    }
}

async fn slot(
    session: &Session,
    source: &SourceSettings,
    timeout: Duration,
    server: &Server,
    publication: &PublicationId,
) -> Result<String, Error> {
    match preflight::check_slot(session, source).await {
        Ok(facts) => match ledger::load(session, &source.slot).await? {
            Some(memory) => {
                preflight::check_memory(&facts, &memory, server)?;
                preflight::check_kept(source, publication, &memory)?;
                Ok(format!("slot {}: there, at {}", source.slot, memory.confirmed))
            }
            None => {
                let at = facts.confirmed().unwrap_or(Lsn::ZERO);
                ledger::begin(session, &source.slot, &server.system, at, publication, &source.table).await?;
                Ok(format!(
                    "slot {}: taken over at {at}; `walpost run` first publishes the rows of the table",
                    source.slot
                ))
            }
        },
        Err(PreflightError::Unsafe(Unsafe::SlotMissing(_))) => {
            let at = make_slot(session, &source.slot, timeout).await?;
            ledger::begin(session, &source.slot, &server.system, at, publication, &source.table).await?;
            Ok(format!(
                "slot {}: made at {at}; `walpost run` first publishes the rows that are in the table now",
                source.slot
            ))
        }
        Err(error) => Err(error.into()),
    }
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
