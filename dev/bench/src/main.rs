//! How fast walpost drains a slot, beside `pg_recvlogical` draining the same changes.
//!
//! One-row transactions are written once; then, in turn and several times, `pg_recvlogical` and walpost each drain a
//! slot of its own that stands before all of them. Both are compared in the same run on the same machine: the ratio is
//! what counts, the absolute figures say what the machine was.
//!
//! `bench memory` measures the relay's memory instead. `BENCH_EVENTS` (500000) and `BENCH_ROUNDS` (3) change the size.

mod cpu;
mod drain;
mod load;
mod memory;

use anyhow::{Context, Result};
use drain::Drained;
use harness::{Database, Relay, Stack, Topic};

/// As many partitions as the package API's topic has in production.
const PARTITIONS: i32 = 6;

#[tokio::main]
async fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some("memory") {
        return memory::run().await;
    }
    let events: u64 = setting("BENCH_EVENTS", 500_000)?;
    let rounds: usize = setting("BENCH_ROUNDS", 3)?;
    let stack = Stack::shared().await?;
    let database = Database::with_outbox(&stack.database_url).await?;
    let topic = Topic::fresh(&stack.brokers, PARTITIONS).await?;
    let binary = std::env::current_exe()?.with_file_name("walpost");
    let relay = Relay::new(binary, &database, &topic)?.with_program(|program| program.log_on_drop(false));

    println!("{events} one-row transactions of about 300 bytes, {rounds} rounds");
    prepare(&relay, &database, rounds).await?;
    let end = load::write(&database, events).await?;

    let mut bare = Vec::new();
    let mut relayed = Vec::new();
    for round in 0..rounds {
        bare.push(drain::with_pg_recvlogical(&database, &slot("bare", round, &database), &end).await?);
        report("pg_recvlogical", events, bare.last().context("a round")?);
        let relay = relay.beside()?.env("WALPOST_SLOT", slot("relay", round, &database));
        relayed.push(drain::with_walpost(&relay, &database, &topic, events).await?);
        report("walpost", events, relayed.last().context("a round")?);
    }
    let (bare, relayed) = (median(bare), median(relayed));
    println!("\nmedians: {:.2} of pg_recvlogical's rate", bare.seconds / relayed.seconds);
    report("pg_recvlogical", events, &bare);
    report("walpost", events, &relayed);
    Ok(())
}

fn setting<T: std::str::FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name}={text}: expected a whole number")),
        Err(_) => Ok(default),
    }
}

fn slot(who: &str, round: usize, database: &Database) -> String {
    format!("{who}_{round}_{}", database.name())
}

/// Makes the slots, all at one position, and lets walpost know of its own.
async fn prepare(relay: &Relay, database: &Database, rounds: usize) -> Result<()> {
    relay.init().await?;
    let client = database.client().await?;
    for round in 0..rounds {
        for who in ["bare", "relay"] {
            let copy = "select pg_copy_logical_replication_slot($1, $2)";
            client.execute(copy, &[&database.slot_name(), &slot(who, round, database)]).await?;
        }
        let remember = "insert into walpost.slot (slot_name, system_identifier, confirmed_lsn, backfilled_at) \
                        select $1, system_identifier, confirmed_lsn, now() from walpost.slot where slot_name = $2";
        client.execute(remember, &[&slot("relay", round, database), &database.slot_name()]).await?;
    }
    Ok(())
}

fn report(who: &str, events: u64, drained: &Drained) {
    let events = u32::try_from(events).map_or(f64::MAX, f64::from);
    let per_million = |seconds: f64| seconds * 1e6 / events;
    println!(
        "  {who:<15} {:>8.0} events/s   {:>6.2} s   client CPU {:>5.1} s/M   walsender CPU {:>5.1} s/M   peak \
            RSS {:>4} MiB",
        events / drained.seconds,
        drained.seconds,
        per_million(drained.client_cpu),
        per_million(drained.walsender_cpu),
        drained.peak_rss >> 20,
    );
}

/// The round in the middle, by time.
fn median(mut rounds: Vec<Drained>) -> Drained {
    rounds.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    rounds.swap_remove(rounds.len() / 2)
}
