//! A scene as Kubernetes YAML, compiled as a cluster's would be.

use crate::scene::{CLUSTER_DNS, Modes, Pod, Service, node_v4, node_v6};
use policy::cluster::Cluster;
use policy::compile::{self, CompileOptions};
use policy::objects::{self, CONNECT_RETRY_ANNOTATION, DRY_RUN_ANNOTATION, ESTABLISHED_ANNOTATION};
use std::fmt::Write;

/// The server outside the cluster.
const OUTSIDE: (&str, &str) = ("203.0.113.1", "2001:db8::1");

/// Compiles `yaml`; a scene whose objects have problems is a broken test.
pub(crate) fn compile(yaml: &str, epoch: u64) -> policy::tables::Tables {
    let parsed = objects::parse("scene", yaml);
    assert!(parsed.problems.is_empty(), "{:?}\n{yaml}", parsed.problems);
    let (cluster, problems) = Cluster::from_objects(parsed.objects);
    assert!(problems.is_empty(), "{problems:?}\n{yaml}");
    let options = CompileOptions {
        external_ips: vec!["198.51.100.0/24".parse().unwrap()],
        cluster_dns: vec![CLUSTER_DNS.0.into(), CLUSTER_DNS.1.into()],
        ..CompileOptions::default()
    };
    let (tables, problems) = compile::compile_with(&cluster, &options, epoch);
    assert!(problems.is_empty(), "{problems:?}\n{yaml}");
    tables
}

/// The cluster as Kubernetes YAML.
pub(crate) fn yaml(pods: &[Pod], services: &[Service], rules: &[String], modes: &Modes<'_>) -> String {
    let mut yaml = String::new();
    for node in 1..=2 {
        let (v4, v6) = (node_v4(node), node_v6(node));
        write!(
            yaml,
            "---\napiVersion: v1\nkind: Node\nmetadata: {{name: node{node}}}\nspec:\n  podCIDR: 10.244.{node}.0/24\n  \
             podCIDRs: [10.244.{node}.0/24, \"fd00:10:244:{node}::/64\"]\nstatus:\n  addresses:\n  \
             - {{type: InternalIP, address: {v4}}}\n  - {{type: InternalIP, address: \"{v6}\"}}\n"
        )
        .unwrap();
    }
    for pod in pods {
        let Pod { name, node, v4, v6, labels, .. } = pod;
        let ports = pod.ports.join(", ");
        let ending = if pod.terminating { ", deletionTimestamp: \"2026-01-01T00:00:00Z\"" } else { "" };
        write!(
            yaml,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: default, labels: {{name: {name}, {labels}}}{ending}}}\n\
             spec: {{nodeName: node{node}, containers: [{{name: main, image: none, ports: [{ports}]}}]}}\nstatus:\n  phase: Running\n  \
             podIP: {v4}\n  podIPs: [{{ip: {v4}}}, {{ip: \"{v6}\"}}]\n"
        )
        .unwrap();
    }
    for (number, service) in services.iter().enumerate() {
        write_service(&mut yaml, number + 1, service, pods);
    }
    for (number, rule) in rules.iter().enumerate() {
        write_rule(&mut yaml, number, rule, modes);
    }
    yaml
}

/// The namespace of all pods.
pub(crate) fn namespace(labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: default, labels: {{{labels}}}}}\n")
}

