//! Everything that a run stands on: servers, proxies in front of them, a database, a topic and two relays.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::cluster::{PASSWORD, USER};
use harness::database::{by_way_of, connect};
use harness::program::sibling;
use harness::{Database, PrivateKafkaCluster, PrivatePostgres, Proxy, Relay, Topic, rights, wait_until};

use crate::event;
use crate::kinds::{Kind, Need};
use crate::parts::{Outbox, Parts};
use crate::relays::{DEADLINE, Relays};

/// More than one, so that order per key means something, and each broker leads some.
const PARTITIONS: i32 = 4;

/// How long a peer may be silent in this world: short, so that a minute holds many faults; and long enough that a relay
/// that a busy machine keeps from its work for half of it, and that then starts afresh, is rare.
pub(crate) const PEER_TIMEOUT: Duration = Duration::from_secs(8);

/// By how much a slow way holds back what passes.
pub(crate) const SLOW: Duration = Duration::from_millis(100);

/// The disk of each Postgres, where it has one of its own: several times what a long run needs, and filled in a moment.
const DISK_MB: u32 = 512;

/// Far below the size of the disk.
const SETTINGS: [&str; 1] = ["max_wal_size=256MB"];

/// A primary and its standby. What is committed is on both, and what is published, too: no failover takes it back.
pub(crate) struct Pair {
    pub(crate) primary: PrivatePostgres,
    pub(crate) standby: PrivatePostgres,
}

impl Pair {
    async fn start(disk_mb: Option<u32>) -> Result<Self> {
        let primary = PrivatePostgres::start_on(disk_mb, &SETTINGS).await?;
        let standby = standby_of(&primary, disk_mb).await?;
        let pair = Self { primary, standby };
        pair.tie().await?;
        Ok(pair)
    }

    /// From now on a commit waits for the standby, by its name: `*` would mean the relay as well, which is a reader of
    /// the log like any other. Not before the standby is there: its own settings begin as a copy.
    async fn tie(&self) -> Result<()> {
        let server = connect(self.primary.url()).await?;
        server.batch_execute("alter system set synchronized_standby_slots = 'standby'").await?;
        server.batch_execute("alter system set synchronous_standby_names = 'walreceiver'").await?;
        server.batch_execute("select pg_reload_conf()").await?;
        Ok(())
    }

    /// Waits until the standby has a copy of the relay's slot that outlives a promotion.
    async fn slot_is_copied(&self) -> Result<()> {
        let (primary, standby) = (connect(self.primary.url()).await?, connect(self.standby.url()).await?);
        let copied = "select count(*) from pg_replication_slots \
                      where synced and not temporary and invalidation_reason is null";
        wait_until("the slot is copied to the standby", DEADLINE, async || {
            primary.batch_execute("select pg_log_standby_snapshot()").await?;
            Ok(standby.query_one(copied, &[]).await?.get::<_, i64>(0) == 1)
        })
        .await
    }
}

async fn standby_of(primary: &PrivatePostgres, disk_mb: Option<u32>) -> Result<PrivatePostgres> {
    // No commit is answered before the standby has come back to a primary that has: by default it tries every 5 s.
    let own = ["sync_replication_slots=on", "wal_retrieve_retry_interval=200ms"];
    primary.standby_on(disk_mb, &[&SETTINGS[..], &own].concat()).await
}

/// The world. Fields are dropped in this order: what uses a server before the server.
pub(crate) struct World {
    pub(crate) relays: Relays,
    pub(crate) topic: Arc<Topic>,
    pub(crate) database: Arc<Database>,
    pub(crate) way_to_postgres: Proxy,
    /// The address of whichever Postgres is the primary, for writers and the audit.
    address: Proxy,
    pub(crate) postgres: Pair,
    disk_mb: Option<u32>,
    pub(crate) kafka: PrivateKafkaCluster,
}

impl World {
    /// Starts it all, for these kinds of fault; both relays run when this returns, and one is ready.
    ///
    /// # Errors
    /// When anything does not start.
    pub(crate) async fn start(kinds: &[Kind], parts: Parts) -> Result<Self> {
        let disk_mb = kinds.iter().any(|kind| kind.needs() == Some(Need::Disk)).then_some(DISK_MB);
        let (postgres, kafka) = tokio::try_join!(Pair::start(disk_mb), PrivateKafkaCluster::start())?;
        let primary = postgres.primary.addr()?;
        let address = Proxy::start(primary).await?;
        let url = by_way_of(postgres.primary.url(), address.addr())?;
        let database = Arc::new(Database::with_outbox(&url).await?);
        let way_to_postgres = Proxy::start(primary).await?;
        let topic = Arc::new(Topic::fresh(kafka.brokers(), PARTITIONS).await?);
        rights::open_to(USER, &topic).await?;
        let url = database.relay_url_by(way_to_postgres.addr())?;
        let relay = with_parts(relay(&database, &topic, &url, &kafka.proxied())?, parts);
        relay.init().await?;
        let relays = Relays::start([relay.clone(), relay.beside()?])?;
        relays.active().await?;
        Ok(Self { relays, topic, database, way_to_postgres, address, postgres, disk_mb, kafka })
    }

