//! Who gets which answer.

use super::*;
use crate::build::{self, Echo, Ends, Tcp};
use crate::checksum::verify_l4;
use crate::{FlowKey, NeighborMessage};

const GATEWAY: MacAddr = MacAddr([0x0a, 0x70, 0x6f, 0x64, 0, 1]);

fn v4() -> Ends {
    Ends::new("10.244.0.5:40000".parse().unwrap(), "10.96.0.1:80".parse().unwrap())
}

fn v6() -> Ends {
    Ends::new("[fd00::5]:40000".parse().unwrap(), "[fd00:96::1]:80".parse().unwrap())
}

fn checked(bytes: &[u8]) -> (Frame, Packet) {
    (Frame::from_bytes(bytes), Packet::check(bytes).expect("the test made a packet"))
}

fn recheck(frame: &Frame) -> Packet {
    let packet = Packet::check(frame.bytes()).expect("an answer is a packet");
    assert!(verify_l4(frame.bytes(), &packet), "{packet:?}");
    packet
}

fn quoted(packet: &Packet) -> Option<FlowKey> {
    match packet.l4 {
        L4::Icmp { meaning: IcmpKind::Error { quoted }, .. } => quoted,
        _ => panic!("no error: {packet:?}"),
    }
}

/// The TCP sequence and acknowledgment numbers and flags.
fn tcp_numbers(frame: &Frame, packet: &Packet) -> (u32, u32, u8) {
    let tcp = &frame.bytes()[usize::from(packet.l4_offset)..];
    let number = |at: usize| u32::from_be_bytes(*tcp[at..].first_chunk().unwrap());
    (number(4), number(8), tcp[13])
}

#[test]
fn an_arp_question_gets_the_mac() {
    let bytes = build::arp_request(MacAddr::local(7), [10, 244, 0, 5].into(), [10, 244, 0, 1].into());
    let request = ArpPacket::check(&bytes).unwrap();
    let mut frame = Frame::from_bytes(&bytes);
    arp_reply(&mut frame, &request, GATEWAY);
    let reply = ArpPacket::check(frame.bytes()).unwrap();
    assert_eq!(reply.operation, crate::ArpOperation::Reply);
    assert_eq!((reply.sender_mac, reply.sender_ip), (GATEWAY, [10, 244, 0, 1].into()));
    let ethernet = Ethernet::check(frame.bytes()).unwrap();
    assert_eq!((ethernet.dst, ethernet.src), (MacAddr::local(7), GATEWAY));
}

#[test]
fn a_neighbor_solicitation_gets_the_mac() {
    let (pod, target) = ("fd00::5".parse().unwrap(), "fd00::1".parse().unwrap());
    let (mut frame, packet) = checked(&build::neighbor_solicitation(MacAddr::local(7), pod, target));
    assert_eq!(
        NeighborMessage::check(frame.bytes(), &packet),
        Ok(Some(NeighborMessage::Solicitation {
            target,
            source_mac: Some(MacAddr::local(7)),
            duplicate_detection: false
        }))
    );
    neighbor_advertisement(&mut frame, &packet, target, GATEWAY);
    let answer = recheck(&frame);
    assert_eq!((answer.src, answer.dst, answer.ttl), (target.into(), pod.into(), 255));
    assert_eq!(
        NeighborMessage::check(frame.bytes(), &answer),
        Ok(Some(NeighborMessage::Advertisement { target, target_mac: Some(GATEWAY) }))
    );
    assert_eq!(frame.bytes()[usize::from(answer.l4_offset) + 4], 0xe0, "router, solicited, override");
}

#[test]
fn duplicate_address_detection_is_recognized() {
    let target = "fd00::5".parse().unwrap();
    let bytes = build::neighbor_solicitation(MacAddr::local(7), Ipv6Addr::UNSPECIFIED, target);
    let (mut frame, packet) = checked(&bytes);
    assert_eq!(
        NeighborMessage::check(&bytes, &packet),
        Ok(Some(NeighborMessage::Solicitation { target, source_mac: None, duplicate_detection: true }))
    );
    neighbor_advertisement(&mut frame, &packet, target, GATEWAY);
    assert_eq!(recheck(&frame).dst, "ff02::1".parse::<IpAddr>().unwrap());
}

