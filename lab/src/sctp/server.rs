//! The answering end. Until the cookie comes back it keeps nothing, as RFC 9260 asks; then the client's tag and first TSN,
//! from which everything else follows: the message number N of the client is answered by message number N of the server.

use super::packet::{self, Builder, Packet};
use super::{PACKET_LEN_MAX, open, strip_ip};
use crate::server::{Identity, ServerProtocol, Sighting};
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

/// Associations remembered. With more, all are forgotten: their clients get an ABORT.
const ASSOCIATIONS_MAX: usize = 1024;

/// Listens on `ports` of every address of the server.
pub(crate) fn start(identity: &Identity, ports: &[u16]) -> io::Result<()> {
    let ports: Arc<[u16]> = ports.into();
    for address in identity.addresses.iter().copied() {
        let socket = open(address)?;
        let (identity, ports) = (identity.clone(), ports.clone());
        std::thread::Builder::new().name("sctp".into()).spawn(move || serve(&socket, address, &identity, &ports))?;
    }
    Ok(())
}

fn serve(socket: &UdpSocket, address: IpAddr, identity: &Identity, ports: &[u16]) {
    let mut server = Server::new(RandomState::new().hash_one("secret"));
    let mut bytes = [0; PACKET_LEN_MAX];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut bytes) else { continue };
        let Some(packet) = Packet::check(strip_ip(address, &bytes[..len])) else { continue };
        let client = SocketAddr::new(from.ip(), packet.src_port);
        let sighting = Sighting {
            server: identity.pod.clone(),
            node: identity.node.clone(),
            server_ip: address,
            server_port: packet.dst_port,
            client_ip: client.ip(),
            client_port: client.port(),
            protocol: ServerProtocol::Sctp,
            request: None,
        };
        let listens = ports.contains(&packet.dst_port);
        if let Some(answer) = server.answer(client, &packet, listens, sighting.line().as_bytes()) {
            let _ = socket.send_to(&answer, SocketAddr::new(client.ip(), 0));
        }
    }
}

/// What the client said of itself: its tag and its first TSN.
#[derive(Clone, Copy, Debug)]
struct Client {
    tag: u32,
    tsn: u32,
}

pub(crate) struct Server {
    /// Own tags, and own first TSNs, are derived from it and from the two ends.
    secret: u64,
    associations: HashMap<(SocketAddr, u16), Client>,
}

impl Server {
    /// A server without associations.
    pub(crate) fn new(secret: u64) -> Server {
        Server { secret, associations: HashMap::new() }
    }

    /// The answer to one packet, if it gets one.
    pub(crate) fn answer(
        &mut self,
        from: SocketAddr,
        packet: &Packet<'_>,
        listens: bool,
        message: &[u8],
    ) -> Option<Vec<u8>> {
        let ends = (from, packet.dst_port);
        let own = (BuildHasherDefault::<DefaultHasher>::default().hash_one((self.secret, ends)) as u32).max(1);
        let reply = |tag| Builder::new(packet.dst_port, packet.src_port, tag);
        if let Some(init) = packet.find(packet::INIT) {
            let (tag, tsn) = init.initial()?;
            if !listens {
                return Some(reply(tag).chunk(packet::ABORT, 0, &[]).finish());
            }
            let cookie = [tag.to_be_bytes(), tsn.to_be_bytes()].concat();
            return Some(reply(tag).initial(own, own, Some(&cookie)).finish());
        }
        if let Some(echo) = packet.find(packet::COOKIE_ECHO).filter(|_| packet.tag == own && listens) {
            let word = |at: usize| Some(u32::from_be_bytes(echo.value.get(at..at + 4)?.try_into().ok()?));
            let client = Client { tag: word(0)?, tsn: word(4)? };
            if self.associations.len() >= ASSOCIATIONS_MAX {
                self.associations.clear();
            }
            self.associations.insert(ends, client);
        }
        let Some(client) = self.associations.get(&ends).copied().filter(|_| packet.tag == own) else {
            // Never an ABORT for an ABORT, nor for the end of what is forgotten (section 8.4).
            let silent = [packet::ABORT, packet::SHUTDOWN_COMPLETE].iter().any(|kind| packet.find(*kind).is_some());
            return (!silent).then(|| reply(packet.tag).chunk(packet::ABORT, packet::TAG_REFLECTED, &[]).finish());
        };
        let mut answer = reply(client.tag);
        let mut is_empty = true;
        for chunk in &packet.chunks {
            answer = match chunk.kind {
                packet::COOKIE_ECHO => answer.chunk(packet::COOKIE_ACK, 0, &[]),
                packet::DATA => {
                    let (tsn, _) = chunk.data()?;
                    answer.sack(tsn).data(own.wrapping_add(tsn.wrapping_sub(client.tsn)), message)
                }
                packet::SHUTDOWN => answer.chunk(packet::SHUTDOWN_ACK, 0, &[]),
                packet::HEARTBEAT => answer.chunk(packet::HEARTBEAT_ACK, 0, chunk.value),
                packet::ABORT | packet::SHUTDOWN_COMPLETE => {
                    self.associations.remove(&ends);
                    return None;
                }
                _ => continue,
            };
            is_empty = false;
        }
        (!is_empty).then(|| answer.finish())
    }
}
