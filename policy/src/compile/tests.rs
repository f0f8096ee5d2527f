use super::compile;
use crate::cluster::Cluster;
use crate::objects::parse;
use crate::tables::{Direction, Tables, VerdictReason};
use std::net::IpAddr;
use wire::Protocol;

/// Two nodes with an address and a CIDR of each family.
const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: node1}
spec: {podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}, {type: InternalIP, address: 'fd00:172:30::11'}]}
---
apiVersion: v1
kind: Node
metadata: {name: node2}
spec: {podCIDRs: [10.244.2.0/24, 'fd00:10:244:2::/64']}
status: {addresses: [{type: InternalIP, address: 172.30.0.12}, {type: InternalIP, address: 'fd00:172:30::12'}]}
---
";

/// Compiles manifests that must be in order.
fn tables(yaml: &str) -> Tables {
    let parsed = parse("test.yaml", &format!("{NODES}{yaml}"));
    assert_eq!(parsed.problems, []);
    let (cluster, problems) = Cluster::from_objects(parsed.objects);
    assert_eq!(problems, []);
    let (tables, problems) = compile(&cluster, 1);
    assert_eq!(problems, []);
    tables
}

/// A pod with labels written as flow YAML (`app: web`), on `node`.
fn pod(name: &str, labels: &str, node: &str, addresses: &[&str]) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let ips: Vec<String> = addresses.iter().map(|ip| format!("{{ip: '{ip}'}}")).collect();
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}
spec: {{nodeName: {node}, containers: [{{name: c, image: x, ports: [{{name: http, containerPort: 8080}}]}}]}}
status: {{podIPs: [{}]}}
---
",
        ips.join(", ")
    )
}

/// Whether the tables allow TCP to `port`.
fn tcp(tables: &Tables, direction: Direction, subject: &str, peer: &str, port: u16) -> bool {
    let (namespace, name) = subject.split_once('/').unwrap_or(("default", subject));
    let subject = tables.find_pod(namespace, name).expect("the subject is a pod");
    tables.check(direction, subject, peer.parse().expect("an address"), Protocol::TCP, port).allowed
}

fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

use Direction::{FromPod, ToPod};

fn abc() -> String {
    pod("a", "app: a", "node1", &["10.244.1.2", "fd00:10:244:1::2"])
        + &pod("b", "app: b", "node2", &["10.244.2.2", "fd00:10:244:2::2"])
        + &pod("other/c", "app: c", "node2", &["10.244.2.3", "fd00:10:244:2::3"])
        + "{apiVersion: v1, kind: Namespace, metadata: {name: other, labels: {team: red}}}\n---\n"
}

#[test]
fn n01_without_a_policy_everything_is_allowed() {
    let tables = tables(&abc());
    let a = tables.find_pod("default", "a").expect("a");
    let verdict = tables.check(ToPod, a, addr("192.0.2.1"), Protocol::UDP, 53);
    assert_eq!((verdict.allowed, verdict.reason), (true, VerdictReason::NotIsolated));
}

#[test]
fn n01_a_selected_pod_gets_only_the_union_of_its_policies() {
    let policies = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: one}
spec: {podSelector: {matchLabels: {app: a}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: two}
spec: {podSelector: {}, ingress: [{ports: [{port: 80}]}]}
";
    let tables = tables(&(abc() + policies));
    assert!(tcp(&tables, ToPod, "a", "10.244.2.2", 1234));
    assert!(tcp(&tables, ToPod, "a", "fd00:10:244:2::2", 1234));
    assert!(tcp(&tables, ToPod, "a", "10.244.2.3", 80));
    assert!(!tcp(&tables, ToPod, "a", "10.244.2.3", 81));
    assert!(tcp(&tables, FromPod, "a", "10.244.2.3", 81));
    let a = tables.find_pod("default", "a").expect("a");
    let names: Vec<_> = tables.isolating(ToPod, a).iter().map(|p| &*tables.policies[p.0 as usize].name).collect();
    assert_eq!(names, ["one", "two"]);
}
