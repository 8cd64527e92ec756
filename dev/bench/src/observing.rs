//! What it costs to be watched.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::{Database, Relay, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::drain::{Drained, prepare, slot, with_walpost};
use crate::section::{Section, Table, median};
use crate::{Bench, load, verify};

/// More often than Prometheus does, so that what it costs shows.
const SCRAPE_INTERVAL: Duration = Duration::from_secs(1);

/// Pages that are open.
const PAGES: usize = 4;

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    println!("Being watched: {} events, {} rounds", bench.events, bench.rounds);
    let database = Database::with_outbox(&bench.stack.database_url).await?;
    let topic = bench.topic().await?;
    prepare(&bench.relay(&database, &topic)?, &database, bench.rounds).await?;
    load::rows(&database, bench.events).await?;
    let (mut off, mut on) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        // In turn, and each first in its turn.
        let turns = if round % 2 == 0 { [false, true] } else { [true, false] };
        for watched in turns {
            // The slots that `prepare` made for two clients.
            let name = slot(if watched { "relay" } else { "bare" }, round, &database);
            let drained = drain(bench, &database, &name, watched).await?;
            if watched { &mut on } else { &mut off }.push(drained);
        }
        let (off, on) = (off.last().context("a round")?, on.last().context("a round")?);
        let rate = |drained: &Drained| bench.events_f64() / drained.seconds;
        let ratio = of_the_rate(off, on);
        println!("  round {}: {:.0} events/s, watched {:.0}: {ratio:.3}", round + 1, rate(off), rate(on));
    }
    Ok(section(bench, &off, &on))
}

async fn drain(bench: &Bench, database: &Database, slot: &str, watched: bool) -> Result<Drained> {
    let topic = bench.topic().await?;
    let relay = bench.relay(database, &topic)?.env("WALPOST_SLOT", slot);
    let (relay, watchers) = if watched {
        let relay = relay
            .env("WALPOST_SAMPLE_INTERVAL_MS", "1000")
            .env("WALPOST_MONITOR_DATABASE_URL", &database.url)
            .env("WALPOST_KAFKA_PROPERTY_STATISTICS_INTERVAL_MS", "1000");
        let watchers = watch(&relay);
        (relay, watchers)
    } else {
        let relay = relay.env("WALPOST_SAMPLE_INTERVAL_MS", "0");
        (relay.env("WALPOST_KAFKA_PROPERTY_STATISTICS_INTERVAL_MS", "0"), JoinSet::new())
    };
    let drained = with_walpost(bench, &relay, database, &topic).await?;
    drop(watchers);
    verify::complete(database, &topic).await?;
    Ok(drained)
}

/// A Prometheus that scrapes, and pages that are open. They end when this is dropped.
fn watch(relay: &Relay) -> JoinSet<()> {
    let addr = relay.http_addr();
    let mut watchers = JoinSet::new();
    watchers.spawn(async move {
        loop {
            // Until it listens there is nothing to scrape.
            drop(http::get(addr, "/metrics").await);
            tokio::time::sleep(SCRAPE_INTERVAL).await;
        }
    });
    for _ in 0..PAGES {
        watchers.spawn(async move {
            loop {
                drop(page(addr).await);
                tokio::time::sleep(SCRAPE_INTERVAL).await;
            }
        });
    }
    watchers
}

/// Reads what a page is told, until the relay ends.
async fn page(addr: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: bench\r\n\r\n").await?;
    let mut told = vec![0; 64 << 10];
    while stream.read(&mut told).await? > 0 {}
    Ok(())
}

/// What was left of the rate in a round.
fn of_the_rate(off: &Drained, on: &Drained) -> f64 {
    off.seconds / on.seconds
}

fn section(bench: &Bench, off: &[Drained], on: &[Drained]) -> Section {
    let of = |rounds: &[Drained], figure: fn(&Drained) -> f64| median(rounds.iter().map(figure).collect());
    let (events, base) = (bench.events_f64(), of(off, |drained| drained.seconds));
    let ratios: Vec<_> = off.iter().zip(on).map(|(off, on)| format!("{:.2}", of_the_rate(off, on))).collect();
    let mut table = Table::new(&["", "of the rate", "events/s", "walpost's CPU s/M", "peak RSS"]);
    for (who, rounds) in [("nobody looks", off), ("everything on", on)] {
        let seconds = of(rounds, |drained| drained.seconds);
        table.row([
            who.to_owned(),
            format!("{:.3}", base / seconds),
            format!("{:.0}", events / seconds),
            format!("{:.2}", of(rounds, |drained| drained.client_cpu) * 1e6 / events),
            format!("{:.0} MiB", of(rounds, |drained| drained.peak_rss) / f64::from(1 << 20)),
        ]);
    }
    Section {
        name: "observing".into(),
        title: "What it costs to be watched".into(),
        text: format!(
            "{} one-row transactions drained, {} rounds in turn, medians. Everything on: Postgres asked each second by a \
             role that sees pg_wal, librdkafka's statistics each second, /metrics scraped each second, {PAGES} pages open. \
             Nobody looks: no questions, no statistics, no scrapes, no page. The rounds one by one, of the rate: {}.",
            bench.events,
            bench.rounds,
            ratios.join(", ")
        ),
        tables: vec![table],
        plots: vec![],
    }
}
