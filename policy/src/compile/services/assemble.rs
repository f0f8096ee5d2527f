//! All Services together: who has an address and port, or a nodePort, that several claim.
//!
//! A ClusterIP goes before a load balancer's address, that before an externalIP, so that nobody takes over another Service by
//! naming its address. Among equals the older Service has it, and among those of one age (or without a time, as in files) the
//! first by namespace and name. The loser loses that address and port and nothing else.

use super::CompiledService;
use super::host_ports::{self, HostPorts};
use crate::compile::{CompileOptions, owner_text};
use crate::objects::{Problem, Severity};
use crate::tables::{Frontend, FrontendKind, NodeIndex, Owner, ServiceIndex, ServicePortIndex, ServiceSlot, Tables};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use wire::Protocol;

/// Puts compiled Services, in order of namespace and name, and the ports that pods ask of their nodes into tables that hold
/// nodes and pods already. What the tables hold of Services is replaced.
pub(crate) fn assemble<'a>(
    compiled: impl Iterator<Item = &'a CompiledService>,
    host_ports: &HostPorts,
    options: &CompileOptions,
    tables: &mut Tables,
    problems: &mut Vec<Problem>,
) {
    let mut node_port_addresses = HashMap::new();
    for (index, node) in (0u32..).map(NodeIndex).zip(tables.nodes.iter()) {
        let addresses = node.addresses.iter().filter(|addr| options.serves_node_ports(**addr));
        node_port_addresses.extend(addresses.map(|addr| (*addr, index)));
    }
    tables.node_port_addresses = Arc::new(node_port_addresses);
    let (mut slots, mut service_ports) = (Vec::new(), Vec::new());
    let mut placed = Vec::new();
    for service in compiled {
        problems.extend_from_slice(&service.problems);
        let Some(entry) = &service.entry else { continue };
        let first = service_ports.len() as u32;
        service_ports.extend(service.ports.iter().map(|(_, port)| port.clone()));
        let ports = first..service_ports.len() as u32;
        slots.push(ServiceSlot { entry: entry.clone(), ports });
        placed.push((service, ServiceIndex(placed.len() as u32)));
    }
    tables.services = Arc::new(slots);
    tables.service_ports = Arc::new(service_ports);
    tables.virtual_ports = Arc::default();
    tables.node_owned = Arc::default();
    tables.virtual_addresses = Arc::default();
    tables.node_ports = Arc::default();
    tables.host_ports = Arc::default();
    // Without a time of creation comes after all with one.
    placed.sort_by(|(one, at), (other, other_at)| {
        (one.created.is_none(), &one.created, at).cmp(&(other.created.is_none(), &other.created, other_at))
    });
    for kind in [FrontendKind::ClusterIp, FrontendKind::LoadBalancer, FrontendKind::ExternalIp] {
        for (service, index) in &placed {
            claim_addresses(kind, service, *index, tables, problems);
        }
    }
    for (service, index) in &placed {
        claim_node_ports(service, *index, tables, problems);
        report_hidden_node_ports(service, *index, tables, problems);
    }
    let mut health_ports = HashMap::new();
    for (service, index) in &placed {
        claim_health_port(service, *index, tables, &mut health_ports, problems);
    }
    let services = tables.services.clone();
    let health_port = |port: u16| {
        let ServiceIndex(holder) = *health_ports.get(&port)?;
        let entry = &services[holder as usize].entry;
        Some(format!("{}/{}", entry.namespace, entry.name))
    };
    host_ports::claim(host_ports, health_port, tables, problems);
}

fn claim_addresses(
    kind: FrontendKind,
    service: &CompiledService,
    index: ServiceIndex,
    tables: &mut Tables,
    problems: &mut Vec<Problem>,
) {
    let slot = tables.services[index.0 as usize].clone();
    let entry = &slot.entry;
    let (addresses, list) = match kind {
        FrontendKind::ClusterIp => (&entry.cluster_ips, "spec.clusterIPs"),
        FrontendKind::LoadBalancer => (&entry.load_balancer_ips, "status.loadBalancer.ingress"),
        FrontendKind::ExternalIp => (&entry.external_ips, "spec.externalIPs"),
        FrontendKind::NodePort | FrontendKind::HostPort => return,
    };
    let mut report = |field: String, message: String, severity| {
        problems.push(Problem::of(&service.source, CompiledService::reference(entry), field, message, severity));
    };
    for &addr in addresses {
        // A Service may describe the nodes' own DNS: its ports other than those of DNS are served.
        let owner = tables.owner(addr).filter(|_| !tables.is_cluster_dns(addr));
        if let Some(owner) = owner
            && (kind == FrontendKind::ClusterIp || matches!(owner, Owner::Pod(_)))
        {
            report(list.to_owned(), owner_text(tables, owner, addr), Severity::Refused);
            continue;
        }
        if kind == FrontendKind::ClusterIp && tables.virtual_addresses.contains(&addr) {
            let message = format!("{addr} is already the address of another Service");
            report(list.to_owned(), message, Severity::Refused);
            continue;
        }
        if owner.is_none() {
            Arc::make_mut(&mut tables.virtual_addresses).insert(addr);
        }
        for port in slot.ports.clone().map(ServicePortIndex) {
            let (protocol, number) = (tables.service(port).protocol, tables.service(port).port);
            let claim = Frontend { service: port, kind };
            match Arc::make_mut(&mut tables.virtual_ports).entry((addr, protocol, number)) {
                Entry::Vacant(entry) => {
                    entry.insert(claim);
                    if owner.is_some() {
                        Arc::make_mut(&mut tables.node_owned).push((addr, protocol, number));
                    }
                }
                Entry::Occupied(holder) if holder.get().service == port => {}
                Entry::Occupied(holder) => {
                    let Frontend { service, kind } = *holder.get();
                    let message = format!(
                        "{protocol} port {number} of {addr} is not served: it is the {kind} of Service {}",
                        full_name(tables, service)
                    );
                    report(list.to_owned(), message, Severity::Warning);
                }
            }
        }
    }
}

