//! Where Ingresses lead: ports, endpoints (feature load_balancing of ingress-controller-conformance), and backends that lead nowhere.

use crate::harness::{check_compiled, cluster, compiled, services, told};
use policy::routes::{self, BackendProtocol, Compiled, Endpoints, Found, Outcome, RouteOptions, Target};
use std::sync::Arc;

/// An Ingress that sends everything to `backend`.
fn ingress(backend: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web, namespace: default}}
spec: {{defaultBackend: {backend}}}
"
    )
}

fn slice(name: &str, ports: &str, endpoints: &str) -> String {
    let family = if endpoints.contains("::") { "IPv6" } else { "IPv4" };
    format!(
        "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: {family}
ports: [{ports}]
endpoints: [{endpoints}]
"
    )
}

fn service(spec: &str) -> String {
    format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: default}}\nspec: {{{spec}}}\n")
}

fn endpoints(compiled: &Compiled) -> Arc<Endpoints> {
    let line = crate::harness::Line::new("http://web/");
    let Found::Rule { rule, .. } = compiled.routes.find(&line.request()) else { panic!("a rule") };
    let Outcome::Forward(forward) = &rule.outcome else { panic!("a backend") };
    let Target::Endpoints(endpoints) = &forward.targets[0].target else { panic!("endpoints: {:?}", forward.targets) };
    endpoints.clone()
}

fn addresses(compiled: &Compiled) -> Vec<String> {
    endpoints(compiled).addresses.iter().map(ToString::to_string).collect()
}

const BY_NUMBER: &str = "{service: {name: web, port: {number: 8080}}}";

#[test]
fn all_ready_endpoints_of_all_slices_are_sent_to_each_once_of_both_families() {
    let first = "{addresses: [10.0.0.2]}, {addresses: [10.0.0.1]}, {addresses: [10.0.0.9], conditions: {ready: false}}";
    let yaml = ingress("{service: {name: web, port: {name: http}}}")
        + &service("ports: [{name: http, port: 8080}, {name: admin, port: 9090}]")
        + &slice("web-1", "{name: admin, port: 90}, {name: http, port: 80}", first)
        + &slice("web-2", "{name: http, port: 80}", "{addresses: [10.0.0.2]}, {addresses: [10.0.0.3]}")
        + &slice("web-3", "{name: http, port: 81}", "{addresses: ['fd00::1']}")
        + &slice("web-4", "{name: admin, port: 90}", "{addresses: [10.0.0.7]}");
    let compiled = compiled(&yaml);
    assert_eq!(addresses(&compiled), ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "[fd00::1]:81"]);
    assert_eq!(endpoints(&compiled).port, 8080);
}

#[test]
fn ten_replicas_are_ten_targets() {
    let replicas: Vec<String> = (1..=10).map(|last| format!("{{addresses: [10.0.0.{last}]}}")).collect();
    let yaml = ingress(BY_NUMBER)
        + &service("ports: [{port: 8080}]")
        + &slice("web-1", "{name: '', port: 8080}", &replicas.join(", "));
    assert_eq!(addresses(&compiled(&yaml)).len(), 10);
}

#[test]
fn where_all_endpoints_are_terminating_those_that_serve_are_sent_to() {
    let draining = "{addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}}";
    let gone = "{addresses: [10.0.0.2], conditions: {ready: false, serving: false, terminating: true}}";
    let yaml = ingress(BY_NUMBER)
        + &service("ports: [{port: 8080}]")
        + &slice("web-1", "{name: '', port: 80}", &format!("{draining}, {gone}"));
    assert_eq!(addresses(&compiled(&yaml)), ["10.0.0.1:80"]);
}

#[test]
fn a_service_without_ready_endpoints_has_no_addresses() {
    let yaml = ingress(BY_NUMBER) + &service("ports: [{port: 8080}]");
    let compiled = compiled(&yaml);
    assert!(addresses(&compiled).is_empty());
    check_compiled(&compiled, &[("http://web/", "503")]);
}

#[test]
fn a_headless_service_is_a_backend_like_any_other() {
    let yaml = ingress(BY_NUMBER)
        + &service("clusterIP: None, ports: [{port: 8080}]")
        + &slice("web-1", "{name: '', port: 80}", "{addresses: [10.0.0.1]}");
    assert_eq!(addresses(&compiled(&yaml)), ["10.0.0.1:80"]);
}

