//! The proxy's engine against clients and backends on loopback, byte by byte where that matters.

mod answers;
#[allow(dead_code)] // Tests that follow use the rest.
mod harness;
