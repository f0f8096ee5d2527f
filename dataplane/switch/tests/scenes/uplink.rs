//! The uplink: who comes in from outside and who goes out, with which address.

use crate::scene::{Scene, ports};

const CLUSTER: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    service web tcp 80 to 8080 node-port=30080: near
    service dns udp 53 to 5353 node-port=30053: far
    service sig sctp 99 to 9999 node-port=30099: far
    uplinks 50000-50999
";

#[test]
fn a_node_port_leads_to_a_pod_here_or_elsewhere_and_keeps_the_clients_address() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        for client in ["world", "outside"] {
            scene.check(
                &format!("{client}: tcp{version} 40000 > node1:30080 syn"),
                &format!("near: tcp {client}:40000 > near:8080 syn"),
            );
            scene.check(
                &format!("near: tcp{version} 8080 > {client}:40000 syn-ack"),
                &format!("{client}@node1: tcp node1:30080 > {client}:40000 syn-ack"),
            );
            scene.check(
                &format!("{client}: udp{version} 5000 > node1:30053"),
                &format!("far: udp {client}:5000 > far:5353"),
            );
            scene.check(
                &format!("far: udp{version} 5353 > {client}:5000"),
                &format!("{client}@node1: udp node1:30053 > {client}:5000"),
            );
            scene.check(
                &format!("{client}: sctp{version} 5000 > node2:30099"),
                &format!("far: sctp {client}:5000 > far:9999 chunk 1"),
            );
            scene.check(
                &format!("far: sctp{version} 9999 > {client}:5000 chunk=2"),
                &format!("{client}@node2: sctp node2:30099 > {client}:5000 chunk 2"),
            );
        }
    }
}

#[test]
fn b25_answers_leave_where_the_client_came_in_whatever_tables_come_meanwhile() {
    let mut scene = Scene::new(CLUSTER);
    for change in ["pod early on node1", "pod late on node2", "ingress far: 0.0.0.0/0"] {
        scene.check("world: udp 5000 > node1:30053", "far: udp world:5000 > far:5353");
        scene.change(change);
        scene.check("far: udp 5353 > world:5000", "world@node1: udp node1:30053 > world:5000");
    }
}

#[test]
fn b24_one_client_port_that_reaches_a_pod_through_two_nodes_is_two_flows() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        scene.check(&format!("world: udp{version} 5000 > node1:30053"), "far: udp world:5000 > far:5353");
        let second = scene.send(&format!("world: udp{version} 5000 > node2:30053"));
        let (chosen, 5353) = ports(&second) else { panic!("{second}") };
        assert!(chosen != 5000, "{second}");
        for _ in 0..2 {
            // Each goes on as it began, and the tables may change.
            scene.check(&format!("world: udp{version} 5000 > node1:30053"), "far: udp world:5000 > far:5353");
            assert_eq!(scene.send(&format!("world: udp{version} 5000 > node2:30053")), second);
            scene.check(
                &format!("far: udp{version} 5353 > world:{chosen}"),
                "world@node2: udp node2:30053 > world:5000",
            );
            scene.check(&format!("far: udp{version} 5353 > world:5000"), "world@node1: udp node1:30053 > world:5000");
            scene.change("egress near: far");
        }
    }
}

#[test]
fn s16_one_client_port_that_reaches_a_pod_through_two_frontends_of_a_node_is_two_flows() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("service shop tcp 80 to 8080 node-port=30081 lb=200: near");
    scene.check("world: tcp 40000 > node1:30080 syn", "near: tcp world:40000 > near:8080 syn");
    for frontend in ["node1:30081", "shop-lb:80"] {
        let second = scene.send(&format!("world: tcp 40000 > {frontend} syn"));
        let (chosen, 8080) = ports(&second) else { panic!("{second}") };
        assert!(chosen != 40_000, "{second}");
        scene.check(
            &format!("near: tcp 8080 > world:{chosen} syn-ack"),
            &format!("world@node1: tcp {frontend} > world:40000 syn-ack"),
        );
    }
    scene.check("near: tcp 8080 > world:40000 syn-ack", "world@node1: tcp node1:30080 > world:40000 syn-ack");
}

