//! Whatever bytes come in, wherever: no panic, one fate, one count, and what leaves is a well-formed packet of the sender's own.

use crate::scene::Scene;
use overlay::vxlan::{self, Vni};
use proptest::prelude::*;
use switch::{Exit, Fate, Origin, PortId};
use wire::{Checksum, Frame, Offload, Packet, Segmentation, SegmentationKind};

const PODS: &str = "
    pod client on node1
    pod near on node1
    pod far on node2
    service web tcp 80 to 8080: near, far, client
    service dns udp 53 to 5353: far
    service node tcp 80 to 8080 node-port=30080: near, far, node1, node2
    service rem udp 53 to 5353 node-port=30053 lb=200: far, outside
    announce rem-lb on node1
    uplinks 50000-50003
    ingress near: client, 172.30.0.0/24
";

/// Packets to start from; a property changes bytes of them.
const WORDS: [&str; 30] = [
    "client: tcp 40000 > near:8080 syn",
    "client: tcp 40000 > web:80 data",
    "client: tcp6 40000 > web:80 syn",
    "client: udp 5000 > dns:53",
    "client: udp6 5000 > far:53 len=600",
    "client: ping 7 > near",
    "client: ping6 7 > gateway1",
    "client: pong 7 > far",
    "client: sctp 5000 > far:99",
    "client: udp 5000 > outside:53",
    "client: tcp 40000 > web:81 syn",
    "near: tcp 8080 > client:40000 syn-ack",
    "near: udp6 53 > client:5000",
    "node1: tcp 40000 > web:80 syn",
    "node1: udp6 5000 > near:53",
    "far: tcp 8080 > client:40000 rst",
    "world: tcp 40000 > node1:30080 syn",
    "world: tcp6 40001 > node1:30080 data",
    "world: udp 5000 > rem-lb:53",
    "world: udp6 5000 > node2:30053 len=1400",
    "world: ping 7 > rem-lb",
    "outside: udp 53 > node1:50000",
    "outside: pong6 7 > node1",
    "near: tcp 8080 > world:40000 syn-ack",
    "client: ping6 7 > outside",
    "client: tcp 40000 > outside:443 syn",
    "far: udp 5353 > world:5000",
    "client: udp 5000 > cluster-dns:53",
    "client: tcp6 40000 > cluster-dns:53 syn",
    "node1: udp6 5000 > cluster-dns:53",
];

#[derive(Clone, Debug)]
struct Step {
    words: usize,
    /// Byte positions (from the end of the Ethernet header on) and what is put there.
    changes: Vec<(usize, u8)>,
    cut: Option<usize>,
    way_in: u8,
    partial: Option<u16>,
    wait: u8,
}

fn step() -> impl Strategy<Value = Step> {
    (
        0..WORDS.len(),
        prop::collection::vec((0usize..90, any::<u8>()), 0..4),
        prop::option::weighted(0.1, 0usize..80),
        0u8..8,
        prop::option::weighted(0.2, 0u16..2_000),
        0u8..50,
    )
        .prop_map(|(words, changes, cut, way_in, partial, wait)| Step {
            words,
            changes,
            cut,
            way_in,
            partial,
            wait,
        })
}

/// Lets one frame in and checks what must hold of any frame.
fn play(scene: &mut Scene, step: &Step) {
    scene.wait(u64::from(step.wait));
    let (sender, sketch, _) = scene.sketch(WORDS[step.words]);
    let mut bytes = sketch.bytes();
    for (at, value) in &step.changes {
        if let Some(byte) = bytes.get_mut(at + 12) {
            *byte = *value;
        }
    }
    bytes.truncate(step.cut.unwrap_or(usize::MAX));
    let mut frame = Frame::from_bytes(&bytes);
    if let Some(size_bytes) = step.partial {
        let kind = if size_bytes % 2 == 0 { SegmentationKind::Tcp } else { SegmentationKind::Udp };
        let segmentation = (size_bytes > 100).then_some(Segmentation { kind, size_bytes, ecn: false });
        frame.offload = Offload { checksum: Checksum::Partial, segmentation };
    }
    let (node, _, port, _) = scene.entry(&sender);
    let (now, peer) = (scene.now, scene.address(&format!("node{}", 3 - node), false));
    let switch = &mut scene.nodes[node - 1].shards[0];
    let before = switch.counters().total();
    let fate = match step.way_in {
        0 => {
            frame.push_front(vxlan::HEADER_BYTES).copy_from_slice(&vxlan::header(Vni::new(1).unwrap()));
            switch.from_peer(now, peer, &mut frame)
        }
        1 => switch.from_peer(now, peer, &mut frame),
        2 => switch.to_port(now, PortId(u32::from(step.wait)), Origin::Port, &mut frame),
        3 => switch.to_port(now, port, Origin::Port, &mut frame),
        _ => switch.from_pod(now, port, &mut frame),
    };
    let counters = switch.counters();
    let after = counters.total();
    assert!(counters.balance(), "the counters balance");
    assert_eq!(after.received.frames, before.received.frames + 1, "one count");
    match fate {
        Fate::Drop(reason) => assert_eq!(after.drops_of(reason), before.drops_of(reason) + 1),
        Fate::Held => assert_eq!(after.held.frames, before.held.frames + 1),
        Fate::Forward(exit) => {
            assert_eq!(after.forwarded.frames, before.forwarded.frames + 1);
            Packet::check(frame.bytes()).expect("what is forwarded is well-formed");
            assert!(matches!(exit, Exit::Port(_) | Exit::Peer(_)), "a scene of one shard has no other");
        }
        Fate::Ask(query) => {
            assert_eq!(after.asked.frames, before.asked.frames + 1);
            assert_eq!(query.port, port, "only who is attached asks the cluster DNS");
        }
        Fate::Answer(exit) => {
            assert_eq!(after.answered.frames, before.answered.frames + 1);
            let asked = matches!(step.way_in, 0..=3) || exit == Exit::Port(port);
            assert!(asked, "an answer goes to whoever asked: {exit:?}");
            assert_eq!(frame.offload.segmentation, None);
        }
    }
    while switch.release(now, &mut frame).is_some() {}
    switch.expire(now, 4);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_frame_has_one_fate_and_one_count(steps in prop::collection::vec(step(), 1..60)) {
        let mut scene = Scene::new(PODS);
        for step in &steps {
            play(&mut scene, step);
        }
    }

    #[test]
    fn random_bytes_have_one_fate_and_one_count(bytes in prop::collection::vec(any::<u8>(), 0..200), way_in in 0u8..8) {
        let mut scene = Scene::new(PODS);
        let port = scene.entry("client").2;
        let (now, peer) = (scene.now, scene.address("node2", false));
        let mut frame = Frame::from_bytes(&bytes);
        let switch = &mut scene.nodes[0].shards[0];
        match way_in {
            0 => switch.from_peer(now, peer, &mut frame),
            1 => switch.to_port(now, port, Origin::Port, &mut frame),
            2 => switch.from_host(now, PortId(1), &mut frame),
            _ => switch.from_pod(now, port, &mut frame),
        };
        prop_assert!(switch.counters().balance());
        prop_assert_eq!(switch.counters().total().received.frames, 1);
    }
}
