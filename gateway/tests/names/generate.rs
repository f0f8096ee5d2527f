//! Generated Services, EndpointSlices and pods: small enough that everything meets everything.

use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const NAMESPACES: [&str; 3] = ["one", "two", "svc"];
const SERVICES: [&str; 4] = ["a", "b", "pet", "kube-dns"];
const HOSTNAMES: [&str; 3] = ["pet", "h1", "10-244-0-3"];

/// Name, protocol, number.
type Port = (&'static str, &'static str, u16);

const PORTS: [Port; 4] = [("http", "TCP", 80), ("http", "TCP", 81), ("dns", "UDP", 53), ("dns-tcp", "TCP", 53)];

#[derive(Clone, Debug)]
pub(crate) struct World {
    namespaces: Vec<&'static str>,
    services: BTreeMap<(&'static str, &'static str), Service>,
    slices: Vec<Slice>,
    /// Namespace, last byte of the address, whether it has ended.
    pods: Vec<(&'static str, u8, bool)>,
}

#[derive(Clone, Debug)]
struct Service {
    kind: u8,
    ports: Vec<Port>,
    publishes_unready: bool,
    target: &'static str,
}

#[derive(Clone, Debug)]
struct Slice {
    service: (&'static str, &'static str),
    is_v4: bool,
    ports: Vec<Port>,
    /// Last byte of the address, and whether it is ready.
    endpoints: Vec<(u8, Option<bool>)>,
}

fn ports() -> impl Strategy<Value = Vec<Port>> {
    let named = prop::sample::subsequence(&PORTS[..], 0..4);
    // A name stands for one port only; one without a name stands alone.
    let distinct = named.prop_map(|mut ports| {
        let mut names = BTreeSet::new();
        ports.retain(|(name, ..)| names.insert(*name));
        ports
    });
    prop_oneof![4 => distinct, 1 => Just(vec![("", "TCP", 8080)])]
}

fn service() -> impl Strategy<Value = Service> {
    let targets = [
        "b.one.svc.cluster.local",
        "a.two.svc.cluster.local.",
        "pet.a.one.svc.cluster.local",
        "www.example.com",
        "gone.cluster.local",
        "192.0.2.1",
    ];
    (0..9u8, ports(), any::<bool>(), prop::sample::select(targets.to_vec()))
        .prop_map(|(kind, ports, publishes_unready, target)| Service { kind, ports, publishes_unready, target })
}

fn key() -> impl Strategy<Value = (&'static str, &'static str)> {
    (prop::sample::select(&NAMESPACES[..]), prop::sample::select(&SERVICES[..]))
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let endpoints = prop::collection::vec((1..6u8, prop::option::of(any::<bool>())), 0..4);
    let slice = (key(), any::<bool>(), ports(), endpoints).prop_map(|(service, is_v4, ports, endpoints)| Slice {
        service,
        is_v4,
        ports,
        endpoints,
    });
    let pod = (prop::sample::select(&NAMESPACES[..]), 1..6u8, prop::bool::weighted(0.2));
    (
        prop::sample::subsequence(&NAMESPACES[..], 0..3),
        prop::collection::btree_map(key(), service(), 1..8),
        prop::collection::vec(slice, 0..8),
        prop::collection::vec(pod, 0..3),
    )
        .prop_map(|(namespaces, services, slices, mut pods)| {
            let mut addresses = BTreeSet::new();
            pods.retain(|(_, last, _)| addresses.insert(*last));
            World { namespaces, services, slices, pods }
        })
}

fn address(last: u8, is_v4: bool) -> String {
    if is_v4 { format!("10.244.0.{last}") } else { format!("fd00:244::{last}") }
}

/// What an endpoint is called does not depend on the slice in which it stands.
fn hostname(service: (&str, &str), last: u8) -> Option<&'static str> {
    let chosen = usize::from(last) * 7 + service.0.len() + service.1.len();
    HOSTNAMES.get(chosen % 5).copied()
}

