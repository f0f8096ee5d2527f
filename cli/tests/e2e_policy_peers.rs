//! Who a NetworkPolicy lets in and out: the questions of Kubernetes' own policy tests about selectors, address blocks and
//! several policies at once, asked of nine pods on three nodes by real connections over TCP and UDP, IPv4 and IPv6.

mod support;

use support::policies::{Case, cluster, judge_all, policy};
use support::{Lab, labs_can_run};

const DENY_INGRESS: &str = "{podSelector: {}, policyTypes: [Ingress]}";
const DENY_EGRESS: &str = "{podSelector: {}, policyTypes: [Egress]}";
const DENY_BOTH: &str = "{podSelector: {}, policyTypes: [Ingress, Egress]}";

/// Which ports and protocols a policy means is another file's question.
const PORTS: [&str; 2] = ["TCP/80", "UDP/80"];

/// A policy for x/a with one ingress rule for `from` (a YAML flow sequence of peers).
fn into_a(from: &str) -> Vec<String> {
    vec![policy("x/into-a", &format!("{{podSelector: {{matchLabels: {{pod: a}}}}, ingress: [{{from: {from}}}]}}"))]
}

/// A policy for x/a with one egress rule for `to` (a YAML flow sequence of peers).
fn out_of_a(to: &str) -> Vec<String> {
    let spec = format!("{{podSelector: {{matchLabels: {{pod: a}}}}, policyTypes: [Egress], egress: [{{to: {to}}}]}}");
    vec![policy("x/out-of-a", &spec)]
}

#[test]
fn peers_are_who_kubernetes_says_they_are() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(), &["--nodes", "3"]);
    let cases = [isolation(), ingress_selectors(), egress_selectors(), unions(), address_blocks(&lab)];
    judge_all(&lab, &PORTS, &cases.into_iter().flatten().collect::<Vec<_>>());
}

