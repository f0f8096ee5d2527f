//! The shard's way to other nodes: VXLAN in UDP, with as few system calls as the kernel allows.
//!
//! Receiving: one socket per underlay address, shared between shards by SO_REUSEPORT, so the kernel spreads outer flows over
//! them; UDP_GRO hands over several datagrams at once ([`Tunnel::receive`]), which `wire::merge_received` joins.
//! Sending: [`Lane`]s, sockets with different source ports of which the inner flow picks one (RFC 7348 §5), each with a
//! batch that is flushed at the end of the turn.
//!
//! The kernel never fragments the outer packet: an inner IPv4 packet that is too large and may be cut is cut here, before it
//! is encapsulated. The outer UDP checksum is always computed, by the kernel or the device. ECN and DSCP are as in
//! [`overlay::ecn`].

mod lane;

use crate::sys::udp::{self, Received};
use crate::{DataplaneConfig, IoCounters, StartError};
use lane::Lane;
use overlay::ecn;
use overlay::peers::{PeerId, Peers};
use overlay::tunnel::Outgoing;
use overlay::vxlan::Vni;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use switch::{DropReason, Switch};
use wire::ethernet::ETHERNET_HEADER_BYTES;
use wire::fragment::FragmentPlan;
use wire::{FRAME_MAX_BYTES, Frame, Instant, Packet, edit};

/// Source ports per family. Enough that ECMP and RSS of an underlay spread a node's flows; each costs a socket and a batch
/// buffer of 64 KiB once it is used.
const LANES: usize = 16;

/// Receive buffer of the tunnel socket in bytes: 4 ms of 10 Gb/s, about what a busy shard needs to come back.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// Nothing is received on the sending sockets; the kernel rounds up to its minimum.
const NO_RECEIVE_BUFFER_BYTES: usize = 0;

/// Send buffer in bytes: 64 super-frames, so that a turn's worth fits while the device drains.
const SEND_BUFFER_BYTES: usize = 4 << 20;

/// The tunnel sockets of one shard.
pub(crate) struct Tunnel {
    receivers: Vec<Socket>,
    senders: Vec<Sender>,
    peers: Vec<Option<Destination>>,
    vni: Vni,
    /// Largest inner IP packet.
    mtu: u16,
    /// Lanes that hold something, as (sender, lane).
    dirty: Vec<(usize, usize)>,
    /// One fragment of a packet that is cut.
    fragment: Option<Frame>,
    /// What the sockets did.
    pub(crate) counters: IoCounters,
}

/// The sockets of one family that send.
struct Sender {
    ipv4: bool,
    lanes: Vec<Lane>,
}

/// Where the datagrams for a peer go.
struct Destination {
    sender: usize,
    address: SockAddr,
    /// Largest inner IP packet on the way there.
    mtu: u16,
}

impl Tunnel {
    /// The largest inner IP packet.
    pub(crate) fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Opens the sockets of one shard. `mtu` is that of the largest inner IP packet.
    pub(crate) fn open(config: &DataplaneConfig, mtu: u16) -> Result<Tunnel, StartError> {
        let mut tunnel = Tunnel {
            receivers: Vec::new(),
            senders: Vec::new(),
            peers: Vec::new(),
            vni: config.vni,
            mtu,
            dirty: Vec::with_capacity(2 * LANES),
            fragment: Some(Frame::with_capacity(FRAME_MAX_BYTES)),
            counters: IoCounters::default(),
        };
        let system = |error| StartError::System("the tunnel's sockets cannot be opened", error);
        for &address in &config.underlay {
            let receiver = receiver(address, config.vxlan_port).map_err(system)?;
            tunnel.receivers.push(receiver);
            let lanes = (0..LANES).map(|_| lane_socket(address).map(Lane::new)).collect::<io::Result<_>>();
            tunnel.senders.push(Sender { ipv4: address.is_ipv4(), lanes: lanes.map_err(system)? });
        }
        Ok(tunnel)
    }

