//! One run: writers and faults beside each other, and the audit of both.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::stack::{Output, script};
use harness::{Asker, Database, Topic, wait_until};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::types::PgLsn;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::audit::{Audit, Sample, Written};
use crate::event;
use crate::faults::Fault;
use crate::kinds::Kind;
use crate::parts::{Delivery, Outbox, Parts};
use crate::relays::DEADLINE;
use crate::relays::Halt;
use crate::report::{Recovery, Report};
use crate::world::World;
use crate::writer;

/// Enough to keep transactions open beside each other, few enough for two cores.
const WRITERS: u64 = 4;

/// The key of the markers, which no writer writes.
const MARKER_KEY: i64 = 1_000_000;

/// How often the slot is compared with the topic.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// The last record of a partition is among so many offsets, but for aborted transactions in a row.
const TAIL: i64 = 200;

/// How often the relays are asked whether they have halted.
const HALT_INTERVAL: Duration = Duration::from_millis(300);

/// After a fault each relay may halt, and again while the other recovers.
const HALTS_MAX: usize = 6;

/// How long a run goes on.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) time: Duration,
    pub(crate) faults: usize,
    /// What may happen.
    pub(crate) kinds: Vec<Kind>,
    pub(crate) parts: Parts,
}

type Shared = Arc<Mutex<Audit>>;

fn with<T>(audit: &Shared, look: impl FnOnce(&mut Audit) -> T) -> T {
    look(&mut audit.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs.
///
/// # Errors
/// When the world cannot be started, or does not recover: with the fault, and the ends of the relays' logs.
pub(crate) async fn run(seed: u64, limits: Limits) -> Result<Report> {
    let mut world = World::start(&limits.kinds, limits.parts).await?;
    world.database.execute(event::TOKENS).await?;
    let Parts { delivery, outbox, .. } = limits.parts;
    let audit = Shared::default();
    let (tell, told) = mpsc::unbounded_channel();
    let writing = CancellationToken::new();
    let mut background = JoinSet::new();
    background.spawn(listen(told, Arc::clone(&audit)));
    background.spawn(read(world.topic.reader()?, Arc::clone(&audit)));
    let (database, topic) = (Arc::clone(&world.database), Arc::clone(&world.topic));
    background.spawn(sample(database, topic, delivery, Arc::clone(&audit)));
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        let database = Arc::clone(&world.database);
        writers.spawn(writer::write(database, outbox, number, seed, tell.clone(), writing.clone()));
    }

    let mut report = Report { once: delivery == Delivery::ExactlyOnce, ..Report::default() };
    let befell = befall(&mut world, seed, limits, &audit, &tell, &mut writers, &mut report).await;
    writing.cancel();
    if let Err(error) = befell {
        let servers = script(&["status"], Output::Quiet).await.unwrap_or_default();
        return Err(error.context(servers).context(world.relays.logs().await));
    }
    while let Some(ended) = writers.join_next().await {
        report.transactions += ended.context("a writer panicked")??;
    }
    drop(tell);
    let drained = wait_until("every committed event has arrived", DEADLINE, async || {
        Ok(with(&audit, |a| a.missing()) == 0)
    })
    .await;
    if drained.is_err() {
        eprintln!("{}", world.relays.logs().await);
    }
    // What is left of the table, by the program's own audit: it has no ledger of what was written, and no other eyes.
    if outbox == Outbox::Table {
        report.audit = world.relays.audit().await?;
    }
    background.abort_all();
    with(&audit, |audit| {
        report.events = audit.events();
        report.lost = audit.missing();
        report.never_committed = audit.never_committed();
        report.duplicates = audit.duplicates;
        report.inversions = std::mem::take(&mut audit.inversions);
        report.unsafe_confirms = std::mem::take(&mut audit.unsafe_confirms);
    });
    if !report.holds() {
        eprintln!("{}", world.relays.logs().await);
    }
    Ok(report)
}

async fn befall(
    world: &mut World,
    seed: u64,
    limits: Limits,
    audit: &Shared,
    tell: &mpsc::UnboundedSender<Written>,
    writers: &mut JoinSet<Result<u64>>,
    report: &mut Report,
) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let (started, mut left) = (Instant::now(), Vec::new());
    while started.elapsed() < limits.time && report.faults() < limits.faults {
        let repeated = with(audit, |audit| audit.duplicates);
        let fault = Fault::draw(&mut rng, &mut left, &limits.kinds);
        tokio::time::sleep(fault.after).await;
        let name = fault.kind.name();
        while let Some(ended) = writers.try_join_next() {
            ended.context("a writer panicked")?.context("a writer ended")?;
        }
        let begun = Instant::now();
        fault.befall(world).await.with_context(|| format!("bringing about: {name}"))?;
        let healed = Instant::now();
        let marker = mark(&world.database, limits.parts.outbox, tell).await?;
        let halts = flows_again(world, audit, marker).await.with_context(|| format!("after: {name}"))?;
        if !fault.kind.may_halt() {
            let needless =
                halts.iter().map(|halt| format!("after {name}: {} ({})", halt.reason, halt.remedy));
            report.needless_halts.extend(needless);
        }
        let took = healed.elapsed();
        let repeated = with(audit, |audit| audit.duplicates) - repeated;
        println!(
            "{:>7.1} s  {name:<42} healed after {:>5.2} s, flows again after {:.2} s, {repeated} repeated, {} halts",
            started.elapsed().as_secs_f64(),
            (healed - begun).as_secs_f64(),
            took.as_secs_f64(),
            halts.len()
        );
        let recovery = Recovery { took, repeated, halts: halts.len() };
        report.recoveries.entry(fault.kind).or_default().push(recovery);
        let (inversions, unsafe_confirms) = with(audit, |a| (a.inversions.len(), a.unsafe_confirms.len()));
        ensure!(
            inversions + unsafe_confirms == 0,
            "{inversions} out of order, {unsafe_confirms} unsafe confirms after: {name}"
        );
    }
    Ok(())
}

