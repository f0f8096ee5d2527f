//! The cluster DNS: queries in, answers out.
//!
//! [`Responder`] answers what is of the cluster from compiled tables and says of everything else who is to be asked. It is pure:
//! no sockets, clocks or randomness. [`forward`] asks upstreams for all other names.

mod counters;
pub mod forward;
mod responder;

pub use counters::DnsCounters;
pub use responder::{BadZone, DnsConfig, PodRecords, Responder, Response, Target, Transport};
