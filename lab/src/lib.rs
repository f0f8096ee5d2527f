//! Multi-node labs.

#![forbid(unsafe_code)]

pub mod bench;
pub mod error;
pub mod internal;
pub mod namespaces;
pub mod probe;
pub mod record;
pub mod server;
pub mod underlay;
mod wait;
