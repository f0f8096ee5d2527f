//! NetworkPolicies: what `ValidateNetworkPolicy` of Kubernetes 1.36 refuses for a new object, and what it takes.

use super::*;

/// What is found in a NetworkPolicy with this metadata and spec.
fn found(metadata: &str, spec: &str) -> Vec<String> {
    let parsed = parse(
        "f.yaml",
        &format!("{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {metadata}, spec: {spec}}}"),
    );
    let refused = parsed.problems.iter().any(|problem| problem.severity == Severity::Refused);
    assert_eq!(parsed.objects.is_empty(), refused, "what has a mistake is refused, everything else is taken: {spec}");
    parsed.problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect()
}

fn spec(spec: &str) -> Vec<String> {
    found("{name: p}", spec)
}

#[test]
fn what_the_api_server_refuses_is_refused_by_field_and_reason() {
    let cases = [
        // Selectors.
        (
            "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
            "spec.podSelector.matchExpressions[0].values: required for operator In",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: NotIn, values: []}]}}",
            "spec.podSelector.matchExpressions[0].values: required for operator NotIn",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}",
            "spec.podSelector.matchExpressions[0].values: not allowed for operator Exists",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: Like}]}}",
            "spec.podSelector.matchExpressions[0].operator: \"Like\" is not supported, use In, NotIn, Exists or DoesNotExist",
        ),
        (
            "{podSelector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}",
            "spec.podSelector.matchExpressions[0].operator: \"in\" is not supported, use In, NotIn, Exists or DoesNotExist",
        ),
        (
            "{podSelector: {matchExpressions: [{operator: Exists}]}}",
            "spec.podSelector.matchExpressions[0].key: \"\" is not a label key: [dns-prefix/]name, at most 63 letters, digits, '-', '_', '.'",
        ),
        (
            "{ingress: [{from: [{namespaceSelector: {matchExpressions: [{key: a, operator: In, values: [ok, 'not ok']}]}}]}]}",
            "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].values[1]: \"not ok\" is not a label value: at most 63 letters, digits, '-', '_', '.'",
        ),
        (
            "{egress: [{to: [{podSelector: {matchLabels: {'Upper.Case/a': b}}}]}]}",
            "spec.egress[0].to[0].podSelector.matchLabels: \"Upper.Case/a\" is not a label key: [dns-prefix/]name, at most 63 letters, digits, '-', '_', '.'",
        ),
        (
            "{podSelector: {matchLabels: {a: -b}}}",
            "spec.podSelector.matchLabels.a: \"-b\" is not a label value: at most 63 letters, digits, '-', '_', '.'",
        ),
        // Peers.
        (
            "{ingress: [{from: [{podSelector: {}}, {}]}]}",
            "spec.ingress[0].from[1]: a peer needs podSelector, namespaceSelector or ipBlock",
        ),
        (
            "{ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}",
            "spec.ingress[0].from[0]: ipBlock is not allowed together with podSelector or namespaceSelector",
        ),
        (
            "{egress: [{to: [{namespaceSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}",
            "spec.egress[0].to[0]: ipBlock is not allowed together with podSelector or namespaceSelector",
        ),
        // Blocks of addresses.
        ("{ingress: [{from: [{ipBlock: {}}]}]}", "spec.ingress[0].from[0].ipBlock.cidr: required"),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/33}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/33\" is not a CIDR such as 10.0.0.0/8",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.1}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.1\" is not a CIDR such as 10.0.0.0/8",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 'fe80::%eth0/64'}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"fe80::%eth0/64\" is not a CIDR such as 10.0.0.0/8",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/+8}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/+8\" is not a CIDR such as 10.0.0.0/8",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 192.168.0.5/24}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"192.168.0.5/24\" has bits set beyond the prefix length: use 192.168.0.0/24 or 192.168.0.5/32",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 'fd00::1/64'}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"fd00::1/64\" has bits set beyond the prefix length: use fd00::/64 or fd00::1/128",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 010.000.0.0/8}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"010.000.0.0/8\" has leading zeros: use 10.0.0.0/8",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/08}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"10.0.0.0/08\" has leading zeros: use 10.0.0.0/8",
        ),
        (
            "{ingress: [{from: [{ipBlock: {cidr: '::ffff:10.0.0.0/104'}}]}]}",
            "spec.ingress[0].from[0].ipBlock.cidr: \"::ffff:10.0.0.0/104\" is an IPv4-mapped IPv6 block: write it as an IPv4 block",
        ),
        (
            "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 11.0.0.0/16]}}]}]}",
            "spec.egress[0].to[0].ipBlock.except[1]: 11.0.0.0/16 is not a strict part of cidr 10.0.0.0/8",
        ),
        (
            "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}",
            "spec.egress[0].to[0].ipBlock.except[0]: 10.0.0.0/8 is not a strict part of cidr 10.0.0.0/8",
        ),
        (
            "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [0.0.0.0/0]}}]}]}",
            "spec.egress[0].to[0].ipBlock.except[0]: 0.0.0.0/0 is not a strict part of cidr 10.0.0.0/8",
        ),
        (
            "{egress: [{to: [{ipBlock: {cidr: 0.0.0.0/0, except: ['fd00::/8']}}]}]}",
            "spec.egress[0].to[0].ipBlock.except[0]: fd00::/8 is not a strict part of cidr 0.0.0.0/0",
        ),
        (
            "{egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: ['']}}]}]}",
            "spec.egress[0].to[0].ipBlock.except[0]: \"\" is not a CIDR such as 10.0.0.0/8",
        ),
        // Ports.
        ("{ingress: [{ports: [{port: 0}]}]}", "spec.ingress[0].ports[0].port: 0 is not between 1 and 65535"),
        ("{ingress: [{ports: [{port: 65536}]}]}", "spec.ingress[0].ports[0].port: 65536 is not between 1 and 65535"),
        (
            "{ingress: [{ports: [{port: '80'}]}]}",
            "spec.ingress[0].ports[0].port: \"80\" is not a port name: at most 15 lower-case letters, digits and single '-', with at least one letter",
        ),
        (
            "{ingress: [{ports: [{port: sixteen-letters-}]}]}",
            "spec.ingress[0].ports[0].port: \"sixteen-letters-\" is not a port name: at most 15 lower-case letters, digits and single '-', with at least one letter",
        ),
        (
            "{ingress: [{ports: [{port: a--b}]}]}",
            "spec.ingress[0].ports[0].port: \"a--b\" is not a port name: at most 15 lower-case letters, digits and single '-', with at least one letter",
        ),
        (
            "{ingress: [{ports: [{port: 80, endPort: 79}]}]}",
            "spec.ingress[0].ports[0].endPort: 79 is less than port 80",
        ),
        (
            "{ingress: [{ports: [{port: 80, endPort: 65536}]}]}",
            "spec.ingress[0].ports[0].endPort: 65536 is not between 1 and 65535",
        ),
        ("{ingress: [{ports: [{endPort: 79}]}]}", "spec.ingress[0].ports[0].endPort: not allowed without port"),
        (
            "{ingress: [{ports: [{port: http, endPort: 79}]}]}",
            "spec.ingress[0].ports[0].endPort: not allowed when port is a name",
        ),
        (
            "{ingress: [{ports: [{protocol: ICMP}]}]}",
            "spec.ingress[0].ports[0].protocol: \"ICMP\" is not supported, use TCP, UDP or SCTP",
        ),
        (
            "{egress: [{ports: [{protocol: tcp, port: 80}]}]}",
            "spec.egress[0].ports[0].protocol: \"tcp\" is not supported, use TCP, UDP or SCTP",
        ),
        // policyTypes.
        ("{policyTypes: [Both]}", "spec.policyTypes[0]: \"Both\" is not supported, use Ingress, Egress"),
        ("{policyTypes: [Ingress, Egress, Ingress]}", "spec.policyTypes: at most two entries are allowed"),
        // Types.
        (
            "{ingress: [{ports: [{port: 80.5}]}]}",
            "spec.ingress[0].ports[0].port: invalid type: floating point `80.5`, expected IntOrString",
        ),
        ("{ingress: {from: []}}", "spec.ingress: invalid type: an object, expected a sequence"),
    ];
    for (text, expected) in cases {
        assert_eq!(spec(text), [expected], "{text}");
    }
}

