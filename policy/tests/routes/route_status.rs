//! What the status of HTTPRoutes says, and what becomes of the requests of a route that is not as it should be.

use crate::harness::{
    CLASS, check_compiled, compiled, gateway, listener_status, of_route, open_gateway, route, service, services, told,
};

#[test]
fn a_route_that_no_listener_takes_says_why() {
    let listeners = "{name: http, port: 80, protocol: HTTP, hostname: '*.a.com'}, {name: other, port: 8080, protocol: HTTP, allowedRoutes: {kinds: [{kind: TLSRoute}]}}, {name: broken, port: 53, protocol: UDP}";
    let of = |parent: &str, hostnames: &str, expected: &str, message: &str| {
        let yaml = route("r", &format!("parentRefs: [{{name: web{parent}}}], hostnames: [{hostnames}]"));
        let compiled = compiled(&(CLASS.to_owned() + &gateway("web", listeners) + &yaml));
        assert_eq!(of_route(&compiled, "r"), [&format!("Accepted=False {expected}"), "ResolvedRefs=True ResolvedRefs"]);
        let told = told(&compiled).pop().expect("it is told");
        assert_eq!(told, format!("HTTPRoute default/r: spec.parentRefs[0]: not attached: {message}"));
    };
    let web = "Gateway default/web";
    of(", sectionName: absent", "", "NoMatchingParent", &format!("{web} has no listener absent"));
    of(", port: 81", "", "NoMatchingParent", &format!("{web} has no listener of port 81"));
    of(", sectionName: http, port: 8080", "", "NoMatchingParent", &format!("{web} has no listener http of port 8080"));
    of(
        ", sectionName: other",
        "",
        "NotAllowedByListeners",
        &format!("no listener of {web} lets HTTPRoutes of default attach"),
    );
    of(
        "",
        "b.com",
        "NoMatchingListenerHostname",
        &format!("no listener of {web} has a hostname that overlaps those of the route"),
    );
}

#[test]
fn a_route_of_another_namespace_attaches_only_where_the_gateway_allows_it() {
    let yaml = route("r", "parentRefs: [{name: web, namespace: infra}]");
    let yaml = CLASS.to_owned()
        + &gateway("web", "{name: http, port: 80, protocol: HTTP}").replace("namespace: default", "namespace: infra")
        + &yaml;
    let compiled = compiled(&yaml);
    assert_eq!(of_route(&compiled, "r")[0], "Accepted=False NotAllowedByListeners");
    let status = &compiled.statuses.gateways[&("infra".into(), "web".into())];
    assert_eq!(status.listeners.as_ref().expect("listeners")[0].attached_routes, 0);
}

#[test]
fn references_that_lead_nowhere_are_told_and_their_share_is_answered_with_500() {
    let grant = "---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}], to: [{group: '', kind: Service, name: granted}]}
";
    let cases = [
        ("{name: absent, port: 80}", "BackendNotFound", ".name: Service default/absent does not exist"),
        ("{name: v1, port: 81}", "BackendNotFound", ".port: Service default/v1 has no port 81, it has 8080 (http)"),
        (
            "{name: v1, kind: Unknown, port: 80}",
            "InvalidKind",
            ".kind: a Unknown cannot be a backend, only a Service can",
        ),
        (
            "{name: external, port: 80}",
            "InvalidKind",
            ".name: Service default/external is of type ExternalName, which has no endpoints",
        ),
        (
            "{name: sql, port: 80}",
            "UnsupportedProtocol",
            ".port: port 80 of Service default/sql has appProtocol mysql, which is not HTTP",
        ),
        (
            "{name: v1, namespace: other, port: 8080}",
            "RefNotPermitted",
            ".namespace: no ReferenceGrant in other lets HTTPRoutes of default refer to Service v1",
        ),
    ];
    let more = "---
apiVersion: v1
kind: Service
metadata: {name: external, namespace: default}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: v1
kind: Service
metadata: {name: sql, namespace: default}
spec: {ports: [{port: 80, appProtocol: mysql}]}
";
    let all = format!(
        "{}{grant}{more}{}{}{}",
        open_gateway(),
        services(&["v1"]),
        service("other", "v1"),
        service("other", "granted")
    );
    for (reference, reason, message) in cases {
        let spec =
            format!("parentRefs: [{{name: web}}], rules: [{{backendRefs: [{reference}, {{name: v1, port: 8080}}]}}]");
        let compiled = compiled(&format!("{all}{}", route("r", &spec)));
        assert_eq!(of_route(&compiled, "r"), ["Accepted=True Accepted", &format!("ResolvedRefs=False {reason}")]);
        check_compiled(&compiled, &[("http://web/", "500*1 v1:8080*1")]);
        assert_eq!(
            told(&compiled),
            [format!(
                "HTTPRoute default/r: spec.rules[0].backendRefs[0]{message}: its share of requests is answered with 500"
            )]
        );
    }
    let granted = "parentRefs: [{name: web}], rules: [{backendRefs: [{name: granted, namespace: other, port: 8080}]}]";
    let compiled = compiled(&format!("{all}{}", route("r", granted)));
    assert_eq!(of_route(&compiled, "r")[1], "ResolvedRefs=True ResolvedRefs");
    check_compiled(&compiled, &[("http://web/", "granted:8080")]);
}

