//! Merging what the tunnel received: from a buffer of datagrams of equal length back to super-frames.
//!
//! The kernel hands over several underlay datagrams as one buffer (UDP_GRO): every `stride` bytes begins another one, the last
//! may be shorter. It merged them by the outer flow only, so their inner frames may belong to any conversation. Each
//! datagram is an encapsulation header (`prefix_len` bytes) and an inner frame.
//!
//! [`Merge`] walks the buffer once. It verifies the transport checksum of every inner frame, so that a frame which was
//! corrupted on the way is neither delivered nor marked good, and joins consecutive frames that are segments of one
//! super-frame by moving their payloads behind the first one's headers, in place. What is joined is what the kernel's
//! own receive offload joins, so that no information is lost: cutting the result again ([`crate::SegmentPlan`]) gives the
//! same frames.
//!
//! - equal in all: encapsulation header, Ethernet header, addresses, traffic class, flow label, TTL, don't-fragment, ports; for TCP
//!   acknowledgment, window, urgent pointer and options (so also timestamps), and all flags but those below;
//! - IPv4 without options, its identification constant (only with don't-fragment) or counting up; IPv6 without extension headers;
//! - equal payload sizes, only the last may be shorter; TCP sequence numbers follow; PSH and FIN end a run, CWR may only
//!   stand on the first; SYN, RST and URG are never joined;
//! - UDP only with a checksum.

use crate::checksum::{UDP_FIELD, combine, sum, sum_short, verify_l4};
use crate::transport::{ETHERNET_BYTES, Transport};
use crate::{Checksum, Frame, L4, Offload, Packet, Protocol, Segmentation, SegmentationKind};
use std::ops::Range;

/// Largest IP packet that merging makes: the most that an IPv4 total length can say, and the most that receivers take as
/// one super-frame of either family.
pub const MERGED_MAX_BYTES: usize = 65_535;

const FLAG_FIN: u8 = 0x01;
const FLAG_PSH: u8 = 0x08;
const FLAG_ACK: u8 = 0x10;
const FLAG_ECE: u8 = 0x40;
const FLAG_CWR: u8 = 0x80;

/// One result of [`Merge::next`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// An encapsulation header and one inner frame, ordinary or merged.
    Run {
        /// Where it lies in the buffer.
        range: Range<usize>,
        /// Checksum and segmentation state of the inner frame.
        offload: Offload,
        /// How many datagrams it was.
        datagrams: u32,
    },
    /// A datagram whose inner transport checksum is wrong. It must be dropped.
    BadChecksum,
}

/// The walk over one received buffer.
#[derive(Clone, Debug)]
pub struct Merge {
    len: usize,
    stride: usize,
    prefix_len: usize,
    at: usize,
}

impl Merge {
    /// A walk over a buffer of `len` bytes that holds a datagram every `stride` bytes, each with `prefix_len` bytes of
    /// encapsulation header. A `stride` of 0 means one datagram.
    pub fn new(len: usize, stride: usize, prefix_len: usize) -> Merge {
        let stride = if stride == 0 { len.max(1) } else { stride };
        Merge { len, stride, prefix_len, at: 0 }
    }

    fn datagram(&self, at: usize) -> Option<Range<usize>> {
        (at < self.len).then(|| at..self.len.min(at + self.stride))
    }

    /// The next piece of `buffer`, in which payloads are moved; `None` at its end. Bytes behind a returned range and before the next
    /// piece have no meaning any more.
    ///
    /// # Panics
    /// If `buffer` is shorter than the walk was told.
    pub fn next(&mut self, buffer: &mut [u8]) -> Option<Piece> {
        let first = self.datagram(self.at)?;
        self.at = first.end;
        let start = first.start + self.prefix_len;
        let single = |checksum| {
            let offload = Offload { checksum, segmentation: None };
            Some(Piece::Run { range: first.clone(), offload, datagrams: 1 })
        };
        if start >= first.end {
            return single(Checksum::Complete);
        }
        match verify(&buffer[start..first.end]) {
            Verification::Bad => return Some(Piece::BadChecksum),
            Verification::Impossible => return single(Checksum::Complete),
            Verification::Unfinished => return single(Checksum::Partial),
            Verification::Good => {}
        }
        let Some(mut run) = Run::open(&buffer[start..first.end]) else { return single(Checksum::Verified) };
        while let Some(next) = self.datagram(self.at).filter(|_| !run.closed) {
            let frame = next.start + self.prefix_len;
            let same_prefix = frame < next.end && buffer[first.start..start] == buffer[next.start..frame];
            if !same_prefix {
                break;
            }
            if !run.join(&mut buffer[start..], frame - start..next.end - start) {
                break;
            }
            self.at = next.end;
        }
        if run.datagrams == 1 {
            return single(Checksum::Verified);
        }
        let offload = run.seal(&mut buffer[start..]);
        Some(Piece::Run { range: first.start..start + run.end, offload, datagrams: run.datagrams })
    }
}