/// Waits until the marker has arrived, and does what halted relays ask for meanwhile.
async fn flows_again(world: &mut World, audit: &Shared, marker: Uuid) -> Result<Vec<Halt>> {
    let mut followed = Vec::new();
    let mut looked = Instant::now();
    wait_until("events flow again", DEADLINE, async || {
        let seen = with(audit, |audit| audit.has_seen(marker));
        // Also at the end: the relay that stands by may have halted as well.
        if seen || looked.elapsed() > HALT_INTERVAL {
            looked = Instant::now();
            follow_remedies(world, &mut followed).await?;
        }
        Ok(seen)
    })
    .await?;
    Ok(followed)
}

async fn follow_remedies(world: &mut World, followed: &mut Vec<Halt>) -> Result<()> {
    for halt in world.relays.halts().await {
        println!("           halted: {}; remedy: {}", halt.reason, halt.remedy);
        ensure!(followed.len() < HALTS_MAX, "the remedies lead nowhere");
        world.relays.follow(&halt).await?;
        followed.push(halt);
    }
    world.relays.start_ended()
}

/// Commits an event as soon as Postgres takes it.
async fn mark(database: &Database, outbox: Outbox, tell: &mpsc::UnboundedSender<Written>) -> Result<Uuid> {
    let event = Uuid::new_v4();
    wait_until("Postgres takes a marker", DEADLINE, async || {
        Ok(event::commit(database, outbox, MARKER_KEY, event).await.is_ok())
    })
    .await?;
    tell.send(Written { events: vec![event], bound: u64::MAX }).context("the audit has ended")?;
    Ok(event)
}

async fn listen(mut told: mpsc::UnboundedReceiver<Written>, audit: Shared) {
    while let Some(written) = told.recv().await {
        with(&audit, |audit| audit.committed(written));
    }
}

async fn read(reader: harness::Reader, audit: Shared) {
    loop {
        match reader.next(Duration::from_secs(1)).await {
            Ok(Some(record)) => with(&audit, |audit| {
                if let Err(error) = audit.arrived(&record) {
                    audit.inversions.push(format!("a record that cannot be read: {error:#}"));
                }
            }),
            Ok(None) => {}
            // The broker is away.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// Behind the last record of each partition. Transactions leave marks of Kafka's own at the ends, which no reader sees.
async fn ends(topic: &Topic, asker: &Asker, delivery: Delivery) -> Result<BTreeMap<i32, i64>> {
    match delivery {
        Delivery::AtLeastOnce => topic.ends_by(asker).await,
        Delivery::ExactlyOnce => topic.record_ends(TAIL).await,
    }
}

async fn sample(database: Arc<Database>, topic: Arc<Topic>, delivery: Delivery, audit: Shared) {
    let sql = "select max(confirmed_flush_lsn) from pg_replication_slots";
    let (mut client, mut asker) = (None, None);
    loop {
        tokio::time::sleep(SAMPLE_INTERVAL).await;
        if client.is_none() {
            client = database.client().await.ok();
        }
        let Some(connected) = &client else { continue };
        match connected.query_one(sql, &[]).await {
            Ok(row) => {
                let confirmed = u64::from(row.get::<_, Option<PgLsn>>(0).unwrap_or(PgLsn::from(0)));
                // The slot first, then the topic.
                if asker.is_none() {
                    asker = topic.asker().ok();
                }
                if let Some(asker) = &asker
                    && let Ok(ends) = ends(&topic, asker, delivery).await
                {
                    with(&audit, |audit| audit.sampled(Sample { confirmed, ends }));
                }
            }
            Err(_) => client = None,
        }
        with(&audit, Audit::judge_sample);
    }
}
