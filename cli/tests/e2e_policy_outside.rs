//! Policies and everything that is not one pod calling another: clients outside through nodePorts, with and without source NAT, nodes
//! and pods on the host network, a pod that reaches itself through its Service, pods that are ending, fragments, ICMP (N04, N08
//! to N12, N19, N25).

mod support;

use serde_json::json;
use support::policies::{cluster_policy, policy};
use support::services::{NODES, STRANGER, WORLD, at, cluster, outcome, probe, service, traffic};
use support::{Lab, labs_can_run};

/// A datagram in seven fragments.
const LARGE_BYTES: usize = 8192;

/// Time for what must not come about.
const FORBIDDEN_MS: u32 = 300;

/// Pods on the nodes' own network, one with a server on a port of its own.
const HOST_PODS: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: e2e, labels: {app: host}}
spec: {nodeName: node1, hostNetwork: true, containers: [{name: main, image: none, ports: [{containerPort: 8088}]}]}
";

/// Ingress of all servers, from these peers (a YAML flow sequence).
fn only_from(peers: &str) -> String {
    policy("e2e/only", &format!("{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{from: {peers}}}]}}"))
}

/// Peers that are these addresses, IPv4 and IPv6.
fn addresses(list: &[&str]) -> String {
    let blocks: Vec<String> =
        list.iter().map(|address| format!("{{ipBlock: {{cidr: '{}'}}}}", alone(address))).collect();
    format!("[{}]", blocks.join(", "))
}

/// The block that is one address.
fn alone(address: &str) -> String {
    format!("{address}/{}", if address.contains(':') { 128 } else { 32 })
}

fn expect(lab: &Lab, from: &str, to: &str, protocol: &str, connected: bool) {
    let (expected, patience) = if connected { ("connected", 5000) } else { ("timeout", FORBIDDEN_MS) };
    assert_eq!(outcome(lab, from, to, protocol, patience), expected, "{protocol} from {from} to {to}");
}

/// The nodePort 30_0NN of both nodes, by both families.
fn node_ports(number: u16) -> Vec<(usize, String)> {
    NODES.iter().flat_map(|node| [0, 1].map(|family| (family, at(node[family], 30_000 + number)))).collect()
}

#[test]
fn a_client_outside_is_judged_by_its_own_address() {
    if !labs_can_run() {
        return;
    }
    let services = service("cluster", "NodePort", 60, "app: web", "")
        + &service("local", "NodePort", 61, "app: web", "externalTrafficPolicy: Local");
    let lab = Lab::up(&cluster(&services), &[]);
    for address in STRANGER {
        lab.exec_ok(&format!("world:{address}"), &["true"]);
    }
    let all_but_world = format!(
        "[{{ipBlock: {{cidr: 0.0.0.0/0, except: ['{}']}}}}, {{ipBlock: {{cidr: '::/0', except: ['{}']}}}}]",
        alone(WORLD[0]),
        alone(WORLD[1])
    );
    for (peers, world, stranger) in [
        (addresses(&WORLD), true, false),
        (all_but_world, false, true),
        // A pod of the cluster is nobody outside.
        ("[{namespaceSelector: {}}]".to_owned(), false, false),
        // The node that it comes through is not who it is.
        (addresses(&[NODES[0][0], NODES[0][1], NODES[1][0], NODES[1][1]]), false, false),
    ] {
        lab.apply(&only_from(&peers));
        for (family, to) in node_ports(60).into_iter().chain(node_ports(61)) {
            for (from, connected) in [("world".to_owned(), world), (format!("world:{}", STRANGER[family]), stranger)] {
                expect(&lab, &from, &to, "tcp", connected);
            }
            expect(&lab, "world", &to, "udp", world);
        }
    }
    // The port that counts is the server's, not the Service's or the node's.
    for (port, connected) in [(8080, true), (80, false), (30_060, false)] {
        lab.apply(&policy(
            "e2e/only",
            &format!("{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{ports: [{{port: {port}}}]}}]}}"),
        ));
        expect(&lab, "world", &at(NODES[0][0], 30_060), "tcp", connected);
        expect(&lab, "e2e/client", "10.96.0.60:80", "tcp", connected);
    }
}