#[test]
fn neighbor_discovery_from_behind_a_router_is_not_believed() {
    let bytes = build::neighbor_solicitation(MacAddr::local(7), "fd00::5".parse().unwrap(), "fd00::1".parse().unwrap());
    let (mut frame, packet) = checked(&bytes);
    edit::decrement_ttl(&mut frame, &packet);
    let packet = Packet::check(frame.bytes()).unwrap();
    assert_eq!(NeighborMessage::check(frame.bytes(), &packet), Err(crate::Malformed::BadHeader));
}

#[test]
fn a_ping_comes_back_as_it_was() {
    for ends in [v4(), v6()] {
        let (mut frame, packet) =
            checked(&build::echo(&Ends { ttl: 3, ..ends }, Echo::Request, 9, 4, b"are you there"));
        echo_reply(&mut frame, &packet);
        assert_eq!(frame.bytes(), build::echo(&ends.reverse(), Echo::Reply, 9, 4, b"are you there"));
    }
}

#[test]
fn a_ping_of_zeros_comes_back_with_a_right_checksum() {
    let (mut frame, packet) = checked(&build::echo(&v4(), Echo::Request, 0, 0, &[0; 8]));
    echo_reply(&mut frame, &packet);
    assert_eq!(frame.bytes(), build::echo(&v4().reverse(), Echo::Reply, 0, 0, &[0; 8]));
    recheck(&frame);
}

#[test]
fn errors_have_the_codes_of_their_family() {
    let cases = [
        (IcmpError::NetUnreachable, (3, 0), (1, 0)),
        (IcmpError::HostUnreachable, (3, 1), (1, 3)),
        (IcmpError::PortUnreachable, (3, 3), (1, 4)),
        (IcmpError::Prohibited, (3, 13), (1, 1)),
        (IcmpError::TooBig { mtu: 1_450 }, (3, 4), (2, 0)),
        (IcmpError::TtlExceeded, (11, 0), (3, 0)),
    ];
    for (error, in_v4, in_v6) in cases {
        for (ends, expected, from) in [(v4(), in_v4, "10.244.0.1"), (v6(), in_v6, "fd00::1")] {
            let (mut frame, packet) = checked(&build::udp(&ends, b"question"));
            icmp_error(&mut frame, &packet, error, from.parse().unwrap());
            let answer = recheck(&frame);
            let L4::Icmp { kind, code, .. } = answer.l4 else { panic!("{answer:?}") };
            assert_eq!(((kind, code), answer.src), (expected, from.parse().unwrap()), "{error:?}");
            assert_eq!(quoted(&answer), Some(packet.flow()));
            if let IcmpError::TooBig { mtu } = error {
                let l4 = usize::from(answer.l4_offset);
                assert_eq!(frame.bytes()[l4 + 6..l4 + 8], mtu.to_be_bytes());
            }
        }
    }
}

#[test]
fn an_error_quotes_as_much_as_its_family_allows() {
    for (ends, longest) in [(v4(), 576), (v6(), 1_280)] {
        let bytes = build::udp(&ends, &[7; 9_000]);
        let (mut frame, packet) = checked(&bytes);
        icmp_error(&mut frame, &packet, IcmpError::TooBig { mtu: 1_450 }, ends.dst.ip());
        let answer = recheck(&frame);
        assert_eq!(answer.ip_len_bytes(), longest);
        let quote = usize::from(answer.l4_offset) + 8;
        assert!(bytes[14..].starts_with(&frame.bytes()[quote..]));
    }
}

#[test]
fn an_error_about_a_padded_super_frame_is_an_ordinary_frame() {
    let mut bytes = build::tcp(&v4(), &Tcp::flags(flag::ACK), b"x");
    bytes.resize(60, 0);
    let (mut frame, packet) = checked(&bytes);
    frame.offload.checksum = Checksum::Partial;
    icmp_error(&mut frame, &packet, IcmpError::TtlExceeded, v4().dst.ip());
    assert_eq!(frame.offload, Offload { checksum: Checksum::Verified, segmentation: None });
    assert_eq!(recheck(&frame).ip_len_bytes(), 20 + 8 + 41, "padding is not quoted");
}

