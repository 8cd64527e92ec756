//! Draining a slot, beside `pg_recvlogical` draining the same changes.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::stack::{Output, script};
use harness::{Database, Relay, RelayProcess, Topic};
use tokio::process::Command;

use crate::cpu;
use crate::section::{Plot, Section, Table, median};
use crate::{Bench, load, verify};

/// How often is looked whether it is done: well below a percent of what a drain takes.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// A drain that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(600);

/// What is drained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// One row in each transaction.
    Rows,
    /// 10,000 rows in each.
    Bulk,
}

/// What a drain took.
pub(crate) struct Drained {
    /// From the start of the process to its last event.
    pub(crate) seconds: f64,
    pub(crate) client_cpu: f64,
    pub(crate) walsender_cpu: f64,
    pub(crate) broker_cpu: f64,
    pub(crate) peak_rss: f64,
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench, load: Load) -> Result<Section> {
    let (name, title) = match load {
        Load::Rows => ("rows", "Draining one-row transactions"),
        Load::Bulk => ("bulk", "Draining transactions of 10,000 rows"),
    };
    let events = bench.events;
    println!("{title}: {events} events, {} rounds", bench.rounds);
    let database = Database::with_outbox(&bench.stack.database_url).await?;
    let topic = bench.topic().await?;
    let relay = bench.relay(&database, &topic)?;
    prepare(&relay, &database, bench.rounds).await?;
    let end = match load {
        Load::Rows => load::rows(&database, events).await?,
        Load::Bulk => load::bulk(&database, events).await?,
    };
    let (mut bare, mut relayed) = (Vec::new(), Vec::new());
    for round in 0..bench.rounds {
        bare.push(with_pg_recvlogical(bench, &database, &slot("bare", round, &database), &end).await?);
        let topic = bench.topic().await?;
        let relay = bench.relay(&database, &topic)?.env("WALPOST_SLOT", slot("relay", round, &database));
        relayed.push(with_walpost(bench, &relay, &database, &topic).await?);
        verify::complete(&database, &topic).await?;
        let (bare, relayed) = (bare.last().context("a round")?, relayed.last().context("a round")?);
        println!("  round {}: {:.2} of pg_recvlogical's rate", round + 1, bare.seconds / relayed.seconds);
    }
    Ok(section(name, title, bench, &bare, &relayed))
}

fn section(name: &str, title: &str, bench: &Bench, bare: &[Drained], relayed: &[Drained]) -> Section {
    let of = |rounds: &[Drained], figure: fn(&Drained) -> f64| median(rounds.iter().map(figure).collect());
    let base = of(bare, |drained| drained.seconds);
    let columns = [
        "",
        "of `pg_recvlogical`",
        "events/s",
        "client CPU s/M",
        "walsender CPU s/M",
        "broker CPU s/M",
        "peak RSS",
    ];
    let mut table = Table::new(&columns);
    let mut bars = Vec::new();
    let events = bench.events_f64();
    for (who, rounds) in [("`pg_recvlogical`, into nothing", bare), ("walpost, into Kafka", relayed)] {
        let per_million = |figure: fn(&Drained) -> f64| format!("{:.1}", of(rounds, figure) * 1e6 / events);
        let seconds = of(rounds, |drained| drained.seconds);
        bars.push((who.replace('`', ""), (events / seconds).round()));
        table.row([
            who.to_owned(),
            format!("{:.2}", base / seconds),
            format!("{:.0}", events / seconds),
            per_million(|drained| drained.client_cpu),
            per_million(|drained| drained.walsender_cpu),
            per_million(|drained| drained.broker_cpu),
            format!("{:.0} MiB", of(rounds, |drained| drained.peak_rss) / f64::from(1 << 20)),
        ]);
    }
    Section {
        name: name.into(),
        title: title.into(),
        text: format!(
            "{} events of about 300 bytes; {} rounds in turn, medians; from the start of the process to the last \
             acknowledgement. After each round every event was looked for in the topic, and none was missing or out of \
             order. `pg_recvlogical` writes to /dev/null.",
            bench.events, bench.rounds
        ),
        tables: vec![table],
        plots: vec![Plot { file: format!("drain-{name}"), title: format!("{title}, events a second"), bars }],
    }
}

/// Drains with Postgres' own client, into nothing.
async fn with_pg_recvlogical(bench: &Bench, database: &Database, slot: &str, end: &str) -> Result<Drained> {
    let program = script(&["bin", "pg_recvlogical"], Output::Quiet).await?;
    let (before, broker) = (cpu::of_ended_children()?, bench.servers.broker()?);
    let started = Instant::now();
    let mut child = Command::new(program.trim())
        .args(["--start", "--no-loop", "--file=/dev/null", "--slot", slot, "--endpos", end])
        .args(["--dbname", &database.url])
        .args(["-o", "proto_version=1", "-o", "publication_names=package_event_pub", "-o", "binary=true"])
        .kill_on_drop(true)
        .spawn()?;
    let walsender = Walsender::of(database, slot).await?;
    let (mut walsender_cpu, mut peak_rss) = (0.0, 0);
    let status = loop {
        walsender_cpu = walsender.cpu().unwrap_or(walsender_cpu);
        peak_rss = child.id().and_then(cpu::peak_memory).unwrap_or(peak_rss);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        ensure!(started.elapsed() < DEADLINE, "pg_recvlogical did not end");
        tokio::time::sleep(LOOK).await;
    };
    let seconds = started.elapsed().as_secs_f64();
    ensure!(status.success(), "pg_recvlogical failed: {status}");
    Ok(Drained {
        seconds,
        client_cpu: cpu::of_ended_children()? - before,
        walsender_cpu,
        broker_cpu: bench.servers.broker()? - broker,
        peak_rss: f64::from(u32::try_from(peak_rss)?),
    })
}

