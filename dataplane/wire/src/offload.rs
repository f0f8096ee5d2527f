//! What travels beside a frame's bytes: how far its checksum is computed and whether it is a super-frame.
//!
//! This is the meaning of a virtio-net header (virtio 1.3 §5.1.6, `linux/virtio_net.h`), not its layout; the layout is
//! parsed and written at the TAP with [`Offload::from_virtio`] and [`Offload::write_virtio`].

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
}
