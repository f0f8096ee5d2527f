//! Generated Services, EndpointSlices and nodes: small enough that everything meets everything.

use policy::objects::{Object, Sourced, parse};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Nodes `n0` to `n2`; slices and hints also name one that does not exist.
pub(crate) const NODES: usize = 3;

/// Zones `z0` and `z1`; hints also name one that no node is in.
pub(crate) const ZONES: u8 = 2;

/// Names of Service ports.
const PORT_NAMES: [&str; 2] = ["p", "q"];

/// What externalIPs may be.
pub(crate) const ALLOWED: &str = "198.51.100.0/24";

#[derive(Clone, Debug)]
pub(crate) struct World {
    /// By node: its zone.
    pub(crate) zones: Vec<Option<u8>>,
    pub(crate) services: Vec<GenService>,
    pub(crate) slices: Vec<GenSlice>,
}

#[derive(Clone, Debug)]
pub(crate) struct GenService {
    pub(crate) kind: &'static str,
    /// IPv4, IPv6 or both, in order.
    pub(crate) families: Vec<bool>,
    pub(crate) external_local: bool,
    pub(crate) internal_local: bool,
    /// Load balancer addresses: family, and ipMode.
    pub(crate) balancers: Vec<(bool, Option<&'static str>)>,
    /// Whether each externalIP is one that is allowed.
    pub(crate) external_ips: Vec<bool>,
    pub(crate) source_ranges: Vec<&'static str>,
    pub(crate) ports: Vec<GenPort>,
}

#[derive(Clone, Debug)]
pub(crate) struct GenPort {
    pub(crate) name: usize,
    pub(crate) protocol: &'static str,
}

#[derive(Clone, Debug)]
pub(crate) struct GenSlice {
    pub(crate) service: usize,
    pub(crate) is_ipv4: bool,
    /// Port name, protocol, number.
    pub(crate) ports: Vec<(usize, &'static str, u16)>,
    pub(crate) endpoints: Vec<GenEndpoint>,
}

#[derive(Clone, Debug)]
pub(crate) struct GenEndpoint {
    pub(crate) host: u8,
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
    pub(crate) node: Option<usize>,
    pub(crate) for_zones: Vec<u8>,
    pub(crate) for_nodes: Vec<usize>,
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let zone = prop_oneof![1 => Just(None), 4 => (0..ZONES).prop_map(Some)];
    let zones = prop::collection::vec(zone, NODES);
    let services = prop::collection::vec(service(), 1..3);
    (zones, services).prop_flat_map(|(zones, services)| {
        // Whether endpoints have hints at all is a property of the world, or no Service would ever have a complete set.
        let hinted = prop_oneof![2 => Just((false, false)), 3 => Just((true, false)), 2 => Just((true, true))];
        let slices =
            hinted.prop_flat_map(move |(in_zones, on_nodes)| prop::collection::vec(slice(2, in_zones, on_nodes), 0..6));
        (Just(zones), Just(services), slices).prop_map(|(zones, services, slices)| World { zones, services, slices })
    })
}

fn service() -> impl Strategy<Value = GenService> {
    let kind = prop_oneof![Just("ClusterIP"), Just("NodePort"), Just("LoadBalancer"), Just("LoadBalancer")];
    let families = prop_oneof![Just(vec![true]), Just(vec![false]), Just(vec![true, false]), Just(vec![false, true])];
    let mode = prop_oneof![Just(None), Just(Some("VIP")), Just(Some("Proxy"))];
    let range = prop::sample::select(vec!["192.0.2.0/25", "192.0.2.0/24", "10.0.0.0/8", "2001:db8::/32", "fd00::/8"]);
    let port = |name| protocol().prop_map(move |protocol| GenPort { name, protocol });
    let ports = prop_oneof![port(0).prop_map(|p| vec![p]), (port(0), port(1)).prop_map(|(p, q)| vec![p, q])];
    (
        kind,
        families,
        any::<bool>(),
        any::<bool>(),
        prop::collection::vec((any::<bool>(), mode), 0..3),
        prop::collection::vec(any::<bool>(), 0..2),
        prop_oneof![3 => Just(vec![]), 2 => prop::collection::vec(range, 1..3)],
        ports,
    )
        .prop_map(
            |(kind, families, external_local, internal_local, balancers, external_ips, source_ranges, ports)| {
                GenService {
                    kind,
                    families,
                    external_local,
                    internal_local,
                    balancers,
                    external_ips,
                    source_ranges,
                    ports,
                }
            },
        )
}

fn protocol() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["TCP", "UDP", "SCTP"])
}