#[test]
fn a_load_balancers_and_an_external_address_are_served_at_any_node_that_gets_their_packets() {
    let mut scene = Scene::new(CLUSTER);
    scene
        .change("service shop tcp 80 to 8080 lb=200: near\n service own tcp 80 to 8080 external-ip=198.51.100.80: far");
    for node in ["node1", "node2"] {
        for version in ["", "6"] {
            scene.check(
                &format!("world@{node}: tcp{version} 40000 > shop-lb:80 syn"),
                "near: tcp world:40000 > near:8080 syn",
            );
            scene.check(
                &format!("near: tcp{version} 8080 > world:40000 syn-ack"),
                &format!("world@{node}: tcp shop-lb:80 > world:40000 syn-ack"),
            );
            scene.wait(100);
        }
        scene.check(&format!("world@{node}: tcp 40000 > 198.51.100.80:80 syn"), "far: tcp world:40000 > far:8080 syn");
        scene.check(
            "far: tcp 8080 > world:40000 syn-ack",
            &format!("world@{node}: tcp 198.51.100.80:80 > world:40000 syn-ack"),
        );
        scene.wait(100);
    }
}

#[test]
fn s26_a_connection_goes_on_when_its_packets_enter_at_another_node() {
    for shards in [1, 3] {
        let mut scene = Scene::with_shards(shards, CLUSTER);
        scene.change("service shop tcp 80 to 8080 lb=200: near, far");
        for version in ["", "6"] {
            for port in 40_000..40_008 {
                let sent = scene.send(&format!("world@node1: tcp{version} {port} > shop-lb:80 syn"));
                let (pod, rest) = sent.split_once(": ").unwrap();
                assert_eq!(rest, format!("tcp world:{port} > {pod}:8080 syn"));
                scene.check(
                    &format!("{pod}: tcp{version} 8080 > world:{port} syn-ack"),
                    &format!("world@node1: tcp shop-lb:80 > world:{port} syn-ack"),
                );
                for node in ["node1", "node2", "node1"] {
                    scene.check(
                        &format!("world@{node}: tcp{version} {port} > shop-lb:80 data"),
                        &format!("{pod}: tcp world:{port} > {pod}:8080 data"),
                    );
                    scene.check(
                        &format!("{pod}: tcp{version} 8080 > world:{port} data"),
                        &format!("world@{node}: tcp shop-lb:80 > world:{port} data"),
                    );
                }
            }
        }
    }
}

#[test]
fn another_port_of_a_load_balancers_address_refuses_and_a_ping_is_answered() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("service shop tcp 80 to 8080 lb=200: near");
    for version in ["", "6"] {
        scene.check(
            &format!("world: tcp{version} 40000 > shop-lb:81 syn"),
            "world@node1: tcp shop-lb:81 > world:40000 rst-ack",
        );
        scene.check(
            &format!("world: udp{version} 5000 > shop-lb:80"),
            "world@node1: port-unreachable shop-lb > world about world:5000 > shop-lb:80",
        );
        scene.check(&format!("world: ping{version} 7 > shop-lb"), "world@node1: pong 7 shop-lb > world");
    }
}

#[test]
fn a_node_port_without_endpoints_refuses_at_once() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("service web tcp 80 to 8080 node-port=30080:\n service dns udp 53 to 5353 node-port=30053:");
    for version in ["", "6"] {
        scene.check(
            &format!("world: tcp{version} 40000 > node1:30080 syn"),
            "world@node1: tcp node1:30080 > world:40000 rst-ack",
        );
        scene.check(
            &format!("world: udp{version} 5000 > node1:30053"),
            "world@node1: port-unreachable node1 > world about world:5000 > node1:30053",
        );
    }
}

