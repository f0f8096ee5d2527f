//! All Services together: who has an address and port, or a nodePort, that several claim.
//!
//! A ClusterIP goes before a load balancer's address, that before an externalIP, so that nobody takes over another Service by
//! naming its address. Among equals the older Service has it, and among those of one age (or without a time, as in files) the
//! first by namespace and name. The loser loses that address and port and nothing else.

use super::CompiledService;
use crate::compile::{CompileOptions, owner_text};
use crate::objects::{Problem, Severity};
use crate::tables::{Frontend, FrontendKind, NodeIndex, Owner, ServiceIndex, ServicePortIndex, ServiceSlot, Tables};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Puts compiled Services, in order of namespace and name, into tables that hold nodes and pods already. What the tables hold
/// of Services is replaced.
pub(crate) fn assemble<'a>(
    compiled: impl Iterator<Item = &'a CompiledService>,
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
    tables.virtual_addresses = Arc::default();
    tables.node_ports = Arc::default();
    // Without a time of creation comes after all with one.
    placed.sort_by_key(|(service, index)| (service.created.is_none(), service.created.clone(), *index));
    for kind in [FrontendKind::ClusterIp, FrontendKind::LoadBalancer, FrontendKind::ExternalIp] {
        for (service, index) in &placed {
            claim_addresses(kind, service, *index, tables, problems);
        }
    }
    for (service, index) in &placed {
        claim_node_ports(service, *index, tables, problems);
    }
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
        FrontendKind::NodePort => return,
    };
    let mut report = |field: String, message: String, severity| {
        problems.push(Problem::of(&service.source, CompiledService::reference(entry), field, message, severity));
    };
    for &addr in addresses {
        let owner = tables.owner(addr);
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

fn full_name(tables: &Tables, service: ServicePortIndex) -> String {
    let entry: &crate::tables::ServiceEntry = tables.service_entry(service);
    format!("{}/{}", entry.namespace, entry.name)
}
