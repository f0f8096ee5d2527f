//! What is told of policies: both ends, tiers, every step, places of every kind.

use super::*;

/// A ClusterNetworkPolicy for the pods of namespace shop.
fn cluster_policy(name: &str, tier: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: \
         {tier}, priority: 10, subject: {{namespaces: {{}}}}, {rules}}}\n"
    )
}

/// A pod on node1 that shares its network.
const HOST_POD: &str = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: agent, namespace: shop, labels: {app: agent}}\nspec: {nodeName: \
                        node1, hostNetwork: true, containers: [{name: c, image: i}]}\nstatus: {podIPs: [{ip: 172.30.0.11}]}\n";

/// Isolates all pods of the namespace in both directions.
const NOTHING: &str = "{podSelector: {}, policyTypes: [Ingress, Egress]}";

fn stages(told: &Explanation) -> Vec<(&str, &str)> {
    told.steps.iter().map(|step| (step.stage, step.decision.as_str())).collect()
}

#[track_caller]
fn why<'a>(told: &'a Explanation, stage: &str) -> &'a str {
    let step = told.steps.iter().find(|step| step.stage == stage);
    &step.unwrap_or_else(|| panic!("no {stage}: {:#?}", told.steps)).why
}

#[test]
fn every_step_of_a_delivery_is_told_in_order() {
    let allow = policy("{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}");
    let objects = format!(
        "{}{allow}",
        service("{clusterIP: 10.96.0.80, selector: {on: node2}, ports: [{port: 80, targetPort: http}]}")
    );
    let told = check(&objects, "shop/client", "web:80", Delivered, &["far"]);
    assert_eq!(
        stages(&told),
        [
            ("name", "web.shop.svc.cluster.local is 10.96.0.80"),
            ("enter", "accepted"),
            ("service", "10.244.2.3:8080"),
            ("egress-policy", "allow"),
            ("route", "to node2"),
            ("tunnel", "encapsulated"),
            ("route", "to the port of shop/far"),
            ("ingress-policy", "allow"),
            ("deliver", "delivered"),
        ]
    );
    assert_eq!(why(&told, "egress-policy"), "shop/client is selected by shop/p: shop/p spec.egress[0]");
    assert_eq!(why(&told, "ingress-policy"), "shop/far is selected by shop/p: shop/p spec.ingress[0]");
}

#[test]
fn a_denial_at_the_far_end_is_told_after_the_tunnel() {
    let two = format!(
        "{}{}",
        policy("{podSelector: {matchLabels: {on: node2}}}"),
        policy("{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}, {ports: [{port: 81}]}]}")
            .replace("name: p,", "name: q,")
    );
    let told = check(&two, "shop/client", "shop/far:8080", Denied, &[]);
    let expected = ["enter", "egress-policy", "route", "tunnel", "ingress-policy", "drop"];
    assert_eq!(stages(&told).iter().map(|(stage, _)| *stage).collect::<Vec<_>>(), expected);
    let nearest = "shop/q spec.ingress[0].ports: TCP 8080 is not in [TCP 80]";
    assert_eq!(
        why(&told, "ingress-policy"),
        format!(
            "shop/far is selected by shop/p, shop/q: {nearest} (the nearest of its 2 rules); shop/p spec.ingress: there is no rule, so \
             nothing is allowed"
        )
    );
    assert_eq!(
        told.reason,
        format!("ingress policy of shop/far denies it (dropped, not refused): {nearest}; nor does shop/p allow it")
    );
    assert_eq!(told.steps.last().unwrap().place, "node2");
    assert_eq!(told.ingress.unmatched.len(), 2);
}

#[test]
fn tiers_are_told_up_to_the_one_that_decides() {
    let guard = cluster_policy(
        "guard",
        "Admin",
        "egress: [{name: inside, action: Pass, to: [{namespaces: {}}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]",
    );
    let both = format!(
        "{guard}{}",
        policy("{podSelector: {matchLabels: {app: client}}, policyTypes: [Egress], egress: [{}]}")
    );
    let told = check(&both, "shop/client", "shop/far:8080", Delivered, &[]);
    assert_eq!(
        why(&told, "egress-policy"),
        "shop/client is selected by guard, shop/p: guard spec.egress[0] \"inside\" (Admin tier, Pass); shop/p spec.egress[0] \
         (NetworkPolicy tier)"
    );
    let decisions: Vec<_> = told.egress.tiers.iter().map(|tier| (tier.tier, tier.decision)).collect();
    assert_eq!(decisions, [("Admin", "pass"), ("NetworkPolicy", "accept")]);
    let told = check(&both, "shop/client", "203.0.113.9:443", Denied, &[]);
    let rule = "guard spec.egress[1] (Admin tier, Deny)";
    assert_eq!(told.reason, format!("egress policy of shop/client denies it (dropped, not refused): {rule}"));
    assert_eq!(stages(&told).last(), Some(&("drop", "denied")));
    // A ClusterNetworkPolicy does not isolate.
    let told = check(&guard, "shop/client", "shop/far:8080", Delivered, &[]);
    assert_eq!((told.egress.isolated, told.egress.rule, told.egress.policies), (false, None, vec!["guard".to_owned()]));
}

