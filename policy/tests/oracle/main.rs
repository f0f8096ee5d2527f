//! The compiled tables against a slow oracle that follows the words of the NetworkPolicy and ClusterNetworkPolicy APIs, on
//! generated clusters: every verdict with the rule that gave it, the tiers on the way there, and what dry-run policies would
//! change.
//!
//! `PROPTEST_CASES=N` asks about N clusters if that is more than the default; `PROPTEST_RNG_SEED=S` repeats a run.

mod generate;
mod literal;
mod reasons;

use generate::{Case, case};
use literal::{Act, Asked, Literal, Opinion, Reason, RuleName};
use policy::cluster::Cluster;
use policy::compile::compile;
use policy::objects::{Severity, parse};
use policy::tables::{
    Action, Direction, PodIndex, PolicyIndex, Question, RuleRef, Tables, Trace, Verdict, VerdictReason,
};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use serde_json::Value;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

const DIRECTIONS: [Direction; 2] = [Direction::FromPod, Direction::ToPod];

/// Clusters that are asked about, and questions that have to come of it.
const CLUSTERS: u32 = 300;
const QUESTIONS_MIN: u64 = 100_000;

fn compiled(objects: &[Value]) -> Result<Tables, TestCaseError> {
    let text: Vec<String> = objects.iter().map(Value::to_string).collect();
    let parsed = parse("generated", &text.join("\n---\n"));
    let (cluster, conflicts) = Cluster::from_objects(parsed.objects);
    let (tables, problems) = compile(&cluster, 1);
    let mut refused = parsed.problems.iter().chain(&conflicts).chain(&problems);
    let refused = refused.find(|problem| problem.severity > Severity::Closed);
    prop_assert!(refused.is_none(), "the objects are valid: {}", refused.expect("there is one"));
    Ok(tables)
}

/// What the subject has resolved to each peer, as the tables want it.
fn names(case: &Case) -> Vec<Vec<Arc<str>>> {
    case.peers.iter().map(|(_, names)| names.iter().map(|name| Arc::from(*name)).collect()).collect()
}

fn policy_name(tables: &Tables, policy: PolicyIndex) -> String {
    tables.policies[policy.0 as usize].to_string()
}

fn rule_name(tables: &Tables, rule: RuleRef) -> RuleName {
    (policy_name(tables, rule.policy), rule.index)
}

/// What the tables say, in the oracle's words.
fn opinion(tables: &Tables, trace: &Trace) -> Opinion {
    let act = |action| match action {
        Action::Accept => Act::Accept,
        Action::Deny => Act::Deny,
        Action::Pass => Act::Pass,
    };
    let matched = |(rule, action)| (rule_name(tables, rule), act(action));
    let Verdict { allowed, reason, spares_established } = trace.verdict;
    Opinion {
        allowed,
        reason: match reason {
            VerdictReason::NotIsolated => Reason::NotIsolated,
            VerdictReason::Exempt => Reason::Exempt,
            VerdictReason::Isolated => Reason::Isolated,
            VerdictReason::Rule(rule) => Reason::Rule(rule_name(tables, rule)),
        },
        spares_established,
        matched: trace.tiers.iter().filter_map(|step| Some((step.tier, step.matched.map(matched)?))).collect(),
    }
}

/// Everything that the case asks; gives how much that was.
fn agree(case: &Case) -> Result<u64, TestCaseError> {
    let tables = compiled(&case.objects)?;
    let literal = Literal::new(&case.objects);
    prop_assert_eq!(tables.pod_count(), literal.pods().count());
    let mut questions = 0;
    let names = names(case);
    for pod in literal.pods() {
        let name = |field: &str| pod["metadata"][field].as_str().expect("it is named");
        let subject = tables.find_pod(name("namespace"), name("name")).expect("it is compiled");
        for direction in DIRECTIONS {
            agree_on_pod(&tables, &literal, direction, subject, pod)?;
            let rehearses = literal.has_dry_run(&Asked::about(direction, pod));
            for (((peer, literal_names), names), (protocol, port)) in
                case.peers.iter().zip(&names).flat_map(|peer| case.flows.iter().map(move |flow| (peer, *flow)))
            {
                let asked =
                    Asked { direction, subject: pod, peer: *peer, protocol, port, names: literal_names.as_slice() };
                let question = Question { direction, subject, peer: *peer, protocol, port, names };
                agree_on_flow(&tables, &literal, &asked, &question, rehearses)?;
                questions += 1;
            }
        }
    }
    Ok(questions)
}

