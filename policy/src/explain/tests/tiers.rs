//! Sentences about several policies: all that isolate, tiers, dry run, DNS names.

use super::super::*;
use super::{CLUSTER, compile_all};
use crate::cluster::Cluster;
use crate::objects::{Problem, Severity, parse};
use std::sync::Arc;
use wire::Protocol;

/// A NetworkPolicy in namespace shop.
fn namespaced(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {spec}\n"
    )
}

/// The same, in dry run.
fn in_dry_run(policy: &str) -> String {
    policy.replace("metadata: {", "metadata: {annotations: {podplane.io/dry-run: 'true'}, ")
}

/// A ClusterNetworkPolicy for all pods of namespace shop; `rules` are its fields `ingress` and `egress`.
fn cluster(name: &str, tier: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: \
         {tier}, priority: 10, subject: {{namespaces: {{matchLabels: {{kubernetes.io/metadata.name: shop}}}}}}, {rules}}}\n"
    )
}

struct Bench {
    tables: Tables,
}

impl Bench {
    #[track_caller]
    fn new(policies: &[String]) -> Bench {
        let parsed = parse("test.yaml", &format!("{CLUSTER}{}", policies.concat()));
        let refused = parsed.problems.iter().filter(|problem| problem.severity > Severity::Closed);
        assert_eq!(refused.collect::<Vec<_>>(), Vec::<&Problem>::new());
        let (cluster, problems) = Cluster::from_objects(parsed.objects);
        assert_eq!(problems, vec![]);
        Bench { tables: compile_all(&cluster) }
    }

    fn question(&self, direction: Direction, peer: &str, protocol: Protocol, port: u16) -> Question<'static> {
        let subject = self.tables.find_pod("shop", "db").unwrap();
        Question { direction, subject, peer: peer.parse().unwrap(), protocol, port, names: &[] }
    }

    /// What comes from shop/web to shop/db.
    fn ingress(&self, port: u16) -> Question<'static> {
        self.question(Direction::ToPod, "10.244.1.3", Protocol::TCP, port)
    }

    fn judge(&self, question: &Question<'_>) -> Reasoned {
        judge(&self.tables, question)
    }
}

fn tiers(reasoned: &Reasoned) -> Vec<(Tier, &'static str, &str)> {
    let told = |tier: &'_ TierReason| (tier.tier, tier.decision.as_str());
    reasoned.tiers.iter().map(|tier| (told(tier).0, told(tier).1, tier.rule.as_deref().unwrap_or(""))).collect()
}

#[test]
fn every_policy_that_isolates_is_told_with_its_nearest_rule() {
    let bench = Bench::new(&[
        namespaced("a", "{podSelector: {}}"),
        namespaced(
            "b",
            "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 81}]}, {ports: [{port: 80}]}]}",
        ),
        namespaced("c", "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: api}}}]}]}"),
        namespaced("of-others", "{podSelector: {matchLabels: {app: web}}}"),
    ]);
    let reasoned = bench.judge(&bench.ingress(5432));
    assert_eq!((reasoned.allowed, reasoned.isolated), (false, true));
    assert_eq!(reasoned.policies, ["shop/a", "shop/b", "shop/c"]);
    let nearest = "shop/b spec.ingress[1].ports: TCP 5432 is not in [TCP 80]";
    assert_eq!(reasoned.rule.as_deref(), Some(nearest));
    assert_eq!(tiers(&reasoned), [(Tier::NetworkPolicy, "deny", nearest)]);
    assert_eq!(
        reasoned.unmatched,
        [
            "shop/b spec.ingress[1].ports: TCP 5432 is not in [TCP 80] (the nearest of its 2 rules)",
            "shop/c spec.ingress[0].from: shop/web (app=web, 10.244.1.3) is not in [pods with app=api in namespace shop]",
            "shop/a spec.ingress: there is no rule, so nothing is allowed",
        ]
    );
    assert_eq!(
        denial_text(&bench.tables, &bench.ingress(5432)),
        format!(
            "ingress policy of shop/db denies it (dropped, not refused): {nearest}; nor do shop/a, shop/c allow it"
        )
    );
}

#[test]
fn a_long_list_of_policies_has_an_end() {
    let policies: Vec<String> = (10..60).map(|number| namespaced(&format!("p{number}"), "{podSelector: {}}")).collect();
    let bench = Bench::new(&policies);
    let reasoned = bench.judge(&bench.ingress(80));
    assert_eq!((reasoned.policies.len(), reasoned.unmatched.len()), (50, UNMATCHED_MAX));
    assert_eq!(reasoned.unmatched.last().unwrap(), "and 43 more");
    let text = denial_text(&bench.tables, &bench.ingress(80));
    assert!(
        text.ends_with("; nor do shop/p11, shop/p12, shop/p13, shop/p14, shop/p15, shop/p16 and 43 more allow it"),
        "{text}"
    );
}

