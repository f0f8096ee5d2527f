//! The Ethernet II header.
//!
//! VLAN tags are not followed: a tagged frame has the tag's ethertype and is, to a switch of pods, of an unknown kind.

use crate::{MacAddr, Malformed};

/// Length of the header in bytes.
pub const ETHERNET_HEADER_BYTES: usize = 14;

/// An ethertype (IEEE 802 numbers).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: EtherType = EtherType(0x0800);
    /// ARP.
    pub const ARP: EtherType = EtherType(0x0806);
    /// IPv6.
    pub const IPV6: EtherType = EtherType(0x86dd);
}

/// The checked view of an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination.
    pub dst: MacAddr,
    /// Source.
    pub src: MacAddr,
    /// Kind of payload; values below 0x0600 are 802.3 lengths.
    pub ethertype: EtherType,
}

impl Ethernet {
    /// Checks the header at the start of a frame.
    #[inline]
    pub fn check(bytes: &[u8]) -> Result<Ethernet, Malformed> {
        let header: &[u8; ETHERNET_HEADER_BYTES] = bytes.first_chunk().ok_or(Malformed::Truncated)?;
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low] = *header;
        Ok(Ethernet {
            dst: MacAddr([d0, d1, d2, d3, d4, d5]),
            src: MacAddr([s0, s1, s2, s3, s4, s5]),
            ethertype: EtherType(u16::from_be_bytes([high, low])),
        })
    }
}