#[test]
fn what_the_api_server_takes_is_taken() {
    let cases = [
        "{}",
        "null",
        "{podSelector: {}, ingress: [{ports: [{port: http}, {port: 80, endPort: 80}, {protocol: SCTP}, {}]}]}",
        "{podSelector: {}, ingress: [], egress: [{}], policyTypes: [Egress, Egress]}",
        "{podSelector: {matchLabels: {a: '', b.c/d: E_f.g-h}, matchExpressions: [{key: a, operator: DoesNotExist}]}}",
        "{ingress: [{from: [{podSelector: {}, namespaceSelector: {}}, {ipBlock: {cidr: 0.0.0.0/0, except: [10.0.0.0/8, 10.1.0.0/16]}}]}]}",
        "{egress: [{to: [{ipBlock: {cidr: 'FD00:0:0::/8', except: ['fd00::1/128']}}, {ipBlock: {cidr: 10.0.0.7/32}}]}]}",
    ];
    for text in cases {
        assert_eq!(spec(text), [""; 0], "{text}");
    }
}

#[test]
fn n16_a_peer_with_no_known_field_closes_its_rule_and_the_policy_still_isolates() {
    let text = "{podSelector: {}, egress: [{to: [{fqdn: example.com}, {podSelector: {}}]}, {}]}";
    assert_eq!(spec(text), ["spec.egress[0].to[0].fqdn: unknown field: spec.egress[0] matches nothing"]);
}

