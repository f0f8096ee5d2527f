//! Services as seen from outside of the cluster: nodePorts, LoadBalancer addresses and externalIPs, asked by curl, by UDP and
//! by SCTP from `world`, and whom the servers saw.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::services::{
    EXTERNAL_IPS, NODES, STRANGER, WORLD, at, cluster, curl, load_balancer_ips, manifest, node, outcome, probe,
    route_from_world, server, service,
};
use support::{Lab, has_program, labs_can_run, wait_for};

const EXTERNAL: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];

/// One request over each protocol; gives who answered, after the client's address was compared.
fn ask_all(lab: &Lab, from: &str, client_ip: &str, to: &str) -> BTreeSet<String> {
    let mut servers = BTreeSet::new();
    let tcp = curl(lab, from, to, &[]).unwrap_or_else(|code| panic!("curl from {from} to {to}: exit code {code}"));
    for (protocol, report) in
        [("tcp", tcp), ("udp", probe(lab, from, to, "udp")), ("sctp", probe(lab, from, to, "sctp"))]
    {
        assert_ne!(report["outcome"], "timeout", "{protocol} from {from} to {to}");
        assert_eq!(report["client_ip"], client_ip, "{protocol} from {from} to {to}: {report:#}");
        servers.insert(report["server"].as_str().expect("a server").to_owned());
    }
    servers
}

/// The clients of `world` in a family: its own address and one that is far away.
fn clients(family: usize) -> [(String, &'static str); 2] {
    [("world".to_owned(), WORLD[family]), (format!("world:{}", STRANGER[family]), STRANGER[family])]
}

#[test]
fn every_frontend_answers_the_outside_over_every_protocol_and_servers_see_the_client() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let external = format!("externalIPs: ['{}', '{}']", EXTERNAL[0], EXTERNAL[1]);
    let lab = Lab::up(&cluster(&service("web", "LoadBalancer", 80, "app: web", &external)), &EXTERNAL_IPS);
    let addresses = load_balancer_ips(&lab, "web");
    let mut servers = BTreeSet::new();
    for family in [0, 1] {
        for (from, client_ip) in clients(family) {
            for node in NODES {
                servers.extend(ask_all(&lab, &from, client_ip, &at(node[family], 30_080)));
                // The externalIP is routed to the cluster by whoever has it: here by each node in turn.
                route_from_world(&lab, EXTERNAL[family], node[family]);
                servers.extend(ask_all(&lab, &from, client_ip, &at(EXTERNAL[family], 80)));
            }
            servers.extend(ask_all(&lab, &from, client_ip, &at(&addresses[family], 80)));
        }
    }
    assert_eq!(servers, BTreeSet::from(["e2e/near".to_owned(), "e2e/far".to_owned()]));
}

#[test]
fn with_the_local_policy_only_nodes_with_an_endpoint_serve_the_outside_and_say_so_to_health_checks() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let local = "externalTrafficPolicy: Local\nhealthCheckNodePort: 32081";
    let lab = Lab::up(&cluster(&service("web", "LoadBalancer", 81, "where: far", local)), &[]);
    let addresses = load_balancer_ips(&lab, "web");
    for family in [0, 1] {
        let (silent, serving) = (at(NODES[0][family], 30_081), at(NODES[1][family], 30_081));
        for (from, client_ip) in clients(family) {
            for to in [&serving, &at(&addresses[family], 80)] {
                assert_eq!(ask_all(&lab, &from, client_ip, to), BTreeSet::from(["e2e/far".to_owned()]), "{to}");
            }
            for protocol in ["tcp", "udp", "sctp"] {
                assert_eq!(outcome(&lab, &from, &silent, protocol, 400), "timeout", "{protocol} to {silent}");
            }
        }
        assert_eq!(health(&lab, NODES[0][family]), (503, 0));
        assert_eq!(health(&lab, NODES[1][family]), (200, 1));
    }
    // An endpoint on node1 and another on node2.
    lab.apply(&(server("near2", "node1", "where: far") + &server("far2", "node2", "where: far")));
    let expected = [(200, 1), (200, 2)];
    wait_for("the counts follow", Duration::from_secs(5), || {
        (NODES.map(|node| health(&lab, node[0])) == expected).then_some(())
    });
    let near = ask_all(&lab, "world", WORLD[0], &at(NODES[0][0], 30_081));
    assert_eq!(near, BTreeSet::from(["e2e/near2".to_owned()]), "a local endpoint, and no other");
}

/// Status and count of a node's health check port.
fn health(lab: &Lab, node: &str) -> (u16, u64) {
    let url = format!("http://{}/", at(node, 32_081));
    let said = lab.exec_ok("world", &["curl", "-s", "--max-time", "3", "--write-out", "\n%{http_code}", &url]);
    let (body, code) = said.rsplit_once('\n').expect("a body and a status");
    let body: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert_eq!(body["service"], json!({"namespace": "e2e", "name": "web"}), "{body:#}");
    (code.parse().expect("a status"), body["localEndpoints"].as_u64().expect("a count"))
}

