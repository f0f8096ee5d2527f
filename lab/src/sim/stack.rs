//! One attached side: a TCP/IP stack of its own (smoltcp) behind a queue that stands for the TAP.
//!
//! A stack may offload like a real kernel: consecutive TCP segments that it sends at once leave as one super-frame without
//! checksum, made by the same merging as the tunnel's receiver uses. Super-frames that arrive are cut for smoltcp, which knows
//! none.

use ipnet::IpNet;
use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::{Duration, Instant as SmolInstant};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;
use std::net::IpAddr;
use wire::{
    Checksum, EtherType, FlowKey, Frame, IcmpKind, Instant, L4, MacAddr, Merge, Offload, Packet, Piece, SegmentPlan,
    checksum, complete_checksum,
};

/// Frames that wait for a stack at most; a TAP's queue length.
const RECEIVE_QUEUE_MAX: usize = 1_000;
/// Fragments of a datagram that lost one give their buffer back after this time, before the datagram is sent again.
const REASSEMBLY_TIMEOUT: Duration = Duration::from_millis(400);
/// ICMP errors kept for the clients that caused them.
const ERRORS_MAX: usize = 64;

/// An ICMP error that reached a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IcmpError {
    /// The flow of the packet that caused it.
    pub(super) quoted: FlowKey,
    /// Whether it says that the port is closed; otherwise that there is no way.
    pub(super) is_port_unreachable: bool,
}

/// The queues between a stack and its port.
#[derive(Debug)]
pub(super) struct QueueDevice {
    mtu: usize,
    medium: Medium,
    receive: VecDeque<Vec<u8>>,
    transmit: Vec<Vec<u8>>,
    errors: VecDeque<IcmpError>,
    overflows: u64,
}

pub(super) struct Received(Vec<u8>);
pub(super) struct Transmit<'a>(&'a mut Vec<Vec<u8>>, Medium);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Transmit<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let start = header_len(self.1);
        let mut frame = vec![0; start + len];
        let result = f(&mut frame[start..]);
        if self.1 == Medium::Ip {
            // MAC addresses are not looked at outside.
            let ethertype = if frame[start] >> 4 == 4 { EtherType::IPV4 } else { EtherType::IPV6 };
            frame[12..14].copy_from_slice(&ethertype.0.to_be_bytes());
        }
        self.0.push(frame);
        result
    }
}

/// Bytes of the Ethernet header that a stack on `medium` does not write and read itself: those on the outside resolve no next hop.
fn header_len(medium: Medium) -> usize {
    if medium == Medium::Ip { 14 } else { 0 }
}

impl Device for QueueDevice {
    type RxToken<'a> = Received;
    type TxToken<'a> = Transmit<'a>;

    fn receive(&mut self, _: SmolInstant) -> Option<(Received, Transmit<'_>)> {
        let frame = self.receive.pop_front()?.split_off(header_len(self.medium));
        Some((Received(frame), Transmit(&mut self.transmit, self.medium)))
    }

    fn transmit(&mut self, _: SmolInstant) -> Option<Transmit<'_>> {
        Some(Transmit(&mut self.transmit, self.medium))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = self.mtu + 14 - header_len(self.medium);
        capabilities
    }
}

/// What a stack is made with.
#[derive(Clone, Debug)]
pub(super) struct StackConfig {
    /// None for a stack outside, whose next hops nobody asks for.
    pub(super) mac: Option<MacAddr>,
    /// Own addresses with a prefix that holds the gateway: smoltcp believes an ARP reply only from its own network. A real pod's
    /// prefixes are /32 and /128; the switch answers ARP and neighbor discovery for everything, so both work.
    pub(super) addresses: Vec<IpNet>,
    pub(super) gateways: Vec<IpAddr>,
    pub(super) mtu: u16,
    pub(super) seed: u64,
    pub(super) offload: bool,
}

/// A stack and its device.
pub(super) struct Stack {
    pub(super) interface: Interface,
    pub(super) device: QueueDevice,
    pub(super) sockets: SocketSet<'static>,
    offload: bool,
}

/// Virtual time as smoltcp counts it.
pub(super) fn smol_time(now: Instant) -> SmolInstant {
    SmolInstant::from_micros((now.as_nanos() / 1_000) as i64)
}

impl Stack {
    pub(super) fn new(config: &StackConfig) -> Stack {
        let (receive, transmit, errors) = (VecDeque::new(), Vec::new(), VecDeque::new());
        let (medium, hardware) = match config.mac {
            Some(mac) => (Medium::Ethernet, EthernetAddress(mac.0).into()),
            None => (Medium::Ip, HardwareAddress::Ip),
        };
        let mut device = QueueDevice { mtu: usize::from(config.mtu), medium, receive, transmit, errors, overflows: 0 };
        let mut interface_config = Config::new(hardware);
        interface_config.random_seed = config.seed;
        let mut interface = Interface::new(interface_config, &mut device, SmolInstant::ZERO);
        interface.set_reassembly_timeout(REASSEMBLY_TIMEOUT);
        interface.update_ip_addrs(|list| {
            for addr in &config.addresses {
                list.push(IpCidr::new(IpAddress::from(addr.addr()), addr.prefix_len()))
                    .expect("a stack has one address per family");
            }
        });
        for gateway in &config.gateways {
            let added = match gateway {
                IpAddr::V4(v4) => interface.routes_mut().add_default_ipv4_route(*v4),
                IpAddr::V6(v6) => interface.routes_mut().add_default_ipv6_route(*v6),
            };
            added.expect("one default route per family");
        }
        Stack { interface, device, sockets: SocketSet::new(Vec::new()), offload: config.offload }
    }

