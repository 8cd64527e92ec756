//! Random faults of every kind while events are written, and a count of what was lost.
//!
//! Two relays, one standing by, reach a Postgres with a standby and three brokers of Kafka, all their own, through proxies;
//! writers and the audit go straight. Where a relay halts, its remedy is followed. Faults come one after the other; after each an event that is committed once it is healed must arrive.
//!
//! `CHAOS_MINUTES` (5; no limit where the faults have one), `CHAOS_FAULTS` (no limit), `CHAOS_ONLY` (kinds with one of these, divided by commas, in their
//! name), `CHAOS_WITHOUT` (none of those with one of these) and `CHAOS_SEED` (drawn, and printed) say how long and which:
//! a seed gives the same faults and the same transactions again. `CHAOS_DELIVERY=exactly-once` lets the relays deliver so: then
//! one event that comes twice is a fault, and what ends in `walpost recover`, after which events may come again, is left out.
//! `CHAOS_SHARDS` slots share the outbox, with two relays each; `CHAOS_SOURCES` databases are followed by two processes with all of
//! them each. `CHAOS_OUTBOX=messages` writes events as logical messages, and leaves out what is done to the table.
//! `CHAOS_WALPOST` names another relay than the one beside
//! this program.

mod audit;
mod event;
mod faults;
mod kinds;
mod pair;
mod parts;
mod relays;
mod report;
mod run;
mod settings;
mod source;
mod world;
mod writer;

use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kinds::Kind;
use parts::{Delivery, Outbox, Parts};
use run::Limits;

/// A week: as good as no limit.
const MINUTES_MAX: f64 = 7.0 * 24.0 * 60.0;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let faults = setting("CHAOS_FAULTS", usize::MAX)?;
    let minutes: f64 = setting("CHAOS_MINUTES", if faults == usize::MAX { 5.0 } else { MINUTES_MAX })?;
    let only: String = setting("CHAOS_ONLY", String::new())?;
    let seed: u64 = setting("CHAOS_SEED", rand::random())?;
    let without: String = setting("CHAOS_WITHOUT", String::new())?;
    let delivery: Delivery = setting("CHAOS_DELIVERY", Delivery::AtLeastOnce)?;
    let outbox: Outbox = setting("CHAOS_OUTBOX", Outbox::Table)?;
    let (shards, sources) = (setting("CHAOS_SHARDS", 1)?, setting("CHAOS_SOURCES", 1)?);
    let parts = Parts { delivery, outbox, shards, sources };
    parts.check()?;
    let (kinds, mut left_out) = parts.divide(Kind::named(&only, &without));
    ensure!(!kinds.is_empty(), "CHAOS_ONLY={only} CHAOS_WITHOUT={without} leaves no kind of fault");
    let (kinds, impossible) = Kind::possible(kinds).await;
    left_out.extend(impossible);
    left_out.iter().for_each(|left_out| println!("{left_out}"));
    ensure!(!kinds.is_empty(), "nothing that is wanted is possible here");
    let limits = Limits { time: Duration::from_secs_f64(minutes * 60.0), faults, kinds, parts };
    println!("seed {seed}; again with: CHAOS_SEED={seed} make chaos");
    let report = run::run(seed, limits).await.with_context(|| format!("seed {seed}"))?;
    left_out.iter().for_each(|left_out| println!("{left_out}"));
    println!("\n{report}\nseed {seed}, {} faults", report.faults());
    Ok(if report.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn setting<T: FromStr>(name: &str, default: T) -> Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name}={text} is not understood")),
        Err(_) => Ok(default),
    }
}
