//! Exactly-once delivery beside at-least-once: from commit to a consumer that reads what is committed, and draining a slot.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::{Database, Relay, Topic};

use crate::drain::{self, Drained};
use crate::latency::Figures;
use crate::section::{Section, Table, median};
use crate::{Bench, latency, load, verify};

/// The two promises, by their setting.
const PROMISES: [&str; 2] = ["at-least-once", "exactly-once"];

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    let drains = drains(bench).await?;
    let latencies = latencies(bench).await?;
    Ok(Section {
        name: "once".into(),
        title: "Exactly once".into(),
        text: format!(
            "The same load with both promises, in turn. Latency as above, to a consumer with \
             `isolation.level=read_committed`; drains of {} one-row transactions. {} rounds, medians of each figure. The \
             drains come first: a broker that was just started answers at half the speed until Java has compiled what it \
             runs. With exactly-once delivery no event was there twice.",
            bench.events, bench.rounds
        ),
        tables: vec![latencies, drains],
        plots: Vec::new(),
    })
}

async fn latencies(bench: &Bench) -> Result<Table> {
    let mut table = latency::table();
    for (rate, clients) in [(100, 2), (1_000, 4), (10_000, 16)] {
        let mut figures = PROMISES.map(|_| Vec::new());
        for round in 1..=bench.rounds {
            for (promise, figures) in PROMISES.into_iter().zip(&mut figures) {
                let database = Database::with_outbox(&bench.stack.database_url).await?;
                let topic = bench.topic().await?;
                let (relay, _position) = promising(bench, &database, &topic, promise)?;
                let mut relay = relay.init_and_run().await?;
                let latencies = latency::steady(&database, &topic, rate, clients).await?;
                verify::complete(&database, &topic).await?;
                relay.terminate(Duration::from_secs(20)).await?;
                let of_round = Figures::of(&latencies);
                println!("latency at {rate} events/s, round {round}: {promise} p99 {:.1} ms", of_round.p99);
                figures.push(of_round);
            }
        }
        for (promise, figures) in PROMISES.iter().zip(&figures) {
            table.row(Figures::medians(figures).row(&format!("{promise}, {rate} events/s")));
        }
    }
    Ok(table)
}

async fn drains(bench: &Bench) -> Result<Table> {
    println!("draining: {} events, {} rounds", bench.events, bench.rounds);
    let database = Database::with_outbox(&bench.stack.database_url).await?;
    let topic = bench.topic().await?;
    drain::prepare(&bench.relay(&database, &topic)?, &database, bench.rounds).await?;
    load::rows(&database, bench.events).await?;
    let mut rounds = PROMISES.map(|_| Vec::new());
    for round in 0..bench.rounds {
        for (promise, (slot, drained)) in
            PROMISES.into_iter().zip(["bare", "relay"].into_iter().zip(&mut rounds))
        {
            let topic = bench.topic().await?;
            let (relay, _position) = promising(bench, &database, &topic, promise)?;
            let relay = relay.env("WALPOST_SLOT", drain::slot(slot, round, &database));
            drained.push(drain::with_walpost(bench, &relay, &database, &topic).await?);
            verify::complete(&database, &topic).await?;
        }
        let [least, exactly] = &rounds;
        let (least, exactly) = (least.last().context("a round")?, exactly.last().context("a round")?);
        println!("  round {}: {:.2} of the at-least-once rate", round + 1, least.seconds / exactly.seconds);
    }
    let mut table = Table::new(&["", "of at-least-once", "events/s", "client CPU s/M", "broker CPU s/M"]);
    let of = |rounds: &[Drained], figure: fn(&Drained) -> f64| median(rounds.iter().map(figure).collect());
    let base = of(&rounds[0], |drained| drained.seconds);
    for (promise, rounds) in PROMISES.iter().zip(&rounds) {
        let seconds = of(rounds, |drained| drained.seconds);
        let per_million =
            |figure: fn(&Drained) -> f64| format!("{:.1}", of(rounds, figure) * 1e6 / bench.events_f64());
        table.row([
            (*promise).to_owned(),
            format!("{:.2}", base / seconds),
            format!("{:.0}", bench.events_f64() / seconds),
            per_million(|drained| drained.client_cpu),
            per_million(|drained| drained.broker_cpu),
        ]);
    }
    Ok(table)
}

/// A relay with this promise, and the topic of its position, which is deleted when it is dropped.
fn promising(bench: &Bench, database: &Database, topic: &Topic, promise: &str) -> Result<(Relay, Topic)> {
    let position = Topic::expected(&format!("position-{}", topic.name), &topic.brokers, 1);
    let relay = bench.relay(database, topic)?.env("WALPOST_DELIVERY", promise);
    ensure!(PROMISES.contains(&promise), "{promise} is no promise");
    Ok((relay.env("WALPOST_POSITION_TOPIC", position.name.clone()), position))
}
