use crate::cluster::Cluster;
use crate::compile::{CompileOptions, compile_with};
use crate::objects::parse;
use crate::tables::{Choice, Client, FlowHash, FrontendKind, NodeIndex, ServiceIndex, Tables};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use wire::{FlowKey, Protocol};

/// Three nodes, two in zone a and one in zone b.
const NODES: &str = "
{apiVersion: v1, kind: Node, metadata: {name: node1, labels: {topology.kubernetes.io/zone: a}}, spec: {podCIDRs: [10.244.1.0/24]},
 status: {addresses: [{type: InternalIP, address: 172.30.0.11}, {type: InternalIP, address: 'fd00:172:30::11'}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: node2, labels: {topology.kubernetes.io/zone: a}}, spec: {podCIDRs: [10.244.2.0/24]},
 status: {addresses: [{type: InternalIP, address: 172.30.0.12}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: node3, labels: {topology.kubernetes.io/zone: b}}, spec: {podCIDRs: [10.244.3.0/24]},
 status: {addresses: [{type: InternalIP, address: 172.30.0.13}]}}
---
";

/// Compiles manifests under options; the problems as text.
pub(super) fn compiled(yaml: &str, options: &CompileOptions) -> (Tables, Vec<String>) {
    let parsed = parse("test.yaml", &format!("{NODES}{yaml}"));
    assert_eq!(parsed.problems, []);
    let (cluster, problems) = Cluster::from_objects(parsed.objects);
    assert_eq!(problems, []);
    let (tables, problems) = compile_with(&cluster, options, 1);
    (tables, problems.iter().map(ToString::to_string).collect())
}

fn tables(yaml: &str) -> Tables {
    let (tables, problems) = compiled(yaml, &CompileOptions::default());
    assert_eq!(problems, [""; 0]);
    tables
}

/// A Service `web` on 10.96.0.5 with a port 80, nodePort 30080, and more in its spec and status.
fn service(spec: &str, status: &str) -> String {
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{clusterIP: 10.96.0.5, ports: [{{port: 80, nodePort: 30080}}], {spec}}}
status: {{{status}}}
---
"
    )
}

/// A slice of Service `web` on port 8080; each endpoint is its last two address bytes (10.244.X) and more as flow YAML.
fn slice(endpoints: &[(&str, &str)]) -> String {
    let endpoints: Vec<String> =
        endpoints.iter().map(|(addr, more)| format!("{{addresses: [10.244.{addr}], {more}}}")).collect();
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: web-1, labels: {{kubernetes.io/service-name: web}}}},
 addressType: IPv4, ports: [{{port: 8080}}], endpoints: [{}]}}
---
",
        endpoints.join(", ")
    )
}

const DRAINING: &str = "conditions: {ready: false, serving: true, terminating: true}";

/// An endpoint on each node, ready.
fn one_per_node() -> String {
    slice(&[("1.2", "nodeName: node1"), ("2.2", "nodeName: node2"), ("3.2", "nodeName: node3")])
}

/// Where TCP flows to `dst` may go that enter on `node`: the last address bytes of the candidates, or the refusal.
fn reach(tables: &Tables, dst: &str, node: &str, client: Client) -> String {
    reach_from(tables, dst, node, client, "192.0.2.1")
}

fn reach_from(tables: &Tables, dst: &str, node: &str, client: Client, src: &str) -> String {
    let dst: SocketAddr = dst.parse().expect("ADDR:PORT");
    let Some(frontend) = tables.find_service(dst.ip(), Protocol::TCP, dst.port()) else { return "nothing".to_owned() };
    match tables.admit(frontend, dst.ip(), tables.find_node(node), client, src.parse().expect("an address")) {
        Ok(candidates) => {
            let mut all: Vec<String> = candidates.iter().map(|backend| backend.addr.to_string().split_off(7)).collect();
            all.sort();
            all.join(" ")
        }
        Err(refusal) => format!("{refusal:?}"),
    }
}

