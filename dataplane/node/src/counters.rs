//! What a dataplane has counted since it started, summed over its shards.

use switch::{DropReason, PortId};

/// Sums over all shards. `frames_in` equals `forwarded + answered` plus the sum of `drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames that were handed to the switch.
    pub frames_in: u64,
    /// Frames that were sent on.
    pub forwarded: u64,
    /// Frames that were turned into an answer.
    pub answered: u64,
    /// Frames that were discarded, by reason; reasons that never occurred are absent.
    pub drops: Vec<(DropReason, u64)>,
    /// What went through each port, by number.
    pub ports: Vec<(PortId, PortCounters)>,
    /// What the kernel did with our reads and writes.
    pub io: IoCounters,
}

/// Traffic of one port, as seen from the switch. A super-frame counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames read from the port.
    pub rx_frames: u64,
    /// Bytes of those frames.
    pub rx_bytes: u64,
    /// Frames written to the port.
    pub tx_frames: u64,
    /// Bytes of those frames.
    pub tx_bytes: u64,
    /// Frames that the port's device did not take.
    pub tx_dropped: u64,
}

/// What happened at the system calls of the tunnel and of the handover between shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounters {
    /// Tunnel datagrams received, after UDP_GRO was undone.
    pub tunnel_rx_datagrams: u64,
    /// Receive calls that returned something; the ratio to the datagrams is what UDP_GRO gains.
    pub tunnel_rx_calls: u64,
    /// Tunnel datagrams sent.
    pub tunnel_tx_datagrams: u64,
    /// Send calls; the ratio to the datagrams is what UDP_SEGMENT gains.
    pub tunnel_tx_calls: u64,
    /// Datagrams that the kernel did not take: socket buffer full.
    pub tunnel_tx_full: u64,
    /// Datagrams larger than the path MTU that the kernel has learned.
    pub tunnel_tx_too_big: u64,
    /// ICMP errors that came back (port or host unreachable).
    pub tunnel_unreachable: u64,
    /// Other errors of a tunnel socket.
    pub tunnel_errors: u64,
    /// Frames that another shard's queue had no room for.
    pub handover_full: u64,
    /// Ports whose device went away under us.
    pub ports_lost: u64,
}
