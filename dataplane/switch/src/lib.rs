//! The Switch: all forwarding state of one shard as a value. It is given frames, datagrams, table updates and the time; it
//! edits the frame in place and says where it goes. It owns no descriptor, thread, clock or randomness.
//!
//! Start reading at `path`, the life of a frame with all its branching. Around it, each a leaf that decides one thing:
//!
//! | module | decides or holds |
//! |---|---|
//! | `admit` | who may send what: MAC, source, ARP and ND senders, rogue servers, tunnel peers |
//! | `answer` | what the switch itself says: ARP, ND, gateway ping, ICMP errors, refusals |
//! | `flows`, `state` | the conversations of a port, their lifetime and limit |
//! | `fragments` | which flow a later fragment belongs to, and those that wait for their first |
//! | `later` | frames that are sent later than they came |
//! | `service` | where a Service leads, and whether a flow may stay there |
//! | `affinity` | which backend a client had last |
//! | `retry` | connection attempts that may be led to another backend |
//! | `hits`, `policy_hits` | how often Services were used, how often policies and their rules decided |
//! | `recent` | the most recent drops |
//! | `nat` | how packets are translated |
//! | `masquerade` | pods' flows to Services that come from the node's gateway address |
//! | `dns` | what is for the cluster DNS, and how its answers get to who asked |
//! | `names` | the names that pods know addresses by, from DNS answers |
//! | `verdict` | what policy says |
//! | `place` | where an address lives |
//! | `ports` | what belongs to a port |
//! | `source_ports` | which source ports translated flows to the outside have |
//! | `tables` | compiled intent and local attachment |
//! | `drop`, `counters` | why frames were discarded; one count per frame |
//! | [`explain`] | the same switches, asked instead of run |

#![forbid(unsafe_code)]

mod admit;
mod affinity;
mod answer;
mod counters;
mod dns;
mod drop;
pub mod explain;
mod flows;
mod fragments;
mod hits;
mod later;
mod masquerade;
mod names;
mod nat;
mod path;
mod path_mtu;
mod place;
mod policy_hits;
mod ports;
mod recent;
mod retry;
mod service;
mod source_ports;
mod state;
mod switch;
mod tables;
mod verdict;

pub use counters::{AnswerKind, Count, Counters, SwitchCounters};
pub use dns::Query;
pub use drop::DropReason;
pub use flows::{RECORD_BYTES, Restored};
pub use hits::ServiceHits;
pub use names::NamesCount;
pub use policy_hits::{Decider, PolicyHits};
pub use recent::{Asked, DropSeen, DropsSeen};
pub use source_ports::SourcePool;
pub use switch::{KnownName, Switch};
pub use tables::{Attached, Tables};

use ipnet::IpNet;
use overlay::peers::PeerId;
use overlay::vxlan::Vni;
use std::net::IpAddr;
use std::time::Duration;
use wire::{FlowKey, MacAddr};

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
    /// The way out of the cluster and in from outside: the node's own interface, shared with its kernel. A node has one at
    /// most, on the shard of its host port.
    Uplink,
}

/// A port as it is attached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Its number.
    pub id: PortId,
    /// What is attached.
    pub kind: PortKind,
    /// The MAC that the attached side uses; any other sender is spoofed. For the uplink: the interface's own, which is said to
    /// whoever asks for an announced address.
    pub mac: MacAddr,
    /// The addresses that the attached side may use. For the host port: the node's own addresses and its gateway addresses.
    /// For the uplink: the node's own addresses; the first of a family is the source of what is translated on its way out.
    pub addresses: Vec<IpAddr>,
    /// Largest IP packet that the attached side takes.
    pub mtu: u16,
}

/// Where a packet entered this node. It is remembered for clients outside the cluster: their answers leave where they came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// At a pod's port or the host port.
    Port,
    /// At the uplink.
    Uplink,
    /// In the tunnel, from the peer with this underlay address.
    Peer(IpAddr),
}

/// Where a frame is sent. The frame has been edited for that exit.
///
/// A packet for the uplink leaves with both MACs unset ([`UNRESOLVED_MAC`]): the shell knows the next hop. ARP and neighbor
/// discovery answers have theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Write it to this port of this shard.
    Port(PortId),
    /// Hand the buffer to that shard, which calls [`Switch::to_port`] with the same origin.
    Shard(ShardId, PortId, Origin),
    /// Encapsulate it for that peer. The frame's inner Ethernet header is set; it may be a super-frame.
    Peer(PeerId),
}

/// What became of a frame. Exactly one per frame handed in, and exactly one counter; one that is held gets another fate when it
/// is released or given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent on.
    Forward(Exit),
    /// Turned, in its own buffer, into an answer (ARP, ND, ICMP, TCP RST) that is sent back.
    Answer(Exit),
    /// For the cluster DNS, which every node answers itself: the shell has it answered, and hands the answer to [`Switch::answer`], or
    /// [`Switch::deliver_packet`] the packets of a connection.
    Ask(Query),
    /// Copied by the switch until what it depends on has come; it comes back from [`Switch::release`], or is given up and
    /// counted as dropped.
    Held,
    /// Discarded.
    Drop(DropReason),
}

/// What a switch is told once.
#[derive(Clone, Debug)]
pub struct SwitchConfig {
    /// metadata.name of the Node.
    pub node_name: String,
    /// Which shard this is.
    pub shard: ShardId,
    /// How many shards the node has.
    pub shards: u16,
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
    /// Flows that the uplink may hold.
    pub uplink_flows_max: u32,
    /// The ranges that Services get their cluster addresses from: never outside, whether in use or not.
    pub service_cidrs: Vec<IpNet>,
    /// Destinations outside that pods reach with their own addresses.
    pub non_masquerade: Vec<IpNet>,
    /// Whatever goes to a Service gets a source of this node.
    pub masquerade_all: bool,
    /// Name servers whose answers tell pods' rules with domainNames who has a name, beside the cluster's own.
    pub trusted_dns: Vec<IpNet>,
}

/// The MAC of the gateway on every port of every node (locally administered).
pub const GATEWAY_MAC: MacAddr = MacAddr([0x0a, 0x70, 0x6f, 0x64, 0x00, 0x01]);

/// The MACs of a packet for the uplink, whose next hop the shell resolves.
pub const UNRESOLVED_MAC: MacAddr = MacAddr([0; 6]);

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
    /// Namespace/name of the Service that the opener spoke to, if it was one.
    pub service: Option<String>,
    /// Namespace/name of the opener's pod, or the node's name.
    pub opener: Option<String>,
    /// Namespace/name of the answerer's pod, or the node's name.
    pub answerer: Option<String>,
}
