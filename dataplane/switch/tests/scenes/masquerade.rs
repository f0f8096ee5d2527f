//! Out of the cluster: with which source, until none is left, and for how long.

use crate::scene::{Scene, ports};
use std::collections::HashSet;
use switch::{AnswerKind, SourcePool};
use wire::Protocol;

const CLUSTER: &str = "
    pod client on node1
    pod second on node1
    pod far on node2
    uplinks 50000-50009
";

/// The source port or identifier that a packet left with.
fn source(words: &str) -> u16 {
    match words.split_whitespace().collect::<Vec<_>>()[..] {
        [_, "ping", id, ..] => id.parse().unwrap(),
        _ => ports(words).0,
    }
}

#[test]
fn a_pod_reaches_the_outside_with_its_nodes_address() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        for (pod, node) in [("client", "node1"), ("second", "node1"), ("far", "node2")] {
            let sent = scene.send(&format!("{pod}: tcp{version} 40000 > outside:443 syn"));
            let port = source(&sent);
            assert_eq!(sent, format!("outside@{node}: tcp {node}:{port} > outside:443 syn"));
            assert!((50_000..=50_009).contains(&port), "{sent}");
            scene.check(
                &format!("outside: tcp{version} 443 > {node}:{port} syn-ack"),
                &format!("{pod}: tcp outside:443 > {pod}:40000 syn-ack"),
            );
            scene.check(
                &format!("{pod}: tcp{version} 40000 > outside:443 ack"),
                &format!("outside@{node}: tcp {node}:{port} > outside:443 ack"),
            );
            let sent = scene.send(&format!("{pod}: udp{version} 5000 > outside:53"));
            let port = source(&sent);
            scene.check(
                &format!("outside: udp{version} 53 > {node}:{port}"),
                &format!("{pod}: udp outside:53 > {pod}:5000"),
            );
            let sent = scene.send(&format!("{pod}: sctp{version} 5000 > outside:99"));
            let port = source(&sent);
            scene.check(
                &format!("outside: sctp{version} 99 > {node}:{port} chunk=2"),
                &format!("{pod}: sctp outside:99 > {pod}:5000 chunk 2"),
            );
        }
    }
}

#[test]
fn pings_of_two_pods_with_one_identifier_are_told_apart() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        scene.check(&format!("client: ping{version} 7 > outside"), "outside@node1: ping 7 node1 > outside");
        scene.check(&format!("second: ping{version} 7 > outside"), "outside@node1: ping 8 node1 > outside");
        scene.check(&format!("outside: pong{version} 7 > node1"), "client: pong 7 outside > client");
        scene.check(&format!("outside: pong{version} 8 > node1"), "second: pong 7 outside > second");
        scene.check(&format!("outside: pong{version} 9 > node1"), "drop left-to-kernel");
    }
}

#[test]
fn what_is_reached_without_translation_keeps_its_source() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        scene.check(
            &format!("client: tcp{version} 40000 > flat:443 syn"),
            "flat@node1: tcp client:40000 > flat:443 syn",
        );
        // What comes back is for a pod's address, which the node's kernel routes; here it is known all the same.
        scene.check(
            &format!("flat@node1: tcp{version} 443 > client:40000 syn-ack"),
            "client: tcp flat:443 > client:40000 syn-ack",
        );
    }
}

#[test]
fn s15_no_two_flows_to_one_destination_share_a_source_port_and_other_destinations_have_all_again() {
    let mut scene = Scene::new(CLUSTER);
    let mut seen = HashSet::new();
    for port in 40_000..40_005 {
        for pod in ["client", "second"] {
            let sent = scene.send(&format!("{pod}: udp {port} > outside:53"));
            assert!(seen.insert(source(&sent)), "{sent}");
        }
    }
    for server in ["outside:54", "203.0.113.9:53"] {
        let sent = scene.send(&format!("client: udp 40000 > {server}"));
        assert!(seen.contains(&source(&sent)), "{sent}");
    }
}

