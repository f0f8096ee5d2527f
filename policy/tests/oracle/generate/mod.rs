//! Small clusters in which everything that policies speak of meets often: few labels, few ports, blocks that cut through
//! pods, nodes and the outside. Objects are the JSON that somebody would hand in, so that reading it is tested too.

mod policies;

use policies::{cluster_network_policy, network_policy};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use wire::Protocol;

const NAMESPACES: [&str; 3] = ["blue", "green", "red"];
const PODS: usize = 6;
/// Of either kind.
const POLICIES_MAX: usize = 6;

/// Every flow that may be asked about, with the receiver's port.
const FLOWS: [(Protocol, u16); 15] = [
    (Protocol::TCP, 80),
    (Protocol::TCP, 81),
    (Protocol::TCP, 443),
    (Protocol::TCP, 8080),
    (Protocol::TCP, 1),
    (Protocol::TCP, 65_535),
    (Protocol::UDP, 53),
    (Protocol::UDP, 80),
    (Protocol::UDP, 8080),
    (Protocol::SCTP, 80),
    (Protocol::SCTP, 443),
    (Protocol::SCTP, 65_535),
    (Protocol::ICMP, 0),
    (Protocol::ICMPV6, 0),
    // IPsec ESP: neither ports nor a name in any policy.
    (Protocol(50), 0),
];

/// Addresses that are no pod's: of nodes, gateways and the outside.
const OTHERS: [&str; 15] = [
    "172.30.0.11",
    "172.30.0.12",
    "198.51.100.12",
    "fd00:172:30::11",
    "fd00:172:30::12",
    "10.244.1.1",
    "10.244.2.1",
    "fd00:10:244:2::1",
    "203.0.113.5",
    "203.0.113.9",
    "0.0.0.0",
    "255.255.255.255",
    "2001:db8::1",
    "::",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

/// Names that pods may have resolved to an address.
const NAMES: [&str; 6] =
    ["kubernetes.io", "www.kubernetes.io", "latest.blog.kubernetes.io", "my-kubernetes.io", "wikipedia.org", "io"];

/// A cluster, and what is asked about it: every pod, in both directions, with every peer and flow.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) objects: Vec<Value>,
    /// Each with the names that the subject has resolved to it.
    pub(crate) peers: Vec<(IpAddr, Vec<&'static str>)>,
    pub(crate) flows: Vec<(Protocol, u16)>,
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    (cluster(), peers(), subsequence(FLOWS.to_vec(), 4..=6)).prop_map(|(objects, peers, flows)| Case {
        objects,
        peers,
        flows,
    })
}

fn peers() -> impl Strategy<Value = Vec<(IpAddr, Vec<&'static str>)>> {
    let others = OTHERS.iter().map(|text| text.parse().expect("an address"));
    let of_pods = (0..PODS).flat_map(pod_addresses).collect::<Vec<_>>();
    let some = (subsequence(of_pods, 3..=5), subsequence(others.collect::<Vec<_>>(), 3..=5));
    some.prop_flat_map(|(pods, others)| {
        let named = |addr| {
            prop_oneof![1 => Just(Vec::new()), 1 => subsequence(NAMES.to_vec(), 1..=3)].prop_map(move |n| (addr, n))
        };
        pods.into_iter().chain(others).map(named).collect::<Vec<_>>()
    })
}

fn node_of(pod: usize) -> usize {
    1 + pod % 2
}

fn pod_addresses(pod: usize) -> [IpAddr; 2] {
    let node = node_of(pod);
    let parse = |text: String| text.parse().expect("an address");
    [parse(format!("10.244.{node}.{}", 10 + pod)), parse(format!("fd00:10:244:{node}::{:x}", 10 + pod))]
}

/// A map with those of `fields` that are there: what is absent is not written.
fn object<const N: usize>(fields: [(&str, Option<Value>); N]) -> Value {
    let present = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(present.collect::<Map<_, _>>())
}

fn labels() -> impl Strategy<Value = Value> {
    (option::of(select(&["a", "b", "c"][..])), option::of(select(&["x", "y"][..])))
        .prop_map(|(app, tier)| object([("app", app.map(Value::from)), ("tier", tier.map(Value::from))]))
}

/// A LabelSelector. One with nothing in it, in whatever way, selects everything.
fn selector() -> impl Strategy<Value = Value> {
    let expression = (
        select(&["app", "tier", "kubernetes.io/metadata.name", "absent"][..]),
        select(&["In", "NotIn", "Exists", "DoesNotExist"][..]),
        subsequence(vec!["a", "b", "x", "blue", "red"], 1..4),
    )
        .prop_map(|(key, operator, values)| {
            let values = operator.ends_with("In").then(|| json!(values));
            object([("key", Some(key.into())), ("operator", Some(operator.into())), ("values", values)])
        });
    let labels = prop_oneof![2 => Just(None), 2 => labels().prop_map(Some)];
    let expressions = prop_oneof![
        3 => Just(None),
        1 => proptest::collection::vec(expression, 0..3).prop_map(|all| Some(Value::from(all))),
    ];
    (labels, expressions)
        .prop_map(|(labels, expressions)| object([("matchLabels", labels), ("matchExpressions", expressions)]))
}

fn metadata(namespace: &str, name: &str, labels: Option<Value>, annotations: Option<Value>) -> Value {
    let namespace = (!namespace.is_empty()).then(|| namespace.into());
    object([
        ("namespace", namespace),
        ("name", Some(name.into())),
        ("labels", labels),
        ("annotations", annotations.filter(|all| *all != json!({}))),
    ])
}

/// What becomes of a pod in its life, and where it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Running,
    HostNetwork,
    /// Its deletion has begun; it still runs.
    Terminating,
    /// Nobody has said yet where it is to run.
    Unscheduled,
    /// Of one family only.
    OneFamily,
    /// Over; its addresses may be somebody else's.
    Ended(&'static str),
}

fn pod(index: usize) -> impl Strategy<Value = Value> {
    let life = prop_oneof![
        10 => Just(Life::Running),
        2 => Just(Life::HostNetwork),
        1 => Just(Life::Terminating),
        1 => Just(Life::Unscheduled),
        1 => Just(Life::OneFamily),
        1 => select(vec![Life::Ended("Failed"), Life::Ended("Succeeded")]),
    ];
    let http = option::of((select(&["TCP", "UDP", "SCTP"][..]), select(&[80, 443, 8080][..])));
    let unnamed = select(vec![None, Some(("TCP", 81))]);
    (select(&NAMESPACES[..]), labels(), http, any::<bool>(), any::<bool>(), unnamed, life).prop_map(
        move |(namespace, labels, http, dns, in_sidecar, unnamed, life)| {
            let port = |name: Option<&str>, protocol: Option<&str>, number: u16| {
                let (name, protocol) = (name.map(Value::from), protocol.map(Value::from));
                object([("name", name), ("protocol", protocol), ("containerPort", Some(number.into()))])
            };
            // TCP is what a port has that names no protocol.
            let http =
                http.map(|(protocol, number)| port(Some("http"), Some(protocol).filter(|p| *p != "TCP"), number));
            let dns = dns.then(|| port(Some("dns"), Some("UDP"), 53));
            let unnamed = unnamed.map(|(protocol, number)| port(None, Some(protocol), number));
            let (sidecar, main) = if in_sidecar { (dns, [http, unnamed]) } else { (None, [http.or(dns), unnamed]) };
            let main: Vec<Value> = main.into_iter().flatten().collect();
            let sidecar = sidecar.map(|dns| {
                json!([
                    {"name": "s", "image": "i", "restartPolicy": "Always", "ports": [dns]},
                    {"name": "once", "image": "i", "ports": [port(Some("http"), None, 80)]},
                ])
            });
            let node = node_of(index);
            let mut ips: Vec<String> = match life {
                Life::HostNetwork => vec![format!("172.30.0.1{node}")],
                // Another pod may have the addresses by now.
                Life::Ended(_) => pod_addresses((index + 2) % PODS).iter().map(ToString::to_string).collect(),
                _ => pod_addresses(index).iter().map(ToString::to_string).collect(),
            };
            if life == Life::OneFamily {
                ips.remove(index % 2);
            }
            let ips: Vec<Value> = ips.into_iter().map(|ip| json!({"ip": ip})).collect();
            let spec = object([
                ("containers", Some(json!([{"name": "c", "image": "i", "ports": main}]))),
                ("initContainers", sidecar),
                ("hostNetwork", (life == Life::HostNetwork).then_some(true.into())),
                ("nodeName", (life != Life::Unscheduled).then(|| format!("node{node}").into())),
            ]);
            let phase = if let Life::Ended(phase) = life { phase } else { "Running" };
            let mut metadata = metadata(namespace, &format!("pod{index}"), Some(labels), None);
            if life == Life::Terminating {
                metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            }
            let status = json!({"phase": phase, "podIPs": ips});
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})
        },
    )
}

