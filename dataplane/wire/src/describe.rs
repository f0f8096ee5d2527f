//! One line of text about a frame, for people: captures, drops, failing tests.
//!
//! Reading for people is etherparse's job, not [`crate::Packet`]'s: it says as much as it can about frames that our own
//! strict view refuses, and it is a second reader of the same bytes. Never called per packet; needs no allocation.

use crate::{MacAddr, Protocol};
use etherparse::{
    ArpOperation, ArpPacketSlice, Icmpv4Slice, Icmpv6Slice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpSlice,
    TransportSlice,
};
use std::fmt::{self, Display, Formatter};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The line about the frame in `bytes`, from its Ethernet header on.
pub fn describe(bytes: &[u8]) -> impl Display + '_ {
    Line(bytes)
}

struct Line<'a>(&'a [u8]);

impl Display for Line<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Ok(frame) = LaxSlicedPacket::from_ethernet(self.0) else {
            return write!(f, "{} bytes, too short for Ethernet", self.0.len());
        };
        if let Some(LinkSlice::Ethernet2(ethernet)) = &frame.link {
            write!(f, "{} > {} ", MacAddr(ethernet.source()), MacAddr(ethernet.destination()))?;
            if frame.net.is_none() {
                write!(f, "ethertype {:#06x} ", ethernet.ether_type().0)?;
            }
        }
        write_layers(f, &frame)?;
        write!(f, " ({} bytes)", self.0.len())
    }
}

/// Everything from the network layer on; also what an ICMP error quotes.
fn write_layers(f: &mut Formatter<'_>, packet: &LaxSlicedPacket<'_>) -> fmt::Result {
    match &packet.net {
        Some(LaxNetSlice::Arp(arp)) => write_arp(f, arp)?,
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            write_transport(f, packet, header.source_addr().into(), header.destination_addr().into())?;
            write!(f, " ttl {}", header.ttl())?;
            if header.is_fragmenting_payload() {
                let offset = u32::from(header.fragments_offset().value()) * 8;
                let more = if header.more_fragments() { "+" } else { "" };
                write!(f, " frag {:#06x}@{offset}{more}", header.identification())?;
            } else if header.dont_fragment() {
                f.write_str(" DF")?;
            }
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            write_transport(f, packet, header.source_addr().into(), header.destination_addr().into())?;
            write!(f, " hop limit {}", header.hop_limit())?;
            if ip.is_payload_fragmented() {
                f.write_str(" fragment")?;
            }
        }
        None => f.write_str("no IP or ARP")?,
    }
    match &packet.stop_err {
        Some((error, layer)) => write!(f, " [malformed {layer}: {error}]"),
        None => Ok(()),
    }
}

fn write_arp(f: &mut Formatter<'_>, arp: &ArpPacketSlice<'_>) -> fmt::Result {
    let ip = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).map(Ipv4Addr::from);
    let mac = |bytes: &[u8]| <[u8; 6]>::try_from(bytes).map(MacAddr);
    match (arp.operation(), ip(arp.sender_protocol_addr()), ip(arp.target_protocol_addr()), mac(arp.sender_hw_addr())) {
        (ArpOperation::REQUEST, Ok(sender), Ok(target), _) => write!(f, "ARP who-has {target} tell {sender}"),
        (ArpOperation::REPLY, Ok(sender), _, Ok(mac)) => write!(f, "ARP {sender} is-at {mac}"),
        (operation, ..) => write!(f, "ARP operation {}", operation.0),
    }
}

fn write_transport(f: &mut Formatter<'_>, packet: &LaxSlicedPacket<'_>, src: IpAddr, dst: IpAddr) -> fmt::Result {
    let ends = |f: &mut Formatter<'_>, name: &str, src_port, dst_port| {
        write!(f, "{name} {} -> {}", SocketAddr::new(src, src_port), SocketAddr::new(dst, dst_port))
    };
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            ends(f, "TCP", tcp.source_port(), tcp.destination_port())?;
            write_tcp(f, tcp)
        }
        Some(TransportSlice::Udp(udp)) => {
            ends(f, "UDP", udp.source_port(), udp.destination_port())?;
            write!(f, " len {}", udp.payload().len())
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            write!(f, "ICMP {src} -> {dst} ")?;
            write_icmpv4(f, icmp)
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            write!(f, "ICMPv6 {src} -> {dst} ")?;
            write_icmpv6(f, icmp)
        }
        Some(TransportSlice::Igmp(_)) => write!(f, "IGMP {src} -> {dst}"),
        None => match packet.ip_payload() {
            Some(ip) => match (Protocol(ip.ip_number.0), ip.fragmented, ip.payload) {
                (Protocol::SCTP, false, &[a, b, c, d, ..]) => {
                    ends(f, "SCTP", u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
                }
                (protocol, _, payload) => write!(f, "{protocol} {src} -> {dst} len {}", payload.len()),
            },
            None => write!(f, "IP {src} -> {dst}"),
        },
    }
}

