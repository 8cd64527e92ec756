//! Postgres and its standby.

use anyhow::Result;
use harness::database::connect;
use harness::{PrivatePostgres, wait_until};

use crate::relays::DEADLINE;

/// Far below the size of the disk.
const SETTINGS: [&str; 1] = ["max_wal_size=256MB"];

/// A primary and its standby. What is committed is on both, and what is published, too: no failover takes it back.
pub(crate) struct Pair {
    pub(crate) primary: PrivatePostgres,
    pub(crate) standby: PrivatePostgres,
}

impl Pair {
    pub(crate) async fn start(disk_mb: Option<u32>) -> Result<Self> {
        let primary = PrivatePostgres::start_on(disk_mb, &SETTINGS).await?;
        let standby = standby_of(&primary, disk_mb).await?;
        let pair = Self { primary, standby };
        pair.tie().await?;
        Ok(pair)
    }

    /// From now on a commit waits for the standby, by its name: `*` would mean the relay as well, which is a reader of
    /// the log like any other. Not before the standby is there: its own settings begin as a copy.
    pub(crate) async fn tie(&self) -> Result<()> {
        let server = connect(self.primary.url()).await?;
        server.batch_execute("alter system set synchronized_standby_slots = 'standby'").await?;
        server.batch_execute("alter system set synchronous_standby_names = 'walreceiver'").await?;
        server.batch_execute("select pg_reload_conf()").await?;
        Ok(())
    }

    /// Waits until the standby has copies of so many slots that outlive a promotion.
    pub(crate) async fn are_copied(&self, slots: usize) -> Result<()> {
        let (primary, standby) = (connect(self.primary.url()).await?, connect(self.standby.url()).await?);
        let slots = i64::try_from(slots)?;
        let copied = "select count(*) from pg_replication_slots \
                      where synced and not temporary and invalidation_reason is null";
        wait_until("the slots are copied to the standby", DEADLINE, async || {
            primary.batch_execute("select pg_log_standby_snapshot()").await?;
            Ok(standby.query_one(copied, &[]).await?.get::<_, i64>(0) == slots)
        })
        .await
    }
}

pub(crate) async fn standby_of(primary: &PrivatePostgres, disk_mb: Option<u32>) -> Result<PrivatePostgres> {
    // No commit is answered before the standby has come back to a primary that has: by default it tries every 5 s.
    let own = ["sync_replication_slots=on", "wal_retrieve_retry_interval=200ms"];
    primary.standby_on(disk_mb, &[&SETTINGS[..], &own].concat()).await
}
