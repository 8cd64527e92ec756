//! One run: writers and faults beside each other, and the audit of both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::stack::{Output, script};
use harness::wait_until;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::faults::Fault;
use crate::kinds::Kind;
use crate::parts::{Delivery, Outbox, Parts};
use crate::relays::{DEADLINE, Halt};
use crate::report::{Recovery, Report};
use crate::world::{Marker, World};
use crate::writer;

/// Enough to keep transactions open beside each other, few enough for two cores.
const WRITERS: usize = 4;

/// How often the relays are asked whether they have halted.
const HALT_INTERVAL: Duration = Duration::from_millis(300);

/// After a fault each relay of a slot may halt, and again while the other recovers.
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

/// Runs.
///
/// # Errors
/// When the world cannot be started, or does not recover: with the fault, and the ends of the relays' logs.
pub(crate) async fn run(seed: u64, limits: Limits) -> Result<Report> {
    let parts = limits.parts;
    let mut world = World::start(&limits.kinds, parts).await?;
    let writing = CancellationToken::new();
    let (mut background, mut writers) = (JoinSet::new(), JoinSet::new());
    for source in &world.sources {
        background.spawn(Arc::clone(source).read(source.topic.reader()?));
        background.spawn(Arc::clone(source).sample());
    }
    for (number, source) in (0..WRITERS.max(parts.sources)).zip(world.sources.iter().cycle()) {
        writers.spawn(writer::write(Arc::clone(source), u64::try_from(number)?, seed, writing.clone()));
    }

    let mut report = Report { once: parts.delivery == Delivery::ExactlyOnce, ..Report::default() };
    let befell = befall(&mut world, seed, limits, &mut writers, &mut report).await;
    writing.cancel();
    if let Err(error) = befell {
        let servers = script(&["status"], Output::Quiet).await.unwrap_or_default();
        return Err(error.context(servers).context(world.relays.logs().await));
    }
    while let Some(ended) = writers.join_next().await {
        report.transactions += ended.context("a writer panicked")??;
    }
    let drained = wait_until("every committed event has arrived", DEADLINE, async || {
        Ok(world.sources.iter().all(|source| source.ledger.with(|ledger| ledger.missing()) == 0))
    })
    .await;
    if drained.is_err() {
        eprintln!("{}", world.relays.logs().await);
    }
    // What is left of the table, by the program's own audit: it has no ledger of what was written, and no other eyes.
    if parts.outbox == Outbox::Table {
        report.audit = world.relays.audit().await?;
    }
    background.abort_all();
    world.sources.iter().for_each(|source| source.ledger.with(|ledger| report.add(ledger)));
    if !report.holds() {
        eprintln!("{}", world.relays.logs().await);
    }
    Ok(report)
}

async fn befall(
    world: &mut World,
    seed: u64,
    limits: Limits,
    writers: &mut JoinSet<Result<u64>>,
    report: &mut Report,
) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    let all: Vec<_> = (0..world.streams.len()).collect();
    let (started, mut left) = (Instant::now(), Vec::new());
    while started.elapsed() < limits.time && report.faults() < limits.faults {
        let repeated = world.count(|ledger| ledger.duplicates);
        let fault = Fault::draw(&mut rng, &mut left, &limits.kinds, all.len());
        tokio::time::sleep(fault.after).await;
        let name = fault.kind.name();
        while let Some(ended) = writers.try_join_next() {
            ended.context("a writer panicked")?.context("a writer ended")?;
        }
        let begun = Instant::now();
        fault.befall(world).await.with_context(|| format!("bringing about: {name}"))?;
        let healed = Instant::now();
        let markers = world.mark(&all).await?;
        let halts = flows_again(world, fault, &markers).await.with_context(|| format!("after: {name}"))?;
        if !fault.kind.may_halt() {
            let needless =
                halts.iter().map(|halt| format!("after {name}: {} ({})", halt.reason, halt.remedy));
            report.needless_halts.extend(needless);
        }
        let took = healed.elapsed();
        let repeated = world.count(|ledger| ledger.duplicates) - repeated;
        println!(
            "{:>7.1} s  {name:<42} healed after {:>5.2} s, flows again after {:.2} s, {repeated} repeated, {} halts",
            started.elapsed().as_secs_f64(),
            (healed - begun).as_secs_f64(),
            took.as_secs_f64(),
            halts.len()
        );
        let recovery = Recovery { took, repeated, halts: halts.len() };
        report.recoveries.entry(fault.kind).or_default().push(recovery);
        let inversions = world.count(|ledger| ledger.inversions.len() as u64);
        let unsafe_confirms = world.count(|ledger| ledger.unsafe_confirms.len() as u64);
        ensure!(
            inversions + unsafe_confirms == 0,
            "{inversions} out of order, {unsafe_confirms} unsafe confirms after: {name}"
        );
    }
    Ok(())
}

/// Waits until the markers have arrived, and does what halted relays ask for meanwhile.
async fn flows_again(world: &mut World, fault: Fault, markers: &[Marker]) -> Result<Vec<Halt>> {
    beside_a_halt(world, fault, markers).await?;
    let mut followed = Vec::new();
    let mut looked = Instant::now();
    wait_until("events flow again", DEADLINE, async || {
        let seen = markers.iter().all(|marker| world.has_seen(marker));
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

/// Where one has halted, no remedy is followed before the others were seen to go on.
async fn beside_a_halt(world: &World, fault: Fault, markers: &[Marker]) -> Result<()> {
    let others = world.out_of_reach(fault.kind, fault.stream);
    if !fault.kind.may_halt() || others.is_empty() {
        return Ok(());
    }
    let befallen = || markers.iter().filter(|marker| !others.contains(&marker.stream));
    let mut halted = false;
    wait_until("it has halted, or events flow again", DEADLINE, async || {
        halted = !world.relays.halts().await.is_empty();
        Ok(halted || befallen().all(|marker| world.has_seen(marker)))
    })
    .await?;
    world.flow(&others).await?;
    if halted {
        println!("           events of the others flow beside one that has halted");
    }
    Ok(())
}

async fn follow_remedies(world: &mut World, followed: &mut Vec<Halt>) -> Result<()> {
    for halt in world.relays.halts().await {
        println!("           halted: {}; remedy: {}", halt.reason, halt.remedy);
        ensure!(followed.len() < HALTS_MAX * world.streams.len(), "the remedies lead nowhere");
        world.relays.follow(&halt).await?;
        followed.push(halt);
    }
    world.relays.start_ended()
}
