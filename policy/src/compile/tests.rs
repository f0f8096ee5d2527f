use super::compile;
use crate::cluster::Cluster;
use crate::objects::parse;
use crate::tables::{Direction, PodIndex, Question, Tables, Verdict, VerdictReason};
use std::net::IpAddr;
use wire::Protocol;

/// Two nodes with an address and a CIDR of each family.
pub(in crate::compile) const NODES: &str = "
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
pub(in crate::compile) fn tables(yaml: &str) -> Tables {
    let parsed = parse("test.yaml", &format!("{NODES}{yaml}"));
    assert_eq!(parsed.problems, []);
    let (cluster, problems) = Cluster::from_objects(parsed.objects);
    assert_eq!(problems, []);
    let (tables, problems) = compile(&cluster, 1);
    assert_eq!(problems, []);
    tables
}

/// A pod with labels written as flow YAML (`app: web`), on `node`.
pub(in crate::compile) fn pod(name: &str, labels: &str, node: &str, addresses: &[&str]) -> String {
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
pub(in crate::compile) fn tcp(tables: &Tables, direction: Direction, subject: &str, peer: &str, port: u16) -> bool {
    let (namespace, name) = subject.split_once('/').unwrap_or(("default", subject));
    let subject = tables.find_pod(namespace, name).expect("the subject is a pod");
    check(tables, direction, subject, peer, (Protocol::TCP, port)).allowed
}

pub(in crate::compile) fn check(
    tables: &Tables,
    direction: Direction,
    subject: PodIndex,
    peer: &str,
    (protocol, port): (Protocol, u16),
) -> Verdict {
    tables.check(&Question { direction, subject, peer: addr(peer), protocol, port, names: &[] })
}

pub(in crate::compile) fn addr(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

use Direction::{FromPod, ToPod};

pub(in crate::compile) fn abc() -> String {
    pod("a", "app: a", "node1", &["10.244.1.2", "fd00:10:244:1::2"])
        + &pod("b", "app: b", "node2", &["10.244.2.2", "fd00:10:244:2::2"])
        + &pod("other/c", "app: c", "node2", &["10.244.2.3", "fd00:10:244:2::3"])
        + "{apiVersion: v1, kind: Namespace, metadata: {name: other, labels: {team: red}}}\n---\n"
}

#[test]
fn n01_without_a_policy_everything_is_allowed() {
    let tables = tables(&abc());
    let a = tables.find_pod("default", "a").expect("a");
    let verdict = check(&tables, ToPod, a, "192.0.2.1", (Protocol::UDP, 53));
    assert_eq!((verdict.allowed, verdict.reason), (true, VerdictReason::NotIsolated));
}

#[test]
fn pods_are_alike_where_no_policy_tells_them_apart() {
    let pods = abc() + &pod("d", "app: d", "node1", &["10.244.1.4"]) + &pod("e", "app: e", "node1", &["10.244.1.5"]);
    let spec = "{podSelector: {matchLabels: {app: d}}, ingress: [{from: [{podSelector: {matchLabels: {app: b}}}]}]}";
    let tables = tables(&(pods + &policy("p", spec)));
    let alike = |name: &str| tables.alike(tables.find_pod("default", name).expect("a pod"));
    assert_eq!(alike("a"), alike("e"));
    assert!(alike("a") != alike("b") && alike("a") != alike("d") && alike("b") != alike("d"));
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

pub(in crate::compile) fn policy(name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

pub(in crate::compile) const A: &str = "10.244.1.2";
pub(in crate::compile) const B: &str = "10.244.2.2";
pub(in crate::compile) const C: &str = "10.244.2.3";

#[test]
fn n02_two_selectors_in_one_peer_are_both_required() {
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: b}}}]}]}";
    let tables = tables(&(abc() + &policy("p", spec)));
    assert!(!tcp(&tables, ToPod, "a", B, 80), "b is in another namespace");
    assert!(!tcp(&tables, ToPod, "a", C, 80), "c has another label");
}

#[test]
fn n02_two_peers_are_alternatives() {
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: red}}}, {podSelector: {matchLabels: {app: b}}}]}]}";
    let tables = tables(&(abc() + &policy("p", spec)));
    assert!(tcp(&tables, ToPod, "a", B, 80));
    assert!(tcp(&tables, ToPod, "a", C, 80));
}

