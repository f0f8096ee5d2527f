//! Tiers, priorities, actions, subjects.

use super::*;

/// The names of `policies`, in their order.
fn names(tables: &Tables, policies: &[crate::tables::PolicyIndex]) -> Vec<String> {
    policies.iter().map(|index| tables.policy(*index).to_string()).collect()
}

#[test]
fn n17_the_admin_tier_is_final_and_comes_before_network_policies() {
    let isolating = policy("np", "{podSelector: {}, ingress: [{ports: [{port: 81}]}]}");
    let tables =
        tables(&(abc() + &isolating + &ingress("cnp", 5, &[from_all("Accept", 80), from_all("Deny", 81)].join(", "))));
    assert_eq!(b_to_a(&tables, 80), "allow cnp[0]");
    assert_eq!(b_to_a(&tables, 81), "deny cnp[1]");
    assert_eq!(b_to_a(&tables, 82), "deny isolated");
}

#[test]
fn n17_pass_skips_the_rest_of_the_tier_and_hands_over_to_the_next() {
    let passing = ingress("first", 1, &from_all("Pass", 80)) + &ingress("second", 2, &from_all("Deny", 80));
    let baseline =
        cnp("last", "Baseline", 1, &format!("subject: {{namespaces: {{}}}}, ingress: [{}]", from_all("Deny", 80)));
    let without = tables(&(abc() + &passing));
    assert_eq!(b_to_a(&without, 80), "allow not isolated");
    let with_baseline = tables(&(abc() + &passing + &baseline));
    assert_eq!(b_to_a(&with_baseline, 80), "deny last[0]");
    let accepting = tables(&(abc() + &passing + &baseline + &policy("np", "{podSelector: {}, ingress: [{}]}")));
    assert_eq!(b_to_a(&accepting, 80), "allow default/np[0]");
    let denying = tables(&(abc() + &passing + &policy("np", "{podSelector: {}}")));
    assert_eq!(b_to_a(&denying, 80), "deny isolated");
}

#[test]
fn n17_a_network_policy_is_final_for_the_pods_that_it_selects_and_the_baseline_is_for_the_others() {
    let baseline =
        cnp("base", "Baseline", 0, &format!("subject: {{namespaces: {{}}}}, ingress: [{}]", from_all("Deny", 80)));
    let np = policy("np", "{podSelector: {matchLabels: {app: b}}, ingress: [{ports: [{port: 80}]}]}");
    let tables = tables(&(abc() + &baseline + &np));
    assert_eq!(b_to_a(&tables, 80), "deny base[0]");
    assert_eq!(b_to_a(&tables, 81), "allow not isolated");
    assert_eq!(told(&tables, tables.check(&question(&tables, ToPod, "b", A, 80))), "allow default/np[0]");
    assert_eq!(told(&tables, tables.check(&question(&tables, ToPod, "b", A, 81))), "deny isolated");
}

#[test]
fn n17_pass_in_the_baseline_tier_allows() {
    let rules = [from_all("Pass", 80), from_all("Deny", 80)].join(", ");
    let tables =
        tables(&(abc() + &cnp("base", "Baseline", 0, &format!("subject: {{namespaces: {{}}}}, ingress: [{rules}]"))));
    assert_eq!(b_to_a(&tables, 80), "allow not isolated");
}

#[test]
fn n17_a_lower_priority_value_comes_first_then_the_name_then_the_position() {
    let by_value = ingress("z", 3, &from_all("Accept", 80)) + &ingress("a", 4, &from_all("Deny", 80));
    assert_eq!(b_to_a(&tables(&(abc() + &by_value)), 80), "allow z[0]");
    let by_name = ingress("z", 4, &from_all("Accept", 80)) + &ingress("a", 4, &from_all("Deny", 80));
    assert_eq!(b_to_a(&tables(&(abc() + &by_name)), 80), "deny a[0]");
    let by_position = ingress("a", 4, &[from_all("Accept", 80), from_all("Deny", 80)].join(", "));
    assert_eq!(b_to_a(&tables(&(abc() + &by_position)), 80), "allow a[0]");
    let bounds = ingress("z", 0, &from_all("Accept", 80)) + &ingress("a", 1000, &from_all("Deny", 80));
    assert_eq!(b_to_a(&tables(&(abc() + &bounds)), 80), "allow z[0]");
}