#[test]
fn names_that_nobody_looked_up_are_told() {
    let rules = "egress: [{name: apis, action: Accept, to: [{domainNames: ['*.example.com']}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}]";
    let told = check(&cluster_policy("lockdown", "Admin", rules), "shop/client", "203.0.113.9:443", Denied, &[]);
    let wanted = "lockdown spec.egress[0] \"apis\" (Admin tier, Accept) would accept it if the pod had resolved *.example.com to \
                  203.0.113.9: none of these names is known to lead there";
    assert_eq!(told.egress.unmatched, [wanted]);
    assert!(told.reason.ends_with(wanted) && why(&told, "egress-policy").ends_with(wanted), "{}", told.reason);
}

#[test]
fn what_a_dry_run_would_change_is_told_and_changes_nothing() {
    let tried = policy("{podSelector: {matchLabels: {on: node2}}}")
        .replace("{name: p,", "{name: tried, annotations: {podplane.io/dry-run: 'true'},");
    let told = check(&tried, "shop/client", "shop/far:8080", Delivered, &[]);
    let rule = "shop/tried spec.ingress: there is no rule, so nothing is allowed";
    assert_eq!(
        told.reason,
        format!(
            "shop/far gets it at 10.244.2.3:8080; ingress policy of shop/far would deny it with the dry-run policies in force: {rule}"
        )
    );
    assert_eq!(
        why(&told, "ingress-policy"),
        format!(
            "no policy selects shop/far in this direction; with the policies in dry run it would be denied: {rule}"
        )
    );
    assert_eq!(told.ingress.dry_run.unwrap().verdict, "deny");
    assert_eq!(told.egress.dry_run, None);
}

#[test]
fn a_pod_of_the_host_network_is_its_node() {
    let objects = format!("{HOST_POD}{}", policy(NOTHING));
    // Its own node's pods are reached whatever policies say (N10), those of other nodes by the node's address.
    let told = check(&objects, "shop/agent", "shop/near:8080", Delivered, &[]);
    assert_eq!(told.ingress.rule.as_deref(), Some("a node always reaches its own pods"));
    let told = check(&objects, "shop/agent", "shop/far:8080", Denied, &[]);
    assert_eq!((told.egress.verdict, told.egress.isolated), ("allow", false));
    assert!(why(&told, "enter").starts_with("shop/agent shares the network of node1 and is node1 to policies"));
    // No policy selects it, whatever its labels.
    let told = check(&objects, "node:node2", "shop/agent:80", Delivered, &[]);
    assert!(told.ingress.policies.is_empty());
    let told = check(&objects, "shop/client", "shop/agent:80", Denied, &[]);
    assert_eq!((told.egress.verdict, told.ingress.policies.len()), ("deny", 0));
    // ipBlock is what names it.
    let block = policy("{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 172.30.0.11/32}}]}]}");
    check(&format!("{HOST_POD}{block}"), "shop/client", "shop/agent:80", Delivered, &[]);
    let by_label = policy(
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: agent}}}]}]}",
    );
    check(&format!("{HOST_POD}{by_label}"), "shop/client", "shop/agent:80", Denied, &[]);
}

#[test]
fn both_ends_of_every_kind_of_place_are_judged() {
    let closed = format!("{}{}", node_port("{app: web}", ""), policy(NOTHING));
    for (from, to, outcome) in [
        ("shop/client", "shop/near:8080", Denied),
        ("shop/client", "node1:22", Denied),
        ("shop/client", "172.30.0.12:22", Denied),
        ("shop/client", "203.0.113.9:443", Denied),
        ("shop/client", "world:80", Denied),
        ("shop/client", "172.30.0.12:30080", Denied),
        ("node:node1", "shop/near:8080", Delivered),
        ("node:node2", "shop/near:8080", Denied),
        ("node:node1", "node2:22", Delivered),
        ("world", "172.30.0.11:30080", Denied),
        ("world", "node1:22", Delivered),
        ("world", "shop/near:8080", Dropped),
        ("203.0.113.9", "shop/near:8080", Dropped),
        ("10.244.1.77", "shop/near:8080", Denied),
        ("world", "203.0.113.9:443", External),
    ] {
        let told = asked(&closed, from, to);
        assert_eq!(told.outcome, outcome, "{from} -> {to}: {}", told.reason);
        let has = |stage: &str| told.steps.iter().any(|step| step.stage == stage);
        let denied_here = [("egress-policy", &told.egress), ("ingress-policy", &told.ingress)];
        let denies = denied_here.iter().any(|(stage, side)| side.is_denied() && has(stage));
        assert_eq!(denies, outcome == Denied, "{from} -> {to}: {:#?}", told.steps);
        assert_eq!(told.reason.contains("denies it (dropped, not refused)"), outcome == Denied, "{}", told.reason);
    }
    // ICMP is matched by rules without ports alone.
    let icmp = Ask { protocol: Some(ProbeProtocol::Icmp), ..Ask::default() };
    let with_ports = policy("{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}");
    let told = try_ask(&with_ports, "shop/client", "shop/far", &icmp).unwrap();
    assert_eq!(told.outcome, Denied);
    assert_eq!(
        told.ingress.rule.as_deref(),
        Some("shop/p spec.ingress[0].ports: ICMP, which has no ports, is not in [TCP 8080]")
    );
    let without = policy("{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {}}]}]}");
    assert_eq!(try_ask(&without, "shop/client", "shop/far", &icmp).unwrap().outcome, Delivered);
}