fn isolation() -> Vec<Case<'static>> {
    vec![
        Case {
            name: "deny ingress to a namespace",
            manifests: vec![policy("x/deny", DENY_INGRESS)],
            expect: "- * x/*",
        },
        Case { name: "deny egress of a namespace", manifests: vec![policy("x/deny", DENY_EGRESS)], expect: "- x/* *" },
        Case {
            name: "deny both",
            manifests: vec![policy("x/deny", DENY_BOTH)],
            expect: "- * x/*
                     - x/* *",
        },
        Case {
            name: "without policyTypes: ingress always, egress only with egress rules",
            manifests: vec![
                policy("x/ingress", "{podSelector: {matchLabels: {pod: a}}}"),
                policy("x/both", "{podSelector: {matchLabels: {pod: b}}, egress: [{}]}"),
            ],
            expect: "- * x/a
                     - * x/b",
        },
        Case {
            name: "egress rules make no ingress rule when only Egress is meant",
            manifests: vec![policy("x/egress", "{podSelector: {}, policyTypes: [Egress], ingress: [], egress: [{}]}")],
            expect: "",
        },
        Case {
            name: "deny egress of pods that a selector names",
            manifests: vec![policy("x/deny", "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress]}")],
            expect: "- x/a *",
        },
        Case {
            name: "both ends are asked: what the client must not send does not reach a server that would take it",
            manifests: vec![
                policy("x/out", "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Egress]}"),
                policy(
                    "y/in",
                    "{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}}]}]}",
                ),
            ],
            expect: "- * y/b
                     + x/* y/b
                     - x/a *",
        },
        Case {
            name: "ingress and egress are isolated independently",
            manifests: vec![
                policy("x/no-ingress", "{podSelector: {matchLabels: {pod: a}}, policyTypes: [Ingress]}"),
                policy("x/no-egress", "{podSelector: {matchLabels: {pod: b}}, policyTypes: [Egress]}"),
            ],
            expect: "- * x/a
                     - x/b *",
        },
    ]
}

fn ingress_selectors() -> Vec<Case<'static>> {
    vec![
        Case {
            name: "a podSelector means pods of the policy's namespace",
            manifests: into_a("[{podSelector: {matchLabels: {pod: b}}}]"),
            expect: "- * x/a
                     + x/b x/a",
        },
        Case {
            name: "an empty podSelector means all pods of the policy's namespace",
            manifests: into_a("[{podSelector: {}}]"),
            expect: "- * x/a
                     + x/* x/a",
        },
        Case {
            name: "an empty namespaceSelector means all pods",
            manifests: into_a("[{namespaceSelector: {}}]"),
            expect: "",
        },
        Case { name: "no peers mean everybody", manifests: into_a("[]"), expect: "" },
        Case {
            name: "no rules mean nobody, one empty rule everybody",
            manifests: vec![
                policy("x/nobody", "{podSelector: {matchLabels: {pod: a}}, ingress: []}"),
                policy("x/everybody", "{podSelector: {matchLabels: {pod: b}}, ingress: [{}]}"),
            ],
            expect: "- * x/a",
        },
        Case {
            name: "a namespaceSelector means all pods of those namespaces",
            manifests: into_a("[{namespaceSelector: {matchLabels: {ns: 'y'}}}]"),
            expect: "- * x/a
                     + y/* x/a",
        },
        Case {
            name: "the label that the API server gives every namespace",
            manifests: into_a("[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: z}}}]"),
            expect: "- * x/a
                     + z/* x/a",
        },
        Case {
            name: "two selectors in one peer: both must match",
            manifests: into_a("[{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: b}}}]"),
            expect: "- * x/a
                     + y/b x/a",
        },
        Case {
            name: "two peers: either may match",
            manifests: into_a(
                "[{namespaceSelector: {matchLabels: {ns: 'y'}}}, {podSelector: {matchLabels: {pod: b}}}]",
            ),
            expect: "- * x/a
                     + y/* x/a
                     + x/b x/a",
        },
        Case {
            name: "two podSelectors",
            manifests: into_a("[{podSelector: {matchLabels: {pod: b}}}, {podSelector: {matchLabels: {pod: c}}}]"),
            expect: "- * x/a
                     + x/b x/a
                     + x/c x/a",
        },
        Case {
            name: "expressions: In and NotIn",
            manifests: into_a(
                "[{podSelector: {matchExpressions: [{key: pod, operator: In, values: [b, c]}]}, \
                  namespaceSelector: {matchExpressions: [{key: ns, operator: NotIn, values: [x]}]}}]",
            ),
            expect: "- * x/a
                     + y/b x/a
                     + y/c x/a
                     + z/b x/a
                     + z/c x/a",
        },
        Case {
            name: "expressions: Exists, and NotIn of a label that nobody has",
            manifests: into_a(
                "[{podSelector: {matchExpressions: [{key: pod, operator: Exists}]}, \
                  namespaceSelector: {matchExpressions: [{key: team, operator: NotIn, values: [red]}]}}]",
            ),
            expect: "",
        },
        Case {
            name: "expressions: DoesNotExist, and all of several must hold",
            manifests: into_a(
                "[{namespaceSelector: {matchExpressions: [{key: team, operator: DoesNotExist}, \
                  {key: ns, operator: In, values: ['y', z]}, {key: ns, operator: NotIn, values: [z]}]}}]",
            ),
            expect: "- * x/a
                     + y/* x/a",
        },
        Case {
            name: "who is selected, by expression",
            manifests: vec![policy(
                "x/deny",
                "{podSelector: {matchExpressions: [{key: pod, operator: NotIn, values: [a]}]}, policyTypes: [Ingress]}",
            )],
            expect: "- * x/b
                     - * x/c",
        },
    ]
}

fn egress_selectors() -> Vec<Case<'static>> {
    vec![
        Case {
            name: "to pods of the policy's namespace",
            manifests: out_of_a("[{podSelector: {matchLabels: {pod: b}}}]"),
            expect: "- x/a *
                     + x/a x/b",
        },
        Case {
            name: "to a namespace",
            manifests: out_of_a("[{namespaceSelector: {matchLabels: {ns: 'y'}}}]"),
            expect: "- x/a *
                     + x/a y/*",
        },
        Case {
            name: "to one pod of another namespace",
            manifests: out_of_a(
                "[{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: a}}}]",
            ),
            expect: "- x/a *
                     + x/a y/a",
        },
        Case {
            name: "to pods or to a namespace",
            manifests: out_of_a(
                "[{namespaceSelector: {matchLabels: {ns: z}}}, {podSelector: {matchLabels: {pod: c}}}]",
            ),
            expect: "- x/a *
                     + x/a z/*
                     + x/a x/c",
        },
        Case { name: "to nobody in particular", manifests: out_of_a("[]"), expect: "" },
    ]
}

fn unions() -> Vec<Case<'static>> {
    let deny = || policy("x/deny", DENY_INGRESS);
    vec![
        Case {
            name: "one pod of a denied namespace is opened",
            manifests: vec![deny(), policy("x/open", "{podSelector: {matchLabels: {pod: a}}, ingress: [{}]}")],
            expect: "- * x/*
                     + * x/a",
        },
        Case {
            name: "allow all goes before deny all",
            manifests: vec![deny(), policy("x/open", "{podSelector: {}, ingress: [{}]}")],
            expect: "",
        },
        Case {
            name: "allow all egress goes before deny all egress",
            manifests: vec![
                policy("x/deny", DENY_EGRESS),
                policy("x/open", "{podSelector: {}, policyTypes: [Egress], egress: [{}]}"),
            ],
            expect: "",
        },
        Case {
            name: "policies of overlapping selectors add up",
            manifests: vec![
                into_a("[{namespaceSelector: {matchLabels: {ns: 'y'}}}]").concat(),
                policy(
                    "x/into-a-and-b",
                    "{podSelector: {matchExpressions: [{key: pod, operator: In, values: [a, b]}]}, \
                      ingress: [{from: [{podSelector: {matchLabels: {pod: c}}}]}]}",
                ),
            ],
            expect: "- * x/a
                     - * x/b
                     + y/* x/a
                     + x/c x/a
                     + x/c x/b",
        },
        Case {
            name: "several rules of one policy add up",
            manifests: vec![policy(
                "x/rules",
                "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {matchLabels: {pod: b}}}]}, \
                  {from: [{namespaceSelector: {matchLabels: {ns: z}}}]}]}",
            )],
            expect: "- * x/a
                     + x/b x/a
                     + z/* x/a",
        },
        Case {
            name: "ingress and egress in one policy",
            manifests: vec![policy(
                "x/both",
                "{podSelector: {matchLabels: {pod: a}}, ingress: [{from: [{podSelector: {}}]}], \
                  egress: [{to: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]}",
            )],
            expect: "- * x/a
                     + x/* x/a
                     - x/a *
                     + x/a y/*",
        },
        Case {
            name: "both ends allow only somebody else",
            manifests: vec![
                out_of_a("[{namespaceSelector: {matchLabels: {ns: 'y'}}, podSelector: {matchLabels: {pod: b}}}]")
                    .concat(),
                policy(
                    "y/in",
                    "{podSelector: {matchLabels: {pod: b}}, ingress: [{from: [{namespaceSelector: {matchLabels: {ns: x}}, \
                      podSelector: {matchLabels: {pod: c}}}]}]}",
                ),
            ],
            expect: "- x/a *
                     - * y/b
                     + x/c y/b",
        },
    ]
}

fn address_blocks(lab: &Lab) -> Vec<Case<'static>> {
    let [y_a, y_b] = ["y/a", "y/b"].map(|pod| [lab.address(pod, false), lab.address(pod, true)]);
    let one = format!("[{{ipBlock: {{cidr: {}/32}}}}, {{ipBlock: {{cidr: '{}/128'}}}}]", y_a[0], y_a[1]);
    let all_but_one = format!(
        "[{{ipBlock: {{cidr: 0.0.0.0/0, except: [{}/32]}}}}, {{ipBlock: {{cidr: '::/0', except: ['{}/128']}}}}]",
        y_a[0], y_a[1]
    );
    // The second pair of blocks allows what the first leaves out.
    let both = format!("{}, {}", all_but_one.trim_end_matches(']'), one.trim_start_matches('['));
    let nested = format!(
        "[{{ipBlock: {{cidr: 10.244.0.0/16, except: [10.244.1.0/24, {}/32]}}}}, \
          {{ipBlock: {{cidr: 'fd00:10:244::/48', except: ['fd00:10:244:1::/64', '{}/128']}}}}]",
        y_b[0], y_b[1]
    );
    vec![
        Case {
            name: "egress to the address of one pod",
            manifests: out_of_a(&one),
            expect: "- x/a *
                     + x/a y/a",
        },
        Case { name: "egress to all addresses but one", manifests: out_of_a(&all_but_one), expect: "- x/a y/a" },
        Case { name: "an exception that another block allows", manifests: out_of_a(&both), expect: "" },
        Case {
            name: "ingress from the address of one pod",
            manifests: into_a(&one),
            expect: "- * x/a
                     + y/a x/a",
        },
        Case { name: "ingress from all addresses but one", manifests: into_a(&all_but_one), expect: "- y/a x/a" },
        Case {
            name: "ingress from the cluster but not from one node's pods and one other pod",
            manifests: into_a(&nested),
            // node1 runs x/a, x/c and y/c.
            expect: "- x/c x/a
                     - y/c x/a
                     - y/b x/a",
        },
    ]
}
