use super::*;
use crate::mtu::pod_mtu;
use etherparse::PacketBuilder;
use std::collections::BTreeSet;
use std::net::IpAddr;
use wire::{Checksum, Offload, Segmentation, SegmentationKind, merge_received};

fn vni() -> Vni {
    Vni::new(1).unwrap()
}

fn udp(src_port: u16, payload: &[u8]) -> Frame {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 244, 1, 2], [10, 244, 2, 3], 63)
        .udp(src_port, 53)
        .write(&mut bytes, payload)
        .unwrap();
    Frame::from_bytes(&bytes)
}

fn tcp6(payload: &[u8]) -> Frame {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv6([0xfd; 16], [0xfc; 16], 63)
        .tcp(40_000, 80, 1, 1_000)
        .ack(7)
        .psh()
        .write(&mut bytes, payload)
        .unwrap();
    Frame::from_bytes(&bytes)
}

fn datagrams(frame: &mut Frame) -> Vec<Vec<u8>> {
    let outgoing = Outgoing::new(frame, vni()).unwrap();
    let datagram = |index| {
        let mut out = vec![0; outgoing.prefix_len()];
        outgoing.write_prefix(index, &mut out);
        out.extend_from_slice(outgoing.payload(index));
        assert!(out.len() <= outgoing.stride());
        out
    };
    (0..outgoing.count()).map(datagram).collect()
}

#[test]
fn an_ordinary_frame_is_one_datagram_behind_the_header_of_rfc_7348() {
    let mut frame = udp(1_000, b"hello");
    let sent = datagrams(&mut frame);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0][..8], [0x08, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(&sent[0][8..], frame.bytes());
}

#[test]
fn a_partial_checksum_is_finished_before_the_tunnel() {
    let whole = udp(1_000, b"hello");
    let mut frame = whole.clone();
    frame.bytes_mut()[40..42].copy_from_slice(&[0x12, 0x34]);
    frame.offload.checksum = Checksum::Partial;
    assert_eq!(&datagrams(&mut frame)[0][8..], whole.bytes());
}

#[test]
fn o17_a_super_frame_crosses_the_tunnel_and_is_merged_again() {
    let payload: Vec<u8> = (0..5_000u32).map(|i| i as u8).collect();
    let mut frame = tcp6(&payload);
    let size_bytes = pod_mtu(1_500, "fd00::1".parse().unwrap()) - 60;
    let segmentation = Segmentation { kind: SegmentationKind::Tcp, size_bytes, ecn: false };
    frame.offload = Offload { checksum: Checksum::Partial, segmentation: Some(segmentation) };
    let sent = datagrams(&mut frame);
    // Outer IPv6 and UDP headers fill the underlay's MTU exactly.
    assert_eq!((sent.len(), sent[0].len() + 48), (4, 1_500));
    let mut received = Frame::from_bytes(&sent.concat());
    let mut rest = Vec::new();
    let report = merge_received(&mut received, sent[0].len(), HEADER_BYTES, || Frame::with_capacity(65_535), &mut rest);
    assert_eq!((report.frames, report.datagrams, report.bad_checksum), (1, 4, 0));
    assert_eq!(received.bytes()[68 + 14..].len(), frame.len() - 74);
    assert_eq!(received.bytes()[8 + 74..], payload);
    assert_eq!(received.offload, frame.offload);
}

#[test]
fn what_is_no_ip_packet_has_no_datagram() {
    assert!(Outgoing::new(&mut Frame::from_bytes(&[0; 60]), vni()).is_err());
    let mut contradiction = udp(1, b"");
    let segmentation = Segmentation { kind: SegmentationKind::Udp, size_bytes: 100, ecn: false };
    contradiction.offload = Offload { checksum: Checksum::Partial, segmentation: Some(segmentation) };
    assert_eq!(Outgoing::new(&mut contradiction, vni()).err(), Some(Malformed::BadOffload));
}

#[test]
fn o06_flows_spread_over_source_ports_and_a_flow_keeps_its_own() {
    let port = |src_port, payload: &[u8]| {
        source_port(Outgoing::new(&mut udp(src_port, payload), vni()).unwrap().flow_hash(), &SOURCE_PORTS)
    };
    let ports: BTreeSet<u16> = (1..=100).map(|src_port| port(src_port, b"a")).collect();
    assert!(ports.len() > 90 && ports.iter().all(|port| SOURCE_PORTS.contains(port)), "{ports:?}");
    assert_eq!(port(5, b"one"), port(5, b"another"));
}

#[test]
fn o06_all_fragments_of_a_datagram_take_one_path() {
    let fragment = |offset: u8, more: bool| {
        let mut frame = udp(5, &[0; 16]);
        let ip = &mut frame.bytes_mut()[14..34];
        (ip[6], ip[7]) = (if more { 0x20 } else { 0 }, offset);
        ip[10..12].fill(0);
        let sum = !wire::checksum::sum(ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        Outgoing::new(&mut frame, vni()).unwrap().flow_hash()
    };
    assert_eq!(fragment(0, true), fragment(3, false));
}

#[test]
fn o06_a_range_of_one_port_and_the_ends_of_a_range_are_reached() {
    assert_eq!(source_port(u64::MAX, &(7..=7)), 7);
    assert_eq!((source_port(0, &(10..=25)), source_port(u64::MAX, &(10..=25))), (10, 25));
    assert_eq!((source_port(0, &(0..=65_535)), source_port(u64::MAX, &(0..=65_535))), (0, 65_535));
}

#[test]
fn o09_congestion_marks_reach_the_outer_header() {
    let mut frame = udp(5, b"x");
    frame.bytes_mut()[15] = 0xb8 | ecn::ECT_0;
    let ip = &mut frame.bytes_mut()[14..34];
    ip[10..12].fill(0);
    let sum = !wire::checksum::sum(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(Outgoing::new(&mut frame, vni()).unwrap().traffic_class(), ecn::ECT_0);
}

#[test]
fn an_inner_packet_of_the_pod_mtu_fills_the_underlay() {
    for (underlay, outer_ip) in [("172.30.0.11", 20), ("fd00::1", 40)] {
        let underlay: IpAddr = underlay.parse().unwrap();
        let mut frame = udp(1, &vec![0; usize::from(pod_mtu(1_500, underlay)) - 28]);
        assert_eq!(datagrams(&mut frame)[0].len() + 8 + outer_ip, 1_500);
    }
}
