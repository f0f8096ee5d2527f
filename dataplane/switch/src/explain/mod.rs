//! What becomes of a packet, without sending it: one real [`Switch`] per node, with everything attached that the compiled
//! objects say is there, joined in memory.
//!
//! In: the tables, a packet, where it enters. Out: every switch that it passes, how the packet looks before and after, and its
//! fates. Nothing here decides: whatever is said was done by the code that carries traffic, so it cannot disagree with it.
//! Every walk begins with fresh switches, so that no flow, affinity or error budget of an earlier one is in the way. Which
//! backend of a Service a walk leads to is a matter of the flow's hash; [`Fabric::source_port_to`] finds a source port that
//! leads to a wanted one.

mod node;
mod packet;

#[cfg(test)]
mod tests;

use crate::{AnswerKind, DropReason, Exit, Fate, PortKind, Switch};
use ipnet::IpNet;
use node::Node;
use overlay::vxlan;
use policy::tables::{Backend, Choice, Client, FlowHash, Frontend, NodeIndex, PodIndex, Tables};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, OnceLock};
use wire::{FlowKey, Frame, Instant, Packet, Protocol};

/// Switches that a packet can pass before it must have arrived: a client's node and its backend's are two. More is a loop.
const HOPS_MAX: usize = 4;

/// The first source port that is tried: in the middle of what clients use.
const SOURCE_PORT: u16 = 40_000;

/// The seed of all switches. Any would do: which backend a hash leads to is not part of an answer.
const SEED: u64 = 0x706f_6470_6c61_6e65;

/// What the command line says about all nodes.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The ranges that Services get their cluster addresses from.
    pub service_cidrs: Vec<IpNet>,
    /// Destinations outside that pods reach with their own addresses.
    pub non_masquerade: Vec<IpNet>,
    /// Whatever goes to a Service gets a source of the client's node.
    pub masquerade_all: bool,
}

/// Where a packet enters the first switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// At the port of a pod that has one of its own.
    Pod(PodIndex),
    /// At the host port of a node.
    Host(NodeIndex),
    /// At the uplink of a node.
    Uplink(NodeIndex),
}

/// A packet that opens a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Where it enters.
    pub entry: Entry,
    /// TCP, UDP, SCTP, or ICMP for an echo of either family.
    pub protocol: Protocol,
    /// Its source; the port is ignored for an echo.
    pub src: SocketAddr,
    /// Its destination, of the same family; the port is ignored for an echo.
    pub dst: SocketAddr,
}

/// How a packet came into a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From what is attached there.
    Entry(Entry),
    /// Through the tunnel.
    Tunnel {
        /// The node that sent it.
        from: NodeIndex,
    },
}

/// One switch that the packet passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its node.
    pub node: NodeIndex,
    /// How the packet came in.
    pub way: Way,
    /// The packet as it came in.
    pub before: FlowKey,
    /// The packet as it went out, or as it was when it was dropped; meaningless for an answer.
    pub after: FlowKey,
    /// What became of it here.
    pub fate: Fate,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// A pod's interface received it.
    Pod(PodIndex),
    /// The node itself received it.
    Host(NodeIndex),
    /// It left the cluster there.
    Outside(NodeIndex),
    /// The switch answered it.
    Answered(AnswerKind),
    /// The node's own cluster DNS got it.
    Asked(NodeIndex),
    /// The switch discarded it.
    Dropped(DropReason),
}

/// A packet's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// The switches in order; at least one.
    pub hops: Vec<Hop>,
    /// How it ended, at the last one.
    pub end: End,
}

impl Walk {
    /// The packet when it left the last switch that let it pass, or entered the first.
    pub fn last_seen(&self) -> FlowKey {
        let passed = self.hops.iter().rfind(|hop| !matches!(hop.fate, Fate::Answer(_)));
        passed.map_or(self.hops[0].before, |hop| hop.after)
    }
}

/// The switches of all nodes, made when a packet first reaches them.
#[derive(Debug)]
pub struct Fabric {
    policy: Arc<Tables>,
    options: Options,
    /// By node index.
    nodes: Vec<OnceLock<Node>>,
}

impl Fabric {
    /// The fabric of the cluster that `policy` was compiled from. All its pods are attached to the nodes they are on.
    pub fn new(policy: Arc<Tables>, options: Options) -> Fabric {
        let nodes = policy.nodes.iter().map(|_| OnceLock::new()).collect();
        Fabric { policy, options, nodes }
    }

