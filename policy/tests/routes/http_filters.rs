//! What becomes of requests that HTTPRoutes take: filters, redirects, weights, mirrors, limits of time.

use crate::harness::{Line, check, check_compiled, compiled, open_gateway, route, service, services, told};
use policy::routes::{
    Compiled, Filter, Found, HeaderChanges, HostRewrite, Outcome, PathRewrite, Redirect, Rule, Target, WeightedTarget,
};
use std::time::Duration;

fn rules(rules: &str) -> Compiled {
    let spec = format!("parentRefs: [{{name: web}}], rules: [{rules}]");
    compiled(&(open_gateway() + &route("r", &spec) + &services(&["v1", "v2", "v3"])))
}

fn rule<'a>(compiled: &'a Compiled, line: &str) -> (&'a Rule, usize) {
    match compiled.routes.find(&Line::new(line).request()) {
        Found::Rule { rule, matched_prefix_bytes } => (rule, matched_prefix_bytes),
        found => panic!("{found:?}: {:?}", compiled.problems),
    }
}

fn targets<'a>(compiled: &'a Compiled, line: &str) -> &'a [WeightedTarget] {
    match &rule(compiled, line).0.outcome {
        Outcome::Forward(forward) => &forward.targets,
        outcome => panic!("{outcome:?}"),
    }
}

