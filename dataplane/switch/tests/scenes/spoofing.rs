//! Who may send what: pods, and peers on the underlay.

use crate::bytes::{self, Sketch};
use crate::scene::Scene;
use overlay::vxlan::{self, Vni};
use std::net::IpAddr;
use wire::{MacAddr, Protocol};

const PODS: &str = "
    pod client on node1
    pod server on node1
    pod db on node2
";

#[test]
fn a_pod_sends_with_its_own_mac_and_addresses_only() {
    let mut scene = Scene::new(PODS);
    scene.check("client: udp 5000 > server:53 mac=0a:00:00:00:00:99", "drop spoofed-mac");
    scene.check("client: udp 5000 > server:53 from=db", "drop spoofed-source");
    scene.check("client: udp6 5000 > server:53 from=gateway1", "drop spoofed-source");
    scene.check("client: udp 5000 > server:53 from=node1", "drop spoofed-source");
}

#[test]
fn the_host_port_sends_with_the_nodes_addresses_only() {
    let mut scene = Scene::new(PODS);
    scene.check("node1: udp 5000 > server:53 from=client", "drop spoofed-source");
    scene.check("node1: udp 5000 > server:53 from=outside", "drop spoofed-source");
}

#[test]
fn a_dhcp_server_in_a_pod_is_not_heard() {
    let mut scene = Scene::new(PODS);
    scene.check("client: udp 67 > server:68", "drop rogue-dhcp-server");
    scene.check("client: udp6 547 > server:546", "drop rogue-dhcp-server");
}

#[test]
fn a_pod_may_not_send_tunnel_datagrams_to_nodes() {
    let mut scene = Scene::new(PODS);
    scene.check("client: udp 5000 > node2:4789", "drop pod-encapsulation");
    scene.check("client: udp 5000 > gateway1:4789", "drop pod-encapsulation");
    scene.check("client: udp6 5000 > node1:4789", "drop pod-encapsulation");
    scene.check("client: udp 5000 > server:4789", "server: udp client:5000 > server:4789");
}

#[test]
fn multicast_broadcast_and_link_local_go_nowhere() {
    let mut scene = Scene::new(PODS);
    scene.check("client: udp 5000 > 224.0.0.251:5353", "drop multicast");
    scene.check("client: udp 5000 > 255.255.255.255:67", "drop multicast");
    scene.check("client: udp6 5000 > ff02::1", "drop multicast");
    scene.check("client: udp6 5000 > fe80::1", "drop link-local");
    scene.check("client: udp6 5000 > server:53 from=fe80::2", "drop link-local");
    scene.check("client: udp 5000 > 127.0.0.1:53", "drop bad-address");
}

#[test]
fn frames_that_are_no_ip_are_dropped_and_named() {
    let mut scene = Scene::new(PODS);
    let mut frame = wire::Frame::from_bytes(&scene.sketch("client: udp 5000 > server:53").1.bytes());
    frame.bytes_mut()[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(scene.send_frame("client", &mut frame), "drop unknown-ethertype");
    frame.truncate(13);
    assert_eq!(scene.send_frame("client", &mut frame), "drop truncated");
}

#[test]
fn a_frame_for_another_mac_is_not_routed() {
    let mut scene = Scene::new(PODS);
    let mut sketch = scene.sketch("client: udp 5000 > server:53").1;
    sketch.dst_mac = scene.sketch("server: udp 1 > client:1").1.src_mac;
    let mut frame = wire::Frame::from_bytes(&sketch.bytes());
    assert_eq!(scene.send_frame("client", &mut frame), "drop not-for-gateway");
}

/// A datagram as node 2 would send it for a packet from db to client.
fn datagram(scene: &Scene, vni: u32, change: impl Fn(&mut Sketch)) -> Vec<u8> {
    let mut sketch = scene.sketch("db: udp 5000 > client:53").1;
    sketch.src_mac = overlay::peers::derive_vtep_mac("node2");
    sketch.dst_mac = overlay::peers::derive_vtep_mac("node1");
    change(&mut sketch);
    let mut datagram = vxlan::header(Vni::new(vni).unwrap()).to_vec();
    datagram.extend(sketch.bytes());
    datagram
}

#[test]
fn only_known_nodes_are_heard_on_the_tunnel_and_only_with_what_is_theirs() {
    let mut scene = Scene::new(PODS);
    let (node2, stranger) = (scene.address("node2", false), IpAddr::from([172, 30, 0, 99]));
    let good = datagram(&scene, 1, |_| {});
    assert_eq!(scene.send_datagram(stranger, 1, &good), "drop unknown-peer");
    assert_eq!(scene.send_datagram(scene.address("node1", false), 1, &good), "drop unknown-peer");
    let cases: [(&str, Vec<u8>); 9] = [
        ("drop unknown-vni", datagram(&scene, 2, |_| {})),
        ("drop wrong-vtep", datagram(&scene, 1, |s| s.dst_mac = MacAddr::local(5))),
        ("drop spoofed-source", datagram(&scene, 1, |s| s.src = [10, 244, 1, 12].into())),
        ("drop spoofed-source", datagram(&scene, 1, |s| s.src = [10, 244, 1, 1].into())),
        ("drop spoofed-source", datagram(&scene, 1, |s| s.src = [172, 30, 0, 11].into())),
        ("drop spoofed-source", datagram(&scene, 1, |s| s.src = [10, 96, 0, 9].into())),
        ("drop not-local", datagram(&scene, 1, |s| s.dst = [10, 244, 2, 11].into())),
        ("drop not-local", datagram(&scene, 1, |s| s.dst = [203, 0, 113, 1].into())),
        ("drop not-encapsulated", vec![0; 4]),
    ];
    for (expect, datagram) in cases {
        assert_eq!(scene.send_datagram(node2, 1, &datagram), expect);
    }
    // What entered there from outside keeps its source.
    let entered = datagram(&scene, 1, |s| s.src = [203, 0, 113, 1].into());
    assert_eq!(scene.send_datagram(node2, 1, &entered), "client: udp outside:5000 > client:53");
}

#[test]
fn a_packet_that_was_damaged_in_the_tunnel_is_dropped_and_not_marked_good() {
    let mut scene = Scene::new(PODS);
    let node2 = scene.address("node2", false);
    let mut damaged = datagram(&scene, 1, |_| {});
    *damaged.last_mut().unwrap() ^= 0x10;
    assert_eq!(scene.send_datagram(node2, 1, &damaged), "drop bad-checksum");
}

#[test]
fn a_peer_cannot_reach_a_services_address() {
    let mut scene = Scene::new("pod client on node1\npod db on node2\nservice web udp 53 to 53: client");
    let (node2, web) = (scene.address("node2", false), scene.address("web", false));
    let datagram = datagram(&scene, 1, |s| s.dst = web);
    assert_eq!(scene.send_datagram(node2, 1, &datagram), "drop not-local");
}

#[test]
fn an_icmp_redirect_of_a_pod_is_dropped() {
    let mut scene = Scene::new(PODS);
    let mut sketch = scene.sketch("client: udp 5000 > server:53").1;
    sketch.protocol = Protocol::ICMP;
    sketch.l4 = bytes::icmp_error(5, 1, 0, &sketch.bytes());
    let mut frame = wire::Frame::from_bytes(&sketch.bytes());
    assert_eq!(scene.send_frame("client", &mut frame), "drop rogue-router");
}