/// What [`merge_received`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergeReport {
    /// Datagrams that the buffer held.
    pub datagrams: u32,
    /// Frames that came out.
    pub frames: u32,
    /// Datagrams that were left out because their inner transport checksum is wrong.
    pub bad_checksum: u32,
}

/// Splits and merges a received buffer: `frame` becomes the first piece, without a copy unless it was behind a corrupt datagram;
/// further pieces are copied to frames that `take` gives, which are pushed to `rest` in order. Each piece begins with its
/// encapsulation header and has its offload state set. `frame` is empty if nothing survived.
///
/// # Panics
/// If a frame from `take` is too small for a piece.
pub fn merge_received(
    frame: &mut Frame,
    stride: usize,
    prefix_len: usize,
    mut take: impl FnMut() -> Frame,
    rest: &mut Vec<Frame>,
) -> MergeReport {
    let mut report = MergeReport::default();
    let mut kept: Option<(Range<usize>, Offload)> = None;
    let mut merge = Merge::new(frame.len(), stride, prefix_len);
    while let Some(piece) = merge.next(frame.bytes_mut()) {
        let Piece::Run { range, offload, datagrams } = piece else {
            report.datagrams += 1;
            report.bad_checksum += 1;
            continue;
        };
        report.datagrams += datagrams;
        report.frames += 1;
        if kept.is_none() {
            kept = Some((range, offload));
            continue;
        }
        let mut copy = take();
        copy.set_bytes(&frame.bytes()[range]);
        copy.offload = offload;
        rest.push(copy);
    }
    let (range, offload) = kept.unwrap_or((0..0, Offload::NONE));
    frame.truncate(range.end);
    frame.pull_front(range.start);
    frame.offload = offload;
    report
}

/// Makes a frame that crossed the underlay whole a super-frame again: a TCP packet larger than `mtu` bytes with an unfinished
/// checksum, behind `prefix_len` bytes of encapsulation header. It is cut as its sender would have to cut it for an underlay
/// that carries packets of `mtu` bytes.
///
/// Where the underlay is veth or the like, a kernel's tunnel device leaves checksums and segmentation to it, which leaves them to
/// whoever reads in the end.
pub fn adopt_super_frame(frame: &mut Frame, prefix_len: usize, mtu: u16) {
    let mtu = usize::from(mtu);
    let whole = frame.len() > prefix_len + ETHERNET_BYTES + mtu;
    if !whole || frame.offload != (Offload { checksum: Checksum::Partial, segmentation: None }) {
        return;
    }
    let inner = &frame.bytes()[prefix_len..];
    let Some(transport) = Transport::find(inner).filter(|transport| transport.protocol == Protocol::TCP) else {
        return;
    };
    let Some(size) = mtu.checked_sub(transport.payload_offset - ETHERNET_BYTES).filter(|size| *size > 0) else {
        return;
    };
    let ecn = inner[transport.l4_offset + 13] & FLAG_CWR != 0;
    let segmentation = Segmentation { kind: SegmentationKind::Tcp, size_bytes: size as u16, ecn };
    frame.offload.segmentation = Some(segmentation);
}

enum Verification {
    Good,
    /// The field holds what a sender leaves there for its device to finish: the folded sum of the pseudo-header. Bytes that were
    /// corrupted on the way look like that as seldom as they have a right checksum.
    Unfinished,
    Bad,
    /// There is no checksum to verify: not IP, malformed, a fragment, another protocol, or UDP without one.
    Impossible,
}