#[test]
fn a_pod_of_this_nodes_network_answers_a_client_outside_by_way_of_the_service() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("service web tcp 80 to 8080 node-port=30080 lb=200: node1");
    for version in ["", "6"] {
        for frontend in ["node1:30080", "web-lb:80"] {
            let sent = scene.send(&format!("world: tcp{version} 40000 > {frontend} syn"));
            let (port, 8080) = ports(&sent) else { panic!("{sent}") };
            assert_eq!(sent, format!("node1: tcp web:{port} > node1:8080 syn"));
            scene.check(
                &format!("node1: tcp{version} 8080 > web:{port} syn-ack"),
                &format!("world@node1: tcp {frontend} > world:40000 syn-ack"),
            );
        }
    }
    // The node itself reaches the same Service from the same port.
    let sent = scene.send("node1: tcp 40000 > web:80 syn");
    let (port, 8080) = ports(&sent) else { panic!("{sent}") };
    assert_ne!(port, 40_000);
    scene.check(&format!("node1: tcp 8080 > web:{port} syn-ack"), "node1: tcp web:80 > node1:40000 syn-ack");
}

#[test]
fn a_server_that_answers_on_the_underlay_is_sent_to_with_this_nodes_address() {
    let mut scene = Scene::new(CLUSTER);
    for (backend, client) in [("node2", "world"), ("outside", "world"), ("outside", "outside")] {
        scene.change(&format!("service web tcp 80 to 8080 node-port=30080: {backend}"));
        for version in ["", "6"] {
            let sent = scene.send(&format!("{client}: tcp{version} 40000 > node1:30080 syn"));
            let (port, 8080) = ports(&sent) else { panic!("{sent}") };
            assert_eq!(sent, format!("{backend}@node1: tcp node1:{port} > {backend}:8080 syn"));
            scene.check(
                &format!("{backend}@node1: tcp{version} 8080 > node1:{port} syn-ack"),
                &format!("{client}@node1: tcp node1:30080 > {client}:40000 syn-ack"),
            );
            scene.check(
                &format!("{client}: tcp{version} 40000 > node1:30080 ack"),
                &format!("{backend}@node1: tcp node1:{port} > {backend}:8080 ack"),
            );
            scene.wait(1_000);
        }
    }
}

#[test]
fn another_nodes_own_kernel_is_a_client_on_the_underlay() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        // To a pod here it keeps its address, and the answer does not take the tunnel.
        scene.check(
            &format!("node2@node1: tcp{version} 40000 > node1:30080 syn"),
            "near: tcp node2:40000 > near:8080 syn",
        );
        scene.check(
            &format!("near: tcp{version} 8080 > node2:40000 syn-ack"),
            "node2@node1: tcp node1:30080 > node2:40000 syn-ack",
        );
        // To a pod elsewhere, in this case at its own place, it cannot.
        let sent = scene.send(&format!("node2@node1: udp{version} 5000 > node1:30053"));
        let (port, 5353) = ports(&sent) else { panic!("{sent}") };
        assert_eq!(sent, format!("far: udp node1:{port} > far:5353"));
        scene.check(&format!("far: udp{version} 5353 > node1:{port}"), "node2@node1: udp node1:30053 > node2:5000");
        let about = scene.sketch(&format!("far: udp{version} {port} > far:5353 from=node1")).1;
        let kind = if version.is_empty() { (3, 3, 0) } else { (1, 4, 0) };
        let mut error = scene.error("far", kind, &about);
        assert_eq!(
            scene.send_frame("far", &mut error),
            "node2@node1: port-unreachable node1 > node2 about node2:5000 > node1:30053"
        );
    }
}

#[test]
fn a_port_that_the_kernel_keeps_is_not_served() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("unclaimed tcp 30080 on node1");
    scene.check("world: tcp 40000 > node1:30080 syn", "drop left-to-kernel");
    scene.check("world: tcp 40000 > node2:30080 syn", "near: tcp world:40000 > near:8080 syn");
}

