//! Looking up Services: which address and port is a Service's, which backends a flow to it may reach, and which it takes.
//!
//! Where a flow may go depends on how it came: [`Frontend`] (over which of the Service's addresses), [`Client`] (from inside the
//! cluster or through a node's uplink) and the node on which it enters. [`Tables::candidates`] is that decision;
//! [`Tables::choose`] takes one of them.

use super::backends::{Backend, Candidates, EndpointState};
use super::services::{
    Choice, Client, FlowHash, Frontend, FrontendKind, HostPortEntry, NodeFrontend, ServiceEntry, ServiceIndex,
    ServicePortEntry, ServicePortIndex, TrafficPolicy,
};
use super::{NodeIndex, Owner, Tables};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;
use wire::Protocol;

impl Tables {
    /// The Service port that answers on `addr`:`port`: by a virtual address, or by a node's address and a nodePort. What a hostPort
    /// leads to is found likewise.
    #[inline]
    pub fn find_service(&self, addr: IpAddr, protocol: Protocol, port: u16) -> Option<Frontend> {
        if let Some(frontend) = self.virtual_ports.get(&(addr, protocol, port)) {
            return Some(*frontend);
        }
        let service = *self.node_ports.get(&(protocol, port))?;
        let serves = self.node_port_addresses.contains_key(&addr) && self.service_entry(service).has_family_of(addr);
        serves.then_some(Frontend { service, kind: FrontendKind::NodePort })
    }

    /// Whether `addr` is a virtual address of a Service or of the nodes' own DNS, whatever its ports: traffic to it must never be
    /// routed on. Not one that a node has as its own.
    #[inline]
    pub fn is_virtual(&self, addr: IpAddr) -> bool {
        self.virtual_addresses.contains(&addr) || self.is_cluster_dns(addr)
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
            (TrafficPolicy::Local, _, Client::Inside) => None,
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
            self.service(service).protocol != Protocol::UDP || backend.state != EndpointState::Unready
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
            || (backend.state != EndpointState::Unready
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

    /// What is known of a hostPort; `None` for a Service's port.
    pub fn host_port(&self, service: ServicePortIndex) -> Option<&HostPortEntry> {
        let found = self.host_ports.binary_search_by_key(&service, |entry| entry.service);
        found.ok().map(|at| &self.host_ports[at])
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
                everywhere: true,
            }));
        }
        for &(addr, protocol, port) in self.node_owned.iter() {
            let Frontend { service, kind } = self.virtual_ports[&(addr, protocol, port)];
            if self.owner(addr) == Some(Owner::Node(node)) {
                let everywhere = self.host_port(service).is_some_and(|host_port| host_port.everywhere);
                found.push(NodeFrontend { addr, protocol, port, kind, service, everywhere });
            }
        }
        // Where a nodePort has the same place, the address's own port goes before it: its kind sorts later.
        found
            .sort_unstable_by_key(|frontend| (frontend.addr, frontend.protocol, frontend.port, Reverse(frontend.kind)));
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
        local.collect::<BTreeSet<_>>().len()
    }

    /// Whether a flow that traffic policy Local confines to `node` finds an endpoint there, at some port.
    pub fn has_local_endpoint(&self, service: ServiceIndex, node: NodeIndex) -> bool {
        let mut ports =
            self.services[service.0 as usize].ports.clone().map(|port| self.service(ServicePortIndex(port)));
        ports.any(|port| !port.v4.local(Some(node)).is_empty() || !port.v6.local(Some(node)).is_empty())
    }
}
