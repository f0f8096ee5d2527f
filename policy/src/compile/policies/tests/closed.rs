//! What is not understood fails closed (N16).

use super::*;
use crate::cluster::Cluster;
use crate::compile::compile;
use crate::compile::tests::NODES;
use crate::objects::cluster_network_policy::{ClusterNetworkPolicy, Subject, Transport};
use crate::objects::{Object, parse};

/// Tables of manifests that hold fields that are not known.
fn with_unknown_fields(yaml: &str) -> Tables {
    let parsed = parse("test.yaml", &(NODES.to_owned() + &abc() + yaml));
    assert_eq!(parsed.problems.len(), 1, "{:?}", parsed.problems);
    compile(&Cluster::from_objects(parsed.objects).0, 1).0
}

#[test]
fn n16_an_accept_rule_with_an_unknown_field_matches_nothing() {
    let rules =
        "{action: Accept, from: [{namespaces: {}, serviceAccounts: {}}]}, {action: Deny, from: [{namespaces: {}}]}";
    assert_eq!(b_to_a(&with_unknown_fields(&ingress("cnp", 0, rules)), 80), "deny cnp[1]");
}

#[test]
fn n16_deny_and_pass_rules_with_an_unknown_field_deny_everything() {
    for action in ["Deny", "Pass"] {
        let rules = format!(
            "{{action: {action}, from: [{{namespaces: {{matchLabels: {{no: one}}}}}}], protocols: [{{gre: {{}}}}]}}, {}",
            from_all("Accept", 80)
        );
        let tables = with_unknown_fields(&ingress("cnp", 0, &rules));
        assert_eq!(b_to_a(&tables, 80), "deny cnp[0]");
        let trace = tables.trace(&question(&tables, ToPod, "a", "192.0.2.1", 1), false);
        assert_eq!(trace.tiers[0].matched.map(|(_, action)| action), Some(Action::Deny));
        assert!(tcp(&tables, FromPod, "a", B, 80), "in that direction only");
    }
}

#[test]
fn n16_an_unknown_field_outside_the_rules_closes_all_of_them() {
    let rules = [from_all("Accept", 80), from_all("Deny", 81)].join(", ");
    let tables = with_unknown_fields(&cnp(
        "cnp",
        "Admin",
        0,
        &format!("subject: {{namespaces: {{}}}}, mode: soft, ingress: [{rules}]"),
    ));
    assert_eq!(b_to_a(&tables, 80), "deny cnp[1]");
    assert_eq!(b_to_a(&tables, 9999), "deny cnp[1]");
}

/// What compiling says of a policy that was changed after validation, and the tables.
fn changed(change: impl FnOnce(&mut ClusterNetworkPolicy)) -> (Tables, Vec<String>) {
    let rules = "{action: Accept, to: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 80}}}]}, \
                 {action: Deny, to: [{namespaces: {matchLabels: {no: one}}}]}";
    let mut objects = parse("test.yaml", &(NODES.to_owned() + &abc() + &egress("cnp", 0, rules))).objects;
    let Some(Object::ClusterNetworkPolicy(policy)) = objects.last_mut().map(|last| &mut last.object) else {
        panic!("the policy is the last object");
    };
    change(std::sync::Arc::make_mut(policy));
    let (tables, problems) = compile(&Cluster::from_objects(objects).0, 1);
    (tables, problems.iter().map(ToString::to_string).collect())
}

#[test]
fn n16_what_comes_without_validation_closes_its_rule_and_is_told() {
    let (tables, problems) = changed(|policy| {
        let rules = policy.spec.egress.as_mut().expect("rules");
        rules[0].to[0].networks = Some(vec!["10.0.0.0/8".into()]);
        rules[1].to[0].namespaces = None;
        rules[1].to[0].domain_names = Some(vec!["a.b".into()]);
    });
    assert_eq!(
        problems,
        [
            "test.yaml: ClusterNetworkPolicy cnp: spec.egress[0].to[0]: needs exactly one field that is understood; \
             spec.egress[0] matches nothing",
            "test.yaml: ClusterNetworkPolicy cnp: spec.egress[1].to[0].domainNames: is for rules that accept; \
             spec.egress[1] denies everything",
        ]
    );
    assert_eq!(told(&tables, tables.check(&question(&tables, FromPod, "a", B, 80))), "deny cnp[1]");
}

#[test]
fn n16_each_part_of_a_rule_can_close_it() {
    type Change = fn(&mut ClusterNetworkPolicy);
    let changes: [(&str, Change); 7] = [
        ("to", |policy| policy.spec.egress.as_mut().unwrap()[0].to.clear()),
        ("to[0].networks", |policy| {
            let peer = &mut policy.spec.egress.as_mut().unwrap()[0].to[0];
            (peer.namespaces, peer.networks) = (None, Some(vec!["10.0.0.0/33".into()]));
        }),
        ("to[0].domainNames", |policy| {
            let peer = &mut policy.spec.egress.as_mut().unwrap()[0].to[0];
            (peer.namespaces, peer.domain_names) = (None, Some(vec!["*".into()]));
        }),
        ("protocols[0].tcp", |policy| {
            let protocols = policy.spec.egress.as_mut().unwrap()[0].protocols.as_mut().unwrap();
            protocols[0].tcp = Some(Transport { destination_port: None });
        }),
        ("protocols[0].tcp", |policy| {
            let protocols = policy.spec.egress.as_mut().unwrap()[0].protocols.as_mut().unwrap();
            let port = protocols[0].tcp.as_mut().unwrap().destination_port.as_mut().unwrap();
            port.number = Some(65_536);
        }),
        ("protocols[0].tcp", |policy| {
            let protocols = policy.spec.egress.as_mut().unwrap()[0].protocols.as_mut().unwrap();
            let port = protocols[0].tcp.as_mut().unwrap().destination_port.as_mut().unwrap();
            port.number = Some(0);
        }),
        ("protocols[0]", |policy| {
            let protocols = policy.spec.egress.as_mut().unwrap()[0].protocols.as_mut().unwrap();
            protocols[0].destination_named_port = Some("http".into());
        }),
    ];
    for (field, change) in changes {
        let (tables, problems) = changed(change);
        assert_eq!(problems.len(), 1, "{field}: {problems:?}");
        assert!(problems[0].contains(&format!("spec.egress[0].{field}: ")), "{field}: {problems:?}");
        assert_eq!(told(&tables, tables.check(&question(&tables, FromPod, "a", B, 80))), "allow not isolated");
    }
}

#[test]
fn n16_a_policy_whose_subject_is_not_understood_is_refused() {
    let (tables, problems) = changed(|policy| policy.spec.subject = Subject::default());
    assert!(problems[0].contains("spec.subject: needs exactly one"), "{problems:?}");
    assert_eq!(told(&tables, tables.check(&question(&tables, FromPod, "a", B, 80))), "allow not isolated");
}
