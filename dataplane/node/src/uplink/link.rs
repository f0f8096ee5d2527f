//! The shard's side of the uplink: frames from the node's interfaces, and frames to them.
//!
//! Receiving and sending go through raw sockets with a virtio-net header, so that super-frames and unfinished checksums cross
//! them as they cross a TAP. What leaves gets its MACs here, from [`NextHops`]; where no neighbor is known, the packet goes
//! through a raw IP socket, cut into ordinary packets if need be.

use super::keeper::Request;
use super::next_hops::{NextHop, NextHops};
use crate::IoCounters;
use crate::tap::Received;
use crossbeam_channel::Sender;
use mio::Waker;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use switch::{DropReason, UNRESOLVED_MAC};
use wire::ethernet::ETHERNET_HEADER_BYTES;
use wire::{
    EtherType, Ethernet, Frame, Instant, MacAddr, Offload, Packet, SegmentPlan, VIRTIO_HEADER_BYTES, checksum, edit,
};

/// Interfaces that an uplink may have: the node's addresses are one per family.
pub(crate) const INTERFACES_MAX: usize = 4;

/// An interface as the shard uses it.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    /// Its number.
    pub(crate) index: u32,
    /// Its MAC.
    pub(crate) mac: MacAddr,
    /// Bound to it; the keeper sets its filter and its memberships.
    pub(crate) socket: Arc<Socket>,
}

/// All interfaces, and the way out.
pub(crate) struct Uplink {
    interfaces: Vec<Interface>,
    /// The interface that the last frame was read from.
    last: usize,
    next_hops: NextHops,
    /// Raw IP sockets that build nothing themselves (raw(7), IP_HDRINCL): IPv4, IPv6.
    kernel: [Option<Socket>; 2],
    keeper: Sender<Request>,
    keeper_waker: Arc<Waker>,
    rx_frames: u64,
    tx_frames: u64,
    tx_through_kernel: u64,
}

impl Uplink {
    /// An uplink without interfaces. A family whose raw socket is refused cannot be sent until its neighbors are known.
    pub(crate) fn new(keeper: Sender<Request>, keeper_waker: Arc<Waker>) -> Uplink {
        Uplink {
            interfaces: Vec::new(),
            last: 0,
            next_hops: NextHops::default(),
            kernel: [Domain::IPV4, Domain::IPV6].map(|family| open_kernel_socket(family).ok()),
            keeper,
            keeper_waker,
            rx_frames: 0,
            tx_frames: 0,
            tx_through_kernel: 0,
        }
    }

    /// The interfaces in use.
    pub(crate) fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Replaces the interfaces; gives the old ones.
    pub(crate) fn set_interfaces(&mut self, interfaces: Vec<Interface>) -> Vec<Interface> {
        self.next_hops.forget_all();
        std::mem::replace(&mut self.interfaces, interfaces)
    }

    /// Asks the keeper for something; `false` if it has too much to do.
    pub(crate) fn ask(&self, request: Request) -> bool {
        let asked = self.keeper.try_send(request).is_ok();
        if asked {
            // Fails only if the counter of the eventfd is full, and then the keeper wakes anyway.
            let _ = self.keeper_waker.wake();
        }
        asked
    }

    /// Takes an answer of the keeper.
    pub(crate) fn learn(&mut self, now: Instant, destination: IpAddr, hop: NextHop) {
        self.next_hops.learn(now, destination, hop);
    }

    /// Routes or neighbors have changed.
    pub(crate) fn forget_next_hops(&mut self) {
        self.next_hops.forget_all();
    }

    /// Adds what happened at its system calls.
    pub(crate) fn count(&self, counters: &mut IoCounters) {
        counters.uplink_rx_frames += self.rx_frames;
        counters.uplink_tx_frames += self.tx_frames;
        counters.uplink_tx_through_kernel += self.tx_through_kernel;
    }

