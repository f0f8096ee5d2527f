//! Answers: each function turns a frame, in its own buffer, into the answer to it, addressed back to its sender. An answer that was
//! made elsewhere is put into a buffer by [`datagram`] or [`packet`].
//!
//! Whoever calls decides that there shall be an answer and from whom; [`may_answer_with_error`] says where an ICMP
//! error is forbidden. How often errors are sent (RFC 1812 §4.3.2.8) is decided there too. A frame that becomes an
//! answer is an ordinary frame with a right checksum, whatever it was before; only an echo reply carries on the
//! checksum that the request came with.

use crate::ethernet::{ETHERNET_HEADER_BYTES, EtherType, Ethernet};
use crate::headers::{Ip, write_ethernet, write_ip, write_l4_checksum};
use crate::icmp::{ICMP_HEADER_BYTES, v4, v6};
use crate::sctp::{SCTP_HEADER_BYTES, chunk};
use crate::tcp::{TCP_HEADER_BYTES, flag};
use crate::udp::UDP_HEADER_BYTES;
use crate::{ArpPacket, Checksum, FlowKey, Fragment, Frame, IcmpKind, L4, MacAddr, Offload, Packet, Protocol, edit};
use std::net::{IpAddr, Ipv6Addr};

/// TTL of answers: the default that RFC 1700 recommends and every host uses.
const ANSWER_TTL: u8 = 64;
/// Hop limit of neighbor discovery: proves that the sender is on the link (RFC 4861 §7.1).
const NEIGHBOR_HOP_LIMIT: u8 = 255;
/// The longest ICMP error, IP header included: what every host can take (RFC 1812 §4.3.2.3).
const ICMPV4_ERROR_MAX_BYTES: usize = 576;
/// The longest ICMPv6 error: the minimum MTU (RFC 4443 §2.4 (c)).
const ICMPV6_ERROR_MAX_BYTES: usize = 1_280;
/// Precedence 6, internetwork control (RFC 1812 §4.3.2.5).
const ICMPV4_ERROR_TRAFFIC_CLASS: u8 = 0xc0;

/// What an ICMP error says, for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// No route to the network.
    NetUnreachable,
    /// Nobody at the address.
    HostUnreachable,
    /// Nobody at the port.
    PortUnreachable,
    /// Forbidden by policy.
    Prohibited,
    /// Larger than the way on takes.
    TooBig {
        /// The largest IP packet that fits, in bytes.
        mtu: u16,
    },
    /// TTL or hop limit used up.
    TtlExceeded,
}

impl IcmpError {
    /// Type, code and the last two bytes of the header, by RFC 792, RFC 1191, RFC 1812 and RFC 4443.
    fn fields(self, is_ipv4: bool) -> (u8, u8, u16) {
        match (self, is_ipv4) {
            (IcmpError::NetUnreachable, true) => (v4::UNREACHABLE, 0, 0),
            (IcmpError::NetUnreachable, false) => (v6::UNREACHABLE, 0, 0),
            (IcmpError::HostUnreachable, true) => (v4::UNREACHABLE, 1, 0),
            (IcmpError::HostUnreachable, false) => (v6::UNREACHABLE, 3, 0),
            (IcmpError::PortUnreachable, true) => (v4::UNREACHABLE, 3, 0),
            (IcmpError::PortUnreachable, false) => (v6::UNREACHABLE, 4, 0),
            (IcmpError::Prohibited, true) => (v4::UNREACHABLE, 13, 0),
            (IcmpError::Prohibited, false) => (v6::UNREACHABLE, 1, 0),
            (IcmpError::TooBig { mtu }, true) => (v4::UNREACHABLE, 4, mtu),
            (IcmpError::TooBig { mtu }, false) => (v6::PACKET_TOO_BIG, 0, mtu),
            (IcmpError::TtlExceeded, true) => (v4::TIME_EXCEEDED, 0, 0),
            (IcmpError::TtlExceeded, false) => (v6::TIME_EXCEEDED, 0, 0),
        }
    }
}

/// Whether a packet may be answered with an ICMP error (RFC 1122 §3.2.2, RFC 1812 §4.3.2.7, RFC 4443 §2.4 (e)): not if
/// it is itself an ICMP error or a redirect, went to many, is a later fragment, or has no single sender.
pub fn may_answer_with_error(bytes: &[u8], packet: &Packet) -> bool {
    let is_error = match (packet.l4, packet.src) {
        (L4::Icmp { kind, .. }, IpAddr::V4(_)) => matches!(
            kind,
            v4::UNREACHABLE | v4::SOURCE_QUENCH | v4::REDIRECT | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM
        ),
        (L4::Icmp { kind, .. }, IpAddr::V6(_)) => kind < v6::FIRST_INFORMATIONAL || kind == v6::REDIRECT,
        _ => false,
    };
    let later_fragment = matches!(packet.fragment, Fragment::Later { .. });
    is_between_two(bytes, packet) && !is_error && !later_fragment
}

