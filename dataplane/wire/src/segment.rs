//! Cutting a super-frame into segments without copying its payload.
//!
//! A [`SegmentPlan`] borrows a super-frame and describes its segments: each is a header that is written to the caller's scratch
//! ([`SegmentPlan::write_header`]) and a range of the frame's payload ([`SegmentPlan::payload`]), ready for an iovec. Checksums
//! are complete and computed from the bytes, whatever the super-frame's checksum field holds.
//!
//! What differs between the segments, as in the kernel's `tcp_gso_segment` and `__udp_gso_segment`: lengths, the IPv4
//! identification (counts up), the TCP sequence number; FIN and PSH are only on the last segment, CWR only on the first.

use crate::checksum::{combine, sum, sum_short};
use crate::transport::{ETHERNET_BYTES, Transport};
use crate::{Offload, Protocol};
use std::ops::Range;

const TCP_FLAGS: usize = 13;
const FLAG_FIN: u8 = 0x01;
const FLAG_PSH: u8 = 0x08;
const FLAG_CWR: u8 = 0x80;

/// How one super-frame is cut.
#[derive(Clone, Copy, Debug)]
pub struct SegmentPlan<'a> {
    frame: &'a [u8],
    transport: Transport,
    size_bytes: usize,
    count: usize,
    /// Sum of the IPv4 header without total length, identification and checksum.
    ip_sum: u16,
    /// Sum of the pseudo-header without length, and of the transport header without what differs between segments.
    l4_sum: u16,
}

impl<'a> SegmentPlan<'a> {
    /// The plan for `frame` (from its Ethernet header on), or `None` if it is not a super-frame or its bytes contradict its
    /// `offload`.
    pub fn new(frame: &'a [u8], offload: &Offload) -> Option<SegmentPlan<'a>> {
        let segmentation = offload.segmentation?;
        let transport = Transport::find(frame)?;
        let size_bytes = usize::from(segmentation.size_bytes);
        let payload_bytes = transport.end - transport.payload_offset;
        if size_bytes == 0 || payload_bytes == 0 {
            return None;
        }
        let ip = &frame[ETHERNET_BYTES..transport.l4_offset];
        let ip_sum = if transport.is_ipv6 { 0 } else { sum_pieces([&ip[..2], &ip[6..10], &ip[12..]]) };
        let l4 = &frame[transport.l4_offset..transport.payload_offset];
        let pseudo = combine(sum_short(transport.addresses(frame)), u16::from(transport.protocol.0));
        let l4_sum = match transport.protocol {
            // Ports; acknowledgment; data offset without flags; window; urgent pointer and options.
            Protocol::TCP => sum_pieces([&l4[..4], &l4[8..12], &[l4[12], 0], &l4[14..16], &l4[18..]]),
            _ => sum_short(&l4[..4]),
        };
        let l4_sum = combine(pseudo, l4_sum);
        let count = payload_bytes.div_ceil(size_bytes);
        Some(SegmentPlan { frame, transport, size_bytes, count, ip_sum, l4_sum })
    }

    /// Number of segments, at least 1.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Payload bytes of every segment but the last.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Length of each segment's Ethernet, IP and transport headers together.
    pub fn header_len(&self) -> usize {
        self.transport.payload_offset
    }

    /// Where the payload of segment `index` lies in the super-frame.
    ///
    /// # Panics
    /// If `index` is not below [`SegmentPlan::count`].
    pub fn payload(&self, index: usize) -> Range<usize> {
        assert!(index < self.count, "a segment of the plan");
        let start = self.transport.payload_offset + index * self.size_bytes;
        start..(start + self.size_bytes).min(self.transport.end)
    }

    /// Length of segment `index` as a frame: headers and payload.
    pub fn segment_len(&self, index: usize) -> usize {
        self.header_len() + self.payload(index).len()
    }

    /// Writes the headers of segment `index` to the first [`SegmentPlan::header_len`] bytes of `out`.
    ///
    /// # Panics
    /// If `index` is not below [`SegmentPlan::count`] or `out` is too short.
    pub fn write_header(&self, index: usize, out: &mut [u8]) {
        let payload = self.payload(index);
        let Transport { is_ipv6, protocol, l4_offset, payload_offset, .. } = self.transport;
        let header = &mut out[..payload_offset];
        header.copy_from_slice(&self.frame[..payload_offset]);

        let l4_len = payload_offset - l4_offset + payload.len();
        let ip = &mut header[ETHERNET_BYTES..];
        if is_ipv6 {
            let length = (l4_offset - ETHERNET_BYTES - 40 + l4_len) as u16;
            ip[4..6].copy_from_slice(&length.to_be_bytes());
        } else {
            let length = (l4_offset - ETHERNET_BYTES + l4_len) as u16;
            let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(index as u16);
            let sum = combine(combine(self.ip_sum, length), id);
            ip[2..4].copy_from_slice(&length.to_be_bytes());
            ip[4..6].copy_from_slice(&id.to_be_bytes());
            ip[10..12].copy_from_slice(&(!sum).to_be_bytes());
        }

        let sum = combine(combine(self.l4_sum, l4_len as u16), sum(&self.frame[payload.clone()]));
        let l4 = &mut header[l4_offset..];
        let sum = match protocol {
            Protocol::TCP => {
                let offset = (payload.start - payload_offset) as u32;
                let seq = u32::from_be_bytes([l4[4], l4[5], l4[6], l4[7]]).wrapping_add(offset).to_be_bytes();
                l4[4..8].copy_from_slice(&seq);
                if index + 1 < self.count {
                    l4[TCP_FLAGS] &= !(FLAG_FIN | FLAG_PSH);
                }
                if index > 0 {
                    l4[TCP_FLAGS] &= !FLAG_CWR;
                }
                combine(combine(sum, sum_short(&seq)), u16::from(l4[TCP_FLAGS]))
            }
            _ => {
                l4[4..6].copy_from_slice(&(l4_len as u16).to_be_bytes());
                combine(sum, l4_len as u16)
            }
        };
        let field = self.transport.checksum_offset();
        l4[field..field + 2].copy_from_slice(&self.transport.checksum_field(sum));
    }
}

/// The sum of pieces of even length.
fn sum_pieces<const N: usize>(pieces: [&[u8]; N]) -> u16 {
    pieces.iter().fold(0, |sum, piece| combine(sum, sum_short(piece)))
}

#[cfg(test)]
mod tests;
