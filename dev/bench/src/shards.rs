//! One outbox drained by one relay, by two and by four, each on a slot of its own: what that gains, and what it costs Postgres.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::{Database, Relay, Topic, port};

use crate::drain::{Walsender, published};
use crate::section::{Section, Table, median};
use crate::{Bench, cpu, load, verify};

/// How many slots share the work.
const SHARDS: [u32; 3] = [1, 2, 4];

/// What a drain took, all shards together.
struct Drained {
    seconds: f64,
    relays_cpu: f64,
    walsenders_cpu: f64,
    broker_cpu: f64,
}

impl Drained {
    /// Of all shards together: where each process has a core of its own and the broker holds nobody up, the work is done as
    /// fast as the busiest of them is. They share it evenly, and each is of one thread.
    fn busiest_cpu(&self) -> f64 {
        self.relays_cpu.max(self.walsenders_cpu)
    }
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    let columns = [
        "slots",
        "of one",
        "events/s",
        "relays CPU s/M",
        "walsenders CPU s/M",
        "broker CPU s/M",
        "calculated: events/s with a core each",
    ];
    let mut table = Table::new(&columns);
    let mut one = None;
    for shards in SHARDS {
        let mut rounds = Vec::new();
        for round in 0..bench.rounds {
            let drained = drain(bench, shards).await?;
            println!(
                "{shards} slots, round {}: {:.0} events/s",
                round + 1,
                bench.events_f64() / drained.seconds
            );
            rounds.push(drained);
        }
        let of = |figure: fn(&Drained) -> f64| median(rounds.iter().map(figure).collect());
        let per_million =
            |figure: fn(&Drained) -> f64| format!("{:.1}", of(figure) * 1e6 / bench.events_f64());
        let seconds = of(|drained| drained.seconds);
        table.row([
            shards.to_string(),
            format!("{:.2}", one.get_or_insert(seconds).to_owned() / seconds),
            format!("{:.0}", bench.events_f64() / seconds),
            per_million(|drained| drained.relays_cpu),
            per_million(|drained| drained.walsenders_cpu),
            per_million(|drained| drained.broker_cpu),
            format!("{:.0}", f64::from(shards) * bench.events_f64() / of(Drained::busiest_cpu)),
        ]);
    }
    Ok(Section {
        name: "shards".into(),
        title: "Shards".into(),
        text: format!(
            "{} one-row transactions, drained by one relay, and by two and four with `--shard`, started at once; {} rounds, \
             medians. Each walsender decodes all of the log and sends its part. Every event was there once, and in order. The last \
             column is no measurement: it is what the CPU time of the busiest process, a walsender or a relay, would allow with a \
             core for each of them, and a broker elsewhere.",
            bench.events, bench.rounds
        ),
        tables: vec![table],
        plots: Vec::new(),
    })
}

async fn drain(bench: &Bench, shards: u32) -> Result<Drained> {
    let database = Database::with_outbox(&bench.stack.database_url).await?;
    let topic = bench.topic().await?;
    let relays = relays(bench, &database, &topic, shards)?;
    for relay in &relays {
        relay.init().await?;
    }
    load::rows(&database, bench.events).await?;
    let (broker, started) = (bench.servers.broker()?, Instant::now());
    let mut running = relays.iter().map(Relay::run).collect::<Result<Vec<_>>>()?;
    for relay in &mut running {
        relay.ready().await?;
    }
    let walsenders = walsenders(&database, shards).await?;
    published(&running, bench.events).await?;
    let sum = |figures: Result<Vec<f64>>| figures.map(|figures| figures.iter().sum());
    let drained = Drained {
        seconds: started.elapsed().as_secs_f64(),
        relays_cpu: sum(running.iter().map(|relay| cpu::of_process(relay.id())).collect())?,
        walsenders_cpu: sum(walsenders.iter().map(Walsender::cpu).collect())?,
        broker_cpu: bench.servers.broker()? - broker,
    };
    for relay in &mut running {
        relay.terminate(Duration::from_secs(20)).await?;
    }
    ensure!(topic.count().await? == bench.events, "not every event is there once");
    verify::complete(&database, &topic).await?;
    Ok(drained)
}

/// They make publications, so they come as the owner of the table.
fn relays(bench: &Bench, database: &Database, topic: &Topic, shards: u32) -> Result<Vec<Relay>> {
    let owner = bench.relay(database, topic)?.env("WALPOST_DATABASE_URL", &database.url);
    if shards == 1 {
        return Ok(vec![owner]);
    }
    let shard = |number| {
        let relay = owner.clone().at(port::free()?);
        Ok(relay.env("WALPOST_SHARD", format!("{number}/{shards}")))
    };
    (1..=shards).map(shard).collect()
}

async fn walsenders(database: &Database, shards: u32) -> Result<Vec<Walsender>> {
    let slot = database.slot_name();
    let names: Vec<_> = match shards {
        1 => vec![slot],
        _ => (1..=shards).map(|number| format!("{slot}_{number}_of_{shards}")).collect(),
    };
    let mut found = Vec::new();
    for name in names {
        found.push(Walsender::of(database, &name).await.with_context(|| name)?);
    }
    Ok(found)
}
