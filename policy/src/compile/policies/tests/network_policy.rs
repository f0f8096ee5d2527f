//! Sentences of the NetworkPolicy reference that `compile/tests.rs` does not have: unions, types, ports, blocks.

use super::*;
use crate::compile::tests::pod;

/// Whether each of `peers` reaches TCP 80 of pod a under a policy with this spec.
fn reach<'a>(more: &str, spec: &str, peers: &[&'a str]) -> Vec<&'a str> {
    let tables = tables(&(abc() + more + &policy("p", spec)));
    peers.iter().copied().filter(|peer| tcp(&tables, ToPod, "a", peer, 80)).collect()
}

#[test]
fn n01_policies_add_up_and_the_first_in_name_order_is_named() {
    let one = policy("one", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}");
    let two = policy("two", "{podSelector: {}, ingress: [{}]}");
    for yaml in [one.clone() + &two, two + &one] {
        let tables = tables(&(abc() + &yaml));
        assert_eq!(b_to_a(&tables, 80), "allow default/one[0]");
        assert_eq!(b_to_a(&tables, 81), "allow default/two[0]");
    }
}

#[test]
fn n01_a_policy_is_for_the_pods_of_its_own_namespace() {
    let tables = tables(&(abc() + &policy("other/p", "{podSelector: {}}")));
    assert!(tcp(&tables, ToPod, "a", B, 80));
    assert!(!tcp(&tables, ToPod, "other/c", B, 80));
}

#[test]
fn n02_an_operator_asks_what_its_name_says_of_a_key_that_is_absent() {
    let from = |expression: &str| {
        let spec = format!(
            "{{podSelector: {{}}, ingress: [{{from: [{{podSelector: {{matchExpressions: [{expression}]}}}}]}}]}}"
        );
        reach(&pod("plain", "", "node2", &["10.244.2.9"]), &spec, &[B, "10.244.2.9"])
    };
    assert_eq!(from("{key: app, operator: In, values: [b, z]}"), [B]);
    assert_eq!(from("{key: app, operator: NotIn, values: [z]}"), [B, "10.244.2.9"]);
    assert_eq!(from("{key: app, operator: NotIn, values: [b]}"), ["10.244.2.9"]);
    assert_eq!(from("{key: app, operator: Exists}"), [B]);
    assert_eq!(from("{key: app, operator: DoesNotExist}"), ["10.244.2.9"]);
    assert_eq!(
        from("{key: app, operator: Exists}, {key: app, operator: NotIn, values: [b]}"),
        [""; 0],
        "all must hold"
    );
}

#[test]
fn n03_rules_of_a_direction_that_is_no_policy_type_count_for_nothing() {
    let spec =
        "{podSelector: {}, policyTypes: [Egress], ingress: [{ports: [{port: 81}]}], egress: [{ports: [{port: 81}]}]}";
    let tables = tables(&(abc() + &policy("p", spec)));
    assert!(tcp(&tables, ToPod, "a", B, 80), "ingress is not isolated");
    assert!(!tcp(&tables, FromPod, "a", B, 80));
    let a = tables.find_pod("default", "a").expect("a");
    assert_eq!((tables.isolating(ToPod, a).len(), tables.isolating(FromPod, a).len()), (0, 1));
}

#[test]
fn n03_an_empty_list_of_egress_rules_is_none_unless_the_type_is_given() {
    let open = tables(&(abc() + &policy("p", "{podSelector: {}, egress: []}")));
    assert!(tcp(&open, FromPod, "a", B, 80));
    let closed = tables(&(abc() + &policy("p", "{podSelector: {}, policyTypes: [Ingress, Egress], egress: []}")));
    assert!(!tcp(&closed, FromPod, "a", B, 80));
}

#[test]
fn n04_an_exception_takes_away_from_its_own_block_only() {
    let outside = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.3.0"];
    let block = |cidr: &str, except: &str| format!("{{ipBlock: {{cidr: {cidr}, except: [{except}]}}}}");
    let spec = |from: &str| format!("{{podSelector: {{}}, ingress: [{{from: [{from}]}}]}}");
    let one = block("192.0.2.0/24", "192.0.2.1/32, 192.0.2.2/32");
    assert_eq!(reach("", &spec(&one), &outside), ["192.0.2.3"]);
    let two = format!("{one}, {}", block("192.0.2.1/32", ""));
    assert_eq!(reach("", &spec(&two), &outside), ["192.0.2.1", "192.0.2.3"]);
    let all = block("192.0.2.0/24", "192.0.2.0/25, 192.0.2.128/25");
    assert_eq!(reach("", &spec(&all), &outside), [""; 0]);
}

