//! A row of the outbox, as far as the event. Everything that must hold is in `relay/src/replay/mod.rs`.

#![no_main]
#![allow(missing_docs, dead_code, unreachable_pub)]

#[path = "../../../relay/src/lsn.rs"]
mod lsn;
#[path = "../../../relay/src/outbox/mod.rs"]
mod outbox;
#[path = "../../../relay/src/pgoutput/mod.rs"]
mod pgoutput;
#[path = "../../../relay/src/replay/mod.rs"]
mod replay;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    replay::row(data);
});
