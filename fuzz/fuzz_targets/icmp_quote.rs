//! See `wire::invariants::icmp_quote`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::invariants::icmp_quote(bytes));
