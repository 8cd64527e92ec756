//! Everything that a run stands on: servers, proxies in front of them, databases, their topics and relays.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::cluster::USER;
use harness::database::{by_way_of, connect};
use harness::{PrivateKafkaCluster, Proxy, rights, wait_until};
use uuid::Uuid;

use crate::audit::Audit;
use crate::kinds::{Kind, Need, Reach};
use crate::pair::{Pair, standby_of};
use crate::parts::Parts;
use crate::relays::{DEADLINE, Relays};
use crate::settings;
use crate::source::{Slot, Source};

/// How long a peer may be silent in this world: short, so that a minute holds many faults; and long enough that a relay
/// that a busy machine keeps from its work for half of it, and that then starts afresh, is rare.
pub(crate) const PEER_TIMEOUT: Duration = Duration::from_secs(8);

/// By how much a slow way holds back what passes.
pub(crate) const SLOW: Duration = Duration::from_millis(100);

/// An event that is to come once a fault is healed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marker {
    pub(crate) stream: usize,
    event: Uuid,
}

/// The disk of each Postgres, where it has one of its own: several times what a long run needs, and filled in a moment.
const DISK_MB: u32 = 512;

/// A slot, by the source that it is of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream {
    source: usize,
    slot: usize,
}

/// The world. Fields are dropped in this order: what uses a server before the server.
pub(crate) struct World {
    pub(crate) relays: Relays,
    pub(crate) sources: Vec<Arc<Source>>,
    /// All slots, in the order in which the relays have them.
    pub(crate) streams: Vec<Stream>,
    pub(crate) way_to_postgres: Proxy,
    /// The address of whichever Postgres is the primary, for writers and the audit.
    address: Proxy,
    pub(crate) postgres: Pair,
    disk_mb: Option<u32>,
    pub(crate) kafka: PrivateKafkaCluster,
}

impl World {
    /// Starts it all, for these kinds of fault; all relays run when this returns, and one of each slot is ready.
    ///
    /// # Errors
    /// When anything does not start.
    pub(crate) async fn start(kinds: &[Kind], parts: Parts) -> Result<Self> {
        let disk_mb = kinds.iter().any(|kind| kind.needs() == Some(Need::Disk)).then_some(DISK_MB);
        let (postgres, kafka) = tokio::try_join!(Pair::start(disk_mb), PrivateKafkaCluster::start())?;
        let primary = postgres.primary.addr()?;
        let address = Proxy::start(primary).await?;
        let url = by_way_of(postgres.primary.url(), address.addr())?;
        let way_to_postgres = Proxy::start(primary).await?;
        let (mut sources, mut streams) = (Vec::new(), Vec::new());
        for number in 0..parts.sources {
            let source = Source::start(&url, kafka.brokers(), parts).await?;
            rights::open_to(USER, &source.topic).await?;
            streams.extend((0..source.slots.len()).map(|slot| Stream { source: number, slot }));
            sources.push(Arc::new(source));
        }
        let relays = settings::relays(&sources, way_to_postgres.addr(), &kafka.proxied(), parts).await?;
        for stream in 0..streams.len() {
            relays.active(stream).await?;
        }
        Ok(Self { relays, sources, streams, way_to_postgres, address, postgres, disk_mb, kafka })
    }

    pub(crate) fn source(&self, stream: usize) -> &Arc<Source> {
        &self.sources[self.streams[stream].source]
    }

    pub(crate) fn slot(&self, stream: usize) -> &Slot {
        &self.source(stream).slots[self.streams[stream].slot]
    }

    /// Counts over the ledgers of all sources.
    pub(crate) fn count(&self, of: impl Fn(&Audit) -> u64) -> u64 {
        self.sources.iter().map(|source| source.ledger.with(|ledger| of(ledger))).sum()
    }

    /// Those that this kind of fault does not reach when it befalls `stream`.
    pub(crate) fn out_of_reach(&self, kind: Kind, stream: usize) -> Vec<usize> {
        let befallen = self.streams[stream].source;
        let reached = |other: &usize| match kind.reach() {
            Reach::Slot => *other == stream,
            Reach::Source => self.streams[*other].source == befallen,
            Reach::All => true,
        };
        (0..self.streams.len()).filter(|other| !reached(other)).collect()
    }

    /// Commits an event for each of these.
    ///
    /// # Errors
    /// When Postgres does not take it before the deadline.
    pub(crate) async fn mark(&self, streams: &[usize]) -> Result<Vec<Marker>> {
        let mut markers = Vec::new();
        for &stream in streams {
            let event = self.source(stream).mark(self.streams[stream].slot).await?;
            markers.push(Marker { stream, event });
        }
        Ok(markers)
    }

    pub(crate) fn has_seen(&self, marker: &Marker) -> bool {
        self.source(marker.stream).has_seen(marker.event)
    }

    /// Waits until events of these flow: whatever has become of the others.
    ///
    /// # Errors
    /// When they do not before the deadline.
    pub(crate) async fn flow(&self, streams: &[usize]) -> Result<()> {
        let markers = self.mark(streams).await?;
        let flowing = wait_until("events flow where the fault does not reach", DEADLINE, async || {
            Ok(markers.iter().all(|marker| self.has_seen(marker)))
        });
        flowing.await
    }

    /// Executes `statement` in the database of `stream`, however often it takes.
    ///
    /// # Errors
    /// When it does not succeed before the deadline.
    pub(crate) async fn insist(&self, stream: usize, statement: &str) -> Result<()> {
        let mut last = None;
        let done = wait_until(&format!("Postgres takes: {statement}"), DEADLINE, async || {
            last = self.source(stream).database.execute(statement).await.err();
            Ok(last.is_none())
        })
        .await;
        done.map_err(|error| last.map_or(error, |last| last.context("Postgres does not take a statement")))
    }

    /// The table with its row filter, as the publication of `stream` has it.
    ///
    /// # Errors
    /// When Postgres does not say.
    pub(crate) async fn published(&self, stream: usize) -> Result<String> {
        let sql = "select 'package_event' || coalesce(' where (' || rowfilter || ')', '') \
                   from pg_publication_tables where pubname = $1";
        let client = self.source(stream).database.client().await?;
        Ok(client.query_one(sql, &[&self.slot(stream).publication]).await?.get(0))
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
        wait_until("the disk is full", DEADLINE, async || match self.sources[0].database.client().await {
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
        self.postgres.are_copied(self.streams.len()).await?;
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
