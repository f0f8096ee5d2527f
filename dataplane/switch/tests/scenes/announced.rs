//! Addresses that a node announces on the underlay: ARP and neighbor discovery from outside; and fragments that come from there.

use crate::bytes;
use crate::scene::{Scene, uplink_mac};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use switch::DropReason;
use wire::{Frame, MacAddr, Protocol};

const CLUSTER: &str = "
    pod near on node1
    pod far on node2
    service web udp 53 to 5353 lb=200: near
    service dns udp 53 to 5353 node-port=30053 lb=201: far
    announce web-lb on node1
    uplinks 50000-50009
";

fn v4(scene: &Scene, name: &str) -> Ipv4Addr {
    match scene.address(name, false) {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => unreachable!(),
    }
}

fn v6(scene: &Scene, name: &str) -> Ipv6Addr {
    match scene.address(name, true) {
        IpAddr::V6(v6) => v6,
        IpAddr::V4(_) => unreachable!(),
    }
}

/// An ARP packet of `sender` about `target`, to all.
fn arp(scene: &Scene, operation: u16, sender: Ipv4Addr, target: &str) -> Frame {
    let mac = scene.entry("world").3;
    Frame::from_bytes(&bytes::arp(operation, (mac, sender), v4(scene, target), MacAddr::BROADCAST))
}

/// A solicitation from `src` for `target`; one from nobody checks whether the address is in use.
fn solicitation(scene: &Scene, src: Ipv6Addr, target: &str) -> Frame {
    let mut sketch = scene.sketch("world: udp6 1 > node1:1").1;
    let target = v6(scene, target);
    let [.., x, y, z] = target.octets();
    sketch.dst = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z])).into();
    sketch.dst_mac = MacAddr([0x33, 0x33, 0xff, x, y, z]);
    sketch.src = src.into();
    sketch.ttl = 255;
    sketch.protocol = Protocol::ICMPV6;
    sketch.l4 = bytes::neighbor(135, target, 1, sketch.src_mac);
    if src.is_unspecified() {
        sketch.l4.truncate(24);
    }
    Frame::from_bytes(&sketch.bytes())
}

#[test]
fn an_announced_address_is_answered_for_with_the_interfaces_own_mac() {
    let mut scene = Scene::new(CLUSTER);
    // Also to whoever checks if it is free, because it is not.
    for sender in [v4(&scene, "world"), Ipv4Addr::UNSPECIFIED] {
        let mut frame = arp(&scene, 1, sender, "web-lb");
        let expect = format!("@node1: arp web-lb is at {}", uplink_mac(1));
        assert_eq!(scene.send_frame("world@node1", &mut frame), expect);
    }
    for src in [v6(&scene, "world"), "fe80::9".parse().unwrap(), Ipv6Addr::UNSPECIFIED] {
        let mut frame = solicitation(&scene, src, "web-lb");
        let expect = format!("@node1: neighbor web-lb is at {}", uplink_mac(1));
        assert_eq!(scene.send_frame("world@node1", &mut frame), expect);
    }
}

#[test]
fn other_addresses_are_the_kernels_or_another_nodes() {
    let mut scene = Scene::new(CLUSTER);
    let world = v4(&scene, "world");
    for (node, target) in [("node1", "node1"), ("node1", "dns-lb"), ("node1", "near"), ("node2", "web-lb")] {
        let mut frame = arp(&scene, 1, world, target);
        assert_eq!(scene.send_frame(&format!("world@{node}"), &mut frame), "drop left-to-kernel");
        let mut frame = solicitation(&scene, v6(&scene, "world"), target);
        assert_eq!(scene.send_frame(&format!("world@{node}"), &mut frame), "drop left-to-kernel");
    }
    // A reply, and a question in our own name.
    for (operation, sender) in [(2, world), (1, v4(&scene, "node1")), (1, v4(&scene, "web-lb"))] {
        let mut frame = arp(&scene, operation, sender, "web-lb");
        assert_eq!(scene.send_frame("world@node1", &mut frame), "drop left-to-kernel");
    }
    scene.check("world@node2: udp 5000 > web-lb:53", "near: udp world:5000 > near:5353");
}

#[test]
fn an_announced_address_that_no_service_has_yet_answers_a_ping_and_nothing_else() {
    let mut scene = Scene::new("pod near on node1\n announce 172.30.0.222 on node1\n uplinks 50000-50009");
    scene.check("world: ping 7 > 172.30.0.222", "world@node1: pong 7 172.30.0.222 > world");
    scene.check("world: udp 5000 > 172.30.0.222:53", "drop left-to-kernel");
}

/// Sends the fragments of `words` in the order of `order` and gives what became of each, of held ones last.
fn send(scene: &mut Scene, words: &str, order: &[usize]) -> Vec<String> {
    let (sender, sketch, _) = scene.sketch(words);
    let fragments = sketch.fragments(77, 1_400);
    let mut fates: Vec<String> =
        order.iter().map(|&n| scene.send_frame(&sender, &mut Frame::from_bytes(&fragments[n]))).collect();
    fates.retain(|fate| fate != "held");
    fates.extend(scene.released());
    fates.sort();
    fates
}

#[test]
fn s18_fragments_from_and_to_the_outside_follow_their_first_in_any_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        for version in ["", "6"] {
            let mut scene = Scene::new(CLUSTER);
            for (frontend, pod) in [("node1:30053", "far"), ("web-lb:53", "near")] {
                let words = format!("world: udp{version} 5000 > {frontend} len=4000 may-be-cut");
                assert_eq!(
                    send(&mut scene, &words, &order),
                    [
                        format!("{pod}: later fragment world > {pod} at 1400"),
                        format!("{pod}: later fragment world > {pod} at 2800"),
                        format!("{pod}: udp world:5000 > {pod}:5353"),
                    ]
                );
            }
            let words = format!("near: udp{version} 5000 > outside:53 len=4000 may-be-cut");
            let fates = send(&mut scene, &words, &order);
            assert_eq!(
                fates[..2],
                [1400, 2800].map(|at| format!("outside@node1: later fragment node1 > outside at {at}"))
            );
            assert!(fates[2].starts_with("outside@node1: udp node1:50"), "{fates:?}");
        }
    }
}

#[test]
fn fragments_of_what_the_kernel_hears_itself_are_left_to_it() {
    let mut scene = Scene::new(CLUSTER);
    let fates = send(&mut scene, "world: udp 5000 > node1:123 len=3000 may-be-cut", &[0, 1, 2]);
    assert_eq!(fates, ["drop left-to-kernel"; 3]);
    // The filter shows later fragments only, since ports are what it chooses by.
    let fates = send(&mut scene, "world: udp 5001 > node1:123 len=3000 may-be-cut", &[1, 2]);
    assert!(fates.iter().all(|fate| fate == "drop left-to-kernel"), "{fates:?}");
    let mut scene = Scene::new(CLUSTER);
    send(&mut scene, "world: udp 5001 > node1:123 len=3000 may-be-cut", &[1, 2]);
    scene.now = scene.now + Duration::from_secs(3);
    scene.expire();
    assert_eq!(scene.drops(1, DropReason::LeftToKernel), 2);
}
