//! Services by the rows of the feature list: here the virtual address and its endpoints, in `outside` everything that is reached
//! from outside or from one node only, in `host_ports` what leads to a pod without a Service, in `problems` what is wrong with a Service.

mod host_ports;
mod outside;
mod problems;

use crate::compile::tests::{A, B, C, abc, addr, tables};
use crate::tables::{Backend, Choice, Client, FlowHash, Tables};
use wire::Protocol;

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5, 'fd00:10:96::5'], ports: [{name: http, port: 80, targetPort: http}, {name: dns, port: 53, protocol: UDP}]}
---
";

/// An EndpointSlice of Service web; each endpoint is an address and its conditions as flow YAML.
fn slice(name: &str, family: &str, port: u16, endpoints: &[(&str, &str)]) -> String {
    let endpoints: Vec<String> = endpoints
        .iter()
        .map(|(addr, conditions)| format!("{{addresses: ['{addr}'], conditions: {{{conditions}}}}}"))
        .collect();
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}, labels: {{kubernetes.io/service-name: web}}}}
addressType: {family}
ports: [{{name: http, port: {port}, protocol: TCP}}, {{name: dns, port: 5353, protocol: UDP}}]
endpoints: [{}]
---
",
        endpoints.join(", ")
    )
}

/// The backend of port 80 of `vip` for a flow with hash `hash`.
fn chosen(tables: &Tables, vip: &str, hash: u64) -> Option<Backend> {
    let (vip, hash) = (addr(vip), FlowHash { seeded: hash, cluster_wide: hash });
    let frontend = tables.find_service(vip, Protocol::TCP, 80).expect("the Service");
    match tables.choose(frontend, vip, None, Client::Inside, vip, &hash) {
        Choice::Backend(backend) => Some(backend),
        Choice::NoEndpoint => None,
        refusal => panic!("{refusal:?}"),
    }
}

/// The backends of 10.96.0.5:80 as `address:port`.
fn backends(tables: &Tables) -> Vec<String> {
    let service = tables.find_service(addr("10.96.0.5"), Protocol::TCP, 80).expect("the Service");
    let candidates = tables.candidates(service, addr("10.96.0.5"), None, Client::Inside);
    let mut found: Vec<String> =
        candidates.iter().map(|backend| format!("{}:{}", backend.addr, backend.port)).collect();
    found.sort();
    found
}

