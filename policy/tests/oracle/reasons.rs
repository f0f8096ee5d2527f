//! The reason that is given for a verdict names what decided by the API's text: the rule in each tier, or of a denial without one
//! a rule of every policy that isolates the pod, and the field in which that rule fails indeed (W03).

use super::{DIRECTIONS, Literal, compiled, names, told};
use crate::generate::{Case, case};
use crate::literal::{Act, Asked, Failure, Opinion, Reason, RuleName};
use policy::explain::{Decision, Reasoned, TierReason, UNMATCHED_MAX, judge};
use policy::tables::{Direction, Question, Tier};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};

const CLUSTERS: u32 = 40;

#[test]
fn w03_reasons_name_what_decided() {
    let mut runner =
        TestRunner::new(ProptestConfig { cases: CLUSTERS, failure_persistence: None, ..ProptestConfig::default() });
    match runner.run(&case(), |case| agree(&case)) {
        Ok(()) => {}
        Err(TestError::Fail(reason, case)) => panic!("{}", told(&reason, &case)),
        Err(abort) => panic!("{abort}"),
    }
}

fn agree(case: &Case) -> Result<(), TestCaseError> {
    let tables = compiled(&case.objects)?;
    let literal = Literal::new(&case.objects);
    let names = names(case);
    for pod in literal.pods() {
        let name = |field: &str| pod["metadata"][field].as_str().expect("it is named");
        let subject = tables.find_pod(name("namespace"), name("name")).expect("it is compiled");
        for direction in DIRECTIONS {
            for (((peer, literal_names), names), (protocol, port)) in
                case.peers.iter().zip(&names).flat_map(|peer| case.flows.iter().map(move |flow| (peer, *flow)))
            {
                let asked = Asked { direction, subject: pod, peer: *peer, protocol, port, names: literal_names };
                let told = judge(&tables, &Question { direction, subject, peer: *peer, protocol, port, names });
                let opinion = literal.judge(&asked, false);
                prop_assert!(
                    is_right(&literal, &asked, &opinion, &told),
                    "{direction:?} {} peer {peer} {names:?} {protocol} port {port}: {told:?} for {opinion:?}",
                    name("name")
                );
            }
        }
    }
    Ok(())
}

fn is_right(literal: &Literal<'_>, asked: &Asked<'_>, opinion: &Opinion, told: &Reasoned) -> bool {
    let rule = told.rule.as_deref().unwrap_or_default();
    let isolating = literal.isolating_names(asked.direction, asked.subject);
    let decided = match &opinion.reason {
        Reason::NotIsolated => rule.is_empty(),
        Reason::Exempt => rule.contains("always reaches"),
        Reason::Rule(by) => names_rule(rule, by, asked),
        Reason::Isolated => is_true(literal, asked, &isolating, rule),
    };
    // Of a default deny every policy that isolates the pod says for itself why none of its rules accepts.
    let sentences: Vec<&String> =
        told.unmatched.iter().filter(|why| !why.contains(" would accept it if ") && !why.starts_with("and ")).collect();
    let all_isolating = match opinion.reason {
        Reason::Isolated => {
            sentences.len() == isolating.len().min(sentences.len().max(UNMATCHED_MAX - 1))
                && sentences.iter().all(|why| is_true(literal, asked, &isolating, why))
        }
        _ => sentences.is_empty(),
    };
    let rehearsed = literal.has_dry_run(asked).then(|| literal.judge(asked, true).allowed);
    decided
        && all_isolating
        && told.allowed == opinion.allowed
        && told.isolated != isolating.is_empty()
        && told.policies == literal.selecting_names(asked.direction, asked.subject, false)
        && told.dry_run.as_ref().map(|then| then.allowed) == rehearsed
        && are_tiers(told, opinion, asked)
}

fn list(asked: &Asked<'_>) -> &'static str {
    if asked.direction == Direction::ToPod { "ingress" } else { "egress" }
}

fn names_rule(text: &str, (policy, index): &RuleName, asked: &Asked<'_>) -> bool {
    text.starts_with(&format!("{policy} spec.{}[{index}]", list(asked)))
}

/// Each rule that matched, and nothing else that accepts, denies or passes but a default deny.
fn are_tiers(told: &Reasoned, opinion: &Opinion, asked: &Asked<'_>) -> bool {
    let is_default_deny = |tier: &&TierReason| {
        tier.tier == Tier::NetworkPolicy && tier.decision == Decision::Deny && opinion.reason == Reason::Isolated
    };
    let decided = told.tiers.iter().filter(|tier| tier.decision != Decision::None && !is_default_deny(tier));
    let decided: Vec<&TierReason> = decided.collect();
    let same = |(tier, (wanted, (name, act))): (&&TierReason, &(Tier, (RuleName, Act)))| {
        let decision = match act {
            Act::Accept => Decision::Accept,
            Act::Deny => Decision::Deny,
            Act::Pass => Decision::Pass,
        };
        let names = tier.rule.as_ref().is_some_and(|rule| names_rule(rule, name, asked));
        tier.tier == *wanted && tier.decision == decision && names
    };
    decided.len() == opinion.matched.len() && decided.iter().zip(&opinion.matched).all(same)
}

/// Whether the sentence names a rule of a policy that isolates the pod, and a field in which that fails indeed.
fn is_true(literal: &Literal<'_>, asked: &Asked<'_>, isolating: &[String], why: &str) -> bool {
    let (peers, list) = (if asked.direction == Direction::ToPod { "from" } else { "to" }, list(asked));
    let Some((policy, rest)) = why.split_once(&format!(" spec.{list}")) else { return false };
    let told = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        None => (None, Failure::NoRule),
        Some((index, rest)) => {
            let failure = if rest.starts_with(": is closed") {
                Failure::Closed
            } else if rest.starts_with(".ports: ") {
                Failure::Ports
            } else if rest.starts_with(&format!(".{peers}: ")) && rest.contains("; .ports: ") {
                Failure::Both
            } else if rest.starts_with(&format!(".{peers}: ")) {
                Failure::Peers
            } else {
                return false;
            };
            (index.parse().ok(), failure)
        }
    };
    isolating.iter().any(|name| name == policy) && literal.failure(policy, told.0, asked) == Some(told.1)
}