pub(crate) fn objects(world: &World) -> Vec<Value> {
    let mut objects = Vec::new();
    for name in &world.namespaces {
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    }
    for (index, ((namespace, name), service)) in world.services.iter().enumerate() {
        let (v4, v6) = (format!("10.96.0.{}", index + 1), format!("fd00:96::{}", index + 1));
        let ports: Vec<Value> = service
            .ports
            .iter()
            .map(|(name, protocol, number)| match *name {
                "" => json!({"protocol": protocol, "port": number}),
                name => json!({"name": name, "protocol": protocol, "port": number}),
            })
            .collect();
        let mut spec = match service.kind {
            0 => json!({"clusterIP": v4}),
            1 => json!({"clusterIP": v6, "clusterIPs": [v6]}),
            2 => json!({"clusterIP": v4, "clusterIPs": [v4, v6], "type": "LoadBalancer"}),
            3..6 => json!({"clusterIP": "None"}),
            _ => json!({"type": "ExternalName", "externalName": service.target}),
        };
        if !ports.is_empty() || service.kind < 3 {
            let ports = if ports.is_empty() { vec![json!({"port": 80})] } else { ports };
            spec["ports"] = Value::Array(ports);
        }
        spec["publishNotReadyAddresses"] = service.publishes_unready.into();
        let metadata = json!({"name": name, "namespace": namespace});
        objects.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}));
    }
    for (number, slice) in world.slices.iter().enumerate() {
        let endpoints: Vec<Value> = slice
            .endpoints
            .iter()
            .map(|(last, ready)| {
                json!({
                    "addresses": [address(*last, slice.is_v4)],
                    "conditions": {"ready": ready},
                    "hostname": hostname(slice.service, *last),
                })
            })
            .collect();
        let ports: Vec<Value> = slice
            .ports
            .iter()
            .map(|(name, protocol, number)| json!({"name": name, "protocol": protocol, "port": number}))
            .collect();
        let (namespace, service) = slice.service;
        objects.push(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("slice{number}"),
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service},
            },
            "addressType": if slice.is_v4 { "IPv4" } else { "IPv6" },
            "ports": ports,
            "endpoints": endpoints,
        }));
    }
    for (namespace, last, has_ended) in &world.pods {
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": format!("pod{last}"), "namespace": namespace},
            "spec": {"containers": []},
            "status": {"podIP": address(*last, true), "phase": if *has_ended { "Failed" } else { "Running" }},
        }));
    }
    objects
}

/// Every name that there could be, some that there cannot be, and those in between.
pub(crate) fn questions(objects: &[Value]) -> Vec<String> {
    let mut below =
        vec!["".to_owned(), "dns-version.".into(), "svc.".into(), "pod.".into(), "dns.".into(), "x.".into()];
    let endpoints = (1..6).flat_map(|last| [format!("10-244-0-{last}"), format!("fd00-244--{last}")]);
    let hosts: Vec<String> = endpoints.chain(HOSTNAMES.map(str::to_owned)).collect();
    let ports = [
        "_http._tcp",
        "_dns._udp",
        "_dns-tcp._tcp",
        "_http._udp",
        "http.tcp",
        "_._tcp",
        "_tcp",
        "_udp",
        "x._http._tcp",
    ];
    for namespace in NAMESPACES.iter().chain(&["gone"]) {
        below.push(format!("{namespace}.svc."));
        below.push(format!("{namespace}.pod."));
        below.extend(hosts.iter().map(|host| format!("{host}.{namespace}.pod.")));
        for service in SERVICES.iter().chain(&["gone"]) {
            below.push(format!("{service}.{namespace}.svc."));
            below.extend(hosts.iter().map(|host| format!("{host}.{service}.{namespace}.svc.")));
            below.extend(ports.iter().map(|port| format!("{port}.{service}.{namespace}.svc.")));
        }
    }
    let mut names: Vec<String> = below.iter().map(|below| format!("{below}cluster.local")).collect();
    let services = objects.iter().filter(|object| object["kind"] == "Service").count();
    for last in 1..=services + 1 {
        names.push(format!("{last}.0.96.10.in-addr.arpa"));
        names.push(format!("{last}.{}6.9.0.0.0.0.d.f.ip6.arpa", "0.".repeat(23)));
    }
    for last in 1..7 {
        names.push(format!("{last}.0.244.10.in-addr.arpa"));
        names.push(format!("{last}.{}4.4.2.0.0.0.d.f.ip6.arpa", "0.".repeat(23)));
    }
    names
}
