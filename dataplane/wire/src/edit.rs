//! Edits of a frame in place: MAC addresses, TTL, ECN, and the translation of a packet (or of the packet that an ICMP
//! error quotes) into one of another flow.
//!
//! Checksums are updated, never computed afresh (RFC 1624, RFC 5508 for quotes): a frame that was corrupt stays exactly
//! as corrupt as it was, and whoever verifies it later finds out. What a transport checksum field holds depends on the
//! frame's [`Checksum`]: a full checksum changes with addresses and ports; the pseudo-header sum of a partial one with
//! addresses only.
//!
//! A [`Packet`] describes the bytes before an edit. Its offsets stay right, its addresses and ports do not.

use crate::checksum::{self, Delta, ICMP_FIELD, SCTP_FIELD, TCP_FIELD, UDP_FIELD};
use crate::icmp::Quote;
use crate::{Checksum, FlowKey, Fragment, Frame, IcmpKind, L4, MacAddr, Packet, Protocol};
use std::net::IpAddr;

/// Byte offset of the header checksum in an IPv4 header.
const IPV4_CHECKSUM: usize = 10;
/// Byte offset of the identifier in an ICMP or ICMPv6 echo.
const ECHO_ID: usize = 4;

/// Sets the Ethernet addresses.
///
/// # Panics
/// If the frame is shorter than an Ethernet header.
#[inline]
pub fn set_macs(frame: &mut Frame, dst: MacAddr, src: MacAddr) {
    let bytes = frame.bytes_mut();
    bytes[..6].copy_from_slice(&dst.0);
    bytes[6..12].copy_from_slice(&src.0);
}

/// Decrements the TTL or hop limit by one; 0 stays 0.
#[inline]
pub fn decrement_ttl(frame: &mut Frame, packet: &Packet) {
    set_ttl(frame, packet, packet.ttl.saturating_sub(1));
}

/// Sets the TTL or hop limit.
#[inline]
pub fn set_ttl(frame: &mut Frame, packet: &Packet, ttl: u8) {
    let l3 = usize::from(packet.l3_offset);
    let bytes = frame.bytes_mut();
    match packet.src {
        IpAddr::V4(_) => {
            let [_, protocol] = word(bytes, l3 + 8).to_be_bytes();
            let delta = replace_word(bytes, l3 + 8, u16::from_be_bytes([ttl, protocol]));
            update_field(bytes, l3 + IPV4_CHECKSUM, delta);
        }
        IpAddr::V6(_) => bytes[l3 + 7] = ttl,
    }
}

/// Sets the two ECN bits (RFC 3168 §5: 0 Not-ECT, 1 ECT(1), 2 ECT(0), 3 CE) to the low two bits of `ecn`.
pub fn set_ecn(frame: &mut Frame, packet: &Packet, ecn: u8) {
    let l3 = usize::from(packet.l3_offset);
    let ecn = u16::from(ecn & 0b11);
    let bytes = frame.bytes_mut();
    let first = word(bytes, l3);
    match packet.src {
        IpAddr::V4(_) => {
            let delta = replace_word(bytes, l3, first & !0b11 | ecn);
            update_field(bytes, l3 + IPV4_CHECKSUM, delta);
        }
        IpAddr::V6(_) => {
            replace_word(bytes, l3, first & !(0b11 << 4) | ecn << 4);
        }
    }
}