#[test]
fn n17_each_of_25_rules_has_its_turn() {
    let rules: Vec<String> =
        (0..25).map(|rule| from_all(if rule % 2 == 0 { "Accept" } else { "Deny" }, 1000 + rule)).collect();
    let tables = tables(&(abc() + &ingress("cnp", 0, &rules.join(", "))));
    for rule in 0..25u16 {
        let word = if rule % 2 == 0 { "allow" } else { "deny" };
        assert_eq!(b_to_a(&tables, 1000 + rule), format!("{word} cnp[{rule}]"));
    }
    assert_eq!(b_to_a(&tables, 1025), "allow not isolated");
}

#[test]
fn n17_a_policy_without_rules_of_a_direction_does_not_affect_it() {
    let tables = tables(&(abc() + &ingress("cnp", 0, "{action: Deny, from: [{namespaces: {}}]}")));
    assert!(!tcp(&tables, ToPod, "a", B, 80));
    assert!(tcp(&tables, FromPod, "a", B, 80));
    let a = tables.find_pod("default", "a").expect("a");
    assert_eq!(names(&tables, &tables.selecting(ToPod, a)), ["cnp"]);
    assert_eq!(tables.selecting(FromPod, a), []);
    assert_eq!(tables.isolating(ToPod, a), [], "it does not isolate: what no rule matches is open");
}

#[test]
fn n17_the_subject_is_all_pods_of_matching_namespaces_or_matching_pods_in_them() {
    let deny = "ingress: [{action: Deny, from: [{namespaces: {}}]}]";
    let denied = |subject: &str| {
        let tables = tables(&(abc() + &cnp("cnp", "Admin", 0, &format!("subject: {subject}, {deny}"))));
        let open = |pod: &str, peer: &str| tcp(&tables, ToPod, pod, peer, 80);
        ["a", "b", "other/c"].into_iter().filter(|pod| !open(pod, if *pod == "a" { B } else { A })).collect::<Vec<_>>()
    };
    assert_eq!(denied("{namespaces: {}}"), ["a", "b", "other/c"]);
    assert_eq!(denied("{namespaces: {matchLabels: {team: red}}}"), ["other/c"]);
    assert_eq!(denied("{namespaces: {matchLabels: {kubernetes.io/metadata.name: default}}}"), ["a", "b"]);
    assert_eq!(denied("{namespaces: {matchLabels: {team: blue}}}"), [""; 0]);
    assert_eq!(denied("{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: a}}}}"), ["a"]);
    assert_eq!(denied("{pods: {namespaceSelector: {matchLabels: {team: red}}, podSelector: {}}}"), ["other/c"]);
    assert_eq!(
        denied("{pods: {namespaceSelector: {matchLabels: {team: red}}, podSelector: {matchLabels: {app: a}}}}"),
        [""; 0]
    );
}

#[test]
fn n17_a_pod_of_the_host_network_is_no_subject() {
    let host = crate::compile::tests::pod("h", "app: h", "node2", &["172.30.0.12"]);
    let host = host.replace("nodeName:", "hostNetwork: true, nodeName:");
    let deny = ingress("cnp", 0, "{action: Deny, from: [{namespaces: {}}]}");
    let tables = tables(&(abc() + &host + &deny));
    assert_eq!(told(&tables, tables.check(&question(&tables, ToPod, "h", A, 80))), "allow not isolated");
    assert_eq!(tables.selecting(ToPod, tables.find_pod("default", "h").expect("h")), []);
}

#[test]
fn n10_n12_own_node_and_the_pod_itself_come_before_the_admin_tier() {
    let tables = tables(
        &(abc()
            + &ingress("cnp", 0, "{action: Deny, from: [{namespaces: {}}]}")
            + &egress("out", 0, "{action: Deny, to: [{networks: [0.0.0.0/0]}]}")),
    );
    for (direction, peer) in [(ToPod, A), (ToPod, "172.30.0.11"), (ToPod, "10.244.1.1"), (FromPod, A)] {
        assert_eq!(told(&tables, tables.check(&question(&tables, direction, "a", peer, 80))), "allow exempt", "{peer}");
    }
    assert_eq!(told(&tables, tables.check(&question(&tables, FromPod, "a", "172.30.0.11", 80))), "deny out[0]");
}

