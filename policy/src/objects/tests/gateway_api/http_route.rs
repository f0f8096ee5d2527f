//! HTTPRoutes: parents, hosts, rules and matches.

use super::*;

/// An HTTPRoute `r` with this spec.
fn route(spec: &str) -> String {
    format!("{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: r}}, spec: {spec}}}")
}

/// An HTTPRoute with one rule of these fields.
pub(super) fn rule(fields: &str) -> String {
    route(&format!("{{rules: [{{{fields}}}]}}"))
}

/// An HTTPRoute with one match of these fields.
fn matching(fields: &str) -> String {
    rule(&format!("matches: [{{{fields}}}]"))
}

#[test]
fn a_route_is_written_back_as_it_was_read() {
    let header = json!({"name": "X-A", "value": "b"});
    let modifier = json!({"set": [header], "add": [header], "remove": ["X-B"]});
    let filters = json!([
        {"type": "RequestHeaderModifier", "requestHeaderModifier": modifier},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier},
        {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "s", "port": 80}, "percent": 5}},
        {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "s", "port": 80}, "fraction": {"numerator": 5}}},
        {"type": "RequestMirror", "requestMirror": {
            "backendRef": {"group": "", "kind": "Service", "name": "s", "namespace": "n", "port": 80},
            "fraction": {"numerator": 5, "denominator": 1000}}},
        {"type": "URLRewrite", "urlRewrite": {
            "hostname": "a.b", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": ""}}},
        {"type": "CORS", "cors": {
            "allowOrigins": ["https://*.a.b:8443", "http://c"], "allowCredentials": true, "allowMethods": ["GET", "PUT"],
            "allowHeaders": ["X-A"], "exposeHeaders": ["*"], "maxAge": 60}},
        {"type": "ExtensionRef", "extensionRef": {"group": "example.com", "kind": "Filter", "name": "f"}},
    ]);
    survives(&json!({
        "kind": "HTTPRoute",
        "metadata": {"name": "r", "namespace": "shop", "generation": 2},
        "spec": {
            "parentRefs": [
                {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "edge", "name": "g", "sectionName": "https", "port": 443},
                {"namespace": "edge", "name": "g", "sectionName": "http"},
                {"name": "g"},
            ],
            "hostnames": ["shop.example", "*.shop.example"],
            "rules": [
                {
                    "name": "first",
                    "matches": [{
                        "path": {"type": "PathPrefix", "value": "/api"},
                        "headers": [{"type": "Exact", "name": "A", "value": "b"}, {"name": "B", "type": "RegularExpression", "value": "b+"}],
                        "queryParams": [{"name": "a", "value": "b"}, {"type": "RegularExpression", "name": "b", "value": "."}],
                        "method": "GET",
                    }],
                    "filters": filters,
                    "backendRefs": [
                        {"group": "", "kind": "Service", "namespace": "n", "name": "s", "port": 80, "weight": 0, "filters": filters},
                        {"group": "example.com", "kind": "Bucket", "name": "s"},
                    ],
                    "timeouts": {"request": "10s", "backendRequest": "1500ms"},
                    "retry": {"codes": [500, 503], "attempts": 2, "backoff": "100ms"},
                    "sessionPersistence": {
                        "sessionName": "s", "absoluteTimeout": "1h", "idleTimeout": "5m", "type": "Cookie",
                        "cookieConfig": {"lifetimeType": "Permanent"},
                    },
                },
                {
                    "matches": [
                        {}, {"path": {}}, {"path": {"type": "Exact", "value": "/a%20b"}},
                        {"path": {"type": "RegularExpression", "value": "[/]//.*"}},
                    ],
                    "filters": [{"type": "RequestRedirect", "requestRedirect": {
                        "scheme": "https", "hostname": "a.b", "port": 8443, "statusCode": 308,
                        "path": {"type": "ReplaceFullPath", "replaceFullPath": "/"}}}],
                },
                {},
            ],
        },
        "status": {"parents": [{
            "parentRef": {"name": "g"}, "controllerName": "podplane.io/gateway",
            "conditions": [condition("Accepted"), condition("ResolvedRefs")],
        }]},
    }));
}

#[test]
fn what_a_route_does_not_say_is_told_by_its_methods() {
    let text = format!("{}\n---\n{}", route("{parentRefs: [{name: g}]}"), rule("backendRefs: [{name: s, port: 80}]"));
    let parsed = parse("f.yaml", &text);
    let [Object::HTTPRoute(empty), Object::HTTPRoute(full)] = [&parsed.objects[0].object, &parsed.objects[1].object]
    else {
        panic!("two routes")
    };
    let parent = &empty.spec.parent_refs.as_ref().expect("a parent is given")[0];
    assert_eq!((parent.group(), parent.kind()), ("gateway.networking.k8s.io", "Gateway"));
    for spec in [&empty.spec, &full.spec] {
        let [rule] = spec.rules() else { panic!("one rule") };
        let [everything] = rule.matches() else { panic!("one match") };
        assert_eq!(everything.path().1, "/");
        assert_eq!(everything.path().0.as_str(), "PathPrefix");
    }
    assert!(empty.spec.rules()[0].backend_refs.is_none());
    let backend = &full.spec.rules()[0].backend_refs.as_ref().expect("a backend is given")[0];
    let target = backend.target();
    assert_eq!((target.group(), target.kind(), backend.weight()), ("", "Service", 1));
}

