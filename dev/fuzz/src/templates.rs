//! A template and a row, as far as the record. Everything that must hold is in `relay/core/src/replay/mod.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    walpost_core::replay::template(data);
});