#[test]
fn policies_stand_in_order_of_evaluation_and_are_found_by_a_number_that_stays() {
    use crate::objects::Kind;
    use crate::tables::PolicyId;
    let rule = from_all("Deny", 80);
    let base = cnp("a", "Baseline", 0, &format!("subject: {{namespaces: {{}}}}, ingress: [{rule}]"));
    let yaml = base
        + &policy("other/x", "{podSelector: {}}")
        + &policy("x", "{podSelector: {}}")
        + &ingress("c", 9, &rule)
        + &ingress("b", 10, &rule);
    let tables = tables(&(abc() + &yaml));
    let all: Vec<String> = tables.policies.iter().map(ToString::to_string).collect();
    assert_eq!(all, ["c", "b", "default/x", "other/x", "a"]);
    let tiers: Vec<Tier> = tables.policies.iter().map(|entry| entry.tier).collect();
    assert_eq!(tiers, [Tier::Admin, Tier::Admin, Tier::NetworkPolicy, Tier::NetworkPolicy, Tier::Baseline]);
    let a = tables.find_pod("default", "a").expect("a");
    assert_eq!(names(&tables, &tables.selecting(ToPod, a)), ["c", "b", "default/x", "a"]);
    assert_eq!(names(&tables, tables.isolating(ToPod, a)), ["default/x"]);
    for (index, entry) in tables.policies.iter().enumerate() {
        assert_eq!(tables.find_policy(entry.id).map(|found| found.0 as usize), Some(index));
    }
    assert_eq!(tables.policies[3].id, PolicyId::of(Kind::NetworkPolicy, "other", "x"));
    assert_eq!(tables.policies[4].id, PolicyId::of(Kind::ClusterNetworkPolicy, "", "a"));
    assert_eq!(tables.find_policy(PolicyId::of(Kind::NetworkPolicy, "", "a")), None);
    // Counters are kept under these numbers, and nodes of two versions compare them.
    assert_eq!(PolicyId::of(Kind::NetworkPolicy, "default", "x").0, 6_071_639_455_791_570_361);
}

#[test]
fn a_trace_tells_what_each_tier_had_to_say() {
    let isolating = policy("np", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}");
    let base =
        cnp("base", "Baseline", 0, &format!("subject: {{namespaces: {{}}}}, ingress: [{}]", from_all("Deny", 82)));
    let tables = tables(
        &(abc() + &isolating + &base + &ingress("cnp", 5, &[from_all("Pass", 80), from_all("Deny", 81)].join(", "))),
    );
    let steps = |pod: &str, peer: &str, port| {
        let trace = tables.trace(&question(&tables, ToPod, pod, peer, port), false);
        assert_eq!(trace.verdict, tables.check(&question(&tables, ToPod, pod, peer, port)));
        let text = |(rule, action): (crate::tables::RuleRef, Action)| {
            format!("{}[{}] {action:?}", tables.policy(rule.policy), rule.index)
        };
        trace.tiers.into_iter().map(|step| (step.tier, step.matched.map(text).unwrap_or_default())).collect::<Vec<_>>()
    };
    let (admin, np) = (Tier::Admin, Tier::NetworkPolicy);
    assert_eq!(steps("a", B, 80), [(admin, "cnp[0] Pass".into()), (np, "default/np[0] Accept".into())]);
    assert_eq!(steps("a", B, 81), [(admin, "cnp[1] Deny".into())]);
    assert_eq!(steps("a", B, 82), [(admin, String::new()), (np, String::new())]);
    assert_eq!(steps("a", A, 82), [], "exempt");
}

#[test]
fn a_wide_policy_does_not_multiply_the_sets_of_narrow_ones() {
    let narrow: String = (0..3)
        .map(|pod| policy(&format!("np{pod}"), &format!("{{podSelector: {{matchLabels: {{app: '{pod}'}}}}}}")))
        .collect();
    let pods: String = (0..3u8)
        .map(|pod| {
            crate::compile::tests::pod(
                &format!("p{pod}"),
                &format!("app: '{pod}'"),
                "node1",
                &[&format!("10.244.1.{}", 10 + pod)],
            )
        })
        .collect();
    let tables = tables(&(pods + &narrow + &ingress("cnp", 0, &from_all("Deny", 80))));
    assert_eq!(tables.rules.sets.len(), 4, "one of the Admin tier, three of the NetworkPolicies");
}
