//! Answers: each function turns a frame, in its own buffer, into the answer to it, Ethernet addresses swapped.

use crate::{ArpPacket, Frame, MacAddr, Packet};
use std::net::{IpAddr, Ipv6Addr};

/// What an ICMP error says, for both families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// No route to the network.
    NetUnreachable,
    /// Nobody at the address.
    HostUnreachable,
    /// Nobody at the port.
    PortUnreachable,
    /// Forbidden by policy.
    Prohibited,
    /// Larger than the way on takes.
    TooBig {
        /// The largest IP packet that fits, in bytes.
        mtu: u16,
    },
    /// TTL or hop limit used up.
    TtlExceeded,
}

/// Whether a packet may be answered with an ICMP error at all (RFC 1122 §3.2.2, RFC 4443 §2.4).
pub fn may_answer_with_error(bytes: &[u8], packet: &Packet) -> bool {
    let _ = (bytes, packet);
    todo!("wire")
}

/// An ICMP error about the frame's packet, sent by `from`.
pub fn icmp_error(frame: &mut Frame, packet: &Packet, error: IcmpError, from: IpAddr) {
    let _ = (frame, packet, error, from);
    todo!("wire")
}

/// The reply to an ARP request: the target address is at `mac`.
pub fn arp_reply(frame: &mut Frame, request: &ArpPacket, mac: MacAddr) {
    let _ = (frame, request, mac);
    todo!("wire")
}

/// The answer to a neighbor solicitation: `target` is at `mac`.
pub fn neighbor_advertisement(frame: &mut Frame, packet: &Packet, target: Ipv6Addr, mac: MacAddr) {
    let _ = (frame, packet, target, mac);
    todo!("wire")
}

/// The reply to a whole echo request.
pub fn echo_reply(frame: &mut Frame, packet: &Packet) {
    let _ = (frame, packet);
    todo!("wire")
}

/// The reset that a closed port answers with (RFC 9293 §3.10.7.1); false, and the frame untouched, if the segment gets none.
pub fn tcp_reset(frame: &mut Frame, packet: &Packet) -> bool {
    let _ = (frame, packet);
    todo!("wire")
}

/// The abort that a closed port answers with (RFC 9260 §8.4); false, and the frame untouched, if the packet gets none.
pub fn sctp_abort(frame: &mut Frame, packet: &Packet) -> bool {
    let _ = (frame, packet);
    todo!("wire")
}
