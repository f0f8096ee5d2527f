//! Services and their EndpointSlices: which virtual address and port leads to which backends.
//!
//! A backend may be chosen while its endpoint is ready. When none is ready, those that are terminating but still serving are
//! chosen (S12, KEP-1669). A TCP or SCTP flow may stay on any backend that is listed, so that a draining or briefly unready
//! server finishes its work; a UDP flow, which has no end, only on one that serves (S13). Slices of one Service are merged,
//! and an endpoint that stands in two of them during a move counts once (S24, KEP-752).

use super::pods::protocol;
use crate::cluster::{Cluster, Endpoint, Slice};
use crate::objects::{ObjectRef, Problem, Severity, Source};
use crate::tables::{Backend, ServicePortEntry, ServicePortIndex, Tables};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

pub(super) fn compile(cluster: &Cluster, tables: &mut Tables, problems: &mut Vec<Problem>) {
    for (key, sourced) in &cluster.services {
        let (namespace, name) = key;
        let addresses = virtual_addresses(&sourced.object, &sourced.source, tables, problems);
        if addresses.is_empty() {
            continue;
        }
        tables.virtual_addresses.extend(&addresses);
        let slices: Vec<&Slice> = cluster.slices_of(key).map(|slice| &*slice.object).collect();
        let ports = sourced.object.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
        for port in ports {
            let Some(entry) = service_port(namespace, name, port, &slices) else { continue };
            let index = ServicePortIndex(tables.service_ports.len() as u32);
            for &addr in &addresses {
                tables.virtual_ports.entry((addr, entry.protocol, entry.port)).or_insert(index);
            }
            tables.service_ports.push(entry);
        }
    }
}

/// The cluster addresses of a Service; none for headless Services and for ExternalName.
fn virtual_addresses(service: &Service, source: &Source, tables: &Tables, problems: &mut Vec<Problem>) -> Vec<IpAddr> {
    let Some(spec) = &service.spec else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let listed: Vec<(String, &str)> = match &spec.cluster_ips {
        Some(ips) => {
            ips.iter().enumerate().map(|(position, ip)| (format!("spec.clusterIPs[{position}]"), &**ip)).collect()
        }
        None => spec.cluster_ip.iter().map(|ip| ("spec.clusterIP".to_owned(), &**ip)).collect(),
    };
    let mut addresses = Vec::new();
    for (field, text) in listed {
        if matches!(text, "" | "None") {
            continue;
        }
        let message = match text.parse::<IpAddr>() {
            Err(_) => format!("{text:?} is not an IP address"),
            Ok(addr) => match tables.owner(addr) {
                Some(owner) => super::owner_text(tables, owner, addr),
                None if tables.is_virtual(addr) => format!("{addr} is already the address of another Service"),
                None => {
                    addresses.push(addr);
                    continue;
                }
            },
        };
        let metadata = &service.metadata;
        let object = ObjectRef::new(
            "Service",
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        );
        problems.push(Problem::of(source, object, field, message, Severity::Refused));
    }
    addresses
}

fn service_port(
    namespace: &Arc<str>,
    name: &Arc<str>,
    port: &ServicePort,
    slices: &[&Slice],
) -> Option<ServicePortEntry> {
    let mut ready = BTreeSet::new();
    let mut draining = BTreeSet::new();
    let mut listed = BTreeSet::new();
    let keeps_unserving = protocol(port.protocol.as_deref()) != Some(Protocol::UDP);
    for slice in slices {
        let Some(target) = target_port(slice, port) else { continue };
        for endpoint in &slice.endpoints {
            let condition = Condition::of(endpoint);
            let backend = Backend { addr: endpoint.addr, port: target };
            match condition {
                Condition::Ready => ready.insert(backend),
                Condition::Draining => draining.insert(backend),
                Condition::Serving | Condition::Unready => false,
            };
            if keeps_unserving || !matches!(condition, Condition::Unready) {
                listed.insert(backend);
            }
        }
    }
    let of_family = |is_ipv4: bool| -> Arc<[Backend]> {
        let of_set = |set: &BTreeSet<Backend>| -> Arc<[Backend]> {
            set.iter().filter(|backend| backend.addr.is_ipv4() == is_ipv4).copied().collect()
        };
        let ready = of_set(&ready);
        if ready.is_empty() { of_set(&draining) } else { ready }
    };
    Some(ServicePortEntry {
        namespace: namespace.clone(),
        name: name.clone(),
        port_name: port.name.as_deref().unwrap_or_default().into(),
        port: u16::try_from(port.port).ok()?,
        protocol: protocol(port.protocol.as_deref())?,
        backends_v4: of_family(true),
        backends_v6: of_family(false),
        listed: listed.into_iter().collect(),
    })
}

/// The port of a slice's endpoints that serves `port`: the one of the same name and protocol.
fn target_port(slice: &Slice, port: &ServicePort) -> Option<u16> {
    let name = port.name.as_deref().unwrap_or_default();
    let wanted = protocol(port.protocol.as_deref())?;
    let mut ports = slice.ports.iter();
    ports.find(|candidate| &*candidate.name == name && candidate.protocol == wanted)?.port
}

/// What the conditions of an endpoint mean for traffic.
enum Condition {
    Ready,
    /// Terminating and still serving.
    Draining,
    /// Serving, but neither ready nor terminating.
    Serving,
    Unready,
}

impl Condition {
    fn of(endpoint: &Endpoint) -> Condition {
        match (endpoint.ready, endpoint.serving, endpoint.terminating) {
            (true, ..) => Condition::Ready,
            (false, true, true) => Condition::Draining,
            (false, true, false) => Condition::Serving,
            (false, false, _) => Condition::Unready,
        }
    }
}
