//! What the strict view accepts, what it refuses and why.

use super::*;
use crate::build::{self, Echo, Ends, Tcp};
use crate::checksum;
use crate::tcp::flag;

fn v4() -> Ends {
    Ends::new("10.244.0.5:40000".parse().unwrap(), "10.244.1.7:80".parse().unwrap())
}

fn v6() -> Ends {
    Ends::new("[fd00::5]:40000".parse().unwrap(), "[fd00::7]:80".parse().unwrap())
}

/// Applies `edit` to the IPv4 header (and what follows) of `frame` and makes the header checksum right again.
fn edited(mut frame: Vec<u8>, edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
    edit(&mut frame[14..]);
    let header_len = usize::from(frame[14] & 0x0f) * 4;
    if let Some(header) = frame.get_mut(14..14 + header_len).filter(|header| header.len() >= 20) {
        header[10..12].fill(0);
        let field = !checksum::sum(header);
        header[10..12].copy_from_slice(&field.to_be_bytes());
    }
    frame
}

fn check_v4(edit: impl FnOnce(&mut [u8])) -> Result<Packet, Malformed> {
    Packet::check(&edited(build::udp(&v4(), &[7; 32]), edit))
}

/// A UDP datagram behind `options` in its IPv4 header.
fn with_options(options: &[u8]) -> Vec<u8> {
    let mut frame = build::udp(&v4(), b"payload");
    frame.splice(34..34, options.iter().copied());
    let total_len = (frame.len() - 14) as u16;
    edited(frame, |ip| {
        ip[0] = 0x45 + (options.len() / 4) as u8;
        ip[2..4].copy_from_slice(&total_len.to_be_bytes());
    })
}

/// An IPv6 packet whose payload starts with header `first`.
fn extended(first: u8, payload: &[u8]) -> Result<Packet, Malformed> {
    Packet::check(&build::raw_ip(&v6(), Protocol(first), payload))
}

/// A UDP datagram without its IP header, with `before` in front.
fn udp_behind(before: &[u8]) -> Vec<u8> {
    [before, &build::udp(&v6(), b"payload")[54..]].concat()
}

#[test]
fn a_tcp_segment_is_told_with_ports_flags_and_offsets() {
    let frame = build::tcp(&v4(), &Tcp { options: &[2, 4, 5, 0xb4], ..Tcp::flags(flag::SYN) }, b"data");
    let packet = Packet::check(&frame).unwrap();
    assert_eq!(packet.l4, L4::Tcp { src_port: 40_000, dst_port: 80, flags: flag::SYN });
    assert_eq!((packet.l3_offset, packet.l4_offset, packet.payload_offset, packet.end), (14, 34, 58, 62));
    assert_eq!((packet.ttl, packet.dont_fragment, packet.fragment), (64, true, Fragment::Whole));
    assert_eq!(packet.flow().to_string(), "TCP 10.244.0.5:40000 -> 10.244.1.7:80");
    assert_eq!((packet.ip_len_bytes(), packet.payload_len_bytes()), (48, 4));
}

#[test]
fn an_echo_has_its_identifier_for_ports() {
    for ends in [v4(), v6()] {
        let packet = Packet::check(&build::echo(&ends, Echo::Request, 99, 1, b"x")).unwrap();
        assert!(matches!(packet.l4, L4::Icmp { meaning: IcmpKind::EchoRequest { id: 99 }, .. }));
        assert_eq!((packet.flow().src_port, packet.flow().dst_port), (99, 99));
    }
}

#[test]
fn ethernet_padding_is_ignored() {
    let mut frame = build::udp(&v4(), b"x");
    let packet = Packet::check(&frame);
    frame.resize(60, 0xee);
    assert_eq!(Packet::check(&frame), packet);
}

