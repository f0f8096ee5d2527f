//! Listeners of Gateways: hosts and ports, isolation, which routes attach, and how Ingresses and Gateways share a port.

use crate::harness::{
    CLASS, certificate, check, check_compiled, compiled, gateway, open_gateway, route, route_of, service, services,
    told,
};

const V: [&str; 3] = ["v1", "v2", "v3"];
const V1: &str = "v1:8080";
const V2: &str = "v2:8080";
const V3: &str = "v3:8080";

fn http(name: &str, hostname: &str) -> String {
    let hostname = if hostname.is_empty() { String::new() } else { format!(", hostname: '{hostname}'") };
    format!("{{name: {name}, port: 80, protocol: HTTP{hostname}}}")
}

/// An HTTPRoute of Gateway `web` that attaches as `parent` says and sends prefix `path` to a Service.
fn attached(name: &str, parent: &str, hostnames: &str, path: &str, service: &str) -> String {
    route(
        name,
        &format!(
            "parentRefs: [{{name: web{parent}}}], hostnames: [{hostnames}], rules: [{{matches: [{{path: {{type: PathPrefix, value: {path}}}}}], backendRefs: [{{name: {service}, port: 8080}}]}}]"
        ),
    )
}

#[test]
fn a_route_is_served_for_hosts_that_its_hostnames_and_those_of_the_listener_share() {
    let listeners =
        [http("one", "very.specific.com"), http("two", "*.wildcard.io"), http("three", "*.anotherwildcard.io")];
    let yaml = attached("s1", "", "non.matching.com, '*.nonmatchingwildcard.io', very.specific.com", "/s1", "v1")
        + &attached(
            "s2",
            "",
            "non.matching.com, wildcard.io, foo.wildcard.io, bar.wildcard.io, foo.bar.wildcard.io",
            "/s2",
            "v2",
        )
        + &attached("s3", "", "non.matching.com, '*.specific.com'", "/s3", "v3")
        + &attached("s4", "", "'*.anotherwildcard.io'", "/s4", "v1")
        + &attached("s5", "", "specific.but.wrong.com, wildcard.io", "/s5", "v2");
    let compiled = compiled(&(CLASS.to_owned() + &gateway("web", &listeners.join(", ")) + &yaml + &services(&V)));
    check_compiled(
        &compiled,
        &[
            ("http://very.specific.com/s1", V1),
            ("http://non.matching.com/s1", "404"),
            ("http://foo.nonmatchingwildcard.io/s1", "404"),
            ("http://foo.wildcard.io/s1", "404"),
            ("http://very.specific.com/non-matching-prefix", "404"),
            ("http://foo.wildcard.io/s2", V2),
            ("http://bar.wildcard.io/s2", V2),
            ("http://foo.bar.wildcard.io/s2", V2),
            ("http://non.matching.com/s2", "404"),
            ("http://wildcard.io/s2", "404"),
            ("http://very.specific.com/s2", "404"),
            ("http://foo.wildcard.io/non-matching-prefix", "404"),
            ("http://very.specific.com/s3", V3),
            ("http://non.matching.com/s3", "404"),
            ("http://foo.specific.com/s3", "404"),
            ("http://foo.wildcard.io/s3", "404"),
            ("http://foo.anotherwildcard.io/s4", V1),
            ("http://bar.anotherwildcard.io/s4", V1),
            ("http://foo.bar.anotherwildcard.io/s4", V1),
            ("http://anotherwildcard.io/s4", "404"),
            ("http://foo.wildcard.io/s4", "404"),
            ("http://very.specific.com/s4", "404"),
            ("http://specific.but.wrong.com/s5", "404"),
            ("http://wildcard.io/s5", "404"),
        ],
    );
    let gateways = &compiled.statuses.gateways[&("default".into(), "web".into())];
    let attached: Vec<i32> = gateways.listeners.iter().flatten().map(|listener| listener.attached_routes).collect();
    assert_eq!(attached, [2, 1, 1]);
}

#[test]
fn a_request_is_for_the_listener_with_the_most_specific_hostname() {
    let listeners =
        [http("one", "bar.com"), http("two", "foo.bar.com"), http("three", "*.bar.com"), http("four", "*.foo.com")];
    let yaml = attached("b1", ", sectionName: one", "", "/", "v1")
        + &attached("b2", ", sectionName: two", "", "/", "v2")
        + &route(
            "b3",
            "parentRefs: [{name: web, sectionName: three}, {name: web, sectionName: four}], rules: [{backendRefs: [{name: v3, port: 8080}]}]",
        );
    check(
        &(CLASS.to_owned() + &gateway("web", &listeners.join(", ")) + &yaml + &services(&V)),
        &[
            ("http://bar.com/", V1),
            ("http://foo.bar.com/", V2),
            ("http://baz.bar.com/", V3),
            ("http://boo.bar.com/", V3),
            ("http://multiple.prefixes.bar.com/", V3),
            ("http://multiple.prefixes.foo.com/", V3),
            ("http://foo.com/", "404"),
            ("http://no.matching.host/", "404"),
        ],
    );
}