    /// Whether the tunnel's port is free on `address`: nobody else holds it, shared or not.
    pub(crate) fn probe(address: IpAddr, port: u16) -> Result<(), StartError> {
        let socket = udp_socket(address).map_err(|error| StartError::System("a UDP socket cannot be opened", error))?;
        match socket.bind(&SocketAddr::new(address, port).into()) {
            Ok(()) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => Err(StartError::PortInUse(address, port)),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => {
                Err(StartError::AddressNotLocal(address))
            }
            Err(error) => Err(StartError::System("the tunnel's UDP port cannot be bound", error)),
        }
    }

    /// The receiving sockets, to poll.
    pub(crate) fn receivers(&self) -> &[Socket] {
        &self.receivers
    }

    /// Takes over the peers' addresses. A peer is reached at its first address of the family that this node prefers.
    pub(crate) fn set_peers(&mut self, peers: &Peers, port: u16) {
        let destination = |underlay: &[IpAddr]| {
            self.senders.iter().enumerate().find_map(|(sender, Sender { ipv4, .. })| {
                let address = underlay.iter().find(|address| address.is_ipv4() == *ipv4)?;
                Some(Destination { sender, address: SocketAddr::new(*address, port).into(), mtu: self.mtu })
            })
        };
        self.peers = peers.iter().map(|(_, peer)| destination(&peer.underlay)).collect();
    }