#[test]
fn a_client_whose_address_is_hidden_is_the_node_that_hides_it() {
    if !labs_can_run() {
        return;
    }
    let services =
        service("near", "NodePort", 62, "where: near", "") + &service("far", "NodePort", 63, "where: far", "");
    let lab = Lab::up(&cluster(&services), &["--masquerade-all"]);
    for peers in ["[]".to_owned(), addresses(&WORLD)] {
        let spec = if peers == "[]" { "ingress: []".to_owned() } else { format!("ingress: [{{from: {peers}}}]") };
        lab.apply(&policy("e2e/only", &format!("{{podSelector: {{matchLabels: {{app: web}}}}, {spec}}}")));
        for family in [0, 1] {
            let [near, far] = [62, 63]
                .map(|number| at([format!("10.96.0.{number}"), format!("fd00:10:96::{number}")][family].as_str(), 80));
            // To a pod of its own node the client is the node, which is never kept out; to others it is some node's address.
            expect(&lab, "e2e/client", &near, "tcp", true);
            expect(&lab, "e2e/client", &far, "tcp", false);
        }
    }
}

#[test]
fn nodes_reach_their_own_pods_and_are_addresses_to_others() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&(cluster("") + HOST_PODS), &[]);
    let target = |pod: &str, ipv6| at(&lab.address(pod, ipv6), 8080);
    // Whoever speaks from a node: its processes, and pods on its network.
    let node1 = ["node:node1", "e2e/host"];
    for (peers, other_node) in [
        ("[{podSelector: {matchLabels: {app: nobody}}}]".to_owned(), false),
        // A pod on the host network is no pod to a selector.
        ("[{podSelector: {matchLabels: {app: host}}}]".to_owned(), false),
        ("[{ipBlock: {cidr: 0.0.0.0/0}}, {ipBlock: {cidr: '::/0'}}]".to_owned(), true),
    ] {
        lab.apply(&only_from(&peers));
        for ipv6 in [false, true] {
            for from in node1 {
                expect(&lab, from, &target("e2e/near", ipv6), "tcp", true);
                expect(&lab, from, &target("e2e/near", ipv6), "udp", true);
                expect(&lab, from, &target("e2e/far", ipv6), "tcp", other_node);
            }
            expect(&lab, "node:node2", &target("e2e/far", ipv6), "tcp", true);
            expect(&lab, "node:node2", &target("e2e/near", ipv6), "tcp", other_node);
        }
    }
    // What enters a pod on the host network is its node's own affair: a policy that selects it changes nothing.
    lab.apply(&policy("e2e/host", "{podSelector: {matchLabels: {app: host}}, policyTypes: [Ingress, Egress]}"));
    expect(&lab, "e2e/client", &at(NODES[0][0], 8088), "tcp", true);
    expect(&lab, "e2e/host", &target("e2e/near", false), "tcp", true);
    // Out of a pod a node is an address like others, the pod's own node too.
    let out = |to: &str| {
        policy(
            "e2e/out",
            &format!(
                "{{podSelector: {{matchLabels: {{app: client}}}}, policyTypes: [Egress], egress: [{{to: {to}}}]}}"
            ),
        )
    };
    for (to, connected) in [
        ("[{podSelector: {}}]".to_owned(), false),
        ("[{podSelector: {matchLabels: {app: host}}}]".to_owned(), false),
        (addresses(&[NODES[0][0], NODES[0][1]]), true),
        (format!("[{{ipBlock: {{cidr: 172.30.0.0/24, except: ['{}']}}}}]", alone(NODES[0][0])), false),
    ] {
        lab.apply(&out(&to));
        expect(&lab, "e2e/client", &at(NODES[0][0], 8088), "tcp", connected);
    }
    lab.delete(&out("[]"));
    // The tiers know nodes by their labels.
    let deny_nodes = |labels: &str| {
        cluster_policy(
            "nodes",
            &format!(
                "{{tier: Admin, priority: 1, subject: {{namespaces: {{}}}}, egress: [{{action: Deny, to: [{{nodes: {{matchLabels: \
                 {{{labels}}}}}}}]}}]}}"
            ),
        )
    };
    for (labels, connected) in [("kubernetes.io/hostname: node1", false), ("kubernetes.io/hostname: node2", true)] {
        lab.apply(&deny_nodes(labels));
        expect(&lab, "e2e/client", &at(NODES[0][0], 8088), "tcp", connected);
        expect(&lab, "e2e/client", &target("e2e/near", false), "tcp", true);
    }
}