#[test]
fn listeners_are_isolated_from_each_other_whether_routes_name_hosts_or_not() {
    let listeners = [
        http("l0", ""),
        http("l1", "*.example.com"),
        http("l2", "*.foo.example.com"),
        http("l3", "abc.foo.example.com"),
    ];
    let hosts = ["bar.com", "bar.example.com", "bar.foo.example.com", "abc.foo.example.com"];
    let hostnames = [
        ["", "", "", ""],
        [
            "bar.com, '*.example.com', '*.foo.example.com', abc.foo.example.com",
            "'*.example.com', '*.foo.example.com', abc.foo.example.com",
            "'*.foo.example.com', abc.foo.example.com",
            "abc.foo.example.com",
        ],
    ];
    for hostnames in hostnames {
        let routes = (0..4).map(|at| {
            attached(&format!("r{at}"), &format!(", sectionName: l{at}"), hostnames[at], &format!("/p{at}"), "v1")
        });
        let yaml =
            CLASS.to_owned() + &gateway("web", &listeners.join(", ")) + &routes.collect::<String>() + &services(&V);
        let compiled = compiled(&yaml);
        for (at, host) in hosts.iter().enumerate() {
            for path in 0..4 {
                let expected = if path == at { V1 } else { "404" };
                check_compiled(&compiled, &[(&format!("http://{host}/p{path}"), expected)]);
            }
        }
    }
}

#[test]
fn routes_attach_to_the_listeners_of_a_port() {
    let listener =
        |name: &str, port: u16, host: &str| format!("{{name: {name}, port: {port}, protocol: HTTP, hostname: {host}}}");
    let listeners = [
        listener("one", 80, "foo.com"),
        listener("two", 8080, "foo.com"),
        listener("three", 8080, "bar.com"),
        listener("four", 8090, "foo.com"),
        listener("five", 8090, "bar.com"),
    ];
    let yaml = attached("b1", ", port: 80", "", "/", "v1")
        + &attached("b2", ", port: 8080", "", "/", "v2")
        + &attached("b3", ", port: 8090, sectionName: four", "", "/", "v3");
    let compiled = compiled(&(CLASS.to_owned() + &gateway("web", &listeners.join(", ")) + &yaml + &services(&V)));
    check_compiled(
        &compiled,
        &[
            ("http://foo.com/", V1),
            ("http://foo.com:8080/", V2),
            ("http://bar.com:8080/", V2),
            ("http://foo.com:8090/", V3),
            ("http://bar.com:8090/", "404"),
        ],
    );
    let ports: Vec<(u16, bool)> = compiled.routes.ports.iter().map(|port| (port.port, port.tls)).collect();
    assert_eq!(ports, [(80, false), (443, true), (8080, false), (8090, false)]);
}

/// A Gateway with the HTTPS listeners of httproute-https-listener-detect-misdirected-requests.
fn https_gateway() -> String {
    let https = |name: &str, hostname: &str| {
        format!("{{name: {name}, port: 443, protocol: HTTPS{hostname}, tls: {{certificateRefs: [{{name: s1}}]}}}}")
    };
    let listeners = [
        https("https", ""),
        https("second", ", hostname: second-example.org"),
        https("wild", ", hostname: '*.wildcard.org'"),
        https("fourth", ", hostname: fourth-example.wildcard.org"),
    ];
    CLASS.to_owned() + &gateway("web", &listeners.join(", ")) + &certificate("default", "s1")
}

#[test]
fn a_request_for_another_listener_than_that_of_its_connection_is_misdirected() {
    let yaml = attached("r1", ", sectionName: https", "example.org", "/p", "v1")
        + &attached("r2", ", sectionName: second", "", "/p", "v2")
        + &attached("r3", ", sectionName: wild", "", "/p", "v3")
        + &attached("r4", ", sectionName: fourth", "", "/p", "v1");
    check(
        &(https_gateway() + &yaml + &services(&V)),
        &[
            ("https://example.org/p sni=example.org", V1),
            ("https://second-example.org/p sni=example.org", "421"),
            ("https://unknown-example.org/p sni=example.org", "404"),
            ("https://second-example.org/p sni=second-example.org", V2),
            ("https://example.org/p sni=second-example.org", "421"),
            ("https://unknown-example.org/p sni=second-example.org", "421"),
            ("https://third-example.wildcard.org/p sni=third-example.wildcard.org", V3),
            ("https://fith-example.wildcard.org/p sni=third-example.wildcard.org", V3),
            ("https://fourth-example.wildcard.org/p sni=third-example.wildcard.org", "421"),
            ("https://second-example.org/p sni=third-example.wildcard.org", "421"),
            ("https://unknown-example.org/p sni=third-example.wildcard.org", "421"),
            ("https://fourth-example.wildcard.org/p sni=fourth-example.wildcard.org", V1),
            ("https://fith-example.wildcard.org/p sni=fourth-example.wildcard.org", "421"),
            ("https://example.org/p sni=unknown-example.org", V1),
            ("https://unknown-example.org/p sni=unknown-example.org", "404"),
            ("https://second-example.org/p sni=", V2),
        ],
    );
}

