//! Third part: SIGKILL under load, and the audit.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::{Audit, Received, events, wait_until};

use crate::arrivals::since_commit;
use crate::load::Load;
use crate::screen::{Screen, count, human};
use crate::system::System;

/// The service opens a connection for each writer first; after so many changes the stream is in full flow.
const WARM_UP_CHANGES: usize = 100;

/// The warm-up is over by then, or something is wrong.
const WARM_UP_DEADLINE: Duration = Duration::from_secs(30);

/// How long all goes well.
const BEFORE_KILL: Duration = Duration::from_secs(1);

/// Long enough that the revived relay catches up under load.
const AFTER_RECOVERY: Duration = Duration::from_secs(1);

/// Thousands of events at a few milliseconds each, on a laptop under load.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(60);

/// How often the counts are printed.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// Kills the relay in mid-stream, starts it again, and holds what arrived against what was committed.
pub(crate) async fn survive(screen: &Screen, system: &mut System) -> Result<Audit> {
    screen.section("SIGKILL under load: 8 writers create, update and remove");
    let told = system.arrivals.count();
    let load = Load::start(&system.client).await?;
    wait_until("the writers are under way", WARM_UP_DEADLINE, async || {
        system.expect_running()?;
        Ok(load.committed() >= WARM_UP_CHANGES)
    })
    .await?;
    let warm = system.arrivals.count();
    report_for(screen, system, &load, told, BEFORE_KILL).await?;
    let latencies = latencies_of(&system.arrivals.all()[warm..]);

    let killed = Instant::now();
    system.relay.kill()?;
    screen.call(&format!("kill -KILL walpost  {}", counts(system, &load, told)));
    system.revive_relay().await?;
    let recovered = killed.elapsed();
    screen.line(&format!("a new walpost streams, {} after the kill", human(recovered)));
    report_for(screen, system, &load, told, AFTER_RECOVERY).await?;

    let written = load.stop().await?;
    let stopped = Instant::now();
    screen.line(&format!("the writers stop after {} changes", count(written)));
    let audit = audit(system).await?;
    screen.line(&format!("the last event arrived {} after the last commit", human(stopped.elapsed())));
    show(screen, &audit, &latencies, recovered);
    ask_walpost(screen, system).await?;
    Ok(audit)
}

/// The same question to the program itself, which knows nothing of what was written but the table.
async fn ask_walpost(screen: &Screen, system: &System) -> Result<()> {
    let audit = system.settings.command(&["audit"]).await?;
    screen.call("walpost audit");
    for line in audit.stdout.lines().filter(|line| !line.is_empty() && !line.starts_with("table")) {
        screen.note(line);
    }
    ensure!(audit.status.success(), "walpost audit finds a fault:\n{}{}", audit.stdout, audit.stderr);
    Ok(())
}

/// Prints the counts for a while, and sees that everything still runs.
async fn report_for(
    screen: &Screen,
    system: &mut System,
    load: &Load,
    told: usize,
    time: Duration,
) -> Result<()> {
    let until = Instant::now() + time;
    while let left = until.saturating_duration_since(Instant::now())
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(REPORT_INTERVAL)).await;
        system.expect_running()?;
        screen.line(&counts(system, load, told));
    }
    Ok(())
}

/// The second number can be the larger one: a repeated event is two records, and a record may arrive before the answer
/// to its change is counted.
fn counts(system: &System, load: &Load, told: usize) -> String {
    let (committed, arrived) = (load.committed(), system.arrivals.count() - told);
    format!("{:>7} committed {:>7} records", count(committed), count(arrived))
}

/// Waits until nothing is missing. What is still missing at the deadline is lost, and the audit says so.
async fn audit(system: &System) -> Result<Audit> {
    let client = system.database.client().await?;
    let committed = events::committed(&client).await?;
    let complete = wait_until("every event has arrived", CATCH_UP_DEADLINE, async || {
        let enough = system.arrivals.count() >= committed.len();
        Ok(enough && Audit::new(&committed, &system.arrivals.all()).lost.is_empty())
    });
    // In vain or not: the counts tell more than the deadline would.
    let _ = complete.await;
    Ok(Audit::new(&committed, &system.arrivals.all()))
}

fn show(screen: &Screen, audit: &Audit, latencies: &[Duration], recovered: Duration) {
    screen.detail("committed", &format!("{:>7}", count(audit.committed)));
    screen.detail("arrived", &format!("{:>7}", count(audit.published)));
    screen.detail("lost", &format!("{:>7}", count(audit.lost.len())));
    screen.detail("out of order", &format!("{:>7}", count(audit.inversions.len())));
    let duplicates = format!("{:>7}   repeated with the same ce_id after the kill", count(audit.duplicates));
    screen.detail("duplicates", &duplicates);
    screen.detail("recovery", &format!("{:>10}", human(recovered)));
    let percentile =
        |of_100: usize| latencies.get(latencies.len() * of_100 / 100).copied().unwrap_or_default();
    let latency =
        format!("{:>10} median, {} at 99 % before the kill", human(percentile(50)), human(percentile(99)));
    screen.detail("commit to arrival", &latency);
}

fn latencies_of(records: &[Received]) -> Vec<Duration> {
    let mut latencies: Vec<Duration> = records.iter().map(since_commit).collect();
    latencies.sort();
    latencies
}
