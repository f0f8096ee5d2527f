//! Pods, namespaces, nodes and policies of all tiers that come, change and go in any order: after each change every verdict is
//! that of compiling everything at once.

use super::{at_once, change, content, options};
use crate::cluster::{Definitions, Delta};
use crate::compile::Compiler;
use crate::tables::{
    Action, Direction, PolicyId, PolicyIndex, Question, RuleRef, Tables, Tier, Trace, Verdict, VerdictReason,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

/// One object: which of few it is, and numbers that decide what it says.
type Seed = (u8, u8, [u8; 6]);

fn pick<T: Clone>(of: &[T], by: u8) -> T {
    of[usize::from(by) % of.len()].clone()
}

fn selector(by: u8) -> Value {
    let all = [
        json!({}),
        json!({"matchLabels": {"app": "a"}}),
        json!({"matchLabels": {"app": "b", "tier": "x"}}),
        json!({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}),
        json!({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}),
        json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]}),
        json!({"matchExpressions": [{"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["other"]}]}),
    ];
    pick(&all, by)
}

fn labels(by: u8) -> Value {
    let all =
        [json!({}), json!({"app": "a"}), json!({"app": "b"}), json!({"app": "b", "tier": "x"}), json!({"tier": "y"})];
    pick(&all, by)
}

fn annotations(by: u8) -> Value {
    let all = [
        json!({}),
        json!({}),
        json!({"podplane.io/dry-run": "true"}),
        json!({"podplane.io/established": "keep"}),
        json!({"podplane.io/dry-run": "true", "podplane.io/established": "keep"}),
    ];
    pick(&all, by)
}

fn document(&(kind, number, by): &Seed) -> Value {
    let [a, b, c, d, e, f] = by;
    let namespace = pick(&["default", "other"], number);
    match kind {
        0 => {
            let node = number % 2;
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node{node}"), "labels": labels(a)},
                "spec": {"podCIDR": format!("10.244.{}.0/24", 1 + node)},
                "status": {"addresses": [{"type": "InternalIP", "address": format!("172.30.0.{}", 10 + node)}]},
            })
        }
        1..=3 => json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("pod{}", number / 2), "namespace": namespace, "labels": labels(a)},
            "spec": {
                "nodeName": format!("node{}", b % 2), "hostNetwork": c % 8 == 0,
                "containers": [{"name": "c", "image": "i", "ports": [{"name": "http", "containerPort": 80 + u16::from(d % 2)}]}],
            },
            "status": {"podIP": format!("10.244.{}.{}", 1 + b % 2, 10 + number), "phase": if e % 8 == 0 { "Failed" } else { "Running" }},
        }),
        4 => json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels(a)},
        }),
        5 => {
            let peers = [
                json!([]),
                json!([{"podSelector": selector(b)}]),
                json!([{"namespaceSelector": selector(b)}, {"ipBlock": {"cidr": "10.244.1.0/24", "except": ["10.244.1.12/30"]}}]),
                json!([{"namespaceSelector": selector(b), "podSelector": selector(c)}]),
            ];
            let ports = [
                json!([]),
                json!([{"port": "http"}]),
                json!([{"port": 80, "endPort": 443}]),
                json!([{"protocol": "UDP"}]),
            ];
            json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": format!("policy{}", number / 2), "namespace": namespace, "annotations": annotations(e)},
                "spec": {
                    "podSelector": selector(a), "policyTypes": pick(&[json!(["Ingress"]), json!(["Egress"]), json!(["Ingress", "Egress"])], f),
                    "ingress": [{"from": pick(&peers, d), "ports": pick(&ports, c)}],
                    "egress": [{"to": pick(&peers, d / 4), "ports": pick(&ports, c / 4)}, {"to": pick(&peers, b)}],
                },
            })
        }
        _ => {
            let pods = json!({"pods": {"namespaceSelector": selector(b), "podSelector": selector(c)}});
            let source = pick(&[json!({"namespaces": selector(b)}), pods.clone()], c);
            let destinations = [
                source.clone(),
                json!({"nodes": selector(b)}),
                json!({"networks": ["10.244.1.8/29", "0.0.0.0/1"]}),
                json!({"domainNames": ["*.example.org"]}),
            ];
            let to = pick(&destinations, d);
            let actions = ["Accept", "Deny", "Pass"];
            // Only rules that accept may name names.
            let action = if to.get("domainNames").is_some() { "Accept" } else { pick(&actions, e) };
            let protocols = [
                None,
                Some(json!([{"tcp": {"destinationPort": {"number": 80}}}])),
                Some(json!([{"destinationNamedPort": "http"}])),
            ];
            let rule = |list: &str, peer: &Value, action: &str, protocols: Option<Value>| {
                let mut rule = json!({"action": action, list: [peer]});
                if let Some(protocols) = protocols {
                    rule["protocols"] = protocols;
                }
                rule
            };
            let of_pods = to == source;
            let egress = pick(&protocols[..if of_pods { 3 } else { 2 }], f);
            json!({
                "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
                "metadata": {"name": format!("cluster{number}"), "annotations": annotations(f / 3)},
                "spec": {
                    "tier": pick(&["Admin", "Admin", "Baseline"], a / 16), "priority": 5 * (d / 4 % 3),
                    "subject": pick(&[json!({"namespaces": {}}), json!({"namespaces": selector(a)}), pods], a),
                    "ingress": [rule("from", &source, pick(&actions, e / 3), pick(&protocols, f))],
                    "egress": [rule("to", &to, action, egress), rule("to", &source, pick(&actions, e / 9), None)],
                },
            })
        }
    }
}

