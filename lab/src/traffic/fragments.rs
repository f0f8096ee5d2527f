//! One UDP datagram in fragments that we cut ourselves, so that they can be sent in any order: the kernel sends the first one
//! first, and the network need not keep it so. The datagram asks the test server to be sent back; what comes is compared.

use super::{connected, is_timeout};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The answer must be here by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes of the IP payload in each fragment but the last: a multiple of 8, and small enough for any MTU here.
const FRAGMENT_LEN: usize = 1176;

/// netinet/in.h: the sender brings the IP header.
const IPPROTO_RAW: i32 = 255;

const UDP: u8 = 17;
const IPV6_FRAGMENT: u8 = 44;
const UDP_HEADER_LEN: usize = 8;

/// A datagram in fragments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fragments {
    /// Who is to send it back.
    pub target: SocketAddr,
    /// Address and port to ask from; an address or port of 0 is the kernel's choice.
    pub source: Option<SocketAddr>,
    /// Bytes of the datagram's payload.
    pub len: usize,
    /// In which order the fragments are sent.
    pub order: Order,
}

/// An order of fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// The first one first.
    Forward,
    /// The last one first.
    Reverse,
    /// The second half of them, then the first half.
    Swapped,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Number of fragments that were sent.
    pub fragments: usize,
    /// Bytes of the answer; 0 if there was none.
    pub received: usize,
    /// Whether the answer was what was sent.
    pub intact: bool,
}

impl Fragments {
    pub(super) fn run(&self) -> io::Result<Report> {
        let socket = connected(self.target, self.source)?;
        let source = socket.local_addr()?;
        let mut payload = b"podplane-echo ".to_vec();
        payload.extend(crate::server::pattern::bytes(self.len.saturating_sub(payload.len())));
        let mut packets = packets(source, self.target, &payload);
        let fragments = packets.len();
        match self.order {
            Order::Forward => {}
            Order::Reverse => packets.reverse(),
            Order::Swapped => packets.rotate_left(fragments.div_ceil(2)),
        }
        let raw = Socket::new(Domain::for_address(self.target), Type::RAW, Some(Protocol::from(IPPROTO_RAW)))?;
        // A raw socket takes the whole packet; the port of its destination must be 0.
        let to = SocketAddr::new(self.target.ip(), 0).into();
        for packet in &packets {
            raw.send_to(packet, &to)?;
        }
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut answer = vec![0; 65_536];
        match socket.recv(&mut answer) {
            Ok(len) => Ok(Report { fragments, received: len, intact: answer[..len] == payload }),
            Err(e) if is_timeout(&e) => Ok(Report { fragments, received: 0, intact: false }),
            Err(e) => Err(e),
        }
    }
}

/// The IP packets of one datagram, in their natural order.
fn packets(source: SocketAddr, target: SocketAddr, payload: &[u8]) -> Vec<Vec<u8>> {
    let datagram = datagram(source, target, payload);
    let id = source.port().wrapping_mul(31).wrapping_add(payload.len() as u16);
    let chunks: Vec<&[u8]> = datagram.chunks(FRAGMENT_LEN).collect();
    let last = chunks.len() - 1;
    chunks
        .iter()
        .enumerate()
        .map(|(number, chunk)| {
            let (offset, more) = (number * FRAGMENT_LEN, number != last);
            match (source.ip(), target.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    let mut packet = vec![0x45, 0];
                    packet.extend((20 + chunk.len() as u16).to_be_bytes());
                    packet.extend(id.max(1).to_be_bytes());
                    packet.extend((u16::from(more) << 13 | (offset / 8) as u16).to_be_bytes());
                    // TTL; the kernel fills in the checksum.
                    packet.extend([64, UDP, 0, 0]);
                    packet.extend(from.octets());
                    packet.extend(to.octets());
                    packet.extend(*chunk);
                    packet
                }
                (IpAddr::V6(from), IpAddr::V6(to)) => {
                    let mut packet = vec![0x60, 0, 0, 0];
                    packet.extend((8 + chunk.len() as u16).to_be_bytes());
                    packet.extend([IPV6_FRAGMENT, 64]);
                    packet.extend(from.octets());
                    packet.extend(to.octets());
                    packet.extend([UDP, 0]);
                    packet.extend((offset as u16 | u16::from(more)).to_be_bytes());
                    packet.extend(u32::from(id).to_be_bytes());
                    packet.extend(*chunk);
                    packet
                }
                _ => unreachable!("a connected socket has ends of one family"),
            }
        })
        .collect()
}

/// UDP header and payload, with its checksum.
fn datagram(source: SocketAddr, target: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let len = (UDP_HEADER_LEN + payload.len()) as u16;
    let mut datagram = Vec::with_capacity(usize::from(len));
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(target.port().to_be_bytes());
    datagram.extend(len.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    let mut pseudo = Vec::new();
    for ip in [source.ip(), target.ip()] {
        match ip {
            IpAddr::V4(ip) => pseudo.extend(ip.octets()),
            IpAddr::V6(ip) => pseudo.extend(ip.octets()),
        }
    }
    pseudo.extend([0, UDP]);
    pseudo.extend(len.to_be_bytes());
    pseudo.extend(&datagram);
    let checksum = match !wire::checksum::sum(&pseudo) {
        0 => 0xffff,
        checksum => checksum,
    };
    datagram[6..8].copy_from_slice(&checksum.to_be_bytes());
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_cover_the_datagram_and_only_the_last_says_so() {
        for (source, target, header_len) in
            [("10.0.0.1:5000", "10.0.0.2:53", 20), ("[fd00::1]:5000", "[fd00::2]:53", 48)]
        {
            let packets = packets(source.parse().unwrap(), target.parse().unwrap(), &[7; 8192]);
            assert_eq!(packets.len(), 7);
            let len: usize = packets.iter().map(|packet| packet.len() - header_len).sum();
            assert_eq!(len, 8192 + UDP_HEADER_LEN);
            assert!(packets.iter().all(|packet| packet.len() < 1280));
        }
    }
}
