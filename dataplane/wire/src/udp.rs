//! The UDP header (RFC 768).

use crate::{L4, Malformed};

/// Length of the header in bytes.
pub const UDP_HEADER_BYTES: usize = 8;

/// Checks the header at the start of `l4`. `first_fragment` says that the datagram goes on in other packets, so that
/// its length cannot be compared. Bytes behind the datagram are the options of RFC 9868 and pass.
#[inline]
pub(crate) fn check(l4: &[u8], first_fragment: bool) -> Result<(L4, usize), Malformed> {
    let header: &[u8; UDP_HEADER_BYTES] = l4.first_chunk().ok_or(Malformed::Truncated)?;
    let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if len < UDP_HEADER_BYTES || (len > l4.len() && !first_fragment) {
        return Err(Malformed::BadLength);
    }
    let meaning = L4::Udp {
        src_port: u16::from_be_bytes([header[0], header[1]]),
        dst_port: u16::from_be_bytes([header[2], header[3]]),
    };
    Ok((meaning, UDP_HEADER_BYTES))
}