fn header_changes(
    set: &[(&'static str, &str)],
    add: &[(&'static str, &str)],
    remove: &[&'static str],
) -> HeaderChanges {
    let fields = |fields: &[(&'static str, &str)]| {
        fields.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    };
    let remove = remove.iter().map(|name| name.parse().expect("a name")).collect();
    HeaderChanges { set: fields(set), add: fields(add), remove }
}

#[test]
fn header_fields_of_requests_and_answers_are_changed_and_the_first_of_a_name_counts() {
    let compiled = rules(
        "{filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Header-Set, value: one}], add: [{name: X-Header-Add, value: two}], remove: [X-Header-Remove]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: a, value: '1'}]}}], backendRefs: [{name: v1, port: 8080}]}",
    );
    let (rule, _) = rule(&compiled, "http://web/");
    let expected = [
        Filter::RequestHeaders(header_changes(
            &[("x-header-set", "one")],
            &[("x-header-add", "two")],
            &["x-header-remove"],
        )),
        Filter::ResponseHeaders(header_changes(&[("a", "1")], &[], &[])),
    ];
    assert_eq!(rule.filters, expected);
    assert_eq!(told(&compiled), Vec::<String>::new());
}

#[test]
fn filters_of_one_backend_are_that_backends_own() {
    let compiled = rules(
        "{backendRefs: [{name: v1, port: 8080, weight: 2, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: backend, value: v1}]}}]}, {name: v2, port: 8080, filters: [{type: URLRewrite, urlRewrite: {hostname: v2.com}}]}]}",
    );
    let [first, second] = targets(&compiled, "http://web/") else { panic!("two") };
    assert_eq!((first.weight, second.weight), (2, 1));
    assert_eq!(first.filters, [Filter::RequestHeaders(header_changes(&[("backend", "v1")], &[], &[]))]);
    let host = Some(HostRewrite("v2.com".parse().expect("a value")));
    assert_eq!(second.filters, [Filter::Rewrite { host, path: None }]);
}

#[test]
fn redirects_say_what_changes_and_leave_the_rest() {
    let redirect = |path: &str, redirect: &str| {
        format!(
            "{{matches: [{{path: {{value: {path}}}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{redirect}}}}}]}}"
        )
    };
    let compiled = rules(
        &[
            redirect("/host", "hostname: example.org"),
            redirect("/status", "statusCode: 301"),
            redirect("/scheme", "scheme: https"),
            redirect("/port", "port: 8083, scheme: http, hostname: example.com"),
            redirect("/full", "path: {type: ReplaceFullPath, replaceFullPath: /all}"),
            redirect("/original-prefix", "statusCode: 308, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}"),
        ]
        .join(", "),
    );
    check_compiled(
        &compiled,
        &[
            ("http://web/host", "302 -://example.org/-"),
            ("http://web/status", "301 -://-/-"),
            ("http://web/scheme", "302 https://-/-"),
            ("http://web/port", "302 http://example.com:8083/-"),
            ("http://web/full/x", "302 -://-/all"),
            ("http://web/original-prefix/lemon", "308 -://-/new+"),
        ],
    );
    let (rule, matched) = rule(&compiled, "http://web/original-prefix/lemon");
    assert_eq!(matched, "/original-prefix".len());
    let path = Some(PathRewrite::Prefix("/new".into()));
    let Outcome::Redirect(found) = &rule.outcome else { panic!("a redirect") };
    assert_eq!(*found, Redirect { scheme: None, host: None, path, port: None, status: 308 });
}

#[test]
fn rewrites_say_host_and_path() {
    let compiled = rules(
        "{matches: [{path: {value: /prefix/one/}}], filters: [{type: URLRewrite, urlRewrite: {hostname: one.example.org, path: {type: ReplacePrefixMatch, replacePrefixMatch: /one}}}], backendRefs: [{name: v1, port: 8080}]}, {matches: [{path: {value: /full}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /all}}}], backendRefs: [{name: v1, port: 8080}]}",
    );
    let (prefix, matched) = rule(&compiled, "http://web/prefix/one/two");
    assert_eq!(matched, "/prefix/one".len());
    let host = Some(HostRewrite("one.example.org".parse().expect("a value")));
    assert_eq!(prefix.filters, [Filter::Rewrite { host, path: Some(PathRewrite::Prefix("/one".into())) }]);
    let (full, _) = rule(&compiled, "http://web/full/x");
    assert_eq!(full.filters, [Filter::Rewrite { host: None, path: Some(PathRewrite::Full("/all".into())) }]);
}

#[test]
fn copies_go_to_their_own_backends_and_in_the_share_that_is_asked_for() {
    let mirror = |service: &str, share: &str| {
        let backend = format!("backendRef: {{name: {service}, port: 8080}}");
        format!("{{type: RequestMirror, requestMirror: {{{backend}{share}}}}}")
    };
    let filters = [
        mirror("v2", ""),
        mirror("v3", ", percent: 20"),
        mirror("v3", ", fraction: {numerator: 1, denominator: 1000}"),
        mirror("absent", ""),
    ];
    let compiled = rules(&format!("{{filters: [{}], backendRefs: [{{name: v1, port: 8080}}]}}", filters.join(", ")));
    let shares: Vec<(String, u32, u32)> = rule(&compiled, "http://web/")
        .0
        .filters
        .iter()
        .map(|filter| match filter {
            Filter::Mirror { target: Target::Endpoints(endpoints), numerator, denominator } => {
                (endpoints.service.to_string(), *numerator, *denominator)
            }
            Filter::Mirror { target: Target::Unresolved { .. }, numerator, denominator } => {
                ("-".into(), *numerator, *denominator)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(shares, [("v2".into(), 1, 1), ("v3".into(), 20, 100), ("v3".into(), 1, 1000), ("-".into(), 1, 1)]);
    assert_eq!(told(&compiled).len(), 1);
}

#[test]
fn weights_are_kept_and_without_a_backend_to_go_to_the_answer_is_500() {
    let refs = |refs: &str| format!("{{matches: [{{path: {{value: /}}}}], backendRefs: [{refs}]}}");
    let outcome = |text: &str, expected: &str| check_compiled(&rules(&refs(text)), &[("http://web/", expected)]);
    outcome(
        "{name: v1, port: 8080, weight: 70}, {name: v2, port: 8080, weight: 30}, {name: v3, port: 8080, weight: 0}",
        "v1:8080*70 v2:8080*30 v3:8080*0",
    );
    outcome("{name: v1, port: 8080}", "v1:8080");
    outcome("{name: v1, port: 8080, weight: 0}", "500");
    outcome("", "500");
    check_compiled(&rules("{matches: [{path: {value: /}}]}"), &[("http://web/", "500")]);
    let compiled = rules(&refs("{name: v1, port: 8080, weight: 1000000}, {name: v2, port: 8080, weight: 1000000}"));
    let Outcome::Forward(forward) = &rule(&compiled, "http://web/").0.outcome else { panic!("backends") };
    assert_eq!(forward.weight_total, 2_000_000);
}

#[test]
fn a_service_without_endpoints_is_a_backend_that_answers_503() {
    let empty = service("default", "empty").replace("endpoints: [{addresses: [10.0.0.1]}]", "endpoints: []");
    let spec = "parentRefs: [{name: web}], rules: [{backendRefs: [{name: empty, port: 8080}]}]";
    check(&(open_gateway() + &route("r", spec) + &empty), &[("http://web/", "503")]);
}

#[test]
fn limits_of_time_are_read_and_zero_is_none() {
    let compiled = rules(
        "{matches: [{path: {value: /a}}], timeouts: {request: 1m30s, backendRequest: 500ms}, backendRefs: [{name: v1, port: 8080}]}, {matches: [{path: {value: /b}}], timeouts: {request: 0s}, backendRefs: [{name: v1, port: 8080}]}",
    );
    let timeouts = rule(&compiled, "http://web/a").0.timeouts;
    assert_eq!(
        (timeouts.request, timeouts.backend_request),
        (Some(Duration::from_secs(90)), Some(Duration::from_millis(500)))
    );
    let timeouts = rule(&compiled, "http://web/b").0.timeouts;
    assert_eq!((timeouts.request, timeouts.backend_request), (Some(Duration::ZERO), None));
}

#[test]
fn a_redirect_of_a_single_backend_is_told_and_answered_with_500() {
    let compiled = rules(
        "{backendRefs: [{name: v1, port: 8080, filters: [{type: RequestRedirect, requestRedirect: {hostname: a.com}}]}]}",
    );
    check_compiled(&compiled, &[("http://web/", "500")]);
    assert_eq!(
        told(&compiled),
        [
            "HTTPRoute default/r: spec.rules[0].backendRefs[0].filters: a single backend cannot redirect, only a rule can: requests for this backend are answered with 500"
        ]
    );
}

#[test]
fn what_has_no_effect_is_told() {
    let compiled =
        rules("{retry: {attempts: 2}, sessionPersistence: {type: Cookie}, backendRefs: [{name: v1, port: 8080}]}");
    check_compiled(&compiled, &[("http://web/", "v1:8080")]);
    assert_eq!(
        told(&compiled),
        [
            "HTTPRoute default/r: spec.rules[0].retry: not supported: requests are sent again only as the proxy decides",
            "HTTPRoute default/r: spec.rules[0].sessionPersistence: not supported: requests of a session go to any backend",
        ]
    );
}
