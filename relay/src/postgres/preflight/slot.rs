//! The slot: whether it is there, is ours, is whole, and is where it was left.

use chrono::DateTime;
use serde::Deserialize;

use super::{PreflightError, Unsafe};
use crate::config::SourceSettings;
use crate::postgres::Server;
use crate::postgres::ledger::Memory;
use crate::postgres::{DatabaseError, Session};
use walpost_core::lsn::Lsn;

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

/// Checks the slot against what is remembered, and says which position it has not passed. The slot's facts must have
/// been read before the memory.
///
/// A slot ahead of what is remembered was made anew or moved, with one exception. The position is written before the
/// slot is moved, but a standby gets the two by different ways: the row with the WAL, the slot by asking the primary
/// (PostgreSQL, "Replication Slot Synchronization"). So a standby that lags has the slot where the primary had it, and
/// the row as it was before. Such a slot is a copy (`synced`), was taken last on a timeline before this one, and is not
/// beyond the place where that timeline ended: nothing but the primary can have moved it there.
///
/// # Errors
/// When the slot is not the one that was left.
pub fn check_memory(facts: &SlotFacts, memory: &Memory, server: &Server) -> Result<Lsn, Unsafe> {
    let slot = facts.slot_name.clone();
    if memory.system != server.system {
        return Err(Unsafe::SystemChanged {
            slot,
            found: server.system.clone(),
            remembered: memory.system.clone(),
        });
    }
    match facts.confirmed() {
        Some(at) if at > memory.confirmed => {
            let ended = memory.timeline.and_then(|timeline| server.end_of(timeline));
            if facts.synced == Some(true) && ended.is_some_and(|ended| at <= ended) {
                return Ok(at);
            }
            Err(Unsafe::SlotAhead { slot, at, remembered: memory.confirmed })
        }
        _ => Ok(memory.confirmed),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn slot_at(confirmed: &str, synced: bool) -> SlotFacts {
        let facts = serde_json::json!({"slot_name": "s", "active": false, "confirmed_flush_lsn": confirmed,
            "synced": synced});
        serde_json::from_value(facts).expect("facts")
    }

    fn memory(timeline: Option<u32>) -> Memory {
        Memory {
            system: "7".into(),
            confirmed: Lsn(0x100),
            epoch: 1,
            timeline,
            tables: Vec::new(),
            messages: Vec::new(),
        }
    }

    fn server(timeline: u32, ended: Vec<(u32, Lsn)>) -> Server {
        Server { system: "7".into(), timeline, in_recovery: false, ended }
    }

    #[test]
    fn a_slot_ahead_is_taken_for_its_copy_only_up_to_the_end_of_the_timeline_it_was_taken_on() {
        let (alone, promoted) = (server(1, vec![]), server(2, vec![(1, Lsn(0x200))]));
        let check =
            |at, synced, timeline, server| check_memory(&slot_at(at, synced), &memory(timeline), server);
        assert_eq!(check("0/200", true, Some(1), &promoted).ok(), Some(Lsn(0x200)));
        assert!(check("0/201", true, Some(1), &promoted).is_err(), "moved after the failover");
        assert!(check("0/200", false, Some(1), &promoted).is_err(), "made anew after the failover");
        assert!(check("0/200", true, Some(2), &promoted).is_err(), "taken since");
        assert!(check("0/200", true, None, &promoted).is_err(), "nothing is known of the timeline");
        assert!(check("0/200", true, Some(1), &alone).is_err(), "no failover");
        assert_eq!(check("0/100", false, None, &promoted).ok(), Some(Lsn(0x100)), "not ahead");
    }
}
