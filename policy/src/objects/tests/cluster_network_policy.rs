//! ClusterNetworkPolicies: what is read, written back, closed and refused.

use super::*;
use crate::objects::{DRY_RUN_ANNOTATION, ESTABLISHED_ANNOTATION, is_dry_run, keeps_established};
use serde_json::{Value, json};

/// A ClusterNetworkPolicy `p` with this spec.
fn policy(spec: &str) -> String {
    format!(
        "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: p}}, spec: {spec}}}"
    )
}

/// Every field that the API has.
fn everything() -> Value {
    let selector =
        json!({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}]});
    let pods = json!({"namespaceSelector": selector, "podSelector": {}});
    let port = |first: u16| json!({"destinationPort": {"range": {"start": first, "end": first + 1}}});
    json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy",
        "metadata": {"name": "everything", "labels": {"a": "b"}, "annotations": {"podplane.io/dry-run": "true"}},
        "spec": {
            "tier": "Baseline",
            "priority": 1000,
            "subject": {"pods": pods},
            "ingress": [
                {"name": "one", "action": "Pass", "from": [{"namespaces": selector}, {"pods": {"podSelector": selector}}]},
                {"action": "Deny", "from": [{"namespaces": {}}], "protocols": [
                    {"tcp": {"destinationPort": {"number": 80}}}, {"udp": port(53)}, {"sctp": port(9)},
                    {"destinationNamedPort": "http"},
                ]},
            ],
            "egress": [
                {"action": "Accept", "to": [
                    {"nodes": {}}, {"networks": ["10.0.0.0/8", "fd00::/8"]}, {"domainNames": ["*.example.com", "a.b"]},
                ]},
                {"name": "", "action": "Deny", "to": [{"namespaces": {}}, {"pods": pods}]},
            ],
        },
        "status": {"conditions": [{"type": "Accepted", "status": "True", "unheard": [1.5]}]},
    })
}

#[test]
fn a_policy_is_written_back_as_it_was_read() {
    let parsed = parse("f.yaml", &everything().to_string());
    assert_eq!(parsed.problems, []);
    assert_eq!(serde_json::to_value(&parsed.objects[0].object).unwrap(), everything());
    let empty_lists = policy("{tier: Admin, priority: 0, subject: {namespaces: {}}, ingress: [], egress: []}");
    let object = &parse("f.yaml", &empty_lists).objects[0].object;
    let spec = &serde_json::to_value(object).unwrap()["spec"];
    assert_eq!(
        spec,
        &json!({"tier": "Admin", "priority": 0, "subject": {"namespaces": {}}, "ingress": [], "egress": []})
    );
}

#[test]
fn the_cluster_has_it_under_its_name_alone() {
    let (cluster, problems) = crate::cluster::Cluster::from_objects(parse("f.yaml", &everything().to_string()).objects);
    assert_eq!(problems, []);
    let keys: Vec<_> = cluster.cluster_network_policies.keys().collect();
    assert_eq!(keys, [&("".into(), "everything".into())]);
}

#[test]
fn its_predecessors_are_named_with_what_to_write_instead() {
    for (kind, tier) in [("AdminNetworkPolicy", "Admin"), ("BaselineAdminNetworkPolicy", "Baseline")] {
        let text = format!("{{apiVersion: policy.networking.k8s.io/v1alpha1, kind: {kind}, metadata: {{name: a}}}}");
        let parsed = parse("f.yaml", &text);
        assert_eq!(parsed.problems[0].severity, Severity::Warning);
        assert_eq!(
            parsed.problems[0].to_string(),
            format!(
                "f.yaml: {kind} a: skipped: policy.networking.k8s.io/v1alpha1 {kind} is not in force. Write it as a \
                 policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy with spec.tier: {tier}, actions Accept, Deny and \
                 Pass, and ports as protocols"
            )
        );
    }
    let old = policy("{}").replace("v1alpha2", "v1alpha1");
    assert_eq!(
        findings(&old),
        [
            "apiVersion: \"policy.networking.k8s.io/v1alpha1\" is not supported, use \"policy.networking.k8s.io/v1alpha2\""
        ]
    );
}