#[test]
fn n02_an_empty_selector_is_everything_and_an_absent_namespace_selector_is_the_own_namespace() {
    let own = tables(&(abc() + &policy("p", "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}")));
    assert!(tcp(&own, ToPod, "a", B, 80));
    assert!(!tcp(&own, ToPod, "a", C, 80));
    let all = tables(&(abc() + &policy("p", "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}}]}]}")));
    assert!(tcp(&all, ToPod, "a", B, 80));
    assert!(tcp(&all, ToPod, "a", C, 80));
    assert!(!tcp(&all, ToPod, "a", "192.0.2.1", 80), "the outside is in no namespace");
}

#[test]
fn n02_no_rules_forbid_and_an_empty_rule_allows() {
    let none = tables(&(abc() + &policy("p", "{podSelector: {}, ingress: []}")));
    assert!(!tcp(&none, ToPod, "a", B, 80));
    let everyone = tables(&(abc() + &policy("p", "{podSelector: {}, ingress: [{}]}")));
    assert!(tcp(&everyone, ToPod, "a", B, 80));
    assert!(tcp(&everyone, ToPod, "a", "192.0.2.1", 80));
    let empty_from = tables(&(abc() + &policy("p", "{podSelector: {}, ingress: [{from: []}]}")));
    assert!(tcp(&empty_from, ToPod, "a", "192.0.2.1", 80));
}

#[test]
fn n02_match_expressions_select_pods() {
    let spec = "{podSelector: {matchExpressions: [{key: app, operator: In, values: [a, z]}]}, ingress: [{from: [{podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [b]}, {key: gone, operator: DoesNotExist}]}, namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}}]}]}";
    let tables = tables(&(abc() + &policy("p", spec)));
    assert!(tcp(&tables, ToPod, "a", C, 80));
    assert!(!tcp(&tables, ToPod, "a", B, 80));
    assert!(tcp(&tables, ToPod, "b", C, 80), "b is not selected");
}

#[test]
fn n02_a_namespace_is_found_by_its_name_even_without_an_object() {
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: lost}}}]}]}";
    let lost = pod("lost/d", "", "node2", &["10.244.2.4"]);
    let tables = tables(&(abc() + &lost + &policy("p", spec)));
    assert!(tcp(&tables, ToPod, "a", "10.244.2.4", 80));
    assert!(!tcp(&tables, ToPod, "a", C, 80));
}

#[test]
fn n03_egress_is_affected_only_by_egress_rules_or_a_policy_type() {
    let ingress_only = tables(&(abc() + &policy("p", "{podSelector: {}}")));
    assert!(!tcp(&ingress_only, ToPod, "a", B, 80));
    assert!(tcp(&ingress_only, FromPod, "a", B, 80));
    let both = tables(&(abc() + &policy("p", "{podSelector: {}, egress: [{ports: [{port: 443}]}]}")));
    assert!(!tcp(&both, ToPod, "a", B, 80));
    assert!(!tcp(&both, FromPod, "a", B, 80));
    assert!(tcp(&both, FromPod, "a", B, 443));
    let egress_only = tables(&(abc() + &policy("p", "{podSelector: {}, policyTypes: [Egress]}")));
    assert!(tcp(&egress_only, ToPod, "a", B, 80));
    assert!(!tcp(&egress_only, FromPod, "a", B, 80));
}

#[test]
fn n04_an_ip_block_matches_pods_nodes_and_the_outside_except_its_exceptions() {
    let spec =
        "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [10.244.2.2/32, 172.30.0.11/32]}}]}]}";
    let tables = tables(&(abc() + &policy("p", spec)));
    assert!(!tcp(&tables, FromPod, "a", B, 80));
    assert!(tcp(&tables, FromPod, "a", C, 80));
    assert!(!tcp(&tables, FromPod, "a", "172.30.0.11", 80));
    assert!(tcp(&tables, FromPod, "a", "172.30.0.12", 80));
    assert!(tcp(&tables, FromPod, "a", "255.255.255.255", 80));
    assert!(!tcp(&tables, FromPod, "a", "2001:db8::1", 80), "another family");
}

#[test]
fn n05_a_named_port_is_resolved_by_each_destination_pod() {
    let renamed = pod("d", "app: d", "node2", &["10.244.2.4"]).replace("containerPort: 8080", "containerPort: 9090");
    let spec = "{podSelector: {}, ingress: [{ports: [{port: http}]}], egress: [{ports: [{port: http}]}]}";
    let tables = tables(&(abc() + &renamed + &policy("p", spec)));
    assert!(tcp(&tables, FromPod, "a", B, 8080));
    assert!(!tcp(&tables, FromPod, "a", B, 9090));
    assert!(tcp(&tables, FromPod, "a", "10.244.2.4", 9090));
    assert!(!tcp(&tables, FromPod, "a", "10.244.2.4", 8080));
    assert!(tcp(&tables, ToPod, "d", A, 9090));
    assert!(!tcp(&tables, ToPod, "d", A, 8080));
    assert!(!tcp(&tables, FromPod, "a", "192.0.2.1", 8080), "the outside names no ports");
}

