//! Many small databases: followed by one process with a source for each, and by a process for each. What that takes of memory,
//! threads, processor and connections.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::relay::source_entry;
use harness::{Database, Process, Relay, RelayProcess, Topic, wait_until};

use crate::section::{Section, Table};
use crate::{Bench, cpu, setting, verify};

/// How many databases there are, unless `BENCH_SOURCES` says another number.
const SOURCES: usize = 20;

/// How long events trickle, and how often one comes to each database.
const LASTS: Duration = Duration::from_secs(30);
const EVERY: Duration = Duration::from_millis(500);

/// A start that takes longer has failed: each source asks both servers.
const START_DEADLINE: Duration = Duration::from_secs(120);

/// A small database, and where its events go.
struct Small {
    name: String,
    database: Database,
    topic: Topic,
}

/// What the processes take together.
#[derive(Default)]
struct Taken {
    resident_bytes: u64,
    /// Each page shared between processes is counted by its share.
    own_bytes: u64,
    threads: u64,
    cpu_seconds: f64,
    to_kafka: usize,
    to_postgres: i64,
}

/// Measures and reports.
pub(crate) async fn run(bench: &Bench) -> Result<Section> {
    let count = setting("BENCH_SOURCES", SOURCES)?;
    let columns = ["", "RSS MiB", "PSS MiB", "threads", "CPU %", "connections to Postgres", "to Kafka"];
    let mut table = Table::new(&columns);
    let one = measure(bench, 1, Processes::One).await?;
    table.row(row("1 process, 1 database", &one));
    let all = measure(bench, count, Processes::One).await?;
    table.row(row(&format!("1 process, {count} databases"), &all));
    let each = measure(bench, count, Processes::Each).await?;
    table.row(row(&format!("{count} processes, {count} databases"), &each));
    Ok(Section {
        name: "sources".into(),
        title: "Many databases".into(),
        text: format!(
            "{count} small databases on one server, an event each {} ms in each of them for {} s: followed by one process with a \
             `[[source]]` for each, and by a process for each, all at their default settings. At the end of that time. Every event \
             was there, in order.",
            EVERY.as_millis(),
            LASTS.as_secs()
        ),
        tables: vec![table],
        plots: Vec::new(),
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Processes {
    One,
    Each,
}

async fn measure(bench: &Bench, count: usize, processes: Processes) -> Result<Taken> {
    println!(
        "{count} databases, {}",
        if processes == Processes::One { "one process" } else { "a process each" }
    );
    let mut all = Vec::new();
    for number in 1..=count {
        let database = Database::with_outbox(&bench.stack.database_url).await?;
        all.push(Small { name: format!("db-{number}"), database, topic: bench.topic().await? });
    }
    let relays = match processes {
        Processes::One => vec![one_of_all(bench, &all)?],
        Processes::Each => {
            all.iter().map(|small| bench.relay(&small.database, &small.topic)).collect::<Result<_>>()?
        }
    };
    for relay in &relays {
        relay.init().await?;
    }
    let running = relays.iter().map(Relay::run).collect::<Result<Vec<_>>>()?;
    for process in &running {
        let is_ready = async || Ok(process.get("/ready").await.is_ok_and(|answer| answer.status == 200));
        wait_until("all sources stream", START_DEADLINE, is_ready)
            .await
            .with_context(|| process.log_tail())?;
    }
    let before = cpu_of(&running)?;
    let started = Instant::now();
    trickle(&all).await?;
    let cpu_seconds = (cpu_of(&running)? - before) / started.elapsed().as_secs_f64();
    let taken = taken(bench, &all, &running, cpu_seconds).await?;
    for small in &all {
        verify::complete(&small.database, &small.topic).await.with_context(|| small.name.clone())?;
    }
    for mut process in running {
        let ended = process.terminate(Duration::from_secs(30)).await?;
        ensure!(ended.success(), "{}", process.log_tail());
    }
    Ok(taken)
}

/// One process with a source for each of them.
fn one_of_all(bench: &Bench, all: &[Small]) -> Result<Relay> {
    let first = all.first().context("there is no database")?;
    let entries = all.iter().map(|small| {
        let database = &small.database;
        source_entry(&small.name, &database.relay_url, &database.slot_name(), &small.topic)
    });
    let settings = std::env::temp_dir().join(format!("walpost-{}.toml", first.database.name()));
    fs::write(&settings, entries.collect::<String>())?;
    Ok(bench.relay(&first.database, &first.topic)?.env("WALPOST_CONFIG", settings))
}

/// An event in each of them, again and again.
async fn trickle(all: &[Small]) -> Result<()> {
    let mut clients = Vec::new();
    for small in all {
        clients.push(small.database.client().await?);
    }
    let (started, mut ticks) = (Instant::now(), tokio::time::interval(EVERY));
    while started.elapsed() < LASTS {
        ticks.tick().await;
        for client in &clients {
            let sql =
                "insert into package_event (package_id, event_type, payload) values (1, 'Updated', '{}')";
            client.batch_execute(sql).await.context("inserting an event")?;
        }
    }
    Ok(())
}

async fn taken(bench: &Bench, all: &[Small], running: &[RelayProcess], cpu_seconds: f64) -> Result<Taken> {
    let mut taken = Taken { cpu_seconds, ..Taken::default() };
    for process in running {
        taken.resident_bytes += process.memory("VmRSS")?;
        taken.own_bytes += proportional_bytes(process)?;
        taken.threads += u64::try_from(fs::read_dir(format!("/proc/{}/task", process.id()))?.count())?;
        taken.to_kafka += connections(process, &bench.stack.brokers)?;
    }
    let roles: Vec<_> = all.iter().map(|small| small.database.relay_role()).collect();
    let client = harness::database::connect(&bench.stack.database_url).await?;
    let sql = "select count(*) from pg_stat_activity where usename::text = any($1)";
    taken.to_postgres = client.query_one(sql, &[&roles]).await?.get(0);
    Ok(taken)
}

fn cpu_of(running: &[RelayProcess]) -> Result<f64> {
    running.iter().map(|process| cpu::of_process(process.id())).sum()
}

/// `Pss` of proc_pid_smaps_rollup(5).
fn proportional_bytes(process: &Process) -> Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{}/smaps_rollup", process.id()))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no Pss")?;
    Ok(kilobytes.trim().parse::<u64>()? * 1024)
}

/// Connections of a process to the port of a broker on this machine.
fn connections(process: &Process, brokers: &str) -> Result<usize> {
    let port: u16 = brokers.rsplit_once(':').context("a broker has a port")?.1.parse()?;
    let own = sockets(process.id())?;
    let mut count = 0;
    for table in ["tcp", "tcp6"] {
        let text = fs::read_to_string(format!("/proc/{}/net/{table}", process.id()))?;
        count += text.lines().skip(1).filter(|line| is_to(line, port, &own)).count();
    }
    Ok(count)
}

/// The inodes of a process's sockets.
fn sockets(process: u32) -> Result<Vec<String>> {
    let links = fs::read_dir(format!("/proc/{process}/fd"))?;
    // One may be closed while we read of it.
    let targets = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
    let inode = |target: std::path::PathBuf| {
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        Some(inode.to_owned())
    };
    Ok(targets.filter_map(inode).collect())
}

/// Whether a line of `/proc/net/tcp` (proc_pid_net(5)) is an open connection to this port, of one of these sockets.
fn is_to(line: &str, port: u16, sockets: &[String]) -> bool {
    const ESTABLISHED: &str = "01";
    let fields: Vec<_> = line.split_whitespace().collect();
    let [_, _, remote, state, _, _, _, _, _, inode, ..] = fields.as_slice() else { return false };
    let remote = remote.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    remote == Some(port) && *state == ESTABLISHED && sockets.iter().any(|socket| socket == inode)
}

fn row(what: &str, taken: &Taken) -> [String; 7] {
    let mebibytes = |bytes: u64| (bytes >> 20).to_string();
    [
        what.to_owned(),
        mebibytes(taken.resident_bytes),
        mebibytes(taken.own_bytes),
        taken.threads.to_string(),
        format!("{:.1}", taken.cpu_seconds * 100.0),
        taken.to_postgres.to_string(),
        taken.to_kafka.to_string(),
    ]
}
