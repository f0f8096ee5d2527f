//! The proxy's engine against clients and backends on loopback, byte by byte where that matters.

mod answers;
mod bodies;
mod failures;
mod fields;
mod harness;
mod http2;
mod life;
mod limits;
mod rules;
mod upgrades;
