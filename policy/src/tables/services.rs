//! Services in the tables: which address and port is a Service's, which backends a flow to it may reach, and which it takes.
//!
//! Where a flow may go depends on how it came: [`Frontend`] (over which of its addresses), [`Client`] (from inside the cluster
//! or through a node's uplink) and the node on which it enters. [`Tables::candidates`] is that table; [`Tables::choose`] takes
//! one of them.

use super::backends::{Backend, Backends, Candidates};
use super::{NodeIndex, Owner, Tables};
use crate::stable_hash::StableHasher;
use ipnet::IpNet;
use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use wire::{FlowKey, Protocol};

/// Position of a Service in [`Tables::services`]; valid only with the tables it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceIndex(pub u32);

/// Position of a Service port in [`Tables::service_ports`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortIndex(pub u32);

/// Names a Service in every epoch and on every node: a hash of namespace and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub u64);

/// Names a port of a Service in every epoch and on every node: a hash of Service, protocol and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServicePortId(pub u64);

impl ServiceId {
    /// The Service `namespace`/`name`.
    pub fn of(namespace: &str, name: &str) -> ServiceId {
        let mut hasher = StableHasher::default();
        hasher.write(namespace.as_bytes());
        hasher.write(b"/");
        hasher.write(name.as_bytes());
        ServiceId(hasher.finish())
    }

    /// Its port `port` of `protocol`.
    pub fn port(self, protocol: Protocol, port: u16) -> ServicePortId {
        let mut hasher = StableHasher::default();
        hasher.write(&self.0.to_be_bytes());
        hasher.write(&[protocol.0]);
        hasher.write(&port.to_be_bytes());
        ServicePortId(hasher.finish())
    }
}

/// spec.type of a Service that has addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceType {
    /// `ClusterIP`.
    ClusterIp,
    /// `NodePort`.
    NodePort,
    /// `LoadBalancer`.
    LoadBalancer,
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServiceType::ClusterIp => "ClusterIP",
            ServiceType::NodePort => "NodePort",
            ServiceType::LoadBalancer => "LoadBalancer",
        })
    }
}

/// externalTrafficPolicy and internalTrafficPolicy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TrafficPolicy {
    /// Any node's endpoints.
    #[default]
    Cluster,
    /// Only endpoints of the node that the traffic came to.
    Local,
}

impl fmt::Display for TrafficPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrafficPolicy::Cluster => "Cluster",
            TrafficPolicy::Local => "Local",
        })
    }
}

/// A Service that has addresses: neither headless nor ExternalName.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// Its name across epochs.
    pub id: ServiceId,
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// spec.type.
    pub service_type: ServiceType,
    /// spec.clusterIPs; their families are the Service's.
    pub cluster_ips: Vec<IpAddr>,
    /// status.loadBalancer.ingress with an address and ipMode VIP (KEP-1860), of the Service's families.
    pub load_balancer_ips: Vec<IpAddr>,
    /// The same with ipMode Proxy: not ours, traffic to them goes to the load balancer.
    pub proxied_ips: Vec<IpAddr>,
    /// spec.externalIPs within the allow-list.
    pub external_ips: Vec<IpAddr>,
    /// spec.externalTrafficPolicy; Cluster for a Service that is not reached from outside.
    pub external_policy: TrafficPolicy,
    /// spec.internalTrafficPolicy.
    pub internal_policy: TrafficPolicy,
    /// The timeout of sessionAffinity ClientIP; `None` without affinity.
    pub affinity: Option<Duration>,
    /// Clients that may use the load balancer's address, sorted and without overlaps; `None` if all may (S19).
    pub source_ranges: Option<Vec<IpNet>>,
    /// spec.healthCheckNodePort of a LoadBalancer with externalTrafficPolicy Local (S08).
    pub health_check_node_port: Option<u16>,
    /// Annotation `podplane.io/connect-retry-ms`: after this long without an answer a SYN goes to another backend (S29).
    pub connect_retry: Option<Duration>,
    /// spec.loadBalancerClass.
    pub load_balancer_class: Option<Arc<str>>,
    /// spec.trafficDistribution, or the annotation that came before it; for people: hints are what counts.
    pub traffic_distribution: Option<Arc<str>>,
}

