//! Why a request is to what it is to, in words.

use crate::harness::{Line, compiled, open_gateway, route_of, services};
use policy::routes::Compiled;

fn said(compiled: &Compiled, line: &str) -> (String, Vec<String>) {
    let line = Line::new(line);
    let explanation = compiled.routes.explain(&line.request());
    let passed =
        explanation.passed.iter().map(|passed| format!("{} {}: {}", passed.rule.object, passed.rule.field, passed.why));
    (explanation.why.clone(), passed.collect())
}

fn shop() -> Compiled {
    let path = |path: &str, more: &str| format!("{{path: {{type: PathPrefix, value: {path}}}{more}}}");
    let ingress = "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: default}
spec:
  rules:
  - host: shop.com
    http: {paths: [{path: /, pathType: Prefix, backend: &b {service: {name: v1, port: {number: 8080}}}}, {path: /api, pathType: Exact, backend: *b}]}
  - host: '*.b.com'
    http: {paths: [{path: /, pathType: Prefix, backend: *b}]}
";
    let post = path("/api", ", method: POST");
    let version = path("/api/v2", ", headers: [{name: version, value: '2'}]");
    let route = route_of("r", "shop.com", &[(&post, "v1"), (&version, "v1"), (&path("/api", ""), "v1")]);
    let yaml = format!(
        "{}{ingress}{route}{}",
        open_gateway().replace("protocol: HTTP,", "protocol: HTTP, hostname: shop.com,"),
        services(&["v1"])
    );
    compiled(&yaml)
}

#[test]
fn the_rule_that_takes_a_request_is_named_and_those_that_do_not_with_the_reason() {
    let (why, passed) = said(&shop(), "http://shop.com/api");
    assert_eq!(why, "Ingress default/shop (spec.rules[0].http.paths[1]) takes shop.com/api (Exact)");
    assert_eq!(
        passed,
        [
            "HTTPRoute default/r spec.rules[0]: it asks for method POST",
            "HTTPRoute default/r spec.rules[2]: path /api (Exact) of Ingress default/shop (spec.rules[0].http.paths[1]) comes first",
            "Ingress default/shop spec.rules[0].http.paths[0]: path /api (Exact) of Ingress default/shop (spec.rules[0].http.paths[1]) comes first",
        ]
    );
}

#[test]
fn the_first_condition_that_fails_is_named() {
    let (why, passed) = said(&shop(), "http://shop.com/api/v2 [version: 3]");
    assert_eq!(why, "HTTPRoute default/r (spec.rules[2]) takes shop.com/api (PathPrefix)");
    assert_eq!(passed[0], "HTTPRoute default/r spec.rules[1]: it asks for header version \"2\"");
}

#[test]
fn what_is_missing_is_named_where_nothing_takes_a_request() {
    let compiled = shop();
    assert_eq!(said(&compiled, "http://other.com/").0, "no rule is for host other.com: there are *.b.com, shop.com");
    assert_eq!(said(&compiled, "http://a.com:81/").0, "nothing listens on port 81");
    let (why, passed) = said(&compiled, "http://c.a.b.com/");
    assert_eq!(why, "rules for c.a.b.com/ ask for more than the request has");
    assert_eq!(passed, ["Ingress default/shop spec.rules[1].http.paths[0]: * of *.b.com is exactly one label"]);
    let exact =
        route_of("r", "", &[("{path: {type: Exact, value: /a}}", "v1"), ("{path: {type: Exact, value: /b}}", "v1")]);
    let exact = crate::harness::compiled(&(open_gateway() + &exact + &services(&["v1"])));
    assert_eq!(said(&exact, "http://any/c").0, "no path of any takes /c: there are /a (Exact), /b (Exact)");
    assert_eq!(said(&exact, "https://any/c").0, "port 443 has no rules");
}