fn agree_on_flow(
    tables: &Tables,
    literal: &Literal<'_>,
    asked: &Asked<'_>,
    question: &Question<'_>,
    rehearses: bool,
) -> Result<(), TestCaseError> {
    let about = || {
        let Asked { direction, subject, peer, protocol, port, names } = asked;
        format!("{direction:?} {} peer {peer} {names:?} {protocol} port {port}", subject["metadata"]["name"])
    };
    let verdict = tables.check(question);
    let trace = tables.trace(question, false);
    prop_assert_eq!(opinion(tables, &trace), literal.judge(asked, false), "{}", about());
    prop_assert_eq!(verdict, trace.verdict, "{}", about());
    let rehearsed = tables.rehearse(question);
    prop_assert_eq!(rehearsed.is_some(), rehearses, "{}", about());
    if let Some(rehearsed) = rehearsed {
        let trace = tables.trace(question, true);
        prop_assert_eq!(opinion(tables, &trace), literal.judge(asked, true), "rehearsed {}", about());
        prop_assert_eq!(rehearsed, trace.verdict, "rehearsed {}", about());
    }
    Ok(())
}

/// The policies that concern a pod, whatever the flow.
fn agree_on_pod(
    tables: &Tables,
    literal: &Literal<'_>,
    direction: Direction,
    subject: PodIndex,
    pod: &Value,
) -> Result<(), TestCaseError> {
    let names = |policies: &[PolicyIndex]| policies.iter().map(|p| policy_name(tables, *p)).collect::<Vec<_>>();
    let about = format!("{direction:?} {}", pod["metadata"]["name"]);
    let (selecting, isolating) = (tables.selecting(direction, subject), tables.isolating(direction, subject));
    prop_assert_eq!(names(&selecting), literal.selecting_names(direction, pod, true), "selecting {}", about);
    prop_assert_eq!(names(isolating), literal.isolating_names(direction, pod), "isolating {}", about);
    if direction == Direction::FromPod {
        prop_assert_eq!(tables.reads_names(subject), literal.reads_names(pod), "{} reads names", about);
    }
    Ok(())
}

/// A failing case so that it can be pasted into a file.
fn told(reason: &dyn std::fmt::Display, case: &Case) -> String {
    let objects: Vec<String> = case.objects.iter().map(Value::to_string).collect();
    format!("{reason}\n\npeers {:?}\nflows {:?}\n\n{}", case.peers, case.flows, objects.join("\n---\n"))
}

#[test]
fn compiled_policies_say_what_the_api_text_says() {
    let default = ProptestConfig::default();
    let cases = default.cases.max(CLUSTERS);
    let mut runner = TestRunner::new(ProptestConfig { cases, failure_persistence: None, ..default });
    let questions = Cell::new(0);
    let result = runner.run(&case(), |case| {
        questions.set(questions.get() + agree(&case)?);
        Ok(())
    });
    match result {
        Ok(()) => println!("{} questions about {cases} clusters", questions.get()),
        Err(TestError::Fail(reason, case)) => panic!("{}", told(&reason, &case)),
        Err(abort) => panic!("{abort}"),
    }
    assert!(questions.get() >= QUESTIONS_MIN, "only {} questions were asked", questions.get());
}

