//! The asking end: one association, one message, one answer.

use super::packet::{self, Builder, Packet};
use super::{PACKET_LEN_MAX, open, strip_ip};
use crate::server::Sighting;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// A packet that was not answered is sent again after this time.
const RESEND: Duration = Duration::from_millis(300);

/// Connects to `target`; gives what the server says of the client, and when the association stood.
pub(crate) fn connect(
    target: SocketAddr,
    source: Option<IpAddr>,
    deadline: Instant,
) -> io::Result<(Option<Sighting>, Instant)> {
    let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let socket = open(source.unwrap_or(any))?;
    // A connected raw socket gets packets from the target only, and the ICMP errors about ours.
    socket.connect(SocketAddr::new(target.ip(), 0))?;
    let random = RandomState::new();
    let port = 49_152 + (random.hash_one("port") % 16_384) as u16;
    let mut ends =
        Ends { socket, target, port, own_tag: (random.hash_one("tag") as u32).max(1), peer_tag: 0, deadline };
    let tsn = random.hash_one("tsn") as u32;

    let init = ends.builder().initial(ends.own_tag, tsn, None);
    let (peer_tag, peer_tsn, cookie) = ends.exchange(&init.finish(), |packet| {
        let chunk = packet.find(packet::INIT_ACK)?;
        let (tag, tsn) = chunk.initial()?;
        Some((tag, tsn, chunk.cookie()?.to_vec()))
    })?;
    ends.peer_tag = peer_tag;
    let echo = ends.builder().chunk(packet::COOKIE_ECHO, 0, &cookie);
    ends.exchange(&echo.finish(), |packet| packet.find(packet::COOKIE_ACK).map(drop))?;
    let connected = Instant::now();

    // The association stands: what happens to the question is not the network's answer.
    let question = ends.builder().data(tsn, b"podplane-probe\n").finish();
    let sighting = ends.exchange(&question, |packet| {
        let (_, message) = packet.find(packet::DATA)?.data()?;
        Some(serde_json::from_slice(message).ok())
    });
    let sack = peer_tsn.to_be_bytes();
    let shutdown = ends.builder().sack(peer_tsn).chunk(packet::SHUTDOWN, 0, &sack).finish();
    if ends.exchange(&shutdown, |packet| packet.find(packet::SHUTDOWN_ACK).map(drop)).is_ok() {
        let _ = ends.socket.send(&ends.builder().chunk(packet::SHUTDOWN_COMPLETE, 0, &[]).finish());
    }
    Ok((sighting.unwrap_or(None), connected))
}

/// Both ends of the association.
struct Ends {
    socket: UdpSocket,
    target: SocketAddr,
    port: u16,
    own_tag: u32,
    peer_tag: u32,
    deadline: Instant,
}

impl Ends {
    fn builder(&self) -> Builder {
        Builder::new(self.port, self.target.port(), self.peer_tag)
    }

    /// Sends `request` until `accept` takes an answer.
    fn exchange<T>(&self, request: &[u8], accept: impl Fn(&Packet<'_>) -> Option<T>) -> io::Result<T> {
        let mut bytes = [0; PACKET_LEN_MAX];
        loop {
            self.socket.send(request)?;
            let resend = Instant::now() + RESEND;
            while let Ok(patience) = crate::probe::left(self.deadline.min(resend)) {
                self.socket.set_read_timeout(Some(patience))?;
                let len = match self.socket.recv(&mut bytes) {
                    Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => break,
                    received => received?,
                };
                let Some(packet) = Packet::check(strip_ip(self.target.ip(), &bytes[..len])) else { continue };
                if (packet.src_port, packet.dst_port) != (self.target.port(), self.port) {
                    continue;
                }
                if packet.find(packet::ABORT).is_some() {
                    return Err(io::ErrorKind::ConnectionRefused.into());
                }
                if packet.tag == self.own_tag
                    && let Some(answer) = accept(&packet)
                {
                    return Ok(answer);
                }
            }
            crate::probe::left(self.deadline)?;
        }
    }
}
