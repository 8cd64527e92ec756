use anyhow::{Context, Result, ensure};
use harness::database::{connect, with_database};
use harness::{PrivatePostgres, Proxy, wait_until};
use tokio_postgres::Client;

use crate::case::{Case, SOON, write_concurrently};
use crate::halt::halts;

/// A primary, its standby, and a relay that comes by way of an address which a failover moves.
struct Failover {
    case: Case,
    address: Proxy,
    primary: PrivatePostgres,
    standby: PrivatePostgres,
}

impl Failover {
    async fn with_standby(settings: &[&str]) -> Result<Self> {
        let primary = PrivatePostgres::start().await?;
        let standby = primary.standby_with(settings).await?;
        // What is published is what the standby has: nothing that a failover takes back reaches Kafka.
        let server = connect(primary.url()).await?;
        server.batch_execute("alter system set synchronized_standby_slots = 'standby'").await?;
        server.batch_execute("select pg_reload_conf()").await?;
        let address = Proxy::start(primary.addr()?).await?;
        let mut case = Case::on_postgres(primary.url()).await?;
        let url = case.database.relay_url_by(address.addr())?;
        case.relay = case.relay.env("WALPOST_DATABASE_URL", url);
        Ok(Self { case, address, primary, standby })
    }

    /// The outbox's database on the standby.
    async fn on_standby(&self) -> Result<Client> {
        connect(&with_database(self.standby.url(), self.case.database.name())?).await
    }

    /// Kills the primary in the midst of its work, and promotes the standby.
    async fn fail_over(&self) -> Result<()> {
        self.primary.kill().await?;
        let promoted = self.on_standby().await?.query_one("select pg_promote()", &[]).await?;
        ensure!(promoted.get::<_, bool>(0), "the standby was not promoted");
        self.address.lead_to(self.standby.addr()?);
        Ok(())
    }

    /// Writes until the primary is gone: what was answered and what was not, nobody counts.
    async fn load_and_fail_over(&self) -> Result<()> {
        let load = async {
            let ended = write_concurrently(&self.case.database, 4, 100_000, 5).await;
            ensure!(ended.is_err(), "the primary went on to the end");
            Ok(())
        };
        let fail = async {
            wait_until("the stream is in full flow", SOON, async || {
                Ok(self.case.topic.ends().await?.values().sum::<i64>() >= 500)
            })
            .await?;
            self.fail_over().await
        };
        tokio::try_join!(load, fail).map(drop)
    }

    /// From now on the case's database is the one on the standby.
    fn case_after(self) -> Result<(Case, (Proxy, PrivatePostgres, PrivatePostgres))> {
        let mut case = self.case;
        case.database.url = with_database(self.standby.url(), case.database.name())?;
        Ok((case, (self.address, self.primary, self.standby)))
    }
}

/// Waits until the standby has a copy of the slot that outlives a promotion: once the slot on the primary has moved past
/// where the copy began (PostgreSQL, "Replication Slot Synchronization"), which takes traffic, and a snapshot that
/// Postgres logs by itself every 15 seconds.
async fn slot_is_copied(failover: &Failover) -> Result<()> {
    let client = failover.on_standby().await?;
    let copied = "select count(*) from pg_replication_slots where synced and not temporary and invalidation_reason is null";
    wait_until("the slot is copied to the standby", SOON, async || {
        failover.case.commit_one(1).await?;
        failover.case.database.execute("select pg_log_standby_snapshot()").await?;
        Ok(client.query_one(copied, &[]).await?.get::<_, i64>(0) == 1)
    })
    .await
}

#[tokio::test]
async fn a_failover_with_the_slot_copied_loses_nothing_and_takes_nothing_back() -> Result<()> {
    let failover = Failover::with_standby(&["sync_replication_slots=on"]).await?;
    let mut relay = failover.case.relay.init_and_run().await?;
    slot_is_copied(&failover).await?;
    failover.load_and_fail_over().await?;
    let (case, _servers) = failover.case_after()?;
    relay.ready().await?;
    case.commit(100, 5, 10).await?;
    let audit = case.audit().await.with_context(|| relay.log_tail())?;
    assert!(audit.published >= 600, "{audit}");
    Ok(())
}

#[tokio::test]
async fn a_failover_without_the_slot_halts_and_recovery_loses_nothing() -> Result<()> {
    let failover = Failover::with_standby(&[]).await?;
    let mut relay = failover.case.relay.init_and_run().await?;
    failover.load_and_fail_over().await?;
    let (case, _servers) = failover.case_after()?;
    halts(&mut relay, &["walpost recover"]).await?;
    relay.terminate(SOON).await?;
    let mut recovered = case.relay.recover()?;
    recovered.ready().await?;
    case.commit(100, 5, 10).await?;
    let audit = case.audit().await.with_context(|| recovered.log_tail())?;
    assert!(audit.published >= 600, "{audit}");
    Ok(())
}