#[test]
fn n04_a_block_of_ipv6_is_judged_like_one_of_ipv4() {
    let spec =
        "{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: '2001:db8::/32', except: ['2001:db8:1::/48']}}]}]}";
    let peers = ["2001:db8::1", "2001:db8:1::1", "2001:db9::1", "fd00:10:244:2::2", "192.0.2.1"];
    assert_eq!(reach("", spec, &peers), ["2001:db8::1"]);
}

#[test]
fn n05_a_name_is_of_one_protocol_and_may_be_several_numbers() {
    let ports = "{name: dns, containerPort: 53, protocol: UDP}, {name: web, containerPort: 1}";
    let server = pod("d", "app: d", "node2", &["10.244.2.4"]).replace("{name: http, containerPort: 8080}", ports).replace(
        "containers: [",
        "initContainers: [{name: s, image: x, restartPolicy: Always, ports: [{name: side, containerPort: 9}]}, \
         {name: i, image: x, ports: [{name: once, containerPort: 10}]}], containers: [{name: e, image: x, ports: [{name: web, containerPort: 2}]}, ",
    );
    let spec =
        "{podSelector: {}, ingress: [{ports: [{port: dns, protocol: UDP}, {port: web}, {port: side}, {port: once}]}]}";
    let tables = tables(&(abc() + &server + &policy("p", spec)));
    let d = tables.find_pod("default", "d").expect("d");
    let open = |protocol, port| check(&tables, ToPod, d, B, (protocol, port)).allowed;
    assert!(open(Protocol::UDP, 53) && !open(Protocol::TCP, 53));
    assert!(open(Protocol::TCP, 1) && open(Protocol::TCP, 2), "two containers use the name");
    assert!(open(Protocol::TCP, 9), "a sidecar listens as long as the pod lives");
    assert!(!open(Protocol::TCP, 10), "an init container has ended");
}

#[test]
fn n06_ranges_may_overlap_and_the_first_rule_that_matches_is_named() {
    let rules = "{ports: [{port: 100, endPort: 200}]}, {ports: [{port: 1, endPort: 65535}, {port: 150}]}";
    let tables = tables(&(abc() + &policy("p", &format!("{{podSelector: {{}}, ingress: [{rules}]}}"))));
    for (port, rule) in [(1, 1), (99, 1), (100, 0), (150, 0), (200, 0), (201, 1), (65535, 1)] {
        assert_eq!(b_to_a(&tables, port), format!("allow default/p[{rule}]"), "port {port}");
    }
}

#[test]
fn n19_a_rule_without_ports_lets_icmp_in_and_one_with_ports_does_not() {
    let icmp = |rule: &str| {
        let tables = tables(&(abc() + &policy("p", &format!("{{podSelector: {{}}, ingress: [{rule}]}}"))));
        let a = tables.find_pod("default", "a").expect("a");
        [B, C].map(|peer| check(&tables, ToPod, a, peer, (Protocol::ICMP, 0)).allowed)
    };
    assert_eq!(icmp("{}"), [true, true]);
    assert_eq!(icmp("{from: [{podSelector: {}}]}"), [true, false]);
    assert_eq!(icmp("{ports: [{port: 1, endPort: 65535}]}"), [false, false]);
    assert_eq!(icmp("{ports: []}"), [true, true]);
}

#[test]
fn n11_a_pod_of_the_host_network_names_no_ports_for_others() {
    let host = pod("h", "app: h", "node2", &["172.30.0.12"]).replace("nodeName:", "hostNetwork: true, nodeName:");
    let named = tables(&(abc() + &host + &policy("p", "{podSelector: {}, egress: [{ports: [{port: http}]}]}")));
    assert!(tcp(&named, FromPod, "a", B, 8080) && !tcp(&named, FromPod, "a", "172.30.0.12", 8080));
    let number = tables(&(abc() + &host + &policy("p", "{podSelector: {}, egress: [{ports: [{port: 8080}]}]}")));
    assert!(tcp(&number, FromPod, "a", "172.30.0.12", 8080));
}
