//! The programs run on a small interpreter of classic BPF, on frames that [`wire::build`] makes.

use super::super::bpf::{take_loopback, take_nothing};
use super::*;
use libc::{
    BPF_B, BPF_H, BPF_IND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP, BPF_LDX, BPF_RET, SKF_AD_IFINDEX, SKF_AD_OFF,
    c_int,
};
use std::net::SocketAddr;
use wire::build::{self, Ends as PacketEnds};
use wire::{MacAddr, Protocol};

/// What the kernel knows of a packet besides its bytes.
#[derive(Clone, Copy)]
struct Around {
    packet_type: u32,
    tagged: bool,
    interface: u32,
}

const TO_US: Around = Around { packet_type: PACKET_HOST, tagged: false, interface: 2 };

/// Runs a program as the kernel does: a load beyond the packet drops it.
fn run(program: &[sock_filter], packet: &[u8], around: Around) -> u32 {
    let (mut a, mut x, mut at) = (0u32, 0u32, 0usize);
    let load = |offset: u64, bytes: usize| -> Option<u32> {
        let ancillary = |which: c_int| u64::from((SKF_AD_OFF + which) as u32);
        match offset {
            _ if offset == ancillary(SKF_AD_PKTTYPE) => return Some(around.packet_type),
            _ if offset == ancillary(SKF_AD_VLAN_TAG_PRESENT) => return Some(around.tagged.into()),
            _ if offset == ancillary(SKF_AD_IFINDEX) => return Some(around.interface),
            _ => {}
        }
        let field = packet.get(offset as usize..offset as usize + bytes)?;
        Some(field.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let code = u32::from(code);
        let size = match code & 0x18 {
            BPF_B => 1,
            BPF_H => 2,
            _ => 4,
        };
        let loaded = match code & 0x07 {
            BPF_RET => return k,
            BPF_JMP => {
                let passes = match code & 0xf0 {
                    BPF_JA => {
                        at += k as usize;
                        continue;
                    }
                    BPF_JEQ => a == k,
                    BPF_JGE => a >= k,
                    BPF_JGT => a > k,
                    _ => a & k != 0,
                };
                at += usize::from(if passes { jt } else { jf });
                continue;
            }
            BPF_LDX => {
                let Some(byte) = load(k.into(), 1) else { return 0 };
                x = 4 * (byte & 0xf);
                continue;
            }
            _ if code & 0xe0 == BPF_IND => load(u64::from(x) + u64::from(k), size),
            _ => load(k.into(), size),
        };
        let Some(value) = loaded else { return 0 };
        a = value;
    }
}

const OWN: [&str; 2] = ["172.30.0.11", "fd00:172:30::11"];
const OTHER: [&str; 2] = ["192.168.7.1", "fd00:7::1"];
const VIP: [&str; 2] = ["172.30.0.200", "fd00:172:30::200"];
const CLIENT: [&str; 2] = ["172.30.0.100", "fd00:172:30::64"];

fn set(addresses: [&str; 2]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

fn spec() -> FilterSpec {
    FilterSpec {
        own: set(OWN),
        others: set(OTHER),
        announced: set(VIP),
        tcp: vec![30_080..=30_080, 61_000..=61_999],
        udp: vec![4_000..=5_000, 61_000..=61_999],
        sctp: vec![30_090..=30_099],
        tunnel_port: 4_789,
    }
}

fn ends(src: &str, dst: &str, src_port: u16, dst_port: u16) -> PacketEnds {
    let at = |address: &str, port| SocketAddr::new(address.parse().unwrap(), port);
    PacketEnds::new(at(src, src_port), at(dst, dst_port))
}

fn taken_around(frame: &[u8], around: Around) -> bool {
    run(&generate(&spec()), frame, around) != 0
}

fn taken(frame: &[u8]) -> bool {
    taken_around(frame, TO_US)
}

#[test]
fn ports_that_are_held_are_taken_and_no_others() {
    for family in [0, 1] {
        let to = |port| ends(CLIENT[family], OWN[family], 40_000, port);
        let tcp = |port| taken(&build::tcp(&to(port), &build::Tcp::flags(2), &[]));
        let udp = |port| taken(&build::udp(&to(port), b"x"));
        let sctp = |port| taken(&build::sctp(&to(port), 0, &[1, 0, 0, 4]));
        for port in [30_080, 61_000, 61_999] {
            assert!(tcp(port), "TCP {port}");
        }
        for port in [22, 30_079, 30_081, 60_999, 62_000] {
            assert!(!tcp(port), "TCP {port}");
        }
        for port in [4_000, 4_788, 4_790, 5_000, 61_500] {
            assert!(udp(port), "UDP {port}");
        }
        for port in [53, 3_999, 4_789, 5_001] {
            assert!(!udp(port), "UDP {port}");
        }
        assert!(sctp(30_095) && !sctp(30_100));
    }
}

#[test]
fn icmp_errors_and_echo_replies_are_taken_and_requests_are_the_kernels() {
    for family in [0, 1] {
        let to = ends(CLIENT[family], OWN[family], 0, 0);
        assert!(taken(&build::echo(&to, build::Echo::Reply, 7, 1, b"x")));
        assert!(!taken(&build::echo(&to, build::Echo::Request, 7, 1, b"x")));
        let (protocol, error) = if family == 0 { (Protocol::ICMP, 3) } else { (Protocol::ICMPV6, 1) };
        assert!(taken(&build::ip(&to, protocol, &[error, 1, 0, 0, 0, 0, 0, 0])));
        // The router's own talk: redirect, router advertisement.
        let redirect = if family == 0 { 5 } else { 134 };
        assert!(!taken(&build::ip(&to, protocol, &[redirect, 1, 0, 0, 0, 0, 0, 0])));
    }
}

#[test]
fn later_fragments_are_taken() {
    let mut frame = build::udp(&ends(CLIENT[0], OWN[0], 1, 22), b"later");
    assert!(!taken(&frame));
    frame[21] = 185;
    assert!(taken(&frame));
    let mut frame = build::udp(&ends(CLIENT[1], OWN[1], 1, 22), b"later one");
    frame[20] = 44;
    assert!(taken(&frame));
}

#[test]
fn an_ipv4_header_with_options_does_not_hide_the_port() {
    let mut frame = build::udp(&ends(CLIENT[0], OWN[0], 40_000, 61_000), b"x");
    frame.splice(34..34, [1; 8]);
    frame[14] = 0x47;
    assert!(taken(&frame));
    frame[44..46].copy_from_slice(&53u16.to_be_bytes());
    assert!(!taken(&frame));
}

#[test]
fn virtual_addresses_are_taken_and_other_addresses_of_the_machine_left() {
    for family in [0, 1] {
        let to = |dst| build::tcp(&ends(CLIENT[family], dst, 40_000, 80), &build::Tcp::flags(2), &[]);
        assert!(taken(&to(VIP[family])));
        assert!(!taken(&to(OTHER[family])));
        for packet_type in [1, 2, 3, 4] {
            assert!(!taken_around(&to(VIP[family]), Around { packet_type, ..TO_US }), "not sent to our MAC");
        }
        assert!(!taken_around(&to(VIP[family]), Around { tagged: true, ..TO_US }), "of a VLAN");
    }
    let link_local = build::udp(&ends("fe80::1", "fe80::2", 1, 80), b"x");
    assert!(!taken(&link_local));
}

#[test]
fn announced_addresses_are_asked_for() {
    let mac = MacAddr([2, 0, 0, 0, 0, 1]);
    let to_all = Around { packet_type: 1, ..TO_US };
    let arp = |target: &str| build::arp_request(mac, CLIENT[0].parse().unwrap(), target.parse().unwrap());
    assert!(taken_around(&arp(VIP[0]), to_all) && taken(&arp(VIP[0])));
    assert!(!taken_around(&arp(OWN[0]), to_all), "the kernel answers for its own");
    let mut reply = arp(VIP[0]);
    reply[21] = 2;
    assert!(!taken(&reply));
    let to_many = Around { packet_type: PACKET_MULTICAST, ..TO_US };
    let solicitation =
        |target: &str| build::neighbor_solicitation(mac, CLIENT[1].parse().unwrap(), target.parse().unwrap());
    assert!(taken_around(&solicitation(VIP[1]), to_many));
    assert!(!taken_around(&solicitation(OWN[1]), to_many));
}

#[test]
fn other_protocols_and_cut_frames_are_left() {
    let frame = build::tcp(&ends(CLIENT[0], OWN[0], 40_000, 30_080), &build::Tcp::flags(2), &[]);
    for len in 0..37 {
        assert!(!taken(&frame[..len]), "{len} bytes");
    }
    let mut spanning_tree = frame.clone();
    spanning_tree[12..14].copy_from_slice(&[0, 38]);
    assert!(!taken(&spanning_tree));
    let to = ends(CLIENT[0], OWN[0], 0, 0);
    assert!(!taken(&build::ip(&to, Protocol(47), &[0; 8])));
}

#[test]
fn a_large_node_still_has_a_program() {
    let many = |family: usize, count: u32| {
        (0..count).map(move |n| match family {
            0 => IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n)),
            _ => IpAddr::from(Ipv6Addr::from_bits((0xfd << 120) + u128::from(n))),
        })
    };
    let spec = FilterSpec {
        own: set(OWN),
        others: many(0, 500).chain(many(1, 500)).collect(),
        announced: many(0, 500).chain(many(1, 500)).collect(),
        tcp: ranges_of((1..65_000).step_by(2)),
        udp: ranges_of((1..65_000).step_by(3)),
        sctp: ranges_of((1..65_000).step_by(5)),
        tunnel_port: 4_789,
    };
    let program = generate(&spec);
    assert!(program.len() < INSTRUCTIONS_MAX, "{}", program.len());
    let frame = build::tcp(&ends(CLIENT[0], OWN[0], 1, 63_999), &build::Tcp::flags(2), &[]);
    assert_ne!(run(&program, &frame, TO_US), 0);
}