#[test]
fn n16_an_unknown_field_in_a_rule_closes_the_rule_as_its_action_asks() {
    let rule = |action: &str| format!("{{action: {action}, to: [{{namespaces: {{}}}}, {{services: {{}}}}]}}");
    let spec = format!(
        "{{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, egress: [{}, {}, {}], ingress: [{{action: Accept, from: [{{namespaces: {{}}}}]}}]}}",
        rule("Accept"),
        rule("Deny"),
        rule("Pass")
    );
    let parsed = parse("f.yaml", &policy(&spec));
    let problems: Vec<_> = parsed.problems.iter().map(|problem| (problem.severity, problem.to_string())).collect();
    let closed = |index: u32, what: &str| {
        let field = format!("spec.egress[{index}].to[1].services");
        let text = format!("f.yaml: ClusterNetworkPolicy p: {field}: unknown field: spec.egress[{index}] {what}");
        (Severity::Closed, text)
    };
    assert_eq!(
        problems,
        [closed(0, "matches nothing"), closed(1, "denies everything"), closed(2, "denies everything")]
    );
    let annotations = parsed.objects[0].object.metadata().annotations.clone().unwrap_or_default();
    assert_eq!(annotations.get(CLOSED_ANNOTATION).map(String::as_str), Some("egress[0],egress[1],egress[2]"));
    // Peers of incoming traffic have no networks: an unknown field like any other.
    let networks = "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{networks: ['::/0']}]}]}";
    assert_eq!(
        findings(&policy(networks)),
        ["spec.ingress[0].from[0].networks: unknown field: spec.ingress[0] denies everything"]
    );
}

#[test]
fn n16_an_unknown_field_outside_the_rules_closes_them_all_and_one_in_the_subject_refuses_the_policy() {
    let outside = policy("{tier: Admin, priority: 1, subject: {namespaces: {}}, schedule: night}");
    let parsed = parse("f.yaml", &outside);
    assert_eq!(
        parsed.problems[0].message,
        "unknown field: no Accept rule of this policy matches anything, its Deny and Pass rules deny everything"
    );
    assert!(crate::objects::closed_rules(parsed.objects[0].object.metadata())("ingress", 7));
    let parsed = parse("f.yaml", &policy("{tier: Admin, priority: 1, subject: {namespaces: {}, nodes: {}}}"));
    assert!(parsed.objects.is_empty());
    assert_eq!(parsed.problems.len(), 1);
    assert_eq!(parsed.problems[0].severity, Severity::Refused);
    assert_eq!(
        parsed.problems[0].to_string(),
        "f.yaml: ClusterNetworkPolicy p: spec.subject.nodes: unknown field: it is not known whom the policy is about"
    );
}

#[test]
fn a_wrong_value_of_an_annotation_is_named_and_the_strict_meaning_holds() {
    let kinds = [
        policy("{tier: Admin, priority: 1, subject: {namespaces: {}}}"),
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: {podSelector: {}}}"
            .to_owned(),
    ];
    for text in kinds {
        let annotated = |annotation: &str, value: &str| {
            let text = text.replace("{name: p}", &format!("{{name: p, annotations: {{{annotation}: '{value}'}}}}"));
            let parsed = parse("f.yaml", &text);
            let metadata = parsed.objects[0].object.metadata();
            assert!(parsed.problems.iter().all(|problem| problem.severity == Severity::Warning));
            let problems: Vec<_> = parsed.problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
            (is_dry_run(metadata), keeps_established(metadata), problems)
        };
        assert_eq!(annotated(DRY_RUN_ANNOTATION, "true"), (true, false, vec![]));
        assert_eq!(annotated(DRY_RUN_ANNOTATION, "false"), (false, false, vec![]));
        let message =
            "metadata.annotations.podplane.io/dry-run: \"True\" is neither true nor false: the policy is in force";
        assert_eq!(annotated(DRY_RUN_ANNOTATION, "True"), (false, false, vec![message.to_owned()]));
        assert_eq!(annotated(ESTABLISHED_ANNOTATION, "keep"), (false, true, vec![]));
        assert_eq!(annotated(ESTABLISHED_ANNOTATION, "cut"), (false, false, vec![]));
        let message = "metadata.annotations.podplane.io/established: \"\" is neither keep nor cut: flows that the policy denies are cut";
        assert_eq!(annotated(ESTABLISHED_ANNOTATION, ""), (false, false, vec![message.to_owned()]));
    }
}

