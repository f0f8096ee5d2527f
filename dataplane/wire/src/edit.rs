//! Edits of a frame in place. Every edit keeps the checksums as right, or as wrong, as they were.

use crate::{FlowKey, Frame, MacAddr, Packet};

/// Sets the Ethernet addresses.
pub fn set_macs(frame: &mut Frame, dst: MacAddr, src: MacAddr) {
    let _ = (frame, dst, src);
    todo!("wire")
}

/// Decrements the TTL or hop limit by one; 0 stays 0.
pub fn decrement_ttl(frame: &mut Frame, packet: &Packet) {
    let _ = (frame, packet);
    todo!("wire")
}

/// Sets the two ECN bits.
pub fn set_ecn(frame: &mut Frame, packet: &Packet, ecn: u8) {
    let _ = (frame, packet, ecn);
    todo!("wire")
}

/// Turns a packet into one of flow `to`: addresses, and ports or echo identifier where the packet has them.
pub fn rewrite(frame: &mut Frame, packet: &Packet, to: &FlowKey) {
    let _ = (frame, packet, to);
    todo!("wire")
}

/// Turns the packet that an ICMP error quotes into one of flow `quoted_to`; the error's own addresses are left to [`rewrite`].
pub fn rewrite_quoted(frame: &mut Frame, packet: &Packet, quoted_to: &FlowKey) {
    let _ = (frame, packet, quoted_to);
    todo!("wire")
}