const INSIDE: Client = Client::Inside;
const OUTSIDE: Client = Client::Outside;

#[test]
fn s02_a_node_port_is_served_on_every_address_of_every_node_of_the_services_family() {
    let tables = tables(&(service("type: NodePort", "") + &one_per_node()));
    for (node, client) in [("node1", INSIDE), ("node2", OUTSIDE)] {
        for dst in ["172.30.0.11:30080", "172.30.0.13:30080"] {
            assert_eq!(reach(&tables, dst, node, client), "1.2 2.2 3.2");
        }
    }
    assert_eq!(reach(&tables, "[fd00:172:30::11]:30080", "node1", INSIDE), "nothing", "the Service is IPv4");
    assert_eq!(reach(&tables, "172.30.0.11:80", "node1", INSIDE), "nothing");
    assert_eq!(
        reach(&tables, "10.244.1.1:30080", "node1", INSIDE),
        "nothing",
        "the gateway is not among the node's addresses"
    );
    let frontend = tables.find_service("172.30.0.11".parse().unwrap(), Protocol::TCP, 30080).unwrap();
    assert_eq!(frontend.kind.to_string(), "NodePort");
    assert!(!tables.is_virtual("172.30.0.11".parse().unwrap()));
}

#[test]
fn s02_node_ports_are_served_on_the_given_addresses_only() {
    let options = CompileOptions { node_port_addresses: vec!["172.30.0.12/31".parse().unwrap()], ..Default::default() };
    let (tables, _) = compiled(&(service("type: NodePort", "") + &one_per_node()), &options);
    assert_eq!(reach(&tables, "172.30.0.11:30080", "node1", INSIDE), "nothing");
    assert_eq!(reach(&tables, "172.30.0.12:30080", "node1", INSIDE), "1.2 2.2 3.2");
    let claims = |node: &str| {
        let claims = tables.node_frontends(tables.find_node(node).unwrap());
        claims.iter().map(|claim| format!("{}:{} {}", claim.addr, claim.port, claim.kind)).collect::<Vec<_>>()
    };
    assert!(claims("node1").is_empty());
    assert_eq!(claims("node2"), ["172.30.0.12:30080 NodePort"]);
}

#[test]
fn s04_a_load_balancers_address_is_served_here_unless_the_balancer_wants_to_see_the_traffic() {
    let status = "loadBalancer: {ingress: [{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: VIP}, {ip: 203.0.113.3, ipMode: Proxy}, \
                  {hostname: lb.example}]}";
    let tables = tables(&(service("type: LoadBalancer", status) + &one_per_node()));
    for served in ["203.0.113.1", "203.0.113.2"] {
        assert_eq!(reach(&tables, &format!("{served}:80"), "node1", INSIDE), "1.2 2.2 3.2");
        assert_eq!(reach(&tables, &format!("{served}:81"), "node1", INSIDE), "nothing");
        assert!(tables.is_virtual(served.parse().unwrap()));
    }
    assert_eq!(reach(&tables, "203.0.113.3:80", "node1", INSIDE), "nothing");
    assert!(!tables.is_virtual("203.0.113.3".parse().unwrap()));
    let announced: Vec<String> = tables.load_balancer_addresses().iter().map(|(addr, _)| addr.to_string()).collect();
    assert_eq!(announced, ["203.0.113.1", "203.0.113.2"]);
    let port = tables.find_service("203.0.113.1".parse().unwrap(), Protocol::TCP, 80).unwrap().service;
    let kinds: Vec<String> = tables.frontends(port).map(|(addr, kind)| format!("{addr} {kind}")).collect();
    assert_eq!(kinds, ["10.96.0.5 ClusterIP", "203.0.113.1 LoadBalancer", "203.0.113.2 LoadBalancer"]);
    assert_eq!(tables.service_entry(port).proxied_ips, ["203.0.113.3".parse::<IpAddr>().unwrap()]);
}

