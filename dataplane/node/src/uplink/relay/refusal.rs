//! Refusals to node processes whose Service has no usable endpoint: what the kernel answers for a port that nobody has (S11).
//!
//! The port is somebody's, though: the claim has to stay, and has to keep the kernel quiet towards the outside, where a
//! connection that was opened earlier may well go on. A socket that is bound without listening, or connected elsewhere, would do
//! neither: the kernel would reset that connection, and leave the port to others. So the listener is made deaf, and raw
//! sockets hear the SYNs of this machine and answer them with resets; UDP clients get an ICMP error. The kernel routes both
//! as any packet between two addresses of its own.

use super::Chooser;
use crate::sys::udp;
use crate::uplink::bpf;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::Instant;
use wire::tcp::{TCP_HEADER_BYTES, flag};
use wire::{Protocol, checksum, icmp};

/// SYNs of one family per turn.
const SYNS_PER_TURN: usize = 64;

/// Bytes of a SYN that are looked at and more than enough for all its headers; one with much data waits for its repetition, which
/// has none (RFC 7413 section 4.1.3).
const SYN_MAX_BYTES: usize = 2_048;

/// The sockets that refuse; each list is IPv4, IPv6.
pub(crate) struct Refusals {
    tokens: [Token; 2],
    /// Hear SYNs and send resets; open while some listener is deaf.
    tcp: [Option<Socket>; 2],
    /// Send errors and receive nothing. Missing where the process may not open them: UDP clients wait in vain there.
    icmp: [Option<Socket>; 2],
}

impl Refusals {
    /// Hears nothing yet; will poll by `tokens`.
    pub(crate) fn new(tokens: [Token; 2]) -> Refusals {
        let icmp = [socket2::Protocol::ICMPV4, socket2::Protocol::ICMPV6];
        let open = |family: usize| open(family, icmp[family], &bpf::take_nothing()).ok();
        Refusals { tokens, tcp: [None, None], icmp: [0, 1].map(open) }
    }

    /// Hears the SYNs of node processes from now on; `false` if it cannot.
    pub(crate) fn listen(&mut self, registry: &Registry) -> bool {
        if self.tcp[0].is_none() {
            let open = |family: usize| -> io::Result<Socket> {
                let socket = open(family, socket2::Protocol::TCP, &bpf::take_loopback_syns(family == 0))?;
                udp::tell_destination(&socket, family == 0)?;
                registry.register(&mut SourceFd(&socket.as_raw_fd()), self.tokens[family], Interest::READABLE)?;
                Ok(socket)
            };
            if let (Ok(v4), Ok(v6)) = (open(0), open(1)) {
                self.tcp = [Some(v4), Some(v6)];
            }
        }
        self.tcp[0].is_some()
    }

    /// Hears them no longer.
    pub(crate) fn stop_listening(&mut self) {
        // Closing the descriptors also takes them out of the poll.
        self.tcp = [None, None];
    }

