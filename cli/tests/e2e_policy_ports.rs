//! Which ports and protocols a NetworkPolicy means: numbers, names, ranges, none at all, of TCP, UDP and SCTP, asked by
//! real connections on six ports each, over IPv4 and IPv6.

mod support;

use support::policies::{Case, PORTS, cluster_without, judge_all, policy};
use support::{Lab, labs_can_run};

/// Who is not needed: a client on each node is left, and one of each namespace.
const ABSENT: [&str; 4] = ["y/b", "y/c", "z/a", "x/c"];

/// A policy for x/a with these ingress rules (a YAML flow sequence).
fn into_a(rules: &str) -> Vec<String> {
    vec![policy("x/into-a", &format!("{{podSelector: {{matchLabels: {{pod: a}}}}, ingress: {rules}}}"))]
}

/// A policy for x/a with these egress rules (a YAML flow sequence).
fn out_of_a(rules: &str) -> Vec<String> {
    let spec = format!("{{podSelector: {{matchLabels: {{pod: a}}}}, policyTypes: [Egress], egress: {rules}}}");
    vec![policy("x/out-of-a", &spec)]
}

#[test]
fn ports_are_what_kubernetes_says_they_are() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster_without(&ABSENT), &["--nodes", "3"]);
    let cases: Vec<Case<'_>> = numbers().into_iter().chain(names()).chain(ranges()).chain(stacked()).collect();
    judge_all(&lab, &PORTS, &cases);
}

fn numbers() -> Vec<Case<'static>> {
    vec![
        Case {
            name: "a port without peers is open to everybody; TCP is meant",
            manifests: into_a("[{ports: [{port: 81}]}]"),
            expect: "- * x/a
                     + * x/a TCP/81",
        },
        Case {
            name: "a port for some peers",
            manifests: into_a("[{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}], ports: [{port: 80}]}]"),
            expect: "- * x/a
                     + y/* x/a TCP/80",
        },
        Case {
            name: "UDP is not TCP",
            manifests: into_a("[{ports: [{protocol: UDP, port: 80}]}]"),
            expect: "- * x/a
                     + * x/a UDP/80",
        },
        Case {
            name: "SCTP is neither",
            manifests: into_a("[{ports: [{protocol: SCTP, port: 80}]}]"),
            expect: "- * x/a
                     + * x/a SCTP/80",
        },
        Case {
            name: "a protocol without a port means all its ports",
            manifests: into_a("[{ports: [{protocol: UDP}, {protocol: SCTP}]}]"),
            expect: "- * x/a TCP/80,TCP/81",
        },
        Case {
            name: "a port that nobody serves",
            manifests: into_a("[{ports: [{port: 79}, {protocol: SCTP, port: 82}]}]"),
            expect: "- * x/a",
        },
        Case {
            name: "several ports of one rule",
            manifests: into_a("[{ports: [{port: 80}, {port: 81}, {protocol: UDP, port: 81}]}]"),
            expect: "- * x/a
                     + * x/a TCP/80,TCP/81,UDP/81",
        },
        Case {
            name: "out to a port of everybody",
            manifests: out_of_a("[{ports: [{port: 80}, {protocol: SCTP, port: 81}]}]"),
            expect: "- x/a *
                     + x/a * TCP/80,SCTP/81",
        },
        Case {
            name: "out to a port of some",
            manifests: out_of_a(
                "[{to: [{podSelector: {}}], ports: [{protocol: UDP, port: 81}]}, \
                  {to: [{namespaceSelector: {matchLabels: {ns: z}}, podSelector: {matchLabels: {pod: b}}}]}]",
            ),
            expect: "- x/a *
                     + x/a x/* UDP/81
                     + x/a z/b",
        },
    ]
}

fn names() -> Vec<Case<'static>> {
    vec![
        Case {
            name: "a port by its name",
            manifests: into_a("[{ports: [{port: serve-80-tcp}]}]"),
            expect: "- * x/a
                     + * x/a TCP/80",
        },
        Case {
            name: "names of other protocols",
            manifests: into_a(
                "[{ports: [{protocol: UDP, port: serve-81-udp}, {protocol: SCTP, port: serve-80-sctp}]}]",
            ),
            expect: "- * x/a
                     + * x/a UDP/81,SCTP/80",
        },
        Case {
            name: "a name for some peers",
            manifests: into_a("[{from: [{namespaceSelector: {matchLabels: {ns: z}}}], ports: [{port: serve-81-tcp}]}]"),
            expect: "- * x/a
                     + z/* x/a TCP/81",
        },
        Case {
            name: "a name of another protocol, and one that nobody has",
            manifests: into_a("[{ports: [{protocol: UDP, port: serve-80-tcp}, {port: serve-82-tcp}]}]"),
            expect: "- * x/a",
        },
        Case {
            name: "out to a name",
            manifests: out_of_a("[{ports: [{port: serve-80-tcp}, {protocol: UDP, port: serve-80-udp}]}]"),
            expect: "- x/a *
                     + x/a * TCP/80,UDP/80",
        },
        Case {
            name: "out to a name of some",
            manifests: out_of_a(
                "[{to: [{namespaceSelector: {}, podSelector: {matchLabels: {pod: c}}}], ports: [{port: serve-80-tcp}]}]",
            ),
            expect: "- x/a *
                     + x/a */c TCP/80",
        },
    ]
}

