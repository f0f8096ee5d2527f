//! The checked view of one frame that carries an IP packet: offsets and meaning, found in one pass.

use crate::ethernet::{ETHERNET_HEADER_BYTES, EtherType, Ethernet};
use crate::{FlowKey, Protocol, icmp, ipv4, ipv6, sctp, tcp, udp};
use std::net::IpAddr;

/// Why bytes are not a packet. Flat, so that it maps one to one to a drop reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Malformed {
    /// Shorter than a header that must be there.
    Truncated,
    /// A length field contradicts the bytes or another length field.
    BadLength,
    /// A version or header length that no such header has.
    BadHeader,
    /// The IPv4 header checksum is wrong.
    BadHeaderChecksum,
    /// A source that no packet on a wire may have (multicast, broadcast, loopback, IPv4-mapped) or a destination that
    /// none may have (loopback, unspecified, IPv4-mapped).
    BadAddress,
    /// More IPv6 extension headers than [`crate::Packet`] follows, or one out of order, or a source route of either
    /// family.
    BadOptions,
    /// A fragment that cannot be part of any packet: zero length, beyond 65,535, not a multiple of 8; or one that keeps
    /// the transport header away from the first fragment (RFC 1858, RFC 7112).
    BadFragment,
    /// The virtio-net header contradicts the packet.
    BadOffload,
}

/// Where a packet stands in a fragmented datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// The first fragment: it has the L4 header.
    First {
        /// Identification that all fragments share.
        id: u32,
    },
    /// A later fragment: no L4 header, so no ports.
    Later {
        /// Identification that all fragments share.
        id: u32,
        /// Offset of this fragment's data in the original datagram, in bytes.
        offset_bytes: u16,
        /// Whether it is the last one.
        last: bool,
    },
}

/// What an ICMP or ICMPv6 message is to a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Echo request with its identifier.
    EchoRequest {
        /// Identifier.
        id: u16,
    },
    /// Echo reply with its identifier.
    EchoReply {
        /// Identifier.
        id: u16,
    },
    /// An error that quotes a packet; `quoted` is the quoted packet's flow as it was sent, if enough of it is there.
    Error {
        /// The flow of the quoted packet.
        quoted: Option<FlowKey>,
    },
    /// IPv6 neighbor discovery or multicast listener discovery.
    Neighbor,
    /// Anything else.
    Other,
}

/// The transport header's meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum L4 {
    /// TCP with its flag byte (RFC 9293 §3.1; CWR ECE URG ACK PSH RST SYN FIN from the high bit).
    Tcp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Flags.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
    },
    /// SCTP.
    Sctp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Type of the first chunk (RFC 9260 §3.2).
        chunk: u8,
    },
    /// ICMP or ICMPv6.
    Icmp {
        /// Type field.
        kind: u8,
        /// Code field.
        code: u8,
        /// Its role.
        meaning: IcmpKind,
    },
    /// A protocol without ports, or a later fragment.
    Other,
}

/// A frame that was checked: Ethernet II with an IPv4 or IPv6 packet whose lengths hold together. Offsets count from
/// the start of the frame. `Copy` and small, so that stages pass it by value; it describes the bytes as they were
/// checked, and an edit that changes ports or addresses leaves it behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Transport protocol, behind all extension headers.
    pub protocol: Protocol,
    /// Offset of the IP header, in bytes.
    pub l3_offset: u16,
    /// Offset of the transport header (or of the fragment's data), in bytes.
    pub l4_offset: u16,
    /// Offset of the transport payload, in bytes; equals `end` when there is none.
    pub payload_offset: u16,
    /// Offset behind the IP packet, in bytes; what follows is Ethernet padding.
    pub end: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// DSCP and ECN byte.
    pub traffic_class: u8,
    /// Don't-fragment: the IPv4 flag; always true for IPv6.
    pub dont_fragment: bool,
    /// Fragment state.
    pub fragment: Fragment,
    /// Transport meaning.
    pub l4: L4,
}

/// What an IP header says, before its payload is looked at.
pub(crate) struct Layer3 {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) l4_offset: usize,
    pub(crate) end: usize,
    pub(crate) ttl: u8,
    pub(crate) traffic_class: u8,
    pub(crate) dont_fragment: bool,
    pub(crate) fragment: Fragment,
}