#[test]
fn exhaustion_is_said_at_once_counted_and_over_when_a_flow_ends_or_ports_are_granted() {
    for shards in [1, 3] {
        let mut scene = Scene::with_shards(shards, CLUSTER);
        for (version, is_ipv4) in [("", true), ("6", false)] {
            for port in 40_000..40_010 {
                let sent = scene.send(&format!("client: tcp{version} {port} > outside:443 syn"));
                assert!(sent.starts_with("outside@node1"), "{sent}");
                scene.send(&format!("client: udp{version} {port} > outside:53"));
            }
            for _ in 0..3 {
                scene.check(
                    &format!("second: tcp{version} 40000 > outside:443 syn"),
                    "second: tcp outside:443 > second:40000 rst-ack",
                );
                scene.check(
                    &format!("second: udp{version} 5000 > outside:53"),
                    "second: port-unreachable outside > second about second:5000 > outside:53",
                );
            }
            let elsewhere = scene.send(&format!("second: tcp{version} 40000 > outside:444 syn"));
            assert!(elsewhere.starts_with("outside@node1"), "{elsewhere}");
            scene.grant(SourcePool { protocol: Protocol::TCP, is_ipv4 }, 51_000..=51_000);
            scene.check(
                &format!("second: tcp{version} 40001 > outside:443 syn"),
                "outside@node1: tcp node1:51000 > outside:443 syn",
            );
            scene.check(
                &format!("outside: tcp{version} 443 > node1:51000 rst-ack"),
                "second: tcp outside:443 > second:40001 rst-ack",
            );
            // The port of a connection that has ended is used again before its time is up.
            scene.check(
                &format!("client: tcp{version} 41000 > outside:443 syn"),
                "outside@node1: tcp node1:51000 > outside:443 syn",
            );
        }
        let answers: u64 = scene.nodes[0]
            .shards
            .iter()
            .map(|s| s.counters().total().answers_of(AnswerKind::SourcePortsExhausted))
            .sum();
        assert_eq!(answers, 12);
    }
}

#[test]
fn sixty_thousand_flows_to_one_destination_have_a_source_port_each() {
    let mut scene = Scene::new("uplinks 50000-50009");
    for protocol in [Protocol::TCP, Protocol::UDP] {
        scene.grant(SourcePool { protocol, is_ipv4: true }, 1_024..=61_023);
    }
    for pod in 0..61 {
        scene.change(&format!("pod pod{pod} on node1"));
    }
    let mut seen = HashSet::new();
    for n in 0..60_000u32 {
        let sent = scene.send(&format!("pod{}: udp {} > outside:53", n / 1_000, 1_000 + n % 1_000));
        assert!(sent.starts_with("outside@node1: ") && seen.insert(source(&sent)), "flow {n}: {sent}");
    }
    scene
        .check("pod60: udp 1000 > outside:53", "pod60: port-unreachable outside > pod60 about pod60:1000 > outside:53");
}

#[test]
fn a_source_port_is_free_again_when_the_time_of_its_flow_is_up() {
    let mut scene = Scene::new(CLUSTER);
    for round in 0..5 {
        for port in 40_000..40_010 {
            let sent = scene.send(&format!("client: udp {} > outside:53", port + round * 10));
            assert!(sent.starts_with("outside@node1"), "{sent}");
        }
        let more = scene.send("second: udp 5000 > outside:53");
        assert!(more.starts_with("second: port-unreachable"), "{more}");
        scene.wait(31);
        scene.expire();
        assert_eq!(scene.flows(1), 0);
    }
}

#[test]
fn b02_the_answers_to_a_pod_that_is_gone_do_not_reach_whoever_has_its_address() {
    let mut scene = Scene::new("pod client on node1\n uplinks 50000-50009");
    let sent = scene.send("client: udp 5000 > outside:53");
    let port = source(&sent);
    scene.remove("client");
    scene.change("pod heir on node1");
    assert_eq!(scene.address("heir", false).to_string(), "10.244.1.11");
    scene.check(&format!("outside: udp 53 > node1:{port}"), "drop left-to-kernel");
    let again = scene.send("heir: udp 5000 > outside:53");
    scene.check(&format!("outside: udp 53 > node1:{}", source(&again)), "heir: udp outside:53 > heir:5000");
}

