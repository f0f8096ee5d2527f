//! Frames from nothing, for announcements, probes, the simulator and tests: every length and checksum right. Allocates; not
//! for the fast path.

use crate::craft::{MacAndIp, write_arp};
use crate::ethernet::ETHERNET_HEADER_BYTES;
use crate::headers::{Ip, write_ip, write_l4_checksum};
use crate::icmp::{ICMP_HEADER_BYTES, v4, v6};
use crate::sctp::SCTP_HEADER_BYTES;
use crate::tcp::TCP_HEADER_BYTES;
use crate::udp::UDP_HEADER_BYTES;
use crate::{MacAddr, Protocol, arp::ARP_BYTES, neighbor};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Who sends a frame to whom, on every layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Ethernet source.
    pub src_mac: MacAddr,
    /// Ethernet destination.
    pub dst_mac: MacAddr,
    /// IP source and port; the port is ignored where there is none.
    pub src: SocketAddr,
    /// IP destination and port; the port is ignored where there is none.
    pub dst: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
}

impl Ends {
    /// Ends with made-up MAC addresses and a TTL of 64.
    pub fn new(src: SocketAddr, dst: SocketAddr) -> Ends {
        Ends { src_mac: MacAddr::local(1), dst_mac: MacAddr::local(2), src, dst, ttl: 64 }
    }

    /// The ends of an answer.
    pub fn reverse(self) -> Ends {
        Ends { src_mac: self.dst_mac, dst_mac: self.src_mac, src: self.dst, dst: self.src, ttl: self.ttl }
    }

    fn ip(&self, protocol: Protocol) -> Ip {
        Ip { src: self.src.ip(), dst: self.dst.ip(), protocol, ttl: self.ttl, traffic_class: 0 }
    }
}

/// The fields of a TCP header that a sender chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp<'a> {
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// Flags ([`crate::tcp::flag`]).
    pub flags: u8,
    /// Window.
    pub window: u16,
    /// Options, at most 40 bytes; padded to a multiple of 4.
    pub options: &'a [u8],
}

impl Tcp<'_> {
    /// A header with `flags` and nothing else.
    pub fn flags(flags: u8) -> Tcp<'static> {
        Tcp { sequence: 0, acknowledgment: 0, flags, window: u16::MAX, options: &[] }
    }
}

/// An IP packet of any protocol; a known transport header in `payload` gets its checksum.
///
/// # Panics
/// If the ends are of two address families or the packet is longer than 65,535 bytes, as every function here.
pub fn ip(ends: &Ends, protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let mut bytes = raw_ip(ends, protocol, payload);
    write_l4_checksum(&mut bytes);
    bytes
}

/// [`ip`] with the payload exactly as it is given.
pub fn raw_ip(ends: &Ends, protocol: Protocol, payload: &[u8]) -> Vec<u8> {
    let ip = ends.ip(protocol);
    let mut bytes = vec![0; ip.headers_len()];
    bytes.extend_from_slice(payload);
    assert!(bytes.len() - ETHERNET_HEADER_BYTES <= usize::from(u16::MAX), "an IP packet has at most 65,535 bytes");
    write_ip(&mut bytes, ends.dst_mac, ends.src_mac, &ip);
    bytes
}

/// A UDP datagram.
pub fn udp(ends: &Ends, payload: &[u8]) -> Vec<u8> {
    let mut l4 = Vec::with_capacity(UDP_HEADER_BYTES + payload.len());
    l4.extend_from_slice(&ends.src.port().to_be_bytes());
    l4.extend_from_slice(&ends.dst.port().to_be_bytes());
    l4.extend_from_slice(&((UDP_HEADER_BYTES + payload.len()) as u16).to_be_bytes());
    l4.extend_from_slice(&[0, 0]);
    l4.extend_from_slice(payload);
    ip(ends, Protocol::UDP, &l4)
}

/// A TCP segment.
pub fn tcp(ends: &Ends, tcp: &Tcp<'_>, payload: &[u8]) -> Vec<u8> {
    let header_len = TCP_HEADER_BYTES + tcp.options.len().next_multiple_of(4);
    assert!(header_len <= 60, "a TCP header has at most 40 bytes of options");
    let mut l4 = Vec::with_capacity(header_len + payload.len());
    l4.extend_from_slice(&ends.src.port().to_be_bytes());
    l4.extend_from_slice(&ends.dst.port().to_be_bytes());
    l4.extend_from_slice(&tcp.sequence.to_be_bytes());
    l4.extend_from_slice(&tcp.acknowledgment.to_be_bytes());
    l4.extend_from_slice(&[(header_len as u8 / 4) << 4, tcp.flags]);
    l4.extend_from_slice(&tcp.window.to_be_bytes());
    l4.extend_from_slice(&[0; 4]);
    l4.extend_from_slice(tcp.options);
    l4.resize(header_len, 0);
    l4.extend_from_slice(payload);
    ip(ends, Protocol::TCP, &l4)
}

