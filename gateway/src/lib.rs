//! The L7 doors of a cluster: names in, addresses out ([`dns`]); HTTP requests in, backends out ([`http`]).
//!
//! What they answer by is compiled elsewhere (`policy::names`, `policy::routes`) and swapped under them while they work. They
//! know no files and no Kubernetes source: whoever runs them hands the tables over.

#![forbid(unsafe_code)]

pub mod dns;
mod health;
pub mod http;
pub mod invariants;
mod metrics;

pub use health::HealthServer;
pub use metrics::Count;
