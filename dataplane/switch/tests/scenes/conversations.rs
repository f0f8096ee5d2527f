//! Conversations with Services that other implementations get wrong: pods that reach themselves (S10), segments out of the window
//! (S27, B16), two queries from one socket at once (B03), a flood beside them (B22), and what is counted of them.

use crate::scene::Scene;
use overlay::vxlan;
use policy::tables::{ServiceId, ServicePortId};
use std::net::IpAddr;
use switch::{DropReason, Exit, Fate, PortId, ServiceHits};
use wire::{Frame, Protocol};

const PODS: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    service own tcp 80 to 8080 node-port=30080 lb=200 external-ip=198.51.100.99: client
    service talk udp 53 to 5353: client
    service web tcp 80 to 8080: far
    service dns udp 53 to 5353: far
";

#[test]
fn s10_a_pod_reaches_itself_over_every_address_of_its_service_whatever_policies_say() {
    for rules in [
        "",
        "ingress client:",
        "egress client:",
        "ingress client:\n egress client:",
        "ingress client: near tcp/1\n egress client: near tcp/1",
    ] {
        let mut scene = Scene::new(PODS);
        scene.change(rules);
        for version in ["", "6"] {
            let mut port = 40_000;
            for to in ["own:80", "own-lb:80", "node1:30080", "node2:30080", "198.51.100.99:80"] {
                if version == "6" && to.starts_with("198") {
                    continue;
                }
                port += 1;
                for _ in 0..2 {
                    for (from, sent, seen) in [
                        ("client", format!("{port} > {to} syn"), format!("gateway1:{port} > client:8080 syn")),
                        ("client", format!("8080 > gateway1:{port} syn-ack"), format!("{to} > client:{port} syn-ack")),
                        ("client", format!("{port} > {to} data"), format!("gateway1:{port} > client:8080 data")),
                        ("client", format!("8080 > gateway1:{port} data"), format!("{to} > client:{port} data")),
                    ] {
                        scene.check(&format!("{from}: tcp{version} {sent}"), &format!("client: tcp {seen}"));
                    }
                    // Other tables change nothing.
                    scene.change("service more tcp 80 to 8080: near");
                }
            }
            scene.check(&format!("client: udp{version} 5000 > talk:53"), "client: udp gateway1:5000 > client:5353");
            scene.check(&format!("client: udp{version} 5353 > gateway1:5000"), "client: udp talk:53 > client:5000");
        }
    }
}

#[test]
fn s27_b16_segments_out_of_the_window_are_translated_like_any_other() {
    let mut scene = Scene::new(PODS);
    for version in ["", "6"] {
        scene.check(&format!("client: tcp{version} 40000 > web:80 syn"), "far: tcp client:40000 > far:8080 syn");
        scene.check(
            &format!("far: tcp{version} 8080 > client:40000 syn-ack"),
            "client: tcp web:80 > client:40000 syn-ack",
        );
        scene.check(&format!("client: tcp{version} 40000 > web:80 ack"), "far: tcp client:40000 > far:8080 ack");
        for number in [0u32, 1, 999, 1_000, 70_000, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            for (from, words, expect) in [
                ("client", "40000 > web:80 data", "far: tcp client:40000 > far:8080 data"),
                ("far", "8080 > client:40000 data", "client: tcp web:80 > client:40000 data"),
                ("client", "40000 > web:80 ack", "far: tcp client:40000 > far:8080 ack"),
                ("far", "8080 > client:40000 ack", "client: tcp web:80 > client:40000 ack"),
            ] {
                let (_, mut sketch, _) = scene.sketch(&format!("{from}: tcp{version} {words}"));
                sketch.l4[4..8].copy_from_slice(&number.to_be_bytes());
                sketch.l4[8..12].copy_from_slice(&number.rotate_left(7).to_be_bytes());
                assert_eq!(scene.send_frame(from, &mut Frame::from_bytes(&sketch.bytes())), expect, "{number}");
            }
        }
        // A reset that the other end does not believe ends nothing here.
        scene.check(&format!("far: tcp{version} 8080 > client:40000 rst"), "client: tcp web:80 > client:40000 rst");
        scene.check(&format!("client: tcp{version} 40000 > web:80 data"), "far: tcp client:40000 > far:8080 data");
        scene.check(&format!("far: tcp{version} 8080 > client:40000 data"), "client: tcp web:80 > client:40000 data");
    }
}

/// Sends `bytes` into `port` of `node`, which has one shard, and through the tunnel; says which port of the other node it reaches.
fn cross(
    scene: &mut Scene,
    (node, port): (usize, PortId),
    peer: IpAddr,
    frame: &mut Frame,
    bytes: &[u8],
) -> Option<Exit> {
    let now = scene.now;
    frame.set_bytes(bytes);
    let fate = scene.nodes[node - 1].shards[0].from_pod(now, port, frame);
    let Fate::Forward(Exit::Peer(_)) = fate else { return None };
    frame.push_front(vxlan::HEADER_BYTES).copy_from_slice(&vxlan::header(vxlan::Vni::new(1).unwrap()));
    match scene.nodes[2 - node].shards[0].from_peer(now, peer, frame) {
        Fate::Forward(exit) => Some(exit),
        _ => None,
    }
}