    /// Receives into `frame` from receiver `which`: one datagram or several of equal length. `None` if nothing waits.
    pub(crate) fn receive(&mut self, which: usize, frame: &mut Frame) -> Option<Received> {
        loop {
            match udp::receive(&self.receivers[which], frame.receive_area(0)) {
                Ok(received) => {
                    frame.received(0, received.len_bytes);
                    self.counters.tunnel_rx_calls += 1;
                    return Some(received);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // An error that an earlier datagram caused is reported once by the next call; what waits is still there.
                Err(error) if is_unreachable(&error) => self.counters.tunnel_unreachable += 1,
                Err(_) => {
                    self.counters.tunnel_errors += 1;
                    return None;
                }
            }
        }
    }

    /// Sends `frame` to `peer`: a super-frame at once, another frame with the next flush. What cannot be sent is counted
    /// at `switch`.
    pub(crate) fn send(&mut self, now: Instant, peer: PeerId, frame: &mut Frame, switch: &mut Switch) {
        let Some(Some(destination)) = self.peers.get(peer.0 as usize) else {
            return switch.count_drop(DropReason::TunnelSendFailed);
        };
        let fits = frame.len() <= ETHERNET_HEADER_BYTES + usize::from(destination.mtu);
        if fits || frame.offload.segmentation.is_some() || !self.send_fragments(now, peer, frame, switch) {
            self.send_whole(now, peer, frame, switch);
        }
    }

    fn send_whole(&mut self, now: Instant, peer: PeerId, frame: &mut Frame, switch: &mut Switch) {
        let Some(Some(destination)) = self.peers.get(peer.0 as usize) else {
            return switch.count_drop(DropReason::TunnelSendFailed);
        };
        let outgoing = match Outgoing::new(frame, self.vni) {
            Ok(outgoing) => outgoing,
            Err(malformed) => return switch.count_drop(malformed.into()),
        };
        // Multiply and shift: the upper half of the hash spread over the lanes, without a division.
        let index = (((outgoing.flow_hash() >> 32) * LANES as u64) >> 32) as usize;
        let lane = &mut self.senders[destination.sender].lanes[index];
        let was_empty = lane.is_empty();
        lane.send(&destination.address, &outgoing, &mut self.counters, switch);
        if was_empty && !lane.is_empty() {
            self.dirty.push((destination.sender, index));
        }
        if let Some(to) = lane.too_big.take() {
            self.learn_path_mtu(now, &to, switch);
        }
    }

    /// Cuts an IPv4 packet that is too large and may be cut, and sends its fragments; `false` if it may not.
    #[cold]
    fn send_fragments(&mut self, now: Instant, peer: PeerId, frame: &mut Frame, switch: &mut Switch) -> bool {
        let Some(Some(Destination { mtu, .. })) = self.peers.get(peer.0 as usize) else { return false };
        if wire::complete_checksum(frame).is_err() {
            return false;
        }
        let Ok(packet) = Packet::check(frame.bytes()) else { return false };
        let Some(plan) = FragmentPlan::new(frame.bytes(), &packet, usize::from(*mtu)) else { return false };
        let mut fragment = self.fragment.take().expect("only taken here, and put back below");
        for index in 0..plan.count() {
            let (header_len, payload) = (plan.header_len(index), &frame.bytes()[plan.payload(index)]);
            fragment.set_bytes(&[]);
            fragment.set_len(header_len + payload.len());
            let (header, body) = fragment.bytes_mut().split_at_mut(header_len);
            plan.write_header(index, header);
            body.copy_from_slice(payload);
            self.send_whole(now, peer, &mut fragment, switch);
        }
        self.fragment = Some(fragment);
        true
    }

    /// Sends what waits in the lanes.
    pub(crate) fn flush(&mut self, now: Instant, switch: &mut Switch) {
        while let Some((sender, index)) = self.dirty.pop() {
            let lane = &mut self.senders[sender].lanes[index];
            lane.flush(&mut self.counters, switch);
            if let Some(to) = lane.too_big.take() {
                self.learn_path_mtu(now, &to, switch);
            }
        }
    }

    /// The kernel refused a datagram to `to` because it knows of a smaller path MTU (a router said so, or the interface has
    /// shrunk). Packets that may be cut are cut to it from now on; for the others the switch tells their senders (O08).
    #[cold]
    fn learn_path_mtu(&mut self, now: Instant, to: &SockAddr, switch: &mut Switch) {
        let Some(address) = to.as_socket().map(|to| to.ip()) else { return };
        let ask = || {
            let socket = udp_socket(address)?;
            socket.connect(to)?;
            udp::path_mtu(&socket, address.is_ipv4())
        };
        let Ok(path_mtu) = ask() else { return };
        let mtu = overlay::mtu::pod_mtu(u16::try_from(path_mtu).unwrap_or(u16::MAX), address);
        for (number, peer) in (0..).zip(&mut self.peers) {
            if let Some(destination) = peer.as_mut().filter(|destination| destination.address == *to) {
                destination.mtu = mtu.min(self.mtu);
                switch.learn_path_mtu(now, PeerId(number), destination.mtu);
            }
        }
    }
}

/// Carries a congestion mark of the underlay over to the inner packet `frame`.
///
/// # Errors
/// The inner packet's sender does not understand marks: the packet must be dropped, as a router would have.
pub(crate) fn pop_ecn(frame: &mut Frame, outer: u8) -> Result<(), DropReason> {
    let Ok(packet) = Packet::check(frame.bytes()) else { return Ok(()) };
    let marked = ecn::pop(packet.traffic_class, outer).ok_or(DropReason::Congested)?;
    if marked != packet.traffic_class & ecn::MASK {
        edit::set_ecn(frame, &packet, marked);
    }
    Ok(())
}

fn udp_socket(address: IpAddr) -> io::Result<Socket> {
    let domain = if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn receiver(address: IpAddr, port: u16) -> io::Result<Socket> {
    let socket = udp_socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&SocketAddr::new(address, port).into())?;
    udp::set_receive_buffer(&socket, RECEIVE_BUFFER_BYTES)?;
    // Without UDP_GRO (before Linux 5.0) each call returns one datagram, which is correct and slower.
    let _ = udp::enable_gro(&socket);
    if address.is_ipv4() {
        socket.set_recv_tos_v4(true)?;
    } else {
        socket.set_recv_tclass_v6(true)?;
    }
    Ok(socket)
}

fn lane_socket(address: IpAddr) -> io::Result<Socket> {
    let socket = udp_socket(address)?;
    socket.bind(&SocketAddr::new(address, 0).into())?;
    udp::forbid_fragmentation(&socket, address.is_ipv4())?;
    udp::set_receive_buffer(&socket, NO_RECEIVE_BUFFER_BYTES)?;
    udp::set_send_buffer(&socket, SEND_BUFFER_BYTES)?;
    Ok(socket)
}

/// Whether the error is an ICMP error that came back, or a route that is missing for the moment.
fn is_unreachable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EHOSTDOWN | libc::ENETDOWN)
    )
}

#[cfg(test)]
mod tests;