impl ServiceEntry {
    /// Whether the Service has addresses of the family of `addr`.
    #[inline]
    pub fn has_family_of(&self, addr: IpAddr) -> bool {
        self.cluster_ips.iter().any(|own| own.is_ipv4() == addr.is_ipv4())
    }

    /// Whether `src` may use the load balancer's address.
    pub fn allows_source(&self, src: IpAddr) -> bool {
        let Some(ranges) = &self.source_ranges else { return true };
        let after = ranges.partition_point(|range| range.network() <= src);
        after > 0 && ranges[after - 1].contains(&src)
    }
}

/// What a Service port leads to. Shared by all tables in which it is the same.
#[derive(Debug)]
pub struct ServicePortEntry {
    /// Its Service.
    pub service: Arc<ServiceEntry>,
    /// Its name across epochs.
    pub id: ServicePortId,
    /// spec.ports[].name, empty if unnamed.
    pub port_name: Arc<str>,
    /// spec.ports[].port.
    pub port: u16,
    /// spec.ports[].protocol.
    pub protocol: Protocol,
    /// spec.ports[].nodePort.
    pub node_port: Option<u16>,
    /// Its endpoints: IPv4.
    pub(crate) v4: Backends,
    /// Its endpoints: IPv6.
    pub(crate) v6: Backends,
}

impl ServicePortEntry {
    /// Every endpoint of the port, whatever its state, IPv4 first; within a family best state first.
    pub fn backends(&self) -> impl Iterator<Item = &Backend> {
        self.v4.all().iter().chain(self.v6.all())
    }

    #[inline]
    fn of_family(&self, is_ipv4: bool) -> &Backends {
        if is_ipv4 { &self.v4 } else { &self.v6 }
    }
}

/// Over which kind of address a Service is reached. Displayed as `explain` writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FrontendKind {
    /// Its own virtual address.
    ClusterIp,
    /// A port of every node.
    NodePort,
    /// An address of status.loadBalancer.
    LoadBalancer,
    /// An address of spec.externalIPs.
    ExternalIp,
}

impl fmt::Display for FrontendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrontendKind::ClusterIp => "ClusterIP",
            FrontendKind::NodePort => "NodePort",
            FrontendKind::LoadBalancer => "LoadBalancer",
            FrontendKind::ExternalIp => "ExternalIP",
        })
    }
}

/// The Service port behind an address and port, and what kind of address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frontend {
    /// The Service port.
    pub service: ServicePortIndex,
    /// The kind of address.
    pub kind: FrontendKind,
}

/// Where a flow to a Service comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Client {
    /// A pod or node, through podplane.
    Inside,
    /// Somebody outside the cluster, through a node's uplink.
    Outside,
}

/// What becomes of a new flow to a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It goes there.
    Backend(Backend),
    /// No endpoint takes flows: refuse at once (S11).
    NoEndpoint,
    /// Endpoints take flows, but none on the node that traffic policy Local confines it to: drop, as another node would serve it.
    NoLocalEndpoint,
    /// The client is outside loadBalancerSourceRanges: drop.
    SourceNotAllowed,
}

/// The hashes by which a flow chooses.
#[derive(Clone, Copy, Debug)]
pub struct FlowHash {
    /// Under the node's seed: cannot be foreseen by clients.
    pub seeded: u64,
    /// The same on every node.
    pub cluster_wide: u64,
}

impl FlowHash {
    /// The hashes of the flow that opens with `key`, on a node with `seed`.
    #[inline]
    pub fn new(key: &FlowKey, seed: u64) -> FlowHash {
        FlowHash { seeded: key.hash_with(seed), cluster_wide: key.hash_with(0) }
    }
}

/// An address and port of a node under which a Service is reached from outside: what the node has to keep its kernel away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeFrontend {
    /// The node's address.
    pub addr: IpAddr,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// nodePort, or the Service's port where an externalIP or load balancer address is the node's own.
    pub port: u16,
    /// NodePort, LoadBalancer or ExternalIp.
    pub kind: FrontendKind,
    /// The Service port.
    pub service: ServicePortIndex,
}