/// What a comparison has to bring about to mean something, with how often it did in a few clusters.
fn tally(case: &Case, seen: &mut BTreeMap<String, u32>) {
    let literal = Literal::new(&case.objects);
    let mut count = |what: &str| *seen.entry(what.to_owned()).or_default() += 1;
    let asked = |direction, subject, (peer, names): &'_ (IpAddr, Vec<&'static str>), (protocol, port)| {
        (direction, subject, *peer, names.clone(), protocol, port)
    };
    let all = literal.pods().flat_map(|pod| {
        DIRECTIONS.into_iter().flat_map(move |direction| {
            let peers = case.peers.iter();
            peers.flat_map(move |peer| case.flows.iter().map(move |flow| asked(direction, pod, peer, *flow)))
        })
    });
    for (direction, subject, peer, names, protocol, port) in all {
        let asked = Asked { direction, subject, peer, protocol, port, names: &names };
        let opinion = literal.judge(&asked, false);
        let judged = |asked: &Asked<'_>| literal.judge(asked, false).allowed;
        count(&summary(&opinion));
        if opinion.spares_established {
            count("spares established flows");
        }
        if judged(&asked) != judged(&Asked { names: &[], ..asked.clone() }) {
            count("a name decides");
        }
        if literal.has_dry_run(&asked) {
            let would = literal.judge(&asked, true);
            count(&format!("{} now, {} with dry-run policies", word(opinion.allowed), word(would.allowed)));
        }
        if let Some((_, (rule, act))) = opinion.matched.last() {
            literal.features(rule, direction).iter().for_each(|feature| count(&format!("{act:?} of {feature}")));
            if !protocol.has_ports() {
                count(&format!("{act:?} of a protocol without ports"));
            }
        }
    }
}

fn word(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

/// The way through the tiers, without names.
fn summary(opinion: &Opinion) -> String {
    let mut way: Vec<String> = opinion.matched.iter().map(|(tier, (_, act))| format!("{tier:?} {act:?}")).collect();
    match opinion.reason {
        Reason::Rule(_) => {}
        ref other => way.push(format!("{other:?}")),
    }
    way.join(", ")
}

/// The comparison means something only if the generated clusters bring about every kind of verdict.
#[test]
fn the_generated_clusters_bring_about_every_opinion() {
    use proptest::strategy::ValueTree;
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeMap::new();
    for _ in 0..120 {
        tally(&case().new_tree(&mut runner).expect("a cluster").current(), &mut seen);
    }
    println!("{seen:#?}");
    let verdicts = [
        "NetworkPolicy Accept",
        "Isolated",
        "Baseline Accept",
        "Baseline Deny",
        "NotIsolated",
        "Baseline Pass, NotIsolated",
    ];
    let passed = verdicts.map(|verdict| format!("Admin Pass, {verdict}"));
    let others = ["Exempt", "Admin Accept", "Admin Deny", "spares established flows", "a name decides"];
    let features = [
        "namespaces",
        "pods",
        "nodes",
        "networks",
        "domainNames",
        "ports",
        "a port name",
        "SCTP",
        "a selector",
        "NotIn",
        "Exists",
        "DoesNotExist",
        "ipBlock",
        "except",
        "endPort",
        "a protocol without ports",
    ];
    let accepts = features.map(|feature| format!("Accept of {feature}"));
    let denies = ["a field of a later version", "nodes", "networks", "a port name", "a protocol without ports"];
    let denies = denies.map(|feature| format!("Deny of {feature}"));
    let rehearsed = ["allowed now, denied", "denied now, allowed", "denied now, denied", "allowed now, allowed"];
    let rehearsed = rehearsed.map(|change| format!("{change} with dry-run policies"));
    let wanted = verdicts.iter().chain(&others).map(|name| (*name).to_owned());
    for wanted in wanted.chain(passed).chain(accepts).chain(denies).chain(rehearsed) {
        let times = seen.get(&wanted).copied().unwrap_or_default();
        assert!(times >= 10, "{wanted:?} came about {times} times: {seen:#?}");
    }
}
