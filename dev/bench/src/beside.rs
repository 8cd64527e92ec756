//! This walpost beside another build of it, in one run: what a change costs.

use anyhow::{Context, Result};
use harness::{Database, Relay, Topic};
use std::path::PathBuf;
use std::time::Duration;

use crate::drain::{Drained, prepare, slot, with_walpost};
use crate::latency::steady;
use crate::section::{Section, Table, median, percentile};
use crate::{Bench, load, verify};

/// A topic of the usual size, and one whose partitions far outnumber what is in flight.
const PARTITIONS: [i32; 2] = [8, 128];

/// The rate at which latencies are compared, and its clients.
const RATE: (u32, u64) = (1_000, 4);

/// What the two builds did.
#[derive(Default)]
struct Figures {
    drained: Vec<Drained>,
    /// Percentiles 50 and 99, milliseconds.
    latencies: Vec<(f64, f64)>,
}

/// Measures and reports; `BENCH_BESIDE` names the other program.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    let other: PathBuf = std::env::var_os("BENCH_BESIDE")
        .context("BENCH_BESIDE=PATH must name the other build of walpost: target/release/walpost of another checkout")?
        .into();
    let columns =
        ["partitions", "of the other's rate", "events/s", "client CPU s/M", "peak RSS", "p50 ms", "p99 ms"];
    let mut table = Table::new(&columns);
    for partitions in PARTITIONS {
        let [theirs, ours] = compare(bench, &other, partitions).await?;
        row(&mut table, bench, &format!("{partitions}, the other"), &theirs, &theirs);
        row(&mut table, bench, &format!("{partitions}, this one"), &ours, &theirs);
    }
    Ok(Section {
        name: "beside".into(),
        title: "Beside another build".into(),
        text: format!(
            "{} one-row transactions drained, {} rounds in turn, medians; then {} events/s from commit to consumer. \
             Every event was looked for in the topic.",
            bench.events, bench.rounds, RATE.0
        ),
        tables: vec![table],
        plots: Vec::new(),
    })
}

async fn compare(bench: &Bench, other: &PathBuf, partitions: i32) -> Result<[Figures; 2]> {
    println!(
        "Beside another build: {partitions} partitions, {} events, {} rounds",
        bench.events, bench.rounds
    );
    let database = Database::with_outbox(&bench.stack.database_url).await?;
    let topic = Topic::fresh(&bench.stack.brokers, partitions).await?;
    prepare(&bench.relay(&database, &topic)?, &database, bench.rounds).await?;
    load::rows(&database, bench.events).await?;
    let mut figures = [Figures::default(), Figures::default()];
    for round in 0..bench.rounds {
        // In turn, and each first in its turn.
        let turns = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in turns {
            let topic = Topic::fresh(&bench.stack.brokers, partitions).await?;
            let relay = build(bench, other, which, &database, &topic)?;
            let relay = relay.env("WALPOST_SLOT", slot(["bare", "relay"][which], round, &database));
            let drained = with_walpost(bench, &relay, &database, &topic).await?;
            verify::complete(&database, &topic).await?;
            println!(
                "  {}: {:.0} events/s",
                ["the other", "this one"][which],
                bench.events_f64() / drained.seconds
            );
            figures[which].drained.push(drained);
        }
        for which in turns {
            figures[which].latencies.push(latency(bench, other, which, partitions).await?);
        }
    }
    Ok(figures)
}

fn build(bench: &Bench, other: &PathBuf, which: usize, database: &Database, topic: &Topic) -> Result<Relay> {
    match which {
        0 => Ok(Relay::new(other, database, topic)?.with_program(|program| program.log_on_drop(false))),
        _ => bench.relay(database, topic),
    }
}

async fn latency(bench: &Bench, other: &PathBuf, which: usize, partitions: i32) -> Result<(f64, f64)> {
    let database = Database::with_outbox(&bench.stack.database_url).await?;
    let topic = Topic::fresh(&bench.stack.brokers, partitions).await?;
    let mut relay = build(bench, other, which, &database, &topic)?.init_and_run().await?;
    let latencies = steady(&database, &topic, RATE.0, RATE.1).await?;
    verify::complete(&database, &topic).await?;
    relay.terminate(Duration::from_secs(20)).await?;
    let (p50, p99) = (percentile(&latencies, 0.5), percentile(&latencies, 0.99));
    println!("  {}: p50 {p50:.1} ms, p99 {p99:.1} ms", ["the other", "this one"][which]);
    Ok((p50, p99))
}

fn row(table: &mut Table, bench: &Bench, who: &str, figures: &Figures, base: &Figures) {
    let of =
        |figures: &Figures, figure: fn(&Drained) -> f64| median(figures.drained.iter().map(figure).collect());
    let seconds = of(figures, |drained| drained.seconds);
    let latency = |figure: fn(&(f64, f64)) -> f64| median(figures.latencies.iter().map(figure).collect());
    table.row([
        who.to_owned(),
        format!("{:.2}", of(base, |drained| drained.seconds) / seconds),
        format!("{:.0}", bench.events_f64() / seconds),
        format!("{:.1}", of(figures, |drained| drained.client_cpu) * 1e6 / bench.events_f64()),
        format!("{:.0} MiB", of(figures, |drained| drained.peak_rss) / f64::from(1 << 20)),
        format!("{:.1}", latency(|both| both.0)),
        format!("{:.1}", latency(|both| both.1)),
    ]);
}
