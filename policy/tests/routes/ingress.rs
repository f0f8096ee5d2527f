//! Hosts, paths, default backends and conflicts of Ingresses. The tables of ingress-controller-conformance (features host_rules,
//! path_rules, default_backend) are here line by line.

use crate::harness::{check, check_compiled, compiled, services, told};

/// An Ingress of rules: host, and paths as `type path service`.
fn ingress(name: &str, rules: &[(&str, &[&str])]) -> String {
    let mut yaml = format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: {name}, namespace: default}}\nspec:\n  rules:\n"
    );
    for (host, paths) in rules {
        let host = if host.is_empty() { String::new() } else { format!("host: \"{host}\", ") };
        let paths = paths.iter().map(|path| {
            let [path_type, path, service] = path.split(' ').collect::<Vec<_>>()[..] else { panic!("{path}") };
            let backend = format!("{{service: {{name: {service}, port: {{number: 8080}}}}}}");
            format!("{{path: {path}, pathType: {path_type}, backend: {backend}}}")
        });
        let paths = paths.collect::<Vec<_>>().join(", ");
        yaml.push_str(&format!("  - {{{host}http: {{paths: [{paths}]}}}}\n"));
    }
    yaml
}

#[test]
fn hosts_are_matched_as_the_conformance_suite_wants() {
    let yaml = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: host-rules, namespace: default}
spec:
  rules:
  - host: '*.foo.com'
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: wildcard-foo-com, port: {number: 8080}}}}]}
  - host: foo.bar.com
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: foo-bar-com, port: {name: http}}}}]}
";
    check(
        &format!("{yaml}{}", services(&["wildcard-foo-com", "foo-bar-com"])),
        &[
            ("https://foo.bar.com/", "foo-bar-com:8080"),
            ("http://foo.bar.com/", "foo-bar-com:8080"),
            ("http://subdomain.bar.com/", "404"),
            ("http://bar.foo.com/", "wildcard-foo-com:8080"),
            ("http://baz.bar.foo.com/", "404"),
            ("http://foo.com/", "404"),
        ],
    );
}

#[test]
fn paths_are_matched_as_the_conformance_suite_wants() {
    let rules: [(&str, &[&str]); 4] = [
        ("exact-path-rules", &["Exact /foo foo-exact"]),
        (
            "prefix-path-rules",
            &["Prefix /foo foo-prefix", "Prefix /aaa/bbb aaa-slash-bbb-prefix", "Prefix /aaa aaa-prefix"],
        ),
        ("mixed-path-rules", &["Prefix /foo foo-prefix", "Exact /foo foo-exact"]),
        ("trailing-slash-path-rules", &["Prefix /aaa/bbb/ aaa-slash-bbb-slash-prefix", "Exact /foo/ foo-slash-exact"]),
    ];
    let names = [
        "foo-exact",
        "foo-prefix",
        "aaa-slash-bbb-prefix",
        "aaa-prefix",
        "aaa-slash-bbb-slash-prefix",
        "foo-slash-exact",
    ];
    check(
        &(ingress("path-rules", &rules) + &services(&names)),
        &[
            ("http://exact-path-rules/foo", "foo-exact:8080"),
            ("http://exact-path-rules/foo/", "404"),
            ("http://exact-path-rules/FOO", "404"),
            ("http://exact-path-rules/bar", "404"),
            ("http://prefix-path-rules/foo", "foo-prefix:8080"),
            ("http://prefix-path-rules/foo/", "foo-prefix:8080"),
            ("http://prefix-path-rules/FOO", "404"),
            ("http://prefix-path-rules/aaa/bbb", "aaa-slash-bbb-prefix:8080"),
            ("http://prefix-path-rules/aaa/bbb/ccc", "aaa-slash-bbb-prefix:8080"),
            ("http://prefix-path-rules/aaa/ccc", "aaa-prefix:8080"),
            ("http://prefix-path-rules/aaaccc", "404"),
            ("http://mixed-path-rules/foo", "foo-exact:8080"),
            ("http://mixed-path-rules/foo/", "foo-prefix:8080"),
            ("http://trailing-slash-path-rules/aaa/bbb", "aaa-slash-bbb-slash-prefix:8080"),
            ("http://trailing-slash-path-rules/aaa/bbb/", "aaa-slash-bbb-slash-prefix:8080"),
            ("http://trailing-slash-path-rules/foo", "404"),
            ("http://trailing-slash-path-rules/foo/", "foo-slash-exact:8080"),
        ],
    );
}

