//! See `wire::invariants::fragments`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::invariants::fragments(bytes));