#[test]
fn n06_an_end_port_opens_a_range_with_both_ends() {
    let spec = "{podSelector: {}, ingress: [{ports: [{port: 100, endPort: 200}, {port: 65535}]}]}";
    let tables = tables(&(abc() + &policy("p", spec)));
    for (port, allowed) in [(99, false), (100, true), (150, true), (200, true), (201, false), (65535, true)] {
        assert_eq!(tcp(&tables, ToPod, "a", B, port), allowed, "port {port}");
    }
}

#[test]
fn n07_sctp_and_udp_are_protocols_of_their_own_and_tcp_is_the_default() {
    let spec = "{podSelector: {}, ingress: [{ports: [{port: 80}, {port: 81, protocol: SCTP}, {protocol: UDP}]}]}";
    let tables = tables(&(abc() + &policy("p", spec)));
    let a = tables.find_pod("default", "a").expect("a");
    let check = |protocol, port| check(&tables, ToPod, a, B, (protocol, port)).allowed;
    assert!(check(Protocol::TCP, 80) && !check(Protocol::SCTP, 80));
    assert!(check(Protocol::SCTP, 81) && !check(Protocol::TCP, 81));
    assert!(check(Protocol::UDP, 80) && check(Protocol::UDP, 1));
    assert!(!check(Protocol::ICMP, 0), "rules with ports speak of TCP, UDP and SCTP");
}

#[test]
fn n09_each_end_of_a_connection_is_judged_for_itself() {
    let policies = policy("out", "{podSelector: {matchLabels: {app: a}}, policyTypes: [Egress]}")
        + &policy(
            "in",
            "{podSelector: {matchLabels: {app: b}}, ingress: [{from: [{podSelector: {matchLabels: {app: a}}}]}]}",
        );
    let tables = tables(&(abc() + &policies));
    assert!(!tcp(&tables, FromPod, "a", B, 80));
    assert!(tcp(&tables, ToPod, "b", A, 80));
}

#[test]
fn n10_a_node_reaches_its_own_pods_from_its_address_and_from_the_gateway() {
    let tables = tables(&(abc() + &policy("p", "{podSelector: {}, policyTypes: [Ingress, Egress]}")));
    for own in ["172.30.0.11", "fd00:172:30::11", "10.244.1.1", "fd00:10:244:1::1"] {
        assert!(tcp(&tables, ToPod, "a", own, 80), "{own}");
        assert!(!tcp(&tables, FromPod, "a", own, 80), "the other direction is not exempt: {own}");
    }
    assert!(!tcp(&tables, ToPod, "a", "172.30.0.12", 80), "another node");
    assert!(!tcp(&tables, ToPod, "a", "10.244.2.1", 80), "another node's gateway");
}

#[test]
fn n11_a_pod_of_the_host_network_is_its_node() {
    let host = pod("h", "app: h", "node2", &["172.30.0.12"]).replace("nodeName:", "hostNetwork: true, nodeName:");
    let spec = "{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}";
    let by_label = tables(&(abc() + &host + &policy("p", spec)));
    assert!(!tcp(&by_label, ToPod, "a", "172.30.0.12", 80), "selectors do not find it");
    assert!(tcp(&by_label, ToPod, "b", "172.30.0.12", 80), "b runs on that node");
    assert!(tcp(&by_label, ToPod, "h", "192.0.2.1", 80), "it is not isolated");
    let spec = "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 172.30.0.12/32}}]}]}";
    let by_block = tables(&(abc() + &host + &policy("p", spec)));
    assert!(tcp(&by_block, ToPod, "a", "172.30.0.12", 80));
}

#[test]
fn n12_a_pod_reaches_itself() {
    let tables = tables(&(abc() + &policy("p", "{podSelector: {}, policyTypes: [Ingress, Egress]}")));
    assert!(tcp(&tables, ToPod, "a", A, 80));
    assert!(tcp(&tables, FromPod, "a", "fd00:10:244:1::2", 80));
}