#[test]
fn a_rule_that_is_not_understood_is_answered_with_500_and_the_route_is_partially_invalid() {
    let rules = "{matches: [{path: {value: /login}}], filters: [{type: ExtensionRef, extensionRef: {group: example.com, kind: Auth, name: a}}], backendRefs: [{name: v1, port: 8080}]}";
    let good = "{backendRefs: [{name: v1, port: 8080}]}";
    let partly = route("r", &format!("parentRefs: [{{name: web}}], rules: [{rules}, {good}]"));
    let partly = compiled(&(open_gateway() + &partly + &services(&["v1"])));
    check_compiled(&partly, &[("http://web/login/x", "500"), ("http://web/", "v1:8080")]);
    assert_eq!(
        of_route(&partly, "r"),
        ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs", "PartiallyInvalid=True UnsupportedValue"]
    );
    let parents = &partly.statuses.http_routes[&("default".into(), "r".into())].parents;
    assert_eq!(parents[0].conditions[2].message, "Dropped Rule 0: filters of type ExtensionRef are not supported");
    let wholly = route("r", &format!("parentRefs: [{{name: web}}], rules: [{rules}]"));
    let wholly = compiled(&(open_gateway() + &wholly + &services(&["v1"])));
    assert_eq!(of_route(&wholly, "r"), ["Accepted=False UnsupportedValue", "ResolvedRefs=True ResolvedRefs"]);
    assert_eq!(listener_status(&wholly, "web", "http").attached_routes, 0);
    check_compiled(&wholly, &[("http://web/login", "500")]);
    assert_eq!(
        told(&wholly),
        [
            "HTTPRoute default/r: spec.rules[0].filters[0].type: filters of type ExtensionRef are not supported: requests are answered with 500"
        ]
    );
}

#[test]
fn a_match_that_is_not_understood_takes_nothing() {
    let spec = "parentRefs: [{name: web}], rules: [{matches: [{path: {type: RegularExpression, value: '/a('}}, {path: {value: /b}}], backendRefs: [{name: v1, port: 8080}]}, {matches: [{path: {value: /c}}], backendRefs: [{name: v1, port: 8080}]}]";
    let compiled = compiled(&(open_gateway() + &route("r", spec) + &services(&["v1"])));
    check_compiled(&compiled, &[("http://web/a", "404"), ("http://web/b", "v1:8080"), ("http://web/c", "v1:8080")]);
    assert_eq!(of_route(&compiled, "r")[2], "PartiallyInvalid=True UnsupportedValue");
    assert_eq!(
        told(&compiled),
        [
            "HTTPRoute default/r: spec.rules[0].matches[0].path.value: \"/a(\" is not a regular expression: unclosed group: no request is taken by this match"
        ]
    );
}

#[test]
fn a_route_that_has_left_our_gateways_loses_what_we_said_of_it() {
    let said = |controller: &str| format!("{{parentRef: {{name: web}}, controllerName: {controller}, conditions: []}}");
    let status = format!("status: {{parents: [{}, {}]}}\n", said("podplane.io/gateway"), said("example.com/other"));
    let left = route("r", "parentRefs: [{name: elsewhere}]") + &status;
    let compiled = compiled(&(open_gateway() + &left + &route("never", "parentRefs: [{name: elsewhere}]")));
    let statuses = &compiled.statuses.http_routes;
    assert_eq!(statuses.len(), 1);
    let parents = &statuses[&("default".into(), "r".into())].parents;
    let controllers: Vec<&str> = parents.iter().map(|parent| parent.controller_name.as_str()).collect();
    assert_eq!(controllers, ["example.com/other"]);
}
