//! Bytes on the wire: what a frame is, what it says, and how to change it in place.
//!
//! Everything that reads or edits packet bytes lives here and nothing else does: no tables, no policy, no sockets, no
//! clock. A view is checked once ([`Packet::check`]) and then gives meaning (addresses, ports, fragment state) without
//! looking at lengths again. Bytes that do not hold together are [`Malformed`], never a panic.
//!
//! - Reading: [`Packet`] and the header modules below it ([`ethernet`], [`arp`], [`ipv4`], [`ipv6`], [`tcp`], [`udp`],
//!   [`sctp`], [`icmp`], [`neighbor`]); [`describe()`] reads for people.
//! - Changing: [`edit`] in place, [`craft`] into an answer, [`fragment`] and [`SegmentPlan`] into pieces,
//!   [`merge_received`] into one; [`checksum`] under all of them.
//! - Making: [`build`], for probes, the simulator and tests.
//! - [`invariants`] says what holds for every byte string, once for property tests and fuzzers.

#![forbid(unsafe_code)]

pub mod arp;
pub mod build;
pub mod checksum;
pub mod craft;
mod describe;
pub mod edit;
pub mod ethernet;
mod flow;
pub mod fragment;
mod frame;
mod headers;
pub mod icmp;
mod instant;
pub mod invariants;
pub mod ipv4;
pub mod ipv6;
mod mac;
mod merge;
pub mod neighbor;
mod offload;
mod packet;
pub mod sctp;
mod segment;
#[cfg(test)]
mod superframes;
pub mod tcp;
mod transport;
pub mod udp;

pub use arp::{ArpOperation, ArpPacket};
pub use craft::IcmpError;
pub use describe::describe;
pub use ethernet::{EtherType, Ethernet};
pub use flow::{FlowKey, Protocol};
pub use frame::{FRAME_MAX_BYTES, Frame, HEADROOM_BYTES};
pub use instant::Instant;
pub use mac::MacAddr;
pub use merge::{MERGED_MAX_BYTES, Merge, MergeReport, Piece, adopt_super_frame, merge_received};
pub use neighbor::NeighborMessage;
pub use offload::{Checksum, Offload, Segmentation, SegmentationKind, VIRTIO_HEADER_BYTES, complete_checksum};
pub use packet::{Fragment, IcmpKind, L4, Malformed, Packet};
pub use segment::SegmentPlan;