#[test]
fn what_the_schema_refuses_of_parents_and_hosts_is_refused_by_field() {
    let parents = |parents: &str| route(&format!("{{parentRefs: [{parents}]}}"));
    let many = (0..33).map(|number| format!("{{name: g{number}}}")).collect::<Vec<_>>().join(", ");
    let hosts = ["a.b"; 17].join(", ");
    refuses([
        (parents(&many), "spec.parentRefs: 33 items, at most 32 are allowed"),
        (parents("{}"), "spec.parentRefs[0].name: required"),
        (parents("{name: ''}"), "spec.parentRefs[0].name: required"),
        (parents("{name: g, port: 65536}"), "spec.parentRefs[0].port: 65536 is not between 1 and 65535"),
        (parents("{name: g, sectionName: ''}"), "spec.parentRefs[0].sectionName: required"),
        (
            parents("{name: g, kind: Gate way}"),
            "spec.parentRefs[0].kind: \"Gate way\" is not a kind: letters, digits and '-', first a letter",
        ),
        (
            parents("{name: g}, {name: g, kind: Gateway}"),
            "spec.parentRefs[1]: duplicate: another entry refers to the same parent and section",
        ),
        (
            parents("{name: g, sectionName: a}, {name: g, sectionName: a, port: 80}"),
            "spec.parentRefs[1]: duplicate: another entry refers to the same parent and section",
        ),
        (
            parents("{name: g, sectionName: a}, {name: g}"),
            "spec.parentRefs[1].sectionName: required in every entry when several refer to one parent",
        ),
        (route(&format!("{{hostnames: [{hosts}]}}")), "spec.hostnames: 17 items, at most 16 are allowed"),
        (route("{hostnames: ['']}"), "spec.hostnames[0]: required"),
        (route("{hostnames: [a, 10.0.0.1]}"), "spec.hostnames[1]: \"10.0.0.1\" is an IP address, use a DNS name"),
        (
            route("{hostnames: ['*']}"),
            "spec.hostnames[0]: \"*\" is not a host: '*' stands alone as the first part, such as *.example.com",
        ),
    ]);
    let distinct = "{name: g, sectionName: a}, {name: g, sectionName: b}, {name: g, namespace: ns}, {name: h}, {name: g, kind: Service, group: ''}";
    assert_eq!(findings(&parents(distinct)), [""; 0]);
}

#[test]
fn what_the_schema_refuses_of_matches_is_refused_by_field() {
    let value = "spec.rules[0].matches[0].path.value";
    let path = |path: &str| matching(&format!("path: {{value: '{path}'}}"));
    let headers = (0..17).map(|number| format!("{{name: h{number}, value: v}}")).collect::<Vec<_>>().join(", ");
    let cases = [
        (path(""), format!("{value}: \"\" does not begin with '/'")),
        (path("a"), format!("{value}: \"a\" does not begin with '/'")),
        (path("/a//b"), format!("{value}: \"//\" is not allowed in a path")),
        (path("/./"), format!("{value}: \"/./\" is not allowed in a path")),
        (path("/../"), format!("{value}: \"/../\" is not allowed in a path")),
        (path("/%2f"), format!("{value}: \"%2f\" is not allowed in a path")),
        (path("/%2F"), format!("{value}: \"%2F\" is not allowed in a path")),
        (path("/a#b"), format!("{value}: \"#\" is not allowed in a path")),
        (path("/a/.."), format!("{value}: a path must not end in \"/..\"")),
        (path("/."), format!("{value}: a path must not end in \"/.\"")),
        (path("/a?b"), format!("{value}: \"/a?b\" has characters that a path does not have: write them as %XX")),
        (path("/ä"), format!("{value}: \"/ä\" has characters that a path does not have: write them as %XX")),
        (path("/%4"), format!("{value}: \"/%4\" has characters that a path does not have: write them as %XX")),
        (path(&format!("/{}", "a".repeat(1024))), format!("{value}: longer than 1024 characters")),
        (
            matching("path: {type: Glob}"),
            "spec.rules[0].matches[0].path.type: \"Glob\" is not supported, use Exact, PathPrefix, RegularExpression".into(),
        ),
        (
            matching("method: get"),
            "spec.rules[0].matches[0].method: \"get\" is not supported, use GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH".into(),
        ),
        (
            matching(&format!("headers: [{headers}]")),
            "spec.rules[0].matches[0].headers: 17 items, at most 16 are allowed".into(),
        ),
        (
            matching("headers: [{name: a, value: v}, {name: a, value: w}]"),
            "spec.rules[0].matches[0].headers[1].name: duplicate \"a\"".into(),
        ),
        (
            matching("headers: [{name: 'a b', value: v}]"),
            "spec.rules[0].matches[0].headers[0].name: \"a b\" is not a name: letters, digits and !#$%&'*+-.^_`|~".into(),
        ),
        (
            matching("headers: [{name: ':path', value: v}]"),
            "spec.rules[0].matches[0].headers[0].name: \":path\" is not a name: letters, digits and !#$%&'*+-.^_`|~".into(),
        ),
        (matching("headers: [{name: a, value: ''}]"), "spec.rules[0].matches[0].headers[0].value: required".into()),
        (matching("headers: [{name: a}]"), "spec.rules[0].matches[0].headers[0].value: required".into()),
        (
            matching("headers: [{name: a, value: v, type: Prefix}]"),
            "spec.rules[0].matches[0].headers[0].type: \"Prefix\" is not supported, use Exact, RegularExpression".into(),
        ),
        (
            matching("queryParams: [{name: a, value: v}, {name: a, value: v}]"),
            "spec.rules[0].matches[0].queryParams[1].name: duplicate \"a\"".into(),
        ),
        (
            matching(&format!("queryParams: [{{name: a, value: {}}}]", "v".repeat(1025))),
            "spec.rules[0].matches[0].queryParams[0].value: longer than 1024 characters".into(),
        ),
    ];
    refuses(cases.iter().map(|(text, expected)| (text.clone(), expected.as_str())));
    assert_eq!(findings(&matching("cookies: []")), ["spec.rules[0].matches[0].cookies: unknown field, ignored"]);
}

