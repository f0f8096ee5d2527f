//! hostPort of pods (P04).

use super::outside::compiled;
use crate::compile::CompileOptions;
use crate::tables::{FrontendKind, NodeIndex, Tables};
use std::net::IpAddr;
use wire::Protocol;

/// A pod on a node with two addresses and these ports, as YAML of a flow sequence.
fn pod(name: &str, node: u8, last: u8, ports: &str) -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec: {{nodeName: node{node}, containers: [{{name: c, ports: [{ports}]}}]}}
status: {{podIPs: [{{ip: 10.244.{node}.{last}}}, {{ip: 'fd00:244:{node}::{last}'}}]}}
---
"
    )
}

/// Where a port of an address leads, as `pod address:port`.
fn leads(tables: &Tables, addr: &str, protocol: Protocol, port: u16) -> Option<String> {
    let addr: IpAddr = addr.parse().unwrap();
    let frontend = tables.find_service(addr, protocol, port)?;
    assert_eq!(frontend.kind, FrontendKind::HostPort);
    let backends = tables.service(frontend.service).backends().filter(|at| at.addr.is_ipv4() == addr.is_ipv4());
    let backends: Vec<String> =
        backends.map(|at| format!("{} {}:{}", at_name(tables, frontend.service), at.addr, at.port)).collect();
    Some(backends.join(", "))
}

fn at_name(tables: &Tables, service: crate::tables::ServicePortIndex) -> String {
    tables.service_entry(service).name.to_string()
}

#[test]
fn p04_a_host_port_leads_to_the_pod_at_every_address_of_its_node_and_no_other() {
    let (tables, problems) = compiled(
        &pod(
            "web",
            1,
            5,
            "{containerPort: 8080, hostPort: 80}, {containerPort: 53, protocol: UDP, hostPort: 53}, {containerPort: 1}",
        ),
        &CompileOptions::default(),
    );
    assert_eq!(problems, [""; 0]);
    assert_eq!(leads(&tables, "172.30.0.11", Protocol::TCP, 80).as_deref(), Some("web 10.244.1.5:8080"));
    assert_eq!(leads(&tables, "fd00:172:30::11", Protocol::TCP, 80).as_deref(), Some("web fd00:244:1::5:8080"));
    assert_eq!(leads(&tables, "172.30.0.11", Protocol::UDP, 53).as_deref(), Some("web 10.244.1.5:53"));
    for (addr, protocol, port) in [
        ("172.30.0.12", Protocol::TCP, 80),
        ("172.30.0.11", Protocol::UDP, 80),
        ("172.30.0.11", Protocol::TCP, 8080),
        ("172.30.0.11", Protocol::TCP, 1),
    ] {
        assert_eq!(leads(&tables, addr, protocol, port), None, "{addr} {protocol} {port}");
    }
    let claimed = tables.node_frontends(NodeIndex(0));
    let claimed: Vec<_> = claimed.iter().map(|at| (at.addr.to_string(), at.port, at.everywhere)).collect();
    let expected = [("172.30.0.11", 80), ("172.30.0.11", 53), ("fd00:172:30::11", 80), ("fd00:172:30::11", 53)];
    assert_eq!(claimed, expected.map(|(addr, port)| (addr.to_owned(), port, true)));
    assert_eq!(tables.node_frontends(NodeIndex(1)), []);
    // It is no Service.
    assert_eq!(tables.services_with_ports().count(), 0);
}

#[test]
fn p04_host_ip_confines_a_port_to_an_address_or_a_family() {
    let (tables, problems) = compiled(
        &[
            pod("one", 1, 5, "{containerPort: 1, hostPort: 80, hostIP: 172.30.0.11}"),
            pod("two", 1, 6, "{containerPort: 2, hostPort: 80, hostIP: '::'}"),
            pod("lost", 1, 7, "{containerPort: 3, hostPort: 81, hostIP: 192.0.2.1}"),
        ]
        .concat(),
        &CompileOptions::default(),
    );
    assert_eq!(leads(&tables, "172.30.0.11", Protocol::TCP, 80).as_deref(), Some("one 10.244.1.5:1"));
    assert_eq!(leads(&tables, "fd00:172:30::11", Protocol::TCP, 80).as_deref(), Some("two fd00:244:1::6:2"));
    assert_eq!(
        problems,
        ["test.yaml: Pod default/lost: spec.containers[0].ports[0].hostIP: 192.0.2.1 is no address of Node node1: \
          the port is not served"]
    );
    let claimed = tables.node_frontends(NodeIndex(0));
    let claimed: Vec<_> = claimed.iter().map(|at| (at.addr.is_ipv4(), at.everywhere)).collect();
    assert_eq!(claimed, [(true, false), (false, true)]);
}

#[test]
fn p04_of_two_pods_on_one_node_the_first_by_name_has_the_port_and_the_other_is_told() {
    let (tables, problems) = compiled(
        &[
            pod("b", 1, 6, "{containerPort: 2, hostPort: 80}"),
            pod("a", 1, 5, "{containerPort: 1, hostPort: 80}"),
            pod("c", 2, 5, "{containerPort: 3, hostPort: 80}"),
        ]
        .concat(),
        &CompileOptions::default(),
    );
    assert_eq!(leads(&tables, "172.30.0.11", Protocol::TCP, 80).as_deref(), Some("a 10.244.1.5:1"));
    assert_eq!(leads(&tables, "172.30.0.12", Protocol::TCP, 80).as_deref(), Some("c 10.244.2.5:3"));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].contains("Pod default/b: spec.containers[0].ports[0].hostPort: TCP 80 of 172.30.0.11 is already the hostPort of Pod default/a"),
        "{problems:?}"
    );
}

#[test]
fn p04_what_a_service_has_on_a_node_is_not_a_pods() {
    let services = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32000, externalIPs: [172.30.0.11], clusterIP: 10.96.0.5, ports: [{port: 80, nodePort: 30080}]}
---
";
    let ports =
        "{containerPort: 1, hostPort: 80}, {containerPort: 2, hostPort: 30080}, {containerPort: 3, hostPort: 32000}";
    let options = CompileOptions { external_ips: vec!["172.30.0.0/24".parse().unwrap()], ..CompileOptions::default() };
    let (tables, problems) = compiled(&format!("{services}{}", pod("late", 1, 5, ports)), &options);
    let kind =
        |addr: &str, port| tables.find_service(addr.parse().unwrap(), Protocol::TCP, port).map(|found| found.kind);
    assert_eq!(kind("172.30.0.11", 80), Some(FrontendKind::ExternalIp));
    assert_eq!(kind("172.30.0.11", 30_080), Some(FrontendKind::NodePort));
    assert_eq!(kind("172.30.0.11", 32_000), None);
    let ends = [
        "ports[0].hostPort: TCP 80 of 172.30.0.11 is not served: it is the ExternalIP of Service default/web",
        "ports[1].hostPort: TCP 30080 of 172.30.0.11 is not served: it is the NodePort of Service default/web",
        "ports[2].hostPort: TCP 32000 is not served: it is the healthCheckNodePort of Service default/web",
    ];
    assert_eq!(problems.len(), ends.len(), "{problems:?}");
    for (problem, end) in problems.iter().zip(ends) {
        assert!(problem.ends_with(end), "{problem}");
    }
}
