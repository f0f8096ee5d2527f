//! Topology hints of endpoints: which nodes and zones are to use them.
//!
//! spec.trafficDistribution asks for the same zone (KEP-4444, KEP-3015) or the same node (KEP-3015): every ready endpoint says
//! where it is, and whoever routes decides. The older annotation `service.kubernetes.io/topology-mode: Auto` (KEP-2433) shares
//! the endpoints out in proportion to the zones' CPUs instead, and gives no hints at all where that would overload a zone.

use super::nodes;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};
use std::collections::BTreeMap;

/// Annotation that shares endpoints out among zones, and the one that it has replaced.
const MODE_ANNOTATIONS: [&str; 2] =
    ["service.kubernetes.io/topology-mode", "service.kubernetes.io/topology-aware-hints"];

/// Label of a node with its zone.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// How much more than its share of traffic an endpoint of a zone may get before there are no hints (KEP-2433: 20 %).
const OVERLOAD_MAX: f64 = 0.2;

/// What a Service asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distribution {
    Anywhere,
    SameZone,
    SameNode,
    Shares,
}

impl Distribution {
    fn of(service: &Service) -> Distribution {
        let annotations = service.metadata.annotations.as_ref();
        let mode = annotations.and_then(|annotations| MODE_ANNOTATIONS.iter().find_map(|name| annotations.get(*name)));
        match service.spec.as_ref().and_then(|spec| spec.traffic_distribution.as_deref()) {
            // The annotation goes before the field, as in kube-controller-manager.
            _ if mode.is_some_and(|mode| mode.eq_ignore_ascii_case("auto")) => Distribution::Shares,
            Some("PreferClose" | "PreferSameZone") => Distribution::SameZone,
            Some("PreferSameNode") => Distribution::SameNode,
            _ => Distribution::Anywhere,
        }
    }
}

/// Writes the hints of the endpoints of one family and set of ports.
pub(super) fn fill(service: &Service, endpoints: &mut [Endpoint], all_nodes: &[Node]) {
    match Distribution::of(service) {
        Distribution::Anywhere => {}
        Distribution::SameZone => endpoints.iter_mut().filter(|endpoint| is_ready(endpoint)).for_each(|endpoint| {
            endpoint.hints = of_zone(endpoint.zone.as_deref());
        }),
        Distribution::SameNode => endpoints.iter_mut().filter(|endpoint| is_ready(endpoint)).for_each(|endpoint| {
            let for_nodes = endpoint.node_name.iter().map(|name| ForNode { name: name.clone() }).collect::<Vec<_>>();
            if !for_nodes.is_empty() {
                let zones = of_zone(endpoint.zone.as_deref()).unwrap_or_default();
                endpoint.hints = Some(EndpointHints { for_nodes: Some(for_nodes), ..zones });
            }
        }),
        Distribution::Shares => share_out(endpoints, all_nodes),
    }
}

/// The zone of a node.
pub(super) fn zone(node: &Node) -> Option<&String> {
    node.metadata.labels.as_ref()?.get(ZONE_LABEL)
}

fn of_zone(zone: Option<&str>) -> Option<EndpointHints> {
    let for_zones = vec![ForZone { name: zone?.to_owned() }];
    Some(EndpointHints { for_zones: Some(for_zones), ..EndpointHints::default() })
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true)
}

/// Gives every zone as many endpoints as its share of the CPUs demands: its own first, then those that other zones can spare.
fn share_out(endpoints: &mut [Endpoint], all_nodes: &[Node]) {
    let Some(weights) = zone_weights(all_nodes) else { return };
    let ready: Vec<usize> = (0..endpoints.len()).filter(|index| is_ready(&endpoints[*index])).collect();
    let total = ready.len() as f64;
    // The fewest endpoints with which no endpoint of the zone is overloaded.
    let wanted: BTreeMap<&str, usize> = weights
        .iter()
        .map(|(zone, weight)| (zone.as_str(), (weight * total / (1.0 + OVERLOAD_MAX)).ceil().max(1.0) as usize))
        .collect();
    if wanted.values().sum::<usize>() > ready.len() {
        return;
    }
    let mut of_zones: BTreeMap<&str, Vec<usize>> = wanted.keys().map(|zone| (*zone, Vec::new())).collect();
    let mut spare = Vec::new();
    for index in ready {
        match endpoints[index].zone.as_deref().and_then(|zone| of_zones.get_mut(zone)) {
            Some(members) => members.push(index),
            None => spare.push(index),
        }
    }
    let lacking: usize = of_zones.iter().map(|(zone, members)| wanted[zone].saturating_sub(members.len())).sum();
    for (zone, members) in &mut of_zones {
        while spare.len() < lacking && members.len() > wanted[zone] {
            spare.extend(members.pop());
        }
    }
    for (zone, members) in &mut of_zones {
        while members.len() < wanted[zone] {
            // There are enough: the wishes of all zones together are not more than the ready endpoints.
            members.push(spare.pop().expect("zones with too many have given theirs"));
        }
    }
    // An endpoint of a node without a zone is used by the zone that has the fewest.
    for index in spare {
        if let Some(members) = of_zones.values_mut().min_by_key(|members| members.len()) {
            members.push(index);
        }
    }
    let assigned: Vec<(usize, String)> =
        of_zones.iter().flat_map(|(zone, members)| members.iter().map(|index| (*index, (*zone).to_owned()))).collect();
    for (index, zone) in assigned {
        endpoints[index].hints = of_zone(Some(&zone));
    }
}

/// Each zone's part of all CPUs; `None` with fewer than two zones, or while a node does not say its zone. Nodes without
/// status.allocatable.cpu count as equal.
fn zone_weights(all_nodes: &[Node]) -> Option<BTreeMap<String, f64>> {
    let ready: Vec<&Node> = all_nodes.iter().filter(|node| nodes::is_ready(node)).collect();
    let cpus: Vec<Option<f64>> = ready.iter().map(|node| allocatable_cpus(node)).collect();
    let all_known = cpus.iter().all(Option::is_some);
    let mut weights: BTreeMap<String, f64> = BTreeMap::new();
    for (node, cpus) in ready.iter().zip(cpus) {
        *weights.entry(zone(node)?.clone()).or_default() += cpus.filter(|_| all_known).unwrap_or(1.0);
    }
    let sum: f64 = weights.values().sum();
    if weights.len() < 2 || sum <= 0.0 {
        return None;
    }
    weights.values_mut().for_each(|weight| *weight /= sum);
    Some(weights)
}

/// status.allocatable.cpu as a number: `4`, `0.5` or `3920m`.
fn allocatable_cpus(node: &Node) -> Option<f64> {
    let quantity = &node.status.as_ref()?.allocatable.as_ref()?.get("cpu")?.0;
    match quantity.strip_suffix('m') {
        Some(milli) => milli.parse::<f64>().ok().map(|milli| milli / 1000.0),
        None => quantity.parse().ok(),
    }
}
