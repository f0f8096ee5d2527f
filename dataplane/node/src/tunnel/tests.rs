//! Two tunnels against the kernel's UDP, over the loopback interface of a private namespace.

use super::*;
use crate::common::namespace::{self, sh};
use overlay::peers::Peer;
use overlay::vxlan;
use std::net::SocketAddr;
use std::time::Duration;
use switch::{ShardId, SwitchConfig};
use wire::build::{self, Ends};
use wire::{Checksum, MacAddr, Segmentation, SegmentationKind};

const A: &str = "127.0.0.1";
const B: &str = "127.0.0.2";

/// Time plays no part here.
const NOW: wire::Instant = wire::Instant::ZERO;

/// Largest inner IP packet in these tests, as over an underlay of 1,500 bytes.
const MTU: u16 = 1_450;

fn config(address: &str) -> DataplaneConfig {
    DataplaneConfig::new("node", vec![address.parse().expect("an address")], Vec::new())
}

/// Somebody who counts what the tunnel drops.
fn switch() -> Switch {
    let config = config(A);
    Switch::new(SwitchConfig {
        node_name: config.node_name,
        shard: ShardId(0),
        shards: 1,
        vni: config.vni,
        vxlan_port: config.vxlan_port,
        vtep_mac: config.vtep_mac,
        gateways: Vec::new(),
        tunnel_mtu: MTU,
        seed: 0,
        flows_per_port_max: 1,
        uplink_flows_max: 1,
        service_cidrs: Vec::new(),
        non_masquerade: Vec::new(),
        masquerade_all: false,
        trusted_dns: Vec::new(),
    })
}

/// Two ends that know each other; lo takes 1,500 bytes at a time, as an underlay does.
fn pair(a: &str, b: &str) -> (Tunnel, Tunnel) {
    sh("ip link set lo up mtu 1500");
    let end = |own: &str, other: &str| {
        let mut tunnel = Tunnel::open(&config(own), MTU).expect("the sockets open");
        let underlay = vec![other.parse().expect("an address")];
        let peer = Peer { name: "peer".into(), underlay, vtep_mac: MacAddr::local(9), pod_cidrs: Vec::new() };
        tunnel.set_peers(&Peers::new(vec![peer]), vxlan::VXLAN_PORT);
        tunnel
    };
    (end(a, b), end(b, a))
}

fn ends() -> Ends {
    let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
    Ends::new(address("10.0.0.1:1000"), address("10.0.1.1:2000"))
}

fn frame(bytes: &[u8]) -> Frame {
    let mut frame = Frame::with_capacity(FRAME_MAX_BYTES);
    frame.set_bytes(bytes);
    frame
}

/// A UDP super-frame with `payload`, cut every `size_bytes`.
fn super_frame(payload: &[u8], size_bytes: u16) -> Frame {
    let mut frame = frame(&build::udp(&ends(), payload));
    let packet = Packet::check(frame.bytes()).expect("a good packet");
    let l4_len = frame.len() - usize::from(packet.l4_offset);
    let pseudo = wire::checksum::pseudo_header(packet.src, packet.dst, packet.protocol, l4_len as u32);
    let field = usize::from(packet.l4_offset) + 6;
    frame.bytes_mut()[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    let segmentation = Segmentation { kind: SegmentationKind::Udp, size_bytes, ecn: false };
    frame.offload = wire::Offload { checksum: Checksum::Partial, segmentation: Some(segmentation) };
    frame
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|i| (i * 13 + i / 256) as u8).collect()
}

/// Everything that arrives until `datagrams` came: merged frames with their VXLAN header, and the calls they took.
fn receive(tunnel: &mut Tunnel, datagrams: u32) -> (Vec<Frame>, u64) {
    let calls = tunnel.counters.tunnel_rx_calls;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    let (mut frames, mut seen) = (Vec::new(), 0);
    while seen < datagrams {
        assert!(std::time::Instant::now() < deadline, "{seen} of {datagrams} datagrams came");
        let mut first = Frame::with_capacity(FRAME_MAX_BYTES);
        let Some(received) = tunnel.receive(0, &mut first) else { continue };
        assert!(!received.truncated);
        assert_eq!(received.sender, A.parse::<IpAddr>().expect("an address"));
        let stride = received.segment_bytes.unwrap_or(0);
        let mut rest = Vec::new();
        let take = || Frame::with_capacity(FRAME_MAX_BYTES);
        let report = wire::merge_received(&mut first, stride, vxlan::HEADER_BYTES, take, &mut rest);
        assert_eq!(report.bad_checksum, 0);
        seen += report.datagrams;
        frames.push(first);
        frames.append(&mut rest);
    }
    (frames, tunnel.counters.tunnel_rx_calls - calls)
}