#[test]
fn some_packets_get_no_error() {
    let refused = |bytes: &[u8]| !may_answer_with_error(bytes, &Packet::check(bytes).unwrap());
    assert!(!refused(&build::udp(&v4(), b"x")));
    assert!(!refused(&build::echo(&v6(), Echo::Request, 1, 1, b"x")));

    let (mut frame, packet) = checked(&build::udp(&v4(), b"x"));
    icmp_error(&mut frame, &packet, IcmpError::TtlExceeded, v4().dst.ip());
    assert!(refused(frame.bytes()), "an error");
    assert!(refused(&build::ip(&v4(), Protocol::ICMP, &[5, 0, 0, 0, 0, 0, 0, 0])), "a redirect");
    assert!(refused(&build::ip(&v6(), Protocol::ICMPV6, &[100, 0, 0, 0])), "an error of unknown type");
    let multicast = Ends { dst: "224.0.0.251:5353".parse().unwrap(), ..v4() };
    assert!(refused(&build::udp(&multicast, b"x")), "multicast");
    let broadcast = Ends { dst_mac: MacAddr::BROADCAST, ..v4() };
    assert!(refused(&build::udp(&broadcast, b"x")), "a link-layer broadcast");
    let nobody = Ends { src: "0.0.0.0:68".parse().unwrap(), ..v4() };
    assert!(refused(&build::udp(&nobody, b"x")), "a sender without an address");
}

#[test]
fn a_syn_to_a_closed_port_is_reset_with_its_sequence_acknowledged() {
    for ends in [v4(), v6()] {
        let syn = Tcp { sequence: 1_000, options: &[2, 4, 5, 0xb4], ..Tcp::flags(flag::SYN) };
        let (mut frame, packet) = checked(&build::tcp(&ends, &syn, b"early"));
        assert!(tcp_reset(&mut frame, &packet));
        let reset = recheck(&frame);
        assert_eq!(reset.flow(), packet.flow().reverse());
        assert_eq!(tcp_numbers(&frame, &reset), (0, 1_006, flag::RST | flag::ACK));
    }
}

#[test]
fn an_acknowledgment_is_reset_where_the_sender_expects_it() {
    let ack = Tcp { sequence: 1_000, acknowledgment: 77, ..Tcp::flags(flag::ACK | flag::FIN) };
    let (mut frame, packet) = checked(&build::tcp(&v4(), &ack, b"data"));
    assert!(tcp_reset(&mut frame, &packet));
    assert_eq!(tcp_numbers(&frame, &recheck(&frame)), (77, 0, flag::RST));
}

#[test]
fn a_reset_is_not_answered() {
    let bytes = build::tcp(&v4(), &Tcp::flags(flag::RST | flag::ACK), b"");
    let (mut frame, packet) = checked(&bytes);
    assert!(!tcp_reset(&mut frame, &packet));
    assert_eq!(frame.bytes(), bytes);
}

#[test]
fn an_init_to_a_closed_port_is_aborted_with_its_own_tag() {
    let init = [1, 0, 0, 20, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0x10, 0, 0, 1, 0, 1, 0, 0, 0, 1];
    let (mut frame, packet) = checked(&build::sctp(&v4(), 0, &init));
    assert!(sctp_abort(&mut frame, &packet));
    let abort = recheck(&frame);
    assert_eq!(abort.flow(), packet.flow().reverse());
    let sctp = &frame.bytes()[usize::from(abort.l4_offset)..];
    assert_eq!((&sctp[4..8], &sctp[12..]), (&[0xde, 0xad, 0xbe, 0xef][..], &[chunk::ABORT, 0, 0, 4][..]));
}

#[test]
fn data_out_of_the_blue_is_aborted_with_the_tag_reflected() {
    let (mut frame, packet) = checked(&build::sctp(&v4(), 0x0102_0304, &[0, 3, 0, 8, 1, 2, 3, 4]));
    assert!(sctp_abort(&mut frame, &packet));
    let sctp = &frame.bytes()[usize::from(recheck(&frame).l4_offset)..];
    assert_eq!((&sctp[4..8], &sctp[12..]), (&[1, 2, 3, 4][..], &[chunk::ABORT, 1, 0, 4][..]));
    let bundled = build::sctp(&v4(), 7, &[0, 3, 0, 5, 1, 0, 0, 0, chunk::ABORT, 0, 0, 4]);
    let (mut frame, packet) = checked(&bundled);
    assert!(!sctp_abort(&mut frame, &packet), "an abort is never answered, wherever it stands");
}