fn slice(services: usize, in_zones: bool, on_nodes: bool) -> impl Strategy<Value = GenSlice> {
    let port = |name| (Just(name), protocol(), 8080u16..8082);
    let ports = prop_oneof![
        1 => port(0).prop_map(|p| vec![p]),
        4 => (port(0), port(1)).prop_map(|(p, q)| vec![p, q]),
    ];
    let endpoints = prop::collection::vec(endpoint(in_zones, on_nodes), 0..5);
    (0..services, any::<bool>(), ports, endpoints).prop_map(|(service, is_ipv4, ports, endpoints)| GenSlice {
        service,
        is_ipv4,
        ports,
        endpoints,
    })
}

fn endpoint(in_zones: bool, on_nodes: bool) -> impl Strategy<Value = GenEndpoint> {
    let ready = prop_oneof![3 => Just(None), 3 => Just(Some(true)), 3 => Just(Some(false))];
    let flag = || prop_oneof![Just(None), Just(Some(true)), Just(Some(false))];
    let node = prop_oneof![1 => Just(None), 6 => (0..=NODES).prop_map(Some)];
    // Mostly given, where the world has hints at all.
    let zones = prop_oneof![1 => Just(0usize), 12 => Just(1), 2 => Just(2)];
    let zones = zones.prop_flat_map(move |count| prop::collection::vec(0..=ZONES, if in_zones { count } else { 0 }));
    let nodes = prop_oneof![1 => Just(0usize), 12 => Just(1), 2 => Just(2)];
    let nodes = nodes.prop_flat_map(move |count| prop::collection::vec(0..=NODES, if on_nodes { count } else { 0 }));
    (1..9u8, ready, flag(), flag(), node, zones, nodes).prop_map(
        |(host, ready, serving, terminating, node, for_zones, for_nodes)| GenEndpoint {
            host,
            ready,
            serving,
            terminating,
            node,
            for_zones,
            for_nodes,
        },
    )
}

/// Address `host` of `net`, which tells kinds of addresses apart.
fn addr(is_ipv4: bool, net: u8, host: u8) -> IpAddr {
    if is_ipv4 {
        Ipv4Addr::new(10, net, 0, host).into()
    } else {
        Ipv6Addr::new(0xfd00, net.into(), 0, 0, 0, 0, 0, host.into()).into()
    }
}

pub(crate) fn node_addr(node: usize, is_ipv4: bool) -> IpAddr {
    addr(is_ipv4, 1, node as u8 + 1)
}

pub(crate) fn endpoint_addr(host: u8, is_ipv4: bool) -> IpAddr {
    addr(is_ipv4, 2, host)
}

pub(crate) fn cluster_ip(service: usize, is_ipv4: bool) -> IpAddr {
    addr(is_ipv4, 3, service as u8 + 1)
}

pub(crate) fn balancer_ip(service: usize, position: usize, is_ipv4: bool) -> IpAddr {
    addr(is_ipv4, 4, (service * 10 + position + 1) as u8)
}

pub(crate) fn external_ip(service: usize, allowed: bool) -> IpAddr {
    let net = if allowed { [198, 51, 100] } else { [203, 0, 113] };
    Ipv4Addr::new(net[0], net[1], net[2], service as u8 + 1).into()
}

