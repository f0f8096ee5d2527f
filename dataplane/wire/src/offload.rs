//! What travels beside a frame's bytes: how far its checksum is computed and whether it is a super-frame.
//!
//! [`Offload`] is the meaning of a virtio-net header (virtio 1.3 §5.1.6, `linux/virtio_net.h`). The layout is read and written
//! at the TAP with [`Offload::from_virtio`] and [`Offload::write_virtio`]; nothing else knows it. Where no offload exists,
//! [`complete_checksum`] finishes the checksum of an ordinary frame and [`crate::SegmentPlan`] cuts a super-frame.

use crate::checksum::finish_partial;
use crate::transport::Transport;
use crate::{Frame, Malformed, Packet, Protocol};

/// Length of a virtio-net header without the `num_buffers` field, in bytes.
pub const VIRTIO_HEADER_BYTES: usize = 10;

const FLAG_NEEDS_CSUM: u8 = 1;
const FLAG_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// How far a frame's transport checksum is computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The field holds a full checksum that nobody has verified here. A receiver must verify it.
    #[default]
    Complete,
    /// The field holds a full checksum that was verified here, or computed here from verified data.
    Verified,
    /// The field holds only the folded pseudo-header sum (Linux CHECKSUM_PARTIAL). Whoever segments the frame or sends
    /// it where no offload exists finishes it.
    Partial,
}

/// Which kind of segmentation a super-frame waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentationKind {
    /// TCP over IPv4 or IPv6 (VIRTIO_NET_HDR_GSO_TCPV4/TCPV6; the family is in the packet).
    Tcp,
    /// UDP datagrams of one flow (VIRTIO_NET_HDR_GSO_UDP_L4): each segment is a datagram of its own.
    Udp,
}

/// A super-frame's segmentation: the payload is cut every `size_bytes` bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// TCP or UDP.
    pub kind: SegmentationKind,
    /// L4 payload bytes per segment; never 0.
    pub size_bytes: u16,
    /// TCP only: the ECN CWR flag is set on the first segment and must be cleared on the rest
    /// (VIRTIO_NET_HDR_GSO_ECN).
    pub ecn: bool,
}

/// What a frame's sender said about it besides its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// State of the transport checksum.
    pub checksum: Checksum,
    /// Set on super-frames; then `checksum` is `Partial`.
    pub segmentation: Option<Segmentation>,
}

impl Offload {
    /// An ordinary frame with a full, unverified checksum.
    pub const NONE: Offload = Offload { checksum: Checksum::Complete, segmentation: None };

    /// Reads the virtio-net header (native byte order, as a TAP writes it) that came before `frame`.
    ///
    /// # Errors
    /// [`Malformed::BadOffload`] if the header asks for something that `frame` does not allow: a checksum that is not the one
    /// of its TCP or UDP header, a segmentation of another family or protocol, without a size, or of a kind that was not
    /// negotiated.
    pub fn from_virtio(header: &[u8; VIRTIO_HEADER_BYTES], frame: &[u8]) -> Result<Offload, Malformed> {
        let [flags, gso_type, ..] = *header;
        let needs_checksum = flags & FLAG_NEEDS_CSUM != 0;
        if gso_type == GSO_NONE && !needs_checksum {
            let checksum = if flags & FLAG_DATA_VALID != 0 { Checksum::Verified } else { Checksum::Complete };
            return Ok(Offload { checksum, segmentation: None });
        }
        let transport = Transport::find(frame).filter(|_| needs_checksum).ok_or(Malformed::BadOffload)?;
        let field = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let (size_bytes, start, offset) = (field(4), usize::from(field(6)), usize::from(field(8)));
        if start != transport.l4_offset || offset != transport.checksum_offset() {
            return Err(Malformed::BadOffload);
        }
        let ecn = gso_type & GSO_ECN != 0;
        let is_tcp = transport.protocol == Protocol::TCP;
        let kind = match gso_type & !GSO_ECN {
            GSO_NONE if !ecn => return Ok(Offload { checksum: Checksum::Partial, segmentation: None }),
            GSO_TCPV4 if is_tcp && !transport.is_ipv6 => SegmentationKind::Tcp,
            GSO_TCPV6 if is_tcp && transport.is_ipv6 => SegmentationKind::Tcp,
            GSO_UDP_L4 if !is_tcp && !ecn => SegmentationKind::Udp,
            _ => return Err(Malformed::BadOffload),
        };
        if size_bytes == 0 {
            return Err(Malformed::BadOffload);
        }
        Ok(Offload { checksum: Checksum::Partial, segmentation: Some(Segmentation { kind, size_bytes, ecn }) })
    }

    /// Writes the virtio-net header (native byte order) that goes before `frame` to a TAP.
    ///
    /// A full checksum is announced as nothing at all, verified or not: a TAP ignores VIRTIO_NET_HDR_F_DATA_VALID on write,
    /// so the receiving kernel verifies it, which is cheaper than taking it back to a partial one.
    ///
    /// # Errors
    /// [`Malformed::BadOffload`] if the checksum is partial and `frame` is no unfragmented TCP or UDP packet.
    pub fn write_virtio(&self, frame: &[u8], out: &mut [u8; VIRTIO_HEADER_BYTES]) -> Result<(), Malformed> {
        *out = [0; VIRTIO_HEADER_BYTES];
        if self.checksum != Checksum::Partial {
            return if self.segmentation.is_none() { Ok(()) } else { Err(Malformed::BadOffload) };
        }
        let transport = Transport::find(frame).ok_or(Malformed::BadOffload)?;
        let mut set = |at: usize, value: usize| out[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
        if let Some(segmentation) = self.segmentation {
            set(2, transport.payload_offset);
            set(4, usize::from(segmentation.size_bytes));
        }
        set(6, transport.l4_offset);
        set(8, transport.checksum_offset());
        out[0] = FLAG_NEEDS_CSUM;
        out[1] = match self.segmentation {
            None => GSO_NONE,
            Some(Segmentation { kind: SegmentationKind::Udp, .. }) => GSO_UDP_L4,
            Some(Segmentation { kind: SegmentationKind::Tcp, ecn, .. }) => {
                let family = if transport.is_ipv6 { GSO_TCPV6 } else { GSO_TCPV4 };
                family | if ecn { GSO_ECN } else { 0 }
            }
        };
        Ok(())
    }
}

/// Computes the transport checksum of an ordinary frame that carries only the pseudo-header sum, so that it can go where
/// no offload exists. A frame with a full checksum is left alone.
///
/// # Errors
/// [`Malformed::BadOffload`] for a super-frame (it has to be segmented), and what [`Packet::check`] finds.
pub fn complete_checksum(frame: &mut Frame) -> Result<(), Malformed> {
    if frame.offload.segmentation.is_some() {
        return Err(Malformed::BadOffload);
    }
    if frame.offload.checksum == Checksum::Partial {
        let packet = Packet::check(frame.bytes())?;
        finish_partial(frame, &packet);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