fn node(number: usize) -> impl Strategy<Value = Value> {
    labels().prop_map(move |labels| {
        let mut addresses = vec![
            json!({"type": "InternalIP", "address": format!("172.30.0.1{number}")}),
            json!({"type": "InternalIP", "address": format!("fd00:172:30::1{number}")}),
            json!({"type": "Hostname", "address": format!("node{number}")}),
        ];
        if number == 2 {
            addresses.push(json!({"type": "ExternalIP", "address": "198.51.100.12"}));
        }
        let cidrs = [format!("10.244.{number}.0/24"), format!("fd00:10:244:{number}::/64")];
        json!({
            "apiVersion": "v1", "kind": "Node", "metadata": metadata("", &format!("node{number}"), Some(labels), None),
            "spec": {"podCIDRs": cidrs}, "status": {"addresses": addresses},
        })
    })
}

/// A cluster of two nodes. A namespace may lack its object, as when manifests leave it out.
fn cluster() -> impl Strategy<Value = Vec<Value>> {
    let namespaces: Vec<_> = NAMESPACES
        .iter()
        .map(|name| {
            option::weighted(0.8, labels()).prop_map(move |labels| {
                let metadata = metadata("", name, Some(labels?), None);
                Some(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
            })
        })
        .collect();
    let pods: Vec<_> = (0..PODS).map(pod).collect();
    let network = (0..=POLICIES_MAX).prop_flat_map(|count| (0..count).map(network_policy).collect::<Vec<_>>());
    let of_cluster =
        (0..=POLICIES_MAX).prop_flat_map(|count| (0..count).map(cluster_network_policy).collect::<Vec<_>>());
    (node(1), node(2), namespaces, pods, network, of_cluster).prop_map(
        |(node1, node2, namespaces, pods, network, of_cluster)| {
            let namespaces = namespaces.into_iter().flatten();
            [node1, node2].into_iter().chain(namespaces).chain(pods).chain(network).chain(of_cluster).collect()
        },
    )
}
