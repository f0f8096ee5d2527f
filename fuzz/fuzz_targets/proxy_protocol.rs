//! See `gateway::invariants::proxy_protocol`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::invariants::proxy_protocol(bytes));