/// Whether an answer is of a kind.
type Is<'a> = &'a dyn Fn(&Answer) -> bool;

/// A rule by its policy and position, and what it does.
type Matched = ((PolicyId, u32), Action);

/// What is told about one flow, in terms that do not depend on the numbers in the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    allowed: bool,
    spares: bool,
    reason: Reason,
    tiers: Vec<(Tier, Option<Matched>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Rule((PolicyId, u32)),
    Other(VerdictReason),
}

/// A flow that was asked about, as it is now and with the policies in dry run in force.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    about: (Direction, Arc<str>, Arc<str>, IpAddr, Protocol, u16),
    now: Told,
    rehearsed: Option<Told>,
}

fn told(tables: &Tables, trace: &Trace) -> Told {
    let rule = |rule: RuleRef| (tables.policy(rule.policy).id, rule.index);
    let Verdict { allowed, reason, spares_established } = trace.verdict;
    let reason = match reason {
        VerdictReason::Rule(by) => Reason::Rule(rule(by)),
        other => Reason::Other(other),
    };
    let tiers = trace.tiers.iter().map(|step| (step.tier, step.matched.map(|(by, action)| (rule(by), action))));
    Told { allowed, spares: spares_established, reason, tiers: tiers.collect() }
}

/// Every verdict about every pod, with the rules that gave it.
fn verdicts(tables: &Tables) -> Vec<Answer> {
    let pods = (10..22u8).map(|last| IpAddr::from([10, 244, 1 + last % 2, last]));
    let others = [[172, 30, 0, 10], [172, 30, 0, 11], [10, 244, 1, 1], [203, 0, 113, 5]].map(IpAddr::from);
    let names = [Arc::from("www.example.org")];
    let flows = [(Protocol::TCP, 80), (Protocol::TCP, 81), (Protocol::UDP, 80), (Protocol::ICMP, 0)];
    let mut answers = Vec::new();
    for (subject, pod) in tables.pods() {
        for direction in [Direction::FromPod, Direction::ToPod] {
            for peer in pods.clone().chain(others) {
                for (protocol, port) in flows {
                    let names = if peer == others[3] { &names[..] } else { &[] };
                    let question = Question { direction, subject, peer, protocol, port, names };
                    let now = tables.trace(&question, false);
                    assert_eq!(tables.check(&question), now.verdict);
                    let rehearsed = tables.rehearse(&question).map(|_| told(tables, &tables.trace(&question, true)));
                    let about = (direction, pod.namespace.clone(), pod.name.clone(), peer, protocol, port);
                    answers.push(Answer { about, now: told(tables, &now), rehearsed });
                }
            }
        }
    }
    answers
}

/// The policies that concern each pod, and whether each is found by its number.
fn concerns(tables: &Tables) -> Vec<String> {
    let mut lines = Vec::new();
    for (subject, pod) in tables.pods() {
        for direction in [Direction::FromPod, Direction::ToPod] {
            let names =
                |policies: &[PolicyIndex]| policies.iter().map(|p| tables.policy(*p).to_string()).collect::<Vec<_>>();
            let (selecting, isolating) = (tables.selecting(direction, subject), tables.isolating(direction, subject));
            let (selecting, isolating) = (names(&selecting), names(isolating));
            lines.push(format!("{}/{}: {selecting:?}, {isolating:?}", pod.namespace, pod.name));
        }
        lines.push(format!("reads names: {}", tables.reads_names(subject)));
    }
    for policy in tables.policies.iter() {
        let found = tables.find_policy(policy.id).map(|index| tables.policy(index).to_string());
        assert_eq!(found, Some(policy.to_string()));
    }
    lines
}

