//! What Services are in the DNS: each by itself, from itself and its EndpointSlices.
//!
//! Endpoints that are not ready have no names, unless the Service publishes them (`publishNotReadyAddresses`, or the annotation
//! before there was that field). The slices are merged: an endpoint that stands in two of them during a move counts once.

use super::pods::protocol;
use crate::cluster::{Cluster, Key, Slice};
use crate::names::{Endpoints, Host, NamedPort, Names, PortHosts, Stands};
use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// Annotation that was publishNotReadyAddresses before there was a field (specification §2.1, "ready").
const UNREADY_ANNOTATION: &str = "service.alpha.kubernetes.io/tolerate-unready-endpoints";

/// Longest label and name (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;
const NAME_BYTES_MAX: usize = 255;

/// Compiles the names of the Services called `keys`; those of all others stay.
pub(super) fn compile<'a>(cluster: &Cluster, keys: impl IntoIterator<Item = &'a Key>, names: &mut Arc<Names>) {
    let mut keys = keys.into_iter().peekable();
    if keys.peek().is_none() {
        return;
    }
    let names = Arc::make_mut(names);
    for key in keys {
        let service = cluster.services.get(key);
        let compiled = service.map(|sourced| {
            let slices: Vec<&Slice> = cluster.slices_of(key).map(|slice| &*slice.object).collect();
            service_names(&sourced.object, &slices)
        });
        names.replace(key, compiled);
    }
}

/// What the name of a Service stands for, and its endpoints.
fn service_names(service: &Service, slices: &[&Slice]) -> (Stands, Endpoints) {
    let Some(spec) = &service.spec else { return (no_address(), Endpoints::default()) };
    if spec.type_.as_deref() == Some("ExternalName") {
        return (Stands::External(external(spec)), Endpoints::default());
    }
    let publishes_unready = publishes_unready(service, spec);
    let endpoints = endpoints(slices, publishes_unready);
    let stands = match is_headless(spec) {
        true => Stands::Headless { ports: hosts(slices, publishes_unready, &endpoints) },
        false => cluster_ips(spec),
    };
    (stands, endpoints)
}

fn no_address() -> Stands {
    Stands::ClusterIps { v4: Box::default(), v6: Box::default(), ports: Box::default() }
}

/// ClusterIPs as they are listed; without any, as before one is assigned, the name exists and has no address.
fn cluster_ips(spec: &ServiceSpec) -> Stands {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for text in cluster_ip_texts(spec) {
        match text.parse() {
            Ok(IpAddr::V4(addr)) if !v4.contains(&addr) => v4.push(addr),
            Ok(IpAddr::V6(addr)) if !v6.contains(&addr) => v6.push(addr),
            _ => {}
        }
    }
    let ports = spec.ports.iter().flatten().filter_map(|port| {
        let number = u16::try_from(port.port).ok().filter(|number| *number > 0)?;
        named_port(port.name.as_deref().unwrap_or_default(), protocol(port.protocol.as_deref())?, number)
    });
    let ports: BTreeSet<NamedPort> = ports.collect();
    Stands::ClusterIps { v4: v4.into(), v6: v6.into(), ports: ports.into_iter().collect() }
}

fn cluster_ip_texts(spec: &ServiceSpec) -> impl Iterator<Item = &str> {
    let one = spec.cluster_ip.iter().filter(|_| spec.cluster_ips.is_none());
    spec.cluster_ips.iter().flatten().chain(one).map(String::as_str)
}

fn is_headless(spec: &ServiceSpec) -> bool {
    cluster_ip_texts(spec).next() == Some("None")
}

fn publishes_unready(service: &Service, spec: &ServiceSpec) -> bool {
    let annotation = service.metadata.annotations.as_ref().and_then(|all| all.get(UNREADY_ANNOTATION));
    spec.publish_not_ready_addresses == Some(true) || annotation.is_some_and(|value| value == "true")
}

/// An unnamed port has no records (§2.3.2), nor has one whose name is no label.
fn named_port(name: &str, protocol: wire::Protocol, number: u16) -> Option<NamedPort> {
    // An underscore stands in front of the name.
    let is_label = !name.is_empty() && name.len() < LABEL_BYTES_MAX;
    is_label.then(|| NamedPort { name: name.to_ascii_lowercase().into(), protocol, number })
}

fn endpoints(slices: &[&Slice], publishes_unready: bool) -> Endpoints {
    let (mut addresses, mut named) = (Vec::new(), Vec::new());
    for endpoint in slices.iter().flat_map(|slice| &slice.endpoints) {
        if !(endpoint.ready || publishes_unready) {
            continue;
        }
        addresses.push(endpoint.addr);
        if let Some(hostname) = endpoint.hostname().filter(|hostname| hostname.len() <= LABEL_BYTES_MAX) {
            named.push((lower_case(hostname), endpoint.addr));
        }
    }
    Endpoints::new(addresses, named)
}

fn lower_case(name: &Arc<str>) -> Arc<str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { name.to_ascii_lowercase().into() } else { name.clone() }
}

/// Named ports with the hosts that have them: each host once for a port, in whatever number of slices it stands.
fn hosts(slices: &[&Slice], publishes_unready: bool, endpoints: &Endpoints) -> Box<[PortHosts]> {
    // Slices that have the same ports are taken together.
    let mut groups: BTreeMap<BTreeSet<NamedPort>, Vec<Host>> = BTreeMap::new();
    for slice in slices {
        let ports = slice.ports.iter().filter_map(|port| {
            let number = port.port.filter(|number| *number > 0)?;
            named_port(&port.name, port.protocol, number)
        });
        let hosts = groups.entry(ports.collect()).or_default();
        let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready || publishes_unready);
        hosts.extend(ready.flat_map(|endpoint| endpoints.hosts_at(endpoint.addr)));
    }
    let mut by_port: BTreeMap<NamedPort, Vec<Arc<[Host]>>> = BTreeMap::new();
    for (ports, mut hosts) in groups {
        hosts.sort_unstable();
        hosts.dedup();
        let hosts: Arc<[Host]> = hosts.into();
        for port in ports.into_iter().filter(|_| !hosts.is_empty()) {
            by_port.entry(port).or_default().push(hosts.clone());
        }
    }
    let merged = |groups: Vec<Arc<[Host]>>| match &*groups {
        [hosts] => hosts.clone(),
        groups => {
            let hosts: BTreeSet<Host> = groups.iter().flat_map(|hosts| hosts.iter().cloned()).collect();
            hosts.into_iter().collect()
        }
    };
    by_port.into_iter().map(|(port, groups)| PortHosts { port, hosts: merged(groups) }).collect()
}

/// spec.externalName as labels with their lengths in front. An IP address is none: an alias leads to a name, and one of digits
/// would be asked of servers that do not have it.
fn external(spec: &ServiceSpec) -> Option<Box<[u8]>> {
    let name = spec.external_name.as_deref().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.parse::<IpAddr>().is_ok() {
        return None;
    }
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        if label.is_empty() || label.len() > LABEL_BYTES_MAX {
            return None;
        }
        wire.push(label.len() as u8);
        wire.extend(label.bytes());
    }
    wire.push(0);
    (wire.len() <= NAME_BYTES_MAX).then(|| wire.into())
}

#[cfg(test)]
mod tests;