/// The UDP payload of a received frame.
fn payload(frame: &Frame) -> &[u8] {
    let inner = &frame.bytes()[vxlan::HEADER_BYTES..];
    let packet = Packet::check(inner).expect("a good packet");
    &inner[usize::from(packet.payload_offset)..packet.end as usize]
}

fn drops(switch: &Switch) -> Vec<(DropReason, u64)> {
    switch.counters().shell
}

#[test]
fn a_super_frame_crosses_in_few_calls_and_arrives_as_one_again() {
    namespace::run(|| {
        let (mut a, mut b) = pair(A, B);
        let mut switch = switch();
        let sent = bytes(60_000);
        a.send(NOW, PeerId(0), &mut super_frame(&sent, 1_400), &mut switch);
        assert_eq!((a.counters.tunnel_tx_datagrams, a.counters.tunnel_tx_calls), (43, 1));
        let (frames, calls) = receive(&mut b, 43);
        assert_eq!((frames.len(), calls), (1, 1), "UDP_GRO and merging undo the segmentation");
        assert!(payload(&frames[0]) == sent);
        assert!(drops(&switch).is_empty());
    });
}

#[test]
fn small_frames_of_a_peer_leave_in_one_call_and_in_order() {
    namespace::run(|| {
        let (mut a, mut b) = pair(A, B);
        let mut switch = switch();
        for number in 0..20u8 {
            a.send(NOW, PeerId(0), &mut frame(&build::udp(&ends(), &[number; 64])), &mut switch);
        }
        a.send(NOW, PeerId(0), &mut frame(&build::udp(&ends(), &[20; 10])), &mut switch);
        assert_eq!(a.counters.tunnel_tx_calls, 0, "they wait for the flush");
        a.flush(NOW, &mut switch);
        assert_eq!((a.counters.tunnel_tx_datagrams, a.counters.tunnel_tx_calls), (21, 1));
        let (frames, _) = receive(&mut b, 21);
        let all: Vec<u8> = frames.iter().flat_map(payload).copied().collect();
        let expected: Vec<u8> = (0..20u8).flat_map(|number| [number; 64]).chain([20; 10]).collect();
        assert!(all == expected);
    });
}

#[test]
fn a_super_frame_does_not_overtake_what_waits() {
    namespace::run(|| {
        let (mut a, mut b) = pair(A, B);
        let mut switch = switch();
        a.send(NOW, PeerId(0), &mut frame(&build::udp(&ends(), b"first")), &mut switch);
        a.send(NOW, PeerId(0), &mut super_frame(&bytes(5_000), 1_000), &mut switch);
        a.flush(NOW, &mut switch);
        let (frames, _) = receive(&mut b, 6);
        assert_eq!(payload(&frames[0]), b"first");
    });
}

#[test]
fn one_by_one_where_the_device_cannot_segment() {
    namespace::run(|| {
        let (mut a, mut b) = pair(A, B);
        // A device without checksum offload: the kernel refuses UDP_SEGMENT there.
        sh("ethtool -K lo tx-checksum-ip-generic off 2>/dev/null || ethtool -K lo tx off");
        let mut switch = switch();
        let sent = bytes(10_000);
        a.send(NOW, PeerId(0), &mut super_frame(&sent, 1_400), &mut switch);
        let (frames, _) = receive(&mut b, 8);
        assert_eq!(a.counters.tunnel_tx_datagrams, 8);
        let all: Vec<u8> = frames.iter().flat_map(payload).copied().collect();
        assert!(all == sent);
    });
}