/// The table "Examples" of the Ingress documentation: kind, paths, request, which path matches.
#[test]
fn paths_are_matched_as_the_documentation_of_ingress_says() {
    let table: [(&[&str], &str, &str); 20] = [
        (&["Prefix /"], "/anything", "/"),
        (&["Exact /foo"], "/foo", "/foo"),
        (&["Exact /foo"], "/bar", ""),
        (&["Exact /foo"], "/foo/", ""),
        (&["Exact /foo/"], "/foo", ""),
        (&["Prefix /foo"], "/foo/", "/foo"),
        (&["Prefix /foo/"], "/foo", "/foo/"),
        (&["Prefix /foo/"], "/foo/", "/foo/"),
        (&["Prefix /aaa/bb"], "/aaa/bbb", ""),
        (&["Prefix /aaa/bbb"], "/aaa/bbb", "/aaa/bbb"),
        (&["Prefix /aaa/bbb/"], "/aaa/bbb", "/aaa/bbb/"),
        (&["Prefix /aaa/bbb"], "/aaa/bbb/", "/aaa/bbb"),
        (&["Prefix /aaa/bbb"], "/aaa/bbb/ccc", "/aaa/bbb"),
        (&["Prefix /aaa/bbb"], "/aaa/bbbxyz", ""),
        (&["Prefix /", "Prefix /aaa"], "/aaa/ccc", "/aaa"),
        (&["Prefix /", "Prefix /aaa", "Prefix /aaa/bbb"], "/aaa/bbb", "/aaa/bbb"),
        (&["Prefix /", "Prefix /aaa", "Prefix /aaa/bbb"], "/ccc", "/"),
        (&["Prefix /aaa"], "/ccc", ""),
        (&["Exact /foo", "Prefix /foo"], "/foo", "/foo"),
        (&["ImplementationSpecific /foo"], "/foo/bar", "/foo"),
    ];
    for (paths, path, expected) in table {
        let paths: Vec<String> = paths.iter().map(|path| format!("{path} web")).collect();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let compiled = compiled(&(ingress("web", &[("web", &paths)]) + &services(&["web"])));
        let line = crate::harness::Line::new(&format!("http://web{path}"));
        let found = match compiled.routes.find(&line.request()) {
            policy::routes::Found::Rule { rule, .. } => rule.source.path.as_str(),
            _ => "",
        };
        assert_eq!(found, expected, "{paths:?} {path}");
    }
}

#[test]
fn a_default_backend_alone_takes_every_request_as_the_conformance_suite_wants() {
    let yaml = "
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: default-backend, namespace: default}
spec: {defaultBackend: {service: {name: echo-service, port: {number: 8080}}}}
";
    check(
        &format!("{yaml}{}", services(&["echo-service"])),
        &[
            ("GET http://my-host/", "echo-service:8080"),
            ("GET http://my-host/sub-path", "echo-service:8080"),
            ("POST http://some-host/", "echo-service:8080"),
            ("PUT http:///resource", "echo-service:8080"),
            ("DELETE http://some-host/resource", "echo-service:8080"),
            ("PATCH http://my-host/resource", "echo-service:8080"),
        ],
    );
}

