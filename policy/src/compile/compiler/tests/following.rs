//! Policies that follow pods and namespaces: what it costs, counted, and that it does not pile up.

use super::super::*;
use crate::cluster::{Definition, Definitions, FileChange};
use crate::objects::parse;
use crate::tables::{Direction, PolicyIndex, Question};
use std::net::IpAddr;
use wire::Protocol;

fn change(file: &str, yaml: &str) -> FileChange {
    let parsed = parse(file, yaml);
    assert_eq!(parsed.problems, []);
    FileChange { file: file.into(), objects: parsed.objects.iter().map(Definition::new).collect() }
}

fn pod(number: u8, labels: &str) -> FileChange {
    let yaml = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: pod{number}, labels: {{{labels}}}}}, spec: {{containers: []}}, status: {{podIP: \
         10.244.1.{number}}}}}"
    );
    change(&format!("pod{number}.yaml"), &yaml)
}

/// A policy for pods with this `app`, to which pods with `from` may speak.
fn policy(app: &str, from: &str) -> FileChange {
    let yaml = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {app}}}, spec: {{podSelector: {{matchLabels: \
         {{app: {app}}}}}, ingress: [{{from: [{{podSelector: {{matchLabels: {{{from}}}}}}}]}}]}}}}"
    );
    change(&format!("{app}.yaml"), &yaml)
}

struct Running {
    definitions: Definitions,
    compiler: Compiler,
    tables: Tables,
}

impl Running {
    /// Ten pods of app a and ten of app b; b takes from a with tier front, c from b.
    fn start() -> Running {
        let mut definitions = Definitions::default();
        let pods = (0..20).map(|number| pod(number, if number < 10 { "app: a, build: v1" } else { "app: b" }));
        definitions.apply(pods.chain([policy("b", "app: a, tier: front"), policy("c", "app: b")]));
        let mut compiler = Compiler::default();
        let (tables, _) = compiler.compile(definitions.cluster(), &Delta::default(), 1);
        Running { definitions, compiler, tables }
    }

    fn next(&mut self, change: FileChange) -> Work {
        let delta = self.definitions.apply([change]);
        let epoch = self.tables.epoch + 1;
        (self.tables, _) = self.compiler.compile(self.definitions.cluster(), &delta, epoch);
        self.compiler.work()
    }

    fn is_allowed(&self, from: u8, to: u8) -> bool {
        let subject = self.tables.find_pod("default", &format!("pod{to}")).expect("a pod");
        let peer = IpAddr::from([10, 244, 1, from]);
        let direction = Direction::ToPod;
        self.tables.check(&Question { direction, subject, peer, protocol: Protocol::TCP, port: 80, names: &[] }).allowed
    }
}

#[test]
fn a_label_that_no_policy_reads_costs_nothing_of_the_policies() {
    let mut running = Running::start();
    let rules = running.tables.rules.clone();
    assert_eq!(running.next(pod(1, "app: a, build: v2")), Work { pods: 1, ..Work::default() });
    assert!(Arc::ptr_eq(&rules, &running.tables.rules));
}

#[test]
fn labels_that_another_pod_has_cost_no_matching() {
    let mut running = Running::start();
    let rules = running.tables.rules.clone();
    assert_eq!(running.next(pod(1, "app: b")), Work { pods: 1, ..Work::default() });
    assert!(!running.is_allowed(2, 1), "pod1 is isolated by policy b");
    let shared = rules.sets.iter().zip(&running.tables.rules.sets).filter(|(one, other)| Arc::ptr_eq(one, other));
    assert_eq!((shared.count(), running.tables.rules.sets.len()), (rules.sets.len(), rules.sets.len()));
}

#[test]
fn labels_that_nobody_had_cost_one_identity_and_older_rule_sets_know_its_class() {
    let mut running = Running::start();
    let sets = running.tables.rules.sets.clone();
    assert!(!running.is_allowed(1, 11));
    let one = Work { pods: 1, identities: 1, ..Work::default() };
    assert_eq!(running.next(pod(1, "app: a, tier: front")), one);
    assert!(running.is_allowed(1, 11) && !running.is_allowed(2, 11));
    assert!(running.tables.rules.sets.iter().zip(&sets).all(|(one, other)| Arc::ptr_eq(one, other)));
    // A pod of an app that no pod had: its rule set is new, and knows the class that came before it.
    assert_eq!(running.next(pod(2, "app: c")), Work { rule_sets: 1, ..one });
    assert!(running.is_allowed(11, 2) && !running.is_allowed(1, 2));
    // The other way round: a class that is younger than that rule set.
    assert_eq!(running.next(pod(3, "app: b, tier: back")), one);
    assert!(running.is_allowed(3, 2) && !running.is_allowed(4, 2));
    let subject = running.tables.find_pod("default", "pod3").expect("a pod");
    assert_eq!(running.tables.isolating(Direction::ToPod, subject), [PolicyIndex(0)]);
}

#[test]
fn a_namespace_with_other_labels_costs_its_own_identities() {
    let mut running = Running::start();
    let elsewhere = |team: &str| {
        change(
            "namespace.yaml",
            &format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: elsewhere, labels: {{team: {team}}}}}}}"),
        )
    };
    running.next(elsewhere("red"));
    let yaml = "
apiVersion: v1
kind: Pod
metadata: {name: there, namespace: elsewhere, labels: {app: a}}
spec: {containers: []}
status: {podIP: 10.244.1.77}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: from-blue}
spec: {podSelector: {matchLabels: {app: b}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: blue}}}]}]}";
    assert!(running.next(change("there.yaml", yaml)).policies);
    assert!(!running.is_allowed(77, 11));
    assert_eq!(running.next(elsewhere("blue")), Work { identities: 1, ..Work::default() });
    assert!(running.is_allowed(77, 11));
    assert_eq!(running.next(elsewhere("red")), Work { identities: 1, ..Work::default() });
    assert!(!running.is_allowed(77, 11));
}

#[test]
fn what_nobody_has_any_more_does_not_pile_up() {
    let mut running = Running::start();
    let mut at_once = 0;
    for time in 0..4_500 {
        let work = running.next(pod(1, &format!("app: a, tier: tier{time}")));
        at_once += usize::from(work.policies);
        assert!(running.tables.rules.classes.len() < 4_300, "after {time} changes");
    }
    assert!(at_once == 1, "everything was compiled {at_once} times");
    assert!(!running.is_allowed(1, 11));
    running.next(pod(1, "app: a, tier: front"));
    assert!(running.is_allowed(1, 11));
}
