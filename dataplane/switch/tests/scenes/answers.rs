//! What the switch answers itself: ARP, neighbor discovery, ping of the gateway.

use crate::bytes::{self, Sketch};
use crate::scene::Scene;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use switch::{DropReason, GATEWAY_MAC};
use wire::{Frame, MacAddr, Protocol};

const PODS: &str = "
    pod client on node1
    pod server on node1
    ingress client:
    egress client:
";

fn arp(scene: &Scene, operation: u16, sender_ip: &str, target: &str) -> Frame {
    let mac = scene.sketch("client: udp 1 > server:1").1.src_mac;
    let v4 = |name: &str| match scene.address(name, false) {
        IpAddr::V4(v4) => v4,
        IpAddr::V6(_) => unreachable!(),
    };
    let sender = if sender_ip == "nobody" { Ipv4Addr::UNSPECIFIED } else { v4(sender_ip) };
    Frame::from_bytes(&bytes::arp(operation, (mac, sender), v4(target), MacAddr::BROADCAST))
}

fn neighbor(scene: &Scene, kind: u8, src: Ipv6Addr, target: &str, option: (u8, Option<MacAddr>)) -> Frame {
    let mut sketch: Sketch = scene.sketch("client: udp6 1 > server:1").1;
    let IpAddr::V6(target) = scene.address(target, true) else { unreachable!() };
    let [.., x, y, z] = target.octets();
    sketch.dst = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z])).into();
    sketch.dst_mac = MacAddr([0x33, 0x33, 0xff, x, y, z]);
    sketch.src = src.into();
    sketch.ttl = 255;
    sketch.protocol = Protocol::ICMPV6;
    sketch.l4 = bytes::neighbor(kind, target, option.0, option.1.unwrap_or(sketch.src_mac));
    if src.is_unspecified() {
        sketch.l4.truncate(24);
    }
    Frame::from_bytes(&sketch.bytes())
}

fn own_v6(scene: &Scene) -> Ipv6Addr {
    match scene.address("client", true) {
        IpAddr::V6(v6) => v6,
        IpAddr::V4(_) => unreachable!(),
    }
}

#[test]
fn arp_for_any_other_address_is_answered_with_the_gateways_mac() {
    let mut scene = Scene::new(PODS);
    for target in ["gateway1", "server", "outside", "169.254.1.1"] {
        let mut frame = arp(&scene, 1, "client", target);
        assert_eq!(scene.send_frame("client", &mut frame), format!("client: arp {target} is at {GATEWAY_MAC}"));
    }
}

#[test]
fn arp_for_the_own_address_and_probes_and_announcements_are_not_answered() {
    let mut scene = Scene::new(PODS);
    for mut frame in [
        arp(&scene, 1, "client", "client"),
        arp(&scene, 1, "nobody", "client"),
        arp(&scene, 1, "nobody", "server"),
        arp(&scene, 2, "client", "gateway1"),
    ] {
        assert_eq!(scene.send_frame("client", &mut frame), "drop arp-ignored");
    }
}

#[test]
fn arp_with_another_sender_is_spoofed() {
    let mut scene = Scene::new(PODS);
    let mut frame = arp(&scene, 2, "gateway1", "server");
    assert_eq!(scene.send_frame("client", &mut frame), "drop spoofed-arp");
    let mut frame = arp(&scene, 1, "client", "server");
    frame.bytes_mut()[27] ^= 1;
    assert_eq!(scene.send_frame("client", &mut frame), "drop spoofed-arp");
}

#[test]
fn a_neighbor_solicitation_is_answered_with_the_gateways_mac() {
    let mut scene = Scene::new(PODS);
    let link_local = "fe80::1234".parse().unwrap();
    for (src, target) in [(own_v6(&scene), "gateway1"), (link_local, "server"), (link_local, "fe80::1")] {
        let mut frame = neighbor(&scene, 135, src, target, (1, None));
        let expect = format!("client: neighbor {target} is at {GATEWAY_MAC}");
        assert_eq!(scene.send_frame("client", &mut frame), expect);
    }
}

#[test]
fn duplicate_address_detection_is_left_alone() {
    let mut scene = Scene::new(PODS);
    for target in ["client", "server", "fe80::1234"] {
        let mut frame = neighbor(&scene, 135, Ipv6Addr::UNSPECIFIED, target, (1, None));
        assert_eq!(scene.send_frame("client", &mut frame), "drop neighbor-ignored");
    }
}

#[test]
fn neighbor_messages_that_claim_what_is_not_the_ports_are_spoofed() {
    let mut scene = Scene::new(PODS);
    let (own, other) = (own_v6(&scene), Some(MacAddr::local(1)));
    let IpAddr::V6(server) = scene.address("server", true) else { unreachable!() };
    for mut frame in [
        neighbor(&scene, 135, own, "gateway1", (1, other)),
        neighbor(&scene, 135, server, "gateway1", (1, None)),
        neighbor(&scene, 136, own, "server", (2, None)),
        neighbor(&scene, 136, own, "client", (2, other)),
    ] {
        assert_eq!(scene.send_frame("client", &mut frame), "drop spoofed-neighbor");
    }
    let mut frame = neighbor(&scene, 136, own, "client", (2, None));
    assert_eq!(scene.send_frame("client", &mut frame), "drop neighbor-ignored");
}

#[test]
fn router_messages_of_pods_are_dropped_and_named() {
    let mut scene = Scene::new(PODS);
    let own = own_v6(&scene);
    for (kind, expect) in [(134, "drop rogue-router"), (137, "drop rogue-router"), (133, "drop router-solicitation")] {
        let mut frame = neighbor(&scene, kind, own, "gateway1", (1, None));
        assert_eq!(scene.send_frame("client", &mut frame), expect);
    }
    assert_eq!(scene.drops(1, DropReason::RogueRouter), 2);
}

#[test]
fn the_gateway_answers_ping_whatever_policies_say() {
    let mut scene = Scene::new(PODS);
    scene.check("client: ping 7 > gateway1", "client: pong 7 gateway1 > client");
    scene.check("client: ping6 7 > gateway1", "client: pong 7 gateway1 > client");
}

#[test]
fn ping_of_another_nodes_gateway_goes_there() {
    let mut scene = Scene::new("pod client on node1");
    scene.check("client: ping 7 > gateway2", "node2: ping 7 client > gateway2");
    scene.check("gateway2: pong 7 > client from=gateway2", "client: pong 7 gateway2 > client");
}
