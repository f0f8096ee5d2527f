//! See `wire::invariants::packet_check`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::invariants::packet_check(bytes));
