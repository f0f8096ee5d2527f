//! Packets from text and back, in the words of the scenes. Written by hand and apart from the code under test; only
//! checksums are left to `wire`, which has its own second opinion.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use wire::{Fragment, Frame, IcmpKind, L4, MacAddr, Packet, Protocol, checksum};

pub(crate) const FLAGS: [(&str, u8); 7] =
    [("syn-ack", 0x12), ("fin", 0x11), ("rst-ack", 0x14), ("rst", 0x04), ("syn", 0x02), ("data", 0x18), ("ack", 0x10)];

/// A packet to be built.
#[derive(Clone, Debug)]
pub(crate) struct Sketch {
    pub(crate) src_mac: MacAddr,
    pub(crate) dst_mac: MacAddr,
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) ttl: u8,
    pub(crate) dont_fragment: bool,
    pub(crate) protocol: Protocol,
    pub(crate) l4: Vec<u8>,
}

impl Sketch {
    /// The frame with all checksums right.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.headers(self.protocol, 0, self.l4.len());
        bytes.extend(&self.l4);
        if let Ok(packet) = Packet::check(&bytes) {
            checksum::write_full(&mut bytes, &packet);
        }
        bytes
    }

    /// The fragments of the packet, each with `size` bytes of data but the last.
    pub(crate) fn fragments(&self, id: u16, size: usize) -> Vec<Vec<u8>> {
        let whole = self.bytes();
        let l4 = &whole[whole.len() - self.l4.len()..];
        let count = l4.len().div_ceil(size);
        (0..count)
            .map(|n| {
                let part = &l4[n * size..((n + 1) * size).min(l4.len())];
                let (offset, more) = ((n * size) as u16, n + 1 < count);
                let mut bytes = match self.src {
                    IpAddr::V4(_) => self.headers(self.protocol, 0, part.len()),
                    IpAddr::V6(_) => {
                        let mut bytes = self.headers(Protocol(44), 0, part.len() + 8);
                        bytes.extend([self.protocol.0, 0]);
                        bytes.extend((offset | u16::from(more)).to_be_bytes());
                        bytes.extend(u32::from(id).to_be_bytes());
                        bytes
                    }
                };
                if self.src.is_ipv4() {
                    bytes[18..20].copy_from_slice(&id.to_be_bytes());
                    let more_bit = if more { 0x2000 } else { 0 };
                    let field = (offset / 8) | more_bit;
                    bytes[20..22].copy_from_slice(&field.to_be_bytes());
                    write_ipv4_checksum(&mut bytes);
                }
                bytes.extend(part);
                bytes
            })
            .collect()
    }

    fn headers(&self, protocol: Protocol, traffic_class: u8, payload_len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.dst_mac.0);
        bytes.extend(self.src_mac.0);
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                bytes.extend([0x08, 0x00, 0x45, traffic_class]);
                bytes.extend((20 + payload_len as u16).to_be_bytes());
                bytes.extend([0, 0, if self.dont_fragment { 0x40 } else { 0 }, 0, self.ttl, protocol.0, 0, 0]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
                write_ipv4_checksum(&mut bytes);
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                bytes.extend((payload_len as u16).to_be_bytes());
                bytes.extend([protocol.0, self.ttl]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
            }
            _ => panic!("one address family: {} {}", self.src, self.dst),
        }
        bytes
    }
}

fn write_ipv4_checksum(bytes: &mut [u8]) {
    bytes[24..26].fill(0);
    let sum: u32 = bytes[14..34].chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let field = !((folded & 0xffff) + (folded >> 16)) as u16;
    bytes[24..26].copy_from_slice(&field.to_be_bytes());
}

pub(crate) fn tcp(src_port: u16, dst_port: u16, flags: u8, payload: usize) -> Vec<u8> {
    let mut l4 = Vec::new();
    l4.extend(src_port.to_be_bytes());
    l4.extend(dst_port.to_be_bytes());
    l4.extend(1_000u32.to_be_bytes());
    l4.extend(2_000u32.to_be_bytes());
    l4.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    l4.extend(vec![0xa5; payload]);
    l4
}

pub(crate) fn udp(src_port: u16, dst_port: u16, payload: usize) -> Vec<u8> {
    let mut l4 = Vec::new();
    l4.extend(src_port.to_be_bytes());
    l4.extend(dst_port.to_be_bytes());
    l4.extend((8 + payload as u16).to_be_bytes());
    l4.extend([0, 0]);
    l4.extend(vec![0x5a; payload]);
    l4
}

pub(crate) fn sctp(src_port: u16, dst_port: u16, chunk: u8) -> Vec<u8> {
    let mut l4 = Vec::new();
    l4.extend(src_port.to_be_bytes());
    l4.extend(dst_port.to_be_bytes());
    l4.extend(7u32.to_be_bytes());
    l4.extend([0, 0, 0, 0, chunk, 0, 0, 20]);
    l4.extend([1; 16]);
    l4
}

pub(crate) fn echo(is_ipv4: bool, is_request: bool, id: u16, payload: usize) -> Vec<u8> {
    let kind = match (is_ipv4, is_request) {
        (true, true) => 8,
        (true, false) => 0,
        (false, true) => 128,
        (false, false) => 129,
    };
    let mut l4 = vec![kind, 0, 0, 0];
    l4.extend(id.to_be_bytes());
    l4.extend([0, 1]);
    l4.extend(vec![0x77; payload]);
    l4
}

