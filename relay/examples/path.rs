//! Takes events along the path from the socket's bytes to the record, for valgrind to count instructions (`make micro`):
//! `path events 10000` does it, `path stream 10000` makes the same bytes and does nothing with them.

#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "../benches/support/mod.rs"]
mod support;

use support::{MAPPINGS, Path, stream};

/// Transactions in one go: about what one read of a busy stream brings.
const BURST: u64 = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let (mode, events) = match &arguments[..] {
        [_, mode, events] => (mode.as_str(), events.parse::<u64>().expect("a number of events")),
        _ => panic!("path events|stream NUMBER"),
    };
    let (mut path, mut made) = (Path::with(MAPPINGS[0]), 0);
    for burst in 0..events / BURST {
        let bytes = stream(burst * BURST, BURST);
        made += bytes.len();
        if mode == "events" {
            path.pass(&bytes);
        }
    }
    println!("{made} bytes, {} acknowledged", path.publisher.counts().acknowledged);
}
