//! The shell around the Switch: TAPs, tunnel sockets, poll loop, shards.
//!
//! [`Dataplane`] is the handle that control holds. Behind it runs one thread per shard (module `shard`), each with its own
//! poll, its own [`switch::Switch`], its own ports and its own tunnel sockets. A frame is read into a pooled buffer, judged
//! and edited in place by the switch, and written out from the same buffer. Nothing on that path allocates, locks or logs.
//!
//! System calls that no safe library offers live in module `sys`, the only place of the workspace with `unsafe`.

#![deny(unsafe_code)]

mod adopt;
mod command;
#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod common;
mod config;
mod counters;
mod dataplane;
mod device;
mod error;
mod inspect;
mod link;
mod netlink;
mod plain_tap;
mod pool;
mod shard;
mod start;
mod state;
#[allow(unsafe_code)]
mod sys;
mod tap;
mod tunnel;
mod uplink;

// The tests' common part is written against the crate's public face.
#[cfg(test)]
extern crate self as node;

pub use adopt::{Leftover, remove_leftover};
pub use config::{ClusterDns, DataplaneConfig, PortInfo, PortSpec, TapKind, TapMode};
pub use counters::{Counters, DnsStatus, IoCounters};
pub use dataplane::Dataplane;
pub use error::{AttachError, StartError, Stopped};
pub use inspect::{Inspected, inspect};
pub use plain_tap::PlainTap;
pub use uplink::status::{ClaimFailure, UplinkInterface, UplinkState, UplinkStatus};
