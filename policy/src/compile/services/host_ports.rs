//! hostPort of pods: a port of a node that leads to one pod there (P04).
//!
//! Each is compiled like a Service port with a single endpoint, so that it is found, translated, claimed and relayed as those
//! are. It comes after all Services: what one of them has on a node is not a pod's. Of two pods of one node that ask for the same,
//! which no scheduler brings together, the first by namespace and name has it.

use crate::cluster::{HostPort, Key, Pod};
use crate::objects::{ObjectRef, Problem, Severity, Sourced};
use crate::tables::backends::{Backends, HintedBackend};
use crate::tables::{
    Backend, EndpointState, Frontend, FrontendKind, HostPortEntry, NodeIndex, PodEntry, ServiceEntry, ServiceId,
    ServicePortEntry, ServicePortIndex, ServiceType, Tables, TrafficPolicy,
};
use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

/// Pods that ask for a port of their node.
pub(crate) type HostPorts = BTreeMap<Key, Sourced<Arc<Pod>>>;

/// Whether two states of a pod ask for the same.
pub(crate) fn ask_alike(one: &Sourced<Arc<Pod>>, other: &Sourced<Arc<Pod>>) -> bool {
    let asked = |pod: &Sourced<Arc<Pod>>| {
        let Pod { node, addresses, host_ports, ended, .. } = &*pod.object;
        (pod.source.clone(), node.clone(), addresses.clone(), host_ports.clone(), *ended)
    };
    asked(one) == asked(other)
}

/// Adds the ports to tables that hold nodes, pods and Services.
pub(super) fn claim(
    pods: &HostPorts,
    health_ports: impl Fn(u16) -> Option<String>,
    tables: &mut Tables,
    problems: &mut Vec<Problem>,
) {
    for ((namespace, name), pod) in pods {
        let Some(index) = tables.find_pod(namespace, name) else { continue };
        let Some(node) = tables.node_of_pod(index) else { continue };
        let entry = tables.pods[index.0 as usize].clone();
        let mut service = None;
        for port in &pod.object.host_ports {
            let service = service.get_or_insert_with(|| Arc::new(stand_in(&entry)));
            if let Err((message, severity)) = claim_one(port, &entry, node, service, &health_ports, tables) {
                let reference = ObjectRef::new("Pod", &**namespace, &**name);
                let field = match port.host_ip {
                    Some(_) if severity == Severity::Warning => port.field.replace(".hostPort", ".hostIP"),
                    _ => port.field.to_string(),
                };
                problems.push(Problem::of(&pod.source, reference, field, message, severity));
            }
        }
    }
}

/// What a pod's ports have in the place of a Service.
fn stand_in(pod: &PodEntry) -> ServiceEntry {
    ServiceEntry {
        // No namespace has a space in its name, so no Service has this id.
        id: ServiceId::of(&format!("hostPort {}", pod.namespace), &pod.name),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        service_type: ServiceType::ClusterIp,
        cluster_ips: pod.addresses.clone(),
        load_balancer_ips: Vec::new(),
        proxied_ips: Vec::new(),
        external_ips: Vec::new(),
        external_policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        affinity: None,
        source_ranges: None,
        health_check_node_port: None,
        connect_retry: None,
        load_balancer_class: None,
        traffic_distribution: None,
    }
}

fn claim_one(
    port: &HostPort,
    pod: &PodEntry,
    node: NodeIndex,
    service: &Arc<ServiceEntry>,
    health_ports: &impl Fn(u16) -> Option<String>,
    tables: &mut Tables,
) -> Result<(), (String, Severity)> {
    let has_family_of = |addr: &IpAddr| pod.addresses.iter().any(|own| own.is_ipv4() == addr.is_ipv4());
    let own = &tables.node(node).addresses;
    let wanted: Vec<IpAddr> = own.iter().copied().filter(|addr| port.is_on(*addr) && has_family_of(addr)).collect();
    if wanted.is_empty() {
        let name = &tables.node(node).name;
        let message = match port.host_ip {
            Some(addr) if has_family_of(&addr) => {
                format!("{addr} is no address of Node {name}: the port is not served")
            }
            _ => format!("Node {name} and the pod have no addresses of one family: the port is not served"),
        };
        return Err((message, Severity::Warning));
    }
    let HostPort { protocol, port: number, .. } = *port;
    let mut free = Vec::new();
    let mut failed = health_ports(number).filter(|_| protocol == Protocol::TCP).map(|holder| {
        let message = format!("{protocol} {number} is not served: it is the healthCheckNodePort of Service {holder}");
        (message, Severity::Warning)
    });
    for addr in wanted {
        match holder(addr, protocol, number, tables) {
            Some(holder) => failed = failed.or(Some(holder)),
            None => free.push(addr),
        }
    }
    if failed.is_none() {
        let index = ServicePortIndex(tables.service_ports.len() as u32);
        Arc::make_mut(&mut tables.service_ports).push(Arc::new(compiled(port, pod, node, service)));
        let everywhere = port.is_everywhere();
        Arc::make_mut(&mut tables.host_ports).push(HostPortEntry {
            service: index,
            field: port.field.clone(),
            everywhere,
        });
        for addr in free {
            let key = (addr, protocol, number);
            if let Entry::Vacant(vacant) = Arc::make_mut(&mut tables.virtual_ports).entry(key) {
                vacant.insert(Frontend { service: index, kind: FrontendKind::HostPort });
                Arc::make_mut(&mut tables.node_owned).push(key);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Who has a port of a node already.
fn holder(addr: IpAddr, protocol: Protocol, number: u16, tables: &Tables) -> Option<(String, Severity)> {
    let Frontend { service, kind } = tables.find_service(addr, protocol, number)?;
    let entry = tables.service_entry(service);
    let name = format!("{}/{}", entry.namespace, entry.name);
    Some(match kind {
        FrontendKind::HostPort => {
            let message = format!(
                "{protocol} {number} of {addr} is already the hostPort of Pod {name}: \
                 choose another, or let a scheduler find a node"
            );
            (message, Severity::Refused)
        }
        _ => {
            let message = format!("{protocol} {number} of {addr} is not served: it is the {kind} of Service {name}");
            (message, Severity::Warning)
        }
    })
}

fn compiled(port: &HostPort, pod: &PodEntry, node: NodeIndex, service: &Arc<ServiceEntry>) -> ServicePortEntry {
    let backends = |is_ipv4: bool| {
        let addresses = pod.addresses.iter().filter(|addr| addr.is_ipv4() == is_ipv4);
        let backends = addresses.map(|addr| HintedBackend {
            backend: Backend::new(*addr, port.target, EndpointState::Ready, Some(node)),
            zones: None,
            nodes: None,
        });
        Backends::new(backends.collect(), false)
    };
    ServicePortEntry {
        service: service.clone(),
        id: service.id.port(port.protocol, port.port),
        port_name: Arc::default(),
        port: port.port,
        protocol: port.protocol,
        node_port: None,
        v4: backends(true),
        v6: backends(false),
    }
}