/// A ClusterNetworkPolicy with these fields of the spec besides the required ones.
fn with(fields: &str) -> String {
    policy(&format!("{{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, {fields}}}"))
}

#[test]
fn what_the_schema_and_its_rules_refuse_is_refused_by_field_and_reason() {
    let ingress = |rule: &str| with(&format!("ingress: [{{{rule}}}]"));
    let egress = |rule: &str| with(&format!("egress: [{{{rule}}}]"));
    let peer = |peer: &str| egress(&format!("action: Accept, to: [{peer}]"));
    let protocol =
        |protocol: &str| ingress(&format!("action: Deny, from: [{{namespaces: {{}}}}], protocols: [{protocol}]"));
    let many = |item: &str| vec![item; 26].join(", ");
    let (from, to) = ("spec.ingress[0].from", "spec.egress[0].to");
    let one_of_peer = "required: exactly one of namespaces, pods, nodes, networks, domainNames";
    let no_domain = "is not a DNS name of two or more labels, such as example.com or *.example.com";
    let named = "destinationNamedPort is not allowed with networks, nodes or domainNames: they have no named ports";
    let cases = [
        (policy("null"), "spec: invalid type: null, expected struct Spec".to_owned()),
        (policy("{}"), "spec.tier: required".to_owned()),
        (policy("{tier: Admin, subject: {namespaces: {}}}"), "spec.priority: required".to_owned()),
        (policy("{tier: Admin, priority: 1}"), "spec.subject: required".to_owned()),
        (
            policy("{tier: Middle, priority: 1, subject: {namespaces: {}}}"),
            "spec.tier: \"Middle\" is not supported, use Admin, Baseline".to_owned(),
        ),
        (
            policy("{tier: Admin, priority: -1, subject: {namespaces: {}}}"),
            "spec.priority: -1 is not between 0 and 1000".to_owned(),
        ),
        (
            policy("{tier: Admin, priority: 1001, subject: {namespaces: {}}}"),
            "spec.priority: 1001 is not between 0 and 1000".to_owned(),
        ),
        (
            policy("{tier: Admin, priority: first, subject: {namespaces: {}}}"),
            "spec.priority: invalid type: string \"first\", expected i32".to_owned(),
        ),
        (
            policy("{tier: Admin, priority: 1, subject: {}}"),
            "spec.subject: required: exactly one of namespaces, pods".to_owned(),
        ),
        (
            policy("{tier: Admin, priority: 1, subject: {namespaces: {}, pods: {podSelector: {}}}}"),
            "spec.subject: only one of namespaces, pods is allowed".to_owned(),
        ),
        (
            policy("{tier: Admin, priority: 1, subject: {pods: {namespaceSelector: {}}}}"),
            "spec.subject.pods.podSelector: required".to_owned(),
        ),
        (
            policy("{tier: Admin, priority: 1, subject: {pods: {podSelector: {matchLabels: {a: 'b c'}}}}}"),
            "spec.subject.pods.podSelector.matchLabels.a: \"b c\" is not a label value: at most 63 letters, digits, '-', '_', '.'"
                .to_owned(),
        ),
        // Rules.
        (
            with(&format!("ingress: [{}]", many("{action: Pass, from: [{namespaces: {}}]}"))),
            "spec.ingress: 26 items, at most 25 are allowed".to_owned(),
        ),
        (
            with(&format!("egress: [{}]", many("{action: Pass, to: [{namespaces: {}}]}"))),
            "spec.egress: 26 items, at most 25 are allowed".to_owned(),
        ),
        (ingress("from: [{namespaces: {}}]"), "spec.ingress[0].action: required".to_owned()),
        (
            ingress("action: Allow, from: [{namespaces: {}}]"),
            "spec.ingress[0].action: \"Allow\" is not supported, use Accept, Deny, Pass".to_owned(),
        ),
        (ingress("action: Deny"), format!("{from}: required")),
        (ingress("action: Deny, from: []"), format!("{from}: at least 1 item is required")),
        (
            ingress(&format!("action: Deny, from: [{}]", many("{namespaces: {}}"))),
            format!("{from}: 26 items, at most 25 are allowed"),
        ),
        (
            ingress(&format!("name: {}, action: Deny, from: [{{namespaces: {{}}}}]", "n".repeat(101))),
            "spec.ingress[0].name: longer than 100 characters".to_owned(),
        ),
        (egress("action: Deny"), format!("{to}: required")),
        (egress("action: Deny, to: []"), format!("{to}: at least 1 item is required")),
        // Peers.
        (
            ingress("action: Deny, from: [{namespaces: {}}, {}]"),
            format!("{from}[1]: required: exactly one of namespaces, pods"),
        ),
        (
            ingress("action: Deny, from: [{namespaces: {}, pods: {podSelector: {}}}]"),
            format!("{from}[0]: only one of namespaces, pods is allowed"),
        ),
        (
            ingress("action: Deny, from: [{namespaces: {matchExpressions: [{key: a, operator: Like}]}}]"),
            format!("{from}[0].namespaces.matchExpressions[0].operator: \"Like\" is not supported, use In, NotIn, Exists or DoesNotExist"),
        ),
        (peer("{}"), format!("{to}[0]: {one_of_peer}")),
        (peer("{nodes: null}"), format!("{to}[0]: {one_of_peer}")),
        (peer("{nodes: {}, networks: ['::/0']}"), format!("{to}[0]: only one of nodes, networks is allowed")),
        (
            peer("{nodes: {matchLabels: {-a: b}}}"),
            format!("{to}[0].nodes.matchLabels: \"-a\" is not a label key: [dns-prefix/]name, at most 63 letters, digits, '-', '_', '.'"),
        ),
        (peer("{networks: []}"), format!("{to}[0].networks: at least 1 item is required")),
        (
            peer(&format!("{{networks: [{}]}}", (0..26).map(|n| format!("10.{n}.0.0/16")).collect::<Vec<_>>().join(", "))),
            format!("{to}[0].networks: 26 items, at most 25 are allowed"),
        ),
        (peer("{networks: [10.0.0.0]}"), format!("{to}[0].networks[0]: \"10.0.0.0\" is not a CIDR such as 10.0.0.0/8")),
        (peer("{networks: ['::/129']}"), format!("{to}[0].networks[0]: \"::/129\" is not a CIDR such as 10.0.0.0/8")),
        (peer("{networks: [10.0.0.0/08]}"), format!("{to}[0].networks[0]: \"10.0.0.0/08\" has leading zeros: use 10.0.0.0/8")),
        (
            peer("{networks: ['::ffff:10.0.0.0/104']}"),
            format!("{to}[0].networks[0]: \"::ffff:10.0.0.0/104\" is an IPv4-mapped IPv6 block: write it as an IPv4 block"),
        ),
        (
            peer("{networks: ['0000:0000:0000:0000:0000:ffff:192.168.100.200/128']}"),
            format!("{to}[0].networks[0]: longer than 43 characters"),
        ),
        (peer("{networks: [10.0.0.0/8, '::/0', 10.0.0.0/8]}"), format!("{to}[0].networks[2]: duplicate \"10.0.0.0/8\"")),
        (peer("{domainNames: []}"), format!("{to}[0].domainNames: at least 1 item is required")),
        (peer("{domainNames: [a.b, a.b]}"), format!("{to}[0].domainNames[1]: duplicate \"a.b\"")),
        (peer("{domainNames: [localhost]}"), format!("{to}[0].domainNames[0]: \"localhost\" {no_domain}")),
        (peer("{domainNames: ['*.com']}"), format!("{to}[0].domainNames[0]: \"*.com\" {no_domain}")),
        (peer("{domainNames: ['a.*.com']}"), format!("{to}[0].domainNames[0]: \"a.*.com\" {no_domain}")),
        (peer("{domainNames: ['*a.b.com']}"), format!("{to}[0].domainNames[0]: \"*a.b.com\" {no_domain}")),
        (peer("{domainNames: ['-a.com']}"), format!("{to}[0].domainNames[0]: \"-a.com\" {no_domain}")),
        (peer("{domainNames: ['a.com-']}"), format!("{to}[0].domainNames[0]: \"a.com-\" {no_domain}")),
        (peer("{domainNames: [a..com]}"), format!("{to}[0].domainNames[0]: \"a..com\" {no_domain}")),
        (peer("{domainNames: [a.com..]}"), format!("{to}[0].domainNames[0]: \"a.com..\" {no_domain}")),
        (peer("{domainNames: ['']}"), format!("{to}[0].domainNames[0]: \"\" {no_domain}")),
        // Protocols.
        (
            ingress("action: Deny, from: [{namespaces: {}}], protocols: []"),
            "spec.ingress[0].protocols: at least 1 item is required".to_owned(),
        ),
        (
            protocol(&many("{destinationNamedPort: a}")),
            "spec.ingress[0].protocols: 26 items, at most 25 are allowed".to_owned(),
        ),
        (
            protocol("{}"),
            "spec.ingress[0].protocols[0]: required: exactly one of tcp, udp, sctp, destinationNamedPort".to_owned(),
        ),
        (
            protocol("{tcp: {destinationPort: {number: 1}}, destinationNamedPort: a}"),
            "spec.ingress[0].protocols[0]: only one of tcp, destinationNamedPort is allowed".to_owned(),
        ),
        (
            protocol("{tcp: {}}"),
            "spec.ingress[0].protocols[0].tcp: required: destinationPort".to_owned(),
        ),
        (
            protocol("{udp: {destinationPort: {}}}"),
            "spec.ingress[0].protocols[0].udp.destinationPort: required: exactly one of number, range".to_owned(),
        ),
        (
            protocol("{sctp: {destinationPort: {number: 1, range: {start: 1, end: 2}}}}"),
            "spec.ingress[0].protocols[0].sctp.destinationPort: only one of number, range is allowed".to_owned(),
        ),
        (
            protocol("{tcp: {destinationPort: {number: 0}}}"),
            "spec.ingress[0].protocols[0].tcp.destinationPort.number: 0 is not between 1 and 65535".to_owned(),
        ),
        (
            protocol("{tcp: {destinationPort: {number: http}}}"),
            "spec.ingress[0].protocols[0].tcp.destinationPort.number: invalid type: string \"http\", expected i32".to_owned(),
        ),
        (
            protocol("{tcp: {destinationPort: {range: {start: 80}}}}"),
            "spec.ingress[0].protocols[0].tcp.destinationPort.range.end: required".to_owned(),
        ),
        (
            protocol("{tcp: {destinationPort: {range: {start: 80, end: 80}}}}"),
            "spec.ingress[0].protocols[0].tcp.destinationPort.range: start 80 is not less than end 80".to_owned(),
        ),
        (
            protocol("{tcp: {destinationPort: {range: {start: 80, end: 65536}}}}"),
            "spec.ingress[0].protocols[0].tcp.destinationPort.range.end: 65536 is not between 1 and 65535".to_owned(),
        ),
        // Named ports exist on pods alone.
        (
            egress("action: Deny, to: [{namespaces: {}}, {networks: ['::/0']}], protocols: [{destinationNamedPort: a}]"),
            format!("spec.egress[0]: {named}"),
        ),
        (
            egress("action: Deny, to: [{nodes: {}}], protocols: [{tcp: {destinationPort: {number: 1}}}, {destinationNamedPort: a}]"),
            format!("spec.egress[0]: {named}"),
        ),
        (
            egress("action: Accept, to: [{domainNames: [a.b]}], protocols: [{destinationNamedPort: a}]"),
            format!("spec.egress[0]: {named}"),
        ),
        // Metadata.
        (
            with("").replace("{name: p}", "{name: p, namespace: default}"),
            "metadata.namespace: not allowed: a ClusterNetworkPolicy has no namespace".to_owned(),
        ),
        (with("").replace("{name: p}", "{}"), "metadata.name: required".to_owned()),
    ];
    for (text, expected) in cases {
        assert_eq!(findings(&text), [expected], "{text}");
        assert!(parse("f.yaml", &text).objects.is_empty(), "{text}");
    }
}

