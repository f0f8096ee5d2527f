//! Compiled intent together with what is attached to this node, as one shard sees it.

use crate::{PortId, ShardId};
use overlay::peers::{Peer, PeerId, Peers, derive_vtep_mac};
use policy::tables::{FrontendKind, NodeIndex, Owner};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use wire::{FlowKey, Protocol};

/// What is attached to a node, and what the shell does for it outside.
#[derive(Clone, Debug, Default)]
pub struct Attached {
    /// Addresses of the pods attached to this node, whatever the shard.
    pub pods: Arc<HashMap<IpAddr, (ShardId, PortId)>>,
    /// Shard and number of the host port.
    pub host: Option<(ShardId, PortId)>,
    /// Shard and number of the uplink; a node without one reaches nothing outside. The shard is the host port's.
    pub uplink: Option<(ShardId, PortId)>,
    /// Addresses that this node announces on the underlay: it answers ARP and neighbor discovery for them.
    pub announced: Arc<HashSet<IpAddr>>,
    /// Service ports at the node's own addresses that the kernel would not leave to us: not served at the uplink.
    pub unclaimed: Arc<HashSet<(Protocol, u16)>>,
}

/// Compiled intent and local attachment, as one shard sees it. Immutable; swapped whole.
#[derive(Debug)]
pub struct Tables {
    /// Compiled objects.
    pub policy: Arc<policy::tables::Tables>,
    /// Other nodes.
    pub peers: Arc<Peers>,
    /// What is attached here.
    pub attached: Attached,
    /// This node's own entry; a node that no object describes has none.
    own: Option<NodeIndex>,
    /// By node index; `None` for this node and for nodes without an address.
    peer_of_node: Arc<[Option<PeerId>]>,
    /// The attached pods once more, under a hash that is cheap enough to be computed per frame.
    ports: hashbrown::HashMap<IpAddr, (ShardId, PortId)>,
}

impl Tables {
    /// Derives the peers of node `node_name` from the compiled objects.
    pub fn new(node_name: &str, policy: Arc<policy::tables::Tables>, attached: Attached) -> Tables {
        let own = policy.find_node(node_name);
        let mut peers = Vec::new();
        let mut peer_of_node = Vec::with_capacity(policy.nodes.len());
        for (index, node) in policy.nodes.iter().enumerate() {
            if own == Some(NodeIndex(index as u32)) || node.addresses.is_empty() {
                peer_of_node.push(None);
                continue;
            }
            peer_of_node.push(Some(PeerId(peers.len() as u32)));
            peers.push(Peer {
                name: node.name.to_string(),
                underlay: node.addresses.clone(),
                vtep_mac: node.vtep_mac.unwrap_or_else(|| derive_vtep_mac(&node.name)),
                pod_cidrs: node.pod_cidrs.clone(),
            });
        }
        let ports = attached.pods.iter().map(|(addr, at)| (*addr, *at)).collect();
        let peer_of_node = peer_of_node.into();
        Tables { policy, peers: Arc::new(Peers::new(peers)), attached, own, peer_of_node, ports }
    }

    /// The tables after `self` on the same node: as from [`Tables::new`], at less cost if the nodes are the same.
    pub fn next(&self, node_name: &str, policy: Arc<policy::tables::Tables>, attached: Attached) -> Tables {
        if !policy.shares_nodes(&self.policy) {
            return Tables::new(node_name, policy, attached);
        }
        let ports = attached.pods.iter().map(|(addr, at)| (*addr, *at)).collect();
        let (peers, peer_of_node) = (self.peers.clone(), self.peer_of_node.clone());
        Tables { policy, peers, attached, own: self.own, peer_of_node, ports }
    }

    /// No objects and nothing attached.
    pub(crate) fn empty() -> Tables {
        Tables {
            policy: Arc::default(),
            peers: Arc::default(),
            attached: Attached::default(),
            own: None,
            peer_of_node: Arc::default(),
            ports: hashbrown::HashMap::new(),
        }
    }

    /// This node's own entry; a node that no object describes has none.
    #[inline]
    pub(crate) fn own(&self) -> Option<NodeIndex> {
        self.own
    }

    /// The port of the local pod with address `addr`.
    #[inline]
    pub(crate) fn port_of(&self, addr: IpAddr) -> Option<(ShardId, PortId)> {
        self.ports.get(&addr).copied()
    }

    pub(crate) fn peer_of_node(&self, node: NodeIndex) -> Option<PeerId> {
        self.peer_of_node.get(node.0 as usize).copied().flatten()
    }

    pub(crate) fn is_own_address(&self, addr: IpAddr) -> bool {
        self.own.is_some_and(|own| self.policy.nodes[own.0 as usize].addresses.contains(&addr))
    }

    /// This node's first address of a family.
    pub(crate) fn own_address(&self, is_ipv4: bool) -> Option<IpAddr> {
        let own = &self.policy.nodes[self.own?.0 as usize];
        own.addresses.iter().copied().find(|addr| addr.is_ipv4() == is_ipv4)
    }

    pub(crate) fn is_own_pod_range(&self, addr: IpAddr) -> bool {
        self.own.is_some_and(|own| self.policy.nodes[own.0 as usize].pod_cidrs.iter().any(|cidr| cidr.contains(&addr)))
    }

    /// Whose address `addr` is, for people.
    pub(crate) fn name_of(&self, addr: IpAddr) -> Option<String> {
        match self.policy.owner(addr)? {
            Owner::Pod(pod) => {
                let pod = self.policy.pod(pod);
                Some(format!("{}/{}", pod.namespace, pod.name))
            }
            Owner::Node(node) => Some(self.policy.nodes[node.0 as usize].name.to_string()),
        }
    }

    /// Which Service packets with `key` are for, for people; none at a pod's hostPort.
    pub(crate) fn name_of_service(&self, key: &FlowKey) -> Option<String> {
        let frontend = self.policy.find_service(key.dst(), key.protocol, key.dst_port)?;
        let service = self.policy.service_entry(frontend.service);
        (frontend.kind != FrontendKind::HostPort).then(|| format!("{}/{}", service.namespace, service.name))
    }
}