#[test]
fn what_is_for_nobody_here_is_left_to_the_kernel_without_a_word() {
    let mut scene = Scene::new(CLUSTER);
    for version in ["", "6"] {
        for words in [
            "tcp 40000 > node1:22 syn",
            "tcp 40000 > web:80 syn",
            "tcp 40000 > near:8080 syn",
            "udp 5000 > node1:30080",
            "udp 5000 > elsewhere:53",
            "udp 53 > node1:50000",
            "ping 7 > node1",
            "pong 7 > node1",
            "ping 7 > web",
            "udp 5000 > node1:123 ttl=1",
        ] {
            let (protocol, rest) = words.split_once(' ').unwrap();
            scene.check(&format!("world@node1: {protocol}{version} {rest}"), "drop left-to-kernel");
        }
    }
    assert_eq!(scene.flows(1), 0);
}

#[test]
fn b02_flows_of_clients_outside_follow_the_service() {
    let mut scene = Scene::new(CLUSTER);
    scene.check("world: udp 5000 > node1:30053", "far: udp world:5000 > far:5353");
    scene.change("service dns udp 53 to 5353 node-port=30053: near");
    scene.check("world: udp 5000 > node1:30053", "near: udp world:5000 > near:5353");
    scene.change("service dns udp 53 to 5353 node-port=30053:");
    scene.check(
        "world: udp 5000 > node1:30053",
        "world@node1: port-unreachable node1 > world about world:5000 > node1:30053",
    );
    scene.change("service dns udp 53 to 5353 node-port=30053: far");
    scene.check("world: udp 5000 > node1:30053", "far: udp world:5000 > far:5353");
    scene.remove("dns");
    scene.check("world: udp 5000 > node1:30053", "drop left-to-kernel");

    scene.check("world: tcp 40000 > node1:30080 syn", "near: tcp world:40000 > near:8080 syn");
    scene.check("near: tcp 8080 > world:40000 syn-ack", "world@node1: tcp node1:30080 > world:40000 syn-ack");
    scene.change("service web tcp 80 to 8080 node-port=30080: far");
    scene.check("world: tcp 40000 > node1:30080 data", "world@node1: tcp node1:30080 > world:40000 rst");
    scene.check("world: tcp 40000 > node1:30080 syn", "far: tcp world:40000 > far:8080 syn");
    scene.remove("web");
    scene.check("world: tcp 40000 > node1:30080 data", "world@node1: tcp node1:30080 > world:40000 rst");
    scene.check("world: tcp 40000 > node1:30080 syn", "drop left-to-kernel");
}

#[test]
fn ingress_policy_knows_the_client_outside() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("ingress near: 203.0.113.0/24\n ingress far: 203.0.113.0/24");
    for (frontend, pod) in [("node1:30080", "near:8080"), ("node2:30080", "near:8080")] {
        scene.check(&format!("world: tcp 40000 > {frontend} syn"), "drop denied-by-ingress-policy");
        let name = pod.split(':').next().unwrap();
        scene.check(&format!("outside: tcp 40000 > {frontend} syn"), &format!("{name}: tcp outside:40000 > {pod} syn"));
        scene.wait(100);
    }
}

#[test]
fn who_is_outside_cannot_speak_for_the_cluster() {
    let mut scene = Scene::new(CLUSTER);
    scene.change("service shop tcp 80 to 8080 lb=200: near");
    for version in ["", "6"] {
        for source in ["near", "far", "nobody1", "node1", "gateway1", "gateway2", "web", "shop-lb"] {
            scene.check(&format!("world: tcp{version} 40000 > node1:30080 syn from={source}"), "drop spoofed-source");
        }
    }
    for (source, reason) in [
        ("0.0.0.0", "bad-address"),
        ("127.0.0.1", "bad-address"),
        ("240.0.0.1", "bad-address"),
        ("255.255.255.255", "bad-address"),
        ("224.0.0.1", "bad-address"),
        ("0.1.2.3", "bad-address"),
        ("169.254.1.1", "link-local"),
    ] {
        scene.check(&format!("world: tcp 40000 > node1:30080 syn from={source}"), &format!("drop {reason}"));
    }
    for (source, reason) in [
        ("::1", "bad-address"),
        ("::", "bad-address"),
        ("::ffff:10.0.0.1", "bad-address"),
        ("ff02::1", "bad-address"),
        ("fe80::1", "link-local"),
    ] {
        scene.check(&format!("world: tcp6 40000 > node1:30080 syn from={source}"), &format!("drop {reason}"));
    }
    assert_eq!(scene.flows(1), 0);
}

