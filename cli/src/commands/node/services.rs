//! `podplane services`: what a node serves, as text for people. One row per Service port, then one per backend.

use super::tables::{cells, columns};
use control::api::{Service, ServiceAddress, ServicePort};

/// The text.
pub(super) fn services(services: &[Service]) -> String {
    if services.is_empty() {
        return "there are no Services with an address\n".to_owned();
    }
    let mut ports = vec![cells([
        "SERVICE",
        "TYPE",
        "ADDRESSES",
        "PORT",
        "NODEPORT",
        "READY",
        "RULES",
        "OPENED",
        "REFUSED",
        "RETRIED",
    ])];
    let mut backends = vec![cells(["SERVICE", "PORT", "BACKEND", "OWNER", "NODE", "STATE"])];
    for service in services {
        let name = format!("{}/{}", service.namespace, service.name);
        let addresses: Vec<String> = service.addresses.iter().map(address).collect();
        for port in &service.ports {
            let ready = port.backends.iter().filter(|backend| backend.state == "ready").count();
            ports.push(vec![
                name.clone(),
                service.type_.clone(),
                addresses.join(" "),
                port_name(port),
                port.node_port.map_or_else(dash, |port| port.to_string()),
                format!("{ready}/{}", port.backends.len()),
                rules(service),
                port.hits.opened.to_string(),
                port.hits.refused.to_string(),
                port.hits.retried.to_string(),
            ]);
            backends.extend(port.backends.iter().map(|backend| {
                let node = backend.node.clone().unwrap_or_else(dash);
                vec![
                    name.clone(),
                    port_name(port),
                    std::net::SocketAddr::new(backend.address, backend.port).to_string(),
                    backend.owner.clone().unwrap_or_else(dash),
                    if backend.local { format!("{node} (here)") } else { node },
                    backend.state.clone(),
                ]
            }));
        }
    }
    let mut text = columns(&ports, &[7, 8, 9]);
    if backends.len() > 1 {
        text.push('\n');
        text.push_str(&columns(&backends, &[]));
    }
    text
}

fn dash() -> String {
    "-".to_owned()
}

fn port_name(port: &ServicePort) -> String {
    let name = if port.name.is_empty() { String::new() } else { format!(" ({})", port.name) };
    format!("{}/{}{name}", port.protocol, port.port)
}

fn address(address: &ServiceAddress) -> String {
    let kind = match address.kind.as_str() {
        "ClusterIP" => String::new(),
        kind => match &address.announced_by {
            Some(node) => format!(" ({kind}, at {node})"),
            None => format!(" ({kind})"),
        },
    };
    format!("{}{kind}", address.address)
}

/// What is not the default.
fn rules(service: &Service) -> String {
    let mut rules = Vec::new();
    for (name, policy) in
        [("external", &service.external_traffic_policy), ("internal", &service.internal_traffic_policy)]
    {
        if policy != "Cluster" {
            rules.push(format!("{name} {policy}"));
        }
    }
    rules.extend(service.affinity_seconds.map(|seconds| format!("affinity {seconds}s")));
    rules.extend(service.traffic_distribution.clone());
    rules.extend(service.source_ranges.as_ref().map(|ranges| {
        let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
        format!("from {}", ranges.join(" "))
    }));
    rules.extend(service.health_check_node_port.map(|port| format!("health {port}")));
    rules.extend(service.connect_retry_ms.map(|ms| format!("retry {ms}ms")));
    if rules.is_empty() { dash() } else { rules.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::api::{ServiceBackend, ServiceHits};

    #[test]
    fn ports_come_first_and_then_their_backends() {
        let backend = |address: &str, local, state: &str| ServiceBackend {
            address: address.parse().unwrap(),
            port: 8080,
            owner: Some("shop/web-1".to_owned()),
            node: Some("node1".to_owned()),
            local,
            state: state.to_owned(),
        };
        let vip = |address: &str, kind: &str, announced_by: Option<&str>| ServiceAddress {
            address: address.parse().unwrap(),
            kind: kind.to_owned(),
            announced_by: announced_by.map(str::to_owned),
        };
        let service = Service {
            namespace: "shop".to_owned(),
            name: "web".to_owned(),
            type_: "LoadBalancer".to_owned(),
            addresses: vec![vip("10.96.1.1", "ClusterIP", None), vip("172.30.0.200", "LoadBalancer", Some("node2"))],
            ports: vec![ServicePort {
                name: "http".to_owned(),
                protocol: "TCP".to_owned(),
                port: 80,
                node_port: Some(30080),
                backends: vec![backend("10.244.1.2", true, "ready"), backend("10.244.1.3", true, "terminating")],
                hits: ServiceHits { opened: 7, refused: 1, retried: 2 },
            }],
            affinity_seconds: Some(600),
            external_traffic_policy: "Local".to_owned(),
            internal_traffic_policy: "Cluster".to_owned(),
            traffic_distribution: None,
            health_check_node_port: None,
            source_ranges: None,
            connect_retry_ms: None,
        };
        let text = services(&[service]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("SERVICE") && lines[0].ends_with("OPENED  REFUSED  RETRIED"), "{text}");
        for part in [
            "shop/web  LoadBalancer  10.96.1.1 172.30.0.200 (LoadBalancer, at node2)  TCP/80 (http)  30080     1/2",
            "external Local, affinity 600s",
        ] {
            assert!(lines[1].contains(part), "{part}: {text}");
        }
        assert!(lines[4].contains("10.244.1.2:8080  shop/web-1  node1 (here)  ready"), "{text}");
        assert_eq!(services(&[]), "there are no Services with an address\n");
    }
}