    /// Answers the SYNs that `token` tells of, if their Services have no endpoint; `true` if none is left.
    pub(crate) fn answer(&self, now: Instant, token: Token, chooser: &mut Chooser) -> bool {
        let is_ipv4 = token == self.tokens[0];
        let Some(socket) = &self.tcp[usize::from(!is_ipv4)] else { return true };
        let mut buffer = [0; SYN_MAX_BYTES];
        for _ in 0..SYNS_PER_TURN {
            match udp::receive_asked(socket, &mut buffer) {
                Ok(Some(heard)) => {
                    let header = if is_ipv4 { 4 * usize::from(buffer[0] & 0xf) } else { 0 };
                    let Some(syn) = buffer[..heard.len_bytes].get(header..header + TCP_HEADER_BYTES) else { continue };
                    let client = SocketAddr::new(heard.sender.ip(), u16::from_be_bytes([syn[0], syn[1]]));
                    let asked = SocketAddr::new(heard.address, u16::from_be_bytes([syn[2], syn[3]]));
                    if chooser.refuses(Protocol::TCP, client, asked) {
                        // Counts it.
                        let _ = chooser.choose(now, Protocol::TCP, client, asked);
                        let sequence = u32::from_be_bytes([syn[4], syn[5], syn[6], syn[7]]);
                        send(socket, client, asked, &reset(client, asked, sequence));
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => {}
            }
        }
        false
    }

    /// Tells `client` that nobody is at `asked`, as for a datagram from it.
    pub(crate) fn send_unreachable(&self, client: SocketAddr, asked: SocketAddr) {
        if let Some(socket) = &self.icmp[usize::from(!asked.is_ipv4())] {
            send(socket, client, asked, &port_unreachable(client, asked));
        }
    }
}

fn open(family: usize, protocol: socket2::Protocol, filter: &[libc::sock_filter]) -> io::Result<Socket> {
    let domain = [Domain::IPV4, Domain::IPV6][family];
    let socket = Socket::new_raw(domain, Type::RAW.nonblocking(), Some(protocol))?;
    bpf::attach(&socket, filter)?;
    Ok(socket)
}

/// Lost where the kernel has no room: the client asks again.
fn send(socket: &Socket, client: SocketAddr, asked: SocketAddr, packet: &[u8]) {
    let _ = udp::send_from(socket, asked.ip(), SocketAddr::new(client.ip(), 0), packet);
}

/// The answer of a closed port to a SYN (RFC 9293 section 3.10.7.1).
fn reset(client: SocketAddr, asked: SocketAddr, sequence: u32) -> [u8; TCP_HEADER_BYTES] {
    let mut tcp = [0; TCP_HEADER_BYTES];
    tcp[..2].copy_from_slice(&asked.port().to_be_bytes());
    tcp[2..4].copy_from_slice(&client.port().to_be_bytes());
    tcp[8..12].copy_from_slice(&sequence.wrapping_add(1).to_be_bytes());
    tcp[12] = (TCP_HEADER_BYTES as u8 / 4) << 4;
    tcp[13] = flag::RST | flag::ACK;
    let pseudo = checksum::pseudo_header(asked.ip(), client.ip(), Protocol::TCP, TCP_HEADER_BYTES as u32);
    let sum = !checksum::combine(pseudo, checksum::sum(&tcp));
    tcp[checksum::TCP_FIELD..][..2].copy_from_slice(&sum.to_be_bytes());
    tcp
}

/// The ICMP error "port unreachable" with the headers of the datagram (RFC 792, RFC 4443 section 3.1). The kernel fills in the
/// checksum of ICMPv6, and finds the client by addresses and ports alone.
fn port_unreachable(client: SocketAddr, asked: SocketAddr) -> Vec<u8> {
    const UDP_HEADER_BYTES: usize = 8;
    const TTL: u8 = 64;
    let mut packet = Vec::with_capacity(icmp::ICMP_HEADER_BYTES + 40 + UDP_HEADER_BYTES);
    let (kind, code) = if asked.is_ipv4() { (icmp::v4::UNREACHABLE, 3) } else { (icmp::v6::UNREACHABLE, 4) };
    packet.extend_from_slice(&[kind, code, 0, 0, 0, 0, 0, 0]);
    match (client.ip(), asked.ip()) {
        (IpAddr::V4(client), IpAddr::V4(asked)) => {
            let len = 20 + UDP_HEADER_BYTES as u8;
            packet.extend_from_slice(&[0x45, 0, 0, len, 0, 0, 0, 0, TTL, Protocol::UDP.0, 0, 0]);
            packet.extend_from_slice(&client.octets());
            packet.extend_from_slice(&asked.octets());
        }
        (IpAddr::V6(client), IpAddr::V6(asked)) => {
            packet.extend_from_slice(&[0x60, 0, 0, 0, 0, UDP_HEADER_BYTES as u8, Protocol::UDP.0, TTL]);
            packet.extend_from_slice(&client.octets());
            packet.extend_from_slice(&asked.octets());
        }
        // Not for a datagram that arrived.
        _ => return Vec::new(),
    }
    packet.extend_from_slice(&client.port().to_be_bytes());
    packet.extend_from_slice(&asked.port().to_be_bytes());
    packet.extend_from_slice(&[0, UDP_HEADER_BYTES as u8, 0, 0]);
    if asked.is_ipv4() {
        let sum = !checksum::sum(&packet);
        packet[checksum::ICMP_FIELD..][..2].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}
