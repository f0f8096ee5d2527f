//! See `wire::invariants::arp_nd`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| wire::invariants::arp_nd(bytes));