#[test]
fn lengths_must_hold_together() {
    assert_eq!(check_v4(|ip| ip[0] = 0x44), Err(Malformed::BadHeader));
    assert_eq!(check_v4(|ip| ip[0] = 0x65), Err(Malformed::BadHeader));
    assert_eq!(check_v4(|ip| ip[2..4].copy_from_slice(&19u16.to_be_bytes())), Err(Malformed::BadLength));
    assert_eq!(check_v4(|ip| ip[2..4].copy_from_slice(&61u16.to_be_bytes())), Err(Malformed::BadLength));
    assert_eq!(check_v4(|ip| ip[25] = 41), Err(Malformed::BadLength), "UDP longer than IP");
    assert_eq!(check_v4(|ip| ip[25] = 7), Err(Malformed::BadLength), "UDP shorter than its header");
    assert_eq!(Packet::check(&[0; 13]), Err(Malformed::Truncated));
}

#[test]
fn a_wrong_header_checksum_is_refused() {
    let mut frame = build::udp(&v4(), b"x");
    frame[14 + 8] -= 1;
    assert_eq!(Packet::check(&frame), Err(Malformed::BadHeaderChecksum));
}

#[test]
fn a_tcp_header_must_fit() {
    let tcp = |edit: fn(&mut [u8])| Packet::check(&edited(build::tcp(&v4(), &Tcp::flags(0), b""), edit));
    assert_eq!(tcp(|ip| ip[32] = 4 << 4), Err(Malformed::BadHeader));
    assert_eq!(tcp(|ip| ip[32] = 6 << 4), Err(Malformed::Truncated));
}

#[test]
fn source_routes_are_refused_and_other_options_pass() {
    assert_eq!(Packet::check(&with_options(&[131, 7, 4, 10, 0, 0, 1, 0])), Err(Malformed::BadOptions));
    assert_eq!(Packet::check(&with_options(&[1, 137, 7, 4, 10, 0, 0, 1])), Err(Malformed::BadOptions));
    assert_eq!(
        Packet::check(&with_options(&[7, 1, 0, 0])),
        Err(Malformed::BadOptions),
        "an option shorter than itself"
    );
    assert_eq!(Packet::check(&with_options(&[1, 1, 1, 7])), Err(Malformed::BadOptions), "an option without a length");
    assert_eq!(Packet::check(&with_options(&[7, 9, 0, 0])), Err(Malformed::BadOptions), "an option that is too long");
    let router_alert = Packet::check(&with_options(&[148, 4, 0, 0])).unwrap();
    assert_eq!((router_alert.l4_offset, router_alert.flow().dst_port), (38, 80));
    assert!(Packet::check(&with_options(&[0, 131, 3, 4])).is_ok(), "nothing counts behind the end of options");
}

#[test]
fn impossible_addresses_are_refused() {
    for src in ["127.0.0.1", "224.0.0.1", "255.255.255.255", "0.1.2.3"] {
        let ends = Ends { src: format!("{src}:1").parse().unwrap(), ..v4() };
        assert_eq!(Packet::check(&build::raw_ip(&ends, Protocol(200), b"")), Err(Malformed::BadAddress), "from {src}");
    }
    for dst in ["127.0.0.1", "0.0.0.0"] {
        let ends = Ends { dst: format!("{dst}:1").parse().unwrap(), ..v4() };
        assert_eq!(Packet::check(&build::raw_ip(&ends, Protocol(200), b"")), Err(Malformed::BadAddress), "to {dst}");
    }
    for src in ["::1", "ff02::1", "::ffff:10.0.0.1"] {
        let ends = Ends { src: format!("[{src}]:1").parse().unwrap(), ..v6() };
        assert_eq!(Packet::check(&build::raw_ip(&ends, Protocol(200), b"")), Err(Malformed::BadAddress), "from {src}");
    }
    for dst in ["::1", "::", "::ffff:10.0.0.1"] {
        let ends = Ends { dst: format!("[{dst}]:1").parse().unwrap(), ..v6() };
        assert_eq!(Packet::check(&build::raw_ip(&ends, Protocol(200), b"")), Err(Malformed::BadAddress), "to {dst}");
    }
}

#[test]
fn a_host_without_an_address_may_speak() {
    let dhcp = Ends { src: "0.0.0.0:68".parse().unwrap(), dst: "255.255.255.255:67".parse().unwrap(), ..v4() };
    assert!(Packet::check(&build::udp(&dhcp, b"discover")).is_ok());
    let mld = Ends { src: "[::]:0".parse().unwrap(), dst: "[ff02::16]:0".parse().unwrap(), ..v6() };
    let packet = Packet::check(&build::ip(&mld, Protocol::ICMPV6, &[143, 0, 0, 0, 0, 0, 0, 0])).unwrap();
    assert!(matches!(packet.l4, L4::Icmp { meaning: IcmpKind::Neighbor, .. }));
}