#[test]
fn the_proxy_keeps_to_its_node_and_zone_as_a_pod_there_would() {
    let node = |name: &str, zone: &str| {
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n"
        )
    };
    let nodes = node("node1", "a") + &node("node2", "a") + &node("node3", "b");
    let endpoint = |last: u8, node: &str, zone: &str| {
        format!(
            "{{addresses: [10.0.0.{last}], nodeName: {node}, zone: {zone}, hints: {{forZones: [{{name: {zone}}}]}}}}"
        )
    };
    let all = [endpoint(1, "node1", "a"), endpoint(2, "node2", "a"), endpoint(3, "node3", "b")].join(", ");
    let from_node = |spec: &str, node: Option<&str>| {
        let service = service(&format!("ports: [{{port: 8080}}]{spec}"));
        let yaml = format!("{nodes}{}{service}{}", ingress(BY_NUMBER), slice("web-1", "{name: '', port: 80}", &all));
        let options = RouteOptions { node_name: node.map(str::to_owned), ..RouteOptions::default() };
        addresses(&routes::compile(&cluster(&yaml), &options))
    };
    assert_eq!(from_node("", Some("node1")), ["10.0.0.1:80", "10.0.0.2:80"], "hints for its zone");
    assert_eq!(from_node("", Some("node3")), ["10.0.0.3:80"]);
    assert_eq!(from_node("", None).len(), 3);
    assert_eq!(from_node(", internalTrafficPolicy: Local", Some("node2")), ["10.0.0.2:80"]);
    assert!(from_node(", internalTrafficPolicy: Local", None).is_empty(), "nothing is local to nowhere");
}

#[test]
fn how_backends_are_spoken_to_is_said_by_app_protocol_or_else_by_the_annotation() {
    let spoken = |app_protocol: &str, annotation: &str| {
        let port = format!("ports: [{{port: 8080{app_protocol}}}]");
        let annotation =
            format!("namespace: default, annotations: {{podplane.io/backend-protocol: {annotation}}}}}\nspec");
        let yaml = ingress(BY_NUMBER).replace("namespace: default}\nspec", &annotation) + &service(&port);
        endpoints(&compiled(&yaml)).protocol
    };
    assert_eq!(spoken("", "HTTP"), BackendProtocol::Http1);
    assert_eq!(spoken("", "GRPC"), BackendProtocol::H2c);
    assert_eq!(spoken("", "H2C"), BackendProtocol::H2c);
    assert_eq!(spoken("", "HTTPS"), BackendProtocol::Https);
    assert_eq!(spoken(", appProtocol: http", "HTTPS"), BackendProtocol::Http1);
    assert_eq!(spoken(", appProtocol: kubernetes.io/h2c", "HTTP"), BackendProtocol::H2c);
    assert_eq!(spoken(", appProtocol: kubernetes.io/ws", "HTTPS"), BackendProtocol::Http1);
    assert_eq!(spoken(", appProtocol: grpc", "HTTP"), BackendProtocol::H2c);
    assert_eq!(spoken(", appProtocol: https", "HTTP"), BackendProtocol::Https);
}

#[test]
fn backends_that_lead_nowhere_are_told_by_field_and_answered_with_503() {
    let ports = "ports: [{name: http, port: 8080}, {name: dns, port: 53, protocol: UDP}]";
    let cases = [
        ("{service: {name: absent, port: {number: 80}}}", ports, "service.name: Service default/absent does not exist"),
        (
            "{service: {name: web, port: {number: 80}}}",
            ports,
            "service.port: Service default/web has no port 80, it has 8080 (http)",
        ),
        (
            "{service: {name: web, port: {name: https}}}",
            ports,
            "service.port: Service default/web has no port \"https\", it has 8080 (http)",
        ),
        (
            "{service: {name: web, port: {name: dns}}}",
            ports,
            "service.port: Service default/web has its port \"dns\" for UDP, not TCP",
        ),
        (
            BY_NUMBER,
            "ports: [{port: 8080, appProtocol: mysql}]",
            "service.port: port 8080 of Service default/web has appProtocol mysql, which is not HTTP",
        ),
        (
            BY_NUMBER,
            "type: ExternalName, externalName: example.com",
            "service.name: Service default/web is of type ExternalName, which has no endpoints",
        ),
        (
            "{resource: {kind: Bucket, name: b, apiGroup: example.com}}",
            ports,
            "resource: a Bucket cannot be a backend, only a Service can",
        ),
    ];
    for (backend, spec, expected) in cases {
        let compiled = compiled(&(ingress(backend) + &service(spec)));
        check_compiled(&compiled, &[("http://web/", "503")]);
        let told = told(&compiled).pop().expect("it is told");
        let expected = format!("Ingress default/web: spec.defaultBackend.{expected}: requests are answered with 503");
        assert_eq!(told, expected);
    }
}

#[test]
fn annotations_that_mean_nothing_are_told_and_change_nothing() {
    let yaml = ingress(BY_NUMBER).replace(
        "namespace: default}",
        "namespace: default, annotations: {podplane.io/backend-protocol: FCGI, podplane.io/ssl-redirect: 'yes'}}",
    );
    let compiled = compiled(&(yaml + &services(&["web"])));
    check_compiled(&compiled, &[("http://web/", "web:8080")]);
    assert_eq!(
        told(&compiled),
        [
            "Ingress default/web: metadata.annotations[podplane.io/backend-protocol]: \"FCGI\" is none of HTTP, HTTPS, GRPC and H2C: HTTP is spoken",
            "Ingress default/web: metadata.annotations[podplane.io/ssl-redirect]: \"yes\" is neither true nor false: nothing is redirected",
        ]
    );
}
