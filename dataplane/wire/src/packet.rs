//! The checked view of one frame that carries an IP packet: offsets and meaning, found in one pass.

use crate::{FlowKey, Protocol};
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
    /// A source that no packet may have: multicast, broadcast, loopback, unspecified where it is not allowed.
    BadAddress,
    /// More IPv6 extension headers than [`crate::Packet`] follows, or one out of order, or an IPv4 source route option.
    BadOptions,
    /// A fragment that cannot be part of any packet: zero length, beyond 65,535, not a multiple of 8.
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

/// A frame that was checked: Ethernet II with an IPv4 or IPv6 packet whose lengths hold together. Offsets count from the
/// start of the frame. `Copy` and small, so that stages pass it by value; it describes the bytes as they were checked, and
/// an edit that changes ports or addresses leaves it behind.
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

impl Packet {
    /// Checks a frame's bytes from the Ethernet header on. `allow_padding_bytes` never matters: trailing bytes behind the
    /// IP packet are Ethernet padding and are ignored.
    pub fn check(bytes: &[u8]) -> Result<Packet, Malformed> {
        let _ = bytes;
        todo!("wire")
    }

    /// The packet's flow; ports are 0 for a later fragment and for protocols without ports, and the identifier for an echo.
    pub fn flow(&self) -> FlowKey {
        todo!("wire")
    }
}