impl Tables {
    /// The Service port that answers on `addr`:`port`: by a virtual address, or by a node's address and a nodePort.
    #[inline]
    pub fn find_service(&self, addr: IpAddr, protocol: Protocol, port: u16) -> Option<Frontend> {
        if let Some(frontend) = self.virtual_ports.get(&(addr, protocol, port)) {
            return Some(*frontend);
        }
        let service = *self.node_ports.get(&(protocol, port))?;
        let serves = self.node_port_addresses.contains_key(&addr) && self.service_entry(service).has_family_of(addr);
        serves.then_some(Frontend { service, kind: FrontendKind::NodePort })
    }

    /// Whether `addr` is a virtual address of a Service, whatever its ports: traffic to it must never be routed on. Not one
    /// that a node has as its own.
    #[inline]
    pub fn is_virtual(&self, addr: IpAddr) -> bool {
        self.virtual_addresses.contains(&addr)
    }

    /// What is known of a Service port.
    ///
    /// # Panics
    /// If `index` is of other tables.
    #[inline]
    pub fn service(&self, index: ServicePortIndex) -> &ServicePortEntry {
        &self.service_ports[index.0 as usize]
    }

    /// The Service of a Service port.
    ///
    /// # Panics
    /// If `index` is of other tables.
    #[inline]
    pub fn service_entry(&self, index: ServicePortIndex) -> &ServiceEntry {
        &self.service(index).service
    }