fn claim_node_ports(service: &CompiledService, index: ServiceIndex, tables: &mut Tables, problems: &mut Vec<Problem>) {
    let slot = tables.services[index.0 as usize].clone();
    for (port, (position, entry)) in slot.ports.map(ServicePortIndex).zip(&service.ports) {
        let Some(node_port) = entry.node_port else { continue };
        let message = match Arc::make_mut(&mut tables.node_ports).entry((entry.protocol, node_port)) {
            Entry::Vacant(vacant) => {
                vacant.insert(port);
                continue;
            }
            Entry::Occupied(holder) => {
                let holder = *holder.get();
                let protocol = entry.protocol;
                format!(
                    "{protocol} {node_port} is already the nodePort of Service {}: choose another, or leave it out to have one assigned",
                    full_name(tables, holder)
                )
            }
        };
        let field = format!("spec.ports[{position}].nodePort");
        let reference = CompiledService::reference(&slot.entry);
        problems.push(Problem::of(&service.source, reference, field, message, Severity::Refused));
    }
}

/// A load balancer's address or an externalIP that is a node's own goes before a nodePort there.
fn report_hidden_node_ports(
    service: &CompiledService,
    index: ServiceIndex,
    tables: &Tables,
    problems: &mut Vec<Problem>,
) {
    let slot = &tables.services[index.0 as usize];
    for (port, (position, entry)) in slot.ports.clone().map(ServicePortIndex).zip(&service.ports) {
        let Some(node_port) = entry.node_port.filter(|_| tables.has_node_port(port)) else { continue };
        let hidden = tables
            .node_owned
            .iter()
            .filter(|(_, protocol, number)| (*protocol, *number) == (entry.protocol, node_port));
        for claim in hidden.filter(|(addr, ..)| tables.node_port_addresses.contains_key(addr)) {
            let Frontend { service: holder, kind } = tables.virtual_ports[claim];
            let message = format!(
                "{} {node_port} of {} is not served: it is the {kind} of Service {}",
                entry.protocol,
                claim.0,
                full_name(tables, holder)
            );
            let reference = CompiledService::reference(&slot.entry);
            let field = format!("spec.ports[{position}].nodePort");
            problems.push(Problem::of(&service.source, reference, field, message, Severity::Warning));
        }
    }
}

/// A health check is answered on a port of every node too.
fn claim_health_port(
    service: &CompiledService,
    index: ServiceIndex,
    tables: &Tables,
    taken: &mut HashMap<u16, ServiceIndex>,
    problems: &mut Vec<Problem>,
) {
    let entry = &tables.services[index.0 as usize].entry;
    let Some(port) = entry.health_check_node_port else { return };
    let holder = match tables.node_ports.get(&(Protocol::TCP, port)) {
        Some(holder) => format!("the nodePort of Service {}", full_name(tables, *holder)),
        None => match taken.entry(port) {
            Entry::Vacant(vacant) => {
                vacant.insert(index);
                return;
            }
            Entry::Occupied(holder) => {
                let holder = &tables.services[holder.get().0 as usize].entry;
                format!("the healthCheckNodePort of Service {}/{}", holder.namespace, holder.name)
            }
        },
    };
    let message = format!("{port} is already {holder}: choose another, or leave it out to have one assigned");
    let reference = CompiledService::reference(entry);
    problems.push(Problem::of(&service.source, reference, "spec.healthCheckNodePort", message, Severity::Refused));
}

fn full_name(tables: &Tables, service: ServicePortIndex) -> String {
    let entry: &crate::tables::ServiceEntry = tables.service_entry(service);
    format!("{}/{}", entry.namespace, entry.name)
}
