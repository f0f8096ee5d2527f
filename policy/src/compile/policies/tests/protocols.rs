//! What a rule is about.

use super::*;

/// Tables where only what `protocols` match may come in.
fn only(protocols: &str) -> Tables {
    let rules = format!(
        "{{action: Accept, from: [{{namespaces: {{}}}}], protocols: [{protocols}]}}, {{action: Deny, from: [{{namespaces: {{}}}}]}}"
    );
    tables(&(abc() + &ingress("cnp", 0, &rules)))
}

fn comes_in(tables: &Tables, protocol: Protocol, port: u16) -> bool {
    let a = tables.find_pod("default", "a").expect("a");
    check(tables, ToPod, a, B, (protocol, port)).allowed
}

#[test]
fn n17_a_number_is_one_port_of_one_protocol() {
    for (field, meant) in [("tcp", Protocol::TCP), ("udp", Protocol::UDP), ("sctp", Protocol::SCTP)] {
        let tables = only(&format!("{{{field}: {{destinationPort: {{number: 53}}}}}}"));
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            assert_eq!(comes_in(&tables, protocol, 53), protocol == meant, "{field}");
            assert!(!comes_in(&tables, protocol, 54));
        }
        assert!(!comes_in(&tables, Protocol::ICMP, 0));
    }
}

#[test]
fn n17_a_range_has_both_ends() {
    let tables = only(
        "{tcp: {destinationPort: {range: {start: 100, end: 200}}}}, {udp: {destinationPort: {range: {start: 65534, end: 65535}}}}",
    );
    for (port, allowed) in [(99, false), (100, true), (150, true), (200, true), (201, false)] {
        assert_eq!(comes_in(&tables, Protocol::TCP, port), allowed, "TCP {port}");
    }
    for (port, allowed) in [(65533, false), (65534, true), (65535, true)] {
        assert_eq!(comes_in(&tables, Protocol::UDP, port), allowed, "UDP {port}");
    }
}

#[test]
fn n17_a_named_port_is_the_receivers_whatever_its_protocol() {
    let two = crate::compile::tests::pod("d", "app: d", "node2", &["10.244.2.4"]).replace(
        "{name: http, containerPort: 8080}",
        "{name: http, containerPort: 90}, {name: quic, protocol: UDP, containerPort: 443}",
    );
    let rules = "{action: Accept, to: [{namespaces: {}}], protocols: [{destinationNamedPort: http}, {destinationNamedPort: quic}]}, \
                 {action: Deny, to: [{namespaces: {}}]}";
    let tables = tables(&(abc() + &two + &egress("cnp", 0, rules)));
    let a = tables.find_pod("default", "a").expect("a");
    let open = |peer, protocol, port| check(&tables, FromPod, a, peer, (protocol, port)).allowed;
    assert!(open(B, Protocol::TCP, 8080) && !open(B, Protocol::TCP, 90) && !open(B, Protocol::UDP, 8080));
    assert!(open("10.244.2.4", Protocol::TCP, 90) && !open("10.244.2.4", Protocol::TCP, 8080));
    assert!(open("10.244.2.4", Protocol::UDP, 443) && !open("10.244.2.4", Protocol::TCP, 443));
    let incoming = only("{destinationNamedPort: http}");
    assert!(comes_in(&incoming, Protocol::TCP, 8080) && !comes_in(&incoming, Protocol::TCP, 80));
}

#[test]
fn n19_a_rule_without_protocols_matches_everything_icmp_too() {
    let tables = tables(&(abc() + &ingress("cnp", 0, "{action: Deny, from: [{namespaces: {}}]}")));
    for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP, Protocol::ICMP, Protocol(47)] {
        assert!(!comes_in(&tables, protocol, 0), "{protocol}");
    }
}
