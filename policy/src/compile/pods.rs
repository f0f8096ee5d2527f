//! Pod objects: where they run and which addresses are theirs.

use crate::cluster::Cluster;
use crate::objects::{ObjectRef, Problem, Severity, Source};
use crate::tables::{ContainerPort, Owner, PodEntry, PodIndex, Tables};
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

pub(super) fn compile(cluster: &Cluster, tables: &mut Tables, problems: &mut Vec<Problem>) {
    for ((namespace, name), sourced) in &cluster.pods {
        let pod = &*sourced.object;
        if is_terminal(pod) {
            continue;
        }
        let spec = pod.spec.as_ref();
        let host_network = spec.and_then(|spec| spec.host_network).unwrap_or(false);
        let index = PodIndex(tables.pods.len() as u32);
        let addresses = addresses(pod, &sourced.source, index, host_network, tables, problems);
        let node = spec.and_then(|spec| spec.node_name.as_deref()).and_then(|node| tables.find_node(node));
        Arc::make_mut(&mut tables.pods).push(PodEntry {
            namespace: namespace.clone(),
            name: name.clone(),
            node,
            addresses,
            host_network,
            ports: spec.map(ports).unwrap_or_default(),
        });
    }
}

/// Whether the pod has ended: its address may belong to another pod by now.
pub(super) fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn addresses(
    pod: &Pod,
    source: &Source,
    index: PodIndex,
    host_network: bool,
    tables: &mut Tables,
    problems: &mut Vec<Problem>,
) -> Vec<IpAddr> {
    let Some(status) = &pod.status else { return Vec::new() };
    let listed: Vec<(String, &str)> = match &status.pod_ips {
        Some(ips) => {
            ips.iter().enumerate().map(|(position, ip)| (format!("status.podIPs[{position}].ip"), &*ip.ip)).collect()
        }
        None => status.pod_ip.iter().map(|ip| ("status.podIP".to_owned(), &**ip)).collect(),
    };
    let mut addresses = Vec::new();
    for (field, text) in listed {
        let message = match text.parse::<IpAddr>() {
            Err(_) => format!("{text:?} is not an IP address"),
            Ok(addr) if host_network => {
                addresses.push(addr);
                continue;
            }
            Ok(addr) => match tables.owners.get(&addr).copied() {
                None => {
                    Arc::make_mut(&mut tables.owners).insert(addr, Owner::Pod(index));
                    addresses.push(addr);
                    continue;
                }
                Some(Owner::Pod(owner)) if owner == index => continue,
                Some(owner) => super::owner_text(tables, owner, addr),
            },
        };
        let metadata = &pod.metadata;
        let object = ObjectRef::new(
            "Pod",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        );
        problems.push(Problem::of(source, object, field, message, Severity::Refused));
    }
    addresses
}

/// Ports of the containers that run beside each other: ordinary ones and sidecars (init containers that restart).
fn ports(spec: &PodSpec) -> Vec<ContainerPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            Some(ContainerPort {
                name: port.name.as_deref().unwrap_or_default().into(),
                protocol: protocol(port.protocol.as_deref())?,
                port: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect()
}

/// A protocol as the API writes it; TCP when it is not given.
pub(crate) fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::TCP),
        "UDP" => Some(Protocol::UDP),
        "SCTP" => Some(Protocol::SCTP),
        _ => None,
    }
}
