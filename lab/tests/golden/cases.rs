//! The inputs of the golden captures, for writing them again.

use super::{HOST, NODE_UNDERLAY, POD_MTU, ip, mac};
use overlay::peers::derive_vtep_mac;
use overlay::vxlan::{self, VXLAN_PORT, Vni};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use switch::GATEWAY_MAC;
use wire::build::{self, Echo, Ends, Tcp};
use wire::fragment::FragmentPlan;
use wire::tcp::flag;
use wire::{Packet, checksum};

const CLIENT: &str = "10.244.1.2";
const CLIENT6: &str = "fd00:10:244:1::2";
const NEAR: &str = "10.244.1.3";
const DB: &str = "10.244.1.4";
const FAR: &str = "10.244.2.2";
const FAR6: &str = "fd00:10:244:2::2";
const VIP: &str = "10.96.0.80";
const PEER: &str = "172.30.0.12";

/// From the pod behind `port` through the gateway.
fn from_pod(port: u32, src: (&str, u16), dst: (&str, u16)) -> Ends {
    let (src, dst) = (SocketAddr::new(ip(src.0), src.1), SocketAddr::new(ip(dst.0), dst.1));
    Ends { src_mac: mac(port), dst_mac: GATEWAY_MAC, src, dst, ttl: 64 }
}

/// From a pod on node2, as node2 sends it.
fn from_node2(src: (&str, u16), dst: (&str, u16)) -> Ends {
    let ends = from_pod(0, src, dst);
    Ends { src_mac: derive_vtep_mac("node2"), dst_mac: derive_vtep_mac("node1"), ttl: 63, ..ends }
}

fn encapsulated(sender: &str, vni: u32, inner: &[u8]) -> Vec<u8> {
    let ends = Ends::new(SocketAddr::new(ip(sender), 50_000), SocketAddr::new(ip(NODE_UNDERLAY), VXLAN_PORT));
    build::udp(&ends, &[&vxlan::header(Vni::new(vni).expect("a VNI")), inner].concat())
}

fn tcp(ends: &Ends, flags: u8, sequence: u32, acknowledgment: u32, payload: &[u8]) -> Vec<u8> {
    build::tcp(ends, &Tcp { sequence, acknowledgment, ..Tcp::flags(flags) }, payload)
}

pub(crate) fn gateway() -> Vec<Vec<u8>> {
    let v4 = |text: &str| text.parse::<Ipv4Addr>().expect("a literal address");
    let v6 = |text: &str| text.parse::<Ipv6Addr>().expect("a literal address");
    vec![
        build::arp_request(mac(1), v4(CLIENT), v4("10.244.1.1")),
        build::echo(&from_pod(1, (CLIENT, 0), ("10.244.1.1", 0)), Echo::Request, 7, 1, b"0123456789"),
        build::neighbor_solicitation(mac(1), v6(CLIENT6), v6("fd00:10:244:1::1")),
        build::echo(&from_pod(1, (CLIENT6, 0), ("fd00:10:244:1::1", 0)), Echo::Request, 7, 1, b"0123456789"),
        // A probe for its own address stays without an answer.
        build::arp_request(mac(1), Ipv4Addr::UNSPECIFIED, v4(CLIENT)),
    ]
}

pub(crate) fn cluster_ip() -> Vec<Vec<u8>> {
    let out = from_pod(1, (CLIENT, 40_000), (VIP, 80));
    let back = from_node2((FAR, 8_080), (CLIENT, 40_000));
    let back = |flags, sequence, acknowledgment, payload: &[u8]| {
        encapsulated(PEER, 1, &tcp(&back, flags, sequence, acknowledgment, payload))
    };
    vec![
        tcp(&out, flag::SYN, 100, 0, b""),
        back(flag::SYN | flag::ACK, 500, 101, b""),
        tcp(&out, flag::ACK, 101, 501, b""),
        tcp(&out, flag::ACK | flag::PSH, 101, 501, b"GET / HTTP/1.0\r\n\r\n"),
        back(flag::ACK | flag::PSH, 501, 119, b"HTTP/1.0 200 OK\r\n\r\nhello"),
        tcp(&out, flag::FIN | flag::ACK, 119, 525, b""),
        back(flag::FIN | flag::ACK, 525, 120, b""),
        tcp(&out, flag::ACK, 120, 526, b""),
        // A port that the Service does not have.
        tcp(&from_pod(1, (CLIENT, 40_001), (VIP, 81)), flag::SYN, 1, 0, b""),
    ]
}

pub(crate) fn policy() -> Vec<Vec<u8>> {
    vec![
        tcp(&from_pod(1, (CLIENT, 40_000), (DB, 5_432)), flag::SYN, 1, 0, b""),
        tcp(&from_pod(2, (NEAR, 40_000), (DB, 5_432)), flag::SYN, 1, 0, b""),
        tcp(&from_pod(3, (DB, 5_432), (NEAR, 40_000)), flag::SYN | flag::ACK, 9, 2, b""),
        tcp(&from_pod(2, (NEAR, 40_001), (DB, 5_433)), flag::SYN, 1, 0, b""),
        encapsulated(PEER, 1, &tcp(&from_node2((FAR, 40_000), (DB, 5_432)), flag::SYN, 1, 0, b"")),
        // The node may always reach its own pods.
        tcp(&from_pod(HOST.0, (NODE_UNDERLAY, 40_000), (DB, 5_432)), flag::SYN, 1, 0, b""),
        // The database may open what it likes: it is isolated in one direction only.
        tcp(&from_pod(3, (DB, 40_000), (NEAR, 8_080)), flag::SYN, 1, 0, b""),
    ]
}

