//! ClusterNetworkPolicies of the Admin and Baseline tier around NetworkPolicies: the scenarios of the API's conformance suite (rules in
//! order, priorities, every protocol, Pass down the tiers, addresses, nodes), by real connections over IPv4 and IPv6.

mod support;

use support::policies::{Case, PORTS, cluster_policy, cluster_without, judge, judge_all, policy};
use support::{Lab, labs_can_run};

/// Who is not needed: two pods each of x and y are left, and one of z.
const ABSENT: [&str; 4] = ["x/c", "y/c", "z/a", "z/c"];

const DENY_ALL: &str = "{podSelector: {}, policyTypes: [Ingress, Egress]}";
const ALLOW_ALL: &str = "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{}], egress: [{}]}";

/// Rules for `DIRECTION` (`from` or `to`): everything of y is accepted, so that the Deny and Pass behind it never count;
/// some ports of x are denied before they are passed; some of z are accepted and all others denied.
fn house_rules(direction: &str, tier: &str) -> String {
    let rule = |action: &str, namespace: &str, protocols: &str| {
        let protocols = if protocols.is_empty() { String::new() } else { format!(", protocols: [{protocols}]") };
        format!(
            "{{action: {action}, {direction}: [{{namespaces: {{matchLabels: {{ns: '{namespace}'}}}}}}]{protocols}}}"
        )
    };
    // Pass is an action of the Admin tier only.
    let pass = |namespace, protocols| (tier == "Admin").then(|| rule("Pass", namespace, protocols));
    let first_ports = "tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {number: 81}}}, \
                       {sctp: {destinationPort: {range: {start: 79, end: 80}}}";
    let rules = [
        Some(rule("Accept", "y", "")),
        Some(rule("Deny", "y", "")),
        pass("y", ""),
        Some(rule("Deny", "x", &format!("{{{first_ports}}}"))),
        pass("x", &format!("{{{first_ports}}}")),
        Some(rule("Accept", "z", &format!("{{{first_ports}}}"))),
        Some(rule("Deny", "z", "")),
    ];
    rules.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

const X_A: &str = "{pods: {namespaceSelector: {matchLabels: {ns: x}}, podSelector: {matchLabels: {pod: a}}}}";

fn tiered(name: &str, tier: &str, priority: u16, rules: &str) -> String {
    cluster_policy(name, &format!("{{tier: {tier}, priority: {priority}, subject: {X_A}, {rules}}}"))
}

const INTO_A: &str = "- x/* x/a TCP/80,UDP/81,SCTP/80
                      - z/* x/a
                      + z/* x/a TCP/80,UDP/81,SCTP/80";
const OUT_OF_A: &str = "- x/a x/* TCP/80,UDP/81,SCTP/80
                        - x/a z/*
                        + x/a z/* TCP/80,UDP/81,SCTP/80";

#[test]
fn tiers_rules_and_priorities_count_in_their_order() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster_without(&ABSENT), &["--nodes", "3"]);
    let both = format!("{INTO_A}\n{OUT_OF_A}");
    let mut cases = Vec::new();
    for tier in ["Admin", "Baseline"] {
        cases.extend([
            Case {
                name: "ingress rules in their order",
                manifests: vec![tiered("rules", tier, 10, &format!("ingress: [{}]", house_rules("from", tier)))],
                expect: INTO_A,
            },
            Case {
                name: "egress rules in their order",
                manifests: vec![tiered("rules", tier, 10, &format!("egress: [{}]", house_rules("to", tier)))],
                expect: OUT_OF_A,
            },
            Case {
                name: "both directions in one policy",
                manifests: vec![tiered(
                    "rules",
                    tier,
                    10,
                    &format!("ingress: [{}], egress: [{}]", house_rules("from", tier), house_rules("to", tier)),
                )],
                expect: &both,
            },
        ]);
    }
    cases.extend(subjects_and_peers());
    cases.extend(priorities());
    let blocks = networks(&lab);
    cases.extend(blocks);
    judge_all(&lab, &PORTS, &cases);
    integration(&lab);
}

fn subjects_and_peers() -> Vec<Case<'static>> {
    let deny_from_b =
        "ingress: [{action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {pod: b}}}}]}]";
    vec![
        Case {
            name: "a subject of all pods",
            manifests: vec![cluster_policy(
                "all",
                &format!("{{tier: Admin, priority: 0, subject: {{namespaces: {{}}}}, {deny_from_b}}}"),
            )],
            expect: "- */b *",
        },
        Case {
            name: "a subject of namespaces, by expression",
            manifests: vec![cluster_policy(
                "some",
                &format!(
                    "{{tier: Baseline, priority: 1000, subject: {{namespaces: {{matchExpressions: \
                      [{{key: ns, operator: NotIn, values: [x]}}]}}}}, {deny_from_b}}}"
                ),
            )],
            expect: "- */b y/*
                     - */b z/*",
        },
        Case {
            name: "a port by its name, whatever its protocol",
            manifests: vec![tiered(
                "named",
                "Admin",
                1,
                "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{destinationNamedPort: serve-80-tcp}, \
                  {destinationNamedPort: serve-81-udp}, {destinationNamedPort: serve-80-sctp}]}]",
            )],
            expect: "- * x/a TCP/80,UDP/81,SCTP/80",
        },
        Case {
            name: "a port by the name that the receiver gives it",
            manifests: vec![tiered(
                "named",
                "Admin",
                1,
                "egress: [{action: Deny, to: [{namespaces: {}}], protocols: [{destinationNamedPort: serve-80-udp}]}]",
            )],
            expect: "- x/a * UDP/80",
        },
        Case {
            name: "ranges, one of all ports",
            manifests: vec![tiered(
                "protocols",
                "Admin",
                1,
                "ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{udp: {destinationPort: {range: {start: 1, end: 65535}}}}, \
                  {tcp: {destinationPort: {range: {start: 81, end: 90}}}}]}]",
            )],
            expect: "- * x/a UDP/80,UDP/81,TCP/81",
        },
    ]
}

fn priorities() -> Vec<Case<'static>> {
    let from_y = |action: &str| {
        format!(
            "ingress: [{{action: {action}, from: [{{namespaces: {{matchLabels: {{ns: 'y'}}}}}}]}}], \
             egress: [{{action: {action}, to: [{{namespaces: {{matchLabels: {{ns: 'y'}}}}}}]}}]"
        )
    };
    let [accept, deny, pass] = ["Accept", "Deny", "Pass"].map(from_y);
    let no_y = "- y/* x/a
                - x/a y/*";
    vec![
        Case {
            name: "the lower number goes first: Deny",
            manifests: vec![tiered("late", "Admin", 60, &accept), tiered("zoo", "Admin", 50, &deny)],
            expect: no_y,
        },
        Case {
            name: "the lower number goes first: Accept",
            manifests: vec![tiered("late", "Admin", 50, &deny), tiered("zoo", "Admin", 40, &accept)],
            expect: "",
        },
        Case {
            name: "Pass leaves the tier: the Deny behind it does not count",
            manifests: vec![tiered("pass", "Admin", 40, &pass), tiered("deny", "Admin", 50, &deny)],
            expect: "",
        },
        Case {
            name: "what Pass leaves to nobody is decided by the Baseline tier",
            manifests: vec![
                tiered("pass", "Admin", 40, &pass),
                tiered("accept", "Admin", 50, &accept),
                tiered("base", "Baseline", 0, &deny),
            ],
            expect: no_y,
        },
        Case {
            name: "Baseline has priorities too",
            manifests: vec![tiered("first", "Baseline", 3, &accept), tiered("second", "Baseline", 4, &deny)],
            expect: "",
        },
        Case {
            name: "Admin goes before NetworkPolicy: Accept opens what is isolated, Deny closes what is open",
            manifests: vec![
                policy("x/deny", DENY_ALL),
                tiered("accept", "Admin", 5, &accept),
                policy("z/open", ALLOW_ALL),
                cluster_policy(
                    "deny",
                    "{tier: Admin, priority: 6, subject: {namespaces: {matchLabels: {ns: z}}}, \
                      ingress: [{action: Deny, from: [{namespaces: {matchLabels: {ns: 'y'}}}]}]}",
                ),
            ],
            expect: "- * x/*
                     - x/* *
                     + y/* x/a
                     + x/a y/*
                     - y/* z/*",
        },
        Case {
            name: "NetworkPolicy goes before Baseline: an isolated pod never gets there",
            manifests: vec![
                tiered("base", "Baseline", 7, &deny),
                policy(
                    "x/into-a",
                    "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
                ),
            ],
            // Ingress is for the NetworkPolicy to decide; nothing isolates egress.
            expect: "- * x/a
                     + y/* x/a
                     - x/a y/*",
        },
    ]
}

fn networks(lab: &Lab) -> Vec<Case<'static>> {
    let [y_a, z_b] = ["y/a", "z/b"].map(|pod| [lab.address(pod, false), lab.address(pod, true)]);
    let specific = format!("'{}/32', '{}/128', '{}/32', '{}/128'", y_a[0], y_a[1], z_b[0], z_b[1]);
    let everywhere = "{action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}";
    let to_y = "{action: Accept, to: [{namespaces: {matchLabels: {ns: 'y'}}}]}";
    ["Admin", "Baseline"]
        .into_iter()
        .flat_map(|tier| {
            [
                Case {
                    name: "no way to any address but those of one namespace",
                    manifests: vec![tiered("blocks", tier, 85, &format!("egress: [{to_y}, {everywhere}]"))],
                    expect: "- x/a *
                             + x/a y/*",
                },
                Case {
                    name: "no way to any address but some",
                    manifests: vec![tiered(
                        "blocks",
                        tier,
                        85,
                        &format!("egress: [{{action: Accept, to: [{{networks: [{specific}]}}]}}, {everywhere}]"),
                    )],
                    expect: "- x/a *
                             + x/a y/a
                             + x/a z/b",
                },
            ]
        })
        .collect()
}

/// One story: Admin denies, then passes; the NetworkPolicy allows until it is deleted; then Baseline denies until it is deleted.
fn integration(lab: &Lab) {
    let rules = |action: &str| {
        let peers = "[{namespaces: {matchLabels: {ns: 'y'}}}]";
        format!("ingress: [{{action: {action}, from: {peers}}}], egress: [{{action: {action}, to: {peers}}}]")
    };
    let allow = policy(
        "x/allow",
        "{podSelector: {}, policyTypes: [Ingress, Egress], ingress: [{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}], \
          egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
    );
    let (deny, pass) = (tiered("admin", "Admin", 10, &rules("Deny")), tiered("admin", "Admin", 10, &rules("Pass")));
    let base = tiered("base", "Baseline", 10, &rules("Deny"));
    let by_policy = "- * x/*
                     - x/* *
                     + y/* x/*
                     + x/* y/*";
    let not_to_a = "- y/* x/a
                    - x/a y/*";
    let check = |name: &str, expect: &str| {
        if let Err(problem) = judge(lab, &["TCP/80", "UDP/80"], name, expect) {
            panic!("{problem}");
        }
    };
    lab.apply(&[deny, allow.clone(), base.clone()].concat());
    check("Admin denies", &format!("{by_policy}\n{not_to_a}"));
    lab.apply(&pass);
    check("Admin passes, the NetworkPolicy allows", by_policy);
    lab.delete(&allow);
    check("Admin passes, no NetworkPolicy, Baseline denies", not_to_a);
    lab.delete(&base);
    check("Admin passes, nobody else decides", "");
    lab.delete(&pass);
}