/// Verifies the transport checksum of an inner frame.
fn verify(frame: &[u8]) -> Verification {
    let Ok(packet) = Packet::check(frame) else { return Verification::Impossible };
    if !verify_l4(frame, &packet) {
        return if is_unfinished(frame) { Verification::Unfinished } else { Verification::Bad };
    }
    let udp_field = usize::from(packet.l4_offset) + UDP_FIELD;
    match packet.l4 {
        _ if packet.is_fragment() => Verification::Impossible,
        L4::Other => Verification::Impossible,
        L4::Udp { .. } if frame[udp_field..udp_field + 2] == [0, 0] => Verification::Impossible,
        _ => Verification::Good,
    }
}

fn is_unfinished(frame: &[u8]) -> bool {
    Transport::find(frame).is_some_and(|transport| {
        let field = transport.l4_offset + transport.checksum_offset();
        frame[field..field + 2] == transport.pseudo_sum(frame).to_be_bytes()
    })
}

/// A run of frames that grows. Offsets count from the start of its first frame, whose headers stay as they were received until
/// [`Run::seal`].
struct Run {
    transport: Transport,
    /// Payload bytes of all frames but the last.
    size: usize,
    /// Where the merged payload ends.
    end: usize,
    datagrams: u32,
    /// TCP flags of the last frame that joined.
    last_flags: u8,
    /// IPv4: what the identification grows by per frame, once there are two.
    id_step: Option<u16>,
    /// Nothing may join any more.
    closed: bool,
}

impl Run {
    /// A run that begins with `frame`, which is known to be well-formed and to have a good checksum; `None` if nothing can
    /// be joined to it.
    fn open(frame: &[u8]) -> Option<Run> {
        let transport = Transport::find(frame)?;
        let ip_header_bytes = if transport.is_ipv6 { 40 } else { 20 };
        let size = transport.end - transport.payload_offset;
        let plain = transport.l4_offset == ETHERNET_BYTES + ip_header_bytes && transport.end == frame.len() && size > 0;
        let l4 = &frame[transport.l4_offset..];
        let joinable = match transport.protocol {
            Protocol::TCP => {
                l4[13] & FLAG_ACK != 0 && l4[13] & !(FLAG_ACK | FLAG_ECE | FLAG_CWR) == 0 && l4[18..20] == [0, 0]
            }
            _ => {
                l4[6..8] != [0, 0]
                    && usize::from(u16::from_be_bytes([l4[4], l4[5]])) == transport.end - transport.l4_offset
            }
        };
        (plain && joinable).then_some(Run {
            transport,
            size,
            end: transport.end,
            datagrams: 1,
            last_flags: 0,
            id_step: None,
            closed: false,
        })
    }

    /// Appends the payload of the frame at `at` if it continues the run that `buffer` begins with.
    fn join(&mut self, buffer: &mut [u8], at: Range<usize>) -> bool {
        let (first, next) = (&buffer[..self.end], &buffer[at.clone()]);
        let Transport { is_ipv6, protocol, l4_offset, payload_offset, .. } = self.transport;
        let Some(payload_len) = next.len().checked_sub(payload_offset).filter(|&len| len > 0 && len <= self.size)
        else {
            return false;
        };
        if self.end + payload_len - ETHERNET_BYTES > MERGED_MAX_BYTES {
            return false;
        }
        let id_step = if is_ipv6 { Some(0) } else { self.ipv4_id_step(first, next) };
        let Some(id_step) = id_step.filter(|_| !is_ipv6 || same_ipv6_header(first, next)) else { return false };
        let flags = match protocol {
            Protocol::TCP => self.tcp_flags(&first[l4_offset..payload_offset], &next[l4_offset..payload_offset]),
            _ => same_udp_header(&first[l4_offset..payload_offset], &next[l4_offset..payload_offset], payload_len),
        };
        let Some(flags) = flags else { return false };
        // The headers are those of the first frame, so these offsets hold for `next` too.
        let pseudo = Transport { end: next.len(), ..self.transport }.pseudo_sum(next);
        if combine(pseudo, sum(&next[l4_offset..])) != 0xffff {
            return false;
        }
        buffer.copy_within(at.start + payload_offset..at.end, self.end);
        self.end += payload_len;
        self.datagrams += 1;
        self.last_flags = flags;
        self.id_step = Some(id_step);
        self.closed = payload_len < self.size || flags & (FLAG_PSH | FLAG_FIN) != 0;
        true
    }