#[test]
fn what_the_schema_takes_is_taken() {
    let cases = [
        "ingress: [{name: '', action: Pass, from: [{pods: {podSelector: {}}}]}]".to_owned(),
        format!("ingress: [{{name: {}, action: Deny, from: [{{namespaces: {{}}}}]}}]", "\u{e9}".repeat(100)),
        "egress: [{action: Accept, to: [{networks: [10.0.0.5/8, 'FD00:0:0::1/8', 0.0.0.0/0]}]}]".to_owned(),
        "egress: [{action: Accept, to: [{domainNames: [a.b, '*.Example.COM.', a_b-c.d9, '_x.y', 1.2.3.4]}]}]".to_owned(),
        "egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: Not A Port Name}]}]".to_owned(),
        "egress: [{action: Deny, to: [{nodes: {}}], protocols: [{tcp: {destinationPort: {range: {start: 1, end: 65535}}}}]}]"
            .to_owned(),
    ];
    for fields in cases {
        assert_eq!(findings(&with(&fields)), [""; 0], "{fields}");
    }
}

#[test]
fn n16_a_peer_or_protocol_with_no_known_field_closes_its_rule() {
    let rule = "action: Deny, to: [{namespaces: {}}, {services: {}}], protocols: [{icmp: {}}, {tcp: {flags: [SYN]}}]";
    let parsed = parse("f.yaml", &with(&format!("egress: [{{{rule}}}]")));
    let found: Vec<_> = parsed.problems.iter().map(|problem| (problem.field.as_str(), problem.severity)).collect();
    let fields = ["protocols[0].icmp", "protocols[1].tcp.flags", "to[1].services"];
    let expected: Vec<String> = fields.iter().map(|field| format!("spec.egress[0].{field}")).collect();
    assert_eq!(found, expected.iter().map(|field| (field.as_str(), Severity::Closed)).collect::<Vec<_>>());
    // The mistakes that are left count as ever.
    let mistaken = parse("f.yaml", &with(&format!("egress: [{{{rule}, name: {}}}]", "n".repeat(101))));
    assert!(mistaken.objects.is_empty());
    // Read again, it is the same policy, though nothing is left of the fields.
    let written = serde_json::to_string(&parsed.objects[0].object).unwrap();
    let again = parse("f.yaml", &written);
    assert_eq!(again.problems, []);
    assert_eq!(again.objects[0].object, parsed.objects[0].object);
}

#[test]
fn n18_names_in_a_rule_that_does_not_accept_close_it() {
    for action in ["Deny", "Pass"] {
        let text = with(&format!(
            "egress: [{{action: Accept, to: [{{domainNames: [a.b]}}]}}, {{action: {action}, to: [{{nodes: {{}}}}, {{domainNames: [a.b]}}]}}]"
        ));
        let parsed = parse("f.yaml", &text);
        assert_eq!(parsed.problems.len(), 1);
        assert_eq!(parsed.problems[0].severity, Severity::Closed);
        assert_eq!(
            parsed.problems[0].to_string(),
            format!(
                "f.yaml: ClusterNetworkPolicy p: spec.egress[1].to[1].domainNames: not supported in a rule with action \
                 {action}: spec.egress[1] denies everything"
            )
        );
        let is_closed = crate::objects::closed_rules(parsed.objects[0].object.metadata());
        assert!(!is_closed("egress", 0) && is_closed("egress", 1));
    }
}
