//! Queries in datagrams.
//!
//! A thread waits for one, answers it and waits again. An answer leaves from the address that was asked: a socket that is bound
//! to one does that by itself; one that is bound to all (0.0.0.0, [::]) is told with every datagram which it was, and says so with
//! the answer (IP_PKTINFO, IPV6_PKTINFO).

use super::Shared;
use super::asking::{Pending, overloaded};
use super::tables::View;
use crate::dns::{Responder, Response, Transport};
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::mpsc;

/// Bytes of a query that are read: a name of 255, and an OPT record with cookies and the like. What is longer is cut, and
/// answered as what does not hold together.
const QUERY_BYTES_MAX: usize = 2048;

/// Room for what the kernel says about a datagram's destination.
const CONTROL_BYTES: usize = 128;

/// A socket that answers from the address that was asked.
#[derive(Debug)]
pub(super) struct Socket {
    socket: UdpSocket,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Bound to one address.
    One,
    /// Bound to all.
    AllV4,
    AllV6,
}

/// Who asked, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    client: SocketAddr,
    asked: Asked,
}

/// The address that was asked, where the socket has several; with the interface for one that is link-local.
#[derive(Clone, Copy, Debug)]
enum Asked {
    TheOne,
    V4(libc::in_addr),
    V6(libc::in6_addr, libc::c_uint),
}

impl Socket {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Socket> {
        let address = socket.local_addr()?;
        let kind = match address {
            SocketAddr::V4(address) if address.ip().is_unspecified() => Kind::AllV4,
            SocketAddr::V6(address) if address.ip().is_unspecified() => Kind::AllV6,
            _ => Kind::One,
        };
        match kind {
            Kind::One => {}
            Kind::AllV4 => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
            Kind::AllV6 => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(Socket { socket, kind })
    }

    /// Waits for a datagram; its bytes, cut to the length of `buffer`.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Peer)> {
        match self.kind {
            Kind::One => {
                self.socket.recv_from(buffer).map(|(len, client)| (len, Peer { client, asked: Asked::TheOne }))
            }
            Kind::AllV4 => self.receive_with::<SockaddrIn>(buffer, |client| SocketAddrV4::from(*client).into()),
            Kind::AllV6 => self.receive_with::<SockaddrIn6>(buffer, |client| SocketAddrV6::from(*client).into()),
        }
    }

    fn receive_with<S: SockaddrLike>(
        &self,
        buffer: &mut [u8],
        client: fn(&S) -> SocketAddr,
    ) -> io::Result<(usize, Peer)> {
        let mut control = [0; CONTROL_BYTES];
        let mut parts = [IoSliceMut::new(buffer)];
        let received = recvmsg::<S>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
        let client = received.address.as_ref().map(client).ok_or(io::ErrorKind::UnexpectedEof)?;
        let asked = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(Asked::V4(info.ipi_addr)),
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let is_link_local = Ipv6Addr::from(info.ipi6_addr.s6_addr).is_unicast_link_local();
                Some(Asked::V6(info.ipi6_addr, if is_link_local { info.ipi6_ifindex } else { 0 }))
            }
            _ => None,
        });
        Ok((received.bytes, Peer { client, asked: asked.unwrap_or(Asked::TheOne) }))
    }

    /// Sends `answer` to who asked, from where it was asked.
    pub(super) fn send(&self, answer: &[u8], peer: &Peer) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        let parts = [IoSlice::new(answer)];
        match (peer.asked, peer.client) {
            (Asked::V4(asked), SocketAddr::V4(client)) => {
                let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: asked, ipi_addr: asked };
                let control = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmsg(fd, &parts, &control, MsgFlags::empty(), Some(&SockaddrIn::from(client)))?;
            }
            (Asked::V6(asked, interface), SocketAddr::V6(client)) => {
                let info = libc::in6_pktinfo { ipi6_addr: asked, ipi6_ifindex: interface };
                let control = [ControlMessage::Ipv6PacketInfo(&info)];
                sendmsg(fd, &parts, &control, MsgFlags::empty(), Some(&SockaddrIn6::from(client)))?;
            }
            (_, client) => {
                self.socket.send_to(answer, client)?;
            }
        }
        Ok(())
    }

    /// Wakes whoever waits for a datagram.
    pub(super) fn shut_down(&self, how: Shutdown) {
        // It is not connected, which the kernel says; the waiting threads wake all the same.
        let _ = socket2::SockRef::from(&self.socket).shutdown(how);
    }
}

/// Answers queries from `socket` until the server stops.
pub(super) fn serve(socket: &Arc<Socket>, shared: &Shared, queue: &mpsc::Sender<Pending>) {
    let ledger = shared.open_ledger();
    let mut responder = Responder::new(shared.dns.clone(), RandomState::new().hash_one(0));
    let mut view = View::default();
    let mut query = [0; QUERY_BYTES_MAX];
    let mut answer = Vec::with_capacity(QUERY_BYTES_MAX);
    loop {
        let received = socket.receive(&mut query);
        if shared.stops.load(Ordering::Acquire) {
            return;
        }
        // What the kernel reports here is about a datagram before (nobody listens at the client any more) or a shortage.
        let Ok((len, peer)) = received else { continue };
        let query = &query[..len];
        let response = responder.respond(view.get(&shared.tables), Transport::Udp, query, &mut answer);
        ledger.write(responder.counters());
        let begun = match response {
            Response::Silence => continue,
            Response::Answer => None,
            Response::Forward if shared.forwarder.find_cached(query, Transport::Udp, &mut answer) => None,
            Response::Forward => Some(None),
            Response::Chase(target) => Some(Some((target, std::mem::take(&mut answer)))),
        };
        if let Some(begun) = begun {
            let pending = Pending { socket: socket.clone(), peer, query: query.into(), begun };
            if queue.try_send(pending).is_ok() {
                continue;
            }
            shared.counters.overloaded.add();
            overloaded(query, Transport::Udp, &mut answer);
        }
        if !answer.is_empty() && socket.send(&answer, &peer).is_err() {
            shared.counters.unsent.add();
        }
    }
}
