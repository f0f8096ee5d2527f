//! The compiled tables against a slow oracle that follows the words of the NetworkPolicy API, on generated clusters.

#[path = "oracle/generate.rs"]
mod generate;
#[path = "oracle/literal.rs"]
mod literal;

use generate::{FLOWS, addresses_of_interest, cluster};
use literal::{Literal, Opinion};
use policy::cluster::Cluster;
use policy::compile::compile;
use policy::explain;
use policy::objects::{Object, Source, Sourced};
use policy::tables::{Direction, Question, Tables, VerdictReason};
use proptest::prelude::*;

fn sourced(objects: &[Object]) -> Vec<Sourced<Object>> {
    let source = Source { file: "generated".into(), document: 1 };
    objects.iter().map(|object| Sourced { source: source.clone(), object: object.clone() }).collect()
}

/// What the tables say, in the oracle's words.
fn compiled(tables: &Tables, question: &Question<'_>) -> Opinion {
    let verdict = tables.check(question);
    let opinion = match verdict.reason {
        VerdictReason::NotIsolated => Opinion::NotIsolated,
        VerdictReason::Exempt => Opinion::Exempt,
        VerdictReason::Isolated => Opinion::Denied,
        VerdictReason::Rule(rule) => {
            Opinion::Allowed { policy: tables.policy(rule.policy).to_string(), rule: rule.index }
        }
    };
    assert_eq!(verdict.allowed, opinion != Opinion::Denied);
    opinion
}

fn agree(objects: &[Object]) -> Result<(), TestCaseError> {
    let (cluster, problems) = Cluster::from_objects(sourced(objects));
    prop_assert_eq!(problems, vec![]);
    let (tables, problems) = compile(&cluster, 1);
    prop_assert_eq!(problems, vec![]);
    let literal = Literal::new(objects);
    prop_assert_eq!(tables.pod_count(), literal.pods().count());
    for pod in literal.pods() {
        let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
        let subject = tables.find_pod(namespace.unwrap_or_default(), name.unwrap_or_default()).expect("a pod");
        for peer in addresses_of_interest() {
            for direction in [Direction::FromPod, Direction::ToPod] {
                for (protocol, port) in FLOWS {
                    let expected = literal.judge(direction, pod, peer, protocol, port);
                    let question = Question { direction, subject, peer, protocol, port, names: &[] };
                    let found = compiled(&tables, &question);
                    prop_assert_eq!(
                        found,
                        expected,
                        "{:?} {}/{} peer {} {} port {}",
                        direction,
                        namespace.unwrap_or_default(),
                        name.unwrap_or_default(),
                        peer,
                        protocol,
                        port
                    );
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_policies_say_what_the_api_text_says(objects in cluster()) {
        agree(&objects)?;
    }
}

/// The reason given for a verdict names what decided by the API's text: the first rule that allows, or of a denial a rule of
/// a policy that selects the pod, and the field that failed (W03).
fn reasons_agree(objects: &[Object]) -> Result<(), TestCaseError> {
    let (cluster, _) = Cluster::from_objects(sourced(objects));
    let (tables, _) = compile(&cluster, 1);
    let literal = Literal::new(objects);
    for pod in literal.pods() {
        let (namespace, name) = (pod.metadata.namespace.as_deref(), pod.metadata.name.as_deref());
        let subject = tables.find_pod(namespace.unwrap_or_default(), name.unwrap_or_default()).expect("a pod");
        for peer in addresses_of_interest() {
            for (direction, list) in [(Direction::FromPod, "egress"), (Direction::ToPod, "ingress")] {
                for (protocol, port) in FLOWS {
                    let question = Question { direction, subject, peer, protocol, port, names: &[] };
                    let told = explain::judge(&tables, &question);
                    let rule = told.rule.clone().unwrap_or_default();
                    let holds = match literal.judge(direction, pod, peer, protocol, port) {
                        Opinion::NotIsolated => told.allowed && told.rule.is_none(),
                        Opinion::Exempt => told.allowed && rule.contains("always reaches"),
                        Opinion::Allowed { policy, rule: index } => {
                            told.allowed && rule == format!("{policy} spec.{list}[{index}]")
                        }
                        Opinion::Denied => {
                            let named = told.policies.iter().any(|policy| rule.starts_with(&format!("{policy} spec.")));
                            let field = ["is not in", "there is no rule"].iter().any(|field| rule.contains(field));
                            !told.allowed && told.isolated && named && field
                        }
                    };
                    prop_assert!(
                        holds,
                        "{:?} {:?} peer {} {} port {}: {:?}",
                        direction,
                        name,
                        peer,
                        protocol,
                        port,
                        told
                    );
                }
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn reasons_name_what_decided(objects in cluster()) {
        reasons_agree(&objects)?;
    }
}

/// The comparison means something only if the generated clusters bring about every kind of verdict.
#[test]
fn the_generated_clusters_bring_about_every_opinion() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut seen = [0u32; 4];
    for _ in 0..20 {
        let objects = cluster().new_tree(&mut runner).expect("a cluster").current();
        let literal = Literal::new(&objects);
        for pod in literal.pods() {
            for peer in addresses_of_interest() {
                for direction in [Direction::FromPod, Direction::ToPod] {
                    for (protocol, port) in FLOWS {
                        seen[match literal.judge(direction, pod, peer, protocol, port) {
                            Opinion::NotIsolated => 0,
                            Opinion::Exempt => 1,
                            Opinion::Allowed { .. } => 2,
                            Opinion::Denied => 3,
                        }] += 1;
                    }
                }
            }
        }
    }
    assert!(seen.iter().all(|count| *count > 100), "not isolated, exempt, allowed, denied: {seen:?}");
}
