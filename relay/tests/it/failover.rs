use anyhow::{Context, Result, ensure};
use harness::database::{connect, has, version, with_database};
use harness::{Audit, PrivatePostgres, Proxy, Stack, wait_until};
use tokio_postgres::Client;

use crate::case::{Case, SOON, insert, write_concurrently};
use crate::halt::halts;

/// From this version on a slot can be copied to a standby, and the primary holds back what that has not received.
const COPIES_SLOTS: i32 = 17;

pub(crate) async fn copies_slots() -> Result<bool> {
    has(&Stack::shared().await?.database_url, "copying slots to a standby", COPIES_SLOTS).await
}

/// Alters the server's settings.
async fn alter(server: &PrivatePostgres, what: &str) -> Result<()> {
    let client = connect(server.url()).await?;
    client.batch_execute(&format!("alter system {what}")).await?;
    client.batch_execute("select pg_reload_conf()").await?;
    Ok(())
}

/// A primary, its standby, and a relay that comes by way of an address which a failover moves.
pub(crate) struct Failover {
    pub(crate) case: Case,
    address: Proxy,
    primary: PrivatePostgres,
    standby: PrivatePostgres,
    is_copying: bool,
}

impl Failover {
    pub(crate) async fn with_standby(settings: &[&str]) -> Result<Self> {
        let primary = PrivatePostgres::start().await?;
        let standby = primary.standby_with(settings).await?;
        if version(primary.url()).await? >= COPIES_SLOTS {
            // What is published is what the standby has: nothing that a failover takes back reaches Kafka.
            alter(&primary, "set synchronized_standby_slots = 'standby'").await?;
        }
        let address = Proxy::start(primary.addr()?).await?;
        let mut case = Case::on_postgres(primary.url()).await?;
        let url = case.database.relay_url_by(address.addr())?;
        case.relay = case.relay.env("WALPOST_DATABASE_URL", url);
        let is_copying = settings.contains(&"sync_replication_slots=on");
        Ok(Self { case, address, primary, standby, is_copying })
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
    pub(crate) async fn load_and_fail_over(&self) -> Result<()> {
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
    pub(crate) fn case_after(self) -> Result<(Case, (Proxy, PrivatePostgres, PrivatePostgres))> {
        let mut case = self.case;
        case.database.url = with_database(self.standby.url(), case.database.name())?;
        Ok((case, (self.address, self.primary, self.standby)))
    }
}

impl Failover {
    /// Leads the relay to the standby for a while, and back to the primary, which was there all the time.
    async fn meets_the_standby(self) -> Result<()> {
        let mut relay = self.case.relay.init_and_run().await?;
        if self.is_copying {
            slot_is_copied(&self).await?;
        }
        self.case.commit(50, 5, 10).await?;
        self.case.audit().await?;
        self.address.lead_to(self.standby.addr()?);
        self.address.reset();
        let named = "it says that it met a standby";
        relay.status(named, |answer| answer.status == 503 && answer.body.contains("is a standby")).await?;
        let state = relay.get("/ready").await?.body;
        ensure!(!state.contains("halted"), "{state}");
        for command in ["init", "check", "status", "recover"] {
            let told = self.case.relay.command(&[command]).await?;
            let told = format!("{}{}", told.stdout, told.stderr);
            ensure!(told.contains("is a standby"), "{command} does not say that it is a standby: {told}");
        }
        self.case.commit(50, 5, 10).await?;
        self.address.lead_to(self.primary.addr()?);
        self.address.reset();
        relay.ready().await?;
        self.case.commit(50, 5, 10).await?;
        self.case.audit().await.with_context(|| relay.log_tail())?;
        Ok(())
    }
}

/// Waits until the standby has a copy of the slot that outlives a promotion: once the slot on the primary has moved past
/// where the copy began (PostgreSQL, "Replication Slot Synchronization"), which takes traffic, and a snapshot that
/// Postgres logs by itself every 15 seconds.
pub(crate) async fn slot_is_copied(failover: &Failover) -> Result<()> {
    let client = failover.on_standby().await?;
    let copied = "select count(*) from pg_replication_slots where synced and not temporary and invalidation_reason is null";
    // The worker that copies slots rests for up to half a minute where nothing moved.
    wait_until("the slot is copied to the standby", 3 * SOON, async || {
        failover.case.commit_one(1).await?;
        failover.case.database.execute("select pg_log_standby_snapshot()").await?;
        Ok(client.query_one(copied, &[]).await?.get::<_, i64>(0) == 1)
    })
    .await
}

#[tokio::test]
async fn a_failover_with_the_slot_copied_loses_nothing_and_takes_nothing_back() -> Result<()> {
    if !copies_slots().await? {
        return Ok(());
    }
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

/// Up to 16 Kafka may have events whose rows the standby had not received: nothing holds them back.
async fn audit_of_the_standby(case: &Case) -> Result<Audit> {
    if version(&case.database.url).await? >= COPIES_SLOTS {
        return case.audit().await;
    }
    let mut audit = Audit::default();
    let what = "every event that the new primary has is there";
    wait_until(what, 2 * SOON, async || {
        audit = case.audit_now().await?;
        Ok(audit.lost.is_empty())
    })
    .await?;
    audit.unknown.clear();
    ensure!(audit.holds(), "the promise was broken: {audit}");
    Ok(audit)
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
    let audit = audit_of_the_standby(&case).await.with_context(|| recovered.log_tail())?;
    assert!(audit.published >= 500, "{audit}");
    Ok(())
}

#[tokio::test]
async fn a_standby_that_is_met_for_a_while_halts_nothing() -> Result<()> {
    Failover::with_standby(&[]).await?.meets_the_standby().await
}

#[tokio::test]
async fn a_standby_with_a_copy_of_the_slot_that_is_met_for_a_while_halts_nothing() -> Result<()> {
    if !copies_slots().await? {
        return Ok(());
    }
    Failover::with_standby(&["sync_replication_slots=on"]).await?.meets_the_standby().await
}

async fn signal_process(pid: i32, signal: &str) -> Result<()> {
    let sent = tokio::process::Command::new("kill").args([signal, &pid.to_string()]).status().await?;
    ensure!(sent.success(), "kill {signal} {pid}");
    Ok(())
}

/// The copied slot is ahead of the copied row about it.
const AHEAD: &str = "select coalesce((select max(confirmed_flush_lsn) from pg_replication_slots where synced) \
                     > confirmed_lsn, false) from walpost.slot";

/// Stops the standby's WAL behind some events and before the ledger's row about them, and waits until the slot is copied.
/// Returns the process that is stopped. Where the row is written in between there is nothing to see, and events come anew.
async fn hold_back_the_ledgers_row(failover: &Failover, standby: &Client) -> Result<i32> {
    let receiver: i32 = standby.query_one("select pid from pg_stat_wal_receiver", &[]).await?.get(0);
    let mut tries = 6;
    loop {
        failover.case.commit(10, 5, 10).await?;
        failover.case.audit().await?;
        signal_process(receiver, "-STOP").await?;
        let is_ahead = async || Ok(standby.query_one(AHEAD, &[]).await?.get(0));
        match wait_until("the copied slot is ahead of the copied ledger", SOON / 2, is_ahead).await {
            Ok(()) => return Ok(receiver),
            Err(error) if tries == 0 => return Err(error),
            Err(_) => signal_process(receiver, "-CONT").await?,
        }
        tries -= 1;
    }
}

/// The slot comes to the standby by another way than the ledger's row about it, which lies behind its position in the WAL.
#[tokio::test]
async fn a_slot_that_came_to_the_standby_before_the_ledgers_row_goes_on_after_a_failover() -> Result<()> {
    if !copies_slots().await? {
        return Ok(());
    }
    let mut failover = Failover::with_standby(&["sync_replication_slots=on"]).await?;
    failover.case.relay = failover.case.relay.env("WALPOST_CONFIRM_INTERVAL_MS", "5000");
    let mut relay = failover.case.relay.init_and_run().await?;
    slot_is_copied(&failover).await?;
    failover.case.audit().await?;
    let standby = failover.on_standby().await?;

    let receiver = hold_back_the_ledgers_row(&failover, &standby).await?;
    failover.primary.kill().await?;
    // It ends without a look at what it was sent meanwhile.
    signal_process(receiver, "-TERM").await?;
    signal_process(receiver, "-CONT").await?;
    ensure!(standby.query_one("select pg_promote()", &[]).await?.get::<_, bool>(0), "not promoted");
    ensure!(standby.query_one(AHEAD, &[]).await?.get::<_, bool>(0), "the row came after all");
    failover.address.lead_to(failover.standby.addr()?);

    let (case, _servers) = failover.case_after()?;
    relay.ready().await?;
    case.commit(100, 5, 10).await?;
    case.audit().await.with_context(|| relay.log_tail())?;
    relay.terminate(SOON).await?;
    // It is an exception once: a slot that someone moves after that halts it.
    case.commit(5, 5, 1).await?;
    let advance = "select pg_replication_slot_advance($1, pg_current_wal_lsn())";
    case.client().await?.execute(advance, &[&case.database.slot_name()]).await?;
    halts(&mut case.relay.run()?, &["ahead of"]).await
}

#[tokio::test]
async fn of_several_hosts_the_primary_is_followed_before_and_after_a_failover() -> Result<()> {
    if !copies_slots().await? {
        return Ok(());
    }
    let failover = Failover::with_standby(&["sync_replication_slots=on"]).await?;
    let (primary, standby) = (failover.primary.addr()?, failover.standby.addr()?);
    let nobody = harness::port::free()?;
    let url = failover.case.database.relay_url_by(nobody)?;
    let url = url.replacen(&nobody.to_string(), &format!("{nobody},{standby},{primary}"), 1);
    let mut relay = failover.case.relay.clone().env("WALPOST_DATABASE_URL", &url).init_and_run().await?;
    slot_is_copied(&failover).await?;
    failover.case.commit(20, 5, 1).await?;
    failover.case.audit().await?;

    failover.fail_over().await?;
    let (case, _servers) = failover.case_after()?;
    relay.ready().await?;
    case.commit(20, 5, 1).await?;
    case.audit().await.with_context(|| relay.log_tail())?;
    Ok(())
}

/// Each connection of the relay finds its way by itself.
#[tokio::test]
async fn two_servers_that_take_themselves_for_the_primary_are_not_followed_as_one() -> Result<()> {
    let mut failover = Failover::with_standby(&[]).await?;
    if version(failover.primary.url()).await? >= COPIES_SLOTS {
        alter(&failover.primary, "reset synchronized_standby_slots").await?;
    }
    failover.case.relay = failover.case.relay.env("PGSSLMODE", "disable");
    let case = &failover.case;
    let mut relay = case.relay.init_and_run().await?;
    case.commit(10, 5, 10).await?;
    case.audit().await?;

    let promoted = failover.on_standby().await?;
    ensure!(promoted.query_one("select pg_promote()", &[]).await?.get::<_, bool>(0), "not promoted");
    let create = "select pg_create_logical_replication_slot($1, 'pgoutput')";
    promoted.execute(create, &[&case.database.slot_name()]).await?;
    insert(&promoted, 1_000).await?;
    failover.address.stream_from(Some(failover.standby.addr()?));
    failover.address.reset();
    let named = "it says that the two connections lead apart";
    relay.status(named, |answer| answer.status == 503 && answer.body.contains("another server")).await?;
    case.commit(10, 5, 10).await?;
    let audit = case.audit_now().await?;
    ensure!(audit.published == 10 && audit.unknown.is_empty(), "nothing is published meanwhile: {audit}");

    failover.address.stream_from(None);
    failover.address.reset();
    relay.ready().await?;
    assert_eq!(case.audit().await.with_context(|| relay.log_tail())?.published, 20);
    Ok(())
}