#[test]
fn what_no_path_of_a_host_takes_goes_on_to_the_wildcard_then_to_rules_without_host_then_to_the_default_backend() {
    let rules: [(&str, &[&str]); 3] = [
        ("a.example.com", &["Prefix /own own"]),
        ("*.example.com", &["Prefix /own wildcard", "Prefix /wild wildcard"]),
        ("", &["Prefix /own every", "Prefix /wild every", "Prefix /every every"]),
    ];
    let default = "  defaultBackend: {service: {name: default, port: {number: 8080}}}\n";
    check(
        &(ingress("web", &rules) + default + &services(&["own", "wildcard", "every", "default"])),
        &[
            ("http://a.example.com/own", "own:8080"),
            ("http://a.example.com/wild", "wildcard:8080"),
            ("http://a.example.com/every", "every:8080"),
            ("http://a.example.com/other", "default:8080"),
            ("http://b.example.com/own", "wildcard:8080"),
            ("http://b.a.example.com/own", "every:8080"),
            ("http://example.com/wild", "every:8080"),
            ("http://a.example.com./own", "own:8080"),
        ],
    );
}

#[test]
fn a_default_backend_is_first_for_the_hosts_of_its_ingress_and_that_of_the_oldest_for_all_others() {
    let with_default = |name: &str, created: &str, host: &str| {
        let rule = format!(
            "{{host: {host}, http: {{paths: [{{path: /x, pathType: Exact, backend: &b {{service: {{name: {name}, port: {{number: 8080}}}}}}}}]}}}}"
        );
        format!(
            "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: {name}, namespace: default, creationTimestamp: {created}}}
spec: {{rules: [{rule}], defaultBackend: *b}}
"
        )
    };
    let yaml = with_default("a", "2024-01-02T00:00:00Z", "a.com") + &with_default("b", "2024-01-01T00:00:00Z", "b.com");
    let compiled = compiled(&(yaml + &services(&["a", "b"])));
    check_compiled(
        &compiled,
        &[("http://a.com/y", "a:8080"), ("http://b.com/y", "b:8080"), ("http://c.com/y", "b:8080")],
    );
    assert_eq!(
        told(&compiled)[0],
        "Ingress default/a: spec.defaultBackend: requests for hosts of other Ingresses go to that of Ingress default/b, \
         because it is older"
    );
}

#[test]
fn of_two_ingresses_with_the_same_host_and_path_the_oldest_wins_and_the_other_is_told() {
    let created = |name: &str, time: Option<&str>, path_type: &str, path: &str| {
        let path = format!("{path_type} {path} {name}");
        let yaml = ingress(name, &[("shop.com", &["Exact /only-here-1 x", &path])]);
        let time = time.map(|time| format!(", creationTimestamp: '{time}'")).unwrap_or_default();
        yaml.replace("namespace: default", &format!("namespace: default{time}")).replace("only-here-1", name)
    };
    let yaml = created("b", Some("2024-01-01T00:00:00Z"), "Prefix", "/api")
        + &created("a", Some("2024-01-02T00:00:00Z"), "ImplementationSpecific", "/api/")
        + &created("c", None, "Prefix", "/api")
        + &created("d", None, "Exact", "/api/");
    let compiled = compiled(&(yaml + &services(&["a", "b", "c", "d", "x"])));
    check_compiled(
        &compiled,
        &[
            ("http://shop.com/api", "b:8080"),
            ("http://shop.com/api/", "d:8080"),
            ("http://shop.com/api/x", "b:8080"),
            ("http://shop.com/a", "x:8080"),
        ],
    );
    let lost = "no request comes here: shop.com/api";
    assert_eq!(
        told(&compiled),
        [
            format!(
                "Ingress default/a: spec.rules[0].http.paths[1]: {lost}/ is taken by Ingress default/b (spec.rules[0].http.paths[1]), because it is older"
            ),
            format!(
                "Ingress default/c: spec.rules[0].http.paths[1]: {lost} is taken by Ingress default/b (spec.rules[0].http.paths[1]), because it has a creationTimestamp"
            ),
        ]
    );
}

#[test]
fn a_path_that_an_ingress_says_twice_is_told() {
    let yaml = ingress("web", &[("", &["Prefix / a", "Prefix /b a", "Prefix /b/ a"])]);
    let compiled = compiled(&(yaml + &services(&["a"])));
    assert_eq!(
        told(&compiled)[0],
        "Ingress default/web: spec.rules[0].http.paths[2]: no request comes here: */b/ is taken by spec.rules[0].http.paths[1]"
    );
}
