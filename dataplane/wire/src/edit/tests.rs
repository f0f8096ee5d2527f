//! Translation by example; [`crate::invariants`] holds the laws.

use super::*;
use crate::build::{self, Echo, Ends, Tcp};
use crate::checksum::verify_l4;
use crate::ipv4;
use crate::tcp::flag;
use crate::{IcmpError, craft};
use std::net::SocketAddr;

const POD: &str = "10.244.0.5:40000";
const VIP: &str = "10.96.0.1:80";
const BACKEND: &str = "10.244.1.7:8080";

fn ends(src: &str, dst: &str) -> Ends {
    Ends::new(src.parse().unwrap(), dst.parse().unwrap())
}

fn flow(protocol: Protocol, src: &str, dst: &str) -> FlowKey {
    let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    FlowKey::new(protocol, src.ip(), src.port(), dst.ip(), dst.port())
}

fn checked(bytes: &[u8]) -> (Frame, Packet) {
    (Frame::from_bytes(bytes), Packet::check(bytes).expect("the test made a packet"))
}

/// Checks the frame again, its transport checksum too.
fn recheck(frame: &Frame) -> Packet {
    let packet = Packet::check(frame.bytes()).expect("still a packet");
    assert!(verify_l4(frame.bytes(), &packet), "{packet:?}");
    packet
}

#[test]
fn a_client_is_sent_to_a_backend_and_the_answer_comes_from_the_service() {
    for (protocol, request) in [
        (Protocol::TCP, build::tcp(&ends(POD, VIP), &Tcp::flags(flag::SYN), b"")),
        (Protocol::UDP, build::udp(&ends(POD, VIP), b"question")),
        (Protocol::SCTP, build::sctp(&ends(POD, VIP), 1, &[1, 0, 0, 4])),
    ] {
        let (mut frame, packet) = checked(&request);
        rewrite(&mut frame, &packet, &flow(protocol, POD, BACKEND));
        assert_eq!(recheck(&frame).flow(), flow(protocol, POD, BACKEND));
    }
    let (mut frame, packet) = checked(&build::tcp(&ends(BACKEND, POD), &Tcp::flags(flag::ACK), b"answer"));
    rewrite(&mut frame, &packet, &flow(Protocol::TCP, VIP, POD));
    assert_eq!(recheck(&frame).flow(), flow(Protocol::TCP, VIP, POD));
}

#[test]
fn a_rewrite_does_not_repair_a_corrupt_packet() {
    for mut bytes in [
        build::tcp(&ends(POD, VIP), &Tcp::flags(flag::ACK), b"payload"),
        build::udp(&ends(POD, VIP), b"payload"),
        build::sctp(&ends(POD, VIP), 1, &[0, 3, 0, 8, 1, 2, 3, 4]),
        build::echo(&ends(POD, VIP), Echo::Request, 1, 1, b"payload"),
    ] {
        *bytes.last_mut().unwrap() ^= 1;
        let (mut frame, packet) = checked(&bytes);
        rewrite(&mut frame, &packet, &flow(packet.protocol, POD, BACKEND));
        let after = Packet::check(frame.bytes()).unwrap();
        assert!(!verify_l4(frame.bytes(), &after), "{after:?}");
    }
}

#[test]
fn a_missing_udp_checksum_stays_missing() {
    let mut bytes = build::udp(&ends(POD, VIP), b"question");
    bytes[40..42].fill(0);
    let (mut frame, packet) = checked(&bytes);
    rewrite(&mut frame, &packet, &flow(Protocol::UDP, POD, BACKEND));
    assert_eq!(frame.bytes()[40..42], [0, 0]);
    assert_eq!(recheck(&frame).flow(), flow(Protocol::UDP, POD, BACKEND));
}

#[test]
fn ports_do_not_change_a_partial_checksum_and_addresses_do() {
    let bytes = build::tcp(&ends(POD, VIP), &Tcp::flags(flag::ACK), b"payload");
    let (mut frame, packet) = checked(&bytes);
    let pseudo = |packet: &Packet| checksum::pseudo_header(packet.src, packet.dst, Protocol::TCP, 27).to_be_bytes();
    frame.bytes_mut()[50..52].copy_from_slice(&pseudo(&packet));
    frame.offload.checksum = Checksum::Partial;
    rewrite(&mut frame, &packet, &flow(Protocol::TCP, POD, "10.96.0.1:8080"));
    assert_eq!(frame.bytes()[50..52], pseudo(&packet), "only the port changed");
    let packet = Packet::check(frame.bytes()).unwrap();
    rewrite(&mut frame, &packet, &flow(Protocol::TCP, POD, BACKEND));
    let packet = Packet::check(frame.bytes()).unwrap();
    assert_eq!(frame.bytes()[50..52], pseudo(&packet), "the address changed");
    checksum::finish_partial(&mut frame, &packet);
    assert_eq!(recheck(&frame).flow(), flow(Protocol::TCP, POD, BACKEND));
    assert_eq!(frame.offload.checksum, Checksum::Verified);
}