fn seed() -> impl Strategy<Value = Seed> {
    (0..8u8, 0..12u8, any::<[u8; 6]>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn n14_any_order_of_changes_ends_in_the_verdicts_of_compiling_everything_at_once(
        start in prop::collection::vec(seed(), 0..30),
        rounds in prop::collection::vec(prop::collection::vec((0..30u8, prop::option::weighted(0.85, seed())), 1..3), 1..14),
    ) {
        let mut definitions = Definitions::default();
        let mut compiler = Compiler::new(options());
        // One object per file, so that a change is of one object.
        let file = |number: usize, seed: Option<&Seed>| {
            change(&format!("{number}.yaml"), &seed.map(|seed| document(seed).to_string()).unwrap_or_default())
        };
        let first = definitions.apply(start.iter().enumerate().map(|(number, seed)| file(number, Some(seed))));
        compiler.compile(definitions.cluster(), &first, 1);
        for (epoch, round) in (2u64..).zip(rounds) {
            let changes = round.iter().map(|(number, seed)| file(usize::from(*number), seed.as_ref()));
            let delta = definitions.apply(changes);
            let (tables, problems) = compiler.compile(definitions.cluster(), &delta, epoch);
            let (wanted, wanted_problems) = at_once(&definitions, epoch);
            prop_assert_eq!(content(&tables), content(&wanted), "after {:?}", delta);
            prop_assert_eq!(concerns(&tables), concerns(&wanted), "after {:?}", delta);
            for (found, wanted) in verdicts(&tables).iter().zip(&verdicts(&wanted)) {
                prop_assert_eq!(found, wanted, "after {:?}", delta);
            }
            prop_assert_eq!(problems, wanted_problems);
        }
    }
}

/// The comparison means something only if the objects are taken and decide.
#[test]
fn the_objects_of_these_changes_are_valid_and_bring_about_verdicts_of_all_tiers() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut seen, mut reads_names) = (Vec::new(), false);
    for _ in 0..20 {
        let seeds = prop::collection::vec(seed(), 30).new_tree(&mut runner).expect("seeds").current();
        for seed in &seeds {
            let parsed = crate::objects::parse("generated", &document(seed).to_string());
            assert_eq!(parsed.problems, [], "{seed:?}");
        }
        let mut definitions = Definitions::default();
        let file = |(number, seed): (usize, &Seed)| change(&number.to_string(), &document(seed).to_string());
        definitions.apply(seeds.iter().enumerate().map(file));
        let (tables, _) = Compiler::new(options()).compile(definitions.cluster(), &Delta::default(), 1);
        seen.extend(verdicts(&tables));
        reads_names |= tables.pods().any(|(pod, _)| tables.reads_names(pod));
    }
    assert!(reads_names);
    let rule = |tier, action| {
        move |answer: &Answer| {
            answer.now.tiers.iter().any(|(t, matched)| *t == tier && matched.is_some_and(|(_, a)| a == action))
        }
    };
    let other = |reason| move |answer: &Answer| answer.now.reason == Reason::Other(reason);
    let wanted: [(&str, Is<'_>); 12] = [
        ("Admin Accept", &rule(Tier::Admin, Action::Accept)),
        ("Admin Deny", &rule(Tier::Admin, Action::Deny)),
        ("Admin Pass", &rule(Tier::Admin, Action::Pass)),
        ("NetworkPolicy Accept", &rule(Tier::NetworkPolicy, Action::Accept)),
        ("Baseline Accept", &rule(Tier::Baseline, Action::Accept)),
        ("Baseline Deny", &rule(Tier::Baseline, Action::Deny)),
        ("isolated", &other(VerdictReason::Isolated)),
        ("exempt", &other(VerdictReason::Exempt)),
        ("open", &other(VerdictReason::NotIsolated)),
        ("spared", &|answer| answer.now.spares),
        ("would be denied", &|answer| {
            answer.now.allowed && answer.rehearsed.as_ref().is_some_and(|then| !then.allowed)
        }),
        ("would be allowed", &|answer| {
            !answer.now.allowed && answer.rehearsed.as_ref().is_some_and(|then| then.allowed)
        }),
    ];
    for (name, is) in wanted {
        let count = seen.iter().filter(|answer| is(answer)).count();
        assert!(count > 10, "{name}: {count}");
    }
}
