//! The compiled routes against a slow oracle that follows the words of the Ingress and Gateway APIs, on generated objects: which rule
//! takes a request and how much of its path a prefix matched, which requests are misdirected, which certificate is shown.
//!
//! `PROPTEST_CASES=N` asks about N clusters if that is more than the default; `PROPTEST_RNG_SEED=S` repeats a run.

mod generate;
mod literal;

use generate::{Case, case};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use literal::{Answer, Asked, Literal};
use policy::cluster::Cluster;
use policy::objects::{Severity, parse};
use policy::routes::{self, Compiled, Found, Request, RouteOptions};
use proptest::prelude::*;
use proptest::test_runner::{TestError, TestRunner};
use std::cell::Cell;

/// Clusters that are asked about, and questions that have to come of it.
const CLUSTERS: u32 = 250;
const QUESTIONS_MIN: u64 = 100_000;

fn compiled(case: &Case) -> Result<Compiled, TestCaseError> {
    let text: Vec<String> = case.objects.iter().map(ToString::to_string).collect();
    let parsed = parse("generated", &text.join("\n---\n"));
    let (cluster, conflicts) = Cluster::from_objects(parsed.objects);
    let default_certificate = case.has_default_certificate.then(|| ("default".to_owned(), "s1".to_owned()));
    let compiled = routes::compile(&cluster, &RouteOptions { default_certificate, ..RouteOptions::default() });
    let mut refused = parsed.problems.iter().chain(&conflicts).chain(&compiled.problems);
    let refused = refused.find(|problem| problem.severity > Severity::Warning);
    prop_assert!(refused.is_none(), "the objects are valid: {}", refused.expect("there is one"));
    Ok(compiled)
}

fn headers(asked: &Asked<'_>) -> HeaderMap {
    let fields =
        asked.headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    fields.collect()
}

/// What the routes say, in the oracle's words.
fn answer(found: &Found<'_>) -> Answer {
    match found {
        Found::Nothing => Answer::Nothing,
        Found::Misdirected => Answer::Misdirected,
        Found::Rule { rule, matched_prefix_bytes } => Answer::Rule {
            object: rule.source.object.to_string(),
            field: rule.source.field.clone(),
            matched_prefix_bytes: *matched_prefix_bytes,
        },
    }
}

/// Everything that the case asks; gives how much that was.
fn agree(case: &Case) -> Result<u64, TestCaseError> {
    let compiled = compiled(case)?;
    let literal = Literal::new(&case.objects, case.has_default_certificate);
    for asked in &case.asked {
        let (headers, method) = (headers(asked), asked.method.parse::<Method>().expect("a method"));
        let Asked { port, sni, host, path, query, .. } = *asked;
        let request = Request { port, sni, host, method: &method, path, query, headers: &headers };
        let expected = literal.judge(asked);
        let found = compiled.routes.find(&request);
        prop_assert_eq!(answer(&found), expected.clone(), "{:?}\n{:#?}", asked, compiled.problems);
        let explanation = compiled.routes.explain(&request);
        prop_assert_eq!(answer(&explanation.found), expected.clone(), "{:?}", asked);
        if let Answer::Rule { field, .. } = &expected {
            prop_assert!(explanation.why.contains(&format!("({field})")), "{}", explanation.why);
        }
        if port == 443 {
            let certificate = compiled.routes.certificate(port, sni);
            let secret = certificate.map(|id| compiled.routes.certificates[id.0 as usize].secret.name.as_str());
            prop_assert_eq!(secret, literal.secret(sni.unwrap_or_default()), "{:?}", sni);
        }
    }
    Ok(case.asked.len() as u64)
}

#[test]
fn every_request_is_to_what_a_literal_reading_of_ingress_and_gateway_api_says() {
    let mut config = ProptestConfig::default();
    config.cases = config.cases.max(CLUSTERS);
    let questions = Cell::new(0);
    let outcome = TestRunner::new(config).run(&case(), |case| {
        questions.set(questions.get() + agree(&case)?);
        Ok(())
    });
    match outcome {
        Ok(()) => assert!(questions.get() >= QUESTIONS_MIN, "only {} questions", questions.get()),
        Err(TestError::Fail(reason, case)) => {
            let objects: Vec<String> = case.objects.iter().map(ToString::to_string).collect();
            panic!("{reason}\n{}", objects.join("\n---\n"));
        }
        Err(TestError::Abort(reason)) => panic!("aborted: {reason}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn no_request_is_too_strange_to_be_looked_up_and_explained(
        case in case(),
        strange in proptest::collection::vec(("[.*a-z]{0,12}|\\PC*", "[/ab%.]{0,24}|\\PC*", "[pq=&+%0-9]{0,16}|\\PC*"), 40),
    ) {
        let compiled = compiled(&case)?;
        let headers = HeaderMap::new();
        for (host, path, query) in &strange {
            for port in [80, 443, 8080] {
                let request = Request { port, sni: Some(host), host, method: &Method::GET, path, query: Some(query), headers: &headers };
                let found = answer(&compiled.routes.find(&request));
                prop_assert_eq!(answer(&compiled.routes.explain(&request).found), found);
                compiled.routes.certificate(port, Some(host));
            }
        }
    }
}
