//! The cluster DNS: queries in, answers out.
//!
//! [`Responder`] answers what is of the cluster from compiled tables and says of everything else who is to be asked. It is pure:
//! no sockets, clocks or randomness. [`forward`] asks upstreams for all other names. [`server`] is both behind sockets of its own.

mod answer;
mod config;
mod count;
mod counters;
pub mod desk;
pub mod forward;
pub(crate) mod invariants;
mod query;
mod records;
mod responder;
mod reverse;
pub mod server;
mod upstream;

pub use config::{BadZone, DnsConfig};
pub use counters::DnsCounters;
pub use policy::names::PodRecords;
pub use query::{Edns, Query, Unreadable};
pub use responder::{Responder, Response, Target, Transport};
