//! Checksums: the Internet checksum (RFC 1071), its incremental update (RFC 1624), and SCTP's CRC32c (RFC 9260 §A).
//!
//! Sums are held as the folded ones-complement sum of big-endian 16-bit words, not complemented; a header field holds
//! the complement. A frame's [`Checksum`] says which of the two its transport field holds.

use crate::{Checksum, Frame, L4, Packet, Protocol};
use std::net::IpAddr;

/// Byte offset of the checksum field in a TCP header.
pub const TCP_FIELD: usize = 16;
/// Byte offset of the checksum field in a UDP header.
pub const UDP_FIELD: usize = 6;
/// Byte offset of the checksum field in an ICMP or ICMPv6 header.
pub const ICMP_FIELD: usize = 2;
/// Byte offset of the checksum field in an SCTP common header.
pub const SCTP_FIELD: usize = 8;

#[inline]
const fn fold(mut wide: u64) -> u16 {
    wide = (wide >> 32) + (wide & 0xffff_ffff);
    wide = (wide >> 16) + (wide & 0xffff);
    wide = (wide >> 16) + (wide & 0xffff);
    wide = (wide >> 16) + (wide & 0xffff);
    wide as u16
}

/// The ones-complement sum of `bytes`, an odd last byte padded with zero.
pub fn sum(bytes: &[u8]) -> u16 {
    // The sum does not care about byte order until the end (RFC 1071 §2), so native words are added. Four accumulators
    // keep the carry chains independent; u128 keeps their carries.
    let (blocks, tail) = bytes.as_chunks::<32>();
    let mut lanes = [0u128; 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane += u128::from(u64::from_ne_bytes(*word));
        }
    }
    let total: u128 = lanes.iter().sum();
    let folded = ((total >> 64) as u64 & 0xffff_ffff) + (total as u64 >> 32) + (total as u64 & 0xffff_ffff);
    combine(fold(folded).to_be(), sum_short(tail))
}

/// [`sum`] for a few dozen bytes: one accumulator, no unrolling.
#[inline]
pub(crate) fn sum_short(bytes: &[u8]) -> u16 {
    let (words, tail) = bytes.as_chunks::<4>();
    let mut total: u64 = words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let mut last = [0u8; 4];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    total += u64::from(u32::from_ne_bytes(last));
    fold(total).to_be()
}

/// The sum of two pieces. The first piece must have an even length.
#[inline]
pub const fn combine(first: u16, second: u16) -> u16 {
    fold(first as u64 + second as u64)
}

/// The sum of the pseudo-header of a transport packet of `len_bytes` (RFC 9293 §3.1, RFC 8200 §8.1).
#[inline]
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: Protocol, len_bytes: u32) -> u16 {
    let addresses = combine(sum_address(src), sum_address(dst));
    fold(u64::from(addresses) + u64::from(protocol.0) + u64::from(len_bytes))
}

#[inline]
fn sum_address(addr: IpAddr) -> u16 {
    match addr {
        IpAddr::V4(v4) => sum_short(&v4.octets()),
        IpAddr::V6(v6) => sum_short(&v6.octets()),
    }
}

/// What changed under a checksum, as a sum: for every 16-bit word, the complement of the old value and the new value
/// (RFC 1624 equation 3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u16);

impl Delta {
    /// Nothing changed.
    pub const NONE: Delta = Delta(0);

    /// Adds the change of one word.
    #[inline]
    pub const fn word(self, old: u16, new: u16) -> Delta {
        Delta(fold(self.0 as u64 + !old as u64 + new as u64))
    }

    /// Adds the change of an address to another of the same family.
    #[inline]
    pub fn address(self, old: IpAddr, new: IpAddr) -> Delta {
        self.word(sum_address(old), sum_address(new))
    }

    /// Both changes.
    #[inline]
    pub const fn and(self, other: Delta) -> Delta {
        Delta(combine(self.0, other.0))
    }

    /// The checksum field (a complement) after the change.
    #[inline]
    pub const fn apply(self, field: u16) -> u16 {
        !combine(!field, self.0)
    }

    /// The folded sum (not a complement: the field of [`Checksum::Partial`]) after the change.
    #[inline]
    pub const fn apply_to_sum(self, sum: u16) -> u16 {
        combine(sum, self.0)
    }
}

/// The CRC32c of an SCTP packet as it is written at [`SCTP_FIELD`]; the field's own bytes count as zero.
pub fn sctp_crc(packet: &[u8]) -> [u8; 4] {
    let (before, rest) = packet.split_at(SCTP_FIELD.min(packet.len()));
    let crc = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
    crc32c::crc32c_append(crc, rest.get(4..).unwrap_or(&[])).to_le_bytes()
}

