//! SCTP between simulated places: the two ends of [`crate::sctp`] on raw sockets of the stacks. smoltcp has no SCTP of its own.

use super::stack::Stack;
use crate::sctp::packet::{self, Builder, Packet};
use crate::sctp::server::Server;
use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::socket::raw;
use smoltcp::wire::{IpAddress, IpProtocol, IpRepr, IpVersion};
use std::net::{IpAddr, SocketAddr};

/// IP protocol number of SCTP.
const SCTP: IpProtocol = IpProtocol::Unknown(132);

/// The first TSN of every client; each has one message.
const TSN: u32 = 1;

/// A socket for the SCTP packets of one family.
pub(super) fn sctp_socket(is_ipv4: bool) -> raw::Socket<'static> {
    let version = if is_ipv4 { IpVersion::Ipv4 } else { IpVersion::Ipv6 };
    let buffer = || raw::PacketBuffer::new(vec![raw::PacketMetadata::EMPTY; 16], vec![0; 16_384]);
    raw::Socket::new(Some(version), Some(SCTP), buffer(), buffer())
}

/// The next packet that `socket` received: from, to, the bytes behind the IP header.
fn receive(stack: &mut Stack, socket: SocketHandle) -> Option<(IpAddr, IpAddr, Vec<u8>)> {
    let bytes = stack.sockets.get_mut::<raw::Socket>(socket).recv().ok()?;
    let address = |at: usize, len: usize| match *bytes.get(at..at + len)? {
        [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
        ref long => Some(IpAddr::from(<[u8; 16]>::try_from(long).ok()?)),
    };
    // smoltcp writes the headers of what it received anew, without options.
    match bytes.first()? >> 4 {
        4 => Some((address(12, 4)?, address(16, 4)?, bytes[20..].to_vec())),
        _ => Some((address(8, 16)?, address(24, 16)?, bytes[40..].to_vec())),
    }
}

/// Sends an SCTP packet; a full queue loses it.
fn send(stack: &mut Stack, socket: SocketHandle, src: IpAddr, dst: IpAddr, payload: &[u8]) {
    let header = IpRepr::new(IpAddress::from(src), IpAddress::from(dst), SCTP, payload.len(), 64);
    let len = header.buffer_len();
    if let Ok(buffer) = stack.sockets.get_mut::<raw::Socket>(socket).send(len) {
        header.emit(&mut *buffer, &ChecksumCapabilities::default());
        buffer[len - payload.len()..].copy_from_slice(payload);
    }
}

/// The SCTP server of a pod: it says who it is and whom it saw, on all its ports.
pub(super) struct SctpServer {
    ports: Vec<u16>,
    identity: String,
    server: Server,
    sockets: [SocketHandle; 2],
}

impl SctpServer {
    pub(super) fn new(stack: &mut Stack, ports: Vec<u16>, identity: &str, secret: u64) -> SctpServer {
        let sockets = [true, false].map(|is_ipv4| stack.sockets.add(sctp_socket(is_ipv4)));
        SctpServer { ports, identity: identity.to_owned(), server: Server::new(secret), sockets }
    }

    /// Answers what came in.
    pub(super) fn step(&mut self, stack: &mut Stack) {
        for socket in self.sockets {
            while let Some((src, dst, bytes)) = receive(stack, socket) {
                let Some(packet) = Packet::check(&bytes) else { continue };
                if packet.dst_port >= super::attached::CLIENT_PORTS_START {
                    // For a client of the same pod.
                    continue;
                }
                let client = SocketAddr::new(src, packet.src_port);
                let line = format!("{} {client}\n", self.identity);
                let listens = self.ports.contains(&packet.dst_port);
                if let Some(answer) = self.server.answer(client, &packet, listens, line.as_bytes()) {
                    send(stack, socket, dst, src, &answer);
                }
            }
        }
    }
}

/// What a client has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing yet.
    Nothing,
    /// The server refuses.
    Refused,
    /// The server's line.
    Line(Vec<u8>),
}

/// The asking end: an association, one message, one answer. What follows in a real one, the shutdown, is left out: the server
/// needs no more.
pub(super) struct Association {
    own_port: u16,
    to: SocketAddr,
    stage: Stage,
}

enum Stage {
    Init,
    /// With the server's tag and its cookie.
    Cookie(u32, Vec<u8>),
    /// With the server's tag.
    Question(u32),
}

impl Association {
    pub(super) fn new(own_port: u16, to: SocketAddr) -> Association {
        Association { own_port, to, stage: Stage::Init }
    }

    /// Never 0.
    fn own_tag(&self) -> u32 {
        u32::from(self.own_port)
    }

    /// Sends what is to be said at this stage, for the first time or again.
    pub(super) fn speak(&self, stack: &mut Stack, socket: SocketHandle) {
        let to = self.to.ip();
        let src = match to {
            IpAddr::V4(to) => stack.interface.get_source_address_ipv4(&to).map(IpAddr::from),
            IpAddr::V6(to) => Some(stack.interface.get_source_address_ipv6(&to).into()),
        };
        let builder = |tag| Builder::new(self.own_port, self.to.port(), tag);
        let packet = match &self.stage {
            Stage::Init => builder(0).initial(self.own_tag(), TSN, None),
            Stage::Cookie(tag, cookie) => builder(*tag).chunk(packet::COOKIE_ECHO, 0, cookie),
            Stage::Question(tag) => builder(*tag).data(TSN, b"question"),
        };
        if let Some(src) = src {
            send(stack, socket, src, to, &packet.finish());
        }
    }

    /// Takes what came in, and goes on to the next stage as far as that leads.
    pub(super) fn listen(&mut self, stack: &mut Stack, socket: SocketHandle) -> Heard {
        while let Some((src, _, bytes)) = receive(stack, socket) {
            let Some(packet) = Packet::check(&bytes) else { continue };
            if (src, packet.src_port, packet.dst_port) != (self.to.ip(), self.to.port(), self.own_port) {
                continue;
            }
            if packet.find(packet::ABORT).is_some() {
                return Heard::Refused;
            }
            let next = match &self.stage {
                _ if packet.tag != self.own_tag() => None,
                Stage::Init => packet.find(packet::INIT_ACK).and_then(|chunk| {
                    let (tag, _) = chunk.initial()?;
                    Some(Stage::Cookie(tag, chunk.cookie()?.to_vec()))
                }),
                Stage::Cookie(tag, _) => packet.find(packet::COOKIE_ACK).map(|_| Stage::Question(*tag)),
                Stage::Question(_) => match packet.find(packet::DATA).and_then(|chunk| chunk.data()) {
                    Some((_, line)) => return Heard::Line(line.to_vec()),
                    None => None,
                },
            };
            if let Some(next) = next {
                self.stage = next;
                self.speak(stack, socket);
            }
        }
        Heard::Nothing
    }
}