#[test]
fn a_packet_above_the_tunnel_mtu_is_cut_if_it_may_be() {
    namespace::run(|| {
        let (mut a, mut b) = pair(A, B);
        let mut switch = switch();
        let mut large = frame(&build::udp(&ends(), &bytes(4_000)));
        // The builder sets DF, the third word's high byte; the header checksum follows.
        large.bytes_mut()[20] &= !0x40;
        let sum = u16::from_be_bytes([large.bytes()[24], large.bytes()[25]]) + 0x4000;
        large.bytes_mut()[24..26].copy_from_slice(&sum.to_be_bytes());
        a.send(NOW, PeerId(0), &mut large, &mut switch);
        a.flush(NOW, &mut switch);
        let (frames, _) = receive(&mut b, 3);
        let packets: Vec<_> = frames
            .iter()
            .map(|frame| Packet::check(&frame.bytes()[vxlan::HEADER_BYTES..]).expect("a good packet"))
            .collect();
        assert!(packets.iter().all(|packet| packet.is_fragment() && packet.ip_len_bytes() <= usize::from(MTU)));
        assert!(drops(&switch).is_empty());
    });
}

#[test]
fn a_datagram_above_the_path_mtu_is_counted_and_never_fragmented() {
    namespace::run(|| {
        let (mut a, _b) = pair(A, B);
        sh("ip link set lo mtu 1400");
        let mut switch = switch();
        a.send(NOW, PeerId(0), &mut frame(&build::udp(&ends(), &bytes(1_400))), &mut switch);
        a.flush(NOW, &mut switch);
        assert_eq!(a.counters.tunnel_tx_too_big, 1);
        assert_eq!(drops(&switch), [(DropReason::TunnelSendFailed, 1)]);
    });
}

#[test]
fn an_underlay_without_a_route_is_counted_and_not_fatal() {
    namespace::run(|| {
        let (mut a, _b) = pair(A, B);
        let elsewhere = vec!["192.0.2.1".parse().expect("an address")];
        let peer = Peer { name: "far".into(), underlay: elsewhere, vtep_mac: MacAddr::local(9), pod_cidrs: Vec::new() };
        a.set_peers(&Peers::new(vec![peer]), vxlan::VXLAN_PORT);
        let mut switch = switch();
        a.send(NOW, PeerId(0), &mut frame(&build::udp(&ends(), b"lost")), &mut switch);
        a.flush(NOW, &mut switch);
        assert_eq!(drops(&switch), [(DropReason::TunnelSendFailed, 1)]);
    });
}

#[test]
fn o09_congestion_marks_cross_in_the_outer_header() {
    namespace::run(|| {
        let (mut a, mut b) = pair(A, B);
        let mut switch = switch();
        let mut marked = frame(&build::udp(&ends(), b"marked"));
        let packet = Packet::check(marked.bytes()).expect("a good packet");
        edit::set_ecn(&mut marked, &packet, ecn::CE);
        a.send(NOW, PeerId(0), &mut marked, &mut switch);
        a.flush(NOW, &mut switch);
        let mut received = frame(&[]);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        let class = loop {
            assert!(std::time::Instant::now() < deadline, "nothing came");
            if let Some(received) = b.receive(0, &mut received) {
                break received.traffic_class;
            }
        };
        assert_eq!(class, ecn::CE);
    });
}

#[test]
fn o09_a_mark_of_the_underlay_reaches_the_inner_packet_or_drops_it() {
    let mut deaf = frame(&build::udp(&ends(), b"deaf"));
    assert_eq!(pop_ecn(&mut deaf, ecn::CE), Err(DropReason::Congested));
    let mut capable = frame(&build::udp(&ends(), b"capable"));
    let packet = Packet::check(capable.bytes()).expect("a good packet");
    edit::set_ecn(&mut capable, &packet, ecn::ECT_0);
    assert_eq!(pop_ecn(&mut capable, ecn::CE), Ok(()));
    assert_eq!(Packet::check(capable.bytes()).expect("a good packet").traffic_class & ecn::MASK, ecn::CE);
}

#[test]
fn the_port_of_another_program_is_found_out() {
    namespace::run(|| {
        sh("ip link set lo up");
        let address: IpAddr = A.parse().expect("an address");
        assert!(Tunnel::probe(address, vxlan::VXLAN_PORT).is_ok());
        let other = Tunnel::open(&config(A), MTU).expect("the sockets open");
        let refused = Tunnel::probe(address, vxlan::VXLAN_PORT).expect_err("the port is taken");
        assert!(matches!(refused, StartError::PortInUse(..)), "{refused}");
        drop(other);
        let refused = Tunnel::probe("192.0.2.7".parse().expect("an address"), 4789).expect_err("not our address");
        assert!(matches!(refused, StartError::AddressNotLocal(_)), "{refused}");
    });
}
