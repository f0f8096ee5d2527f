//! See `wire::invariants::rewrite_reverse`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::invariants::rewrite_reverse(bytes));
