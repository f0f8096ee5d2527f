//! Our views, sums and answers against two other readers of the same bytes: pnet and etherparse.

use crate::frames::{ends, frames};
use etherparse::{PacketBuilder, PacketHeaders};
use pnet::packet::ethernet::EthernetPacket;
use pnet::packet::icmp::IcmpPacket;
use pnet::packet::icmpv6::Icmpv6Packet;
use pnet::packet::ipv4::Ipv4Packet;
use pnet::packet::ipv6::Ipv6Packet;
use pnet::packet::tcp::TcpPacket;
use pnet::packet::udp::UdpPacket;
use pnet::packet::{Packet as _, arp, icmp, icmpv6, ipv4, ipv6, tcp, udp};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;
use wire::{ArpPacket, Ethernet, Frame, IcmpError, L4, MacAddr, NeighborMessage, Packet, checksum, craft};

/// Checks what pnet reads in a whole packet without extension headers, and the checksums that it computes.
fn assert_like_pnet(bytes: &[u8], packet: &Packet) -> Result<(), TestCaseError> {
    let ethernet = EthernetPacket::new(bytes).unwrap();
    prop_assert_eq!(Ethernet::check(bytes).unwrap().src.0, ethernet.get_source().octets());
    let l4 = match (packet.src, packet.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let ip = Ipv4Packet::new(ethernet.payload()).unwrap();
            prop_assert_eq!((ip.get_source(), ip.get_destination()), (src, dst));
            prop_assert_eq!((ip.get_ttl(), ip.get_next_level_protocol().0), (packet.ttl, packet.protocol.0));
            prop_assert_eq!(ipv4::checksum(&ip), ip.get_checksum());
            ip.payload().to_vec()
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let ip = Ipv6Packet::new(ethernet.payload()).unwrap();
            prop_assert_eq!((ip.get_source(), ip.get_destination()), (src, dst));
            prop_assert_eq!((ip.get_hop_limit(), ip.get_next_header().0), (packet.ttl, packet.protocol.0));
            prop_assert_eq!(ip.get_traffic_class(), packet.traffic_class);
            ip.payload().to_vec()
        }
        families => panic!("two families: {families:?}"),
    };
    prop_assert_eq!(&l4[..], &bytes[usize::from(packet.l4_offset)..packet.end as usize]);
    match packet.l4 {
        L4::Tcp { src_port, dst_port, flags } => {
            let segment = TcpPacket::new(&l4).unwrap();
            prop_assert_eq!((segment.get_source(), segment.get_destination()), (src_port, dst_port));
            prop_assert_eq!(segment.get_flags(), flags);
            prop_assert_eq!(segment.payload().len(), packet.payload_len_bytes());
            let expected = match (packet.src, packet.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => tcp::ipv4_checksum(&segment, &src, &dst),
                (IpAddr::V6(src), IpAddr::V6(dst)) => tcp::ipv6_checksum(&segment, &src, &dst),
                _ => unreachable!("one family"),
            };
            prop_assert_eq!(segment.get_checksum(), expected);
        }
        L4::Udp { src_port, dst_port } => {
            let datagram = UdpPacket::new(&l4).unwrap();
            prop_assert_eq!((datagram.get_source(), datagram.get_destination()), (src_port, dst_port));
            let expected = match (packet.src, packet.dst) {
                (IpAddr::V4(src), IpAddr::V4(dst)) => udp::ipv4_checksum(&datagram, &src, &dst),
                (IpAddr::V6(src), IpAddr::V6(dst)) => udp::ipv6_checksum(&datagram, &src, &dst),
                _ => unreachable!("one family"),
            };
            prop_assert_eq!(datagram.get_checksum(), if expected == 0 { 0xffff } else { expected });
        }
        L4::Icmp { kind, code, .. } => match (packet.src, packet.dst) {
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let message = Icmpv6Packet::new(&l4).unwrap();
                prop_assert_eq!((message.get_icmpv6_type().0, message.get_icmpv6_code().0), (kind, code));
                prop_assert_eq!(icmpv6::checksum(&message, &src, &dst), message.get_checksum());
            }
            _ => {
                let message = IcmpPacket::new(&l4).unwrap();
                prop_assert_eq!((message.get_icmp_type().0, message.get_icmp_code().0), (kind, code));
                prop_assert_eq!(icmp::checksum(&message), message.get_checksum());
            }
        },
        L4::Sctp { .. } | L4::Other => {}
    }
    Ok(())
}