#[test]
fn all_mistakes_are_told_at_once() {
    let text = "{podSelector: {matchLabels: {a: -b}}, ingress: [{from: [{}], ports: [{port: 0}, {port: 1, protocol: X}]}], policyTypes: [x]}";
    let fields: Vec<String> = spec(text).iter().map(|text| text.split(": ").next().unwrap().to_owned()).collect();
    assert_eq!(
        fields,
        [
            "spec.podSelector.matchLabels.a",
            "spec.ingress[0].ports[0].port",
            "spec.ingress[0].ports[1].protocol",
            "spec.ingress[0].from[0]",
            "spec.policyTypes[0]"
        ]
    );
}

#[test]
fn its_metadata_is_that_of_an_api_object() {
    let long = "a".repeat(254);
    let cases = [
        ("{}".to_owned(), "metadata.name: required"),
        (format!("{{name: {long}}}"), "metadata.name: longer than 253 characters"),
        ("{name: Upper}".to_owned(), "metadata.name: \"Upper\" is not a DNS name"),
        ("{name: p, namespace: a.b}".to_owned(), "metadata.namespace: \"a.b\" is not a DNS label"),
        ("{name: p, labels: {a: 'b c'}}".to_owned(), "metadata.labels.a: \"b c\" is not a label value"),
        ("{name: p, annotations: {a b: c}}".to_owned(), "metadata.annotations: \"a b\" is not an annotation key"),
        (
            format!("{{name: p, annotations: {{a: {}}}}}", "b".repeat(256 * 1024)),
            "metadata.annotations: longer than 262144 bytes together",
        ),
    ];
    for (metadata, expected) in cases {
        let found = found(&metadata, "{}");
        assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?} instead of {expected}");
    }
    assert_eq!(found("{name: a.b-c, annotations: {Example.Com/Key: any value at all}}", "{}"), [""; 0]);
}
