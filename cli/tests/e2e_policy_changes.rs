//! What is in force after a change: policies that are edited, labels of pods and namespaces, names of ports, pods that come and go.
//! Each change is judged by real connections over IPv4 and IPv6 as soon as `lab apply` says that it is in force.

mod support;

use support::policies::{cluster, judge, namespace, pod, pod_with_ports, policy};
use support::{Lab, labs_can_run};

const PORTS: [&str; 3] = ["TCP/80", "TCP/81", "UDP/80"];

/// Ingress of the pods that `selected` (a YAML label selector) selects in x is what `rules` (a YAML flow sequence) say.
fn ingress(selected: &str, rules: &str) -> String {
    policy("x/ingress", &format!("{{podSelector: {selected}, ingress: {rules}}}"))
}

/// The ports of a pod, with the names of TCP 80 and 81 exchanged.
const EXCHANGED: &str = "{name: serve-81-tcp, containerPort: 80, protocol: TCP}, \
                         {name: serve-80-tcp, containerPort: 81, protocol: TCP}, \
                         {name: serve-80-udp, containerPort: 80, protocol: UDP}";

#[test]
fn changes_are_in_force_when_apply_returns() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(), &["--nodes", "3"]);
    let mut failed = Vec::new();
    let mut step = |name: &str, manifests: &str, expect: &str| {
        lab.apply(manifests);
        failed.extend(judge(&lab, &PORTS, name, expect).err());
    };
    edited_policies(&mut step);
    labels_of_namespaces(&mut step);
    labels_of_pods(&mut step);
    names_of_ports(&mut step);
    lab.delete(&pod("z", "b", ""));
    step(
        "a pod that comes again has the rights of its labels, not those of its address",
        &(ingress("{}", "[{from: [{namespaceSelector: {}, podSelector: {matchLabels: {friend: sure}}}]}]")
            + &pod("z", "b", "pod: b")),
        "- * x/*
         + y/a x/*",
    );
    lab.delete(&ingress("{}", "[]"));
    step("no policy is left", "", "");
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

fn edited_policies(step: &mut impl FnMut(&str, &str, &str)) {
    let a = "{matchLabels: {pod: a}}";
    step("everybody", &ingress(a, "[{}]"), "");
    step("the same policy, nobody", &ingress(a, "[]"), "- * x/a");
    step(
        "the same policy, a namespace",
        &ingress(a, "[{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]"),
        "- * x/a
         + y/* x/a",
    );
    step(
        "the same policy, other pods selected",
        &ingress("{matchLabels: {pod: b}}", "[{from: [{namespaceSelector: {matchLabels: {ns: 'y'}}}]}]"),
        "- * x/b
         + y/* x/b",
    );
    step(
        "the same policy, a port",
        &ingress("{}", "[{ports: [{port: 81}]}]"),
        "- * x/*
         + * x/* TCP/81",
    );
    step(
        "the same policy, egress instead",
        &policy("x/ingress", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: 81}]}]}"),
        "- x/* *
         + x/* * TCP/81",
    );
}

fn labels_of_namespaces(step: &mut impl FnMut(&str, &str, &str)) {
    let by_team = ingress("{matchLabels: {pod: a}}", "[{from: [{namespaceSelector: {matchLabels: {team: red}}}]}]");
    step("no namespace has the label", &by_team, "- * x/a");
    let red = "- * x/a
               + z/* x/a";
    step("one gets it", &namespace("z", "ns: z, team: red"), red);
    step(
        "another too",
        &namespace("y", "ns: 'y', team: red"),
        "- * x/a
         + y/* x/a
         + z/* x/a",
    );
    step("it loses it again", &namespace("y", "ns: 'y'"), red);
    step("the other's changes", &namespace("z", "ns: z, team: blue"), "- * x/a");
    step("its own namespace gets it", &namespace("x", "ns: x, team: red"), "- * x/a\n+ x/* x/a");
    step("and loses it", &(namespace("x", "ns: x") + &namespace("z", "ns: z")), "- * x/a");
}

fn labels_of_pods(step: &mut impl FnMut(&str, &str, &str)) {
    let friends = "[{from: [{namespaceSelector: {}, podSelector: {matchLabels: {friend: sure}}}]}]";
    step("no pod has the label", &ingress("{matchLabels: {pod: a}}", friends), "- * x/a");
    step(
        "one gets it",
        &pod("z", "b", "pod: b, friend: sure"),
        "- * x/a
         + z/b x/a",
    );
    step("it is taken away", &pod("z", "b", "pod: b, friend: lost"), "- * x/a");
    step("a client on another node has it", &pod("y", "c", "pod: c, friend: sure"), "- * x/a\n+ y/c x/a");
    step("the server is not selected any more", &pod("x", "a", "pod: other"), "");
    step(
        "others are",
        &(pod("x", "b", "pod: a") + &pod("x", "c", "pod: a")),
        "- * x/b
         - * x/c
         + y/c x/b
         + y/c x/c",
    );
    step(
        "both ends change at once",
        &[
            pod("x", "a", "pod: a"),
            pod("x", "b", "pod: b, friend: sure"),
            pod("x", "c", "pod: c"),
            pod("y", "c", "pod: c"),
        ]
        .concat(),
        "- * x/a
         + x/b x/a",
    );
    step("an egress rule follows labels too", &(ingress("{}", "[{}]") + EGRESS_TO_FRIENDS), "- z/* *\n+ z/* x/b");
    step("of its peers", &(pod("x", "b", "pod: b") + &pod("y", "a", "pod: a, friend: sure")), "- z/* *\n+ z/* y/a");
    step("and of those it selects", &pod("z", "b", "pod: b, free: sure"), "- z/* *\n+ z/* y/a\n+ z/b *");
    step("to the end", &(pod("z", "b", "pod: b, friend: sure") + EGRESS_TO_ALL), "");
}

const EGRESS_TO_FRIENDS: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: egress, namespace: z}
spec:
  podSelector: {matchExpressions: [{key: free, operator: DoesNotExist}]}
  policyTypes: [Egress]
  egress: [{to: [{namespaceSelector: {}, podSelector: {matchLabels: {friend: sure}}}]}]
";

const EGRESS_TO_ALL: &str = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: egress, namespace: z}
spec: {podSelector: {}, policyTypes: [Egress], egress: [{}]}
";

fn names_of_ports(step: &mut impl FnMut(&str, &str, &str)) {
    let named = ingress("{}", "[{ports: [{port: serve-80-tcp}]}]");
    step("a named port", &named, "- * x/*\n+ * x/* TCP/80");
    step(
        "a pod gives the name to another port",
        &pod_with_ports("x", "a", "pod: a", EXCHANGED),
        "- * x/*
         + * x/* TCP/80
         - * x/a
         + * x/a TCP/81",
    );
    let outward =
        policy("x/ingress", "{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: serve-80-tcp}]}]}");
    step(
        "outward the name is the receiver's",
        &outward,
        "- x/* *
         + x/* * TCP/80
         - x/* x/a
         + x/* x/a TCP/81",
    );
    step("and it takes it back", &pod("x", "a", "pod: a"), "- x/* *\n+ x/* * TCP/80");
}