#[test]
fn labels_that_a_rule_asks_for_come_first_and_those_of_the_namespace_are_told() {
    let spec = "{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}, matchExpressions: [{key: env, operator: \
                Exists}]}, podSelector: {matchLabels: {zz: b}}}]}]}";
    let many = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: crowd, labels: {team: x}}\n---\napiVersion: v1\nkind: Pod\nmetadata: \
                {name: many, namespace: crowd, labels: {a: '1', b: '2', c: '3', d: '4', e: '5', f: '6', zz: last}}\nspec: {nodeName: node1, \
                containers: [{name: c}]}\nstatus: {podIPs: [{ip: 10.244.1.9}]}\n";
    let bench = Bench::new(&[namespaced("p", spec), many.to_owned()]);
    let question = bench.question(Direction::ToPod, "10.244.1.9", Protocol::TCP, 80);
    assert_eq!(
        bench.judge(&question).rule.unwrap(),
        "shop/p spec.ingress[0].from: crowd/many (zz=last, a=1, b=2, c=3, d=4, e=5 and 1 more, namespace with no env, team=x, \
         10.244.1.9) is not in [pods with zz=b in namespaces with team=a, env]"
    );
}

#[test]
fn a_closed_rule_is_named() {
    let closed = namespaced(
        "p",
        "{podSelector: {}, ingress: [{from: [{podSelector: {}}], sources: []}, {ports: [{port: 1}], nothing: 1}]}",
    );
    let bench = Bench::new(&[closed]);
    let reasoned = bench.judge(&bench.ingress(80));
    assert_eq!(
        reasoned.rule.unwrap(),
        "shop/p spec.ingress[0]: is closed because of a field that is not understood: podplane check names it"
    );
}

const RULES: &str = "ingress: [{name: no telnet, action: Deny, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 23}}}]}, \
                     {action: Pass, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}], protocols: [{tcp: \
                     {destinationPort: {range: {start: 80, end: 90}}}}]}, {name: the rest, action: Accept, from: [{namespaces: {}}], protocols: \
                     [{destinationNamedPort: sql}]}]";

#[test]
fn a_tier_that_decides_is_the_last_one_told() {
    let bench = Bench::new(&[cluster("guard", "Admin", RULES), namespaced("p", "{podSelector: {}}")]);
    let denied = bench.judge(&bench.ingress(23));
    let rule = "guard spec.ingress[0] \"no telnet\" (Admin tier, Deny)";
    assert_eq!((denied.allowed, denied.rule.as_deref()), (false, Some(rule)));
    assert_eq!(denied.policies, ["guard", "shop/p"]);
    assert_eq!(tiers(&denied), [(Tier::Admin, "deny", rule)]);
    assert!(denied.unmatched.is_empty());
    assert_eq!(
        denial_text(&bench.tables, &bench.ingress(23)),
        format!("ingress policy of shop/db denies it (dropped, not refused): {rule}")
    );
    let accepted = bench.judge(&bench.ingress(5432));
    let rule = "guard spec.ingress[2] \"the rest\" (Admin tier, Accept)";
    assert_eq!((accepted.allowed, accepted.isolated, accepted.rule.as_deref()), (true, true, Some(rule)));
    assert_eq!(tiers(&accepted), [(Tier::Admin, "accept", rule)]);
    assert_eq!(
        denial_text(&bench.tables, &bench.ingress(5432)),
        format!("ingress policy of shop/db allows it: {rule}")
    );
}