/// Turns a packet into one of flow `to`: the addresses, and the ports or the echo identifier where the packet has them.
/// A request takes the identifier from the source port, a reply from the destination port. The protocol stays.
///
/// Two things cannot be kept right: the ports of a fragmented SCTP packet (its CRC covers bytes that are not here), and
/// protocols without a known header whose checksum covers addresses.
///
/// # Panics
/// In debug builds, if `to` is of the other address family; otherwise such a `to` changes nothing.
pub fn rewrite(frame: &mut Frame, packet: &Packet, to: &FlowKey) {
    let (src, dst) = (to.src(), to.dst());
    if src.is_ipv4() != packet.src.is_ipv4() || dst.is_ipv4() != packet.dst.is_ipv4() {
        debug_assert!(false, "a rewrite stays in its address family: {packet:?} to {to}");
        return;
    }
    let state = frame.offload.checksum;
    let bytes = frame.bytes_mut();
    let addresses = replace_addresses(bytes, usize::from(packet.l3_offset), (packet.src, packet.dst), (src, dst));
    let l4 = usize::from(packet.l4_offset);
    match packet.l4 {
        L4::Tcp { .. } => {
            let ports = replace_ports(bytes, l4, to);
            update_transport(bytes, l4 + TCP_FIELD, state, addresses, ports);
        }
        L4::Udp { .. } => {
            let ports = replace_ports(bytes, l4, to);
            // Zero is no checksum, and stays none.
            if state == Checksum::Partial || word(bytes, l4 + UDP_FIELD) != 0 {
                update_transport(bytes, l4 + UDP_FIELD, state, addresses, ports);
                let field = checksum::never_zero(word(bytes, l4 + UDP_FIELD));
                bytes[l4 + UDP_FIELD..][..2].copy_from_slice(&field.to_be_bytes());
            }
        }
        L4::Sctp { .. } => replace_sctp_ports(bytes, packet, to),
        L4::Icmp { meaning, .. } => {
            let id = match meaning {
                IcmpKind::EchoRequest { .. } => replace_word(bytes, l4 + ECHO_ID, to.src_port),
                IcmpKind::EchoReply { .. } => replace_word(bytes, l4 + ECHO_ID, to.dst_port),
                _ => Delta::NONE,
            };
            let pseudo_header = if src.is_ipv6() { addresses } else { Delta::NONE };
            update_icmp(&mut bytes[l4..packet.end as usize], pseudo_header.and(id));
        }
        L4::Other => {}
    }
}

/// Turns the packet that an ICMP error quotes into one of flow `to`, as far as the quote goes: addresses, ports or echo
/// identifier, and every checksum that covers them, the error's own included. The error's own addresses are left to
/// [`rewrite`]. No effect on a packet that is no error or that quotes nothing usable.
///
/// # Panics
/// In debug builds, if `to` is of the other address family; otherwise such a `to` changes nothing.
pub fn rewrite_quoted(frame: &mut Frame, packet: &Packet, to: &FlowKey) {
    let bytes = frame.bytes_mut();
    let Some(quote) = Quote::find(bytes, packet) else { return };
    let (src, dst) = (to.src(), to.dst());
    if src.is_ipv4() != quote.src.is_ipv4() || dst.is_ipv4() != quote.dst.is_ipv4() {
        debug_assert!(false, "a rewrite stays in its address family: {quote:?} to {to}");
        return;
    }
    let old_header_sum = ipv4_header_field(bytes, &quote);
    let addresses = replace_addresses(bytes, quote.l3_offset, (quote.src, quote.dst), (src, dst));
    let header_field = Delta::NONE.word(old_header_sum, ipv4_header_field(bytes, &quote));
    let transport = rewrite_quoted_transport(&mut bytes[quote.l4_offset..quote.end], &quote, addresses, to);
    update_field(bytes, usize::from(packet.l4_offset) + ICMP_FIELD, addresses.and(header_field).and(transport));
}

/// The header checksum of a quoted IPv4 packet; 0 for IPv6, which has none.
fn ipv4_header_field(bytes: &[u8], quote: &Quote) -> u16 {
    if quote.src.is_ipv4() { word(bytes, quote.l3_offset + IPV4_CHECKSUM) } else { 0 }
}

/// Rewrites what is there of a quoted transport header; gives the sum of everything that changed in it.
fn rewrite_quoted_transport(l4: &mut [u8], quote: &Quote, addresses: Delta, to: &FlowKey) -> Delta {
    let (changed, pseudo_header, field) = if quote.protocol.has_ports() && l4.len() >= 4 {
        let field = match quote.protocol {
            Protocol::TCP => Some(TCP_FIELD),
            Protocol::UDP => Some(UDP_FIELD).filter(|field| l4.get(*field..field + 2) != Some(&[0, 0])),
            _ => None,
        };
        (replace_ports(l4, 0, to), addresses, field)
    } else if quote.is_icmp()
        && let Some(request) = quote.echo_request(l4)
    {
        let id = if request { to.src_port } else { to.dst_port };
        let pseudo_header = if quote.src.is_ipv6() { addresses } else { Delta::NONE };
        (replace_word(l4, ECHO_ID, id), pseudo_header, Some(ICMP_FIELD))
    } else {
        return Delta::NONE;
    };
    let Some(field) = field.filter(|field| l4.len() >= field + 2) else { return changed };
    let updated = match pseudo_header.and(changed).apply(word(l4, field)) {
        sum if quote.protocol == Protocol::UDP => checksum::never_zero(sum),
        sum => sum,
    };
    changed.and(replace_word(l4, field, updated))
}

