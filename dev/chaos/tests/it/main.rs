//! Short runs: every kind of fault that this machine allows once, and of some again where it does not allow all; and those
//! that end a relay, or a transaction in its midst, with exactly-once delivery. For the other parts of walpost, one fault of each server
//! and of the way to it.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

fn holds(settings: &[(&str, &str)], faults: &str) {
    let run = Command::new(env!("CARGO_BIN_EXE_chaos"))
        .envs([("CHAOS_MINUTES", "10"), ("CHAOS_FAULTS", faults), ("CHAOS_SEED", "17")])
        .envs(settings.iter().copied())
        .output()
        .expect("the chaos program starts");
    let said = String::from_utf8_lossy(&run.stdout).into_owned();
    assert!(run.status.success(), "{said}\n{}", String::from_utf8_lossy(&run.stderr));
    assert!(said.contains(&format!("{faults} faults")), "{said}");
}

const EXACTLY_ONCE: (&str, &str) = ("CHAOS_DELIVERY", "exactly-once");

/// A relay that ends, a primary that is lost, a broker that dies, and connections that break; and with exactly-once delivery.
/// One run at a time: each has six servers of its own, and the long ones go on beside it.
fn holds_few(part: (&str, &str)) {
    static ONE: Mutex<()> = Mutex::new(());
    let _alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let few = ("CHAOS_ONLY", "relay: SIGKILL,promoted,broker: SIGKILL,Kafka: reset");
    holds(&[part, EXACTLY_ONCE, few], "4");
}

#[test]
fn every_kind_of_fault_once_loses_nothing_and_breaks_no_order() {
    holds(&[], "38");
}

#[test]
fn what_ends_a_relay_or_a_transaction_repeats_nothing_with_exactly_once_delivery() {
    let kinds = "relay: SIG,standing by,promoted,brokers,leaders,answers";
    holds(&[EXACTLY_ONCE, ("CHAOS_ONLY", kinds)], "10");
}

#[test]
fn messages_in_no_table_are_delivered_exactly_once() {
    holds_few(("CHAOS_OUTBOX", "messages"));
}

#[test]
fn shards_deliver_exactly_once_and_in_order() {
    holds_few(("CHAOS_SHARDS", "2"));
}

#[test]
fn sources_of_one_process_deliver_exactly_once_and_in_order() {
    holds_few(("CHAOS_SOURCES", "2"));
}
