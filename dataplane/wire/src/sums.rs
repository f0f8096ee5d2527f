//! Ones' complement sums (RFC 1071) that segmentation and merging need.

use crate::Protocol;
use std::net::IpAddr;

/// Folds a sum to 16 bits.
pub(crate) fn fold(sum: u64) -> u32 {
    let mut sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    let mut sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u32
}

/// The folded sum of `bytes` as big-endian words, an odd tail padded with zero, on top of `initial`.
pub(crate) fn sum(bytes: &[u8], initial: u32) -> u32 {
    let mut chunks = bytes.chunks_exact(4);
    let mut total = 0u64;
    for chunk in &mut chunks {
        total += u64::from(u32::from_be_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
    }
    let mut last = [0u8; 4];
    last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    fold(total + u64::from(u32::from_be_bytes(last)) + u64::from(initial))
}

/// The folded sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1).
pub(crate) fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: Protocol, l4_len: u32) -> u32 {
    let addresses = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => sum(&dst.octets(), sum(&src.octets(), 0)),
        (IpAddr::V6(src), IpAddr::V6(dst)) => sum(&dst.octets(), sum(&src.octets(), 0)),
        _ => 0,
    };
    fold(u64::from(addresses) + u64::from(protocol.0) + u64::from(l4_len))
}
