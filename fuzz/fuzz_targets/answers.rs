//! See `wire::invariants::answers`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::invariants::answers(bytes));