/// Whether a packet has one sender and one receiver, so that the receiver may answer the sender.
fn is_between_two(bytes: &[u8], packet: &Packet) -> bool {
    let to_many = match packet.dst {
        IpAddr::V4(dst) => dst.is_multicast() || dst.is_broadcast(),
        IpAddr::V6(dst) => dst.is_multicast(),
    };
    let to_many_macs = Ethernet::check(bytes).is_ok_and(|ethernet| ethernet.dst.is_multicast());
    !to_many && !to_many_macs && !packet.src.is_unspecified()
}

/// An ICMP error about the frame's packet, sent by `from`: as much of the packet is quoted as the family allows. The
/// packet must be one that [`may_answer_with_error`].
pub fn icmp_error(frame: &mut Frame, packet: &Packet, error: IcmpError, from: IpAddr) {
    let is_ipv4 = packet.src.is_ipv4();
    let (to_mac, from_mac) = sender_and_receiver(frame);
    let ip = Ip {
        src: from,
        dst: packet.src,
        protocol: if is_ipv4 { Protocol::ICMP } else { Protocol::ICMPV6 },
        ttl: ANSWER_TTL,
        traffic_class: if is_ipv4 { ICMPV4_ERROR_TRAFFIC_CLASS } else { 0 },
    };
    let longest = if is_ipv4 { ICMPV4_ERROR_MAX_BYTES } else { ICMPV6_ERROR_MAX_BYTES };
    let headers_len = ip.headers_len() + ICMP_HEADER_BYTES;
    let quote_max = longest + ETHERNET_HEADER_BYTES - headers_len;
    // The quote stays where it lies; the headers go into the headroom in front of it.
    frame.pull_front(usize::from(packet.l3_offset));
    frame.truncate(packet.ip_len_bytes().min(quote_max));
    frame.push_front(headers_len);
    let bytes = frame.bytes_mut();
    write_ip(bytes, to_mac, from_mac, &ip);
    let (kind, code, last) = error.fields(is_ipv4);
    let [high, low] = last.to_be_bytes();
    bytes[ip.headers_len()..headers_len].copy_from_slice(&[kind, code, 0, 0, 0, 0, high, low]);
    write_l4_checksum(bytes);
    frame.offload = ANSWERED;
}

/// The reply to an ARP request: the target address is at `mac`.
pub fn arp_reply(frame: &mut Frame, request: &ArpPacket, mac: MacAddr) {
    let (to_mac, _) = sender_and_receiver(frame);
    let target = MacAndIp(request.sender_mac, request.sender_ip.octets());
    let sender = MacAndIp(mac, request.target_ip.octets());
    frame.truncate(ETHERNET_HEADER_BYTES + crate::arp::ARP_BYTES);
    write_arp(frame.bytes_mut(), to_mac, 2, sender, target);
    frame.offload = Offload::NONE;
}

/// One end of an ARP packet.
pub(crate) struct MacAndIp(pub(crate) MacAddr, pub(crate) [u8; 4]);

