//! The compiled form of a cluster's intent, as seen from any node: who owns an address, where a Service leads, what a
//! policy says. Immutable; a lookup neither allocates nor walks lists that grow with the cluster.

pub(crate) mod backends;
mod lookup;
mod policies;
mod services;

pub use backends::{Backend, Candidates, EndpointState, ZoneIndex};
pub use policies::{
    Action, Direction, PolicyEntry, PolicyId, PolicyIndex, PolicyObject, Question, RuleRef, Tier, TierStep, Trace,
    Verdict, VerdictReason,
};
pub use services::{
    Choice, Client, FlowHash, Frontend, FrontendKind, HostPortEntry, NodeFrontend, ServiceEntry, ServiceId,
    ServiceIndex, ServicePortEntry, ServicePortId, ServicePortIndex, ServiceType, TrafficPolicy,
};

use crate::names::Names;
use crate::rules::RuleSets;
use crate::selector::Labels;
use ipnet::IpNet;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;
use wire::{MacAddr, Protocol};

/// Number of a pod; valid only with the tables it came from. Which pod has which number means nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodIndex(pub u32);

/// The number of the nodes' own DNS, in tables where that has an address.
pub(crate) const CLUSTER_DNS_POD: PodIndex = PodIndex(0);

/// Position of a node in [`Tables::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIndex(pub u32);

/// A node as the dataplane needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// metadata.name.
    pub name: Arc<str>,
    /// status.addresses of type InternalIP (then ExternalIP), in order.
    pub addresses: Vec<IpAddr>,
    /// spec.podCIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// Annotation `podplane.io/vtep-mac`; without it the MAC is derived from the name.
    pub vtep_mac: Option<MacAddr>,
    /// metadata.labels.
    pub labels: Labels,
    /// Label `topology.kubernetes.io/zone`.
    pub zone: Option<Arc<str>>,
    /// Condition Ready is not False or Unknown.
    pub ready: bool,
    /// Label `node.kubernetes.io/exclude-from-external-load-balancers`: announces no addresses.
    pub excluded_from_load_balancers: bool,
    /// deletionTimestamp or taint `ToBeDeletedByClusterAutoscaler`: its health says 503 (KEP-3836).
    pub being_deleted: bool,
}

/// A pod as the dataplane needs it. Terminal pods (Succeeded, Failed) are not listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodEntry {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// metadata.labels.
    pub labels: Labels,
    /// Node it runs on; `None` while unscheduled.
    pub node: Option<NodeIndex>,
    /// status.podIPs.
    pub addresses: Vec<IpAddr>,
    /// spec.hostNetwork: its addresses are the node's and are owned by the node.
    pub host_network: bool,
    /// spec.containers[].ports, of sidecar containers too.
    pub ports: Vec<ContainerPort>,
}

/// A port that a container says it listens on. Nothing is opened or closed by it: it gives names to ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name, empty if unnamed.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// containerPort.
    pub port: u16,
}

/// Whose address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A pod's own address.
    Pod(PodIndex),
    /// A node's address, or the gateway address of its pods.
    Node(NodeIndex),
}

/// A Service and where its ports are.
#[derive(Clone, Debug)]
pub struct ServiceSlot {
    /// What it says.
    pub entry: Arc<ServiceEntry>,
    /// Positions in [`Tables::service_ports`].
    pub ports: Range<u32>,
}

/// Everything compiled from one generation of a cluster's objects. A clone is cheap, and what a change did not concern is
/// shared between the tables before and after it.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// Number of this compilation; grows with every change.
    pub epoch: u64,
    /// Nodes by index, in order of their names.
    pub nodes: Arc<Vec<NodeEntry>>,
    /// Services that have addresses, in order of namespace and name.
    pub services: Arc<Vec<ServiceSlot>>,
    /// Service ports by index, those of a Service beside each other; then what stands for them in `host_ports`.
    pub service_ports: Arc<Vec<Arc<ServicePortEntry>>>,
    /// Policies by index, in order of evaluation: by tier, priority, namespace and name.
    pub policies: Arc<Vec<PolicyEntry>>,
    /// In order.
    pub(crate) policy_ids: Arc<Vec<(PolicyId, PolicyIndex)>>,
    /// Namespaces that have an object or pods, in order, with the labels that the API server sets.
    pub(crate) namespaces: Arc<Vec<(Arc<str>, Labels)>>,
    /// Pods by index; the first is the nodes' own DNS if that has addresses.
    pub(crate) pods: Arc<Vec<Arc<PodEntry>>>,
    /// All pods in order of namespace and name.
    pub(crate) pods_by_name: Arc<Vec<PodIndex>>,
    /// By pod: its node. Beside the pods, because every packet from another node asks for it.
    pub(crate) pod_nodes: Arc<Vec<Option<NodeIndex>>>,
    pub(crate) owners: Arc<HashMap<IpAddr, Owner>>,
    /// Addresses at which every node answers cluster DNS itself.
    pub(crate) cluster_dns: Arc<[IpAddr]>,
    /// By node: its zone.
    pub(crate) zones: Arc<Vec<Option<ZoneIndex>>>,
    pub(crate) virtual_ports: Arc<HashMap<(IpAddr, Protocol, u16), Frontend>>,
    /// Those of `virtual_ports` whose address is a node's own, in the order in which they were claimed.
    pub(crate) node_owned: Arc<Vec<(IpAddr, Protocol, u16)>>,
    pub(crate) virtual_addresses: Arc<HashSet<IpAddr>>,
    pub(crate) node_ports: Arc<HashMap<(Protocol, u16), ServicePortIndex>>,
    /// In order of their Service ports.
    pub(crate) host_ports: Arc<Vec<HostPortEntry>>,
    /// Addresses that serve nodePorts, and whose they are.
    pub(crate) node_port_addresses: Arc<HashMap<IpAddr, NodeIndex>>,
    /// What the cluster DNS answers.
    pub names: Arc<Names>,
    pub(crate) rules: Arc<RuleSets>,
}

