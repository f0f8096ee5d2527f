//! The light look at a TCP or UDP frame: where its transport header starts and ends. [`crate::Packet::check`] is the full
//! one; this one runs where a frame was checked already or will be, and reads a dozen bytes only.

use crate::checksum::{TCP_FIELD, UDP_FIELD, combine, never_zero, sum_short};
use crate::{Fragment, Packet, Protocol};

/// Length of an Ethernet II header in bytes.
pub(crate) const ETHERNET_BYTES: usize = 14;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];

/// An unfragmented TCP or UDP packet in a frame. All offsets count from the start of the frame and lie inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transport {
    /// Whether the packet is IPv6.
    pub(crate) is_ipv6: bool,
    /// TCP or UDP.
    pub(crate) protocol: Protocol,
    /// Offset of the transport header.
    pub(crate) l4_offset: usize,
    /// Offset of the transport payload.
    pub(crate) payload_offset: usize,
    /// Offset behind the IP packet.
    pub(crate) end: usize,
}

impl Transport {
    /// `None` for anything but an unfragmented TCP or UDP packet whose lengths fit the frame.
    pub(crate) fn find(frame: &[u8]) -> Option<Transport> {
        let ethertype = frame.get(12..ETHERNET_BYTES)?;
        let (is_ipv6, protocol, l4_offset, end) = if ethertype == ETHERTYPE_IPV4 {
            let ip: &[u8; 20] = frame[ETHERNET_BYTES..].first_chunk()?;
            let is_fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0;
            if ip[0] >> 4 != 4 || is_fragment {
                return None;
            }
            let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
            (false, Protocol(ip[9]), ETHERNET_BYTES + usize::from(ip[0] & 0x0f) * 4, ETHERNET_BYTES + total)
        } else if ethertype == ETHERTYPE_IPV6 {
            let ip: &[u8; 40] = frame[ETHERNET_BYTES..].first_chunk()?;
            if ip[0] >> 4 != 6 {
                return None;
            }
            let end = ETHERNET_BYTES + 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            match Protocol(ip[6]) {
                direct @ (Protocol::TCP | Protocol::UDP) => (true, direct, ETHERNET_BYTES + 40, end),
                _ => {
                    let packet = Packet::check(frame).ok().filter(|p| p.fragment == Fragment::Whole)?;
                    (true, packet.protocol, usize::from(packet.l4_offset), end)
                }
            }
        } else {
            return None;
        };
        if end > frame.len() || l4_offset < ETHERNET_BYTES + 20 {
            return None;
        }
        let header_bytes = match protocol {
            Protocol::TCP => usize::from(frame.get(l4_offset + 12)? >> 4) * 4,
            Protocol::UDP => 8,
            _ => return None,
        };
        let payload_offset = l4_offset + header_bytes;
        let shortest = if protocol == Protocol::TCP { 20 } else { 8 };
        (header_bytes >= shortest && payload_offset <= end).then_some(Transport {
            is_ipv6,
            protocol,
            l4_offset,
            payload_offset,
            end,
        })
    }

    /// Offset of the checksum field from the transport header.
    pub(crate) fn checksum_offset(&self) -> usize {
        if self.protocol == Protocol::TCP { TCP_FIELD } else { UDP_FIELD }
    }

    /// The frame's bytes that hold source and destination address, in this order.
    pub(crate) fn addresses<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        if self.is_ipv6 { &frame[22..54] } else { &frame[26..34] }
    }

    /// The folded sum of the pseudo-header over the transport header and all of the payload: what a partial checksum holds.
    pub(crate) fn pseudo_sum(&self, frame: &[u8]) -> u16 {
        let length_and_protocol = combine((self.end - self.l4_offset) as u16, u16::from(self.protocol.0));
        combine(length_and_protocol, sum_short(self.addresses(frame)))
    }

    /// The checksum field for a folded sum.
    pub(crate) fn checksum_field(&self, sum: u16) -> [u8; 2] {
        let field = if self.protocol == Protocol::UDP { never_zero(!sum) } else { !sum };
        field.to_be_bytes()
    }
}