/// Drains with walpost, into the topic.
pub(crate) async fn with_walpost(
    bench: &Bench,
    relay: &Relay,
    database: &Database,
    topic: &Topic,
) -> Result<Drained> {
    let broker = bench.servers.broker()?;
    let started = Instant::now();
    let mut process = relay.run_ready().await?;
    let walsender = Walsender::of_relay(database).await?;
    published(std::slice::from_ref(&process), bench.events).await?;
    let drained = Drained {
        seconds: started.elapsed().as_secs_f64(),
        client_cpu: cpu::of_process(process.id())?,
        walsender_cpu: walsender.cpu()?,
        broker_cpu: bench.servers.broker()? - broker,
        peak_rss: f64::from(u32::try_from(cpu::peak_memory(process.id()).context("the relay's memory")?)?),
    };
    process.terminate(Duration::from_secs(20)).await?;
    let published = topic.count().await?;
    ensure!(published == bench.events, "{published} records for {} events", bench.events);
    Ok(drained)
}

/// Waits until the relays together have had so many events acknowledged.
pub(crate) async fn published(relays: &[RelayProcess], events: u64) -> Result<()> {
    let (started, wanted) = (Instant::now(), u32::try_from(events).map(f64::from)?);
    loop {
        let mut published = 0.0;
        for relay in relays {
            published += relay.metric("walpost_events_total{outcome=\"published\"}").await?;
        }
        if published >= wanted {
            return Ok(());
        }
        let logs = || relays.iter().map(|relay| relay.log_tail()).collect::<String>();
        ensure!(started.elapsed() < DEADLINE, "walpost did not drain the slot:\n{}", logs());
        tokio::time::sleep(LOOK).await;
    }
}

pub(crate) fn slot(who: &str, round: usize, database: &Database) -> String {
    format!("{who}_{round}_{}", database.name())
}

/// Makes the slots, all at one position, and lets walpost know of them.
pub(crate) async fn prepare(relay: &Relay, database: &Database, rounds: usize) -> Result<()> {
    relay.init().await?;
    let client = database.client().await?;
    for round in 0..rounds {
        for who in ["bare", "relay"] {
            let copy = "select pg_copy_logical_replication_slot($1, $2)";
            client.execute(copy, &[&database.slot_name(), &slot(who, round, database)]).await?;
            for remember in remembering(&client).await? {
                client.execute(*remember, &[&slot(who, round, database), &database.slot_name()]).await?;
            }
        }
    }
    Ok(())
}

/// What lets walpost know of a slot `$1` as of the slot `$2`; an older walpost that is measured beside has one table.
async fn remembering(client: &tokio_postgres::Client) -> Result<&'static [&'static str]> {
    let sql = "select to_regclass('walpost.outbox') is not null";
    Ok(match client.query_one(sql, &[]).await?.get(0) {
        true => &[
            "insert into walpost.slot (slot_name, system_identifier, confirmed_lsn) \
             select $1, system_identifier, confirmed_lsn from walpost.slot where slot_name = $2",
            "insert into walpost.outbox select (jsonb_populate_record(o, jsonb_build_object('slot_name', $1::text, \
             'backfilled_at', now()))).* from walpost.outbox o where slot_name = $2",
        ],
        false => &["insert into walpost.slot (slot_name, system_identifier, confirmed_lsn, backfilled_at) \
                    select $1, system_identifier, confirmed_lsn, now() from walpost.slot where slot_name = $2"],
    })
}

/// The process of Postgres that sends.
pub(crate) struct Walsender(u32);

impl Walsender {
    pub(crate) async fn of(database: &Database, slot: &str) -> Result<Self> {
        let client = database.client().await?;
        let sql =
            "select active_pid from pg_replication_slots where slot_name = $1 and active_pid is not null";
        let row = harness::wait_for("a walsender on the slot", Duration::from_secs(10), async || {
            Ok(client.query_opt(sql, &[&slot]).await?)
        });
        Ok(Self(u32::try_from(row.await?.get::<_, i32>(0))?))
    }

    async fn of_relay(database: &Database) -> Result<Self> {
        let client = database.client().await?;
        let sql = "select pid from pg_stat_replication where application_name = 'walpost' and pid in \
                   (select active_pid from pg_replication_slots where database = current_database())";
        let row = client.query_one(sql, &[]).await.context("the relay's walsender")?;
        Ok(Self(u32::try_from(row.get::<_, i32>(0))?))
    }

    pub(crate) fn cpu(&self) -> Result<f64> {
        cpu::of_process(self.0)
    }
}