/// Writes a whole ARP frame, sent from the sender's own MAC address.
pub(crate) fn write_arp(bytes: &mut [u8], to_mac: MacAddr, operation: u8, sender: MacAndIp, target: MacAndIp) {
    write_ethernet(bytes, to_mac, sender.0, EtherType::ARP);
    let arp = &mut bytes[ETHERNET_HEADER_BYTES..];
    arp[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    arp[8..14].copy_from_slice(&sender.0.0);
    arp[14..18].copy_from_slice(&sender.1);
    arp[18..24].copy_from_slice(&target.0.0);
    arp[24..28].copy_from_slice(&target.1);
}

/// The answer to a neighbor solicitation: `target` is at `mac`, which is a router's (RFC 4861 §4.4). A solicitation
/// from the unspecified address is answered to all nodes (§7.2.4).
pub fn neighbor_advertisement(frame: &mut Frame, packet: &Packet, target: Ipv6Addr, mac: MacAddr) {
    const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    const ALL_NODES_MAC: MacAddr = MacAddr([0x33, 0x33, 0, 0, 0, 1]);
    const ROUTER: u8 = 0x80;
    const SOLICITED: u8 = 0x40;
    const OVERRIDE: u8 = 0x20;
    const OPTION_TARGET_LINK_LAYER: u8 = 2;
    let (to_mac, _) = sender_and_receiver(frame);
    let (to_mac, dst, flags) = if packet.src.is_unspecified() {
        (ALL_NODES_MAC, ALL_NODES.into(), ROUTER | OVERRIDE)
    } else {
        (to_mac, packet.src, ROUTER | SOLICITED | OVERRIDE)
    };
    let ip = Ip { src: target.into(), dst, protocol: Protocol::ICMPV6, ttl: NEIGHBOR_HOP_LIMIT, traffic_class: 0 };
    frame.set_len(ip.headers_len() + 32);
    let bytes = frame.bytes_mut();
    write_ip(bytes, to_mac, mac, &ip);
    let message = &mut bytes[ip.headers_len()..];
    message[..8].copy_from_slice(&[v6::NEIGHBOR_ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0]);
    message[8..24].copy_from_slice(&target.octets());
    message[24..26].copy_from_slice(&[OPTION_TARGET_LINK_LAYER, 1]);
    message[26..32].copy_from_slice(&mac.0);
    write_l4_checksum(bytes);
    frame.offload = ANSWERED;
}

/// The reply to an echo request that is no fragment, from the address that was asked. Identifier, sequence number and
/// data come back as they are, and a wrong checksum stays wrong. No effect on any other packet.
pub fn echo_reply(frame: &mut Frame, packet: &Packet) {
    let L4::Icmp { meaning: IcmpKind::EchoRequest { .. }, .. } = packet.l4 else { return };
    let (to_mac, from_mac) = sender_and_receiver(frame);
    edit::set_macs(frame, to_mac, from_mac);
    edit::set_ttl(frame, packet, ANSWER_TTL);
    let l3 = usize::from(packet.l3_offset);
    let l4 = usize::from(packet.l4_offset);
    let bytes = frame.bytes_mut();
    // Swapped addresses change no sum.
    let reply = if packet.src.is_ipv4() {
        let (src, dst) = bytes[l3 + 12..l3 + 20].split_at_mut(4);
        src.swap_with_slice(dst);
        v4::ECHO_REPLY
    } else {
        let (src, dst) = bytes[l3 + 8..l3 + 40].split_at_mut(16);
        src.swap_with_slice(dst);
        v6::ECHO_REPLY
    };
    edit::replace_icmp_kind(&mut bytes[l4..packet.end as usize], [reply, 0]);
}

/// The reset that a closed port answers with (RFC 9293 §3.10.7.1); false, and the frame untouched, if the packet is no
/// whole TCP segment between two hosts, or a reset itself.
pub fn tcp_reset(frame: &mut Frame, packet: &Packet) -> bool {
    let L4::Tcp { src_port, dst_port, flags } = packet.l4 else { return false };
    if flags & flag::RST != 0 || packet.is_fragment() || !is_between_two(frame.bytes(), packet) {
        return false;
    }
    let l4 = usize::from(packet.l4_offset);
    let segment = &frame.bytes()[l4..];
    let field = |at: usize| u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]]);
    let (sequence, acknowledgment, answer_flags) = if flags & flag::ACK != 0 {
        (field(8), 0, flag::RST)
    } else {
        let controls = u32::from(flags & flag::SYN != 0) + u32::from(flags & flag::FIN != 0);
        let segment_len = packet.payload_len_bytes() as u32 + controls;
        (0, field(4).wrapping_add(segment_len), flag::RST | flag::ACK)
    };
    answer_l4(frame, packet, TCP_HEADER_BYTES, |tcp| {
        tcp[..2].copy_from_slice(&dst_port.to_be_bytes());
        tcp[2..4].copy_from_slice(&src_port.to_be_bytes());
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        tcp[8..12].copy_from_slice(&acknowledgment.to_be_bytes());
        tcp[12..].copy_from_slice(&[(TCP_HEADER_BYTES as u8 / 4) << 4, answer_flags, 0, 0, 0, 0, 0, 0]);
    });
    true
}

/// The answer to an SCTP packet that belongs to no association (RFC 9260 §8.4): an abort, or the completion of a
/// shutdown. False, and the frame untouched, if the packet is no whole SCTP packet between two hosts, or gets no
/// answer.
pub fn sctp_abort(frame: &mut Frame, packet: &Packet) -> bool {
    const TAG_REFLECTED: u8 = 1;
    let L4::Sctp { src_port, dst_port, chunk: first } = packet.l4 else { return false };
    if packet.is_fragment() || !is_between_two(frame.bytes(), packet) {
        return false;
    }
    let sctp = &frame.bytes()[usize::from(packet.l4_offset)..packet.end as usize];
    let chunks = &sctp[SCTP_HEADER_BYTES..];
    let Some(answer) = out_of_the_blue(chunks) else { return false };
    // An INIT carries the tag that its sender expects; any other packet is answered with its own tag, and says so.
    let (tag, flags) = match chunks.get(4..8) {
        Some(&[a, b, c, d]) if first == chunk::INIT => ([a, b, c, d], 0),
        _ => ([sctp[4], sctp[5], sctp[6], sctp[7]], TAG_REFLECTED),
    };
    answer_l4(frame, packet, SCTP_HEADER_BYTES + 4, |sctp| {
        sctp[..2].copy_from_slice(&dst_port.to_be_bytes());
        sctp[2..4].copy_from_slice(&src_port.to_be_bytes());
        sctp[4..8].copy_from_slice(&tag);
        sctp[8..].copy_from_slice(&[0, 0, 0, 0, answer, flags, 0, 4]);
    });
    true
}

