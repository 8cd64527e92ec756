//! What each step of the path costs, alone and together: `cargo bench -p walpost`.

#![allow(missing_docs, unreachable_pub)]

mod support;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use support::{MAPPINGS, Path, insert, stream};
use walpost::replication::frames::Frames;
use walpost_core::lsn::Lsn;
use walpost_core::pgoutput::Decoder;
use walpost_core::window::progress::Progress;

/// Transactions in one go: about what one read of a busy stream brings.
const BURST: u64 = 500;

fn main() {
    divan::main();
}

/// Bytes of the socket to frames.
#[divan::bench]
fn frames(bencher: Bencher<'_, '_>) {
    let bytes = stream(0, BURST);
    let mut frames = Frames::default();
    bencher.counter(ItemsCount::new(BURST)).bench_local(|| {
        frames.room().extend_from_slice(&bytes);
        while let Some(frame) = frames.next_frame().expect("frames") {
            divan::black_box(frame);
        }
    });
}

/// A row's message to its values.
#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let (mut decoder, message) = (Decoder::default(), Bytes::from(insert(7)));
    decoder.decode(&support::relation().into()).expect("a relation");
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| decoder.decode(divan::black_box(&message)));
}

/// A transaction of one event into the window, acknowledged, and out of it.
#[divan::bench]
fn progress(bencher: Bencher<'_, '_>) {
    let (mut progress, mut number) = (Progress::<u64>::default(), 0);
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        number += 1;
        progress.begin(Lsn(number * 10)).expect("in order");
        let ordinal = progress.admit().expect("in order").expect("new");
        let sequence = progress.next_sequence();
        progress.push_event(ordinal, number, 300).expect("in order");
        progress.commit(Lsn(number * 10 + 5)).expect("in order");
        progress.acknowledge(sequence).expect("in flight");
        divan::black_box(progress.confirmable())
    });
}

/// Everything from the bytes of the socket to the record, and from its acknowledgement to a position, by what the record is
/// made of.
#[divan::bench(args = MAPPINGS.map(|(name, ..)| name))]
fn whole(bencher: Bencher<'_, '_>, name: &str) {
    let settings = MAPPINGS.into_iter().find(|(known, ..)| *known == name).expect("a mapping");
    let (mut path, mut number) = (Path::with(settings), 0);
    bencher
        .counter(ItemsCount::new(BURST))
        .with_inputs(|| {
            number += BURST;
            stream(number, BURST)
        })
        .bench_local_values(|bytes| path.pass(&bytes));
}
