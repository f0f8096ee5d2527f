//! NetworkPolicies and ClusterNetworkPolicies of all shapes that the API server takes, some with fields of a later version.

use super::{NAMESPACES, metadata, object, selector};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

/// Of policies; their order is not the one in which they are handed in.
const NAMES: [&str; super::POLICIES_MAX] = ["mend", "bar", "west", "alpha", "keep-10", "zero"];

/// Many are dry-run, many keep what is established; now and then a word that means nothing.
fn annotations() -> impl Strategy<Value = Value> {
    let dry_run = prop_oneof![14 => Just(None), 5 => Just(Some("true")), 1 => Just(Some("yes"))];
    let established = prop_oneof![
        12 => Just(None), 6 => Just(Some("keep")), 1 => Just(Some("cut")), 1 => Just(Some("always")),
    ];
    (dry_run, established).prop_map(|(dry_run, established)| {
        object([
            ("podplane.io/dry-run", dry_run.map(Value::from)),
            ("podplane.io/established", established.map(Value::from)),
        ])
    })
}

/// A CIDR and parts of it that may be excepted.
fn block() -> impl Strategy<Value = Value> {
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
            let except: Vec<&str> = excepts.into_iter().filter(inside).collect();
            object([("cidr", Some(cidr.into())), ("except", (!except.is_empty()).then(|| json!(except)))])
        })
    })
}

fn network_policy_peer() -> impl Strategy<Value = Value> {
    let selectors = (option::of(selector()), option::of(selector()))
        .prop_filter("a peer has a selector", |(namespaces, pods)| namespaces.is_some() || pods.is_some())
        .prop_map(|(namespaces, pods)| object([("namespaceSelector", namespaces), ("podSelector", pods)]));
    prop_oneof![3 => selectors, 2 => block().prop_map(|block| json!({"ipBlock": block}))]
}

fn network_policy_port() -> impl Strategy<Value = Value> {
    let protocol = option::of(select(&["TCP", "UDP", "SCTP"][..]));
    let number = (select(&[1u32, 53, 80, 443, 8080][..]), option::of(0..400u32))
        .prop_map(|(port, more)| (Some(json!(port)), more.map(|more| port + more)));
    let to_the_end = select(&[1u32, 80, 443][..]).prop_map(|port| (Some(json!(port)), Some(65_535)));
    let name = select(&["http", "dns", "nobody"][..]).prop_map(|name| (Some(json!(name)), None));
    let port = prop_oneof![4 => number, 1 => to_the_end, 3 => name, 1 => Just((None, None))];
    (protocol, port).prop_map(|(protocol, (port, end_port))| {
        object([("protocol", protocol.map(Value::from)), ("port", port), ("endPort", end_port.map(Value::from))])
    })
}

/// Where a rule has a field of a later version: in itself, in a peer, in a selector or block of it, in a port. The peer may
/// be of a kind that is known elsewhere only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strange {
    Rule,
    BesidePeer,
    InsteadOfPeer,
    Elsewhere,
    WithinPeer,
    Port,
    WithinPort,
}

fn strange() -> impl Strategy<Value = Option<Strange>> {
    let kinds = [
        Strange::Rule,
        Strange::BesidePeer,
        Strange::InsteadOfPeer,
        Strange::Elsewhere,
        Strange::WithinPeer,
        Strange::Port,
        Strange::WithinPort,
    ];
    option::weighted(0.07, select(kinds.to_vec()))
}

/// Puts the field into a rule whose peers and ports are called so.
fn make_strange(rule: &mut Value, strange: Option<Strange>, peers: &str, ports: &str) {
    let of_cluster = ports == "protocols";
    let Some(strange) = strange else { return };
    let first = |list: &str, rule: &Value| rule[list].get(0).is_some().then_some(());
    let put = |value: &mut Value| value["fieldOfALaterVersion"] = json!({"some": ["thing"]});
    match (strange, first(peers, rule), first(ports, rule)) {
        (Strange::BesidePeer, Some(()), _) => put(&mut rule[peers][0]),
        (Strange::InsteadOfPeer, Some(()), _) if of_cluster => {
            rule[peers][0] = json!({});
            put(&mut rule[peers][0]);
        }
        (Strange::Elsewhere, Some(()), _) if of_cluster && peers == "from" => {
            rule[peers][0] = json!({"networks": ["10.0.0.0/8"]});
        }
        (Strange::WithinPeer, Some(()), _) => {
            let part = rule[peers][0].as_object_mut().and_then(|peer| peer.values_mut().find(|part| part.is_object()));
            match part {
                Some(part) => put(part),
                None => put(rule),
            }
        }
        (Strange::Port, _, Some(())) => {
            rule[ports][0] = if of_cluster { json!({"quic": {}}) } else { json!({"port": 80, "alpn": "h3"}) };
        }
        (Strange::WithinPort, _, Some(())) if of_cluster => {
            rule[ports][0] = json!({"tcp": {"destinationPort": {"number": 80}, "sourcePort": {"number": 80}}});
        }
        _ => put(rule),
    }
}