/// The chunk type that answers `chunks`, or `None` if one of them forbids an answer.
fn out_of_the_blue(mut chunks: &[u8]) -> Option<u8> {
    let mut answer = chunk::ABORT;
    while let [kind, _, high, low, ..] = *chunks {
        match kind {
            chunk::ABORT | chunk::ERROR | chunk::COOKIE_ACK | chunk::SHUTDOWN_COMPLETE => return None,
            chunk::SHUTDOWN_ACK => answer = chunk::SHUTDOWN_COMPLETE,
            _ => {}
        }
        let padded = usize::from(u16::from_be_bytes([high, low])).max(4).next_multiple_of(4);
        chunks = chunks.get(padded..).unwrap_or(&[]);
    }
    Some(answer)
}

/// A UDP datagram with `payload`, whatever `frame` held before; false, and the frame untouched, if it is longer than an IP packet
/// or than the buffer.
pub fn datagram(frame: &mut Frame, to_mac: MacAddr, from_mac: MacAddr, flow: &FlowKey, payload: &[u8]) -> bool {
    let ip = Ip { src: flow.src(), dst: flow.dst(), protocol: Protocol::UDP, ttl: ANSWER_TTL, traffic_class: 0 };
    let headers_len = ip.headers_len() + UDP_HEADER_BYTES;
    let len = headers_len + payload.len();
    if len - ETHERNET_HEADER_BYTES > usize::from(u16::MAX) || len > frame.capacity() {
        return false;
    }
    frame.set_bytes(&[]);
    frame.set_len(len);
    let bytes = frame.bytes_mut();
    bytes[headers_len..].copy_from_slice(payload);
    write_ip(bytes, to_mac, from_mac, &ip);
    let udp = &mut bytes[ip.headers_len()..headers_len];
    udp[..2].copy_from_slice(&flow.src_port.to_be_bytes());
    udp[2..4].copy_from_slice(&flow.dst_port.to_be_bytes());
    udp[4..6].copy_from_slice(&((UDP_HEADER_BYTES + payload.len()) as u16).to_be_bytes());
    udp[6..].fill(0);
    write_l4_checksum(bytes);
    frame.offload = ANSWERED;
    true
}

/// An IP packet that was made elsewhere, its checksums computed there; false, and the frame untouched, if it is none or too long.
pub fn packet(frame: &mut Frame, to_mac: MacAddr, from_mac: MacAddr, packet: &[u8]) -> bool {
    let ethertype = match packet.first().map(|byte| byte >> 4) {
        Some(4) => EtherType::IPV4,
        Some(6) => EtherType::IPV6,
        _ => return false,
    };
    let len = ETHERNET_HEADER_BYTES + packet.len();
    if len > frame.capacity() {
        return false;
    }
    frame.set_bytes(&[]);
    frame.set_len(len);
    let bytes = frame.bytes_mut();
    write_ethernet(bytes, to_mac, from_mac, ethertype);
    bytes[ETHERNET_HEADER_BYTES..].copy_from_slice(packet);
    frame.offload = ANSWERED;
    true
}

/// What is known of an answer's checksum: it was computed here.
const ANSWERED: Offload = Offload { checksum: Checksum::Verified, segmentation: None };

/// The MAC addresses of who sent the frame and whom it was sent to.
fn sender_and_receiver(frame: &Frame) -> (MacAddr, MacAddr) {
    let ethernet = Ethernet::check(frame.bytes()).expect("a frame that was checked has an Ethernet header");
    (ethernet.src, ethernet.dst)
}

/// Turns the frame into a packet of `l4_len` transport bytes from its receiver to its sender; `write` fills them,
/// except for the checksum.
fn answer_l4(frame: &mut Frame, packet: &Packet, l4_len: usize, write: impl FnOnce(&mut [u8])) {
    let (to_mac, from_mac) = sender_and_receiver(frame);
    let ip = Ip { src: packet.dst, dst: packet.src, protocol: packet.protocol, ttl: ANSWER_TTL, traffic_class: 0 };
    frame.set_len(ip.headers_len() + l4_len);
    let bytes = frame.bytes_mut();
    write_ip(bytes, to_mac, from_mac, &ip);
    write(&mut bytes[ip.headers_len()..]);
    write_l4_checksum(bytes);
    frame.offload = ANSWERED;
}

#[cfg(test)]
mod tests;