    /// The step of the identification if the IPv4 header of `next` continues the run.
    fn ipv4_id_step(&self, first: &[u8], next: &[u8]) -> Option<u16> {
        let (a, b) = (&first[..ETHERNET_BYTES + 20], &next[..ETHERNET_BYTES + 20]);
        let (ip_a, ip_b) = (&a[ETHERNET_BYTES..], &b[ETHERNET_BYTES..]);
        let same = a[..16] == b[..16] && ip_a[6..10] == ip_b[6..10] && ip_a[12..] == ip_b[12..];
        let total_len = usize::from(u16::from_be_bytes([ip_b[2], ip_b[3]]));
        if !same || total_len != next.len() - ETHERNET_BYTES || sum_short(ip_b) != 0xffff {
            return None;
        }
        let id = |ip: &[u8]| u16::from_be_bytes([ip[4], ip[5]]);
        let distance = id(ip_b).wrapping_sub(id(ip_a));
        let dont_fragment = ip_a[6] & 0x40 != 0;
        // A constant identification is allowed where it means nothing (RFC 6864 §4.1).
        let step = if distance == 0 && dont_fragment { 0 } else { 1 };
        let fits = u32::from(distance) == u32::from(step) * self.datagrams;
        (fits && self.id_step.is_none_or(|known| known == step)).then_some(step)
    }

    /// The flags of `next` if its TCP header continues the run.
    fn tcp_flags(&self, first: &[u8], next: &[u8]) -> Option<u8> {
        let seq = |header: &[u8]| u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        let expected = seq(first).wrapping_add((self.end - self.transport.payload_offset) as u32);
        let flags = next[13];
        let same = first[..4] == next[..4]
            && seq(next) == expected
            && first[8..13] == next[8..13]
            && first[13] & !FLAG_CWR == flags & !(FLAG_PSH | FLAG_FIN)
            && first[14..16] == next[14..16]
            && first[18..] == next[18..];
        same.then_some(flags)
    }

    /// Makes the run's headers those of a super-frame.
    fn seal(&self, frame: &mut [u8]) -> Offload {
        let transport = Transport { end: self.end, ..self.transport };
        let (l4_offset, l4_len) = (transport.l4_offset, transport.end - transport.l4_offset);
        if transport.is_ipv6 {
            frame[ETHERNET_BYTES + 4..ETHERNET_BYTES + 6].copy_from_slice(&(l4_len as u16).to_be_bytes());
        } else {
            let ip = &mut frame[ETHERNET_BYTES..l4_offset];
            ip[2..4].copy_from_slice(&((20 + l4_len) as u16).to_be_bytes());
            ip[10..12].fill(0);
            let checksum = !sum_short(ip);
            ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        let pseudo = transport.pseudo_sum(frame).to_be_bytes();
        let field = l4_offset + transport.checksum_offset();
        frame[field..field + 2].copy_from_slice(&pseudo);
        let (kind, ecn) = if transport.protocol == Protocol::TCP {
            frame[l4_offset + 13] |= self.last_flags & (FLAG_PSH | FLAG_FIN);
            (SegmentationKind::Tcp, frame[l4_offset + 13] & FLAG_CWR != 0)
        } else {
            frame[l4_offset + 4..l4_offset + 6].copy_from_slice(&(l4_len as u16).to_be_bytes());
            (SegmentationKind::Udp, false)
        };
        let size_bytes = self.size as u16;
        Offload { checksum: Checksum::Partial, segmentation: Some(Segmentation { kind, size_bytes, ecn }) }
    }
}

/// Whether the IPv6 header of `next`, with its own length, is that of the run.
fn same_ipv6_header(first: &[u8], next: &[u8]) -> bool {
    let ip = ETHERNET_BYTES;
    let length = usize::from(u16::from_be_bytes([next[ip + 4], next[ip + 5]]));
    first[..ip + 4] == next[..ip + 4]
        && first[ip + 6..ip + 40] == next[ip + 6..ip + 40]
        && length == next.len() - ip - 40
}

/// No flags if the UDP header of `next` continues the run.
fn same_udp_header(first: &[u8], next: &[u8], payload_len: usize) -> Option<u8> {
    let length = usize::from(u16::from_be_bytes([next[4], next[5]]));
    (first[..4] == next[..4] && length == payload_len + 8 && next[6..8] != [0, 0]).then_some(0)
}

#[cfg(test)]
mod tests;