#[test]
fn routes_of_namespaces_attach_as_the_listener_allows() {
    let namespaces = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: a}}\n";
    let listener =
        |from: &str| format!("{{name: http, port: 80, protocol: HTTP, allowedRoutes: {{namespaces: {{{from}}}}}}}");
    let parent = "parentRefs: [{name: web, namespace: default}], hostnames: [shop.com], rules: [{backendRefs: [{name: v1, port: 8080}]}]";
    let from_shop = route("r", parent).replace("name: r, namespace: default", "name: r, namespace: shop");
    let check_from = |from: &str, expected: &str| {
        let yaml =
            CLASS.to_owned() + &gateway("web", &listener(from)) + namespaces + &from_shop + &service("shop", "v1");
        check(&yaml, &[("http://shop.com/", expected)]);
    };
    check_from("from: All", V1);
    check_from("from: Same", "404");
    check_from("", "404");
    check_from("from: Selector, selector: {matchLabels: {team: a}}", V1);
    check_from("from: Selector, selector: {matchLabels: {team: b}}", "404");
    check_from("from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: shop}}", V1);
}

#[test]
fn gateways_share_ports_and_the_listeners_of_equal_hosts_are_one() {
    let yaml = gateway("web", &http("http", ""))
        + &gateway("other", &http("http", ""))
        + &attached("r1", "", "", "/one", "v1")
        + &attached("r2", "", "", "/two", "v2").replace("name: web", "name: other");
    check(
        &(CLASS.to_owned() + &yaml + &services(&V)),
        &[("http://any/one", V1), ("http://any/two", V2), ("http://any/three", "404")],
    );
}

fn ingress(host: &str, path: &str, service: &str, default: &str) -> String {
    let host = if host.is_empty() { String::new() } else { format!("host: '{host}', ") };
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: i-{service}, namespace: default, creationTimestamp: '2024-01-01T00:00:00Z'}}
spec:
  rules: [{{{host}http: {{paths: [{{path: {path}, pathType: Prefix, backend: {{service: {{name: {service}, port: {{number: 8080}}}}}}}}]}}}}]
{default}
"
    )
}

#[test]
fn an_ingress_host_is_a_listener_of_its_own_beside_those_of_gateways() {
    let yaml = open_gateway()
        + &route_of("r", "", &[("{path: {type: PathPrefix, value: /}}", "v1")])
        + &ingress("shop.com", "/api", "v2", "")
        + &services(&V);
    check(&yaml, &[("http://shop.com/api", V2), ("http://shop.com/other", V1), ("http://other.com/api", V1)]);
}

#[test]
fn rules_of_an_ingress_and_of_routes_compete_where_their_hosts_are_equal() {
    let path = |path: &str| format!("{{path: {{type: PathPrefix, value: {path}}}}}");
    let yaml = open_gateway()
        + &route_of("r", "", &[(&path("/a"), "v1"), (&path("/b/c"), "v1"), (&path("/d"), "v1")])
        + &ingress("", "/b", "v2", "")
        + &ingress("", "/d", "v3", "")
        + &services(&V);
    let compiled = compiled(&yaml);
    check_compiled(
        &compiled,
        &[("http://any/a", V1), ("http://any/b", V2), ("http://any/b/c", V1), ("http://any/d", V3)],
    );
    assert_eq!(
        told(&compiled),
        [
            "HTTPRoute default/r: spec.rules[2]: no request comes here: */d is taken by Ingress default/i-v3 (spec.rules[0].http.paths[0]), because it has a creationTimestamp"
        ]
    );
}

#[test]
fn a_listener_of_a_gateway_is_the_last_that_is_asked_and_default_backends_come_after_it() {
    let default = |service: &str| format!("  defaultBackend: {{service: {{name: {service}, port: {{number: 8080}}}}}}");
    let closed = CLASS.to_owned()
        + &gateway("web", &http("http", "shop.com"))
        + &attached("r", "", "", "/api", "v1")
        + &ingress("", "/web", "v2", &default("v3"))
        + &services(&V);
    check(
        &closed,
        &[
            ("http://shop.com/api", V1),
            ("http://shop.com/web", "404"),
            ("http://shop.com/other", "404"),
            ("http://other.com/web", V2),
            ("http://other.com/other", V3),
        ],
    );
    let open = open_gateway()
        + &route_of("r", "", &[("{path: {type: PathPrefix, value: /api}}", "v1")])
        + &ingress("shop.com", "/web", "v2", &default("v3"))
        + &services(&V);
    check(&open, &[("http://shop.com/api", V1), ("http://shop.com/web", V2), ("http://any/other", V3)]);
}