fn ranges() -> Vec<Case<'static>> {
    vec![
        Case {
            name: "a range that ends at the port",
            manifests: into_a("[{ports: [{port: 1, endPort: 80}]}]"),
            expect: "- * x/a
                     + * x/a TCP/80",
        },
        Case {
            name: "a range that begins behind it",
            manifests: into_a("[{ports: [{protocol: UDP, port: 81, endPort: 65535}]}]"),
            expect: "- * x/a
                     + * x/a UDP/81",
        },
        Case {
            name: "a range of both, for some",
            manifests: into_a(
                "[{from: [{podSelector: {matchLabels: {pod: b}}}], ports: [{protocol: SCTP, port: 80, endPort: 81}]}]",
            ),
            expect: "- * x/a
                     + x/b x/a SCTP/80,SCTP/81",
        },
        Case {
            name: "out to ranges",
            manifests: out_of_a("[{ports: [{port: 80, endPort: 80}, {protocol: UDP, port: 2, endPort: 81}]}]"),
            expect: "- x/a *
                     + x/a * TCP/80,UDP/80,UDP/81",
        },
    ]
}

fn stacked() -> Vec<Case<'static>> {
    vec![
        Case {
            name: "peers and ports of one rule belong together, those of two rules do not",
            manifests: into_a(
                "[{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}], ports: [{port: 80}]}, \
                  {from: [{namespaceSelector: {matchLabels: {ns: z}}}], ports: [{port: 81}]}]",
            ),
            expect: "- * x/a
                     + y/* x/a TCP/80
                     + z/* x/a TCP/81",
        },
        Case {
            name: "policies with different ports add up",
            manifests: vec![
                policy("x/one", "{podSelector: {matchLabels: {pod: a}}, ingress: [{ports: [{port: 80}]}]}"),
                policy("x/two", "{podSelector: {}, ingress: [{ports: [{port: 81}, {protocol: UDP, port: 80}]}]}"),
            ],
            expect: "- * x/*
                     + * x/* TCP/81,UDP/80
                     + * x/a TCP/80",
        },
        Case {
            name: "what leaves and what enters are different ports: nothing passes",
            manifests: vec![
                policy("x/out", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 80}]}]}"),
                policy("y/in", "{podSelector: {}, ingress: [{ports: [{port: 81}]}]}"),
            ],
            expect: "- x/* *
                     + x/* * TCP/80
                     - * y/*
                     + * y/* TCP/81
                     - x/* y/*",
        },
    ]
}