    /// Executes `statement` on the primary, however often it takes.
    ///
    /// # Errors
    /// When it does not succeed before the deadline.
    pub(crate) async fn insist(&self, statement: &str) -> Result<()> {
        let mut last = None;
        let done = wait_until(&format!("Postgres takes: {statement}"), DEADLINE, async || {
            last = self.database.execute(statement).await.err();
            Ok(last.is_none())
        })
        .await;
        done.map_err(|error| last.map_or(error, |last| last.context("Postgres does not take a statement")))
    }

    /// Waits until the primary's full disk has shown: it refuses what needs room; or, `of_log`, is led on through its log
    /// until it has no room for the next segment, which it does not survive.
    ///
    /// # Errors
    /// When there is room.
    pub(crate) async fn disk_is_full(&self, of_log: bool) -> Result<()> {
        let sql = if of_log {
            "select pg_create_restore_point('chaos'), pg_switch_wal()"
        } else {
            "create temporary table chaos_room as select 1"
        };
        wait_until("the disk is full", DEADLINE, async || match self.database.client().await {
            Ok(client) => Ok(client.batch_execute(sql).await.is_err() && !of_log),
            Err(_) => Ok(true),
        })
        .await
    }

    /// What an operator does when there is room again. A postmaster that met the full disk may have gone on, ended of it, or
    /// neither: one of PostgreSQL 18.6 whose startup process had failed was seen to wait, and to start no other.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn restart_primary_unless_it_answers(&self) -> Result<()> {
        if connect(self.postgres.primary.url()).await.is_err() {
            self.postgres.primary.kill().await?;
            self.postgres.primary.start_again().await?;
        }
        Ok(())
    }

    /// Kills the primary, promotes the standby, lets every address lead to it, and gives it a standby of its own.
    ///
    /// # Errors
    /// When any of that fails.
    pub(crate) async fn fail_over(&mut self) -> Result<()> {
        self.postgres.slot_is_copied().await?;
        self.postgres.primary.kill().await?;
        let standby = connect(self.postgres.standby.url()).await?;
        let promoted = standby.query_one("select pg_promote()", &[]).await?;
        ensure!(promoted.get::<_, bool>(0), "the standby was not promoted");
        let addr = self.postgres.standby.addr()?;
        for proxy in [&self.address, &self.way_to_postgres] {
            proxy.lead_to(addr);
            proxy.reset();
        }
        let spare = standby_of(&self.postgres.standby, self.disk_mb).await?;
        let primary = std::mem::replace(&mut self.postgres.standby, spare);
        self.postgres.primary = primary;
        self.postgres.tie().await
    }
}

fn relay(database: &Database, topic: &Topic, url: &str, brokers: &str) -> Result<Relay> {
    let program =
        std::env::var("CHAOS_WALPOST").map_or_else(|_| sibling("walpost"), |path| Ok(path.into()))?;
    let relay = Relay::new(program, database, topic)?.with_program(|program| program.log_on_drop(false));
    let settings = [
        ("WALPOST_DATABASE_URL", url),
        ("WALPOST_KAFKA_BROKERS", brokers),
        ("WALPOST_KAFKA_PROPERTY_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("WALPOST_KAFKA_PROPERTY_SASL_MECHANISM", "PLAIN"),
        ("WALPOST_KAFKA_PROPERTY_SASL_USERNAME", USER),
        ("WALPOST_KAFKA_PROPERTY_SASL_PASSWORD", PASSWORD),
        ("WALPOST_PEER_TIMEOUT_MS", &PEER_TIMEOUT.as_millis().to_string()),
        ("WALPOST_CONFIRM_INTERVAL_MS", "100"),
        ("WALPOST_WATCH_INTERVAL_MS", "500"),
        ("WALPOST_RETRY_MAX_MS", "500"),
        ("WALPOST_CONNECT_TIMEOUT_MS", "3000"),
        // Handed over in one go, which on a machine that is as busy as this must stay far below the peer time-out.
        ("WALPOST_WINDOW_RECORDS", "1000"),
        ("WALPOST_KAFKA_PROPERTY_RECONNECT_BACKOFF_MAX_MS", "500"),
    ];
    Ok(settings.into_iter().fold(relay, |relay, (name, value)| relay.env(name, value)))
}

fn with_parts(relay: Relay, parts: Parts) -> Relay {
    let settings: &[_] = match parts.outbox {
        // What is published goes, so a row that goes too early is an event that is lost with its slot.
        Outbox::Table => {
            &[("WALPOST_CLEAN", "age"), ("WALPOST_CLEAN_AGE_S", "1"), ("WALPOST_CLEAN_INTERVAL_MS", "1000")]
        }
        Outbox::Messages => &[("WALPOST_MESSAGES", event::PREFIX)],
    };
    let relay = relay.env("WALPOST_DELIVERY", parts.delivery.name());
    settings.iter().fold(relay, |relay, (name, value)| relay.env(name, *value))
}
