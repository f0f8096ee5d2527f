//! Policies after changes in any order against compiling everything at once (N14, B21).

use super::*;
use crate::cluster::{Definition, Definitions, Delta, FileChange};
use crate::compile::{CompileOptions, Compiler};
use crate::objects::parse;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// One object: its kind, which of few it is, and small numbers that decide what it says.
type Seed = (u8, u8, [u8; 6]);

fn pick<'a>(of: &[&'a str], by: u8) -> &'a str {
    of[usize::from(by) % of.len()]
}

/// Selectors of labels that pods and namespaces have here.
fn selector(by: u8) -> &'static str {
    pick(
        &[
            "{}",
            "{matchLabels: {app: a}}",
            "{matchLabels: {app: b}}",
            "{matchExpressions: [{key: app, operator: NotIn, values: [a]}]}",
            "{matchExpressions: [{key: role, operator: Exists}]}",
            "{matchLabels: {app: a, role: x}}",
            "{matchLabels: {team: red}}",
            "{matchExpressions: [{key: team, operator: DoesNotExist}]}",
        ],
        by,
    )
}

fn annotations(by: u8) -> &'static str {
    pick(
        &[
            "",
            "",
            ", annotations: {podplane.io/dry-run: 'true'}",
            ", annotations: {podplane.io/established: keep}",
            ", annotations: {podplane.io/dry-run: 'true', podplane.io/established: keep}",
        ],
        by,
    )
}

/// A peer of a NetworkPolicy.
fn peer(by: u8, more: u8) -> String {
    match by % 4 {
        0 => format!("{{podSelector: {}}}", selector(more)),
        1 => format!("{{namespaceSelector: {}}}", selector(more)),
        2 => format!("{{namespaceSelector: {}, podSelector: {}}}", selector(more), selector(more / 2)),
        _ => pick(
            &["{ipBlock: {cidr: 10.244.1.0/29}}", "{ipBlock: {cidr: 172.30.0.0/24, except: [172.30.0.10/32]}}"],
            more,
        )
        .into(),
    }
}

/// A peer of a ClusterNetworkPolicy's egress rule; one of an ingress rule if it is only pods.
fn cluster_peer(by: u8, more: u8, pods_only: bool) -> String {
    match by % if pods_only { 2 } else { 5 } {
        0 => format!("{{namespaces: {}}}", selector(more)),
        1 => format!("{{pods: {{namespaceSelector: {}, podSelector: {}}}}}", selector(more / 2), selector(more)),
        2 => format!("{{nodes: {}}}", selector(more)),
        3 => "{networks: [10.244.1.0/30, 172.30.0.0/24]}".into(),
        _ => format!("{{domainNames: [{}]}}", pick(&["www.a.example", "'*.a.example'"], more)),
    }
}

fn document(&(kind, number, [a, b, c, d, e, f]): &Seed) -> String {
    match kind {
        0 => format!(
            "\napiVersion: v1\nkind: Node\nmetadata: {{name: node{number}, labels: {{{}}}}}\nspec: {{podCIDR: 10.244.{number}.0/24}}\nstatus: \
             {{addresses: [{{type: InternalIP, address: 172.30.0.{}}}]}}\n---",
            pick(&["", "app: a", "role: x"], a),
            10 + b % 4
        ),
        1 => format!(
            "\napiVersion: v1\nkind: Namespace\nmetadata: {{name: ns{}, labels: {{{}}}}}\n---",
            number % 3,
            pick(&["", "team: red", "app: a", "team: red, role: x"], a)
        ),
        2..=4 => format!(
            "\napiVersion: v1\nkind: Pod\nmetadata: {{name: pod{number}, namespace: ns{}, labels: {{{}}}}}\nspec: {{nodeName: node{}{}, containers: \
             [{{name: c, image: i, ports: [{{name: http, containerPort: {}}}]}}]}}\nstatus: {{podIP: 10.244.1.{}}}\n---",
            kind % 2,
            pick(&["", "app: a", "app: b", "app: a, role: x", "role: x", "unread: z"], a),
            b % 3,
            pick(&["", "", "", ", hostNetwork: true"], c),
            80 + d % 2,
            e % 12
        ),
        5 | 6 => format!(
            "\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: np{number}, namespace: ns{}{}}}\nspec: {{podSelector: {}, \
             policyTypes: [{}], ingress: [{{from: [{}], ports: [{{port: {}}}]}}], egress: [{{to: [{}]}}]}}\n---",
            kind % 2,
            annotations(a),
            selector(b),
            pick(&["Ingress", "Egress", "Ingress, Egress"], c),
            peer(d, e),
            pick(&["80", "http"], f),
            peer(e, d),
        ),
        _ => {
            let action = |by: u8| pick(&["Accept", "Deny", "Pass"], by);
            let out = cluster_peer(e, f, false);
            let egress = if out.contains("domainNames") { "Accept" } else { action(c / 2) };
            let subject = if a % 3 == 0 {
                format!("{{namespaces: {}}}", selector(b))
            } else {
                format!("{{pods: {{namespaceSelector: {}, podSelector: {}}}}}", selector(a), selector(b))
            };
            format!(
                "\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: cnp{number}{}}}\nspec: {{tier: {}, \
                 priority: {}, subject: {subject}, ingress: [{{action: {}, from: [{}], protocols: [{{{}}}]}}, {{action: {}, from: [{}]}}], egress: \
                 [{{action: {egress}, to: [{out}]}}]}}\n---",
                annotations(d),
                pick(&["Admin", "Baseline"], a),
                b % 3,
                action(c),
                cluster_peer(d, e, true),
                pick(&["tcp: {destinationPort: {number: 80}}", "destinationNamedPort: http"], f),
                action(c + 1),
                cluster_peer(f, d, true),
            )
        }
    }
}

