//! Draining a slot, and what it costs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::stack::{Output, script};
use harness::{Database, Relay, Topic};
use tokio::process::Command;

use crate::cpu;

/// How often is looked whether it is done: well below a percent of what a drain takes.
const LOOK: Duration = Duration::from_millis(20);

/// A drain that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(600);

/// What a drain took.
pub(crate) struct Drained {
    /// From the start of the process to its last event.
    pub(crate) seconds: f64,
    pub(crate) client_cpu: f64,
    pub(crate) walsender_cpu: f64,
    pub(crate) peak_rss: u64,
}

/// Drains with Postgres' own client, into nothing.
pub(crate) async fn with_pg_recvlogical(database: &Database, slot: &str, end: &str) -> Result<Drained> {
    let program = script(&["bin", "pg_recvlogical"], Output::Quiet).await?;
    let before = cpu::of_ended_children()?;
    let started = Instant::now();
    let mut child = Command::new(program.trim())
        .args([
            "--start",
            "--no-loop",
            "--file=/dev/null",
            "--slot",
            slot,
            "--endpos",
            end,
            "--dbname",
            &database.url,
        ])
        .args(["-o", "proto_version=1", "-o", "publication_names=package_event_pub", "-o", "binary=true"])
        .kill_on_drop(true)
        .spawn()?;
    let walsender = Walsender::of(database, slot).await?;
    let mut walsender_cpu = 0.0;
    let mut peak_rss = 0;
    let status = loop {
        walsender_cpu = walsender.cpu().unwrap_or(walsender_cpu);
        peak_rss = child.id().and_then(peak_memory).unwrap_or(peak_rss);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        ensure!(started.elapsed() < DEADLINE, "pg_recvlogical did not end");
        tokio::time::sleep(LOOK).await;
    };
    let seconds = started.elapsed().as_secs_f64();
    ensure!(status.success(), "pg_recvlogical failed: {status}");
    Ok(Drained { seconds, client_cpu: cpu::of_ended_children()? - before, walsender_cpu, peak_rss })
}

/// Drains with walpost, into the topic; every event must be in it at the end.
pub(crate) async fn with_walpost(
    relay: &Relay,
    database: &Database,
    topic: &Topic,
    events: u64,
) -> Result<Drained> {
    let slot_events = u32::try_from(events).map(f64::from)?;
    let in_topic = total(topic).await?;
    let started = Instant::now();
    let mut process = relay.run_ready().await?;
    let walsender = Walsender::of_relay(database).await?;
    while process.metric("walpost_events_published_total").await? < slot_events {
        ensure!(started.elapsed() < DEADLINE, "walpost did not drain the slot:\n{}", process.log_tail());
        tokio::time::sleep(LOOK).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    let drained = Drained {
        seconds,
        client_cpu: cpu::of_process(process.id())?,
        walsender_cpu: walsender.cpu()?,
        peak_rss: peak_memory(process.id()).context("the relay's memory")?,
    };
    process.terminate(Duration::from_secs(20)).await?;
    let published = total(topic).await? - in_topic;
    ensure!(published == i64::try_from(events)?, "{published} records for {events} events");
    Ok(drained)
}

async fn total(topic: &Topic) -> Result<i64> {
    Ok(topic.ends().await?.values().sum())
}

fn peak_memory(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    value.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}

/// The process of Postgres that sends.
struct Walsender(u32);

impl Walsender {
    async fn of(database: &Database, slot: &str) -> Result<Self> {
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

    fn cpu(&self) -> Result<f64> {
        cpu::of_process(self.0)
    }
}
