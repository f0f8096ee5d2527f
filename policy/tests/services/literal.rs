//! A slow reading of what the API and the KEPs say about where a flow to a Service goes: per flow, from the lists, in the order
//! of the words. It shares nothing with the compiler.

use super::generate::{self, GenEndpoint, GenPort, GenService, World};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What becomes of a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// It is not for a Service.
    NoService,
    /// To one of these.
    Backends(BTreeSet<(IpAddr, u16)>),
    Refused,
    Dropped,
    Forbidden,
}

/// Where a flow comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    /// On which node it enters; `None` is a stranger.
    pub(crate) node: Option<usize>,
    pub(crate) from_outside: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ClusterIp,
    /// At this node.
    NodePort(usize),
    LoadBalancer,
    ExternalIp,
}

pub(crate) fn judge(world: &World, asked: &Asked) -> Outcome {
    for (index, service) in world.services.iter().enumerate() {
        for port in service.ports.iter().filter(|port| port.protocol == asked.protocol) {
            if let Some(kind) = kind(index, service, port, asked) {
                return of_port(world, index, service, port, kind, asked);
            }
        }
    }
    Outcome::NoService
}

/// By which of its addresses a Service's port is asked for, if it is.
fn kind(index: usize, service: &GenService, port: &GenPort, asked: &Asked) -> Option<Kind> {
    let is_ipv4 = asked.dst.is_ipv4();
    if !service.families.contains(&is_ipv4) {
        return None;
    }
    if asked.port == generate::node_port(index, port) && service.kind != "ClusterIP" {
        let at = (0..generate::NODES).find(|node| generate::node_addr(*node, is_ipv4) == asked.dst);
        return at.map(Kind::NodePort);
    }
    if asked.port != generate::port_number(port) {
        return None;
    }
    if asked.dst == generate::cluster_ip(index, is_ipv4) {
        return Some(Kind::ClusterIp);
    }
    let mut balancers = service.balancers.iter().enumerate();
    let is_balancer = balancers.any(|(position, (v4, mode))| {
        generate::balancer_ip(index, position, *v4) == asked.dst && *mode != Some("Proxy")
    });
    if is_balancer && service.kind == "LoadBalancer" {
        return Some(Kind::LoadBalancer);
    }
    let is_external = service.external_ips.contains(&true) && asked.dst == generate::external_ip(index, true);
    is_external.then_some(Kind::ExternalIp)
}

fn of_port(world: &World, index: usize, service: &GenService, port: &GenPort, kind: Kind, asked: &Asked) -> Outcome {
    if kind == Kind::LoadBalancer && !service.source_ranges.is_empty() {
        let allows = |range: &str| range.parse::<ipnet::IpNet>().expect("a CIDR").contains(&asked.src);
        if !service.source_ranges.iter().any(|range| allows(range)) {
            return Outcome::Forbidden;
        }
    }
    let endpoints = endpoints(world, index, port, asked.dst.is_ipv4());
    let local_to = match kind {
        Kind::ClusterIp => service.internal_local.then_some(asked.node),
        _ if !service.external_local => None,
        _ if asked.from_outside => Some(asked.node),
        Kind::NodePort(at) if asked.node != Some(at) => Some(Some(at)),
        _ => None,
    };
    let chosen = match local_to {
        Some(node) => local(&endpoints, node),
        None => cluster(world, &endpoints, asked.node),
    };
    let usable = endpoints.values().any(|endpoint| is_ready(endpoint) || is_draining(endpoint));
    match (chosen.is_empty(), usable) {
        (false, _) => Outcome::Backends(chosen),
        (true, true) => Outcome::Dropped,
        (true, false) => Outcome::Refused,
    }
}

type Endpoints = BTreeMap<(IpAddr, u16), GenEndpoint>;

/// The endpoints of a port: of two entries for one the better counts, then the one on a known node, then the first.
pub(crate) fn endpoints(world: &World, service: usize, port: &GenPort, is_ipv4: bool) -> Endpoints {
    let mut found = Endpoints::new();
    for slice in world.slices.iter().filter(|slice| slice.service == service && slice.is_ipv4 == is_ipv4) {
        let target = slice.ports.iter().find(|(name, protocol, _)| (*name, *protocol) == (port.name, port.protocol));
        let Some((_, _, number)) = target else { continue };
        for endpoint in &slice.endpoints {
            let place = (generate::endpoint_addr(endpoint.host, is_ipv4), *number);
            let rank = |endpoint: &GenEndpoint| {
                let state = if is_ready(endpoint) {
                    0
                } else if is_draining(endpoint) {
                    1
                } else if is_serving(endpoint) {
                    2
                } else {
                    3
                };
                (state, known_node(endpoint).unwrap_or(usize::MAX))
            };
            if found.get(&place).is_none_or(|present| rank(endpoint) < rank(present)) {
                found.insert(place, endpoint.clone());
            }
        }
    }
    found
}

fn known_node(endpoint: &GenEndpoint) -> Option<usize> {
    endpoint.node.filter(|node| *node < generate::NODES)
}

fn is_ready(endpoint: &GenEndpoint) -> bool {
    endpoint.ready.unwrap_or(true)
}

pub(crate) fn is_serving(endpoint: &GenEndpoint) -> bool {
    is_ready(endpoint) || endpoint.serving.unwrap_or(true)
}

fn is_draining(endpoint: &GenEndpoint) -> bool {
    !is_ready(endpoint) && endpoint.serving.unwrap_or(true) && endpoint.terminating.unwrap_or(false)
}

fn those(endpoints: &Endpoints, wanted: impl Fn(&GenEndpoint) -> bool) -> BTreeSet<(IpAddr, u16)> {
    endpoints.iter().filter(|(_, endpoint)| wanted(endpoint)).map(|(place, _)| *place).collect()
}

fn local(endpoints: &Endpoints, node: Option<usize>) -> BTreeSet<(IpAddr, u16)> {
    let is_local = |endpoint: &GenEndpoint| node.is_some() && known_node(endpoint) == node;
    let ready = those(endpoints, |endpoint| is_local(endpoint) && is_ready(endpoint));
    if !ready.is_empty() {
        return ready;
    }
    those(endpoints, |endpoint| is_local(endpoint) && is_draining(endpoint))
}

fn cluster(world: &World, endpoints: &Endpoints, node: Option<usize>) -> BTreeSet<(IpAddr, u16)> {
    let ready: Vec<&GenEndpoint> = endpoints.values().filter(|endpoint| is_ready(endpoint)).collect();
    if ready.is_empty() {
        return those(endpoints, is_draining);
    }
    if let Some(node) = node {
        let all_have = ready.iter().all(|endpoint| !endpoint.for_nodes.is_empty());
        if all_have && ready.iter().any(|endpoint| endpoint.for_nodes.contains(&node)) {
            return those(endpoints, |endpoint| is_ready(endpoint) && endpoint.for_nodes.contains(&node));
        }
    }
    if let Some(zone) = node.and_then(|node| world.zones[node]) {
        let all_have = ready.iter().all(|endpoint| !endpoint.for_zones.is_empty());
        if all_have && ready.iter().any(|endpoint| endpoint.for_zones.contains(&zone)) {
            return those(endpoints, |endpoint| is_ready(endpoint) && endpoint.for_zones.contains(&zone));
        }
    }
    those(endpoints, is_ready)
}
