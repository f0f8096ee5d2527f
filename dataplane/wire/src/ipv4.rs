//! The IPv4 header (RFC 791): lengths, header checksum, options, fragment fields, addresses that may be on a wire.

use crate::packet::{Fragment, Layer3, Malformed};
use crate::{Protocol, checksum};
use std::net::Ipv4Addr;

/// Length of a header without options, in bytes.
pub const IPV4_HEADER_BYTES: usize = 20;

/// Don't-fragment bit of the 16-bit flags and offset field.
pub(crate) const FLAG_DF: u16 = 0x4000;
/// More-fragments bit of the same field.
pub(crate) const FLAG_MF: u16 = 0x2000;
/// Fragment offset of the same field, in units of 8 bytes.
pub(crate) const OFFSET_MASK: u16 = 0x1fff;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_LOOSE_SOURCE_ROUTE: u8 = 131;
const OPTION_STRICT_SOURCE_ROUTE: u8 = 137;

/// Checks the header at `l3` and what it says about the bytes behind it.
#[inline]
pub(crate) fn check(bytes: &[u8], l3: usize) -> Result<Layer3, Malformed> {
    let packet = bytes.get(l3..).ok_or(Malformed::Truncated)?;
    let fixed: &[u8; IPV4_HEADER_BYTES] = packet.first_chunk().ok_or(Malformed::Truncated)?;
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    if fixed[0] >> 4 != 4 || header_len < IPV4_HEADER_BYTES {
        return Err(Malformed::BadHeader);
    }
    let total_len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    if total_len < header_len || total_len > packet.len() {
        return Err(Malformed::BadLength);
    }
    let header = &packet[..header_len];
    if checksum::sum_short(header) != 0xffff {
        return Err(Malformed::BadHeaderChecksum);
    }
    if header_len > IPV4_HEADER_BYTES {
        check_options(&header[IPV4_HEADER_BYTES..])?;
    }
    let src = Ipv4Addr::new(fixed[12], fixed[13], fixed[14], fixed[15]);
    let dst = Ipv4Addr::new(fixed[16], fixed[17], fixed[18], fixed[19]);
    check_addresses(src, dst)?;
    let id = u16::from_be_bytes([fixed[4], fixed[5]]);
    let flags = u16::from_be_bytes([fixed[6], fixed[7]]);
    Ok(Layer3 {
        src: src.into(),
        dst: dst.into(),
        protocol: Protocol(fixed[9]),
        l4_offset: l3 + header_len,
        end: l3 + total_len,
        ttl: fixed[8],
        traffic_class: fixed[1],
        dont_fragment: flags & FLAG_DF != 0,
        fragment: check_fragment(id, flags, header_len, total_len - header_len)?,
    })
}

#[inline]
fn check_fragment(id: u16, flags: u16, header_len: usize, data_len: usize) -> Result<Fragment, Malformed> {
    let more = flags & FLAG_MF != 0;
    let offset_bytes = (flags & OFFSET_MASK) * 8;
    if !more && offset_bytes == 0 {
        return Ok(Fragment::Whole);
    }
    let fits = header_len + usize::from(offset_bytes) + data_len <= usize::from(u16::MAX);
    if data_len == 0 || !fits || (more && !data_len.is_multiple_of(8)) {
        return Err(Malformed::BadFragment);
    }
    let id = u32::from(id);
    Ok(if offset_bytes == 0 { Fragment::First { id } } else { Fragment::Later { id, offset_bytes, last: !more } })
}

/// Walks the options. Source routes name a destination that the header does not, so that no policy could judge it
/// (RFC 7126 §4.3, §4.4); everything else is passed on as it is.
#[cold]
fn check_options(mut options: &[u8]) -> Result<(), Malformed> {
    while let [kind, rest @ ..] = options {
        options = match *kind {
            OPTION_END => return Ok(()),
            OPTION_NOP => rest,
            OPTION_LOOSE_SOURCE_ROUTE | OPTION_STRICT_SOURCE_ROUTE => return Err(Malformed::BadOptions),
            _ => {
                let len = usize::from(*rest.first().ok_or(Malformed::BadOptions)?);
                options.get(len.max(2)..).filter(|_| len >= 2).ok_or(Malformed::BadOptions)?
            }
        };
    }
    Ok(())
}

/// RFC 1122 §3.2.1.3. A source of 0.0.0.0 passes: it is how a host without an address speaks (DHCP). 240.0.0.0/4 passes
/// except for the limited broadcast, because clouds number their nodes from it.
#[inline]
fn check_addresses(src: Ipv4Addr, dst: Ipv4Addr) -> Result<(), Malformed> {
    let (s, d) = (u32::from(src), u32::from(dst));
    let first_octet = s >> 24;
    let bad_src = first_octet == 127 || (first_octet == 0 && s != 0) || first_octet >> 4 == 0xe || s == u32::MAX;
    let bad_dst = matches!(d >> 24, 0 | 127);
    if bad_src || bad_dst { Err(Malformed::BadAddress) } else { Ok(()) }
}