#[test]
fn fragments_are_told_apart() {
    let first = check_v4(|ip| ip[4..8].copy_from_slice(&[1, 2, 0x20, 0])).unwrap();
    assert_eq!(first.fragment, Fragment::First { id: 0x0102 });
    assert_eq!(first.flow().dst_port, 80);
    let middle = check_v4(|ip| ip[4..8].copy_from_slice(&[1, 2, 0x20, 5])).unwrap();
    assert_eq!(middle.fragment, Fragment::Later { id: 0x0102, offset_bytes: 40, last: false });
    assert_eq!((middle.l4, middle.flow().dst_port, middle.payload_offset), (L4::Other, 0, middle.l4_offset));
    let last = check_v4(|ip| ip[4..8].copy_from_slice(&[1, 2, 0, 5])).unwrap();
    assert_eq!(last.fragment, Fragment::Later { id: 0x0102, offset_bytes: 40, last: true });
}

#[test]
fn fragments_that_are_part_of_nothing_are_refused() {
    assert_eq!(
        check_v4(|ip| ip[6..8].copy_from_slice(&0x1fffu16.to_be_bytes())),
        Err(Malformed::BadFragment),
        "too far"
    );
    let odd = Packet::check(&edited(build::udp(&v4(), &[0; 33]), |ip| ip[6] = 0x20));
    assert_eq!(odd, Err(Malformed::BadFragment), "not a multiple of 8");
    assert_eq!(extended(44, &[17, 0, 0xff, 0xf8, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8]), Err(Malformed::BadFragment));
    let empty = Packet::check(&edited(build::raw_ip(&v4(), Protocol::UDP, b""), |ip| ip[7] = 5));
    assert_eq!(empty, Err(Malformed::BadFragment), "without data");
}

#[test]
fn a_transport_header_must_not_hide_in_a_later_fragment() {
    let tiny = Packet::check(&edited(build::raw_ip(&v4(), Protocol::TCP, &[0; 16]), |ip| ip[6] = 0x20));
    assert_eq!(tiny, Err(Malformed::BadFragment), "a first fragment with 16 bytes of TCP");
    let overwriting = Packet::check(&edited(build::raw_ip(&v4(), Protocol::TCP, &[0; 16]), |ip| ip[7] = 1));
    assert_eq!(overwriting, Err(Malformed::BadFragment), "a later fragment at byte 8 of TCP");
    let tiny = extended(44, &[6, 0, 0, 1, 0, 0, 0, 9, 0, 80, 0, 80, 0, 0, 0, 0]);
    assert_eq!(tiny, Err(Malformed::BadFragment), "the same in IPv6");
    let cut_chain = extended(44, &[60, 0, 0, 1, 0, 0, 0, 9, 6, 1, 1, 4, 0, 0, 0, 0]);
    assert_eq!(cut_chain, Err(Malformed::BadFragment), "a first fragment that ends in its extension headers");
}

#[test]
fn ipv6_extension_headers_are_followed() {
    let hop_by_hop = [60, 0, 5, 2, 0, 0, 1, 0];
    let destination = [44, 0, 1, 4, 0, 0, 0, 0];
    let fragment = [17, 0, 0, 1, 0, 0, 0, 9];
    let packet = extended(0, &udp_behind(&[hop_by_hop, destination, fragment].concat())[..32]);
    assert_eq!(packet.map(|p| (p.l4_offset, p.protocol)), Ok((54 + 24, Protocol::UDP)));
    assert_eq!(packet.map(|p| p.fragment), Ok(Fragment::First { id: 9 }));
    let atomic = extended(44, &udp_behind(&[17, 0, 0, 0, 0, 0, 0, 9])).unwrap();
    assert_eq!((atomic.fragment, atomic.flow().dst_port), (Fragment::Whole, 80));
    let later = extended(44, &[17, 0, 0, 8, 0, 0, 0, 9, 1]).unwrap();
    assert_eq!(later.fragment, Fragment::Later { id: 9, offset_bytes: 8, last: true });
}

