//! How fast and how light walpost, the package API and its bot are, beside what there is to compare with.
//!
//! Both sides of each comparison are measured in turn, in one run, on one machine: the ratio is what counts, the
//! absolute figures say what the machine was. What is measured is verified as well: a figure for events that were lost
//! or out of order is none.
//!
//! `bench` measures everything and writes BENCHMARKS.md; `bench NAME...` measures these alone and writes it anew with what
//! was kept of the others; where something was never measured here, it changes their sections alone. `BENCH_EVENTS`
//! (1000000), `BENCH_ROUNDS` (3) and `BENCH_SECONDS` (30, of the steady load of `peers`) change the size.

mod beside;
mod bot;
mod cleaning;
mod cpu;
mod drain;
mod latency;
mod limits;
mod load;
mod memory;
mod observing;
mod once;
mod outbox;
mod peers;
mod plot;
mod poller;
mod recovery;
mod report;
mod section;
mod server;
mod shards;
mod sources;
mod verify;

use anyhow::{Context, Result, bail};
use cpu::Servers;
use drain::Load;
use harness::program::sibling;
use harness::{Database, Relay, Stack, Topic};

/// What can be measured, in the order of the report.
const MEASUREMENTS: [&str; 16] = [
    "rows",
    "bulk",
    "limits",
    "observing",
    "latency",
    "once",
    "shards",
    "sources",
    "recovery",
    "poller",
    "peers",
    "cleaning",
    "memory",
    "outbox",
    "server",
    "bot",
];

/// Compares with programs that are fetched for it (780 MB): what fails here fails nothing else.
const PEERS: &str = "peers";

/// Compares two builds: nothing for the report, and only when it is asked for.
const BESIDE: &str = "beside";

/// As many partitions as the package API's topic has in production.
const PARTITIONS: i32 = 6;

/// What every measurement needs.
struct Bench {
    stack: &'static Stack,
    servers: Servers,
    events: u64,
    rounds: usize,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    if let Some(ended) = limits::run_loop(&named).await {
        return ended;
    }
    if let Some(ended) = peers::run_loop(&named).await {
        return ended;
    }
    let unknown = named.iter().find(|name| !MEASUREMENTS.contains(&name.as_str()) && *name != BESIDE);
    if let Some(name) = unknown {
        bail!("there is no measurement `{name}`: {}, {BESIDE}", MEASUREMENTS.join(", "));
    }
    let bench = Bench {
        stack: Stack::shared().await?,
        servers: Servers::find().await?,
        events: setting("BENCH_EVENTS", 1_000_000)?,
        rounds: setting("BENCH_ROUNDS", 3)?,
    };
    if named.iter().any(|wanted| wanted == BESIDE) {
        return bench.measure(BESIDE).await;
    }
    for name in MEASUREMENTS {
        if !named.is_empty() && !named.iter().any(|wanted| wanted == name) {
            continue;
        }
        match bench.measure(name).await.with_context(|| format!("measuring `{name}`")) {
            Err(error) if name == PEERS && named.is_empty() => {
                eprintln!("NOT COMPARED WITH PEERS: {error:#}")
            }
            measured => measured?,
        }
    }
    report::write(&bench, &named).await
}

impl Bench {
    async fn measure(&self, name: &str) -> Result<()> {
        let section = match name {
            "rows" => drain::run(self, Load::Rows).await?,
            "bulk" => drain::run(self, Load::Bulk).await?,
            "limits" => limits::run(self).await?,
            "observing" => observing::run(self).await?,
            "latency" => latency::run(self).await?,
            "once" => once::run(self).await?,
            "shards" => shards::run(self).await?,
            "sources" => sources::run(self).await?,
            "recovery" => recovery::run(self).await?,
            "poller" => poller::run(self).await?,
            PEERS => peers::run(self).await?,
            "cleaning" => cleaning::run(self).await?,
            "memory" => memory::run(self).await?,
            "outbox" => outbox::run(self).await?,
            "server" => server::run(self).await?,
            "bot" => bot::run(self).await?,
            _ => beside::run(self).await?,
        };
        section.keep()
    }

    fn events_f64(&self) -> f64 {
        u32::try_from(self.events).map_or(f64::MAX, f64::from)
    }

    async fn topic(&self) -> Result<Topic> {
        Topic::fresh(&self.stack.brokers, PARTITIONS).await
    }

    /// walpost at its default settings.
    fn relay(&self, database: &Database, topic: &Topic) -> Result<Relay> {
        let relay = Relay::new(sibling("walpost")?, database, topic)?;
        Ok(relay.with_program(|program| program.log_on_drop(false)))
    }
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name}={text}: expected a whole number")),
        Err(_) => Ok(default),
    }
}
