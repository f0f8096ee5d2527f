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
