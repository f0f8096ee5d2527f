//! Where a packet enters the cluster's switches, if it does: what the kernels of nodes and clients decide before any switch
//! sees it.

use super::scene::Scene;
use crate::error::{LabError, Result};
use crate::place::Place;
use control::controller::LabNetwork;
use policy::compile::CompileOptions;
use policy::tables::{Frontend, FrontendKind, NodeIndex, Owner, PodIndex, TrafficPolicy};
use std::net::IpAddr;
use switch::explain::Entry;
use wire::Protocol;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    /// A pod with a port of its own.
    Pod(PodIndex),
    /// A node's own process, or a pod that shares its network.
    Node(NodeIndex),
    /// Somebody outside; the node where packets enter, if it was said.
    Outside(Option<NodeIndex>),
}

impl Sender {
    /// Who sends from `place`, and from which addresses; `entry` is the node of `--node`.
    pub(super) fn find(
        place: &Place,
        scene: &Scene,
        network: &LabNetwork,
        entry: Option<NodeIndex>,
    ) -> Result<(Sender, Vec<IpAddr>)> {
        let tables = &scene.tables;
        let bad = |why: &str| Err(LabError::BadInput(format!("{place}: {why}")));
        let (namespace, name) = match place {
            Place::Pod { namespace, name } => (namespace.clone(), name.clone()),
            Place::Unlabelled { address, .. } => {
                (super::assume::NAMESPACE.to_owned(), super::assume::name_of(*address))
            }
            Place::Node(name) => return scene.node_sender(name),
            // A loopback address is of the node that was named.
            Place::World(Some(address)) if address.is_loopback() => {
                let Some(node) = entry else { return bad("say with --node on which node") };
                return Ok((Sender::Node(node), tables.node(node).addresses.clone()));
            }
            Place::World(_) => {
                return Ok((Sender::Outside(entry), place.addresses(&scene.census, network)));
            }
            Place::Underlay => {
                return bad("nothing is sent from here; use NS/POD, node:NAME, world, world:IP or an address");
            }
        };
        let Some(pod) = tables.find_pod(&namespace, &name) else { return bad("this pod was refused") };
        let entry = tables.pod(pod);
        match entry.node {
            None => bad("this pod is on no node"),
            Some(node) if entry.host_network => Ok((Sender::Node(node), tables.node(node).addresses.clone())),
            Some(_) if entry.addresses.is_empty() => bad("this pod has no address"),
            Some(_) => Ok((Sender::Pod(pod), entry.addresses.clone())),
        }
    }
}

/// Where a packet goes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// Into a switch.
    Switch(Entry),
    /// To the relay of the node itself, which speaks for a nodePort on addresses that never leave the kernel.
    Relay(NodeIndex, Frontend, IpAddr),
    /// Nowhere: the pod itself has the address.
    Itself,
    /// To a node's own kernel, for this reason.
    Kernel(NodeIndex, String),
    /// Away from the cluster, for this reason.
    Away(String),
}

impl Scene {
    fn node_sender(&self, name: &str) -> Result<(Sender, Vec<IpAddr>)> {
        match self.tables.find_node(name) {
            Some(node) => Ok((Sender::Node(node), self.tables.node(node).addresses.clone())),
            None => Err(LabError::BadInput(format!("node:{name}: this node was refused"))),
        }
    }

    /// Where a packet of `sender` for `dst` goes first.
    pub(super) fn route(
        &self,
        sender: Sender,
        dst: IpAddr,
        (protocol, port): (Protocol, u16),
        options: &CompileOptions,
    ) -> Route {
        match sender {
            Sender::Pod(pod) if dst.is_loopback() || self.tables.pod(pod).addresses.contains(&dst) => Route::Itself,
            Sender::Pod(pod) => Route::Switch(Entry::Pod(pod)),
            Sender::Node(node) => self.route_of_node(node, dst, (protocol, port), options),
            Sender::Outside(_) if !self.is_inside(dst) => {
                Route::Away(format!("neither end is in the cluster: {dst} is nobody's here"))
            }
            Sender::Outside(entry) => {
                Route::Switch(Entry::Uplink(entry.unwrap_or_else(|| self.entry_of(dst, (protocol, port)))))
            }
        }
    }

