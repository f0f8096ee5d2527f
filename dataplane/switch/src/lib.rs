//! The Switch: all forwarding state of one shard as a value. It is given frames, datagrams, table updates and the time; it
//! edits the frame in place and says where it goes. It owns no descriptor, thread, clock or randomness.

#![forbid(unsafe_code)]

mod counters;
mod drop;

pub use counters::{AnswerKind, Count, Counters, SwitchCounters};
pub use drop::DropReason;

use overlay::peers::{PeerId, Peers};
use overlay::vxlan::Vni;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use wire::{FlowKey, Frame, Instant, MacAddr};

/// Number of a port, unique on its node and never reused while the node process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u32);

/// Number of a shard on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// What is attached to a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A pod's TAP.
    Pod {
        /// metadata.namespace of the pod.
        namespace: String,
        /// metadata.name of the pod.
        name: String,
    },
    /// The node's own TAP: kubelet, probes, node processes.
    Host,
}

/// A port as it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Its number.
    pub id: PortId,
    /// What is attached.
    pub kind: PortKind,
    /// The MAC that the attached side uses; any other sender is spoofed.
    pub mac: MacAddr,
    /// The addresses that the attached side may use. For the host port: the node's own addresses and its gateway addresses.
    pub addresses: Vec<IpAddr>,
    /// Largest IP packet that the attached side takes.
    pub mtu: u16,
}

/// Where a frame is sent. The frame has been edited for that exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Write it to this port of this shard.
    Port(PortId),
    /// Hand the buffer to that shard, which calls [`Switch::to_port`].
    Shard(ShardId, PortId),
    /// Encapsulate it for that peer. The frame's inner Ethernet header is set; it may be a super-frame.
    Peer(PeerId),
}

/// What became of a frame. Exactly one per frame handed in, and exactly one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent on.
    Forward(Exit),
    /// Turned, in its own buffer, into an answer (ARP, ND, ICMP, TCP RST) that is sent back.
    Answer(Exit),
    /// Discarded.
    Drop(DropReason),
}

/// Compiled intent and local attachment, as one shard sees it. Immutable; swapped whole.
#[derive(Debug)]
pub struct Tables {
    /// Compiled objects.
    pub policy: Arc<policy::tables::Tables>,
    /// Other nodes.
    pub peers: Arc<Peers>,
    /// Addresses of the pods attached to this node, whatever the shard.
    pub local: Arc<HashMap<IpAddr, (ShardId, PortId)>>,
    /// Shard and number of the host port.
    pub host: Option<(ShardId, PortId)>,
}

impl Tables {
    /// Derives the peers of node `node_name` from the compiled objects.
    pub fn new(
        node_name: &str,
        policy: Arc<policy::tables::Tables>,
        local: Arc<HashMap<IpAddr, (ShardId, PortId)>>,
        host: Option<(ShardId, PortId)>,
    ) -> Tables {
        let _ = (node_name, policy, local, host);
        todo!("switch")
    }
}

/// What a switch is told once.
#[derive(Clone, Debug)]
pub struct SwitchConfig {
    /// metadata.name of the Node.
    pub node_name: String,
    /// Which shard this is.
    pub shard: ShardId,
    /// VNI of the overlay; other VNIs are dropped.
    pub vni: Vni,
    /// UDP port of the tunnel: pods may not send to it at node addresses.
    pub vxlan_port: u16,
    /// MAC of this node's VTEP: source of inner frames to peers, and the only accepted destination from them.
    pub vtep_mac: MacAddr,
    /// The gateway addresses that pods use, one per family.
    pub gateways: Vec<IpAddr>,
    /// Largest inner IP packet that fits the tunnel.
    pub tunnel_mtu: u16,
    /// Seed for hashes and for backend choice.
    pub seed: u64,
    /// Flows that one port may hold.
    pub flows_per_port_max: u32,
}

/// The MAC of the gateway on every port of every node (locally administered).
pub const GATEWAY_MAC: MacAddr = MacAddr([0x0a, 0x70, 0x6f, 0x64, 0x00, 0x01]);

/// One flow as it is listed to people.
#[derive(Clone, Debug)]
pub struct FlowInfo {
    /// Port that holds it.
    pub port: PortId,
    /// Packets of the opener as they enter the port's flow table.
    pub original: FlowKey,
    /// Packets of the answerer as they enter it (differs from the reverse of `original` when translated).
    pub reply: FlowKey,
    /// State in words (`established`, `syn-sent`, ...).
    pub state: &'static str,
    /// Packets and bytes of the opener's direction.
    pub original_count: (u64, u64),
    /// Packets and bytes of the answerer's direction.
    pub reply_count: (u64, u64),
    /// Time since the last packet.
    pub idle: Duration,
}

/// All forwarding state of one shard.
pub struct Switch {
    config: SwitchConfig,
}

impl Switch {
    /// A switch without ports; everything is dropped until tables arrive.
    pub fn new(config: SwitchConfig) -> Switch {
        Switch { config }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &SwitchConfig {
        &self.config
    }

    /// Swaps the tables; gives back the old ones, to be freed elsewhere. Flows opened under other tables are judged again at
    /// their next packet.
    pub fn set_tables(&mut self, tables: Arc<Tables>) -> Option<Arc<Tables>> {
        let _ = tables;
        todo!("switch")
    }

    /// Attaches a port.
    pub fn add_port(&mut self, port: PortConfig) {
        let _ = port;
        todo!("switch")
    }

    /// Detaches a port and forgets its flows.
    pub fn remove_port(&mut self, port: PortId) {
        let _ = port;
        todo!("switch")
    }

    /// A frame that a pod sent.
    pub fn from_pod(&mut self, now: Instant, port: PortId, frame: &mut Frame) -> Fate {
        let _ = (now, port, frame);
        todo!("switch")
    }

    /// A frame that the node itself sent on its host TAP.
    pub fn from_host(&mut self, now: Instant, port: PortId, frame: &mut Frame) -> Fate {
        let _ = (now, port, frame);
        todo!("switch")
    }

    /// A tunnel datagram from underlay address `sender`: VXLAN header and inner frame. May hold a merged super-frame.
    pub fn from_peer(&mut self, now: Instant, sender: IpAddr, frame: &mut Frame) -> Fate {
        let _ = (now, sender, frame);
        todo!("switch")
    }

    /// A frame that another shard handed over for a port of this one.
    pub fn to_port(&mut self, now: Instant, port: PortId, frame: &mut Frame) -> Fate {
        let _ = (now, port, frame);
        todo!("switch")
    }

    /// Counts a frame that the shell itself had to discard (transmit queue full, device gone, datagram truncated).
    pub fn count_drop(&mut self, reason: DropReason) {
        let _ = reason;
        todo!("switch")
    }

    /// Removes flows whose time has come, at most `budget` entries looked at; returns when to call again.
    pub fn expire(&mut self, now: Instant, budget: usize) -> Option<Instant> {
        let _ = (now, budget);
        todo!("switch")
    }

    /// The ports of this shard.
    pub fn ports(&self) -> Vec<PortConfig> {
        todo!("switch")
    }

    /// Everything counted so far.
    pub fn counters(&self) -> SwitchCounters {
        todo!("switch")
    }

    /// The flows of every port, at most `max`.
    pub fn flows(&self, now: Instant, max: usize) -> Vec<FlowInfo> {
        let _ = (now, max);
        todo!("switch")
    }
}