#[test]
fn a_later_fragment_changes_its_addresses_only() {
    let mut bytes = build::raw_ip(&ends(POD, VIP), Protocol::UDP, b"middle of a datagram....");
    bytes[20..22].copy_from_slice(&[0x20, 9]);
    bytes[24..26].fill(0);
    let field = !checksum::sum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&field.to_be_bytes());
    let (mut frame, packet) = checked(&bytes);
    rewrite(&mut frame, &packet, &flow(Protocol::UDP, POD, BACKEND));
    assert_eq!(recheck(&frame).flow(), flow(Protocol::UDP, "10.244.0.5:0", "10.244.1.7:0"));
    assert_eq!(frame.bytes()[34..], bytes[34..]);
}

#[test]
fn an_echo_changes_its_identifier() {
    for (src, dst, node) in
        [("10.244.0.5:0", "1.1.1.1:0", "172.30.0.11:77"), ("[fd00::5]:0", "[2606::1]:0", "[fd00:172::11]:77")]
    {
        let (mut frame, packet) = checked(&build::echo(&ends(src, dst), Echo::Request, 5, 1, b"ping"));
        let to = flow(packet.protocol, node, dst);
        rewrite(&mut frame, &packet, &to);
        let after = recheck(&frame);
        assert_eq!((after.src, after.flow().src_port), (to.src(), 77));
        let (mut frame, packet) = checked(&build::echo(&ends(dst, node), Echo::Reply, 77, 1, b"ping"));
        let to = FlowKey::new(packet.protocol, packet.src, 5, src.parse::<SocketAddr>().unwrap().ip(), 5);
        rewrite(&mut frame, &packet, &to);
        assert_eq!(recheck(&frame).flow(), to);
    }
}

#[test]
fn an_icmp_error_from_behind_a_service_is_right_outside_and_inside() {
    for (pod, vip, backend, router) in
        [(POD, VIP, BACKEND, "192.0.2.1"), ("[fd00::5]:40000", "[fd00:96::1]:80", "[fd00:1::7]:8080", "2001:db8::1")]
    {
        // The pod's packet was sent on to the backend; a router on the way complains to the pod about that packet.
        let (mut frame, packet) = checked(&build::tcp(&ends(pod, backend), &Tcp::flags(flag::SYN), b"hello"));
        craft::icmp_error(&mut frame, &packet, IcmpError::TooBig { mtu: 1_400 }, router.parse().unwrap());
        let error = Packet::check(frame.bytes()).unwrap();
        rewrite_quoted(&mut frame, &error, &flow(Protocol::TCP, pod, vip));
        let seen = recheck(&frame);
        assert_eq!(seen.src, router.parse::<IpAddr>().unwrap());
        let L4::Icmp { meaning: IcmpKind::Error { quoted }, .. } = seen.l4 else { panic!("{seen:?}") };
        assert_eq!(quoted, Some(flow(Protocol::TCP, pod, vip)));

        // The quote is the packet that the pod sent, checksums and all.
        let sent = build::tcp(&ends(pod, vip), &Tcp::flags(flag::SYN), b"hello");
        let quote = usize::from(seen.l4_offset) + 8;
        assert_eq!(frame.bytes()[quote..], sent[14..]);
    }
}

#[test]
fn a_short_quote_is_rewritten_as_far_as_it_goes() {
    let quoted = &build::tcp(&ends(POD, BACKEND), &Tcp::flags(flag::SYN), b"")[14..14 + 28];
    let message = [&[3, 4, 0, 0, 0, 0, 5, 0x78], quoted].concat();
    let (mut frame, packet) = checked(&build::ip(&ends("192.0.2.1:0", POD), Protocol::ICMP, &message));
    rewrite_quoted(&mut frame, &packet, &flow(Protocol::TCP, POD, VIP));
    let L4::Icmp { meaning: IcmpKind::Error { quoted }, .. } = recheck(&frame).l4 else { panic!() };
    assert_eq!(quoted, Some(flow(Protocol::TCP, POD, VIP)));
    let inner = usize::from(packet.l4_offset) + 8;
    assert_eq!(checksum::sum(&frame.bytes()[inner..inner + ipv4::IPV4_HEADER_BYTES]), 0xffff);
}

#[test]
fn a_hop_takes_one_from_the_ttl_and_none_from_zero() {
    for ends in [ends(POD, VIP), ends("[fd00::5]:1", "[fd00::6]:2")] {
        let (mut frame, packet) = checked(&build::udp(&ends, b"x"));
        decrement_ttl(&mut frame, &packet);
        assert_eq!(recheck(&frame).ttl, 63);
        let (mut frame, packet) = checked(&build::udp(&Ends { ttl: 0, ..ends }, b"x"));
        decrement_ttl(&mut frame, &packet);
        assert_eq!(recheck(&frame).ttl, 0);
    }
}

#[test]
fn ecn_is_set_without_touching_the_dscp() {
    for ends in [ends(POD, VIP), ends("[fd00::5]:1", "[fd00::6]:2")] {
        let (mut frame, packet) = checked(&build::udp(&ends, b"x"));
        set_ecn(&mut frame, &packet, 0b10);
        let packet = recheck(&frame);
        assert_eq!(packet.traffic_class, 0b10);
        set_ecn(&mut frame, &packet, 0b11);
        assert_eq!(recheck(&frame).traffic_class, 0b11);
    }
}

#[test]
fn macs_are_set_in_wire_order() {
    let (mut frame, _) = checked(&build::udp(&ends(POD, VIP), b"x"));
    set_macs(&mut frame, MacAddr([1, 2, 3, 4, 5, 6]), MacAddr([7, 8, 9, 10, 11, 12]));
    assert_eq!(frame.bytes()[..12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
}