#[test]
fn what_passes_and_what_no_rule_of_a_tier_matches_is_told_too() {
    let baseline = "ingress: [{action: Deny, from: [{namespaces: {}}]}]";
    let bench = Bench::new(&[cluster("guard", "Admin", RULES), cluster("base", "Baseline", baseline)]);
    let passed = bench.judge(&bench.ingress(85));
    let denial = "base spec.ingress[0] (Baseline tier, Deny)";
    assert_eq!(
        tiers(&passed),
        [(Tier::Admin, "pass", "guard spec.ingress[1] (Admin tier, Pass)"), (Tier::Baseline, "deny", denial)]
    );
    assert_eq!((passed.allowed, passed.isolated, passed.rule.as_deref()), (false, false, Some(denial)));
    let unmatched = bench.judge(&bench.ingress(443));
    let nearest = "guard spec.ingress[0].protocols: TCP 443 is not in [TCP 23]";
    assert_eq!(tiers(&unmatched), [(Tier::Admin, "none", nearest), (Tier::Baseline, "deny", denial)]);

    // NetworkPolicies decide for the pods that they select, and the baseline is not asked.
    let bench = Bench::new(&[
        cluster("guard", "Admin", RULES),
        cluster("base", "Baseline", baseline),
        namespaced("p", "{podSelector: {}, ingress: [{ports: [{port: 443}]}]}"),
    ]);
    let accepted = bench.judge(&bench.ingress(443));
    let rule = "shop/p spec.ingress[0]";
    assert_eq!(tiers(&accepted), [(Tier::Admin, "none", nearest), (Tier::NetworkPolicy, "accept", rule)]);
    assert_eq!(accepted.rule.as_deref(), Some(rule));
    let denied = bench.judge(&bench.ingress(85));
    let nearest = "shop/p spec.ingress[0].ports: TCP 85 is not in [TCP 443]";
    assert_eq!(
        tiers(&denied),
        [(Tier::Admin, "pass", "guard spec.ingress[1] (Admin tier, Pass)"), (Tier::NetworkPolicy, "deny", nearest)]
    );
    assert_eq!(denied.unmatched, [nearest]);
    assert!(
        denial_text(&bench.tables, &bench.ingress(85)).ends_with(nearest),
        "ClusterNetworkPolicies do not allow by isolating"
    );
}

#[test]
fn what_allows_without_a_rule_has_no_rule() {
    let bench = Bench::new(&[cluster("guard", "Admin", RULES)]);
    let allowed = bench.judge(&bench.ingress(443));
    assert_eq!((allowed.allowed, allowed.isolated, allowed.rule.clone()), (true, false, None));
    assert_eq!(allowed.policies, ["guard"]);
    assert_eq!(tiers(&allowed)[0].1, "none");
}

#[test]
fn a_closed_deny_says_that_it_denies_everything() {
    let rules = "ingress: [{action: Deny, from: [{namespaces: {}}], when: never}]";
    let bench = Bench::new(&[cluster("guard", "Admin", rules)]);
    assert_eq!(
        bench.judge(&bench.ingress(80)).rule.unwrap(),
        "guard spec.ingress[0] (Admin tier, Deny; closed, so it denies everything: podplane check names the field that is not understood)"
    );
}

#[test]
fn all_kinds_of_peers_and_ports_have_words() {
    let rule = |to: &str, protocols: &str| {
        let rule = format!("egress: [{{action: Deny, to: [{to}], protocols: [{protocols}]}}]");
        Bench::new(&[cluster("guard", "Admin", &rule)])
    };
    let nearest = |bench: &Bench, peer, protocol, port| {
        let reasoned = bench.judge(&bench.question(Direction::FromPod, peer, protocol, port));
        tiers(&reasoned)[0].2.to_owned()
    };
    let bench = rule(
        "{networks: [192.0.2.0/24, 'fd00::/8']}, {nodes: {matchLabels: {role: infra}}}, {nodes: {}}",
        "{udp: {destinationPort: {number: 53}}}, {sctp: {destinationPort: {range: {start: 7, end: 9}}}}",
    );
    assert_eq!(
        nearest(&bench, "203.0.113.9", Protocol::ICMP, 0),
        "guard spec.egress[0].to: 203.0.113.9, an address of no pod or node, is not in [networks 192.0.2.0/24, fd00::/8, nodes with \
         role=infra, all nodes]; .protocols: ICMP, which has no ports, is not in [UDP 53, SCTP 7-9]"
    );
    let bench = rule(
        "{namespaces: {matchLabels: {team: a}}}, {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: x}}}}",
        "{destinationNamedPort: sql}",
    );
    assert_eq!(
        nearest(&bench, "172.30.0.11", Protocol::UDP, 53),
        "guard spec.egress[0].to: node node1 (172.30.0.11) is not in [all pods in namespaces with team=a, pods with app=x in namespaces \
         with any labels]; .protocols: UDP 53 is not in [sql (no port of the receiver)]"
    );
    // The receiver has the port, and for ingress that is the pod itself.
    let rule = "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{destinationNamedPort: sql}]}]";
    let bench = Bench::new(&[cluster("guard", "Admin", rule)]);
    let told = bench.judge(&bench.ingress(80));
    assert_eq!(tiers(&told)[0].2, "guard spec.ingress[0].protocols: TCP 80 is not in [sql (TCP 5432)]");
}