/// Flags in tcpdump's letters, then the numbers.
fn write_tcp(f: &mut Formatter<'_>, tcp: &TcpSlice<'_>) -> fmt::Result {
    let flags = [
        (tcp.syn(), 'S'),
        (tcp.fin(), 'F'),
        (tcp.rst(), 'R'),
        (tcp.psh(), 'P'),
        (tcp.urg(), 'U'),
        (tcp.ece(), 'E'),
        (tcp.cwr(), 'W'),
        (tcp.ack(), '.'),
    ];
    f.write_str(" [")?;
    for (_, letter) in flags.into_iter().filter(|(set, _)| *set) {
        write!(f, "{letter}")?;
    }
    write!(f, "] seq {}", tcp.sequence_number())?;
    if tcp.ack() {
        write!(f, " ack {}", tcp.acknowledgment_number())?;
    }
    write!(f, " win {} len {}", tcp.window_size(), tcp.payload().len())
}

fn write_icmpv4(f: &mut Formatter<'_>, icmp: &Icmpv4Slice<'_>) -> fmt::Result {
    use etherparse::Icmpv4Type;
    match icmp.icmp_type() {
        Icmpv4Type::EchoRequest(echo) => write!(f, "echo request id {} seq {}", echo.id, echo.seq),
        Icmpv4Type::EchoReply(echo) => write!(f, "echo reply id {} seq {}", echo.id, echo.seq),
        Icmpv4Type::DestinationUnreachable(_) | Icmpv4Type::TimeExceeded(_) | Icmpv4Type::ParameterProblem(_) => {
            write!(f, "error {}/{}", icmp.type_u8(), icmp.code_u8())?;
            write_quoted(f, icmp.payload())
        }
        _ => write!(f, "type {}/{}", icmp.type_u8(), icmp.code_u8()),
    }
}

fn write_icmpv6(f: &mut Formatter<'_>, icmp: &Icmpv6Slice<'_>) -> fmt::Result {
    use etherparse::Icmpv6Type;
    match icmp.icmp_type() {
        Icmpv6Type::EchoRequest(echo) => write!(f, "echo request id {} seq {}", echo.id, echo.seq),
        Icmpv6Type::EchoReply(echo) => write!(f, "echo reply id {} seq {}", echo.id, echo.seq),
        Icmpv6Type::DestinationUnreachable(_)
        | Icmpv6Type::PacketTooBig { .. }
        | Icmpv6Type::TimeExceeded(_)
        | Icmpv6Type::ParameterProblem(_) => {
            write!(f, "error {}/{}", icmp.type_u8(), icmp.code_u8())?;
            write_quoted(f, icmp.payload())
        }
        _ => write!(f, "type {}/{}", icmp.type_u8(), icmp.code_u8()),
    }
}

fn write_quoted(f: &mut Formatter<'_>, quoted: &[u8]) -> fmt::Result {
    let Ok(packet) = LaxSlicedPacket::from_ip(quoted) else { return f.write_str(" about something unreadable") };
    // An error must not be about an error; a forged one could nest them as deep as the frame is long.
    match &packet.transport {
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => f.write_str(" about ICMP"),
        _ => {
            f.write_str(" about {")?;
            write_layers(f, &packet)?;
            f.write_str("}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{self, Echo, Ends, Tcp};
    use crate::tcp::flag;
    use crate::{Frame, IcmpError, Packet, craft};

    fn ends() -> Ends {
        Ends::new("10.244.1.2:5000".parse().unwrap(), "10.96.0.1:80".parse().unwrap())
    }

    #[test]
    fn a_tcp_segment_is_told_with_flags_and_numbers() {
        let tcp = Tcp { sequence: 7, acknowledgment: 9, flags: flag::SYN | flag::ACK, window: 512, options: &[] };
        assert_eq!(
            describe(&build::tcp(&ends(), &tcp, b"hi")).to_string(),
            "0a:00:00:00:00:01 > 0a:00:00:00:00:02 TCP 10.244.1.2:5000 -> 10.96.0.1:80 [S.] seq 7 ack 9 win 512 len 2 \
             ttl 64 DF (56 bytes)"
        );
    }

    #[test]
    fn an_echo_is_told_with_its_identifier() {
        let line = describe(&build::echo(&ends(), Echo::Request, 77, 3, b"")).to_string();
        assert!(line.contains("ICMP 10.244.1.2 -> 10.96.0.1 echo request id 77 seq 3"), "{line}");
    }

    #[test]
    fn an_icmp_error_is_told_with_what_it_is_about() {
        let mut frame = Frame::from_bytes(&build::udp(&ends(), b"question"));
        let packet = Packet::check(frame.bytes()).unwrap();
        craft::icmp_error(&mut frame, &packet, IcmpError::PortUnreachable, "10.96.0.1".parse().unwrap());
        let line = describe(frame.bytes()).to_string();
        assert!(line.contains("error 3/3 about {UDP 10.244.1.2:5000 -> 10.96.0.1:80 len 8"), "{line}");
    }

    #[test]
    fn an_arp_question_is_told_as_tcpdump_does() {
        let frame = build::arp_request(MacAddr::local(1), Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let line = describe(&frame).to_string();
        assert!(line.contains("ARP who-has 10.0.0.2 tell 10.0.0.1"), "{line}");
    }

    #[test]
    fn a_frame_that_is_cut_is_told_as_malformed() {
        let frame = build::udp(&ends(), b"question");
        let line = describe(&frame[..30]).to_string();
        assert!(line.contains("malformed"), "{line}");
    }
}