/// An SCTP packet of the given chunks.
pub fn sctp(ends: &Ends, verification_tag: u32, chunks: &[u8]) -> Vec<u8> {
    let mut l4 = Vec::with_capacity(SCTP_HEADER_BYTES + chunks.len());
    l4.extend_from_slice(&ends.src.port().to_be_bytes());
    l4.extend_from_slice(&ends.dst.port().to_be_bytes());
    l4.extend_from_slice(&verification_tag.to_be_bytes());
    l4.extend_from_slice(&[0; 4]);
    l4.extend_from_slice(chunks);
    ip(ends, Protocol::SCTP, &l4)
}

/// Which half of an echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// The question.
    Request,
    /// The answer.
    Reply,
}

/// An ICMP or ICMPv6 echo.
pub fn echo(ends: &Ends, half: Echo, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let (protocol, kind) = match (ends.src.is_ipv4(), half) {
        (true, Echo::Request) => (Protocol::ICMP, v4::ECHO_REQUEST),
        (true, Echo::Reply) => (Protocol::ICMP, v4::ECHO_REPLY),
        (false, Echo::Request) => (Protocol::ICMPV6, v6::ECHO_REQUEST),
        (false, Echo::Reply) => (Protocol::ICMPV6, v6::ECHO_REPLY),
    };
    let mut l4 = Vec::with_capacity(ICMP_HEADER_BYTES + payload.len());
    l4.extend_from_slice(&[kind, 0, 0, 0]);
    l4.extend_from_slice(&id.to_be_bytes());
    l4.extend_from_slice(&sequence.to_be_bytes());
    l4.extend_from_slice(payload);
    ip(ends, protocol, &l4)
}

/// The ARP question who has `target`.
pub fn arp_request(sender_mac: MacAddr, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut bytes = vec![0; ETHERNET_HEADER_BYTES + ARP_BYTES];
    let (sender, target) = (MacAndIp(sender_mac, sender.octets()), MacAndIp(MacAddr::default(), target.octets()));
    write_arp(&mut bytes, MacAddr::BROADCAST, 1, sender, target);
    bytes
}

/// The neighbor solicitation who has `target`; from the unspecified address it is duplicate address detection and names
/// no link-layer address.
pub fn neighbor_solicitation(sender_mac: MacAddr, sender: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let ends = Ends {
        src_mac: sender_mac,
        dst_mac: MacAddr([0x33, 0x33, 0xff, a, b, c]),
        src: SocketAddr::new(IpAddr::V6(sender), 0),
        dst: SocketAddr::new(neighbor::solicited_node(target), 0),
        ttl: 255,
    };
    let mut l4 = vec![v6::NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    l4.extend_from_slice(&target.octets());
    if !sender.is_unspecified() {
        l4.extend_from_slice(&[1, 1]);
        l4.extend_from_slice(&sender_mac.0);
    }
    ip(&ends, Protocol::ICMPV6, &l4)
}

/// The announcement that `address` is at `mac`: a gratuitous ARP request (RFC 5227 §3), which every neighbor believes.
pub fn arp_announcement(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    arp_request(mac, address, address)
}

/// The announcement that `address` is at `mac`: an unsolicited neighbor advertisement to all nodes, which overrides what they
/// remember (RFC 4861 §7.2.6).
pub fn neighbor_announcement(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    const OVERRIDE: u8 = 0x20;
    let ends = Ends {
        src_mac: mac,
        dst_mac: MacAddr([0x33, 0x33, 0, 0, 0, 1]),
        src: SocketAddr::new(IpAddr::V6(address), 0),
        dst: SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1)), 0),
        ttl: 255,
    };
    let mut l4 = vec![v6::NEIGHBOR_ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    l4.extend_from_slice(&address.octets());
    l4.extend_from_slice(&[2, 1]);
    l4.extend_from_slice(&mac.0);
    ip(&ends, Protocol::ICMPV6, &l4)
}
