//! ARP for IPv4 over Ethernet (RFC 826).

use crate::ethernet::ETHERNET_HEADER_BYTES;
use crate::{MacAddr, Malformed};
use std::net::Ipv4Addr;

/// Length of an ARP packet for IPv4 over Ethernet, in bytes.
pub const ARP_BYTES: usize = 28;

/// What an ARP packet wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
    /// Reverse ARP and others.
    Other(u16),
}

/// The checked view of an ARP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArpPacket {
    /// Operation.
    pub operation: ArpOperation,
    /// Hardware address of the sender.
    pub sender_mac: MacAddr,
    /// Protocol address of the sender; unspecified in a probe.
    pub sender_ip: Ipv4Addr,
    /// Hardware address of the target; without meaning in a request.
    pub target_mac: MacAddr,
    /// Protocol address of the target.
    pub target_ip: Ipv4Addr,
}

impl ArpPacket {
    /// Checks a frame of ethertype [`crate::EtherType::ARP`] from its Ethernet header on.
    pub fn check(bytes: &[u8]) -> Result<ArpPacket, Malformed> {
        let arp: &[u8; ARP_BYTES] =
            bytes.get(ETHERNET_HEADER_BYTES..).and_then(<[u8]>::first_chunk).ok_or(Malformed::Truncated)?;
        let [hw_high, hw_low, proto_high, proto_low, hw_len, proto_len, op_high, op_low, addresses @ ..] = *arp;
        // Ethernet (1) with 6 bytes, IPv4 with 4 bytes: the only ARP there is on an Ethernet of pods.
        if [hw_high, hw_low, proto_high, proto_low, hw_len, proto_len] != [0, 1, 8, 0, 6, 4] {
            return Err(Malformed::BadHeader);
        }
        let operation = match u16::from_be_bytes([op_high, op_low]) {
            1 => ArpOperation::Request,
            2 => ArpOperation::Reply,
            other => ArpOperation::Other(other),
        };
        let [s0, s1, s2, s3, s4, s5, a, b, c, d, t0, t1, t2, t3, t4, t5, e, f, g, h] = addresses;
        Ok(ArpPacket {
            operation,
            sender_mac: MacAddr([s0, s1, s2, s3, s4, s5]),
            sender_ip: Ipv4Addr::new(a, b, c, d),
            target_mac: MacAddr([t0, t1, t2, t3, t4, t5]),
            target_ip: Ipv4Addr::new(e, f, g, h),
        })
    }

    /// Whether it only asks if somebody else uses the target address (RFC 5227 §1.1).
    pub fn is_probe(&self) -> bool {
        self.operation == ArpOperation::Request && self.sender_ip.is_unspecified()
    }

    /// Whether it announces the sender's own address (gratuitous ARP, RFC 5227 §1.1).
    pub fn is_announcement(&self) -> bool {
        self.sender_ip == self.target_ip
    }
}
