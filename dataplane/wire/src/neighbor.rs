//! IPv6 neighbor discovery (RFC 4861 §4): what is asked, what is announced, and whether it may be believed.

use crate::icmp::v6;
use crate::{L4, MacAddr, Malformed, Packet, checksum};
use std::net::{IpAddr, Ipv6Addr};

const OPTION_SOURCE_LINK_LAYER: u8 = 1;
const OPTION_TARGET_LINK_LAYER: u8 = 2;

/// A checked neighbor discovery message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighborMessage {
    /// Who has `target`?
    Solicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// The sender's link-layer address, if it gave one.
        source_mac: Option<MacAddr>,
        /// Duplicate address detection: the sender wants to use `target` itself (RFC 4862 §5.4). It has no address yet,
        /// so the source is unspecified.
        duplicate_detection: bool,
    },
    /// `target` is at `target_mac`.
    Advertisement {
        /// The address announced.
        target: Ipv6Addr,
        /// Its link-layer address, if given.
        target_mac: Option<MacAddr>,
    },
    /// Is there a router?
    RouterSolicitation {
        /// The sender's link-layer address, if it gave one.
        source_mac: Option<MacAddr>,
    },
    /// The sender is a router.
    RouterAdvertisement,
}

impl NeighborMessage {
    /// Checks the neighbor discovery message of a frame (RFC 4861 §6.1, §7.1): hop limit 255, code 0, checksum,
    /// lengths, target and options. `Ok(None)` if the packet is not one of the four messages; a redirect is none.
    pub fn check(bytes: &[u8], packet: &Packet) -> Result<Option<NeighborMessage>, Malformed> {
        let (L4::Icmp { kind, code, .. }, IpAddr::V6(src)) = (packet.l4, packet.src) else { return Ok(None) };
        if !matches!(kind, v6::ROUTER_SOLICITATION..=v6::NEIGHBOR_ADVERTISEMENT) {
            return Ok(None);
        }
        if packet.ttl != 255 || code != 0 || packet.is_fragment() || !checksum::verify_l4(bytes, packet) {
            return Err(Malformed::BadHeader);
        }
        let message = &bytes[usize::from(packet.l4_offset)..packet.end as usize];
        let body = |len: usize| message.get(len..).ok_or(Malformed::Truncated);
        Ok(Some(match kind {
            v6::ROUTER_SOLICITATION => {
                NeighborMessage::RouterSolicitation { source_mac: check_options(body(8)?, OPTION_SOURCE_LINK_LAYER)? }
            }
            v6::ROUTER_ADVERTISEMENT => {
                check_options(body(16)?, OPTION_SOURCE_LINK_LAYER)?;
                NeighborMessage::RouterAdvertisement
            }
            v6::NEIGHBOR_SOLICITATION => {
                let source_mac = check_options(body(24)?, OPTION_SOURCE_LINK_LAYER)?;
                let target = check_target(message)?;
                let duplicate_detection = src.is_unspecified();
                if duplicate_detection && (source_mac.is_some() || packet.dst != solicited_node(target)) {
                    return Err(Malformed::BadHeader);
                }
                NeighborMessage::Solicitation { target, source_mac, duplicate_detection }
            }
            _ => {
                let target_mac = check_options(body(24)?, OPTION_TARGET_LINK_LAYER)?;
                NeighborMessage::Advertisement { target: check_target(message)?, target_mac }
            }
        }))
    }
}

/// The multicast address at which the owner of `target` listens for solicitations (RFC 4291 §2.7.1).
pub fn solicited_node(target: Ipv6Addr) -> IpAddr {
    let [.., x, y, z] = target.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(x), u16::from_be_bytes([y, z])).into()
}

fn check_target(message: &[u8]) -> Result<Ipv6Addr, Malformed> {
    let octets: [u8; 16] = message.get(8..).and_then(|rest| rest.first_chunk()).copied().ok_or(Malformed::Truncated)?;
    let target = Ipv6Addr::from(octets);
    if target.is_multicast() { Err(Malformed::BadAddress) } else { Ok(target) }
}

/// Walks all options; gives the Ethernet address in the one of type `wanted`.
fn check_options(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, Malformed> {
    let mut found = None;
    while let [kind, len, ..] = *options {
        let len = usize::from(len) * 8;
        let option = options.get(..len).filter(|option| !option.is_empty()).ok_or(Malformed::BadLength)?;
        if let [_, _, a, b, c, d, e, f] = *option
            && kind == wanted
        {
            found = Some(MacAddr([a, b, c, d, e, f]));
        }
        options = &options[len..];
    }
    if options.is_empty() { Ok(found) } else { Err(Malformed::BadLength) }
}