/// The checksum field of an SCTP packet after four of its bytes changed, `behind_bytes` bytes before its end. A CRC is
/// linear, so a packet that was corrupt stays exactly as corrupt as it was.
pub(crate) fn sctp_crc_update(field: [u8; 4], old: [u8; 4], new: [u8; 4], behind_bytes: usize) -> [u8; 4] {
    let difference = crc32c::crc32c(&old) ^ crc32c::crc32c(&new);
    let shifted = crc32c::crc32c_combine(difference, 0, behind_bytes);
    (u32::from_le_bytes(field) ^ shifted).to_le_bytes()
}

/// Whether the full transport checksum of a frame is right. True for what has none to verify: fragments (a checksum
/// covers the whole datagram), UDP over IPv4 with a zero field (RFC 768), and protocols that are not looked into. A
/// zero field of UDP over IPv6 is wrong (RFC 8200 §8.1).
///
/// The field must be full: for a frame in state [`Checksum::Partial`] the answer is meaningless.
pub fn verify_l4(bytes: &[u8], packet: &Packet) -> bool {
    if packet.is_fragment() {
        return true;
    }
    let Some(l4) = bytes.get(usize::from(packet.l4_offset)..packet.end as usize) else { return false };
    match packet.l4 {
        L4::Tcp { .. } => sum_with_pseudo_header(packet, l4) == 0xffff,
        L4::Udp { .. } => {
            let [_, _, _, _, len_high, len_low, high, low, ..] = *l4 else { return false };
            if high == 0 && low == 0 {
                return packet.src.is_ipv4();
            }
            let len = usize::from(u16::from_be_bytes([len_high, len_low]));
            l4.get(..len).is_some_and(|datagram| sum_with_pseudo_header(packet, datagram) == 0xffff)
        }
        L4::Sctp { .. } => l4.get(SCTP_FIELD..SCTP_FIELD + 4).is_some_and(|field| field == sctp_crc(l4)),
        L4::Icmp { .. } if packet.protocol == Protocol::ICMP => sum(l4) == 0xffff,
        L4::Icmp { .. } => sum_with_pseudo_header(packet, l4) == 0xffff,
        L4::Other => true,
    }
}

fn sum_with_pseudo_header(packet: &Packet, l4: &[u8]) -> u16 {
    combine(pseudo_header(packet.src, packet.dst, packet.protocol, l4.len() as u32), sum(l4))
}

/// Computes the full checksum of a frame in state [`Checksum::Partial`] and marks it [`Checksum::Verified`]; a frame in
/// any other state is left alone. Super-frames are cut before, not finished as one.
pub fn finish_partial(frame: &mut Frame, packet: &Packet) {
    if frame.offload.checksum != Checksum::Partial {
        return;
    }
    debug_assert!(frame.offload.segmentation.is_none(), "a super-frame has no single checksum");
    write_full(frame.bytes_mut(), packet);
    frame.offload.checksum = Checksum::Verified;
}

/// Writes the full transport checksum of a whole TCP, UDP, SCTP, ICMP or ICMPv6 packet, whatever its field holds.
pub fn write_full(bytes: &mut [u8], packet: &Packet) {
    let start = usize::from(packet.l4_offset);
    let Some(l4) = bytes.get_mut(start..packet.end as usize) else { return };
    let (field, len) = match packet.l4 {
        L4::Tcp { .. } => (TCP_FIELD, l4.len()),
        L4::Udp { .. } => (UDP_FIELD, usize::from(u16::from_be_bytes([l4[4], l4[5]])).min(l4.len())),
        L4::Icmp { .. } => (ICMP_FIELD, l4.len()),
        L4::Sctp { .. } => {
            let crc = sctp_crc(l4);
            l4[SCTP_FIELD..SCTP_FIELD + 4].copy_from_slice(&crc);
            return;
        }
        L4::Other => return,
    };
    let covered = &mut l4[..len];
    covered[field..field + 2].fill(0);
    let sum = match packet.protocol {
        Protocol::ICMP => sum(covered),
        _ => sum_with_pseudo_header(packet, covered),
    };
    let full = if packet.protocol == Protocol::UDP { never_zero(!sum) } else { !sum };
    covered[field..field + 2].copy_from_slice(&full.to_be_bytes());
}

/// UDP sends a computed zero as all ones, because zero means that there is no checksum (RFC 768).
#[inline]
pub(crate) const fn never_zero(field: u16) -> u16 {
    if field == 0 { 0xffff } else { field }
}

#[cfg(test)]
mod tests;
