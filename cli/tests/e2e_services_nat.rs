//! Translation: pods that leave the cluster with their node's address, clients whose ports clash, pods that reach themselves,
//! and fragments.

mod support;

use serde_json::json;
use std::time::Duration;
use support::capture::{capture, tshark_fields};
use support::services::{
    NODES, STRANGER, Talk, WORLD, at, cluster, curl, load_balancer_ips, probe, server, service, traffic,
};
use support::{Folder, Lab, has_program, labs_can_run, wait_for};

/// Payload of the large datagrams: seven fragments.
const LARGE_BYTES: usize = 8192;

#[test]
fn pods_leave_the_cluster_with_the_address_of_their_node() {
    if !labs_can_run() || !has_program("curl") || !has_program("tshark") {
        return;
    }
    let lab = Lab::up(&cluster(""), &[]);
    let folder = Folder::new();
    let pings = capture(&lab, &folder, "world", "icmp or icmp6", || {
        for (pod, own_node) in [("e2e/client", 0), ("e2e/far", 1)] {
            for family in [0, 1] {
                let to = at(WORLD[family], 80);
                let tcp = curl(&lab, pod, &to, &[])
                    .unwrap_or_else(|code| panic!("curl from {pod} to {to}: exit code {code}"));
                let udp = probe(&lab, pod, &to, "udp");
                for answer in [tcp, udp] {
                    assert_eq!(answer["server"], "world", "{pod} to {to}: {answer:#}");
                    assert_eq!(answer["client_ip"], NODES[own_node][family], "{pod} to {to}: {answer:#}");
                }
                lab.exec_ok(pod, &["ping", "-c", "3", "-i", "0.2", "-W", "5", WORLD[family]]);
            }
        }
    });
    for (family, request) in [(0, "icmp.type == 8"), (1, "icmpv6.type == 128")] {
        let field = ["ip.src", "ipv6.src"][family];
        let mut sources = tshark_fields(&pings, request, &[field]);
        sources.sort();
        sources.dedup();
        let mut nodes = NODES.map(|node| node[family].to_owned());
        nodes.sort();
        assert_eq!(sources, nodes);
    }
    // Inside of the cluster a pod keeps its own address.
    let far = lab.address("e2e/far", false);
    assert_eq!(
        probe(&lab, "e2e/client", &at(&far, 8080), "tcp")["client_ip"],
        lab.address("e2e/client", false).as_str()
    );
}

#[test]
fn ranges_that_are_not_masqueraded_see_the_pod() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let ranges = format!("{}/32,{}/128", WORLD[0], WORLD[1]);
    let lab = Lab::up(&cluster(""), &["--non-masquerade-cidrs", &ranges]);
    for family in [0, 1] {
        // Whoever is to see pods has a way to them.
        let pod = lab.address("e2e/client", family == 1);
        support::services::route_from_world(&lab, &pod, NODES[0][family]);
        for protocol in ["tcp", "udp"] {
            let answer = probe(&lab, "e2e/client", &at(WORLD[family], 80), protocol);
            assert_eq!(answer["client_ip"], pod.as_str(), "{answer:#}");
        }
        // Another outside address is not in the range.
        let stranger = STRANGER[family];
        lab.exec_ok(&format!("world:{stranger}"), &["true"]);
        let answer = probe(&lab, "e2e/client", &at(stranger, 80), "tcp");
        assert_eq!(answer["client_ip"], NODES[0][family], "{answer:#}");
    }
}

#[test]
fn masquerading_all_hides_the_client_behind_the_node() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let lab = Lab::up(&cluster(&service("web", "NodePort", 60, "where: far", "")), &["--masquerade-all"]);
    for family in [0, 1] {
        let from_world = curl(&lab, "world", &at(NODES[0][family], 30_060), &[]).expect("an answer");
        assert_eq!(from_world["client_ip"], NODES[0][family], "{from_world:#}");
        let from_pod =
            curl(&lab, "e2e/client", &at(["10.96.0.60", "fd00:10:96::60"][family], 80), &[]).expect("an answer");
        assert_ne!(from_pod["client_ip"], lab.address("e2e/client", family == 1).as_str(), "{from_pod:#}");
    }
}

#[test]
fn one_client_port_to_two_frontends_with_the_same_backend_makes_two_conversations() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(&service("web", "LoadBalancer", 61, "where: far", "")), &[]);
    let load_balancer = load_balancer_ips(&lab, "web");
    for protocol in ["TCP", "UDP"] {
        for family in [0, 1] {
            let port = 40_000 + family as u16;
            let source = at(["0.0.0.0", "::"][family], port);
            let targets = [at(NODES[0][family], 30_061), at(NODES[1][family], 30_061), at(&load_balancer[family], 80)];
            let mut talks: Vec<Talk> =
                targets.iter().map(|target| Talk::start(&lab, "world", protocol, target, Some(&source), 30)).collect();
            // Every one of them is answered, again and again, while the others are.
            let mut clients = Vec::new();
            for round in 0..3 {
                for (talk, target) in talks.iter_mut().zip(&targets) {
                    talk.rest();
                    let answer = talk.wait_answer("e2e/far");
                    let client = answer["client"].as_str().expect("an address").to_owned();
                    assert!(client.contains(WORLD[family]), "{protocol} to {target}: {answer}");
                    if round == 0 {
                        clients.push(client);
                    }
                }
            }
            // The backend could not tell them apart if they had one address and port.
            clients.sort();
            clients.dedup();
            assert_eq!(clients.len(), targets.len(), "{protocol}: {clients:?}");
        }
    }
    // The same from a pod: two addresses of the Service, one backend.
    for protocol in ["TCP", "UDP"] {
        let targets = ["10.96.0.61:80".to_owned(), at(NODES[0][0], 30_061), at(&load_balancer[0], 80)];
        let mut talks: Vec<Talk> = targets
            .iter()
            .map(|target| Talk::start(&lab, "e2e/client", protocol, target, Some("0.0.0.0:40010"), 30))
            .collect();
        for _ in 0..3 {
            for talk in &mut talks {
                talk.rest();
                talk.wait_answer("e2e/far");
            }
        }
    }
}

