//! Frames of known flows cost no allocation: forwarded, translated, through the tunnel, answered, or discarded; nor do those that
//! policy denies, however many.

use crate::scene::Scene;
use overlay::vxlan;
use switch::{Exit, Fate};
use wire::Frame;

const PODS: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    service web tcp 80 to 8080: near
    service dns udp 53 to 5353: far
    service ext tcp 80 to 8080: outside
    service node tcp 80 to 8080 node-port=30080: near
    service rem udp 53 to 5353 node-port=30053 lb=200: far
    service own tcp 80 to 8080 node-port=30081: node1
    ingress near: client, 172.30.0.0/24, fd00:172:30::/64
    announce rem-lb on node1
    uplinks 50000-50999
    egress client: near, far, 0.0.0.0/0, ::/0
";

/// A scene whose switches have dropped something before: a switch takes all room for the records of drops at the first one.
fn scene(text: &str) -> Scene {
    let mut scene = Scene::new(text);
    for words in ["near: udp 1 > client:1 from=far", "far: udp 1 > near:1 from=near"] {
        scene.check(words, "drop spoofed-source");
    }
    scene
}

/// Sends `words` a thousand times and counts the allocations of what the switches do, from the sender's port to the last exit.
#[track_caller]
fn check_none(scene: &mut Scene, words: &str) {
    for _ in 0..3 {
        scene.send(words);
    }
    let (sender, sketch, offload) = scene.sketch(words);
    let (node, shard, port, _) = scene.entry(&sender);
    let bytes = sketch.bytes();
    let mut frame = Frame::from_bytes(&bytes);
    let peer = scene.address(&format!("node{node}"), false);
    let now = scene.now;
    let (here, there) = match &mut scene.nodes[..] {
        [one, two] if node == 1 => (&mut one.shards[usize::from(shard)], &mut two.shards[0]),
        [one, two] => (&mut two.shards[usize::from(shard)], &mut one.shards[0]),
        _ => unreachable!("a scene has two nodes"),
    };
    let boxed = allocation_counter::measure(|| drop(std::hint::black_box(Box::new(now))));
    assert_eq!(boxed.count_total, 1, "the counter counts");
    let counted = allocation_counter::measure(|| {
        for _ in 0..1_000 {
            frame.set_bytes(&bytes);
            frame.offload = offload;
            let fate = here.from_pod(now, port, &mut frame);
            if let Fate::Forward(Exit::Peer(_)) = fate {
                frame.push_front(vxlan::HEADER_BYTES).copy_from_slice(&vxlan::header(here.config().vni));
                there.from_peer(now, peer, &mut frame);
            }
        }
    });
    assert_eq!(counted.count_total, 0, "{words}");
}

#[test]
fn frames_of_known_flows_are_forwarded_without_allocation() {
    let mut scene = scene(PODS);
    for version in ["", "6"] {
        check_none(&mut scene, &format!("client: tcp{version} 40000 > near:8080 data"));
        check_none(&mut scene, &format!("client: tcp{version} 40001 > web:80 data"));
        check_none(&mut scene, &format!("client: udp{version} 5000 > far:53"));
        check_none(&mut scene, &format!("client: udp{version} 5001 > dns:53"));
        check_none(&mut scene, &format!("client: ping{version} 7 > far"));
        check_none(&mut scene, &format!("node1: udp{version} 5000 > near:53"));
    }
}

#[test]
fn frames_are_answered_and_dropped_without_allocation() {
    let mut scene = scene(PODS);
    for version in ["", "6"] {
        check_none(&mut scene, &format!("client: ping{version} 7 > gateway1"));
        check_none(&mut scene, &format!("client: udp{version} 5000 > web:53"));
        check_none(&mut scene, &format!("client: tcp{version} 5000 > web:81 syn"));
        check_none(&mut scene, &format!("client: udp{version} 5000 > outside:53"));
        check_none(&mut scene, &format!("far: udp{version} 5000 > near:53"));
        check_none(&mut scene, &format!("client: udp{version} 5000 > near:53 from=far"));
        check_none(&mut scene, &format!("client: udp{version} 5000 > far:53 ttl=1"));
    }
}