pub(crate) fn spoofed() -> Vec<Vec<u8>> {
    let v4 = |text: &str| text.parse::<Ipv4Addr>().expect("a literal address");
    let own = from_pod(1, (CLIENT, 40_000), (NEAR, 8_080));
    vec![
        build::udp(&from_pod(1, (NEAR, 40_000), (DB, 5_432)), b"a neighbor's address"),
        build::udp(&from_pod(1, (FAR6, 40_000), (CLIENT6, 1)), b"a far pod's address"),
        build::udp(&Ends { src_mac: GATEWAY_MAC, ..own }, b"the gateway's MAC"),
        build::arp_request(mac(1), v4(NEAR), v4("10.244.1.1")),
        // A peer may only send from its own pods' addresses.
        encapsulated(PEER, 1, &build::udp(&from_node2((NEAR, 40_000), (CLIENT, 1)), b"one of node1's pods")),
        build::udp(&own, b"its own"),
    ]
}

/// The fragments of a datagram that may be cut.
fn fragments_of(ends: &Ends, payload: &[u8]) -> Vec<Vec<u8>> {
    let mut frame = build::udp(ends, payload);
    // Identification 77, without don't-fragment.
    frame[18..22].copy_from_slice(&[0, 77, 0, 0]);
    frame[24..26].fill(0);
    let sum = !checksum::sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let packet = Packet::check(&frame).expect("a packet");
    let plan = FragmentPlan::new(&frame, &packet, usize::from(POD_MTU)).expect("it is too large");
    let fragment = |index| {
        let mut out = vec![0; plan.header_len(index)];
        plan.write_header(index, &mut out);
        out.extend_from_slice(&frame[plan.payload(index)]);
        out
    };
    (0..plan.count()).map(fragment).collect()
}

pub(crate) fn fragments() -> Vec<Vec<u8>> {
    let payload: Vec<u8> = (0..3_000u32).map(|i| i as u8).collect();
    let allowed = fragments_of(&from_pod(1, (CLIENT, 40_000), (FAR, 8_080)), &payload);
    let denied = fragments_of(&from_pod(1, (CLIENT, 40_000), (DB, 5_432)), &payload);
    let mut orphan = fragments_of(&from_pod(2, (NEAR, 40_000), (FAR, 8_080)), &payload);
    orphan.remove(0);
    [allowed, denied, orphan].concat()
}

pub(crate) fn super_frame() -> Vec<Vec<u8>> {
    let far = from_pod(1, (CLIENT, 40_000), (FAR, 8_080));
    let back = from_node2((FAR, 8_080), (CLIENT, 40_000));
    let payload: Vec<u8> = (0..5_000u32).map(|i| (i / 7) as u8).collect();
    let mut large = tcp(&far, flag::ACK | flag::PSH, 101, 501, &payload);
    // The kernel leaves the pseudo-header sum in the checksum field.
    let packet = Packet::check(&large).expect("a packet");
    let l4_len = packet.end - u32::from(packet.l4_offset);
    let sum = checksum::pseudo_header(packet.src, packet.dst, packet.protocol, l4_len);
    let field = usize::from(packet.l4_offset) + checksum::TCP_FIELD;
    large[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    vec![
        tcp(&far, flag::SYN, 100, 0, b""),
        encapsulated(PEER, 1, &tcp(&back, flag::SYN | flag::ACK, 500, 101, b"")),
        large,
    ]
}

pub(crate) fn too_big() -> Vec<Vec<u8>> {
    // The first byte past what fits, in both families; DF is set on the IPv4 packet.
    let payload = |headers: usize| vec![5; usize::from(POD_MTU) - headers + 1];
    let mut v4 = build::udp(&from_pod(1, (CLIENT, 40_000), (FAR, 8_080)), &payload(28));
    v4[20] = 0x40;
    v4[24..26].fill(0);
    let sum = !checksum::sum(&v4[14..34]);
    v4[24..26].copy_from_slice(&sum.to_be_bytes());
    let v6 = build::udp(&from_pod(1, (CLIENT6, 40_000), (FAR6, 8_080)), &payload(48));
    let fits = build::udp(&from_pod(1, (CLIENT6, 40_000), (FAR6, 8_080)), &payload(48)[1..]);
    vec![v4, v6, fits]
}

pub(crate) fn tunnel() -> Vec<Vec<u8>> {
    let ends = from_node2((FAR, 40_000), (NEAR, 8_080));
    let inner = build::udp(&ends, b"hello");
    let wrong_vtep = build::udp(&Ends { dst_mac: derive_vtep_mac("node3"), ..ends }, b"hello");
    let not_here =
        build::udp(&Ends { dst: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 244, 1, 99)), 1), ..ends }, b"hello");
    let foreign =
        build::udp(&Ends { dst: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 244, 2, 3)), 1), ..ends }, b"hello");
    let mut no_vni = encapsulated(PEER, 1, &inner);
    no_vni[42] = 0;
    let packet = Packet::check(&no_vni).expect("a packet");
    checksum::write_full(&mut no_vni, &packet);
    vec![
        encapsulated(PEER, 1, &inner),
        encapsulated("172.30.0.66", 1, &inner),
        encapsulated(PEER, 2, &inner),
        encapsulated(PEER, 1, &wrong_vtep),
        encapsulated(PEER, 1, &not_here),
        encapsulated(PEER, 1, &foreign),
        encapsulated(PEER, 1, &[0; 10]),
        no_vni,
    ]
}