#[test]
fn flows_of_clients_outside_cross_shards() {
    let mut scene = Scene::with_shards(3, CLUSTER);
    scene.change("pod more on node2\n service dns udp 53 to 5353 node-port=30053: far, more");
    for version in ["", "6"] {
        scene.check(&format!("world: tcp{version} 40000 > node1:30080 syn"), "near: tcp world:40000 > near:8080 syn");
        scene.check(
            &format!("near: tcp{version} 8080 > world:40000 syn-ack"),
            "world@node1: tcp node1:30080 > world:40000 syn-ack",
        );
        scene.check(
            &format!("node2@node1: tcp{version} 40000 > node1:30080 syn"),
            "near: tcp node2:40000 > near:8080 syn",
        );
        scene.check(
            &format!("near: tcp{version} 8080 > node2:40000 syn-ack"),
            "node2@node1: tcp node1:30080 > node2:40000 syn-ack",
        );
        for port in 5_000..5_020 {
            let sent = scene.send(&format!("world: udp{version} {port} > node1:30053"));
            let (pod, rest) = sent.split_once(": ").unwrap();
            assert_eq!(rest, format!("udp world:{port} > {pod}:5353"));
            scene.check(
                &format!("{pod}: udp{version} 5353 > world:{port}"),
                &format!("world@node1: udp node1:30053 > world:{port}"),
            );
            let second = scene.send(&format!("world: udp{version} {port} > node2:30053"));
            let (at, rest) = second.split_once(": ").unwrap();
            let (chosen, _) = ports(rest);
            scene.check(
                &format!("{at}: udp{version} 5353 > world:{chosen}"),
                &format!("world@node2: udp node2:30053 > world:{port}"),
            );
        }
    }
}

#[test]
fn under_masquerade_all_a_client_outside_gets_the_nodes_address_and_is_judged_with_its_own() {
    for shards in [1, 3] {
        let mut scene = Scene::with_shards(shards, &format!("masquerade-all\n{CLUSTER}"));
        scene.change("ingress near: 172.30.0.100/32");
        for (frontend, pod, port) in [("node1:30080", "near", 8080), ("node2:30080", "near", 8080)] {
            let node = frontend.split(':').next().unwrap();
            if node == "node2" {
                // Policy of the pod's own node sees the other node.
                scene.change("ingress near: 172.30.0.0/24");
            }
            let sent = scene.send(&format!("world: tcp 40000 > {frontend} syn"));
            let (source, _) = ports(&sent);
            assert_eq!(sent, format!("{pod}: tcp {node}:{source} > {pod}:{port} syn"));
            scene.check(
                &format!("{pod}: tcp {port} > {node}:{source} syn-ack"),
                &format!("world@{node}: tcp {frontend} > world:40000 syn-ack"),
            );
            scene.check(&format!("outside: tcp 40000 > {frontend} syn"), "drop denied-by-ingress-policy");
        }
    }
}

#[test]
fn nobody_but_a_node_sends_tunnel_datagrams_to_a_node_not_even_through_a_service() {
    let mut scene = Scene::new(CLUSTER);
    scene.change(
        "service tunnel udp 53 to 4789 node-port=30056: node2\n service own udp 53 to 4789 node-port=30057: node1",
    );
    for version in ["", "6"] {
        for service in ["tunnel", "own"] {
            scene.check(&format!("client: udp{version} 5000 > {service}:53"), "drop pod-encapsulation");
        }
        for port in [30_056, 30_057] {
            scene.check(&format!("world: udp{version} 5000 > node1:{port}"), "drop pod-encapsulation");
        }
    }
}