#[test]
fn s04_the_status_of_a_service_of_another_type_leads_nowhere() {
    let status = "loadBalancer: {ingress: [{ip: 203.0.113.1}]}";
    let tables = tables(&(service("type: NodePort", status) + &one_per_node()));
    assert_eq!(reach(&tables, "203.0.113.1:80", "node1", INSIDE), "nothing");
}

#[test]
fn s04_a_load_balancers_address_may_be_a_nodes_own() {
    let status = "loadBalancer: {ingress: [{ip: 172.30.0.12}]}";
    let tables = tables(&(service("type: LoadBalancer", status) + &one_per_node()));
    assert_eq!(reach(&tables, "172.30.0.12:80", "node1", OUTSIDE), "1.2 2.2 3.2");
    assert!(!tables.is_virtual("172.30.0.12".parse().unwrap()) && tables.load_balancer_addresses().is_empty());
    let claims = tables.node_frontends(NodeIndex(1));
    let claims: Vec<String> = claims.iter().map(|claim| format!("{} {}", claim.port, claim.kind)).collect();
    assert_eq!(claims, ["80 LoadBalancer", "30080 NodePort"]);
}

#[test]
fn s05_external_ips_are_served_within_the_allow_list_only() {
    let yaml = service("type: NodePort, externalIPs: [198.51.100.7, 203.0.113.9, 'fd00::9']", "") + &one_per_node();
    let (off, problems) = compiled(&yaml, &CompileOptions::default());
    assert_eq!(reach(&off, "198.51.100.7:80", "node1", OUTSIDE), "nothing");
    assert_eq!(
        problems[0],
        "test.yaml: Service default/web: spec.externalIPs[0]: 198.51.100.7 is not served: externalIPs are off, --external-ips \
         198.51.100.7 would allow it"
    );
    let options = CompileOptions {
        external_ips: vec!["198.51.100.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()],
        ..Default::default()
    };
    let (on, problems) = compiled(&yaml, &options);
    assert_eq!(reach(&on, "198.51.100.7:80", "node1", OUTSIDE), "1.2 2.2 3.2");
    assert_eq!(reach(&on, "203.0.113.9:80", "node1", OUTSIDE), "nothing");
    let field = "test.yaml: Service default/web: spec.externalIPs";
    assert_eq!(
        problems,
        [
            format!("{field}[1]: 203.0.113.9 is not served: it is outside --external-ips 198.51.100.0/24,fd00::/64"),
            format!("{field}[2]: fd00::9 is not served: IPv6 is not in spec.ipFamilies"),
        ]
    );
}

#[test]
fn s07_affinity_has_a_timeout_of_three_hours_unless_it_says_otherwise() {
    let affinity = |spec: &str| {
        let tables = tables(&service(spec, ""));
        tables.services[0].entry.affinity
    };
    assert_eq!(affinity("type: NodePort"), None);
    assert_eq!(affinity("type: NodePort, sessionAffinity: ClientIP"), Some(Duration::from_secs(10_800)));
    let config = "sessionAffinityConfig: {clientIP: {timeoutSeconds: 86400}}";
    assert_eq!(
        affinity(&format!("type: NodePort, sessionAffinity: ClientIP, {config}")),
        Some(Duration::from_secs(86_400))
    );
    assert_eq!(affinity(&format!("type: NodePort, {config}")), None);
}

#[test]
fn s07_an_affine_client_finds_its_backend_by_address_among_the_candidates() {
    let tables = tables(&(service("type: NodePort, externalTrafficPolicy: Local", "") + &one_per_node()));
    let vip = "10.96.0.5".parse().unwrap();
    let frontend = tables.find_service(vip, Protocol::TCP, 80).unwrap();
    let all = tables.candidates(frontend, vip, None, INSIDE);
    let wanted = "10.244.2.2".parse().unwrap();
    assert_eq!(all.find(wanted).map(|backend| (backend.port, backend.node())), Some((8080, Some(NodeIndex(1)))));
    assert_eq!(all.find("10.244.2.3".parse().unwrap()), None);
    let node = "172.30.0.11".parse().unwrap();
    let frontend = tables.find_service(node, Protocol::TCP, 30080).unwrap();
    assert_eq!(
        tables.candidates(frontend, node, Some(NodeIndex(0)), OUTSIDE).find(wanted),
        None,
        "it is on another node"
    );
}

#[test]
fn s08_external_traffic_policy_local_keeps_outside_traffic_on_the_node_that_it_came_to() {
    let status = "loadBalancer: {ingress: [{ip: 203.0.113.1}]}";
    let spec = "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32000";
    let yaml = service(spec, status)
        + &slice(&[("1.2", "nodeName: node1"), ("1.3", "nodeName: node1"), ("2.2", "nodeName: node2")]);
    let tables = tables(&yaml);
    for dst in ["203.0.113.1:80", "172.30.0.11:30080"] {
        assert_eq!(reach(&tables, dst, "node1", OUTSIDE), "1.2 1.3");
        assert_eq!(reach(&tables, dst, "node2", OUTSIDE), "2.2");
        assert_eq!(reach(&tables, dst, "node3", OUTSIDE), "NoLocalEndpoint");
        assert_eq!(reach(&tables, dst, "a stranger", OUTSIDE), "NoLocalEndpoint");
    }
    // From inside, nothing is gained by leaving the cluster first.
    assert_eq!(reach(&tables, "203.0.113.1:80", "node3", INSIDE), "1.2 1.3 2.2");
    assert_eq!(reach(&tables, "172.30.0.13:30080", "node3", INSIDE), "1.2 1.3 2.2");
    assert_eq!(reach(&tables, "172.30.0.12:30080", "node3", INSIDE), "2.2", "as node2 would send it");
    assert_eq!(reach(&tables, "172.30.0.13:30080", "node1", INSIDE), "NoLocalEndpoint");
    assert_eq!(reach(&tables, "10.96.0.5:80", "node3", INSIDE), "1.2 1.3 2.2");
    let service = ServiceIndex(0);
    let counts = [0, 1, 2].map(|node| tables.local_ready_endpoints(service, NodeIndex(node)));
    assert_eq!((counts, tables.services[0].entry.health_check_node_port), ([2, 1, 0], Some(32000)));
    assert_eq!([0, 1, 2].map(|node| tables.has_local_endpoint(service, NodeIndex(node))), [true, true, false]);
}

#[test]
fn s08_without_any_endpoint_a_local_service_refuses_and_does_not_drop() {
    let tables = tables(&service("type: NodePort, externalTrafficPolicy: Local", ""));
    assert_eq!(reach(&tables, "172.30.0.11:30080", "node1", OUTSIDE), "NoEndpoint");
}

#[test]
fn s09_internal_traffic_policy_local_keeps_the_cluster_ip_on_the_clients_node() {
    let spec = "type: NodePort, internalTrafficPolicy: Local";
    let tables = tables(&(service(spec, "") + &slice(&[("1.2", "nodeName: node1"), ("2.2", "nodeName: node2")])));
    assert_eq!(reach(&tables, "10.96.0.5:80", "node1", INSIDE), "1.2");
    assert_eq!(reach(&tables, "10.96.0.5:80", "node3", INSIDE), "NoLocalEndpoint");
    assert_eq!(reach(&tables, "172.30.0.13:30080", "node3", INSIDE), "1.2 2.2", "the nodePort has a policy of its own");
}

#[test]
fn s12_each_node_falls_back_to_its_own_terminating_endpoints_if_it_has_none_that_is_ready() {
    let spec = "type: NodePort, externalTrafficPolicy: Local, internalTrafficPolicy: Local";
    let draining = |node: &str| format!("nodeName: {node}, {DRAINING}");
    let endpoints = [("1.2", "nodeName: node1"), ("1.3", &draining("node1")), ("2.2", &draining("node2"))];
    let gone = ("3.2", "nodeName: node3, conditions: {ready: false, serving: false, terminating: true}");
    let yaml = service(spec, "") + &slice(&[endpoints[0], endpoints[1], endpoints[2], gone]);
    let tables = tables(&yaml);
    for (dst, client) in [("10.96.0.5:80", INSIDE), ("172.30.0.11:30080", OUTSIDE)] {
        assert_eq!(reach(&tables, dst, "node1", client), "1.2");
        assert_eq!(reach(&tables, dst, "node2", client), "2.2");
        assert_eq!(reach(&tables, dst, "node3", client), "NoLocalEndpoint");
    }
    assert_eq!(reach(&tables, "172.30.0.12:30080", "node2", INSIDE), "1.2", "all nodes together: the ready one");
    assert_eq!(
        tables.local_ready_endpoints(ServiceIndex(0), NodeIndex(1)),
        0,
        "a draining node asks for no more traffic"
    );
}

#[test]
fn s19_source_ranges_hold_for_the_load_balancers_address_and_for_no_other() {
    let status = "loadBalancer: {ingress: [{ip: 203.0.113.1}]}";
    let field = "type: LoadBalancer, loadBalancerSourceRanges: [192.0.2.0/25, ' 192.0.2.128/25', 10.244.1.0/24]";
    let annotated = service("type: LoadBalancer", status).replace(
        "{name: web}",
        "{name: web, annotations: {service.beta.kubernetes.io/load-balancer-source-ranges: '192.0.2.0/24, 10.244.1.0/24'}}",
    );
    for yaml in [service(field, status), annotated] {
        let tables = tables(&(yaml + &one_per_node()));
        let from = |src, client| reach_from(&tables, "203.0.113.1:80", "node1", client, src);
        assert_eq!(from("192.0.2.200", OUTSIDE), "1.2 2.2 3.2");
        assert_eq!(from("10.244.1.9", INSIDE), "1.2 2.2 3.2");
        for (src, client) in [("192.0.3.1", OUTSIDE), ("10.244.2.9", INSIDE), ("fd00::1", INSIDE)] {
            assert_eq!(from(src, client), "SourceNotAllowed");
        }
        assert_eq!(reach_from(&tables, "172.30.0.11:30080", "node1", OUTSIDE, "192.0.3.1"), "1.2 2.2 3.2");
    }
}

#[test]
fn s20_hints_keep_traffic_in_the_zone_or_on_the_node() {
    let zone = |node: &str, zone: &str| format!("nodeName: {node}, hints: {{forZones: [{{name: {zone}}}]}}");
    let yaml = slice(&[("1.2", &zone("node1", "a")), ("2.2", &zone("node2", "a")), ("3.2", &zone("node3", "b"))]);
    let zoned = tables(&(service("type: NodePort", "") + &yaml));
    for (dst, client) in [("10.96.0.5:80", INSIDE), ("172.30.0.11:30080", OUTSIDE)] {
        assert_eq!(reach(&zoned, dst, "node1", client), "1.2 2.2");
        assert_eq!(reach(&zoned, dst, "node3", client), "3.2");
        assert_eq!(reach(&zoned, dst, "a stranger", client), "1.2 2.2 3.2");
    }
    let node =
        |node: &str| format!("nodeName: {node}, hints: {{forNodes: [{{name: {node}}}], forZones: [{{name: a}}]}}");
    let yaml = slice(&[("1.2", &node("node1")), ("1.3", &node("node1")), ("3.2", &node("node3"))]);
    let hinted = tables(&(service("type: NodePort", "") + &yaml));
    assert_eq!(reach(&hinted, "10.96.0.5:80", "node1", INSIDE), "1.2 1.3");
    assert_eq!(reach(&hinted, "10.96.0.5:80", "node2", INSIDE), "1.2 1.3 3.2", "no endpoint for the node: its zone");
}

#[test]
fn s20_a_hint_that_is_missing_or_matches_nothing_falls_back_to_all() {
    let zone = |zone: &str| format!("hints: {{forZones: [{{name: {zone}}}]}}");
    let missing = tables(&(service("type: NodePort", "") + &slice(&[("1.2", &zone("a")), ("2.2", "")])));
    assert_eq!(reach(&missing, "10.96.0.5:80", "node1", INSIDE), "1.2 2.2");
    let elsewhere = tables(&(service("type: NodePort", "") + &slice(&[("1.2", &zone("c")), ("2.2", &zone("b"))])));
    assert_eq!(reach(&elsewhere, "10.96.0.5:80", "node1", INSIDE), "1.2 2.2");
    let unready = "conditions: {ready: false}";
    let ignored = tables(
        &(service("type: NodePort", "") + &slice(&[("1.2", &zone("a")), ("1.3", &zone("b")), ("2.2", unready)])),
    );
    assert_eq!(reach(&ignored, "10.96.0.5:80", "node1", INSIDE), "1.2", "an endpoint that is not ready needs no hint");
    let draining = format!("{}, {DRAINING}", zone("b"));
    let terminating = tables(&(service("type: NodePort", "") + &slice(&[("1.2", &draining), ("2.2", DRAINING)])));
    assert_eq!(reach(&terminating, "10.96.0.5:80", "node1", INSIDE), "1.2 2.2", "hints are for ready endpoints");
}

#[test]
fn s21_sctp_and_udp_ports_of_one_number_are_different_ports() {
    let yaml = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, clusterIP: 10.96.0.5, ports: [{name: s, protocol: SCTP, port: 80, nodePort: 30080}, {name: u, protocol: UDP, port: 80, nodePort: 30080}]}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}, addressType: IPv4,
 ports: [{name: s, protocol: SCTP, port: 1}, {name: u, protocol: UDP, port: 2}], endpoints: [{addresses: [10.244.1.2]}]}
