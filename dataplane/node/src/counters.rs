//! What a dataplane has counted since it started, summed over its shards.

use gateway::dns::DnsCounters;
use gateway::dns::desk::DeskCounters;
use switch::SwitchCounters;

/// Sums over all shards.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Fates of frames, by port and in total; balanced as [`SwitchCounters`] says.
    pub switch: SwitchCounters,
    /// What the kernel did with our reads and writes.
    pub io: IoCounters,
    /// What the cluster DNS answered; nothing if this node does not.
    pub dns: DnsStatus,
}

/// The cluster DNS of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DnsStatus {
    /// Datagrams, at the shards.
    pub shards: DnsCounters,
    /// Connections, and names that are not the cluster's.
    pub desk: DeskCounters,
}

impl Counters {
    /// Adds those of another shard. Ports stay apart, in order of their numbers: a port lives on one shard.
    pub(crate) fn merge(&mut self, other: Counters) {
        let SwitchCounters { ports, tunnel, handover, detached, shell, flows, names } = other.switch;
        self.switch.ports.extend(ports);
        self.switch.ports.sort_by_key(|(id, _)| *id);
        self.switch.tunnel.merge(&tunnel);
        self.switch.handover.merge(&handover);
        self.switch.detached.merge(&detached);
        for (reason, count) in shell {
            match self.switch.shell.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, sum)) => *sum += count,
                None => self.switch.shell.push((reason, count)),
            }
        }
        self.switch.flows += flows;
        self.switch.names.add(names);
        self.io.merge(&other.io);
        self.dns.shards.add(&other.dns.shards);
    }
}

/// What happened at the system calls of the tunnel, of the uplink and of the ports.
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
    /// Send calls that found the socket buffer full.
    pub tunnel_tx_full: u64,
    /// Send calls that the kernel refused because it has learned of a path MTU that is smaller.
    pub tunnel_tx_too_big: u64,
    /// Calls that returned an ICMP error (port, host or network unreachable).
    pub tunnel_unreachable: u64,
    /// Other errors of a tunnel socket.
    pub tunnel_errors: u64,
    /// Frames received from the node's own interfaces, after the filter.
    pub uplink_rx_frames: u64,
    /// Frames sent out of the node's own interfaces.
    pub uplink_tx_frames: u64,
    /// Packets to the outside that went through the kernel, because their next hop was not known (yet).
    pub uplink_tx_through_kernel: u64,
    /// Ports whose device went away under us.
    pub ports_lost: u64,
    /// Writes of flows to the state folder that failed: after a restart, those flows begin anew.
    pub flow_writes_failed: u64,
}

impl IoCounters {
    fn merge(&mut self, other: &IoCounters) {
        self.tunnel_rx_datagrams += other.tunnel_rx_datagrams;
        self.tunnel_rx_calls += other.tunnel_rx_calls;
        self.tunnel_tx_datagrams += other.tunnel_tx_datagrams;
        self.tunnel_tx_calls += other.tunnel_tx_calls;
        self.tunnel_tx_full += other.tunnel_tx_full;
        self.tunnel_tx_too_big += other.tunnel_tx_too_big;
        self.tunnel_unreachable += other.tunnel_unreachable;
        self.tunnel_errors += other.tunnel_errors;
        self.uplink_rx_frames += other.uplink_rx_frames;
        self.uplink_tx_frames += other.uplink_tx_frames;
        self.uplink_tx_through_kernel += other.uplink_tx_through_kernel;
        self.ports_lost += other.ports_lost;
        self.flow_writes_failed += other.flow_writes_failed;
    }
}