#[test]
fn a_dry_run_is_told_beside_the_verdict() {
    let deny = "ingress: [{name: soon, action: Deny, from: [{namespaces: {}}]}]";
    let bench = Bench::new(&[in_dry_run(&cluster("guard", "Admin", deny))]);
    let reasoned = bench.judge(&bench.ingress(80));
    assert_eq!((reasoned.allowed, reasoned.policies.len(), reasoned.tiers.len()), (true, 0, 0));
    let rule = "guard spec.ingress[0] \"soon\" (Admin tier, Deny)".to_owned();
    assert_eq!(reasoned.dry_run, Some(Rehearsed { allowed: false, rule: Some(rule.clone()) }));
    assert_eq!(
        would_deny_text(&bench.tables, &bench.ingress(80)).unwrap(),
        format!("ingress policy of shop/db would deny it with the dry-run policies in force: {rule}")
    );
    // By default, and not at all.
    let closed = in_dry_run(&namespaced("p", "{podSelector: {}, ingress: [{ports: [{port: 80}]}]}"));
    let bench = Bench::new(&[closed]);
    let expected = "shop/p spec.ingress[0].ports: TCP 81 is not in [TCP 80]";
    assert_eq!(bench.judge(&bench.ingress(81)).dry_run.unwrap().rule.as_deref(), Some(expected));
    assert_eq!(bench.judge(&bench.ingress(80)).dry_run.map(|dry_run| dry_run.allowed), Some(true));
    assert_eq!(would_deny_text(&bench.tables, &bench.ingress(80)), None);
    // A dry run of what would allow more.
    let accept = "ingress: [{action: Accept, from: [{namespaces: {}}]}]";
    let bench = Bench::new(&[in_dry_run(&cluster("guard", "Admin", accept)), namespaced("p", "{podSelector: {}}")]);
    let reasoned = bench.judge(&bench.ingress(80));
    assert_eq!((reasoned.allowed, reasoned.dry_run.map(|dry_run| dry_run.allowed)), (false, Some(true)));
    assert_eq!(would_deny_text(&bench.tables, &bench.ingress(80)), None);
    // None that concerns it.
    let bench = Bench::new(&[namespaced("p", "{podSelector: {}}")]);
    assert_eq!(bench.judge(&bench.ingress(80)).dry_run, None);
}

#[test]
fn names_that_would_have_done_are_told() {
    let rules = "egress: [{action: Pass, to: [{networks: [192.0.2.0/24]}]}, {name: apis, action: Accept, to: [{domainNames: [example.com, \
                 '*.example.org']}], protocols: [{tcp: {destinationPort: {number: 443}}}]}, {action: Deny, to: [{networks: [0.0.0.0/0]}]}, \
                 {action: Accept, to: [{domainNames: [too.late]}]}]";
    let bench = Bench::new(&[cluster("lockdown", "Admin", rules)]);
    let question = bench.question(Direction::FromPod, "203.0.113.9", Protocol::TCP, 443);
    let wanted = "lockdown spec.egress[1] \"apis\" (Admin tier, Accept) would accept it if the pod had resolved example.com, \
                  *.example.org to 203.0.113.9: ";
    let denied = bench.judge(&question);
    assert_eq!(denied.unmatched, [format!("{wanted}none of these names is known to lead there")]);
    assert_eq!(
        denial_text(&bench.tables, &question),
        format!(
            "egress policy of shop/db denies it (dropped, not refused): lockdown spec.egress[2] (Admin tier, Deny); {}",
            denied.unmatched[0]
        )
    );
    let other: [Arc<str>; 1] = ["example.net".into()];
    let denied = bench.judge(&Question { names: &other, ..question });
    assert_eq!(denied.unmatched, [format!("{wanted}it has only resolved example.net")]);
    let names: [Arc<str>; 1] = ["www.example.org".into()];
    let allowed = bench.judge(&Question { names: &names, ..question });
    assert_eq!(allowed.rule.as_deref(), Some("lockdown spec.egress[1] \"apis\" (Admin tier, Accept)"));
    // On another port no name would help, and what is let past the tier does not meet the rule.
    for (peer, port) in [("203.0.113.9", 80), ("192.0.2.9", 443)] {
        let question = bench.question(Direction::FromPod, peer, Protocol::TCP, port);
        assert!(bench.judge(&question).unmatched.is_empty(), "{peer}:{port}");
    }
    // Also where NetworkPolicies deny what the tier left open.
    let rules = rules.replace(", {action: Deny, to: [{networks: [0.0.0.0/0]}]}", "");
    let isolated = namespaced("p", "{podSelector: {}, policyTypes: [Egress]}");
    let bench = Bench::new(&[cluster("lockdown", "Admin", &rules), isolated]);
    let denied = bench.judge(&bench.question(Direction::FromPod, "203.0.113.9", Protocol::TCP, 443));
    assert_eq!(denied.unmatched.len(), 3, "{:?}", denied.unmatched);
    assert_eq!(denied.unmatched[0], "shop/p spec.egress: there is no rule, so nothing is allowed");
    assert!(denied.unmatched[1].starts_with(wanted) && denied.unmatched[2].contains("too.late"));
}
