//! The way out of the cluster and in from it (DESIGN section 3): the node's own interfaces, which its kernel uses as well.
//!
//! Two sides. The shard of the host port sends and receives ([`link`]) on raw sockets, with next hops from a cache
//! ([`next_hops`]); that is the fast path, which takes no lock, makes no allocation and asks nobody. Beside it the keeper
//! ([`keeper`]), a thread of its own, holds what the kernel must not use or answer for, and answers the shard's questions in
//! its own time.
//!
//! | module | decides or holds |
//! |---|---|
//! | `filter`, `bpf` | which frames the kernel hands over; pure |
//! | `interfaces` | raw sockets, filters, multicast memberships |
//! | `claims` | ports of Services at the node's addresses |
//! | `source_ports` | ports for source NAT |
//! | `silence` | that the kernel says nothing about them while no process runs |
//! | `resolver` | next hops, from the kernel's routes and neighbors |
//! | `announce` | gratuitous ARP, unsolicited neighbor advertisements |
//! | `relay` | the node's own processes at claimed ports |
//!
//! Without CAP_NET_RAW there is no uplink: the node runs, reaches nothing outside, and says so.

mod announce;
mod bpf;
mod claims;
mod filter;
mod interfaces;
pub(crate) mod keeper;
pub(crate) mod link;
pub(crate) mod next_hops;
mod relay;
mod resolver;
pub(crate) mod silence;
mod source_ports;
pub(crate) mod status;
