//! `walpost status`: the facts on one screen, read from Postgres.

use std::fmt;

use serde::Serialize;

use crate::config::Settings;
use crate::database::Session;
use crate::error::Error;
use crate::ledger;
use crate::lsn::Lsn;
use crate::preflight::{self, SlotFacts};
use tokio_postgres::types::PgLsn;

/// What there is to know.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The slot's name.
    pub slot: String,
    /// Whether it is there.
    pub exists: bool,
    /// Whether a relay is connected.
    pub active: bool,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: Option<String>,
    /// Up to where the relay has confirmed.
    pub confirmed_lsn: Option<String>,
    /// The end of the log.
    pub current_lsn: String,
    /// Log between the two: how far the relay is behind.
    pub confirm_lag_bytes: Option<u64>,
    /// Log that is kept for the slot: what it costs on disk. An open transaction elsewhere keeps log, too.
    pub retained_wal_bytes: Option<u64>,
    /// Log that may still be written until the slot is in danger; absent without `max_slot_wal_keep_size`.
    pub safe_wal_bytes: Option<i64>,
    /// Whether the rows from before the slot are published; absent when nothing is remembered.
    pub backfilled: Option<bool>,
    /// What is wrong, if anything, with what to do.
    pub problem: Option<String>,
}

/// Reads the facts.
///
/// # Errors
/// When Postgres cannot be reached or refuses.
pub async fn read(settings: &Settings) -> Result<Status, Error> {
    let source = &settings.source;
    let session = Session::connect(&settings.database, settings.timing.connect_timeout).await?;
    let facts = preflight::slot_facts(&session, &source.slot).await?;
    let memory = ledger::load(&session, &source.slot).await?;
    let row = session.client().query_one("select pg_current_wal_lsn()", &[]).await;
    let current = Lsn(row.map_err(session.error("read the end of the log"))?.get::<_, PgLsn>(0).into());
    let behind = |lsn: Option<&str>| lsn?.parse().ok().map(|lsn: Lsn| current.bytes_since(lsn));
    let slot = facts.as_ref();
    Ok(Status {
        slot: source.slot.clone(),
        exists: slot.is_some(),
        active: slot.is_some_and(|slot| slot.active),
        wal_status: slot.and_then(|slot| slot.wal_status.clone()),
        confirmed_lsn: slot.and_then(|slot| slot.confirmed_flush_lsn.clone()),
        current_lsn: current.to_string(),
        confirm_lag_bytes: slot.and_then(|slot| behind(slot.confirmed_flush_lsn.as_deref())),
        retained_wal_bytes: slot.and_then(|slot| behind(slot.restart_lsn.as_deref())),
        safe_wal_bytes: slot.and_then(|slot| slot.safe_wal_size),
        backfilled: memory.as_ref().map(|memory| memory.backfilled),
        problem: problem(&session, settings, slot).await?,
    })
}

/// The first finding of the checks that `walpost run` makes.
async fn problem(
    session: &Session,
    settings: &Settings,
    slot: Option<&SlotFacts>,
) -> Result<Option<String>, Error> {
    let found = async {
        let source = &settings.source;
        preflight::check_table(session, &source.table).await?;
        let publication = preflight::check_publication(session, source).await?;
        let facts = preflight::check_slot(session, source).await?;
        match ledger::load(session, &source.slot).await? {
            Some(memory) => {
                preflight::check_memory(&facts, &memory, &memory.system)?;
                preflight::check_kept(source, publication, &memory)?;
            }
            None => return Err(preflight::Unsafe::SlotUnknown(source.slot.clone()).into()),
        }
        Ok(())
    };
    match found.await {
        Ok(()) if slot.is_some_and(|slot| !slot.active) => {
            Ok(Some("no relay is connected; start `walpost run`".into()))
        }
        Ok(()) => Ok(None),
        Err(preflight::PreflightError::Unsafe(finding)) => {
            Ok(Some(format!("{finding}; {}", finding.remedy())))
        }
        Err(preflight::PreflightError::Database(error)) => Err(error.into()),
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        writeln!(f, "slot            {}", self.slot)?;
        writeln!(f, "relay           {}", if self.active { "connected" } else { "not connected" })?;
        writeln!(f, "wal_status      {}", text(&self.wal_status))?;
        writeln!(f, "confirmed       {}", text(&self.confirmed_lsn))?;
        writeln!(f, "end of the log  {}", self.current_lsn)?;
        writeln!(f, "confirm lag     {}", bytes(self.confirm_lag_bytes))?;
        writeln!(f, "retained WAL    {}", bytes(self.retained_wal_bytes))?;
        let room = match self.safe_wal_bytes {
            Some(room) => bytes(u64::try_from(room).ok()),
            None => "no limit".into(),
        };
        writeln!(f, "room left       {room}")?;
        let backfilled =
            self.backfilled.map_or("-", |done| if done { "published" } else { "not published yet" });
        writeln!(f, "earlier rows    {backfilled}")?;
        match &self.problem {
            Some(problem) => write!(f, "problem         {problem}"),
            None => write!(f, "problem         none"),
        }
    }
}

/// A size for people.
fn bytes(bytes: Option<u64>) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let Some(bytes) = bytes else { return "-".into() };
    let unit = (0..UNITS.len() - 1).find(|unit| bytes >> (10 * (unit + 1)) == 0).unwrap_or(UNITS.len() - 1);
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_shown_in_their_largest_unit() {
        assert_eq!(bytes(Some(0)), "0.0 B");
        assert_eq!(bytes(Some(1536)), "1.5 KiB");
        assert_eq!(bytes(Some(5 << 30)), "5.0 GiB");
        assert_eq!(bytes(None), "-");
    }
}
