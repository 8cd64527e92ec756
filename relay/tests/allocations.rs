//! How much is allocated for an event between the socket and the producer: a regression of the hot path shows here,
//! without a clock.

#[path = "../benches/support/mod.rs"]
#[allow(dead_code, missing_docs, unreachable_pub)]
mod support;

use support::{MAPPINGS, Path, stream};

/// Transactions in one go: about what one read of a busy stream brings.
const BURST: usize = 500;

/// Bursts that are counted; as many before them fill what is kept for the next.
const BURSTS: usize = 40;

/// Allocations for as many events. Measured: none, since the chunk that the stream is read into is used again once
/// nothing is in flight. A few are left for what a library may do now and then.
const MOST: u64 = 10;

#[test]
fn an_event_costs_no_allocation_of_its_own() {
    for settings in MAPPINGS {
        count(settings);
    }
}

fn count(settings: (&str, &str, &[&str])) {
    let mut path = Path::with(settings);
    let firsts = (0..).step_by(BURST).take(2 * BURSTS);
    let mut bursts: Vec<_> = firsts.map(|first| stream(first, BURST as u64)).collect();
    for bytes in bursts.drain(..BURSTS) {
        path.pass(&bytes);
    }
    let counted = allocation_counter::measure(|| {
        for bytes in &bursts {
            path.pass(bytes);
        }
    });
    let events = (BURST * BURSTS) as u64;
    assert_eq!(path.publisher.counts().acknowledged, 2 * events, "not every event took the whole path");
    let (format, allocations) = (settings.0, counted.count_total);
    println!("{format}: {events} events, {allocations} allocations");
    assert!(allocations <= MOST, "{format}: {allocations} allocations for {events} events");
}
