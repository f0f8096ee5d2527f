//! See `gateway::invariants::dns_query`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::invariants::dns_query(bytes));
