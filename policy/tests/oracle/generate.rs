//! Small clusters in which everything that policies speak of meets often: few labels, few ports, blocks that cut through
//! pods, nodes and the outside.

use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Namespace, Node, NodeAddress, NodeSpec, NodeStatus, Pod, PodIP, PodSpec, PodStatus,
};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use policy::objects::Object;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::collections::BTreeMap;
use std::net::IpAddr;
use wire::Protocol;

const NAMESPACES: [&str; 3] = ["blue", "green", "red"];
const PODS: usize = 7;

/// Flows that the oracle and the tables are asked about.
pub(crate) const FLOWS: [(Protocol, u16); 9] = [
    (Protocol::TCP, 80),
    (Protocol::TCP, 81),
    (Protocol::TCP, 443),
    (Protocol::TCP, 8080),
    (Protocol::UDP, 53),
    (Protocol::UDP, 80),
    (Protocol::SCTP, 80),
    (Protocol::ICMP, 0),
    (Protocol::ICMPV6, 0),
];

/// Addresses of pods, nodes, gateways and the outside.
pub(crate) fn addresses_of_interest() -> Vec<IpAddr> {
    let fixed = [
        "172.30.0.11",
        "172.30.0.12",
        "fd00:172:30::11",
        "10.244.1.1",
        "10.244.2.1",
        "fd00:10:244:2::1",
        "203.0.113.5",
        "0.0.0.0",
        "255.255.255.255",
        "2001:db8::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    ];
    let fixed = fixed.iter().map(|text| text.parse().expect("an address"));
    fixed.chain((0..PODS).flat_map(pod_addresses)).collect()
}

fn node_of(pod: usize) -> usize {
    1 + pod % 2
}

fn pod_addresses(pod: usize) -> [IpAddr; 2] {
    let node = node_of(pod);
    let parse = |text: String| text.parse().expect("an address");
    [parse(format!("10.244.{node}.{}", 10 + pod)), parse(format!("fd00:10:244:{node}::{:x}", 10 + pod))]
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    (option::of(select(&["a", "b", "c"][..])), option::of(select(&["x", "y"][..]))).prop_map(|(app, tier)| {
        let pairs = [("app", app), ("tier", tier)];
        pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect()
    })
}

fn selector() -> impl Strategy<Value = LabelSelector> {
    let expression = (
        select(&["app", "tier", "kubernetes.io/metadata.name", "absent"][..]),
        select(&["In", "NotIn", "Exists", "DoesNotExist"][..]),
        subsequence(vec!["a", "b", "x", "blue", "red"], 1..4),
    )
        .prop_map(|(key, operator, values)| LabelSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: operator.ends_with("In").then(|| values.into_iter().map(Into::into).collect()),
        });
    let labels = prop_oneof![2 => Just(None), 2 => labels().prop_map(Some)];
    let expressions = prop_oneof![3 => Just(None), 1 => vec(expression, 0..3).prop_map(Some)];
    (labels, expressions)
        .prop_map(|(match_labels, match_expressions)| LabelSelector { match_labels, match_expressions })
}

fn block() -> impl Strategy<Value = IPBlock> {
    let families = [
        (
            vec!["0.0.0.0/0", "10.0.0.0/8", "10.244.1.0/24", "10.244.1.8/29", "172.30.0.0/24", "203.0.113.0/24"],
            vec!["10.244.0.0/16", "10.244.2.0/25", "10.244.1.12/32", "172.30.0.11/32", "203.0.113.4/30", "128.0.0.0/1"],
        ),
        (
            vec!["::/0", "fd00::/8", "fd00:10:244:1::/64", "fd00:172:30::/64", "2001:db8::/32"],
            vec!["fd00:10:244::/48", "fd00:10:244:1::c/126", "fd00:172:30::11/128", "2001:db8::/64", "8000::/1"],
        ),
    ];
    select(families.to_vec()).prop_flat_map(|(cidrs, excepts)| {
        (select(cidrs), subsequence(excepts.clone(), 0..excepts.len())).prop_map(|(cidr, excepts)| {
            let outer: ipnet::IpNet = cidr.parse().expect("a CIDR");
            let inside = |text: &&str| {
                let inner: ipnet::IpNet = text.parse().expect("a CIDR");
                outer.contains(&inner) && outer.prefix_len() < inner.prefix_len()
            };
            let except: Vec<String> = excepts.into_iter().filter(inside).map(Into::into).collect();
            IPBlock { cidr: cidr.into(), except: (!except.is_empty()).then_some(except) }
        })
    })
}

fn peer() -> impl Strategy<Value = NetworkPolicyPeer> {
    let selectors = (option::of(selector()), option::of(selector())).prop_filter_map(
        "a peer has a selector",
        |(namespace_selector, pod_selector)| {
            let some = namespace_selector.is_some() || pod_selector.is_some();
            some.then_some(NetworkPolicyPeer { ip_block: None, namespace_selector, pod_selector })
        },
    );
    let block = block().prop_map(|block| NetworkPolicyPeer { ip_block: Some(block), ..Default::default() });
    prop_oneof![3 => selectors, 2 => block]
}

