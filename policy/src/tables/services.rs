//! Services as the tables hold them: what is known of each and of its ports, by which kinds of address it is reached, and what
//! may become of a flow to it. Looked up in `lookup`.

use super::backends::{Backend, Backends};
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
    pub(super) fn of_family(&self, is_ipv4: bool) -> &Backends {
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
    /// A port of a pod's own node that leads to that pod; no Service has to do with it.
    HostPort,
}

impl fmt::Display for FrontendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FrontendKind::ClusterIp => "ClusterIP",
            FrontendKind::NodePort => "NodePort",
            FrontendKind::LoadBalancer => "LoadBalancer",
            FrontendKind::ExternalIp => "ExternalIP",
            FrontendKind::HostPort => "HostPort",
        })
    }
}

/// The Service port behind an address and port, and what kind of address it is; of a hostPort what stands for the pod.
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
        FlowHash { seeded: finish(key.hash_with(seed)), cluster_wide: finish(key.hash_with(0)) }
    }
}

/// Spreads every bit over all others (the finalizer of MurmurHash3). A backend is chosen by the highest bits, and a kernel's
/// source ports go up by two from one connection to the next: without this, one client in sixty would make twenty
/// connections in a row to the same one of two backends.
#[inline]
fn finish(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let hash = (hash ^ hash >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ hash >> 33
}

/// A port of a node that leads to a pod. Its Service port stands for the pod: namespace and name are the pod's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPortEntry {
    /// Where it leads.
    pub service: ServicePortIndex,
    /// The field of the pod that asks for it.
    pub field: Arc<str>,
    /// Whether it is served at every address of the machine, of a family at least, and not at one alone.
    pub everywhere: bool,
}

/// An address and port of a node under which a Service is reached from outside: what the node has to keep its kernel away from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeFrontend {
    /// The node's address.
    pub addr: IpAddr,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// nodePort, hostPort, or the Service's port where an externalIP or load balancer address is the node's own.
    pub port: u16,
    /// NodePort, LoadBalancer, ExternalIp or HostPort.
    pub kind: FrontendKind,
    /// The Service port.
    pub service: ServicePortIndex,
    /// Whether it is served at every address of the machine, the loopback ones included.
    pub everywhere: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_client_in_a_row_do_not_stick_to_one_of_two_backends() {
        let (client, vip) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([10, 96, 0, 80]));
        for seed in 0..2_000 {
            let choices = (0..40).map(|n| {
                let key = FlowKey::new(Protocol::TCP, client, 40_000 + 2 * n, vip, 80);
                FlowHash::new(&key, seed).seeded >> 63
            });
            let firsts = choices.filter(|choice| *choice == 0).count();
            assert!((1..40).contains(&firsts), "seed {seed}: {firsts} of 40");
        }
    }
}
