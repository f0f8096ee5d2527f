//! SCTP (RFC 9260) for the lab's test server and probe, on a raw socket: enough for one association with one message each
//! way.
//!
//! Many kernels, and most containers, have no SCTP. The network in between must carry it all the same, so the two ends
//! bring their own: INIT, COOKIE, DATA and SHUTDOWN chunks with the CRC32c over them. The probe repeats its last packet
//! until it is answered; there is no congestion control, one stream, one address per end.
//!
//! ```text
//! probe ── INIT ──> server                     server keeps nothing: all it must know again is in the cookie
//!       <─ INIT ACK (cookie) ──
//!       ── COOKIE ECHO ──>                     the association stands
//!       <─ COOKIE ACK ──
//!       ── DATA ──>
//!       <─ SACK, DATA (who answers) ──
//!       ── SACK, SHUTDOWN ──>
//!       <─ SHUTDOWN ACK ──
//!       ── SHUTDOWN COMPLETE ──>
//! ```
//! A port on which the server does not listen is answered by ABORT; a pod without a server has no raw socket, and its
//! kernel answers by ICMP protocol unreachable. A kernel with its own SCTP loaded would answer beside the server.

pub(crate) mod packet;
pub(crate) mod probe;
pub(crate) mod server;

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// IP protocol number of SCTP.
const SCTP: i32 = 132;

/// Longest packet that is looked at.
const PACKET_LEN_MAX: usize = 2048;

/// A raw socket for SCTP at `address`. It has the methods of a UDP socket: what is sent and received are SCTP packets, over
/// IPv4 received with the IP header in front.
fn open(address: IpAddr) -> io::Result<UdpSocket> {
    let address = SocketAddr::new(address, 0);
    let socket = Socket::new(Domain::for_address(address), Type::RAW, Some(Protocol::from(SCTP)))?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Cuts the IP header off.
fn strip_ip(address: IpAddr, bytes: &[u8]) -> &[u8] {
    match address {
        IpAddr::V4(_) => {
            let header_len = usize::from(bytes.first().copied().unwrap_or(0) & 0x0f) * 4;
            bytes.get(header_len..).unwrap_or_default()
        }
        IpAddr::V6(_) => bytes,
    }
}

#[cfg(test)]
mod tests;
