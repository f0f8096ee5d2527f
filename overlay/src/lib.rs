//! The tunnel between nodes: how a frame is wrapped, who the peers are, where an address lives, how large a packet may be.
//! Pure: bytes and tables in, bytes and answers out.

#![forbid(unsafe_code)]

pub mod ecn;
pub mod mtu;
pub mod peers;
pub mod tunnel;
pub mod vxlan;