    /// Reads the next frame of interface number `which`.
    pub(crate) fn receive(&mut self, which: usize, frame: &mut Frame) -> Received {
        let Some(interface) = self.interfaces.get(which) else { return Received::Nothing };
        let len = match (&*interface.socket).read(frame.receive_area(VIRTIO_HEADER_BYTES)) {
            Ok(len) => len,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Received::Nothing,
            // A super-frame of a kind that its virtio-net header cannot describe.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => return Received::Bad(DropReason::BadOffload),
            // ENETDOWN is told once when the interface goes down; the keeper hears of it on its own.
            Err(_) => return Received::Failed,
        };
        if len < VIRTIO_HEADER_BYTES {
            return Received::Bad(DropReason::Truncated);
        }
        self.rx_frames += 1;
        self.last = which;
        frame.received(VIRTIO_HEADER_BYTES, len);
        let header = *frame.headroom_mut(VIRTIO_HEADER_BYTES).first_chunk().expect("as long as was asked for");
        match Offload::from_virtio(&header, frame.bytes()) {
            Ok(offload) => {
                frame.offload = offload;
                Received::Frame
            }
            Err(malformed) => Received::Bad(malformed.into()),
        }
    }

    /// Sends a frame to wherever its destination is; its MACs are set here, unless it is an answer that has them.
    pub(crate) fn send(&mut self, now: Instant, frame: &mut Frame, scratch: &mut Vec<u8>) -> Result<(), DropReason> {
        let ethernet = Ethernet::check(frame.bytes())?;
        if ethernet.dst != UNRESOLVED_MAC {
            return self.answer(ethernet.dst, frame, scratch);
        }
        let destination = destination(frame.bytes(), ethernet.ethertype).ok_or(DropReason::Truncated)?;
        let (hop, ask) = self.next_hops.find(now, destination);
        if ask {
            self.ask(Request::Resolve(destination));
        }
        if let NextHop::Neighbor { link, mac } = hop
            && let Some(interface) = self.interfaces.iter().find(|interface| interface.index == link)
        {
            edit::set_macs(frame, mac, interface.mac);
            self.tx_frames += 1;
            return write(&interface.socket, frame, scratch);
        }
        self.tx_through_kernel += 1;
        self.send_through_kernel(destination, frame, scratch)
    }

    /// Sends an answer to ARP or neighbor discovery out of the interface that the question came from.
    fn answer(&mut self, asker: MacAddr, frame: &mut Frame, scratch: &mut Vec<u8>) -> Result<(), DropReason> {
        let interface = self.interfaces.get(self.last).ok_or(DropReason::DeviceGone)?;
        edit::set_macs(frame, asker, interface.mac);
        name_mac(frame, interface.mac);
        self.tx_frames += 1;
        write(&interface.socket, frame, scratch)
    }

    fn send_through_kernel(
        &self,
        destination: IpAddr,
        frame: &mut Frame,
        scratch: &mut Vec<u8>,
    ) -> Result<(), DropReason> {
        let socket = self.kernel[usize::from(destination.is_ipv6())].as_ref().ok_or(DropReason::NoRoute)?;
        let to = SockAddr::from(SocketAddr::new(destination, 0));
        let send = |packet: &[u8]| check(socket.send_to_with_flags(packet, &to, libc::MSG_DONTWAIT));
        if frame.offload.segmentation.is_some() {
            return for_each_segment(frame, scratch, 0, |segment| send(&segment[ETHERNET_HEADER_BYTES..]));
        }
        wire::complete_checksum(frame)?;
        send(&frame.bytes()[ETHERNET_HEADER_BYTES..])
    }
}

/// Writes a whole frame to a raw socket; super-frames that this kernel cannot cut are cut here.
fn write(mut socket: &Socket, frame: &mut Frame, scratch: &mut Vec<u8>) -> Result<(), DropReason> {
    let mut header = [0; VIRTIO_HEADER_BYTES];
    frame.offload.write_virtio(frame.bytes(), &mut header)?;
    frame.headroom_mut(VIRTIO_HEADER_BYTES).copy_from_slice(&header);
    match check(socket.write(frame.with_header(VIRTIO_HEADER_BYTES))) {
        // UDP super-frames came with Linux 6.2.
        Err(DropReason::BadOffload) if frame.offload.segmentation.is_some() => {
            for_each_segment(frame, scratch, VIRTIO_HEADER_BYTES, |segment| check(socket.write(segment)))
        }
        other => other,
    }
}