fn seed() -> impl Strategy<Value = Seed> {
    (0..9u8, 0..5u8, proptest::array::uniform6(0..16u8))
}

/// All that policies say, by the names of things.
fn content(tables: &Tables) -> Vec<String> {
    let mut lines: Vec<String> = tables.policies.iter().map(|entry| format!("{} {entry}", entry.id.0)).collect();
    let names = |policies: &[crate::tables::PolicyIndex]| {
        policies.iter().map(|index| tables.policy(*index).to_string()).collect::<Vec<_>>()
    };
    let known: [Arc<str>; 1] = ["www.a.example".into()];
    let mut alike = HashMap::new();
    for (subject, pod) in tables.pods() {
        let next = alike.len();
        let like = *alike.entry(tables.alike(subject)).or_insert(next);
        lines.push(format!("{}/{} like {like}, reads names: {}", pod.namespace, pod.name, tables.reads_names(subject)));
        lines.push(format!("{:?}", tables.namespace_labels(&pod.namespace)));
        for direction in [FromPod, ToPod] {
            lines.push(format!("{:?}", names(tables.isolating(direction, subject))));
            lines.push(format!("{:?}", names(&tables.selecting(direction, subject))));
            let pods = (0..12u8).map(|last| IpAddr::from([10, 244, 1, last]));
            for peer in pods.chain((9..14u8).map(|last| IpAddr::from([172, 30, 0, last]))) {
                for (port, names) in [(80, &known[..0]), (81, &known)] {
                    let question = Question { direction, subject, peer, protocol: Protocol::TCP, port, names };
                    let say = |verdict: Verdict| format!("{} {}", told(tables, verdict), verdict.spares_established);
                    let rehearsed = tables.rehearse(&question).map(say);
                    lines.push(format!("{direction:?} {peer} {port} {} {rehearsed:?}", say(tables.check(&question))));
                }
            }
        }
    }
    lines
}

fn change(file: u8, seeds: &[Seed]) -> FileChange {
    let file = format!("{file}.yaml");
    let parsed = parse(&file, &seeds.iter().map(document).collect::<String>());
    assert_eq!(parsed.problems, []);
    FileChange { file: file.as_str().into(), objects: parsed.objects.iter().map(Definition::new).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn n14_any_order_of_changes_ends_in_the_policies_of_compiling_everything_at_once(
        start in prop::collection::vec(seed(), 0..30),
        rounds in prop::collection::vec((0..6u8, prop::collection::vec(seed(), 0..3)), 1..16),
    ) {
        let mut definitions = Definitions::default();
        let mut compiler = Compiler::new(CompileOptions::default());
        let first = definitions.apply([change(255, &start)]);
        compiler.compile(definitions.cluster(), &first, 1);
        for (epoch, (file, seeds)) in (2u64..).zip(rounds) {
            let delta = definitions.apply([change(file, &seeds)]);
            let (tables, problems) = compiler.compile(definitions.cluster(), &delta, epoch);
            let mut fresh = Compiler::new(CompileOptions::default());
            let (wanted, wanted_problems) = fresh.compile(definitions.cluster(), &Delta::default(), epoch);
            prop_assert_eq!(problems, wanted_problems);
            let (found, wanted) = (content(&tables), content(&wanted));
            let differ = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
            prop_assert!(found == wanted, "after {:?}: {:?}", delta, differ);
        }
    }
}

#[test]
fn n14_a_label_of_a_node_or_namespace_alone_changes_what_policies_say() {
    let file = |name: &str, yaml: &str| {
        let parsed = parse(name, yaml);
        assert_eq!(parsed.problems, []);
        FileChange { file: name.into(), objects: parsed.objects.iter().map(Definition::new).collect() }
    };
    let node = |label: &str| {
        let spec = "spec: {podCIDR: 10.244.9.0/24}, status: {addresses: [{type: InternalIP, address: 172.30.0.99}]}";
        file(
            "node.yaml",
            &format!("{{apiVersion: v1, kind: Node, metadata: {{name: node9, labels: {{role: {label}}}}}, {spec}}}"),
        )
    };
    let namespace = |label: &str| {
        let labels = format!("labels: {{role: {label}}}");
        file("namespace.yaml", &format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: default, {labels}}}}}"))
    };
    let rules = "{action: Deny, to: [{nodes: {matchLabels: {role: edge}}}, {namespaces: {matchLabels: {role: edge}}}]}";
    let mut definitions = Definitions::default();
    let mut compiler = Compiler::new(CompileOptions::default());
    let objects = file("objects.yaml", &(abc() + &egress("cnp", 0, rules)));
    let mut open = |changes: Vec<FileChange>| {
        let delta = definitions.apply(changes);
        let (tables, _) = compiler.compile(definitions.cluster(), &delta, 1);
        ["172.30.0.99", "10.244.9.1", B].map(|peer| tcp(&tables, FromPod, "a", peer, 80))
    };
    assert_eq!(open(vec![objects, node("core"), namespace("core")]), [true, true, true]);
    assert_eq!(open(vec![node("edge")]), [false, false, true]);
    assert_eq!(open(vec![namespace("edge")]), [false, false, false]);
    assert_eq!(open(vec![node("core")]), [true, true, false]);
}