    /// Follows a packet to its end; `None` if it cannot enter, because the pod is on no node or the node has no port of that
    /// kind.
    pub fn walk(&self, probe: &Probe) -> Option<Walk> {
        let now = Instant::ZERO;
        let mut at = self.node_of(probe.entry)?;
        let port = self.node(at).port_of(probe.entry)?.clone();
        let mut frame = packet::craft(probe, port.mac, port.kind == PortKind::Uplink);
        let mut switches: BTreeMap<NodeIndex, Switch> = BTreeMap::new();
        let mut way = Way::Entry(probe.entry);
        let mut hops: Vec<Hop> = Vec::new();
        loop {
            let switch = switches.entry(at).or_insert_with(|| self.node(at).start());
            let before = flow_of(&frame)?;
            let fate = match way {
                Way::Entry(Entry::Pod(_)) => switch.from_pod(now, port.id, &mut frame),
                Way::Entry(Entry::Host(_)) => switch.from_host(now, port.id, &mut frame),
                Way::Entry(Entry::Uplink(_)) => switch.from_uplink(now, port.id, &mut frame),
                Way::Tunnel { from } => {
                    let header = vxlan::header(self.node(at).config.vni);
                    frame.push_front(vxlan::HEADER_BYTES).copy_from_slice(&header);
                    switch.from_peer(now, self.underlay_between(from, at)?, &mut frame)
                }
            };
            let after = flow_of(&frame).unwrap_or(before);
            hops.push(Hop { node: at, way, before, after, fate });
            let end = match fate {
                Fate::Drop(reason) => End::Dropped(reason),
                Fate::Answer(_) => End::Answered(answer_kind(switch)),
                Fate::Ask(_) => End::Asked(at),
                Fate::Forward(Exit::Peer(peer)) if hops.len() < HOPS_MAX => {
                    let name = &self.node(at).tables.peers.get(peer)?.name;
                    way = Way::Tunnel { from: at };
                    at = self.policy.find_node(name)?;
                    continue;
                }
                Fate::Forward(Exit::Port(port)) => self.node(at).end_at(port)?,
                // One shard per node: nothing is handed over. Only later fragments are held. And what passes more switches than
                // there can be is a loop.
                Fate::Forward(_) | Fate::Held => End::Dropped(DropReason::NotLocal),
            };
            return Some(Walk { hops, end });
        }
    }

    /// A source port with which `probe`, which goes to a Service's `frontend`, leads to the backend at `addr`:`port`; `None` if
    /// no port does, as may be with tens of thousands of backends.
    pub fn source_port_to(&self, probe: &Probe, frontend: Frontend, (addr, port): (IpAddr, u16)) -> Option<u16> {
        let (node, client) = (self.node_of(probe.entry), client(probe.entry));
        let dst = probe.dst.ip();
        let wanted = |backend: &Backend| (backend.addr, backend.port) == (addr, port);
        let ports = (SOURCE_PORT..=u16::MAX).chain(1_024..SOURCE_PORT);
        ports.into_iter().find(|src_port| {
            let key = FlowKey::new(probe.protocol, probe.src.ip(), *src_port, dst, probe.dst.port());
            let hash = FlowHash::new(&key, SEED);
            let choice = self.policy.choose(frontend, dst, node, client, probe.src.ip(), &hash);
            matches!(choice, Choice::Backend(backend) if wanted(&backend))
        })
    }

    /// The node on which a packet enters; `None` for a pod on no node.
    pub fn node_of(&self, entry: Entry) -> Option<NodeIndex> {
        match entry {
            Entry::Pod(pod) => self.policy.pod(pod).node,
            Entry::Host(node) | Entry::Uplink(node) => Some(node),
        }
    }

    fn node(&self, index: NodeIndex) -> &Node {
        self.nodes[index.0 as usize].get_or_init(|| Node::new(&self.policy, index, &self.options))
    }

    /// The underlay address from which `from` sends to `to`: of the family of the first address of `to`.
    fn underlay_between(&self, from: NodeIndex, to: NodeIndex) -> Option<IpAddr> {
        let is_ipv4 = self.policy.node(to).addresses.first()?.is_ipv4();
        self.policy.node(from).addresses.iter().copied().find(|addr| addr.is_ipv4() == is_ipv4)
    }
}

/// From which side a packet that enters there comes to a Service.
pub fn client(entry: Entry) -> Client {
    match entry {
        Entry::Pod(_) | Entry::Host(_) => Client::Inside,
        Entry::Uplink(_) => Client::Outside,
    }
}

fn flow_of(frame: &Frame) -> Option<FlowKey> {
    Packet::check(frame.bytes()).ok().map(|packet| packet.flow())
}

/// The kind of the one answer that a fresh switch has given.
fn answer_kind(switch: &Switch) -> AnswerKind {
    let counted = switch.counters().total();
    let kind = counted.answers().next().map(|(kind, _)| kind);
    kind.expect("an answer is counted by its kind")
}
