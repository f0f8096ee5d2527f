//! ICMP (RFC 792) and ICMPv6 (RFC 4443) messages: which are echoes, which are errors, and what an error quotes.
//!
//! A quote is cut wherever its sender chose to cut it, so it is read leniently: what is there is used, what is missing
//! is missing. Nothing in it is trusted beyond finding the flow that it belongs to.

use crate::ipv4::{IPV4_HEADER_BYTES, OFFSET_MASK};
use crate::ipv6::{self, IPV6_HEADER_BYTES};
use crate::packet::{IcmpKind, Malformed};
use crate::{FlowKey, L4, Packet, Protocol};
use std::net::{IpAddr, Ipv4Addr};

/// Length of the header of an echo or an error, in bytes.
pub const ICMP_HEADER_BYTES: usize = 8;

/// ICMP types.
pub mod v4 {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench, which nobody may obey (RFC 6633).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// ICMPv6 types.
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// The first type that is not an error (RFC 4443 §2.1).
    pub const FIRST_INFORMATIONAL: u8 = 128;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query, the first of three (RFC 2710).
    pub const MLD_FIRST: u8 = 130;
    /// Multicast listener done.
    pub const MLD_LAST: u8 = 132;
    /// Router solicitation, the first of five of neighbor discovery (RFC 4861).
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbor solicitation.
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbor advertisement.
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
    /// Version 2 multicast listener report (RFC 3810).
    pub const MLD2_REPORT: u8 = 143;
}

/// Checks the ICMP message at `l4..end` of a frame. Redirects and source quenches quote packets too, but no endpoint
/// may obey them, so they are not errors of a flow.
pub(crate) fn check_v4(bytes: &[u8], l4: usize, end: usize) -> Result<(L4, usize), Malformed> {
    let message = &bytes[l4..end];
    let header: &[u8; ICMP_HEADER_BYTES] = message.first_chunk().ok_or(Malformed::Truncated)?;
    let id = u16::from_be_bytes([header[4], header[5]]);
    let meaning = match header[0] {
        v4::ECHO_REQUEST => IcmpKind::EchoRequest { id },
        v4::ECHO_REPLY => IcmpKind::EchoReply { id },
        v4::UNREACHABLE | v4::TIME_EXCEEDED | v4::PARAMETER_PROBLEM => {
            IcmpKind::Error { quoted: Quote::find_v4(bytes, l4 + ICMP_HEADER_BYTES, end).and_then(|q| q.flow(bytes)) }
        }
        _ => IcmpKind::Other,
    };
    Ok((L4::Icmp { kind: header[0], code: header[1], meaning }, ICMP_HEADER_BYTES))
}

/// Checks the ICMPv6 message at `l4..end` of a frame.
pub(crate) fn check_v6(bytes: &[u8], l4: usize, end: usize) -> Result<(L4, usize), Malformed> {
    let message = &bytes[l4..end];
    let [kind, code, _, _] = *message.first_chunk().ok_or(Malformed::Truncated)?;
    let id = message.get(4..6).map(|id| u16::from_be_bytes([id[0], id[1]]));
    let meaning = match kind {
        v6::ECHO_REQUEST => IcmpKind::EchoRequest { id: id.ok_or(Malformed::Truncated)? },
        v6::ECHO_REPLY => IcmpKind::EchoReply { id: id.ok_or(Malformed::Truncated)? },
        v6::UNREACHABLE..=v6::PARAMETER_PROBLEM => {
            IcmpKind::Error { quoted: Quote::find_v6(bytes, l4 + ICMP_HEADER_BYTES, end).and_then(|q| q.flow(bytes)) }
        }
        0..v6::FIRST_INFORMATIONAL => IcmpKind::Error { quoted: None },
        v6::MLD_FIRST..=v6::MLD_LAST | v6::ROUTER_SOLICITATION..=v6::REDIRECT | v6::MLD2_REPORT => IcmpKind::Neighbor,
        _ => IcmpKind::Other,
    };
    Ok((L4::Icmp { kind, code, meaning }, ICMP_HEADER_BYTES.min(message.len())))
}

/// Where the packet lies that an ICMP error quotes, in offsets from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quote {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) l3_offset: usize,
    /// Where the transport header starts, which may be at `end`.
    pub(crate) l4_offset: usize,
    pub(crate) end: usize,
}