#[test]
fn n16_a_rule_with_an_unknown_field_matches_nothing_and_the_others_stand() {
    let spec = "{podSelector: {}, ingress: [{ports: [{port: 80}], fromDomains: [x]}, {ports: [{port: 81}]}]}";
    let parsed = parse("test.yaml", &(NODES.to_owned() + &abc() + &policy("p", spec)));
    let problems: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "test.yaml: NetworkPolicy default/p: spec.ingress[0].fromDomains: unknown field: spec.ingress[0] matches nothing"
        ]
    );
    let (tables, problems) = compile(&Cluster::from_objects(parsed.objects).0, 1);
    assert_eq!(problems, []);
    assert!(!tcp(&tables, ToPod, "a", B, 80));
    assert!(tcp(&tables, ToPod, "a", B, 81));
}

#[test]
fn n16_an_unknown_field_outside_the_rules_closes_the_whole_policy() {
    let spec = "{podSelector: {}, tier: admin, ingress: [{}]}";
    let parsed = parse("test.yaml", &(NODES.to_owned() + &abc() + &policy("p", spec)));
    assert_eq!(parsed.problems.len(), 1);
    let (tables, _) = compile(&Cluster::from_objects(parsed.objects).0, 1);
    assert!(!tcp(&tables, ToPod, "a", B, 80));
}

#[test]
fn a_policy_that_cannot_be_read_closes_the_rule_when_it_comes_without_validation() {
    let parsed = parse("test.yaml", &(NODES.to_owned() + &abc() + &policy("p", "{podSelector: {}, ingress: [{}]}")));
    let mut objects = parsed.objects;
    let Some(crate::objects::Object::NetworkPolicy(policy)) = objects.last_mut().map(|last| &mut last.object) else {
        panic!("the policy is the last object");
    };
    let spec = std::sync::Arc::make_mut(policy).spec.as_mut().expect("a spec");
    let block = k8s_openapi::api::networking::v1::IPBlock { cidr: "10.0.0.0/99".into(), except: None };
    spec.ingress.as_mut().expect("rules")[0].from =
        Some(vec![k8s_openapi::api::networking::v1::NetworkPolicyPeer { ip_block: Some(block), ..Default::default() }]);
    let (tables, problems) = compile(&Cluster::from_objects(objects).0, 1);
    assert!(problems[0].to_string().contains("spec.ingress[0].from[0].ipBlock.cidr"), "{}", problems[0]);
    assert!(!tcp(&tables, ToPod, "a", B, 80));
}

#[test]
fn two_pods_with_one_address_leave_the_first_one_alone_and_name_both() {
    let yaml = pod("first", "", "node1", &["10.244.1.9"]) + &pod("later", "", "node1", &["10.244.1.9"]);
    let (cluster, problems) = Cluster::from_objects(parse("test.yaml", &yaml).objects);
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "test.yaml: Pod default/later: status.podIPs: 10.244.1.9 is already used by Pod default/first in test.yaml (document 1)"
        ]
    );
    assert_eq!(cluster.pods.len(), 1);
}

#[test]
fn an_object_defined_twice_stays_as_first_defined() {
    let yaml =
        pod("first", "app: first", "node1", &["10.244.1.9"]) + &pod("first", "app: second", "node1", &["10.244.1.10"]);
    let (cluster, problems) = Cluster::from_objects(parse("test.yaml", &yaml).objects);
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].document, 2);
    let (tables, _) = compile(&cluster, 1);
    assert!(tables.owner(addr("10.244.1.9")).is_some() && tables.owner(addr("10.244.1.10")).is_none());
}

#[test]
fn an_ended_pod_owns_nothing_and_its_address_may_be_used_again() {
    let ended = pod("first", "", "node1", &["10.244.1.9"]).replace("status: {", "status: {phase: Succeeded, ");
    let tables = tables(&(ended + &pod("later", "", "node1", &["10.244.1.9"])));
    assert_eq!(tables.pod_count(), 1);
    assert_eq!(tables.owner(addr("10.244.1.9")), tables.find_pod("default", "later").map(crate::tables::Owner::Pod));
}

#[test]
fn nodes_with_overlapping_pod_cidrs_are_told_apart_by_refusing_the_later_one() {
    let yaml = NODES.replace("10.244.2.0/24", "10.244.1.128/25");
    let (cluster, problems) = Cluster::from_objects(parse("test.yaml", &yaml).objects);
    assert_eq!(cluster.nodes.len(), 1);
    assert!(
        problems[0].to_string().contains("10.244.1.128/25 overlaps 10.244.1.0/24 of Node node1"),
        "{}",
        problems[0]
    );
}
