//! Kubernetes objects and what they mean: parsed with errors that name file, object and field; compiled to immutable
//! tables; looked up on the fast path. Pure: no files, sockets, threads or clocks.

#![forbid(unsafe_code)]

pub mod objects;
pub mod selector;
pub mod tables;