#[test]
fn queries_to_the_cluster_dns_and_their_answers_cost_no_allocation() {
    let mut scene = scene(&format!("{PODS}\ningress far: client"));
    for version in ["", "6"] {
        check_none(&mut scene, &format!("client: udp{version} 5000 > cluster-dns:53"));
        check_none(&mut scene, &format!("client: tcp{version} 5000 > cluster-dns:53 data"));
        check_none(&mut scene, &format!("node1: udp{version} 5000 > cluster-dns:53"));
        scene.send(&format!("far: udp{version} 5000 > cluster-dns:53"));
        scene.check_answers_allocate_nothing(&[7; 500]);
    }
}

#[test]
fn frames_across_the_uplink_cost_no_allocation() {
    let mut scene = scene(PODS);
    for version in ["", "6"] {
        check_none(&mut scene, &format!("client: tcp{version} 40000 > outside:443 data"));
        check_none(&mut scene, &format!("client: tcp{version} 40000 > flat:443 data"));
        check_none(&mut scene, &format!("client: tcp{version} 40000 > ext:80 data"));
        check_none(&mut scene, &format!("client: ping{version} 7 > outside"));
        check_none(&mut scene, &format!("node1: tcp{version} 40000 > ext:80 data"));
        check_none(&mut scene, &format!("world: tcp{version} 40000 > node1:30080 data"));
        check_none(&mut scene, &format!("world: udp{version} 5000 > node1:30053"));
        check_none(&mut scene, &format!("world: tcp{version} 40000 > node1:30081 data"));
        check_none(&mut scene, &format!("world: udp{version} 5000 > rem-lb:53"));
        check_none(&mut scene, &format!("world: ping{version} 7 > rem-lb"));
        check_none(&mut scene, &format!("world: tcp{version} 40000 > rem-lb:81 syn"));
        check_none(&mut scene, &format!("world: tcp{version} 40000 > node1:22 data"));
        check_none(&mut scene, &format!("world: tcp{version} 40000 > node1:30080 data from=near"));
        let sent = scene.send(&format!("client: tcp{version} 40000 > outside:443 data"));
        let (port, _) = crate::scene::ports(&sent);
        check_none(&mut scene, &format!("outside: tcp{version} 443 > node1:{port} data"));
    }
    // Two nodes that bring one client's packets to one pod (S16).
    scene.send("world: udp 5001 > node2:30053");
    check_none(&mut scene, "world: udp 5001 > node1:30053");
}

/// Frames with `words`, each from another source port to another destination port.
fn flood(scene: &Scene, words: &str, tuples: std::ops::Range<u16>) -> Vec<Frame> {
    let (_, mut sketch, _) = scene.sketch(words);
    let frame = |n: u16| {
        sketch.l4[..2].copy_from_slice(&(20_000 + n % 1_000).to_be_bytes());
        sketch.l4[2..4].copy_from_slice(&n.to_be_bytes());
        Frame::from_bytes(&sketch.bytes())
    };
    tuples.map(frame).collect()
}

#[test]
fn a_flood_of_packets_that_policy_denies_costs_no_allocation_and_bounded_room() {
    for (rules, words) in
        [("egress client: far", "client: tcp 1 > near:1 syn"), ("ingress near: far", "client: tcp6 1 > near:1 syn")]
    {
        let mut scene = scene(&format!("pod client on node1\npod near on node1\npod far on node2\n{rules}"));
        let warm_up = flood(&scene, words, 1..30_000);
        let attack = flood(&scene, words, 30_000..60_000);
        let (_, shard, port, _) = scene.entry("client");
        let now = scene.now;
        let switch = &mut scene.nodes[0].shards[usize::from(shard)];
        let mut send = |mut frames: Vec<Frame>| {
            frames.iter_mut().for_each(|frame| {
                let denied = matches!(switch.from_pod(now, port, frame), Fate::Drop(_));
                assert_ne!(denied, rules.contains("dry-run"));
            });
            frames.len() as u64
        };
        send(warm_up);
        let mut sent = 0;
        let counted = allocation_counter::measure(|| sent = send(attack));
        assert_eq!((counted.count_total, sent), (0, 30_000), "{rules}");
        let seen = scene.nodes[0].shards[0].drops_seen(now);
        assert!(seen.records.len() <= 130, "{}", seen.records.len());
        assert!(seen.forgotten > 59_000, "{}", seen.forgotten);
        assert!(
            seen.records.iter().any(|record| record.reason == switch::DropReason::SpoofedSource),
            "others keep theirs"
        );
    }
}