fn write_service(yaml: &mut String, number: usize, service: &Service, pods: &[Pod]) {
    let Service { name, protocol, port, target_port, backends, .. } = service;
    let also = service.option("also").map(|ports| ports.split_once(':').expect("PORT:TARGET"));
    let kind = match (service.option("lb"), service.option("node-port")) {
        (Some(_), _) => "LoadBalancer",
        (None, Some(_)) => "NodePort",
        (None, None) => "ClusterIP",
    };
    let retry = service
        .option("retry")
        .map_or(String::new(), |ms| format!(", annotations: {{{CONNECT_RETRY_ANNOTATION}: \"{ms}\"}}"));
    let node_port = service.option("node-port").map_or(String::new(), |port| format!(", nodePort: {port}"));
    write!(
        yaml,
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: default{retry}}}\nspec:\n  type: {kind}\n  \
         clusterIP: 10.96.0.{number}\n  clusterIPs: [10.96.0.{number}, \"fd00:10:96::{number:x}\"]\n  \
         ipFamilies: [IPv4, IPv6]\n  ipFamilyPolicy: PreferDualStack\n  ports:\n  - {{name: main, protocol: {protocol}, \
         port: {port}, targetPort: {target_port}{node_port}}}\n"
    )
    .unwrap();
    if let Some((port, target)) = also {
        writeln!(yaml, "  - {{name: also, protocol: {protocol}, port: {port}, targetPort: {target}}}").unwrap();
    }
    for (option, field) in [
        ("external", "externalTrafficPolicy"),
        ("internal", "internalTrafficPolicy"),
        ("external-ip", "externalIPs"),
        ("sources", "loadBalancerSourceRanges"),
    ] {
        match service.option(option) {
            Some(value) if option.starts_with("external-ip") || option == "sources" => {
                let values: Vec<String> = value.split(',').map(|value| format!("\"{value}\"")).collect();
                writeln!(yaml, "  {field}: [{}]", values.join(", ")).unwrap();
            }
            Some(value) => writeln!(yaml, "  {field}: {value}").unwrap(),
            None => {}
        }
    }
    if let Some(seconds) = service.option("affinity") {
        writeln!(
            yaml,
            "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}"
        )
        .unwrap();
    }
    if let Some(number) = service.option("lb") {
        writeln!(
            yaml,
            "  allocateLoadBalancerNodePorts: false\nstatus: {{loadBalancer: {{ingress: [{{ip: 172.30.0.{number}, ipMode: VIP}}, \
             {{ip: \"fd00:172:30::{number}\", ipMode: VIP}}]}}}}"
        )
        .unwrap();
    }
    for family in ["IPv4", "IPv6"] {
        write!(
            yaml,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}-{}, namespace: default, \
             labels: {{kubernetes.io/service-name: {name}}}}}\naddressType: {family}\nports:\n- {{name: main, protocol: \
             {protocol}, port: {target_port}}}\n",
            family.to_lowercase()
        )
        .unwrap();
        if let Some((_, target)) = also {
            writeln!(yaml, "- {{name: also, protocol: {protocol}, port: {target}}}").unwrap();
        }
        yaml.push_str("endpoints:\n");
        for backend in backends.iter() {
            let (backend, state) = backend.split_once('/').unwrap_or((backend, "ready"));
            let conditions = match state {
                "ready" => "ready: true",
                "draining" => "ready: false, serving: true, terminating: true",
                "unready" => "ready: false, serving: false",
                other => panic!("no such state: {other}"),
            };
            let node = if backend == "node1" { 1 } else { 2 };
            if let "node1" | "node2" | "outside" = backend {
                let (v4, v6) = match backend {
                    "outside" => (OUTSIDE.0.to_owned(), OUTSIDE.1.to_owned()),
                    _ => (node_v4(node).to_string(), node_v6(node).to_string()),
                };
                let addr = if family == "IPv4" { v4 } else { v6 };
                let at = if backend == "outside" { String::new() } else { format!(", nodeName: {backend}") };
                writeln!(yaml, "- {{addresses: [\"{addr}\"], conditions: {{{conditions}}}{at}}}").unwrap();
                continue;
            }
            let pod = pods.iter().find(|p| p.name == *backend).expect("a backend is a pod");
            let addr = if family == "IPv4" { pod.v4.to_string() } else { pod.v6.to_string() };
            writeln!(
                yaml,
                "- {{addresses: [\"{addr}\"], conditions: {{{conditions}}}, nodeName: node{}, targetRef: {{kind: Pod, \
                 namespace: default, name: {backend}}}}}",
                pod.node
            )
            .unwrap();
        }
        if backends.is_empty() {
            yaml.push_str("  []\n");
        }
    }
}

fn write_rule(yaml: &mut String, number: usize, rule: &str, modes: &Modes<'_>) {
    let (head, peers) = rule.split_once(':').expect("peers behind a colon");
    let is_in = |list: &[String]| list.iter().any(|named| named == head);
    let dry_run = if is_in(modes.dry_run) { format!("{DRY_RUN_ANNOTATION}: \"true\", ") } else { String::new() };
    let keep = if is_in(modes.keep) { format!("{ESTABLISHED_ANNOTATION}: keep") } else { String::new() };
    let (direction, pod) = head.split_once(' ').expect("a direction and a pod");
    let (kind, key) = if direction == "ingress" { ("Ingress", "from") } else { ("Egress", "to") };
    write!(
        yaml,
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: rule-{number}, \
         namespace: default, annotations: {{{dry_run}{keep}}}}}\n\
         spec:\n  podSelector: {{matchLabels: {{name: {pod}}}}}\n  policyTypes: [{kind}]\n  {direction}:\n"
    )
    .unwrap();
    let peers: Vec<&str> = peers.split(',').map(str::trim).filter(|p| !p.is_empty()).collect();
    if peers.is_empty() {
        yaml.push_str("    []\n");
    }
    for peer in peers {
        let (who, port) = peer.split_once(' ').unwrap_or((peer, ""));
        let who = match who.contains('/') {
            true => format!("{{ipBlock: {{cidr: \"{who}\"}}}}"),
            false => format!("{{podSelector: {{matchLabels: {{name: {who}}}}}}}"),
        };
        writeln!(yaml, "  - {key}: [{who}]").unwrap();
        if let Some((protocol, port)) = port.split_once('/') {
            writeln!(yaml, "    ports: [{{protocol: {}, port: {port}}}]", protocol.to_uppercase()).unwrap();
        }
    }
}