#[test]
fn a_pod_reaches_itself_and_an_ending_pod_is_judged_to_its_end() {
    if !labs_can_run() {
        return;
    }
    let services = service("near", "ClusterIP", 64, "where: near", "");
    let lab = Lab::up(&cluster(&services), &[]);
    lab.apply(&policy("e2e/all", "{podSelector: {}, policyTypes: [Ingress, Egress]}"));
    for to in ["10.96.0.64:80", "[fd00:10:96::64]:80"] {
        for protocol in ["tcp", "udp"] {
            let answer = probe(&lab, "e2e/near", to, protocol);
            assert_eq!([&answer["outcome"], &answer["server"]], ["connected", "e2e/near"], "{protocol} to {to}");
            expect(&lab, "e2e/client", to, protocol, false);
        }
    }
    // Whoever is being deleted is selected, and let in, by the labels that it has.
    let near = at(&lab.address("e2e/near", false), 8080);
    let ending = |name: &str, labels: &str, status: [String; 2]| {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": "e2e", "labels": {"app": labels}, "deletionTimestamp": "2026-01-01T00:00:00Z",
                "deletionGracePeriodSeconds": 30
            },
            "spec": {"nodeName": "node1", "containers": [{"name": "main", "image": "none"}]},
            "status": {"podIPs": status.map(|ip| json!({"ip": ip}))},
        });
        format!("---\n{pod}\n")
    };
    let client = [false, true].map(|ipv6| lab.address("e2e/client", ipv6));
    let allow = |peers: &str| {
        lab.delete(&policy("e2e/all", "{}"));
        lab.apply(&only_from(peers));
    };
    allow("[{podSelector: {matchLabels: {app: client}}}]");
    lab.apply(&ending("client", "client", client.clone()));
    expect(&lab, "e2e/client", &near, "tcp", true);
    lab.apply(&ending("client", "other", client));
    expect(&lab, "e2e/client", &near, "tcp", false);
    lab.apply(&policy("e2e/out", "{podSelector: {matchLabels: {app: other}}, policyTypes: [Egress]}"));
    lab.apply(&only_from("[]"));
    expect(&lab, "e2e/client", &near, "tcp", false);
    lab.delete(&policy("e2e/out", "{}"));
    expect(&lab, "e2e/client", &near, "tcp", true);
}

#[test]
fn fragments_and_icmp_go_the_way_of_their_flow() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(""), &[]);
    let fragments = |from: &str, to: &str, order: &str| {
        let wanted = json!({"kind": "fragments", "target": to, "len": LARGE_BYTES, "order": order, "source": null});
        traffic(&lab, from, &wanted)["intact"] == true
    };
    let udp = |port: u16| {
        policy(
            "e2e/only",
            &format!(
                "{{podSelector: {{matchLabels: {{app: web}}}}, ingress: [{{ports: [{{protocol: UDP, port: {port}}}]}}]}}"
            ),
        )
    };
    let targets: Vec<String> = [("e2e/near", false), ("e2e/near", true), ("e2e/far", false), ("e2e/far", true)]
        .iter()
        .map(|(pod, ipv6)| lab.address(pod, *ipv6))
        .collect();
    for (policy, large, echo) in [
        (udp(8080), true, false),
        (udp(8081), false, false),
        (only_from("[{podSelector: {matchLabels: {app: client}}}]"), true, true),
        (
            // Rules without protocols mean ICMP too, those with some do not.
            cluster_policy(
                "udp",
                "{tier: Admin, priority: 1, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {}}], \
                  protocols: [{udp: {destinationPort: {range: {start: 1, end: 65535}}}}]}]}",
            ),
            false,
            true,
        ),
    ] {
        lab.apply(&policy);
        std::thread::scope(|scope| {
            for target in &targets {
                scope.spawn(|| expect(&lab, "e2e/client", target, "icmp", echo));
                for order in ["forward", "reverse", "swapped"] {
                    let to = at(target, 8080);
                    let (fragments, policy) = (&fragments, &policy);
                    scope.spawn(move || {
                        assert_eq!(fragments("e2e/client", &to, order), large, "{order} to {to}: {policy}")
                    });
                }
            }
        });
    }
}