/// Cuts a super-frame and hands out its segments, each behind `header_bytes` zeroes, until one is refused.
fn for_each_segment(
    frame: &Frame,
    scratch: &mut Vec<u8>,
    header_bytes: usize,
    mut send: impl FnMut(&[u8]) -> Result<(), DropReason>,
) -> Result<(), DropReason> {
    let plan = SegmentPlan::new(frame.bytes(), &frame.offload).ok_or(DropReason::BadOffload)?;
    for index in 0..plan.count() {
        scratch.clear();
        scratch.resize(header_bytes + plan.header_len(), 0);
        plan.write_header(index, &mut scratch[header_bytes..]);
        scratch.extend_from_slice(&frame.bytes()[plan.payload(index)]);
        send(scratch)?;
    }
    Ok(())
}

/// Has an ARP or neighbor discovery answer name `mac`: the switch knows one MAC for all interfaces of the uplink.
fn name_mac(frame: &mut Frame, mac: MacAddr) {
    const ARP_SENDER: usize = ETHERNET_HEADER_BYTES + 8;
    // Behind the IPv6 header, the advertisement with its target, and the option's type and length (RFC 4861 §4.4, §4.6.1).
    const ADVERTISED: usize = ETHERNET_HEADER_BYTES + 40 + 24 + 2;
    let bytes = frame.bytes_mut();
    let is_arp = Ethernet::check(bytes).is_ok_and(|ethernet| ethernet.ethertype == EtherType::ARP);
    let at = if is_arp { ARP_SENDER } else { ADVERTISED };
    match bytes.get_mut(at..at + 6) {
        Some(named) if *named != mac.0 => named.copy_from_slice(&mac.0),
        _ => return,
    }
    if !is_arp && let Ok(packet) = Packet::check(bytes) {
        checksum::write_full(bytes, &packet);
    }
}

/// Where a packet goes, by its header alone.
fn destination(bytes: &[u8], ethertype: EtherType) -> Option<IpAddr> {
    let ip = bytes.get(ETHERNET_HEADER_BYTES..)?;
    match ethertype {
        EtherType::IPV4 => Some(IpAddr::from(*ip.get(16..)?.first_chunk::<4>()?)),
        EtherType::IPV6 => Some(IpAddr::from(*ip.get(24..)?.first_chunk::<16>()?)),
        _ => None,
    }
}

fn open_kernel_socket(family: Domain) -> io::Result<Socket> {
    Socket::new_raw(family, Type::RAW.nonblocking(), Some(Protocol::from(libc::IPPROTO_RAW)))
}

fn check(result: io::Result<usize>) -> Result<(), DropReason> {
    let Err(error) = result else { return Ok(()) };
    Err(match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::TransmitQueueFull,
        Some(libc::EINVAL) => DropReason::BadOffload,
        Some(libc::EMSGSIZE) => DropReason::TooBig,
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => DropReason::NoRoute,
        _ => DropReason::DeviceGone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::{ArpPacket, NeighborMessage, build};

    #[test]
    fn answers_name_the_mac_of_the_interface_that_they_leave_through() {
        let (first, second) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let (v4, v6) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        let mut arp = Frame::from_bytes(&build::arp_announcement(first, v4));
        name_mac(&mut arp, second);
        assert_eq!(ArpPacket::check(arp.bytes()).unwrap().sender_mac, second);
        let mut neighbor = Frame::from_bytes(&build::neighbor_announcement(first, v6));
        name_mac(&mut neighbor, second);
        let packet = Packet::check(neighbor.bytes()).unwrap();
        // The check includes the checksum.
        let message = NeighborMessage::check(neighbor.bytes(), &packet).unwrap();
        assert_eq!(message, Some(NeighborMessage::Advertisement { target: v6, target_mac: Some(second) }));
    }
}
