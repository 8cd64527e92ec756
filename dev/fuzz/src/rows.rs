//! A row of the outbox, as far as the event. Everything that must hold is in `relay/core/src/replay/mod.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    walpost_core::replay::row(data);
});