#[test]
fn the_smallest_gaps_are_closed_first() {
    let ranges = ranges_of([1, 2, 3, 10, 12, 100, 65_535]);
    assert_eq!(ranges, [1..=3, 10..=10, 12..=12, 100..=100, 65_535..=65_535]);
    assert_eq!(merge_gaps(&ranges, 5), ranges);
    assert_eq!(merge_gaps(&ranges, 3), [1..=12, 100..=100, 65_535..=65_535]);
    assert_eq!(merge_gaps(&ranges, 1), [1..=65_535]);
    assert_eq!(merge_gaps(&[], 1), []);
}

#[test]
fn ranges_are_joined() {
    let mut ranges = vec![1..=3, 10..=12, 65_535..=65_535];
    add_ranges(&mut ranges, &[4..=5, 11..=20, 30..=30]);
    assert_eq!(ranges, [1..=5, 10..=20, 30..=30, 65_535..=65_535]);
    add_ranges(&mut ranges, &[0..=65_535]);
    assert_eq!(ranges, [0..=65_535]);
}

#[test]
fn claims_take_what_the_machine_itself_sends_or_nothing() {
    for (interface, expected) in [(1, u32::MAX), (2, 0)] {
        assert_eq!(run(&take_loopback(), &[], Around { interface, ..TO_US }), expected);
        assert_eq!(run(&take_nothing(), &[], Around { interface, ..TO_US }), 0);
    }
}
