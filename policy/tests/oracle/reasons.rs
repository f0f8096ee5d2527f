//! The reason that is given for a verdict names what decided by the API's text: the rule, or of a denial without one a rule of a
//! policy that isolates the pod, and the field that failed (W03).

use super::{DIRECTIONS, Literal, compiled, names, told};
use crate::generate::{Case, case};
use crate::literal::{Asked, Opinion, Reason};
use policy::explain::{Reasoned, judge};
use policy::tables::{Direction, Question};
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
    let list = if asked.direction == Direction::ToPod { "ingress" } else { "egress" };
    let rule = told.rule.as_deref().unwrap_or_default();
    let isolating = literal.isolating_names(asked.direction, asked.subject);
    let names_rule = |(policy, index): &(String, u32)| rule.starts_with(&format!("{policy} spec.{list}[{index}]"));
    told.allowed == opinion.allowed
        && told.isolated != isolating.is_empty()
        && match &opinion.reason {
            Reason::NotIsolated => opinion.matched.last().map_or(rule.is_empty(), |_| true),
            Reason::Exempt => rule.contains("always reaches"),
            Reason::Rule(by) => names_rule(by),
            Reason::Isolated => {
                let field =
                    ["is not in", "there is no rule", "not understood", "has no"].iter().any(|why| rule.contains(why));
                isolating.iter().any(|policy| rule.starts_with(&format!("{policy} spec."))) && field
            }
        }
}
