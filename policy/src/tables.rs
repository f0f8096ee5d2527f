//! The compiled form of a cluster's intent, as seen from any node: who owns an address, where a Service leads, what a
//! policy says. Immutable; a lookup neither allocates nor walks lists that grow with the cluster.

use ipnet::IpNet;
use std::net::IpAddr;
use std::sync::Arc;
use wire::{MacAddr, Protocol};

/// Position of a pod in [`Tables::pods`]; valid only with the tables it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodIndex(pub u32);

/// Position of a node in [`Tables::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeIndex(pub u32);

/// Position of a Service port in [`Tables::service_ports`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortIndex(pub u32);

/// Position of a NetworkPolicy in [`Tables::policies`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyIndex(pub u32);

/// A node as the dataplane needs it.
#[derive(Clone, Debug)]
pub struct NodeEntry {
    /// metadata.name.
    pub name: Arc<str>,
    /// status.addresses of type InternalIP (then ExternalIP), in order.
    pub addresses: Vec<IpAddr>,
    /// spec.podCIDRs.
    pub pod_cidrs: Vec<IpNet>,
    /// Annotation `podplane.io/vtep-mac`; without it the MAC is derived from the name.
    pub vtep_mac: Option<MacAddr>,
}

/// A pod as the dataplane needs it. Terminal pods (Succeeded, Failed) are not listed.
#[derive(Clone, Debug)]
pub struct PodEntry {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// Node it runs on; `None` while unscheduled.
    pub node: Option<NodeIndex>,
    /// status.podIPs.
    pub addresses: Vec<IpAddr>,
    /// spec.hostNetwork: its addresses are the node's and are owned by the node.
    pub host_network: bool,
}

/// Whose address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A pod's own address.
    Pod(PodIndex),
    /// A node's address.
    Node(NodeIndex),
}

/// Policy direction, seen from the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Traffic that the pod sends (Kubernetes egress).
    FromPod,
    /// Traffic that the pod receives (Kubernetes ingress).
    ToPod,
}

/// Policy's answer for one flow in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the flow may open.
    pub allowed: bool,
    /// What decided.
    pub reason: VerdictReason,
}

/// What gave a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictReason {
    /// No policy selects the pod in this direction.
    NotIsolated,
    /// This rule of this policy allows it: index into spec.ingress or spec.egress.
    Rule {
        /// The policy.
        policy: PolicyIndex,
        /// Position of the rule in its list.
        rule: u32,
    },
    /// Policies select the pod and none of their rules matches.
    Isolated,
    /// The peer is the node that the pod runs on (N10), or the pod itself (N12).
    Exempt,
}

/// What a Service port leads to.
#[derive(Clone, Debug)]
pub struct ServicePortEntry {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// spec.ports[].name, empty if unnamed.
    pub port_name: Arc<str>,
    /// spec.ports[].port.
    pub port: u16,
    /// spec.ports[].protocol.
    pub protocol: Protocol,
    /// Backends that a flow may be sent to, per family: ready ones, or the serving ones when all are terminating (S12).
    pub backends_v4: Arc<[Backend]>,
    /// The same for IPv6.
    pub backends_v6: Arc<[Backend]>,
}

/// One target of a Service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Backend {
    /// Address that the packet is sent to.
    pub addr: IpAddr,
    /// Port that the packet is sent to (the resolved targetPort).
    pub port: u16,
}

/// Everything compiled from one generation of a cluster's objects.
#[derive(Debug, Default)]
pub struct Tables {
    /// Number of this compilation; grows with every change.
    pub epoch: u64,
    /// Nodes by index.
    pub nodes: Vec<NodeEntry>,
    /// Pods by index.
    pub pods: Vec<PodEntry>,
    /// Service ports by index.
    pub service_ports: Vec<ServicePortEntry>,
}

impl Tables {
    /// Whose address `addr` is. Pods that share the host network are not owners: their address is the node's.
    pub fn owner(&self, addr: IpAddr) -> Option<Owner> {
        let _ = addr;
        todo!("policy")
    }

    /// The node called `name`.
    pub fn find_node(&self, name: &str) -> Option<NodeIndex> {
        let _ = name;
        todo!("policy")
    }

    /// The pod `namespace`/`name`.
    pub fn find_pod(&self, namespace: &str, name: &str) -> Option<PodIndex> {
        let _ = (namespace, name);
        todo!("policy")
    }

    /// The Service port that answers on `addr`:`port`.
    pub fn find_service(&self, addr: IpAddr, protocol: Protocol, port: u16) -> Option<ServicePortIndex> {
        let _ = (addr, protocol, port);
        todo!("policy")
    }

    /// Whether `addr` is a virtual address of a Service, whatever its ports: traffic to it must never be routed on.
    pub fn is_virtual(&self, addr: IpAddr) -> bool {
        let _ = addr;
        todo!("policy")
    }

    /// Picks a backend of the family of `vip` for a flow with hash `hash`; `None` when there is none.
    pub fn choose_backend(&self, service: ServicePortIndex, vip: IpAddr, hash: u64) -> Option<Backend> {
        let _ = (service, vip, hash);
        todo!("policy")
    }

    /// Whether a flow that was sent to `backend` may go on: it is still listed (ready, or serving while terminating).
    pub fn is_backend(&self, service: ServicePortIndex, backend: Backend) -> bool {
        let _ = (service, backend);
        todo!("policy")
    }

    /// Judges a flow: `subject` sends to (`FromPod`) or receives from (`ToPod`) `peer`, on the receiver's port `dst_port`
    /// (0 for protocols without ports). Both ends of a conversation are judged separately.
    pub fn check(
        &self,
        direction: Direction,
        subject: PodIndex,
        peer: IpAddr,
        protocol: Protocol,
        dst_port: u16,
    ) -> Verdict {
        let _ = (direction, subject, peer, protocol, dst_port);
        todo!("policy")
    }
}
