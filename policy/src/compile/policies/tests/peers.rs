//! Who a rule is about.

use super::*;
use std::sync::Arc;

/// The peers of A, of those given, that an egress rule with this `to` denies.
fn denied<'a>(more: &str, to: &str, peers: &[&'a str]) -> Vec<&'a str> {
    let tables = tables(&(abc() + more + &egress("cnp", 0, &format!("{{action: Deny, to: [{to}]}}"))));
    peers.iter().copied().filter(|peer| !tcp(&tables, FromPod, "a", peer, 80)).collect()
}

#[test]
fn n17_namespaces_and_pods_are_found_by_their_labels() {
    let all = [B, C, "172.30.0.12", "192.0.2.1"];
    assert_eq!(denied("", "{namespaces: {}}", &all), [B, C]);
    assert_eq!(denied("", "{namespaces: {matchLabels: {team: red}}}", &all), [C]);
    assert_eq!(denied("", "{namespaces: {matchExpressions: [{key: team, operator: DoesNotExist}]}}", &all), [B]);
    assert_eq!(denied("", "{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}}", &all), [B]);
    assert_eq!(denied("", "{pods: {namespaceSelector: {matchLabels: {team: red}}, podSelector: {}}}", &all), [C]);
    assert_eq!(
        denied(
            "",
            "{pods: {namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: b}}}}",
            &all
        ),
        [""; 0]
    );
    assert_eq!(
        denied(
            "",
            "{namespaces: {matchLabels: {team: red}}}, {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}}",
            &all
        ),
        [B, C],
        "either peer"
    );
}

#[test]
fn n17_the_same_peers_are_found_for_what_comes_in() {
    let rules = "{action: Deny, from: [{namespaces: {matchLabels: {team: red}}}, {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}}]}";
    let tables = tables(
        &(abc() + &crate::compile::tests::pod("d", "app: d", "node2", &["10.244.2.4"]) + &ingress("cnp", 0, rules)),
    );
    for (peer, allowed) in [(B, false), (C, false), ("10.244.2.4", true), ("192.0.2.1", true)] {
        assert_eq!(tcp(&tables, ToPod, "a", peer, 80), allowed, "{peer}");
    }
}

#[test]
fn n17_pods_of_the_host_network_are_not_found_by_namespaces_or_pods() {
    let host = crate::compile::tests::pod("h", "app: h", "node2", &["172.30.0.12"]);
    let host = host.replace("nodeName:", "hostNetwork: true, nodeName:");
    let all = [B, C, "172.30.0.12"];
    assert_eq!(denied(&host, "{namespaces: {}}", &all), [B, C]);
    assert_eq!(denied(&host, "{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: h}}}}", &all), [""; 0]);
}

#[test]
fn n17_nodes_are_all_their_addresses_and_what_pods_see_of_their_processes() {
    let labelled = "
apiVersion: v1
kind: Node
metadata: {name: node3, labels: {role: edge}}
spec: {podCIDRs: [10.244.3.0/24, 'fd00:10:244:3::/64']}
status: {addresses: [{type: InternalIP, address: 172.30.0.13}, {type: ExternalIP, address: 'fd00:172:30::13'}]}
---
";
    let third = ["172.30.0.13", "fd00:172:30::13", "10.244.3.1", "fd00:10:244:3::1"];
    let all = [
        "172.30.0.13",
        "fd00:172:30::13",
        "10.244.3.1",
        "fd00:10:244:3::1",
        "10.244.3.2",
        "172.30.0.12",
        B,
        "192.0.2.1",
    ];
    assert_eq!(denied(labelled, "{nodes: {matchLabels: {role: edge}}}", &all), third);
    assert_eq!(denied(labelled, "{nodes: {matchExpressions: [{key: role, operator: Exists}]}}", &all), third);
    assert_eq!(denied(labelled, "{nodes: {matchLabels: {role: core}}}", &all), [""; 0]);
    let every = denied(labelled, "{nodes: {}}", &all);
    assert_eq!(
        every,
        ["172.30.0.13", "fd00:172:30::13", "10.244.3.1", "fd00:10:244:3::1", "172.30.0.12"],
        "empty selects all"
    );
}

#[test]
fn n04_networks_match_an_address_whatever_it_is() {
    let all = [B, C, "172.30.0.12", "192.0.2.1", "fd00:10:244:2::2", "2001:db8::1"];
    assert_eq!(denied("", "{networks: [0.0.0.0/0]}", &all), [B, C, "172.30.0.12", "192.0.2.1"]);
    assert_eq!(denied("", "{networks: ['::/0']}", &all), ["fd00:10:244:2::2", "2001:db8::1"]);
    assert_eq!(denied("", "{networks: [10.244.2.2/32, 192.0.2.0/24]}", &all), [B, "192.0.2.1"]);
    assert_eq!(denied("", "{networks: [10.244.2.0/24]}, {networks: ['2001:db8::/32']}", &all), [B, C, "2001:db8::1"]);
}

#[test]
fn n19_networks_match_icmp_too() {
    let tables = tables(&(abc() + &egress("cnp", 0, "{action: Deny, to: [{networks: [0.0.0.0/0]}]}")));
    let a = tables.find_pod("default", "a").expect("a");
    assert!(!check(&tables, FromPod, a, "192.0.2.1", (Protocol::ICMP, 0)).allowed);
    assert!(check(&tables, FromPod, a, "2001:db8::1", (Protocol::ICMPV6, 0)).allowed);
}

#[test]
fn n17_pods_may_be_passed_before_a_network_is_denied() {
    let rules = "{action: Pass, to: [{namespaces: {}}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}";
    let tables = tables(&(abc() + &egress("cnp", 0, rules)));
    assert!(tcp(&tables, FromPod, "a", B, 80));
    assert!(!tcp(&tables, FromPod, "a", "192.0.2.1", 80));
    assert!(!tcp(&tables, FromPod, "a", "172.30.0.12", 80));
}

#[test]
fn n18_domain_names_match_what_the_subject_knows_an_address_by() {
    let rules = "{action: Accept, to: [{domainNames: [Kubernetes.io, '*.example.org.']}], protocols: [{tcp: {destinationPort: {number: 443}}}]}, \
                 {action: Deny, to: [{networks: [0.0.0.0/0]}]}";
    let only_b = "subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: b}}}}";
    let names_for_b =
        cnp("b", "Baseline", 0, &format!("{only_b}, egress: [{{action: Accept, to: [{{domainNames: [a.b]}}]}}]"));
    let only_a = "subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}}";
    let tables = tables(&(abc() + &cnp("a", "Admin", 0, &format!("{only_a}, egress: [{rules}]")) + &names_for_b));
    let judged = |names: &[&str], port| {
        let names: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
        let question = Question { names: &names, ..question(&tables, FromPod, "a", "192.0.2.1", port) };
        told(&tables, tables.check(&question))
    };
    assert_eq!(judged(&[], 443), "deny a[1]");
    assert_eq!(judged(&["kubernetes.io"], 443), "allow a[0]");
    assert_eq!(judged(&["kubernetes.io"], 80), "deny a[1]");
    assert_eq!(judged(&["www.kubernetes.io"], 443), "deny a[1]");
    assert_eq!(judged(&["other.org", "x.y.example.org"], 443), "allow a[0]", "one of the names is enough");
    assert_eq!(judged(&["example.org"], 443), "deny a[1]");
    let reads = |namespace, name| tables.reads_names(tables.find_pod(namespace, name).expect("a pod"));
    assert!(reads("default", "a") && reads("default", "b") && !reads("other", "c"));
}
