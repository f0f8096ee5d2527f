//! What makes two packets belong to one conversation.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP for IPv4.
    pub const ICMP: Protocol = Protocol(1);
    /// TCP.
    pub const TCP: Protocol = Protocol(6);
    /// UDP.
    pub const UDP: Protocol = Protocol(17);
    /// ICMP for IPv6.
    pub const ICMPV6: Protocol = Protocol(58);
    /// SCTP.
    pub const SCTP: Protocol = Protocol(132);

    /// Whether the protocol has 16-bit source and destination ports at the start of its header.
    pub const fn has_ports(self) -> bool {
        matches!(self, Protocol::TCP | Protocol::UDP | Protocol::SCTP)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Protocol::TCP => f.write_str("TCP"),
            Protocol::UDP => f.write_str("UDP"),
            Protocol::SCTP => f.write_str("SCTP"),
            Protocol::ICMP => f.write_str("ICMP"),
            Protocol::ICMPV6 => f.write_str("ICMPv6"),
            Protocol(number) => write!(f, "IP protocol {number}"),
        }
    }
}

/// One direction of a conversation: the 5-tuple. IPv4 addresses are held in their IPv4-mapped IPv6 form, so one table
/// serves both families. For an ICMP echo both ports are the identifier; for protocols without ports they are 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlowKey {
    src: u128,
    dst: u128,
    /// Source port, host order.
    pub src_port: u16,
    /// Destination port, host order.
    pub dst_port: u16,
    /// IP protocol.
    pub protocol: Protocol,
    /// Tells conversations apart whose packets look the same but reach a table by different ways; 0 for all others. It is on
    /// no wire.
    pub zone: u16,
}

fn widen(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => 0xffff_0000_0000 | u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

impl FlowKey {
    /// The key of packets from `src`:`src_port` to `dst`:`dst_port`.
    pub fn new(protocol: Protocol, src: IpAddr, src_port: u16, dst: IpAddr, dst_port: u16) -> FlowKey {
        FlowKey { src: widen(src), dst: widen(dst), src_port, dst_port, protocol, zone: 0 }
    }

    /// Source address.
    pub fn src(&self) -> IpAddr {
        Ipv6Addr::from(self.src).to_canonical()
    }

    /// Destination address.
    pub fn dst(&self) -> IpAddr {
        Ipv6Addr::from(self.dst).to_canonical()
    }

    /// The key of the answers, in zone 0.
    pub fn reverse(&self) -> FlowKey {
        FlowKey {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            protocol: self.protocol,
            zone: 0,
        }
    }

    /// The same key with another source.
    pub fn with_src(mut self, addr: IpAddr, port: u16) -> FlowKey {
        self.src = widen(addr);
        self.src_port = port;
        self
    }

    /// The same key with another destination.
    pub fn with_dst(mut self, addr: IpAddr, port: u16) -> FlowKey {
        self.dst = widen(addr);
        self.dst_port = port;
        self
    }

    /// Everything but the addresses.
    fn ports_word(&self) -> u64 {
        let ports = u64::from(self.src_port) << 32 | u64::from(self.dst_port) << 16;
        u64::from(self.zone) << 48 | ports | u64::from(self.protocol.0)
    }

    /// The same key in another zone.
    pub fn in_zone(mut self, zone: u16) -> FlowKey {
        self.zone = zone;
        self
    }

    /// A well-mixed hash under `seed`. Whoever does not know the seed cannot choose keys that collide cheaply.
    pub fn hash_with(&self, seed: u64) -> u64 {
        // Folded 64×64→128 multiplication, the mixing step of wyhash and foldhash: each input word is combined with
        // seed-dependent material before it is multiplied, so a zero word does not erase the state.
        fn fold(a: u64, b: u64) -> u64 {
            let wide = u128::from(a).wrapping_mul(u128::from(b));
            (wide as u64) ^ ((wide >> 64) as u64)
        }
        const K: [u64; 4] =
            [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93];
        let ports = self.ports_word();
        let state = fold(self.src as u64 ^ seed ^ K[0], (self.src >> 64) as u64 ^ K[1]);
        let state = fold(self.dst as u64 ^ state, (self.dst >> 64) as u64 ^ seed.rotate_left(32) ^ K[2]);
        fold(ports ^ state ^ K[3], seed ^ K[1] ^ state.rotate_left(23))
    }
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.src.hash(state);
        self.dst.hash(state);
        self.ports_word().hash(state);
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use std::net::SocketAddr;
        if self.src_port == 0 && self.dst_port == 0 {
            return write!(f, "{} {} -> {}", self.protocol, self.src(), self.dst());
        }
        let src = SocketAddr::new(self.src(), self.src_port);
        let dst = SocketAddr::new(self.dst(), self.dst_port);
        write!(f, "{} {src} -> {dst}", self.protocol)
    }
}

impl fmt::Debug for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
