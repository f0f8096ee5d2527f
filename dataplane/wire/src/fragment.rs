//! How an IPv4 packet that is too large is cut into fragments (RFC 791 §3.2): headers to write, payload by reference.
//!
//! The plan only says what the fragments are; whoever sends them writes each header and puts the payload range behind
//! it. A fragment can be cut again. IPv6 packets and packets with DF are never cut on the way.

use crate::ethernet::ETHERNET_HEADER_BYTES;
use crate::ipv4::{FLAG_DF, FLAG_MF, IPV4_HEADER_BYTES, OFFSET_MASK};
use crate::{Packet, checksum};
use std::ops::Range;

/// The longest IPv4 header.
const IPV4_HEADER_MAX_BYTES: usize = 60;
/// Bit of an option's type that says that every fragment repeats it (RFC 791 §3.1).
const OPTION_COPIED: u8 = 0x80;

/// How one frame is cut.
#[derive(Clone, Debug)]
pub struct FragmentPlan {
    first_header: Header,
    later_header: Header,
    payload: Range<usize>,
    step_bytes: usize,
}

/// Ethernet and IPv4 header.
#[derive(Clone, Copy, Debug)]
struct Header {
    bytes: [u8; ETHERNET_HEADER_BYTES + IPV4_HEADER_MAX_BYTES],
    len: usize,
}

impl FragmentPlan {
    /// Plans fragments of at most `mtu` bytes each of the packet in `frame`. Its transport checksum must be full, for a
    /// fragment cannot be finished later.
    ///
    /// `None` if the packet must not be cut (IPv6, DF), fits already, or `mtu` has no room for 8 bytes of payload.
    pub fn new(frame: &[u8], packet: &Packet, mtu: usize) -> Option<FragmentPlan> {
        let (l3, l4) = (usize::from(packet.l3_offset), usize::from(packet.l4_offset));
        if !packet.src.is_ipv4() || packet.dont_fragment || packet.ip_len_bytes() <= mtu {
            return None;
        }
        let step_bytes = mtu.checked_sub(l4 - l3)? & !7;
        if step_bytes == 0 {
            return None;
        }
        let mut first_header = Header { bytes: [0; _], len: l4 };
        first_header.bytes[..l4].copy_from_slice(frame.get(..l4)?);
        let later_header = first_header.without_uncopied_options();
        Some(FragmentPlan { first_header, later_header, payload: l4..packet.end as usize, step_bytes })
    }

    /// Number of fragments, at least two.
    pub fn count(&self) -> usize {
        self.payload.len().div_ceil(self.step_bytes)
    }

    /// Where the payload of fragment `index` lies in the frame.
    pub fn payload(&self, index: usize) -> Range<usize> {
        let start = self.payload.start + index * self.step_bytes;
        start..(start + self.step_bytes).min(self.payload.end)
    }

    /// Length of the Ethernet and IPv4 header of fragment `index`, in bytes.
    pub fn header_len(&self, index: usize) -> usize {
        self.header(index).len
    }

    /// Writes the Ethernet and IPv4 header of fragment `index`.
    ///
    /// # Panics
    /// If `out` is not [`FragmentPlan::header_len`] bytes long.
    pub fn write_header(&self, index: usize, out: &mut [u8]) {
        let header = self.header(index);
        out.copy_from_slice(&header.bytes[..header.len]);
        let ip = &mut out[ETHERNET_HEADER_BYTES..];
        let total_len = (ip.len() + self.payload(index).len()) as u16;
        let original = u16::from_be_bytes([ip[6], ip[7]]);
        let more = if index + 1 < self.count() { FLAG_MF } else { original & FLAG_MF };
        let offset = (original & OFFSET_MASK) + (index * self.step_bytes / 8) as u16;
        ip[2..4].copy_from_slice(&total_len.to_be_bytes());
        ip[6..8].copy_from_slice(&(original & !(FLAG_DF | FLAG_MF | OFFSET_MASK) | more | offset).to_be_bytes());
        ip[10..12].fill(0);
        let field = !checksum::sum_short(ip);
        ip[10..12].copy_from_slice(&field.to_be_bytes());
    }

    fn header(&self, index: usize) -> &Header {
        if index == 0 { &self.first_header } else { &self.later_header }
    }
}

impl Header {
    /// The same header with only those options that every fragment repeats, padded to a multiple of 4. The options were
    /// checked with the packet.
    fn without_uncopied_options(&self) -> Header {
        let options_start = ETHERNET_HEADER_BYTES + IPV4_HEADER_BYTES;
        let mut short = Header { bytes: [0; _], len: options_start };
        short.bytes[..options_start].copy_from_slice(&self.bytes[..options_start]);
        let mut options = &self.bytes[options_start..self.len];
        while let [kind, rest @ ..] = options {
            let len = match (kind, rest.first()) {
                (0, _) => break,
                (1, _) | (_, None) => 1,
                (_, Some(len)) => usize::from(*len).clamp(1, options.len()),
            };
            let (option, behind) = options.split_at(len);
            if kind & OPTION_COPIED != 0 {
                short.bytes[short.len..short.len + len].copy_from_slice(option);
                short.len += len;
            }
            options = behind;
        }
        short.len += (short.len - options_start).next_multiple_of(4) - (short.len - options_start);
        short.bytes[ETHERNET_HEADER_BYTES] = 0x40 | ((short.len - ETHERNET_HEADER_BYTES) / 4) as u8;
        short
    }
}

#[cfg(test)]
mod tests;
