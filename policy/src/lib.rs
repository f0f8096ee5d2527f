//! Kubernetes objects and what they mean: parsed with errors that name file, object and field; compiled to immutable
//! tables; looked up on the fast path. Pure: no files, sockets, threads or clocks.
//!
//! The way of an object: [`objects::parse`] reads and validates it, [`cluster::Cluster`] holds it beside all others,
//! [`compile::compile`] turns a generation of them into [`tables::Tables`], where the switch looks things up.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod compile;
mod conversation;
pub mod diff;
pub mod explain;
pub mod invariants;
pub mod lint;
mod maglev;
pub mod matrix;
pub mod names;
pub mod objects;
mod partition;
pub mod routes;
mod rules;
pub mod selector;
mod stable_hash;
pub mod tables;
pub mod workloads;