/// Whether the transport header follows the fixed IP header.
fn is_plain(packet: &Packet) -> bool {
    let header = if packet.src.is_ipv4() { 20 } else { 40 };
    usize::from(packet.l4_offset) == 14 + header && !packet.is_fragment()
}

proptest! {
    #[test]
    fn pnet_reads_what_we_read_and_computes_the_checksums_that_we_compute(bytes in frames()) {
        if let Ok(packet) = Packet::check(&bytes)
            && is_plain(&packet)
        {
            assert_like_pnet(&bytes, &packet)?;
        }
    }

    #[test]
    fn pnet_reads_our_icmp_errors(bytes in frames()) {
        if let Ok(packet) = Packet::check(&bytes)
            && craft::may_answer_with_error(&bytes, &packet)
        {
            let mut frame = Frame::from_bytes(&bytes);
            craft::icmp_error(&mut frame, &packet, IcmpError::TooBig { mtu: 1_400 }, packet.dst);
            assert_like_pnet(frame.bytes(), &Packet::check(frame.bytes()).unwrap())?;
        }
    }

    #[test]
    fn pnet_reads_our_arp(sender in any::<u64>(), ip in any::<[u8; 4]>(), target in any::<[u8; 4]>()) {
        let bytes = wire::build::arp_request(MacAddr::local(sender), ip.into(), target.into());
        let ours = ArpPacket::check(&bytes).unwrap();
        let theirs = arp::ArpPacket::new(&bytes[14..]).unwrap();
        prop_assert_eq!(theirs.get_operation(), arp::ArpOperations::Request);
        prop_assert_eq!(theirs.get_sender_hw_addr().octets(), ours.sender_mac.0);
        prop_assert_eq!((theirs.get_sender_proto_addr(), theirs.get_target_proto_addr()), (ip.into(), target.into()));
        prop_assert_eq!((ours.sender_ip, ours.target_ip), (ip.into(), target.into()));
    }

    #[test]
    fn pnet_reads_our_neighbor_solicitations(host in any::<u16>(), target in any::<u16>()) {
        let addr = |last| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 1, last);
        let bytes = wire::build::neighbor_solicitation(MacAddr::local(1), addr(host), addr(target));
        let packet = Packet::check(&bytes).unwrap();
        let expected = NeighborMessage::Solicitation {
            target: addr(target),
            source_mac: Some(MacAddr::local(1)),
            duplicate_detection: false,
        };
        prop_assert_eq!(NeighborMessage::check(&bytes, &packet), Ok(Some(expected)));
        let ip = ipv6::Ipv6Packet::new(&bytes[14..]).unwrap();
        let theirs = icmpv6::ndp::NeighborSolicitPacket::new(ip.payload()).unwrap();
        prop_assert_eq!(theirs.get_target_addr(), addr(target));
    }

    #[test]
    fn we_read_what_etherparse_writes(
        ends in ends(), id in any::<u16>(), payload in vec(any::<u8>(), 0..200), kind in 0..3
    ) {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let ip = match (ends.src.ip(), ends.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => link.ipv4(src.octets(), dst.octets(), 9),
            (IpAddr::V6(src), IpAddr::V6(dst)) => link.ipv6(src.octets(), dst.octets(), 9),
            _ => unreachable!("one family"),
        };
        let mut bytes = Vec::new();
        match (kind, ends.src.is_ipv4()) {
            (0, _) => ip.tcp(ends.src.port(), ends.dst.port(), 7, 512).write(&mut bytes, &payload).unwrap(),
            (1, _) => ip.udp(ends.src.port(), ends.dst.port()).write(&mut bytes, &payload).unwrap(),
            (_, true) => ip.icmpv4_echo_request(id, 1).write(&mut bytes, &payload).unwrap(),
            (_, false) => ip.icmpv6_echo_request(id, 1).write(&mut bytes, &payload).unwrap(),
        }
        let packet = Packet::check(&bytes).unwrap();
        prop_assert!(checksum::verify_l4(&bytes, &packet));
        prop_assert_eq!((packet.src, packet.dst, packet.ttl), (ends.src.ip(), ends.dst.ip(), 9));
        prop_assert_eq!(&bytes[usize::from(packet.payload_offset)..], &payload[..]);
        let ports = if kind < 2 { (ends.src.port(), ends.dst.port()) } else { (id, id) };
        prop_assert_eq!((packet.flow().src_port, packet.flow().dst_port), ports);
        prop_assert!(PacketHeaders::from_ethernet_slice(&bytes).is_ok());
    }
}