    fn route_of_node(
        &self,
        node: NodeIndex,
        dst: IpAddr,
        (protocol, port): (Protocol, u16),
        options: &CompileOptions,
    ) -> Route {
        let tables = &self.tables;
        let owner = tables.owner(dst);
        if dst.is_loopback() || owner == Some(Owner::Node(node)) {
            let is_of_family = |addr: &IpAddr| addr.is_ipv4() == dst.is_ipv4();
            let asked = match dst.is_loopback() {
                true if options.serves_node_ports(dst) => tables.node_port_addresses(node).find(is_of_family),
                true => None,
                false => Some(dst),
            };
            let found = |addr: IpAddr| Some((tables.find_service(addr, protocol, port)?, addr));
            let at_every_address = || {
                let own = tables.node(node).addresses.iter().filter(|addr| is_of_family(addr));
                own.copied().filter_map(found).find(|(frontend, _)| {
                    tables.host_port(frontend.service).is_some_and(|host_port| host_port.everywhere)
                })
            };
            let frontend = asked.and_then(found).or_else(at_every_address);
            return match frontend {
                Some((frontend, addr)) if protocol != Protocol::SCTP => Route::Relay(node, frontend, addr),
                _ => Route::Kernel(
                    node,
                    format!("{dst} is {}'s own address: its packets stay there", self.node_name(node)),
                ),
            };
        }
        match owner {
            Some(Owner::Node(other)) if tables.find_service(dst, protocol, port).is_some() => {
                Route::Switch(Entry::Uplink(other))
            }
            Some(Owner::Node(other)) => {
                let (from, to) = (self.node_name(node), self.node_name(other));
                Route::Kernel(other, format!("the kernels of {from} and {to} speak to each other on the underlay"))
            }
            _ if self.is_inside(dst) => Route::Switch(Entry::Host(node)),
            _ => Route::Away(format!("the kernel of {} sends it on its own", self.node_name(node))),
        }
    }

    /// Whether an address is one of the cluster.
    pub(super) fn is_inside(&self, addr: IpAddr) -> bool {
        let tables = &self.tables;
        tables.owner(addr).is_some()
            || tables.is_virtual(addr)
            || tables.nodes.iter().any(|node| node.pod_cidrs.iter().any(|cidr| cidr.contains(&addr)))
            || self.service_cidrs.iter().any(|cidr| cidr.contains(&addr))
    }

    /// The node where packets from outside enter if nobody says: the one that has the address; the one that announces a load
    /// balancer's while all nodes live; else the first ready one that serves it, in order of names.
    fn entry_of(&self, dst: IpAddr, (protocol, port): (Protocol, u16)) -> NodeIndex {
        let tables = &self.tables;
        let of_owner = match tables.owner(dst) {
            Some(Owner::Node(node)) => Some(node),
            Some(Owner::Pod(pod)) => tables.pod(pod).node,
            None => None,
        };
        let nodes = || (0..tables.nodes.len() as u32).map(NodeIndex);
        let announcer = || control::announce::announcer(tables, dst).and_then(|name| tables.find_node(&name));
        let serving = || {
            let frontend = tables.find_service(dst, protocol, port)?;
            let local = tables.service_entry(frontend.service).external_policy == TrafficPolicy::Local
                && frontend.kind != FrontendKind::ClusterIp;
            let serves = |node: &NodeIndex| {
                let client = policy::tables::Client::Outside;
                !local || !tables.candidates(frontend, dst, Some(*node), client).is_empty()
            };
            let ready = |node: &NodeIndex| tables.node(*node).ready;
            nodes().find(|node| ready(node) && serves(node)).or_else(|| nodes().find(serves))
        };
        of_owner.or_else(announcer).or_else(serving).unwrap_or(NodeIndex(0))
    }
}
