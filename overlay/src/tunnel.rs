//! What a frame becomes on the underlay: one datagram, or one per segment of a super-frame.
//!
//! [`Outgoing`] borrows the frame and describes its datagrams by a prefix that is written to scratch (VXLAN header, and for a segment
//! its headers) and a payload by reference, so that a shell can send them with one system call and without a copy. All
//! datagrams are equally long, only the last may be shorter: what UDP_SEGMENT asks for. Inner checksums are complete. The way back
//! is [`wire::merge_received`].

use crate::ecn;
use crate::vxlan::{self, HEADER_BYTES, Vni};
use std::ops::RangeInclusive;
use wire::{Frame, Malformed, Packet, SegmentPlan, complete_checksum};

/// Seed of the hash that spreads inner flows over source ports. It is no secret: it decides nothing but a port, and the same
/// flow must keep its port on every shard and after a restart.
const FLOW_HASH_SEED: u64 = 0x706f_6470_6c61_6e65;

/// Source ports of tunnel datagrams (RFC 7348 §5 recommends the dynamic range).
pub const SOURCE_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// The datagrams that one inner frame becomes.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    header: [u8; HEADER_BYTES],
    frame: &'a [u8],
    plan: Option<SegmentPlan<'a>>,
    flow_hash: u64,
    traffic_class: u8,
}

impl<'a> Outgoing<'a> {
    /// Describes the datagrams for `frame`, an Ethernet frame with an IP packet; finishes a partial checksum in place.
    ///
    /// # Errors
    /// What [`Packet::check`] finds, and [`Malformed::BadOffload`] for a super-frame that cannot be cut.
    pub fn new(frame: &'a mut Frame, vni: Vni) -> Result<Outgoing<'a>, Malformed> {
        let packet = Packet::check(frame.bytes())?;
        let is_super_frame = frame.offload.segmentation.is_some();
        if !is_super_frame {
            complete_checksum(frame)?;
        }
        let frame = &*frame;
        let plan = SegmentPlan::new(frame.bytes(), &frame.offload);
        if is_super_frame && plan.is_none() {
            return Err(Malformed::BadOffload);
        }
        Ok(Outgoing {
            header: vxlan::header(vni),
            frame: frame.bytes(),
            plan,
            flow_hash: flow_hash(&packet),
            traffic_class: ecn::push(packet.traffic_class),
        })
    }

    /// Number of datagrams, at least 1.
    pub fn count(&self) -> usize {
        self.plan.map_or(1, |plan| plan.count())
    }

    /// Length of the longest datagram: of every one but the last.
    pub fn stride(&self) -> usize {
        self.prefix_len() + self.payload(0).len()
    }

    /// Length of every datagram's prefix.
    pub fn prefix_len(&self) -> usize {
        HEADER_BYTES + self.plan.map_or(0, |plan| plan.header_len())
    }

    /// Writes the prefix of datagram `index` to the first [`Outgoing::prefix_len`] bytes of `out`.
    ///
    /// # Panics
    /// If `out` is too short or there is no such datagram.
    pub fn write_prefix(&self, index: usize, out: &mut [u8]) {
        let (header, inner) = out.split_at_mut(HEADER_BYTES);
        header.copy_from_slice(&self.header);
        if let Some(plan) = &self.plan {
            plan.write_header(index, inner);
        }
    }

    /// What follows the prefix in datagram `index`.
    ///
    /// # Panics
    /// If there is no such datagram.
    pub fn payload(&self, index: usize) -> &'a [u8] {
        match &self.plan {
            Some(plan) => &self.frame[plan.payload(index)],
            None => self.frame,
        }
    }

    /// A hash of the inner flow; packets of one flow have one hash, and so have all fragments between two addresses.
    pub fn flow_hash(&self) -> u64 {
        self.flow_hash
    }

    /// Traffic class of the outer header: the inner ECN field ([`ecn::push`]).
    pub fn traffic_class(&self) -> u8 {
        self.traffic_class
    }
}

fn flow_hash(packet: &Packet) -> u64 {
    let flow = packet.flow();
    // Only the first fragment has ports: without them all fragments of a datagram take one path.
    let flow = if packet.is_fragment() { flow.with_src(packet.src, 0).with_dst(packet.dst, 0) } else { flow };
    flow.hash_with(FLOW_HASH_SEED)
}

/// The outer source port for an inner flow: underlays spread flows over paths and queues by it (RFC 7348 §5).
///
/// # Panics
/// If `ports` is empty.
pub fn source_port(flow_hash: u64, ports: &RangeInclusive<u16>) -> u16 {
    assert!(!ports.is_empty(), "a range of source ports holds at least one");
    let count = u64::from(ports.end() - ports.start()) + 1;
    // Multiply and shift: no division, and it uses the hash's upper half.
    ports.start() + (((flow_hash >> 32) * count) >> 32) as u16
}

#[cfg(test)]
mod tests;
