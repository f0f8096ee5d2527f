//! The IPv6 header and its extension headers (RFC 8200).

use crate::Protocol;
use crate::packet::{Fragment, Layer3, Malformed};
use std::net::Ipv6Addr;

/// Length of the fixed header in bytes.
pub const IPV6_HEADER_BYTES: usize = 40;

/// Extension headers that are followed. Real packets have at most three or four; a chain of many is an attempt to hide
/// something from whoever looks at a bounded number (RFC 9098).
pub(crate) const EXTENSION_HEADERS_MAX: usize = 8;

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

const FRAGMENT_HEADER_BYTES: usize = 8;
const OPTION_PAD1: u8 = 0;
const OPTION_JUMBO: u8 = 0xc2;

/// Checks the header at `l3`, its extension headers, and what they say about the bytes behind them.
#[inline]
pub(crate) fn check(bytes: &[u8], l3: usize) -> Result<Layer3, Malformed> {
    let packet = bytes.get(l3..).ok_or(Malformed::Truncated)?;
    let fixed: &[u8; IPV6_HEADER_BYTES] = packet.first_chunk().ok_or(Malformed::Truncated)?;
    if fixed[0] >> 4 != 6 {
        return Err(Malformed::BadHeader);
    }
    let payload_len = usize::from(u16::from_be_bytes([fixed[4], fixed[5]]));
    let end = IPV6_HEADER_BYTES + payload_len;
    // A zero length in front of hop-by-hop options announces a jumbogram (RFC 2675).
    if end > packet.len() || (payload_len == 0 && fixed[6] == HOP_BY_HOP) {
        return Err(Malformed::BadLength);
    }
    let src = address(fixed, 8);
    let dst = address(fixed, 24);
    check_addresses(src, dst)?;
    let chain = match fixed[6] {
        HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS => check_extensions(&packet[..end], fixed[6])?,
        protocol => Chain { protocol, l4_offset: IPV6_HEADER_BYTES, fragment: Fragment::Whole },
    };
    Ok(Layer3 {
        src: src.into(),
        dst: dst.into(),
        protocol: Protocol(chain.protocol),
        l4_offset: l3 + chain.l4_offset,
        end: l3 + end,
        ttl: fixed[7],
        traffic_class: fixed[0] << 4 | fixed[1] >> 4,
        dont_fragment: true,
        fragment: chain.fragment,
    })
}

/// The address at `offset` of a fixed header.
#[inline]
pub(crate) fn address(fixed: &[u8; IPV6_HEADER_BYTES], offset: usize) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets.copy_from_slice(&fixed[offset..offset + 16]);
    Ipv6Addr::from(octets)
}

struct Chain {
    protocol: u8,
    l4_offset: usize,
    fragment: Fragment,
}

#[cold]
fn check_extensions(packet: &[u8], first: u8) -> Result<Chain, Malformed> {
    let mut chain = Chain { protocol: first, l4_offset: IPV6_HEADER_BYTES, fragment: Fragment::Whole };
    let mut fragmented = false;
    for position in 0..=EXTENSION_HEADERS_MAX {
        if !matches!(chain.protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            return Ok(chain);
        }
        // A first fragment holds the whole chain (RFC 7112).
        let cut = if chain.fragment == Fragment::Whole { Malformed::Truncated } else { Malformed::BadFragment };
        let rest = packet.get(chain.l4_offset..).ok_or(cut)?;
        let header: &[u8; 8] = rest.first_chunk().ok_or(cut)?;
        let len = match chain.protocol {
            FRAGMENT => FRAGMENT_HEADER_BYTES,
            _ => (usize::from(header[1]) + 1) * 8,
        };
        let whole = rest.get(..len).ok_or(cut)?;
        match chain.protocol {
            HOP_BY_HOP if position == 0 => check_hop_by_hop(&whole[2..])?,
            ROUTING => check_routing(header)?,
            FRAGMENT if !fragmented => {
                fragmented = true;
                let before = chain.l4_offset - IPV6_HEADER_BYTES;
                chain.fragment = check_fragment(header, before, rest.len() - len)?;
            }
            DESTINATION_OPTIONS => {}
            _ => return Err(Malformed::BadOptions),
        }
        chain.protocol = header[0];
        chain.l4_offset += len;
        if matches!(chain.fragment, Fragment::Later { .. }) {
            return Ok(chain);
        }
    }
    Err(Malformed::BadOptions)
}

/// Walks the options of a hop-by-hop header; a jumbo payload is refused (RFC 2675), the others are for routers.
fn check_hop_by_hop(mut options: &[u8]) -> Result<(), Malformed> {
    while let [kind, rest @ ..] = options {
        options = match *kind {
            OPTION_PAD1 => rest,
            OPTION_JUMBO => return Err(Malformed::BadOptions),
            _ => {
                let len = usize::from(*rest.first().ok_or(Malformed::BadOptions)?);
                options.get(2 + len..).ok_or(Malformed::BadOptions)?
            }
        };
    }
    Ok(())
}

/// Type 0 is forbidden (RFC 5095). Any other type with segments left is a source route: the address to judge is not the
/// one in the header.
fn check_routing(header: &[u8; 8]) -> Result<(), Malformed> {
    let (kind, segments_left) = (header[2], header[3]);
    if kind == 0 || segments_left != 0 { Err(Malformed::BadOptions) } else { Ok(()) }
}

/// `before` is the length of the extension headers that every fragment repeats.
fn check_fragment(header: &[u8; 8], before: usize, data_len: usize) -> Result<Fragment, Malformed> {
    let field = u16::from_be_bytes([header[2], header[3]]);
    let (offset_bytes, more) = (field & 0xfff8, field & 1 != 0);
    let id = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
    if offset_bytes == 0 && !more {
        // An atomic fragment is a whole packet (RFC 6946).
        return Ok(Fragment::Whole);
    }
    let fits = before + usize::from(offset_bytes) + data_len <= usize::from(u16::MAX);
    if data_len == 0 || !fits || (more && !data_len.is_multiple_of(8)) {
        return Err(Malformed::BadFragment);
    }
    Ok(if offset_bytes == 0 { Fragment::First { id } } else { Fragment::Later { id, offset_bytes, last: !more } })
}

/// RFC 4291 §2.5 and §2.7. An unspecified source passes: it is how a host without an address speaks (DAD, MLD).
/// IPv4-mapped addresses must not be on a wire (RFC 4942 §2.2), and here they would look like the flows of IPv4.
#[inline]
fn check_addresses(src: Ipv6Addr, dst: Ipv6Addr) -> Result<(), Malformed> {
    let bad_src = src.is_multicast() || src == Ipv6Addr::LOCALHOST || is_ipv4_mapped(src);
    let bad_dst = u128::from(dst) <= 1 || is_ipv4_mapped(dst);
    if bad_src || bad_dst { Err(Malformed::BadAddress) } else { Ok(()) }
}

/// Whether `addr` is in `::ffff:0:0/96`.
#[inline]
pub(crate) fn is_ipv4_mapped(addr: Ipv6Addr) -> bool {
    u128::from(addr) >> 32 == 0xffff
}
