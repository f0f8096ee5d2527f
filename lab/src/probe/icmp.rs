//! Echo request and reply over a raw socket. Inside a lab we are root, so no ping_group_range is needed; a container that
//! drops CAP_NET_RAW has no ICMP probes.

use super::attempt::left;
use crate::server::Sighting;
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;

/// A request that was lost is sent again after this time.
const RESEND: Duration = Duration::from_millis(300);

/// Sends echo requests to `target` until one is answered.
pub(super) fn echo(
    target: IpAddr,
    source: Option<IpAddr>,
    deadline: Instant,
) -> io::Result<(Option<Sighting>, Instant)> {
    let address = SocketAddr::new(target, 0);
    let protocol = if target.is_ipv4() { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    let mut socket = Socket::new(Domain::for_address(address), Type::RAW, Some(protocol)).map_err(explain)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    // A connected raw socket gets packets from the target only, and the ICMP errors about ours.
    socket.connect(&address.into())?;
    let identifier = std::process::id() as u16;
    let mut packet = [0; 2048];
    for sequence in 0u16.. {
        socket.send(&request(target, identifier, sequence))?;
        let resend = Instant::now() + RESEND;
        while let Ok(patience) = left(deadline.min(resend)) {
            socket.set_read_timeout(Some(patience))?;
            match socket.read(&mut packet) {
                Ok(len) if is_reply(target, &packet[..len], identifier) => return Ok((None, Instant::now())),
                Ok(_) => {}
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(e) => return Err(e),
            }
        }
        left(deadline)?;
    }
    Err(io::ErrorKind::TimedOut.into())
}

/// To be refused a socket says nothing about the network, so it must not look like a kernel's answer.
fn explain(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            io::Error::other("ICMP needs CAP_NET_RAW (in a container: do not drop it, or --cap-add NET_RAW)")
        }
        _ => error,
    }
}

fn request(target: IpAddr, identifier: u16, sequence: u16) -> Vec<u8> {
    let kind = if target.is_ipv4() { ECHO_REQUEST_V4 } else { ECHO_REQUEST_V6 };
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(identifier.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(*b"podplane-probe..");
    if target.is_ipv4() {
        // The kernel fills in the ICMPv6 checksum, not that of ICMP.
        let checksum = !wire::checksum::sum(&bytes);
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes
}

fn is_reply(target: IpAddr, packet: &[u8], identifier: u16) -> bool {
    // A raw IPv4 socket gives the IP header too, an IPv6 one does not.
    let (kind, icmp) = match target {
        IpAddr::V4(_) => {
            let header_len = usize::from(packet.first().copied().unwrap_or(0) & 0x0f) * 4;
            (ECHO_REPLY_V4, packet.get(header_len..).unwrap_or_default())
        }
        IpAddr::V6(_) => (ECHO_REPLY_V6, packet),
    };
    matches!(icmp, [k, 0, _, _, a, b, ..] if *k == kind && u16::from_be_bytes([*a, *b]) == identifier)
}