pub(crate) fn port_number(port: &GenPort) -> u16 {
    80 + port.name as u16
}

pub(crate) fn node_port(service: usize, port: &GenPort) -> u16 {
    30_000 + service as u16 * 10 + port.name as u16
}

/// The world as a cluster's objects.
pub(crate) fn objects(world: &World) -> Vec<Sourced<Object>> {
    let mut items: Vec<Value> = Vec::new();
    for (index, zone) in world.zones.iter().enumerate() {
        let labels = zone.map_or(json!({}), |zone| json!({"topology.kubernetes.io/zone": format!("z{zone}")}));
        let addresses =
            [true, false].map(|v4| json!({"type": "InternalIP", "address": node_addr(index, v4).to_string()}));
        items.push(json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("n{index}"), "labels": labels},
            "status": {"addresses": addresses},
        }));
    }
    items.extend(world.services.iter().enumerate().map(|(index, service)| service_object(index, service)));
    items.extend(world.slices.iter().enumerate().map(|(index, slice)| slice_object(index, slice)));
    let text = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let parsed = parse("generated", &text);
    assert_eq!(parsed.problems, []);
    parsed.objects
}

fn service_object(index: usize, service: &GenService) -> Value {
    let has_node_ports = service.kind != "ClusterIP";
    let ports: Vec<Value> = service
        .ports
        .iter()
        .map(|port| {
            let node_port = if has_node_ports { json!(node_port(index, port)) } else { Value::Null };
            let name = PORT_NAMES[port.name];
            json!({"name": name, "port": port_number(port), "protocol": port.protocol, "nodePort": node_port})
        })
        .collect();
    let ips: Vec<String> = service.families.iter().map(|v4| cluster_ip(index, *v4).to_string()).collect();
    let policy = |local| if local { "Local" } else { "Cluster" };
    let ingress: Vec<Value> = service
        .balancers
        .iter()
        .enumerate()
        .map(|(position, (v4, mode))| json!({"ip": balancer_ip(index, position, *v4).to_string(), "ipMode": mode}))
        .collect();
    let external_ips: Vec<String> =
        service.external_ips.iter().map(|allowed| external_ip(index, *allowed).to_string()).collect();
    let ranges = if service.kind == "LoadBalancer" { service.source_ranges.clone() } else { Vec::new() };
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{index}"), "namespace": "default"},
        "spec": {
            "type": service.kind, "clusterIP": ips[0], "clusterIPs": ips, "ports": ports, "externalIPs": external_ips,
            "externalTrafficPolicy": policy(service.external_local), "internalTrafficPolicy": policy(service.internal_local),
            "loadBalancerSourceRanges": ranges,
        },
        "status": {"loadBalancer": {"ingress": ingress}},
    })
}

fn slice_object(index: usize, slice: &GenSlice) -> Value {
    let ports: Vec<Value> = slice
        .ports
        .iter()
        .map(|(name, protocol, number)| json!({"name": PORT_NAMES[*name], "protocol": protocol, "port": number}))
        .collect();
    let named = |name: String| json!({"name": name});
    let endpoints: Vec<Value> = slice
        .endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "addresses": [endpoint_addr(endpoint.host, slice.is_ipv4).to_string()],
                "conditions": {
                    "ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating
                },
                "nodeName": endpoint.node.map(|node| format!("n{node}")),
                "hints": {
                    "forZones": endpoint.for_zones.iter().map(|zone| named(format!("z{zone}"))).collect::<Vec<_>>(),
                    "forNodes": endpoint.for_nodes.iter().map(|node| named(format!("n{node}"))).collect::<Vec<_>>(),
                },
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("slice{index}"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": format!("s{}", slice.service)},
        },
        "addressType": if slice.is_ipv4 { "IPv4" } else { "IPv6" }, "ports": ports, "endpoints": endpoints,
    })
}