    /// Whether the stack has an address of the family of `addr`, so that it can speak to it.
    pub(super) fn speaks_family_of(&self, addr: IpAddr) -> bool {
        self.interface.ip_addrs().iter().any(|own| IpAddr::from(own.address()).is_ipv4() == addr.is_ipv4())
    }

    /// Lets the stack do what is to do, until it has nothing more to send.
    pub(super) fn poll(&mut self, now: Instant) {
        self.interface.poll(smol_time(now), &mut self.device, &mut self.sockets);
    }

    /// When the stack wants to be polled again on its own.
    pub(super) fn poll_at(&mut self, now: Instant) -> Option<Instant> {
        let at = self.interface.poll_at(smol_time(now), &self.sockets)?;
        Some(Instant::from_nanos(at.total_micros().max(0) as u64 * 1_000))
    }

    /// A frame that the switch delivered.
    pub(super) fn receive(&mut self, mut frame: Frame) {
        if let Some(plan) = SegmentPlan::new(frame.bytes(), &frame.offload) {
            let segment = |index| {
                let mut bytes = vec![0; plan.header_len()];
                plan.write_header(index, &mut bytes);
                bytes.extend_from_slice(&frame.bytes()[plan.payload(index)]);
                bytes
            };
            (0..plan.count()).map(segment).for_each(|bytes| self.device.enqueue(bytes));
            return;
        }
        // What cannot be finished is passed as it is: smoltcp verifies and drops it.
        let _ = complete_checksum(&mut frame);
        self.device.enqueue(frame.bytes().to_vec());
    }

    /// The frames that the stack sent since the last call.
    pub(super) fn take_sent(&mut self) -> Vec<Frame> {
        let sent = std::mem::take(&mut self.device.transmit);
        if self.offload { coalesce(sent) } else { sent.iter().map(|bytes| Frame::from_bytes(bytes)).collect() }
    }

    /// An ICMP error about a packet from `src_port`, if one came.
    pub(super) fn take_error(&mut self, src_port: u16) -> Option<IcmpError> {
        let position = self.device.errors.iter().position(|error| error.quoted.src_port == src_port)?;
        self.device.errors.remove(position)
    }

    /// Frames that found the receive queue full.
    pub(super) fn overflows(&self) -> u64 {
        self.device.overflows
    }
}

impl QueueDevice {
    fn enqueue(&mut self, bytes: Vec<u8>) {
        if self.receive.len() == RECEIVE_QUEUE_MAX {
            self.overflows += 1;
            return;
        }
        if let Some(error) = icmp_error(&bytes) {
            if self.errors.len() == ERRORS_MAX {
                self.errors.pop_front();
            }
            self.errors.push_back(error);
        }
        self.receive.push_back(bytes);
    }
}

/// The destination-unreachable error that a frame is, if it is one. smoltcp's sockets do not hear of them.
fn icmp_error(bytes: &[u8]) -> Option<IcmpError> {
    let packet = Packet::check(bytes).ok()?;
    let L4::Icmp { kind, code, meaning: IcmpKind::Error { quoted: Some(quoted) } } = packet.l4 else { return None };
    let (unreachable, port) = if packet.src.is_ipv4() { (3, 3) } else { (1, 4) };
    (kind == unreachable).then_some(IcmpError { quoted, is_port_unreachable: code == port })
}

/// What was sent at once as an offloading kernel sends it: equally long segments of one flow as super-frames.
fn coalesce(sent: Vec<Vec<u8>>) -> Vec<Frame> {
    let mut out = Vec::new();
    let mut rest = sent.as_slice();
    while let Some(first) = rest.first() {
        let equal = rest.iter().take_while(|frame| frame.len() == first.len()).count();
        let shorter = rest.get(equal).is_some_and(|frame| frame.len() < first.len());
        let (group, others) = rest.split_at(equal + usize::from(shorter));
        rest = others;
        let mut buffer = group.concat();
        let mut merge = Merge::new(buffer.len(), first.len(), 0);
        while let Some(piece) = merge.next(&mut buffer) {
            let Piece::Run { range, offload, .. } = piece else { unreachable!("smoltcp's checksums are right") };
            let mut frame = Frame::from_bytes(&buffer[range]);
            frame.offload = offload;
            if offload.segmentation.is_none() {
                leave_checksum_to_others(&mut frame);
            }
            out.push(frame);
        }
    }
    out
}

/// Takes the checksum of a TCP or UDP packet back to the pseudo-header sum, which is how a kernel hands it to an offloading
/// TAP.
fn leave_checksum_to_others(frame: &mut Frame) {
    frame.offload = Offload::NONE;
    let Ok(packet) = Packet::check(frame.bytes()) else { return };
    let field = match packet.l4 {
        _ if packet.is_fragment() => return,
        L4::Tcp { .. } => checksum::TCP_FIELD,
        L4::Udp { .. } => checksum::UDP_FIELD,
        _ => return,
    };
    let l4_len = packet.end - u32::from(packet.l4_offset);
    let pseudo = checksum::pseudo_header(packet.src, packet.dst, packet.protocol, l4_len).to_be_bytes();
    let at = usize::from(packet.l4_offset) + field;
    frame.bytes_mut()[at..at + 2].copy_from_slice(&pseudo);
    frame.offload.checksum = Checksum::Partial;
}
