//! The SCTP common header and its first chunk (RFC 9260 §3).

use crate::{L4, Malformed};

/// Length of the common header in bytes.
pub const SCTP_HEADER_BYTES: usize = 12;

/// The chunk types that a switch knows.
pub mod chunk {
    /// Opens an association.
    pub const INIT: u8 = 1;
    /// Aborts an association.
    pub const ABORT: u8 = 6;
    /// First step of an orderly end.
    pub const SHUTDOWN: u8 = 7;
    /// Second step of an orderly end.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Reports an error.
    pub const ERROR: u8 = 9;
    /// Ends the set-up of an association.
    pub const COOKIE_ACK: u8 = 11;
    /// Last step of an orderly end.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// Checks the common header at the start of `l4` and that a chunk header follows.
#[inline]
pub(crate) fn check(l4: &[u8]) -> Result<(L4, usize), Malformed> {
    let header: &[u8; SCTP_HEADER_BYTES + 4] = l4.first_chunk().ok_or(Malformed::Truncated)?;
    if u16::from_be_bytes([header[14], header[15]]) < 4 {
        return Err(Malformed::BadLength);
    }
    let meaning = L4::Sctp {
        src_port: u16::from_be_bytes([header[0], header[1]]),
        dst_port: u16::from_be_bytes([header[2], header[3]]),
        chunk: header[12],
    };
    Ok((meaning, SCTP_HEADER_BYTES))
}