#[test]
fn s01_a_cluster_ip_and_port_lead_to_the_ready_endpoints_and_a_flow_keeps_its_backend() {
    let slice = slice("s", "IPv4", 8080, &[(A, "ready: true"), (B, ""), (C, "ready: false")]);
    let tables = tables(&(abc() + SERVICE + &slice));
    assert_eq!(backends(&tables), ["10.244.1.2:8080", "10.244.2.2:8080"]);
    let service = tables.find_service(addr("10.96.0.5"), Protocol::TCP, 80).expect("the Service");
    assert_eq!(tables.find_service(addr("10.96.0.5"), Protocol::UDP, 80), None);
    assert!(tables.is_virtual(addr("10.96.0.5")) && !tables.is_virtual(addr(A)));
    let all: std::collections::HashSet<_> =
        (0..64u64).map(|flow| chosen(&tables, "10.96.0.5", flow.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    assert_eq!(all.len(), 2, "flows spread over the backends");
    for backend in all.into_iter().flatten() {
        assert!(tables.is_backend(service.service, backend.addr, backend.port));
    }
    let dns = tables.find_service(addr("10.96.0.5"), Protocol::UDP, 53).expect("the second port");
    assert!(tables.service(dns.service).backends().all(|backend| backend.port == 5353));
}

#[test]
fn s06_headless_and_external_name_services_have_no_virtual_address() {
    let services = "
{apiVersion: v1, kind: Service, metadata: {name: headless}, spec: {clusterIP: None, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: outside}, spec: {type: ExternalName, externalName: example.com}}
---
";
    assert!(tables(&(abc() + services)).service_ports.is_empty());
}

#[test]
fn a_service_that_is_left_to_another_proxy_has_no_virtual_address_here() {
    for label in ["service-proxy-name: other", "service-proxy-name: \"\"", "headless: \"\""] {
        let labelled =
            SERVICE.replace("metadata: {", &format!("metadata: {{labels: {{service.kubernetes.io/{label}}}, "));
        assert_ne!(labelled, SERVICE);
        assert!(tables(&(abc() + &labelled)).service_ports.is_empty(), "{label}");
    }
}

#[test]
fn s11_a_service_without_endpoints_is_found_but_has_no_backend() {
    let tables = tables(&(abc() + SERVICE));
    assert!(tables.find_service(addr("10.96.0.5"), Protocol::TCP, 80).is_some());
    assert_eq!(chosen(&tables, "10.96.0.5", 7), None);
}

#[test]
fn s12_terminating_endpoints_are_chosen_only_when_none_is_ready_and_they_still_serve() {
    let draining = "ready: false, serving: true, terminating: true";
    let gone = "ready: false, serving: false, terminating: true";
    let mixed = tables(&(abc() + SERVICE + &slice("s", "IPv4", 80, &[(A, "ready: true"), (B, draining), (C, gone)])));
    assert_eq!(backends(&mixed), ["10.244.1.2:80"]);
    let service = mixed.find_service(addr("10.96.0.5"), Protocol::TCP, 80).expect("the Service");
    assert!(mixed.is_backend(service.service, addr(B), 80), "a running flow may finish on a draining backend");
    let dns = mixed.find_service(addr("10.96.0.5"), Protocol::UDP, 53).expect("the UDP port");
    assert!(!mixed.is_backend(dns.service, addr(C), 5353), "a UDP flow leaves a backend that does not serve");
    let all = tables(&(abc() + SERVICE + &slice("s", "IPv4", 80, &[(B, draining), (C, gone)])));
    assert_eq!(backends(&all), ["10.244.2.2:80"]);
    let unready = "ready: false, serving: true, terminating: false";
    assert!(backends(&tables(&(abc() + SERVICE + &slice("s", "IPv4", 80, &[(B, unready)])))).is_empty());
}

#[test]
fn s22_each_family_of_a_dual_stack_service_has_its_own_backends() {
    let slices = slice("four", "IPv4", 80, &[(A, "")]) + &slice("six", "IPv6", 80, &[("fd00:10:244:2::2", "")]);
    let tables = tables(&(abc() + SERVICE + &slices));
    let service = tables.find_service(addr("fd00:10:96::5"), Protocol::TCP, 80).expect("the Service");
    assert_eq!(tables.find_service(addr("10.96.0.5"), Protocol::TCP, 80), Some(service));
    let chosen = |vip| chosen(&tables, vip, 1).map(|backend| backend.addr);
    assert_eq!(chosen("10.96.0.5"), Some(addr(A)));
    assert_eq!(chosen("fd00:10:96::5"), Some(addr("fd00:10:244:2::2")));
}

#[test]
fn s23_a_target_port_may_differ_per_slice_and_endpoints_may_lie_outside_the_cluster() {
    let slices = slice("one", "IPv4", 8080, &[(A, "")]) + &slice("two", "IPv4", 9090, &[("203.0.113.7", "")]);
    let tables = tables(&(abc() + SERVICE + &slices));
    assert_eq!(backends(&tables), ["10.244.1.2:8080", "203.0.113.7:9090"]);
}

#[test]
fn s24_an_endpoint_in_two_slices_counts_once_and_many_slices_are_one_service() {
    let many: Vec<String> = (0..1500u32).map(|n| std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string()).collect();
    let slices: Vec<String> = many
        .chunks(100)
        .enumerate()
        .map(|(index, chunk)| {
            let endpoints: Vec<_> = chunk.iter().map(|addr| (addr.as_str(), "")).collect();
            slice(&format!("s{index}"), "IPv4", 80, &endpoints)
        })
        .collect();
    let moved = slice("moved", "IPv4", 80, &[("10.0.0.7", ""), ("10.0.0.8", "")]);
    let tables = tables(&(abc() + SERVICE + &slices.concat() + &moved));
    assert_eq!(backends(&tables).len(), 1500);
}