#[test]
fn b03_a_million_pairs_of_queries_from_one_socket_lose_nothing() {
    let mut scene = Scene::new(PODS);
    let bytes = |words: &str| scene.sketch(words).1.bytes();
    let queries = [bytes("client: udp 5000 > dns:53 len=30"), bytes("client: udp 5000 > dns:53 len=31")];
    let answers = [bytes("far: udp 5353 > client:5000 len=50"), bytes("far: udp 5353 > client:5000 len=70")];
    let (server, client) = (scene.entry("far").2, scene.entry("client").2);
    let peers = ["node1", "node2"].map(|node| scene.address(node, false));
    let mut frame = Frame::with_capacity(2_000);
    let mut lost = 0;
    for pair in 0..1_000_000u32 {
        for query in &queries {
            lost += u32::from(cross(&mut scene, (1, client), peers[0], &mut frame, query) != Some(Exit::Port(server)));
        }
        for answer in &answers {
            lost += u32::from(cross(&mut scene, (2, server), peers[1], &mut frame, answer) != Some(Exit::Port(client)));
        }
        // One in a hundred comes after a pause.
        if pair % 100 == 0 {
            scene.wait_ms(300);
        }
    }
    assert_eq!(lost, 0);
    assert_eq!((scene.flows(1), scene.flows(2)), (1, 1));
}

fn hits(scene: &Scene, service: &str, protocol: Protocol, port: u16) -> ServiceHits {
    let id: ServicePortId = ServiceId::of("default", service).port(protocol, port);
    let mut sum = ServiceHits::default();
    for shard in &scene.nodes[0].shards {
        shard.service_hits().into_iter().filter(|(of, _)| *of == id).for_each(|(_, hits)| sum.merge(hits));
    }
    sum
}

#[test]
fn flows_opened_and_refused_are_counted_per_service_port_over_table_swaps() {
    let mut scene = Scene::with_shards(2, PODS);
    for round in 1..=3u64 {
        for port in 0..10 {
            scene.send(&format!("client: udp {} > dns:53", 5_000 + round * 100 + port));
            scene.send(&format!("near: udp {} > dns:53", 5_000 + round * 100 + port));
            scene.send(&format!("client: udp {} > dns:53", 5_000 + round * 100 + port));
        }
        scene.change(&format!("service more{round} tcp 80 to 8080: near"));
        assert_eq!(hits(&scene, "dns", Protocol::UDP, 53).opened, round * 20);
    }
    scene.change("service dns udp 53 to 5353:\n service web tcp 80 to 8080 internal=Local: far");
    for port in 0..5 {
        scene.send(&format!("near: udp {} > dns:53", 7_000 + port));
        scene.send(&format!("near: tcp {} > web:80 syn", 7_000 + port));
    }
    assert_eq!(hits(&scene, "dns", Protocol::UDP, 53), ServiceHits { opened: 60, refused: 5, retried: 0 });
    assert_eq!(hits(&scene, "web", Protocol::TCP, 80), ServiceHits { opened: 0, refused: 5, retried: 0 });
}

#[test]
fn b22_a_flood_of_attempts_through_a_service_is_named_and_harms_nobody_else() {
    let mut scene = Scene::new(PODS);
    scene.check("near: tcp 40000 > web:80 syn", "far: tcp near:40000 > far:8080 syn");
    scene.check("far: tcp 8080 > near:40000 syn-ack", "near: tcp web:80 > near:40000 syn-ack");
    scene.check("near: tcp 40000 > web:80 ack", "far: tcp near:40000 > far:8080 ack");
    for port in 10_000..15_000 {
        let fate = scene.send(&format!("client: tcp {port} > web:80 syn"));
        assert!(fate.starts_with("far: tcp client:"), "half-open attempts give way to others: {fate}");
    }
    scene.check("near: tcp 40000 > web:80 data", "far: tcp near:40000 > far:8080 data");
    scene.check("far: tcp 8080 > near:40000 data", "near: tcp web:80 > near:40000 data");
    scene.check("near: tcp 40001 > web:80 syn", "far: tcp near:40001 > far:8080 syn");
    // UDP that is answered is spared for a while, and then the port's own limit is said.
    let mut refused = 0;
    for port in 10_000..12_500 {
        if scene.send(&format!("client: udp {port} > dns:53")) == "drop flow-table-full" {
            refused += 1;
        } else {
            scene.send(&format!("far: udp 5353 > client:{port}"));
        }
    }
    assert!(refused > 0);
    let counted: u64 = [1, 2].iter().map(|node| scene.drops(*node, DropReason::FlowTableFull)).sum();
    assert_eq!(counted, refused);
    scene.check("near: tcp 40000 > web:80 data", "far: tcp near:40000 > far:8080 data");
    scene.wait(5);
    scene.check("near: udp 5000 > dns:53", "far: udp near:5000 > far:5353");
}
