//! The TCP header (RFC 9293 §3.1).

use crate::{L4, Malformed};

/// Length of a header without options, in bytes.
pub const TCP_HEADER_BYTES: usize = 20;

/// The flag bits of [`L4::Tcp`].
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgment field counts.
    pub const ACK: u8 = 0x10;
    /// The urgent field counts.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// Checks the header at the start of `l4`; gives its meaning and its length in bytes.
#[inline]
pub(crate) fn check(l4: &[u8]) -> Result<(L4, usize), Malformed> {
    let header: &[u8; TCP_HEADER_BYTES] = l4.first_chunk().ok_or(Malformed::Truncated)?;
    let len = usize::from(header[12] >> 4) * 4;
    if len < TCP_HEADER_BYTES {
        return Err(Malformed::BadHeader);
    }
    if len > l4.len() {
        return Err(Malformed::Truncated);
    }
    let meaning = L4::Tcp {
        src_port: u16::from_be_bytes([header[0], header[1]]),
        dst_port: u16::from_be_bytes([header[2], header[3]]),
        flags: header[13],
    };
    Ok((meaning, len))
}