    /// Exactly the backends of the family of `dst` that a flow to `dst` may reach which enters on `node`: for a pod's or node's
    /// own flow the node it runs on, for one from outside the node whose uplink it came through. `None` is a node that no object
    /// describes; nothing is local to it.
    ///
    /// Traffic policy Local confines a flow to one node's endpoints: internalTrafficPolicy on the ClusterIP, externalTrafficPolicy
    /// from outside on every other address. From inside, a load balancer's address or an externalIP, and a nodePort at the
    /// client's own node, lead to all endpoints, as nothing is gained by leaving the cluster first; a nodePort at another node
    /// leads where that node would send it.
    #[inline]
    pub fn candidates(
        &self,
        frontend: Frontend,
        dst: IpAddr,
        node: Option<NodeIndex>,
        client: Client,
    ) -> Candidates<'_> {
        let backends = self.service(frontend.service).of_family(dst.is_ipv4());
        match self.confined_to(frontend, dst, node, client) {
            Some(node) => backends.local(node),
            None => backends.cluster(node, node.and_then(|node| self.zone(node))),
        }
    }

    /// The node to whose endpoints traffic policy Local confines a flow; `Some(None)` is a node without a name.
    #[inline]
    fn confined_to(
        &self,
        frontend: Frontend,
        dst: IpAddr,
        node: Option<NodeIndex>,
        client: Client,
    ) -> Option<Option<NodeIndex>> {
        let entry = self.service_entry(frontend.service);
        let policy = match frontend.kind {
            FrontendKind::ClusterIp => entry.internal_policy,
            _ => entry.external_policy,
        };
        match (policy, frontend.kind, client) {
            (TrafficPolicy::Cluster, ..) => None,
            (TrafficPolicy::Local, FrontendKind::ClusterIp, _) | (TrafficPolicy::Local, _, Client::Outside) => {
                Some(node)
            }
            (TrafficPolicy::Local, FrontendKind::NodePort, Client::Inside) => {
                let target = self.node_port_addresses.get(&dst).copied();
                (target != node).then_some(target)
            }
            (TrafficPolicy::Local, FrontendKind::LoadBalancer | FrontendKind::ExternalIp, Client::Inside) => None,
        }
    }

    /// Chooses for a new flow from `src` to `dst`. The first choice only: session affinity is the caller's.
    #[inline]
    pub fn choose(
        &self,
        frontend: Frontend,
        dst: IpAddr,
        node: Option<NodeIndex>,
        client: Client,
        src: IpAddr,
        hash: &FlowHash,
    ) -> Choice {
        let candidates = match self.admit(frontend, dst, node, client, src) {
            Ok(candidates) => candidates,
            Err(refusal) => return refusal,
        };
        let chosen = match client {
            Client::Inside => candidates.pick(hash.seeded),
            Client::Outside => candidates.pick_consistently(hash.cluster_wide),
        };
        chosen.map_or(Choice::NoEndpoint, Choice::Backend)
    }

    /// The candidates of a new flow from `src`, at least one; or why there are none, which is never [`Choice::Backend`].
    #[inline]
    pub fn admit(
        &self,
        frontend: Frontend,
        dst: IpAddr,
        node: Option<NodeIndex>,
        client: Client,
        src: IpAddr,
    ) -> Result<Candidates<'_>, Choice> {
        if frontend.kind == FrontendKind::LoadBalancer && !self.service_entry(frontend.service).allows_source(src) {
            return Err(Choice::SourceNotAllowed);
        }
        let candidates = self.candidates(frontend, dst, node, client);
        if !candidates.is_empty() {
            return Ok(candidates);
        }
        let anywhere = self.service(frontend.service).of_family(dst.is_ipv4()).any_usable();
        Err(if anywhere { Choice::NoLocalEndpoint } else { Choice::NoEndpoint })
    }

    /// Whether a flow that was sent to `addr`:`port` may go on. A TCP or SCTP connection may as long as the backend is listed at
    /// all, so that a draining or briefly unready server finishes its work; a UDP flow, which has no end, as long as the
    /// backend serves (S13).
    #[inline]
    pub fn is_backend(&self, service: ServicePortIndex, addr: IpAddr, port: u16) -> bool {
        self.find_backend(service, addr, port).is_some_and(|backend| {
            self.service(service).protocol != Protocol::UDP || backend.state != super::EndpointState::Unready
        })
    }

    /// Whether a flow from `src` to `dst` that was sent to the endpoint `at` may go on there. What [`Self::is_backend`] says, and two
    /// things more: the client has to be allowed still, and a flow without an end, which could outlive any change, keeps to the
    /// nodes that traffic policy Local names.
    pub fn may_stay(
        &self,
        frontend: Frontend,
        dst: IpAddr,
        node: Option<NodeIndex>,
        client: Client,
        src: IpAddr,
        at: (IpAddr, u16),
    ) -> bool {
        let service = self.service(frontend.service);
        let Some(backend) = self.find_backend(frontend.service, at.0, at.1) else { return false };
        if frontend.kind == FrontendKind::LoadBalancer && !service.service.allows_source(src) {
            return false;
        }
        service.protocol != Protocol::UDP
            || (backend.state != super::EndpointState::Unready
                && self.confined_to(frontend, dst, node, client).is_none_or(|node| backend.is_on(node)))
    }

    /// The endpoint of a Service port at `addr`:`port`, whatever its state.
    #[inline]
    pub fn find_backend(&self, service: ServicePortIndex, addr: IpAddr, port: u16) -> Option<Backend> {
        self.service(service).of_family(addr.is_ipv4()).find(addr, port).copied()
    }

    /// Every Service with its ports, in order of namespace and name.
    pub fn services_with_ports(
        &self,
    ) -> impl Iterator<Item = (&ServiceEntry, impl Iterator<Item = ServicePortIndex> + use<>)> {
        self.services.iter().map(|slot| (&*slot.entry, slot.ports.clone().map(ServicePortIndex)))
    }

    /// Addresses and ports under which a Service port is reached and in force here, nodePorts apart.
    pub fn frontends(&self, service: ServicePortIndex) -> impl Iterator<Item = (IpAddr, FrontendKind)> {
        let entry = self.service(service);
        let of = |addrs: &'_ [IpAddr], kind| -> Vec<(IpAddr, FrontendKind)> {
            addrs.iter().map(|addr| (*addr, kind)).collect()
        };
        let mut all = of(&entry.service.cluster_ips, FrontendKind::ClusterIp);
        all.extend(of(&entry.service.load_balancer_ips, FrontendKind::LoadBalancer));
        all.extend(of(&entry.service.external_ips, FrontendKind::ExternalIp));
        let (protocol, port) = (entry.protocol, entry.port);
        all.into_iter().filter(move |(addr, kind)| {
            self.virtual_ports.get(&(*addr, protocol, port)) == Some(&Frontend { service, kind: *kind })
        })
    }

    /// nodePorts in force: protocol, port and the Service port behind, in that order.
    pub fn node_ports(&self) -> impl Iterator<Item = (Protocol, u16, ServicePortIndex)> {
        let mut all: Vec<_> =
            self.node_ports.iter().map(|(&(protocol, port), &service)| (protocol, port, service)).collect();
        all.sort_unstable();
        all.into_iter()
    }

    /// Whether a nodePort of a Service port is in force.
    pub fn has_node_port(&self, service: ServicePortIndex) -> bool {
        let entry = self.service(service);
        entry.node_port.is_some_and(|port| self.node_ports.get(&(entry.protocol, port)) == Some(&service))
    }

    /// The addresses of `node` that serve nodePorts.
    pub fn node_port_addresses(&self, node: NodeIndex) -> impl Iterator<Item = IpAddr> {
        let addresses = self.node(node).addresses.iter().copied();
        addresses.filter(|addr| self.node_port_addresses.contains_key(addr))
    }

    /// Every address and port of `node` itself under which a Service is reached from outside, in order.
    pub fn node_frontends(&self, node: NodeIndex) -> Vec<NodeFrontend> {
        let mut found = Vec::new();
        for (protocol, port, service) in self.node_ports() {
            let addresses =
                self.node_port_addresses(node).filter(|addr| self.service_entry(service).has_family_of(*addr));
            found.extend(addresses.map(|addr| NodeFrontend {
                addr,
                protocol,
                port,
                kind: FrontendKind::NodePort,
                service,
            }));
        }
        let own = |(&(addr, protocol, port), frontend): (&(IpAddr, Protocol, u16), &Frontend)| {
            let is_own = self.owner(addr) == Some(Owner::Node(node));
            is_own.then_some(NodeFrontend { addr, protocol, port, kind: frontend.kind, service: frontend.service })
        };
        found.extend(self.virtual_ports.iter().filter_map(own));
        found.sort_unstable();
        found.dedup_by_key(|frontend| (frontend.addr, frontend.protocol, frontend.port));
        found
    }

    /// Addresses of load balancers that a node has to announce, with the Service they belong to: those that are in force and no
    /// node's own. In order of addresses; an address that several Services share by ports comes several times.
    pub fn load_balancer_addresses(&self) -> Vec<(IpAddr, ServiceIndex)> {
        let mut found = Vec::new();
        for (index, slot) in (0u32..).map(ServiceIndex).zip(self.services.iter()) {
            let in_force = |addr: &IpAddr| {
                slot.ports.clone().map(ServicePortIndex).any(|port| {
                    let entry = self.service(port);
                    self.virtual_ports
                        .get(&(*addr, entry.protocol, entry.port))
                        .is_some_and(|frontend| frontend.service == port)
                })
            };
            let addresses = slot.entry.load_balancer_ips.iter();
            found.extend(addresses.filter(|addr| self.is_virtual(**addr) && in_force(addr)).map(|addr| (*addr, index)));
        }
        found.sort_unstable();
        found
    }

    /// Addresses of the ready endpoints of a Service on `node`, each once, of the Service's first family: what a health check
    /// counts (KEP-3836).
    pub fn local_ready_endpoints(&self, service: ServiceIndex, node: NodeIndex) -> usize {
        let slot = &self.services[service.0 as usize];
        let is_ipv4 = slot.entry.cluster_ips.first().is_none_or(IpAddr::is_ipv4);
        let ports = slot.ports.clone().map(|port| self.service(ServicePortIndex(port)).of_family(is_ipv4));
        let local = ports.flat_map(|backends| backends.local_ready(node)).map(|backend| backend.addr);
        local.collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Whether a flow that traffic policy Local confines to `node` finds an endpoint there, at some port.
    pub fn has_local_endpoint(&self, service: ServiceIndex, node: NodeIndex) -> bool {
        let mut ports =
            self.services[service.0 as usize].ports.clone().map(|port| self.service(ServicePortIndex(port)));
        ports.any(|port| !port.v4.local(Some(node)).is_empty() || !port.v6.local(Some(node)).is_empty())
    }
}
