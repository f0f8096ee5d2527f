//! See `gateway::invariants::dns_upstream_answer`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::invariants::dns_upstream_answer(bytes));