fn port() -> impl Strategy<Value = NetworkPolicyPort> {
    let protocol = option::of(select(&["TCP", "UDP", "SCTP"][..]));
    let number = (select(&[53, 80, 443, 8080][..]), option::of(0..400))
        .prop_map(|(port, more)| (Some(IntOrString::Int(port)), more.map(|more| port + more)));
    let name = select(&["http", "dns", "nobody"][..]).prop_map(|name| (Some(IntOrString::String(name.into())), None));
    let port = prop_oneof![3 => number, 2 => name, 1 => Just((None, None))];
    (protocol, port).prop_map(|(protocol, (port, end_port))| NetworkPolicyPort {
        protocol: protocol.map(Into::into),
        port,
        end_port,
    })
}

type Rule = (Option<Vec<NetworkPolicyPeer>>, Option<Vec<NetworkPolicyPort>>);

fn rules() -> impl Strategy<Value = Option<Vec<Rule>>> {
    let rule = (option::of(vec(peer(), 0..4)), option::of(vec(port(), 0..3)));
    option::of(vec(rule, 0..4))
}

fn policy(index: usize) -> impl Strategy<Value = Object> {
    let types = option::of(subsequence(vec!["Ingress".to_owned(), "Egress".to_owned()], 0..=2));
    (select(&NAMESPACES[..]), option::of(selector()), rules(), rules(), types).prop_map(
        move |(namespace, pod_selector, ingress, egress, policy_types)| {
            let ingress = ingress
                .map(|rules| rules.into_iter().map(|(from, ports)| NetworkPolicyIngressRule { from, ports }).collect());
            let egress = egress
                .map(|rules| rules.into_iter().map(|(to, ports)| NetworkPolicyEgressRule { to, ports }).collect());
            let spec = NetworkPolicySpec { pod_selector, ingress, egress, policy_types };
            NetworkPolicy { metadata: metadata(namespace, &format!("policy{index}"), None), spec: Some(spec) }.into()
        },
    )
}

fn metadata(namespace: &str, name: &str, labels: Option<BTreeMap<String, String>>) -> ObjectMeta {
    let namespace = (!namespace.is_empty()).then(|| namespace.into());
    ObjectMeta { namespace, name: Some(name.into()), labels, ..Default::default() }
}

fn pod(index: usize) -> impl Strategy<Value = Object> {
    let http = prop_oneof![
        Just(None),
        Just(Some(("http", "TCP", 80))),
        Just(Some(("http", "TCP", 8080))),
        Just(Some(("http", "UDP", 80))),
    ];
    let kind = prop_oneof![8 => Just((false, "Running")), 1 => Just((true, "Running")), 1 => Just((false, "Failed"))];
    (select(&NAMESPACES[..]), labels(), http, any::<bool>(), kind).prop_map(
        move |(namespace, labels, http, dns, (host_network, phase))| {
            let ports = http.into_iter().chain(dns.then_some(("dns", "UDP", 53)));
            let ports = ports.map(|(name, protocol, port)| ContainerPort {
                name: Some(name.into()),
                protocol: Some(protocol.into()),
                container_port: port,
                ..Default::default()
            });
            let container = Container { name: "c".into(), ports: Some(ports.collect()), ..Default::default() };
            let node = node_of(index);
            let ips = if host_network {
                vec![PodIP { ip: format!("172.30.0.1{node}") }]
            } else {
                pod_addresses(index).iter().map(|addr| PodIP { ip: addr.to_string() }).collect()
            };
            let spec = PodSpec {
                containers: vec![container],
                host_network: Some(host_network),
                node_name: Some(format!("node{node}")),
                ..Default::default()
            };
            let status = PodStatus { phase: Some(phase.into()), pod_ips: Some(ips), ..Default::default() };
            let metadata = metadata(namespace, &format!("pod{index}"), Some(labels));
            Pod { metadata, spec: Some(spec), status: Some(status) }.into()
        },
    )
}

fn node(number: usize) -> Object {
    let addresses = [format!("172.30.0.1{number}"), format!("fd00:172:30::1{number}")];
    let addresses = addresses.map(|address| NodeAddress { type_: "InternalIP".into(), address });
    let cidrs = vec![format!("10.244.{number}.0/24"), format!("fd00:10:244:{number}::/64")];
    let spec = NodeSpec { pod_cidrs: Some(cidrs), ..Default::default() };
    let status = NodeStatus { addresses: Some(addresses.to_vec()), ..Default::default() };
    Node { metadata: metadata("", &format!("node{number}"), None), spec: Some(spec), status: Some(status) }.into()
}

/// A cluster of two nodes. A namespace may lack its object, as when manifests leave it out.
pub(crate) fn cluster() -> impl Strategy<Value = Vec<Object>> {
    let namespaces: Vec<_> = NAMESPACES
        .iter()
        .map(|name| {
            option::weighted(0.8, labels()).prop_map(move |labels| {
                let labels = Some(labels?);
                Some(Object::from(Namespace { metadata: metadata("", name, labels), ..Default::default() }))
            })
        })
        .collect();
    let pods: Vec<_> = (0..PODS).map(pod).collect();
    let policies = (0usize..6).prop_flat_map(|count| (0..count).map(policy).collect::<Vec<_>>());
    (namespaces, pods, policies).prop_map(|(namespaces, pods, policies)| {
        let namespaces = namespaces.into_iter().flatten();
        [node(1), node(2)].into_iter().chain(namespaces).chain(pods).chain(policies).collect()
    })
}
