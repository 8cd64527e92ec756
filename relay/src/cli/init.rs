//! `walpost init`: publication, schema and slot. It takes over those that exist and fit, and may be repeated.

use std::time::Duration;

use tokio_postgres::types::PgLsn;

use crate::config::Settings;
use crate::error::Error;
use crate::postgres::Server;
use crate::postgres::ledger;
use crate::postgres::preflight::{self, PreflightError, PublicationId, Unsafe};
use crate::postgres::{DatabaseError, Session};
use crate::relay::backfill::end::{holders, try_to_fix};
use crate::replication::Connection;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Oid;

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
    let outbox = preflight::check_table(&session, &source.table).await?.id;
    preflight::check_row_security(&session, &source.table, outbox).await?;
    let mut steps = vec![format!("table {}: has every column an event needs", source.table.name())];
    steps.push(make_publication(&session, settings, outbox).await?);
    let publication = preflight::check_publication(&session, source, outbox).await?;
    ledger::make(&session).await?;
    steps.push("schema walpost: there".into());
    let (_, server) = Connection::open(&settings.database, timeout).await?;
    steps.push(slot(&session, settings, &server, &publication).await?);
    try_to_fix(&session, source, settings.timing.slot_timeout).await;
    Ok(steps)
}

async fn make_publication(session: &Session, settings: &Settings, outbox: Oid) -> Result<String, Error> {
    let (name, table) = (&settings.source.publication, &settings.source.table);
    match preflight::check_publication(session, &settings.source, outbox).await {
        Ok(_) => Ok(format!("publication {name}: there, with the table")),
        Err(PreflightError::Unsafe(Unsafe::PublicationMissing(_))) => {
            let sql = format!(
                "create publication \"{name}\" for table \"{}\".\"{}\" with (publish = 'insert')",
                table.schema, table.table
            );
            session.client().batch_execute(&sql).await.map_err(session.error("make the publication"))?;
            Ok(format!("publication {name}: made, inserts of {} only", table.name()))
        }
        Err(error) => Err(error.into()),
    }
}

async fn slot(
    session: &Session,
    settings: &Settings,
    server: &Server,
    publication: &PublicationId,
) -> Result<String, Error> {
    let source = &settings.source;
    match preflight::check_slot(session, source).await {
        Ok(facts) => match ledger::load(session, &source.slot).await? {
            Some(memory) => {
                preflight::check_memory(&facts, &memory, server)?;
                preflight::check_kept(source, publication, &memory)?;
                Ok(format!("slot {}: there, at {}", source.slot, memory.confirmed))
            }
            None => {
                let at = facts.confirmed().unwrap_or(Lsn::ZERO);
                ledger::begin(session, &source.slot, &server.system, at, publication).await?;
                Ok(format!(
                    "slot {}: taken over at {at}; `walpost run` first publishes the rows of the table",
                    source.slot
                ))
            }
        },
        Err(PreflightError::Unsafe(Unsafe::SlotMissing(_))) => {
            let at = make_slot(session, &source.slot, settings.timing.slot_timeout).await?;
            ledger::begin(session, &source.slot, &server.system, at, publication).await?;
            Ok(format!(
                "slot {}: made at {at}; `walpost run` first publishes the rows that are in the table now",
                source.slot
            ))
        }
        Err(error) => Err(error.into()),
    }
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