";
    let tables = tables(yaml);
    for addr in ["10.96.0.5:80", "172.30.0.11:30080"] {
        let dst: SocketAddr = addr.parse().unwrap();
        let port = |protocol| {
            let frontend = tables.find_service(dst.ip(), protocol, dst.port())?;
            tables.candidates(frontend, dst.ip(), None, INSIDE).get(0).map(|backend| backend.port)
        };
        assert_eq!([Protocol::SCTP, Protocol::UDP, Protocol::TCP].map(port), [Some(1), Some(2), None]);
    }
}

#[test]
fn s26_flows_from_outside_choose_alike_on_every_node_and_spread_evenly() {
    let many: Vec<String> = (2..22).map(|n| format!("{}.{n}", n % 3 + 1)).collect();
    let endpoints: Vec<(&str, &str)> = many.iter().map(|addr| (addr.as_str(), "")).collect();
    let tables = tables(&(service("type: NodePort, externalIPs: []", "") + &slice(&endpoints)));
    let dst: IpAddr = "172.30.0.11".parse().unwrap();
    let frontend = tables.find_service(dst, Protocol::TCP, 30080).unwrap();
    assert_eq!(frontend.kind, FrontendKind::NodePort);
    let src: IpAddr = "192.0.2.1".parse().unwrap();
    let mut counts = std::collections::BTreeMap::<IpAddr, u32>::new();
    for port in 1024..21_024 {
        let key = FlowKey::new(Protocol::TCP, src, port, dst, 30080);
        let choice = |node: u32, seed| {
            tables.choose(frontend, dst, Some(NodeIndex(node)), OUTSIDE, src, &FlowHash::new(&key, seed))
        };
        let Choice::Backend(backend) = choice(0, 1) else { panic!("there are backends") };
        assert_eq!(choice(2, 99), Choice::Backend(backend));
        *counts.entry(backend.addr).or_default() += 1;
    }
    assert_eq!(counts.len(), 20);
    assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
}