/// spec.ingress or spec.egress of a NetworkPolicy: absent, empty or some, with fields absent or empty.
fn network_policy_rules(peers: &'static str) -> impl Strategy<Value = Option<Value>> {
    let rule = (option::of(vec(network_policy_peer(), 0..4)), option::of(vec(network_policy_port(), 0..3)), strange())
        .prop_map(move |(of_peers, ports, strange)| {
            let mut rule = object([(peers, of_peers.map(Value::from)), ("ports", ports.map(Value::from))]);
            make_strange(&mut rule, strange, peers, "ports");
            rule
        });
    option::of(vec(rule, 0..4).prop_map(Value::from))
}

pub(super) fn network_policy(index: usize) -> impl Strategy<Value = Value> {
    let types = option::of(subsequence(vec!["Ingress", "Egress"], 0..=2));
    let rules = (network_policy_rules("from"), network_policy_rules("to"));
    (select(&NAMESPACES[..]), option::of(selector()), rules, types, annotations()).prop_map(
        move |(namespace, selector, (ingress, egress), types, annotations)| {
            let spec = object([
                ("podSelector", selector),
                ("ingress", ingress),
                ("egress", egress),
                ("policyTypes", types.map(Value::from)),
            ]);
            let metadata = metadata(namespace, NAMES[index], None, Some(annotations));
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
        },
    )
}

/// A choice of pods by namespace, or by namespace and labels.
fn pods() -> impl Strategy<Value = Value> {
    prop_oneof![
        1 => Just(json!({"namespaces": {}})),
        2 => selector().prop_map(|namespaces| json!({"namespaces": namespaces})),
        2 => (selector(), selector())
            .prop_map(|(namespaces, pods)| json!({"pods": {"namespaceSelector": namespaces, "podSelector": pods}})),
    ]
}

fn egress_peer(accepts: bool) -> impl Strategy<Value = Value> {
    let cidrs = vec![
        "0.0.0.0/0",
        "10.0.0.0/8",
        "10.244.1.0/24",
        "172.30.0.11/32",
        "203.0.113.0/24",
        "::/0",
        "fd00:10:244::/48",
    ];
    let networks = subsequence(cidrs, 1..4).prop_map(|cidrs| json!({"networks": cidrs}));
    let nodes = selector().prop_map(|nodes| json!({"nodes": nodes}));
    let patterns =
        vec!["kubernetes.io", "*.kubernetes.io", "WWW.Kubernetes.io.", "blog.kubernetes.io", "wikipedia.org"];
    let names = subsequence(patterns, 1..3).prop_map(|names| json!({"domainNames": names}));
    // Only rules that accept may name names.
    prop_oneof![4 => pods(), 2 => networks, 2 => nodes, u32::from(accepts) * 6 => names]
}

fn protocol(named: bool) -> impl Strategy<Value = Value> {
    let number = select(&[1u16, 53, 80, 443, 8080, 65_535][..]).prop_map(|number| json!({"number": number}));
    let range = (select(&[1u16, 80, 443][..]), select(&[81u16, 8080, 65_535][..]))
        .prop_filter("a range has a length", |(start, end)| start < end)
        .prop_map(|(start, end)| json!({"range": {"start": start, "end": end}}));
    let port = prop_oneof![number, range];
    let of = (select(&["tcp", "udp", "sctp"][..]), port)
        .prop_map(|(protocol, port)| json!({protocol: {"destinationPort": port}}));
    let name = select(&["http", "dns", "nobody"][..]).prop_map(|name| json!({"destinationNamedPort": name}));
    prop_oneof![3 => of, u32::from(named) * 2 => name]
}

fn cluster_rules(peers: &'static str) -> impl Strategy<Value = Option<Value>> {
    let rule = select(&["Accept", "Deny", "Pass"][..]).prop_flat_map(move |action| {
        let peer = match peers {
            "from" => pods().boxed(),
            _ => egress_peer(action == "Accept").boxed(),
        };
        (Just(action), vec(peer, 1..4), option::of(Just(format!("{action} some"))), strange()).prop_flat_map(
            move |(action, of_peers, name, strange)| {
                // Networks, nodes and names have no named ports (the rule of the CRD says so).
                let named = of_peers.iter().all(|peer| peer.get("namespaces").is_some() || peer.get("pods").is_some());
                option::of(vec(protocol(named), 1..3)).prop_map(move |protocols| {
                    let mut rule = object([
                        ("name", name.clone().map(Value::from)),
                        ("action", Some(action.into())),
                        (peers, Some(of_peers.clone().into())),
                        ("protocols", protocols.map(Value::from)),
                    ]);
                    make_strange(&mut rule, strange, peers, "protocols");
                    rule
                })
            },
        )
    });
    option::weighted(0.8, vec(rule, 0..4).prop_map(Value::from))
}

pub(super) fn cluster_network_policy(index: usize) -> impl Strategy<Value = Value> {
    let tier = select(&["Admin", "Baseline"][..]);
    // Few, so that several policies have the same one.
    let priority = select(&[0u16, 5, 5, 1_000][..]);
    (tier, priority, pods(), cluster_rules("from"), cluster_rules("to"), annotations()).prop_map(
        move |(tier, priority, subject, ingress, egress, annotations)| {
            let spec = object([
                ("tier", Some(tier.into())),
                ("priority", Some(priority.into())),
                ("subject", Some(subject)),
                ("ingress", ingress),
                ("egress", egress),
            ]);
            json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
                "metadata": metadata("", NAMES[index], None, Some(annotations)), "spec": spec,
            })
        },
    )
}