impl Packet {
    /// Checks a frame's bytes from the Ethernet header on. Bytes behind the IP packet are Ethernet padding and are
    /// ignored. The transport checksum is not looked at ([`crate::checksum::verify_l4`] does).
    ///
    /// A frame that does not carry IP is [`Malformed::BadHeader`]; whoever wants to tell looks at [`Ethernet`] first.
    pub fn check(bytes: &[u8]) -> Result<Packet, Malformed> {
        let l3 = match Ethernet::check(bytes)?.ethertype {
            EtherType::IPV4 => ipv4::check(bytes, ETHERNET_HEADER_BYTES)?,
            EtherType::IPV6 => ipv6::check(bytes, ETHERNET_HEADER_BYTES)?,
            _ => return Err(Malformed::BadHeader),
        };
        let (l4, l4_header_len) = check_l4(bytes, &l3)?;
        Ok(Packet {
            src: l3.src,
            dst: l3.dst,
            protocol: l3.protocol,
            l3_offset: ETHERNET_HEADER_BYTES as u16,
            l4_offset: l3.l4_offset as u16,
            payload_offset: (l3.l4_offset + l4_header_len) as u16,
            end: l3.end as u32,
            ttl: l3.ttl,
            traffic_class: l3.traffic_class,
            dont_fragment: l3.dont_fragment,
            fragment: l3.fragment,
            l4,
        })
    }

    /// The packet's flow; ports are 0 for a later fragment and for protocols without ports, and the identifier for an
    /// echo.
    #[inline]
    pub fn flow(&self) -> FlowKey {
        let (src_port, dst_port) = match self.l4 {
            L4::Tcp { src_port, dst_port, .. }
            | L4::Udp { src_port, dst_port }
            | L4::Sctp { src_port, dst_port, .. } => (src_port, dst_port),
            L4::Icmp { meaning: IcmpKind::EchoRequest { id } | IcmpKind::EchoReply { id }, .. } => (id, id),
            L4::Icmp { .. } | L4::Other => (0, 0),
        };
        FlowKey::new(self.protocol, self.src, src_port, self.dst, dst_port)
    }

    /// Whether it is only a part of a datagram.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment != Fragment::Whole
    }

    /// Length of the IP packet in bytes: what an MTU limits.
    #[inline]
    pub fn ip_len_bytes(&self) -> usize {
        self.end as usize - usize::from(self.l3_offset)
    }

    /// Length of the transport payload in bytes.
    #[inline]
    pub fn payload_len_bytes(&self) -> usize {
        self.end as usize - usize::from(self.payload_offset)
    }
}

/// Meaning and length of the transport header.
#[inline]
fn check_l4(bytes: &[u8], l3: &Layer3) -> Result<(L4, usize), Malformed> {
    if let Fragment::Later { offset_bytes, .. } = l3.fragment {
        return check_later_fragment(l3.protocol, offset_bytes);
    }
    let first_fragment = l3.fragment != Fragment::Whole;
    let l4 = bytes.get(l3.l4_offset..l3.end).ok_or(Malformed::Truncated)?;
    let checked = match l3.protocol {
        Protocol::TCP => tcp::check(l4),
        Protocol::UDP => udp::check(l4, first_fragment),
        Protocol::SCTP => sctp::check(l4),
        Protocol::ICMP if l3.src.is_ipv4() => icmp::check_v4(bytes, l3.l4_offset, l3.end),
        Protocol::ICMPV6 if l3.src.is_ipv6() => icmp::check_v6(bytes, l3.l4_offset, l3.end),
        _ => Ok((L4::Other, 0)),
    };
    match checked {
        Err(Malformed::Truncated) if first_fragment => Err(Malformed::BadFragment),
        checked => checked,
    }
}

/// A fragment that starts inside the transport header either replaces a part of it on reassembly or belongs to a first
/// fragment that was too short to be judged (RFC 1858 §3, §4).
fn check_later_fragment(protocol: Protocol, offset_bytes: u16) -> Result<(L4, usize), Malformed> {
    let header_len = match protocol {
        Protocol::TCP => tcp::TCP_HEADER_BYTES,
        Protocol::SCTP => sctp::SCTP_HEADER_BYTES,
        _ => 0,
    };
    if usize::from(offset_bytes) < header_len { Err(Malformed::BadFragment) } else { Ok((L4::Other, 0)) }
}

#[cfg(test)]
mod tests;