#[test]
fn ipv6_chains_that_hide_something_are_refused() {
    assert_eq!(
        extended(60, &udp_behind(&[0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0])),
        Err(Malformed::BadOptions)
    );
    assert_eq!(extended(43, &udp_behind(&[17, 0, 0, 0, 0, 0, 0, 0])), Err(Malformed::BadOptions), "routing type 0");
    assert_eq!(extended(43, &udp_behind(&[17, 0, 4, 1, 0, 0, 0, 0])), Err(Malformed::BadOptions), "segments left");
    assert!(extended(43, &udp_behind(&[17, 0, 4, 0, 0, 0, 0, 0])).is_ok(), "a route that was walked");
    assert_eq!(extended(0, &udp_behind(&[17, 0, 0xc2, 4, 0, 1, 0, 0])), Err(Malformed::BadOptions), "jumbo");
    let chain = |count: usize| {
        let mut headers = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
        headers[(count - 1) * 8] = 17;
        extended(60, &udp_behind(&headers))
    };
    assert!(chain(8).is_ok());
    assert_eq!(chain(9), Err(Malformed::BadOptions));
    assert_eq!(extended(60, &[17, 1, 0, 0, 0, 0, 0, 0]), Err(Malformed::Truncated));
}

#[test]
fn ipsec_and_unknown_protocols_are_packets_without_ports() {
    for protocol in [50, 51, 59, 200] {
        let packet = extended(protocol, &[1, 2, 3, 4]).unwrap();
        assert_eq!((packet.protocol, packet.l4, packet.flow().src_port), (Protocol(protocol), L4::Other, 0));
    }
}

#[test]
fn other_ethertypes_are_no_packets() {
    let mut frame = build::udp(&v4(), b"x");
    frame[12..14].copy_from_slice(&[0x81, 0x00]);
    assert_eq!(Packet::check(&frame), Err(Malformed::BadHeader));
    assert_eq!(Ethernet::check(&frame).map(|e| e.ethertype), Ok(EtherType(0x8100)));
}

#[test]
fn a_quote_that_is_cut_in_front_of_its_ports_has_no_flow() {
    let quoted = &build::udp(&v4(), b"question")[14..];
    let error = |len: usize| {
        let message = [&[3, 1, 0, 0, 0, 0, 0, 0], &quoted[..len]].concat();
        match Packet::check(&build::ip(&v4().reverse(), Protocol::ICMP, &message)).unwrap().l4 {
            L4::Icmp { meaning: IcmpKind::Error { quoted }, .. } => quoted,
            other => panic!("no error: {other:?}"),
        }
    };
    assert_eq!(error(28).map(|flow| flow.to_string()), Some("UDP 10.244.0.5:40000 -> 10.244.1.7:80".into()));
    assert_eq!(error(24).map(|flow| flow.dst_port), Some(80));
    assert_eq!(error(23), None);
    assert_eq!(error(19), None);
}

#[test]
fn a_redirect_is_not_an_error_of_a_flow() {
    let quoted = &build::udp(&v4(), b"question")[14..];
    let message = [&[5, 1, 0, 0, 10, 0, 0, 9], quoted].concat();
    let packet = Packet::check(&build::ip(&v4().reverse(), Protocol::ICMP, &message)).unwrap();
    assert!(matches!(packet.l4, L4::Icmp { meaning: IcmpKind::Other, .. }));
}

#[test]
fn a_quoted_ipv4_mapped_address_does_not_pass_for_an_ipv4_flow() {
    let ends = Ends { src: "[::ffff:10.0.0.1]:1".parse().unwrap(), ..v6() };
    let udp = &build::udp(&v6(), b"question")[54..];
    let quoted = &build::raw_ip(&ends, Protocol::UDP, udp)[14..];
    let message = [&[1, 4, 0, 0, 0, 0, 0, 0], quoted].concat();
    let packet = Packet::check(&build::ip(&v6().reverse(), Protocol::ICMPV6, &message)).unwrap();
    assert!(matches!(packet.l4, L4::Icmp { meaning: IcmpKind::Error { quoted: None }, .. }));
}