impl Quote {
    /// The quote of an error, if at least its IP header is there and it is not a later fragment.
    pub(crate) fn find(bytes: &[u8], packet: &Packet) -> Option<Quote> {
        let L4::Icmp { meaning: IcmpKind::Error { .. }, .. } = packet.l4 else { return None };
        let start = usize::from(packet.l4_offset) + ICMP_HEADER_BYTES;
        match packet.src {
            IpAddr::V4(_) => Quote::find_v4(bytes, start, packet.end as usize),
            IpAddr::V6(_) => Quote::find_v6(bytes, start, packet.end as usize),
        }
    }

    fn find_v4(bytes: &[u8], l3_offset: usize, end: usize) -> Option<Quote> {
        let quoted = bytes.get(l3_offset..end)?;
        let fixed: &[u8; IPV4_HEADER_BYTES] = quoted.first_chunk()?;
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        let later = u16::from_be_bytes([fixed[6], fixed[7]]) & OFFSET_MASK != 0;
        if fixed[0] >> 4 != 4 || header_len < IPV4_HEADER_BYTES || header_len > quoted.len() || later {
            return None;
        }
        Some(Quote {
            src: Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]).into(),
            dst: Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]).into(),
            protocol: Protocol(fixed[9]),
            l3_offset,
            l4_offset: l3_offset + header_len,
            end,
        })
    }

    fn find_v6(bytes: &[u8], l3_offset: usize, end: usize) -> Option<Quote> {
        let quoted = bytes.get(l3_offset..end)?;
        let fixed: &[u8; IPV6_HEADER_BYTES] = quoted.first_chunk()?;
        if fixed[0] >> 4 != 6 {
            return None;
        }
        let (src, dst) = (ipv6::address(fixed, 8), ipv6::address(fixed, 24));
        // Such a packet was never sent, and as a flow key it would pass for one of IPv4.
        if ipv6::is_ipv4_mapped(src) || ipv6::is_ipv4_mapped(dst) {
            return None;
        }
        let (protocol, l4) = skip_extensions(quoted, fixed[6])?;
        Some(Quote {
            src: src.into(),
            dst: dst.into(),
            protocol: Protocol(protocol),
            l3_offset,
            l4_offset: l3_offset + l4,
            end,
        })
    }

    /// The quoted packet's flow as it was sent; `None` if its ports were cut off, or if it is an ICMP message that is
    /// not an echo, which nobody may complain about.
    fn flow(&self, bytes: &[u8]) -> Option<FlowKey> {
        let l4 = &bytes[self.l4_offset..self.end];
        let (src_port, dst_port) = if self.protocol.has_ports() {
            let [a, b, c, d] = *l4.first_chunk()?;
            (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        } else if self.is_icmp() {
            self.echo_request(l4)?;
            let id = u16::from_be_bytes([l4[4], l4[5]]);
            (id, id)
        } else {
            (0, 0)
        };
        Some(FlowKey::new(self.protocol, self.src, src_port, self.dst, dst_port))
    }

    pub(crate) fn is_icmp(&self) -> bool {
        match self.src {
            IpAddr::V4(_) => self.protocol == Protocol::ICMP,
            IpAddr::V6(_) => self.protocol == Protocol::ICMPV6,
        }
    }

    /// Whether a quoted ICMP message is an echo request (true) or reply (false) that is quoted as far as its
    /// identifier.
    pub(crate) fn echo_request(&self, l4: &[u8]) -> Option<bool> {
        let [kind, _, _, _, _, _] = *l4.first_chunk()?;
        let (request, reply) = match self.src {
            IpAddr::V4(_) => (v4::ECHO_REQUEST, v4::ECHO_REPLY),
            IpAddr::V6(_) => (v6::ECHO_REQUEST, v6::ECHO_REPLY),
        };
        (kind == request || kind == reply).then_some(kind == request)
    }
}

/// Protocol and offset of the transport header of a quoted IPv6 packet; `None` for a later fragment or a chain that is
/// cut.
fn skip_extensions(quoted: &[u8], mut protocol: u8) -> Option<(u8, usize)> {
    let mut offset = IPV6_HEADER_BYTES;
    for _ in 0..ipv6::EXTENSION_HEADERS_MAX {
        let len = match protocol {
            ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::DESTINATION_OPTIONS => {
                (usize::from(*quoted.get(offset + 1)?) + 1) * 8
            }
            ipv6::FRAGMENT => {
                let field = u16::from_be_bytes([*quoted.get(offset + 2)?, *quoted.get(offset + 3)?]);
                if field & 0xfff8 != 0 {
                    return None;
                }
                8
            }
            _ => return Some((protocol, offset)),
        };
        protocol = *quoted.get(offset)?;
        offset += len;
        if offset > quoted.len() {
            return None;
        }
    }
    None
}