#[test]
fn a_pod_reaches_itself_through_every_address_of_its_service() {
    if !labs_can_run() || !has_program("curl") {
        return;
    }
    let lab = Lab::up(&cluster(&service("web", "LoadBalancer", 62, "where: near", "")), &[]);
    let load_balancer = load_balancer_ips(&lab, "web");
    for family in [0, 1] {
        let cluster_ip = ["10.96.0.62", "fd00:10:96::62"][family];
        for to in [
            at(cluster_ip, 80),
            at(&load_balancer[family], 80),
            at(NODES[0][family], 30_062),
            at(NODES[1][family], 30_062),
        ] {
            for protocol in ["tcp", "udp", "sctp"] {
                let answer = probe(&lab, "e2e/near", &to, protocol);
                assert_eq!(
                    (&answer["outcome"], &answer["server"]),
                    (&json!("connected"), &json!("e2e/near")),
                    "{answer:#}"
                );
            }
        }
    }
    // 1/N of the requests of a pod go to itself; none may hang.
    lab.apply(&server("near2", "node1", "where: near"));
    for to in ["10.96.0.62:80", "[fd00:10:96::62]:80"] {
        for _ in 0..20 {
            let answer = curl(&lab, "e2e/near", to, &[]);
            assert!(answer.is_ok(), "curl's exit code: {answer:?}");
        }
    }
}

#[test]
fn large_datagrams_arrive_in_any_order_of_their_fragments() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(&service("web", "LoadBalancer", 63, "where: far", "")), &[]);
    let load_balancer = load_balancer_ips(&lab, "web");
    for family in [0, 1] {
        let cluster_ip = at(["10.96.0.63", "fd00:10:96::63"][family], 80);
        let targets = [
            ("e2e/client", cluster_ip.clone()),
            ("e2e/near", at(&lab.address("e2e/far", family == 1), 8080)),
            ("e2e/client", at(WORLD[family], 80)),
            ("world", at(NODES[0][family], 30_063)),
            ("world", at(NODES[1][family], 30_063)),
            ("world", at(&load_balancer[family], 80)),
        ];
        for (from, to) in &targets {
            for order in ["forward", "reverse", "swapped"] {
                let wanted = json!({"kind": "fragments", "target": to, "len": LARGE_BYTES, "order": order});
                let mut report = traffic(&lab, from, &wanted);
                if family == 1 && report["received"] == 0 {
                    // IPv6 routers do not cut: the first answer taught its sender that pods have a smaller MTU.
                    report = traffic(&lab, from, &wanted);
                }
                assert_eq!(report["received"], LARGE_BYTES, "{from} to {to}, {order}: {report}");
                assert_eq!(report["intact"], true, "{from} to {to}, {order}: {report}");
            }
        }
    }
}

#[test]
fn a_node_port_that_another_process_has_is_reported_and_the_rest_works() {
    if !labs_can_run() || !has_program("curl") || !has_program("socat") {
        return;
    }
    let lab = Lab::up(&cluster(&service("other", "NodePort", 64, "where: far", "")), &[]);
    let _holder = lab.spawn("node:node1", &["socat", "TCP-LISTEN:30065,fork,reuseaddr", "EXEC:cat"]);
    wait_for("the other process listens", Duration::from_secs(10), || {
        lab.exec_ok("node:node1", &["ss", "-Htln", "sport = :30065"]).contains(":30065").then_some(())
    });
    lab.apply(&service("web", "NodePort", 65, "where: far", ""));
    // It works on the other node, and over the other protocol, and the ClusterIP works everywhere.
    for (from, to, protocol) in [
        ("world", "172.30.0.12:30065", "tcp"),
        ("world", "172.30.0.11:30065", "udp"),
        ("e2e/client", "10.96.0.65:80", "tcp"),
        ("world", "172.30.0.11:30064", "tcp"),
    ] {
        let answer = probe(&lab, from, to, protocol);
        assert_eq!(answer["server"], "e2e/far", "{answer:#}");
    }
    // The port still belongs to whoever had it.
    lab.sh("world", "test \"$(echo mine | socat -t 1 - TCP:172.30.0.11:30065)\" = mine");
    let said = wait_for("the node says so", Duration::from_secs(5), || {
        let status = support::podplane(&["status", "--lab", &lab.name, "--node", "node1", "-o", "json"]);
        let status = support::stdout(status);
        status.contains("30065").then_some(status)
    });
    assert!(said.contains("e2e/web") || said.contains("\"web\""), "{said}");
}