/// Sets type and code of a whole ICMP or ICMPv6 message.
pub(crate) fn replace_icmp_kind(message: &mut [u8], kind_and_code: [u8; 2]) {
    let delta = replace_word(message, 0, u16::from_be_bytes(kind_and_code));
    update_icmp(message, delta);
}

/// Updates the checksum of an ICMP message. An echo reply with identifier 0, sequence number 0 and data of zeros is the
/// one message that is all zero and that no pseudo-header saves from it: its sum is 0, where every other sum that
/// vanishes is all ones, and an update cannot tell the two apart.
fn update_icmp(message: &mut [u8], delta: Delta) {
    update_field(message, ICMP_FIELD, delta);
    if message.iter().all(|byte| *byte == 0) {
        message[ICMP_FIELD..ICMP_FIELD + 2].fill(0xff);
    }
}

#[inline]
fn word(bytes: &[u8], offset: usize) -> u16 {
    u16::from_be_bytes([bytes[offset], bytes[offset + 1]])
}

#[inline]
fn replace_word(bytes: &mut [u8], offset: usize, new: u16) -> Delta {
    let old = word(bytes, offset);
    bytes[offset..offset + 2].copy_from_slice(&new.to_be_bytes());
    Delta::NONE.word(old, new)
}

#[inline]
fn update_field(bytes: &mut [u8], field: usize, delta: Delta) {
    let new = delta.apply(word(bytes, field));
    bytes[field..field + 2].copy_from_slice(&new.to_be_bytes());
}

#[inline]
fn update_transport(bytes: &mut [u8], field: usize, state: Checksum, addresses: Delta, ports: Delta) {
    let old = word(bytes, field);
    let new = match state {
        Checksum::Partial => addresses.apply_to_sum(old),
        Checksum::Complete | Checksum::Verified => addresses.and(ports).apply(old),
    };
    bytes[field..field + 2].copy_from_slice(&new.to_be_bytes());
}

/// Writes both addresses of the IP header at `l3` and updates an IPv4 header checksum; gives the change.
#[inline]
fn replace_addresses(bytes: &mut [u8], l3: usize, from: (IpAddr, IpAddr), to: (IpAddr, IpAddr)) -> Delta {
    let mut delta = Delta::NONE;
    for (position, (old, new)) in [(from.0, to.0), (from.1, to.1)].into_iter().enumerate() {
        if old == new {
            continue;
        }
        delta = delta.address(old, new);
        match new {
            IpAddr::V4(v4) => bytes[l3 + 12 + position * 4..][..4].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => bytes[l3 + 8 + position * 16..][..16].copy_from_slice(&v6.octets()),
        }
    }
    if to.0.is_ipv4() {
        update_field(bytes, l3 + IPV4_CHECKSUM, delta);
    }
    delta
}

#[inline]
fn replace_ports(bytes: &mut [u8], l4: usize, to: &FlowKey) -> Delta {
    replace_word(bytes, l4, to.src_port).and(replace_word(bytes, l4 + 2, to.dst_port))
}

/// SCTP's CRC has no pseudo-header, so only ports change it.
fn replace_sctp_ports(bytes: &mut [u8], packet: &Packet, to: &FlowKey) {
    let l4 = &mut bytes[usize::from(packet.l4_offset)..packet.end as usize];
    let old = [l4[0], l4[1], l4[2], l4[3]];
    replace_ports(l4, 0, to);
    let new = [l4[0], l4[1], l4[2], l4[3]];
    if packet.fragment == Fragment::Whole && old != new {
        let field = [l4[SCTP_FIELD], l4[SCTP_FIELD + 1], l4[SCTP_FIELD + 2], l4[SCTP_FIELD + 3]];
        let updated = checksum::sctp_crc_update(field, old, new, l4.len() - 4);
        l4[SCTP_FIELD..SCTP_FIELD + 4].copy_from_slice(&updated);
    }
}

#[cfg(test)]
mod tests;