#[test]
fn a_load_balancer_takes_clients_of_its_source_ranges_only() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let ranges = format!("loadBalancerSourceRanges: ['{}/32', '{}/128']", STRANGER[0], STRANGER[1]);
    let lab = Lab::up(&cluster(&service("web", "LoadBalancer", 82, "app: web", &ranges)), &[]);
    for (family, address) in load_balancer_ips(&lab, "web").iter().enumerate() {
        for to in [at(address, 80), at(NODES[0][family], 30_082)] {
            let stranger = format!("world:{}", STRANGER[family]);
            ask_all(&lab, &stranger, STRANGER[family], &to);
            // The ranges are about the load balancer; a nodePort is open to all, as with kube-proxy's own rules.
            if to.ends_with(":80") {
                for protocol in ["tcp", "udp", "sctp"] {
                    assert_eq!(outcome(&lab, "world", &to, protocol, 400), "timeout", "{protocol} to {to}");
                }
            }
        }
    }
}

#[test]
fn a_node_port_serves_pods_and_the_node_itself_on_loopback_too() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let lab = Lab::up(&cluster(&service("web", "NodePort", 83, "app: web", "")), &[]);
    for family in [0, 1] {
        for (index, own) in NODES.iter().enumerate() {
            let other = NODES[1 - index][family];
            let loopback = ["127.0.0.1", "::1"][family];
            for address in [loopback, own[family], other] {
                let to = at(address, 30_083);
                let answer = curl(&lab, &node(index), &to, &[]);
                assert!(answer.is_ok(), "curl from {} to {to}: {answer:?}", node(index));
                let udp = probe(&lab, &node(index), &to, "udp");
                assert_eq!(udp["outcome"], "connected", "{udp:#}");
            }
            // The pod's own address arrives, whichever node it asks and wherever the server is.
            for protocol in ["tcp", "udp", "sctp"] {
                let report = probe(&lab, "e2e/client", &at(own[family], 30_083), protocol);
                assert_eq!(report["outcome"], "connected", "{report:#}");
                assert_eq!(report["client_ip"], lab.address("e2e/client", family == 1).as_str(), "{report:#}");
            }
        }
    }
    for protocol in ["tcp", "udp"] {
        assert_eq!(outcome(&lab, "node:node1", "127.0.0.1:30084", protocol, 400), "refused", "no such nodePort");
    }
}

#[test]
fn what_has_no_endpoint_is_refused_at_once_and_what_has_no_address_has_none() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let lab = Lab::up(
        &cluster(
            &(service("empty", "LoadBalancer", 84, "app: none", "")
                + "apiVersion: v1\nkind: Service\nmetadata: {name: headless, namespace: e2e}\n\
                   spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}\n---\n\
                   apiVersion: v1\nkind: Service\nmetadata: {name: elsewhere, namespace: e2e}\n\
                   spec: {type: ExternalName, externalName: example.com}\n"),
        ),
        &[],
    );
    let addresses = load_balancer_ips(&lab, "empty");
    for family in [0, 1] {
        let cluster_ip = ["10.96.0.84", "fd00:10:96::84"][family];
        let targets = [
            ("world", at(NODES[0][family], 30_084)),
            ("world", at(&addresses[family], 80)),
            ("e2e/client", at(cluster_ip, 80)),
            ("e2e/client", at(NODES[1][family], 30_084)),
            ("node:node1", at(cluster_ip, 80)),
            ("node:node1", at(NODES[1][family], 30_084)),
            ("node:node1", at(NODES[0][family], 30_084)),
            ("node:node1", at(["127.0.0.1", "::1"][family], 30_084)),
        ];
        for (from, to) in targets {
            // The node's own programs reach its nodePorts through a relay, and there is none for SCTP.
            let is_own =
                from == "node:node1" && !to.starts_with(&at(NODES[1][family], 30_084)) && to.ends_with(":30084");
            let protocols = if is_own { &["tcp", "udp"][..] } else { &["tcp", "udp", "sctp"] };
            for &protocol in protocols {
                let start = Instant::now();
                let report = probe(&lab, from, &to, protocol);
                // SCTP is refused by ICMP, which its probe's kernel may call unreachable.
                let refused =
                    report["outcome"] == "refused" || protocol == "sctp" && report["outcome"] == "unreachable";
                assert!(refused, "{protocol} from {from} to {to}: {report:#}");
                assert!(
                    start.elapsed() < Duration::from_secs(1),
                    "{protocol} from {from} to {to}: {:?}",
                    start.elapsed()
                );
            }
        }
    }
    // Neither is in front of anything: no address was given, and nothing claims a port.
    let services =
        support::stdout(support::podplane(&["services", "--lab", &lab.name, "--node", "node1", "-o", "json"]));
    let services: Vec<Value> = serde_json::from_str(&services).expect("JSON");
    assert!(services.iter().any(|service| service["name"] == "empty"), "{services:#?}");
    for service in services.iter().filter(|service| service["name"] != "empty") {
        assert_eq!(service["addresses"], json!([]), "{service:#}");
    }
    for name in ["headless", "elsewhere"] {
        assert!(!manifest(&lab, name).contains("10.96."), "{}", manifest(&lab, name));
    }
}
