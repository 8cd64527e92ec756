//! From SIGKILL to the first new event, and what is repeated.

use std::time::Duration;

use anyhow::{Context, Result};
use chrono::Utc;
use harness::Database;

use crate::latency::Consumer;
use crate::load::Pgbench;
use crate::section::{Section, Table, median};
use crate::{Bench, verify};

const KILLS: u32 = 7;

/// How long it runs between two kills.
const BETWEEN: Duration = Duration::from_secs(3);

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    println!("recovery: {KILLS} times SIGKILL at 1,000 events/s");
    let database = Database::with_outbox(&bench.stack.database_url).await?;
    let topic = bench.topic().await?;
    let relay = bench.relay(&database, &topic)?;
    let mut process = relay.init_and_run().await?;
    let consumer = Consumer::start(&topic)?;
    let mut load = Pgbench::inserts(&database, 4).await?.arg("--rate", "1000").arg("--time", "600");
    let mut writer = load.start(&database)?;
    let mut kills = Vec::new();
    for _ in 0..KILLS {
        tokio::time::sleep(BETWEEN).await;
        process.kill()?;
        kills.push(Utc::now());
        process = relay.run()?;
    }
    tokio::time::sleep(BETWEEN).await;
    writer.kill().await?;
    tokio::time::sleep(BETWEEN).await;
    let arrivals = consumer.end().await?;
    verify::complete(&database, &topic).await?;
    process.terminate(Duration::from_secs(20)).await?;

    let mut times = Vec::new();
    for kill in &kills {
        // The first event that was written after the kill: when it arrived, counted from the kill.
        let first = arrivals.iter().find(|arrival| arrival.is_new && arrival.written > *kill);
        let first = first.context("nothing flowed again")?;
        let written = (first.written - *kill).num_microseconds().context("a time")?;
        #[allow(clippy::cast_precision_loss)]
        times.push(written as f64 / 1_000.0 + first.latency_ms);
    }
    let repeated = arrivals.iter().filter(|arrival| !arrival.is_new).count();
    let mut table = Table::new(&["", "median ms", "worst ms", "events repeated, per kill"]);
    let worst = times.iter().copied().fold(0.0, f64::max);
    table.row([
        "SIGKILL, started again at once".into(),
        format!("{:.0}", median(times)),
        format!("{worst:.0}"),
        format!("{:.0}", u32::try_from(repeated).map_or(f64::NAN, f64::from) / f64::from(KILLS)),
    ]);
    Ok(Section {
        name: "recovery".into(),
        title: "After a SIGKILL".into(),
        text: format!(
            "At 1,000 events a second the relay is killed {KILLS} times and started again at once: from the kill to the \
             first event in the topic that was written after it. No event was lost or out of order."
        ),
        tables: vec![table],
        plots: Vec::new(),
    })
}