impl Tables {
    /// Whether the nodes are the very ones of `other`, so that whatever was derived from them still holds.
    pub fn shares_nodes(&self, other: &Tables) -> bool {
        Arc::ptr_eq(&self.nodes, &other.nodes)
    }

    /// Whether addresses, ports and what else of Services is not their endpoints are the very ones of `other`, and so are
    /// nodes and owners of addresses.
    pub fn shares_frontends(&self, other: &Tables) -> bool {
        self.shares_nodes(other)
            && Arc::ptr_eq(&self.owners, &other.owners)
            && Arc::ptr_eq(&self.services, &other.services)
            && Arc::ptr_eq(&self.virtual_ports, &other.virtual_ports)
            && Arc::ptr_eq(&self.node_ports, &other.node_ports)
    }

    /// Whose address `addr` is. Pods that share the host network are not owners: their address is the node's.
    #[inline]
    pub fn owner(&self, addr: IpAddr) -> Option<Owner> {
        self.owners.get(&addr).copied()
    }

    /// The node called `name`.
    pub fn find_node(&self, name: &str) -> Option<NodeIndex> {
        let found = self.nodes.binary_search_by(|node| (*node.name).cmp(name));
        found.ok().map(|index| NodeIndex(index as u32))
    }

    /// The pod `namespace`/`name`.
    pub fn find_pod(&self, namespace: &str, name: &str) -> Option<PodIndex> {
        self.place_of_pod(namespace, name).ok().map(|place| self.pods_by_name[place])
    }

    /// Where a pod is in the order of names, or would be.
    pub(crate) fn place_of_pod(&self, namespace: &str, name: &str) -> Result<usize, usize> {
        self.pods_by_name.binary_search_by(|index| {
            let pod = self.pod(*index);
            (&*pod.namespace, &*pod.name).cmp(&(namespace, name))
        })
    }

    /// All pods that objects describe, in order of namespace and name.
    pub fn pods(&self) -> impl Iterator<Item = (PodIndex, &PodEntry)> {
        self.pods_by_name.iter().map(|index| (*index, self.pod(*index)))
    }

    /// The pods of a namespace.
    pub(crate) fn pods_in(&self, namespace: &[u8]) -> impl Iterator<Item = &PodEntry> {
        let start = self.pods_by_name.partition_point(|index| self.pod(*index).namespace.as_bytes() < namespace);
        let pods = self.pods_by_name[start..].iter().map(|index| self.pod(*index));
        pods.take_while(move |pod| pod.namespace.as_bytes() == namespace)
    }

    /// Whether there is a namespace `name`: an object, a pod or a Service says so.
    pub fn has_namespace(&self, name: &str) -> bool {
        let found = self.namespaces.binary_search_by(|(namespace, _)| (**namespace).cmp(name));
        found.is_ok() || self.names.has_services(name)
    }

    /// How many pods there are.
    pub fn pod_count(&self) -> usize {
        self.pods_by_name.len()
    }

    /// Whether every node answers cluster DNS itself at `addr`.
    #[inline]
    pub fn is_cluster_dns(&self, addr: IpAddr) -> bool {
        self.cluster_dns.contains(&addr)
    }

    /// The pod that the nodes' own DNS is to policies; no object describes it and [`Tables::pods`] leaves it out. `None` if nodes answer
    /// no DNS.
    #[inline]
    pub fn cluster_dns_pod(&self) -> Option<PodIndex> {
        (!self.cluster_dns.is_empty()).then_some(CLUSTER_DNS_POD)
    }

    /// The node that `pod` runs on.
    ///
    /// # Panics
    /// If `pod` is of other tables.
    #[inline]
    pub fn node_of_pod(&self, pod: PodIndex) -> Option<NodeIndex> {
        self.pod_nodes[pod.0 as usize]
    }

    /// The pod at `index`.
    ///
    /// # Panics
    /// If `index` is of other tables.
    pub fn pod(&self, index: PodIndex) -> &PodEntry {
        &self.pods[index.0 as usize]
    }

    /// The node at `index`.
    ///
    /// # Panics
    /// If `index` is of other tables.
    pub fn node(&self, index: NodeIndex) -> &NodeEntry {
        &self.nodes[index.0 as usize]
    }

    /// The zone of `node`.
    #[inline]
    pub fn zone(&self, node: NodeIndex) -> Option<ZoneIndex> {
        self.zones.get(node.0 as usize).copied().flatten()
    }
}

impl NodeEntry {
    /// The node's gateway address in each of its pod CIDRs: the first address after the network's own. Pods send through it
    /// and the node's own processes speak to pods from it.
    pub fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.pod_cidrs.iter().copied().map(gateway)
    }

    /// Whether `addr` is one of the node's gateway addresses.
    pub fn is_gateway(&self, addr: IpAddr) -> bool {
        self.gateways().any(|gateway| gateway == addr)
    }
}

/// The gateway of a pod CIDR: the first address after the network's own.
pub fn gateway(cidr: IpNet) -> IpAddr {
    match cidr {
        IpNet::V4(net) => IpAddr::from(Ipv4Addr::from(u32::from(net.network()).saturating_add(1))),
        IpNet::V6(net) => IpAddr::from(Ipv6Addr::from(u128::from(net.network()).saturating_add(1))),
    }
}
