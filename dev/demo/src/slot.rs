//! What Postgres keeps for the relay.

use anyhow::{Context, Result};

use crate::screen::Screen;
use crate::system::System;

const QUERY: &str = "select slot_name::text, active::text, wal_status, confirmed_flush_lsn::text, restart_lsn::text, \
     pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)) as unconfirmed, \
     pg_size_pretty(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)) as retained \
     from pg_replication_slots where slot_name = $1";

/// Prints the slot's row of `pg_replication_slots`.
pub(crate) async fn show(screen: &Screen, system: &System) -> Result<()> {
    screen.section("The replication slot");
    let client = system.database.client().await?;
    let row = client.query_one(QUERY, &[&system.database.slot_name()]).await.context("the slot")?;
    for (index, column) in row.columns().iter().enumerate() {
        let value: Option<String> = row.get(index);
        screen.detail(column.name(), value.as_deref().unwrap_or("null"));
    }
    Ok(())
}