#[test]
fn what_the_schema_refuses_of_rules_is_refused_by_field() {
    let rules = |count: usize, rule: &str| route(&format!("{{rules: [{}]}}", vec![rule; count].join(", ")));
    let matches = |count: usize| format!("{{matches: [{}]}}", vec!["{}"; count].join(", "));
    let backend = |fields: &str| rule(&format!("backendRefs: [{{name: s, {fields}}}]"));
    let backends = vec!["{name: s, port: 1}"; 17].join(", ");
    refuses([
        (route("{rules: []}"), "spec.rules: at least 1 item is required"),
        (rules(17, "{}"), "spec.rules: 17 items, at most 16 are allowed"),
        (rules(1, &matches(65)), "spec.rules[0].matches: 65 items, at most 64 are allowed"),
        (rules(3, &matches(43)), "spec.rules: 129 matches together, at most 128 are allowed"),
        (rule("name: ''"), "spec.rules[0].name: required"),
        (rules(2, "{name: a}"), "spec.rules[1].name: duplicate \"a\""),
        (rule(&format!("backendRefs: [{backends}]")), "spec.rules[0].backendRefs: 17 items, at most 16 are allowed"),
        (backend("weight: 1"), "spec.rules[0].backendRefs[0].port: required for a Service"),
        (backend("port: 0"), "spec.rules[0].backendRefs[0].port: 0 is not between 1 and 65535"),
        (backend("port: 1, weight: -1"), "spec.rules[0].backendRefs[0].weight: -1 is not between 0 and 1000000"),
        (
            backend("port: 1, weight: 1000001"),
            "spec.rules[0].backendRefs[0].weight: 1000001 is not between 0 and 1000000",
        ),
        (
            rule("timeouts: {request: 10}"),
            "spec.rules[0].timeouts.request: invalid type: integer `10`, expected a string: put it in quotes",
        ),
        (
            rule("timeouts: {request: 1.5s}"),
            "spec.rules[0].timeouts.request: \"1.5s\" is not a duration such as 10s, 1m30s or 500ms",
        ),
        (
            rule("timeouts: {request: 1s, backendRequest: 1001ms}"),
            "spec.rules[0].timeouts.backendRequest: longer than request",
        ),
        (rule("retry: {codes: [399]}"), "spec.rules[0].retry.codes[0]: 399 is not between 400 and 599"),
        (
            rule("retry: {backoff: soon}"),
            "spec.rules[0].retry.backoff: \"soon\" is not a duration such as 10s, 1m30s or 500ms",
        ),
        (
            rule("sessionPersistence: {type: Header, cookieConfig: {}}"),
            "spec.rules[0].sessionPersistence.cookieConfig: only for type Cookie",
        ),
        (
            rule("sessionPersistence: {cookieConfig: {lifetimeType: Permanent}}"),
            "spec.rules[0].sessionPersistence.absoluteTimeout: required for a cookie with lifetimeType Permanent",
        ),
    ]);
    assert_eq!(findings(&rule("timeouts: {request: 0s, backendRequest: 10s}")), [""; 0]);
    assert_eq!(findings(&rule("matches: []")), [""; 0]);
}