#[test]
fn a_flow_to_the_outside_survives_other_changes_and_ends_with_its_policy() {
    let mut scene = Scene::new(CLUSTER);
    let port = source(&scene.send("client: tcp 40000 > outside:443 syn"));
    scene.change("pod late on node1");
    scene.check(&format!("outside: tcp 443 > node1:{port} syn-ack"), "client: tcp outside:443 > client:40000 syn-ack");
    scene.change("egress client: 203.0.113.2/32");
    scene.check("client: tcp 40000 > outside:443 ack", "drop denied-by-egress-policy");
    scene.check(&format!("outside: tcp 443 > node1:{port} data"), "drop denied-by-egress-policy");
    scene.change("egress client: 0.0.0.0/0");
    scene.check("client: tcp 40000 > outside:443 ack", &format!("outside@node1: tcp node1:{port} > outside:443 ack"));
}

#[test]
fn a_service_may_lead_outside() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("service ext tcp 80 to 8080: outside");
    for version in ["", "6"] {
        for (client, node) in [("client", "node1"), ("node1", "node1"), ("far", "node2")] {
            let sent = scene.send(&format!("{client}: tcp{version} 40000 > ext:80 syn"));
            let port = source(&sent);
            assert_eq!(sent, format!("outside@{node}: tcp {node}:{port} > outside:8080 syn"));
            assert!((50_000..=50_009).contains(&port), "{sent}");
            scene.check(
                &format!("outside: tcp{version} 8080 > {node}:{port} syn-ack"),
                &format!("{client}: tcp ext:80 > {client}:40000 syn-ack"),
            );
        }
    }
}

#[test]
fn a_refusal_for_want_of_source_ports_comes_from_the_services_address() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("service ext tcp 80 to 8080: outside\n service res udp 53 to 5353: outside");
    for port in 40_000..40_010 {
        scene.send(&format!("client: tcp {port} > ext:80 syn"));
        scene.send(&format!("client: udp {port} > res:53"));
    }
    scene.check("second: tcp 40000 > ext:80 syn", "second: tcp ext:80 > second:40000 rst-ack");
    scene.check("second: udp 5000 > res:53", "second: port-unreachable res > second about second:5000 > res:53");
    scene.check("node1: tcp 40000 > ext:80 syn", "node1: tcp ext:80 > node1:40000 rst-ack");
}

#[test]
fn the_node_reaches_another_nodes_own_server_through_a_service_and_hears_its_answer() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("service api tcp 443 to 6443: node2");
    for version in ["", "6"] {
        scene.check(&format!("node1: tcp{version} 40000 > api:443 syn"), "node2: tcp gateway1:40000 > node2:6443 syn");
        scene.check(
            &format!("node2: tcp{version} 6443 > gateway1:40000 syn-ack"),
            "node1: tcp api:443 > node1:40000 syn-ack",
        );
        scene.check(&format!("client: tcp{version} 40000 > api:443 syn"), "node2: tcp client:40000 > node2:6443 syn");
        scene.check(
            &format!("node2: tcp{version} 6443 > client:40000 syn-ack"),
            "client: tcp api:443 > client:40000 syn-ack",
        );
    }
}

#[test]
fn each_node_lets_out_its_own_pods_only_and_nothing_to_unused_cluster_addresses() {
    let mut scene = Scene::new(CLUSTER);
    let mut sketch = scene.sketch("far: udp 5000 > outside:53").1;
    sketch.src_mac = overlay::peers::derive_vtep_mac("node2");
    sketch.dst_mac = overlay::peers::derive_vtep_mac("node1");
    let mut datagram = overlay::vxlan::header(overlay::vxlan::Vni::new(1).unwrap()).to_vec();
    datagram.extend(sketch.bytes());
    assert_eq!(scene.send_datagram(scene.address("node2", false), 1, &datagram), "drop not-local");
    for addr in ["10.96.200.1", "10.244.1.99"] {
        let sent = scene.send(&format!("client: udp 5000 > {addr}:53"));
        assert!(sent.contains("unreachable gateway1 > client"), "{sent}");
    }
}

#[test]
fn a_node_without_an_uplink_says_that_nothing_leads_outside() {
    let mut scene = Scene::new("pod client on node1");
    scene.check(
        "client: udp 5000 > outside:53",
        "client: net-unreachable gateway1 > client about client:5000 > outside:53",
    );
}