/// An ICMP message of any type that quotes the IP packet in `quoted`, an Ethernet frame.
pub(crate) fn icmp_error(kind: u8, code: u8, last: u16, quoted: &[u8]) -> Vec<u8> {
    let mut l4 = vec![kind, code, 0, 0, 0, 0];
    l4.extend(last.to_be_bytes());
    l4.extend(&quoted[14..quoted.len().min(14 + 200)]);
    l4
}

pub(crate) fn arp(operation: u16, sender: (MacAddr, Ipv4Addr), target: Ipv4Addr, dst_mac: MacAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(dst_mac.0);
    bytes.extend(sender.0.0);
    bytes.extend([0x08, 0x06, 0, 1, 8, 0, 6, 4]);
    bytes.extend(operation.to_be_bytes());
    bytes.extend(sender.0.0);
    bytes.extend(sender.1.octets());
    bytes.extend([0; 6]);
    bytes.extend(target.octets());
    bytes
}

/// A neighbor discovery message about `target` with a link-layer address option.
pub(crate) fn neighbor(kind: u8, target: Ipv6Addr, option: u8, mac: MacAddr) -> Vec<u8> {
    let mut l4 = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    l4.extend(target.octets());
    l4.extend([option, 1]);
    l4.extend(mac.0);
    l4
}

/// What kind of ICMP error a packet is, in the words of the scenes.
pub(crate) fn error_name(is_ipv4: bool, kind: u8, code: u8) -> &'static str {
    match (is_ipv4, kind, code) {
        (true, 3, 0) | (false, 1, 0) => "net-unreachable",
        (true, 3, 1) | (false, 1, 3) => "host-unreachable",
        (true, 3, 3) | (false, 1, 4) => "port-unreachable",
        (true, 3, 4) | (false, 2, 0) => "too-big",
        (true, 11, 0) | (false, 3, 0) => "ttl-exceeded",
        _ => "icmp-error",
    }
}

/// A frame in the words of the scenes; `name` gives an address its name.
pub(crate) fn describe(frame: &Frame, name: &dyn Fn(IpAddr) -> String) -> String {
    let bytes = frame.bytes();
    if bytes[12..14] == [0x08, 0x06] {
        let sender = Ipv4Addr::new(bytes[28], bytes[29], bytes[30], bytes[31]);
        return format!("arp {} is at {}", name(sender.into()), MacAddr(bytes[22..28].try_into().unwrap()));
    }
    let packet = Packet::check(bytes).expect("the switch sends well-formed packets");
    if frame.offload.checksum != wire::Checksum::Partial {
        assert!(checksum::verify_l4(bytes, &packet), "the transport checksum is right: {packet:?}");
    }
    let (src, dst) = (name(packet.src), name(packet.dst));
    let is_ipv4 = packet.src.is_ipv4();
    match packet.l4 {
        L4::Tcp { src_port, dst_port, flags } => {
            let flag = FLAGS.iter().find(|(_, f)| *f == flags).map_or("odd-flags", |(name, _)| name);
            format!("tcp {src}:{src_port} > {dst}:{dst_port} {flag}")
        }
        L4::Udp { src_port, dst_port } => format!("udp {src}:{src_port} > {dst}:{dst_port}"),
        L4::Sctp { src_port, dst_port, chunk } => {
            let chunk = if chunk == 6 { "abort".to_owned() } else { format!("chunk {chunk}") };
            format!("sctp {src}:{src_port} > {dst}:{dst_port} {chunk}")
        }
        L4::Icmp { meaning: IcmpKind::EchoRequest { id }, .. } => format!("ping {id} {src} > {dst}"),
        L4::Icmp { meaning: IcmpKind::EchoReply { id }, .. } => format!("pong {id} {src} > {dst}"),
        L4::Icmp { kind, code, meaning: IcmpKind::Error { quoted } } => {
            let l4 = usize::from(packet.l4_offset);
            let what = error_name(is_ipv4, kind, code);
            let mtu = match what {
                "too-big" => format!(" {}", u16::from_be_bytes([bytes[l4 + 6], bytes[l4 + 7]])),
                _ => String::new(),
            };
            let quoted = quoted.expect("an error that is delivered quotes a flow");
            let ports = |port: u16| if port == 0 { String::new() } else { format!(":{port}") };
            let (from, to) = (name(quoted.src()), name(quoted.dst()));
            format!("{what}{mtu} {src} > {dst} about {from}{} > {to}{}", ports(quoted.src_port), ports(quoted.dst_port))
        }
        L4::Icmp { kind: 136, .. } => {
            let l4 = usize::from(packet.l4_offset);
            let target: [u8; 16] = bytes[l4 + 8..l4 + 24].try_into().unwrap();
            let mac: [u8; 6] = bytes[l4 + 26..l4 + 32].try_into().unwrap();
            format!("neighbor {} is at {}", name(Ipv6Addr::from(target).into()), MacAddr(mac))
        }
        L4::Icmp { kind, .. } => format!("icmp {kind} {src} > {dst}"),
        L4::Other => match packet.fragment {
            Fragment::Later { offset_bytes, .. } => format!("later fragment {src} > {dst} at {offset_bytes}"),
            _ => format!("protocol {} {src} > {dst}", packet.protocol.0),
        },
    }
}
