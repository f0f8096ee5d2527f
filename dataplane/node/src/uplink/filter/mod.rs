//! Which frames the kernel shall hand to the uplink: a classic BPF program, generated from what this node holds. Pure.
//!
//! The program only keeps the kernel from copying frames that are none of our business; the switch decides. So it may let too
//! much through and never too little: gaps between ports are taken where the ranges would be too many, and every announced
//! address where those would be. What it lets through:
//!
//! - to an address of this node: TCP, UDP and SCTP to a port that is held, later fragments, ICMP errors and echo replies;
//! - to an address that is none of this machine's, sent to its MAC: all IP, since it may be a virtual one;
//! - ARP requests and neighbor solicitations for announced addresses.
//!
//! Datagrams of the overlay's own port never pass: they are the tunnel socket's.

use super::bpf::{Assembler, INSTRUCTIONS_MAX, Label, Test};
use libc::{SKF_AD_PKTTYPE, SKF_AD_VLAN_TAG_PRESENT, sock_filter};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Ranges of ports that one protocol is tested against. Each costs every packet to this node a comparison; node ports and source
/// ports are two or three ranges as a rule.
const RANGES_MAX: usize = 16;

/// Addresses of one family that are compared one by one; with more, all are let through.
const ADDRESSES_MAX: usize = 64;

// `linux/if_packet.h`, as SKF_AD_PKTTYPE shows it.
const PACKET_HOST: u32 = 0;
const PACKET_MULTICAST: u32 = 2;

const ETHERNET_BYTES: u32 = 14;
const ETHERTYPE: u32 = 12;

/// What the program is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilterSpec {
    /// Addresses at which this node serves ports.
    pub(crate) own: BTreeSet<IpAddr>,
    /// Other addresses of this machine: nothing to them is taken.
    pub(crate) others: BTreeSet<IpAddr>,
    /// Addresses that this node answers for.
    pub(crate) announced: BTreeSet<IpAddr>,
    /// Ports that are held, sorted and apart: TCP, UDP, SCTP.
    pub(crate) tcp: Vec<RangeInclusive<u16>>,
    pub(crate) udp: Vec<RangeInclusive<u16>>,
    pub(crate) sctp: Vec<RangeInclusive<u16>>,
    /// UDP port of the overlay.
    pub(crate) tunnel_port: u16,
}

/// Labels that all parts of the program end at.
struct Ends {
    take: Label,
    leave: Label,
}

/// Where the fields of an IP header are, seen from the Ethernet header.
struct Layout {
    /// Transport ports: TCP, UDP, SCTP.
    ports: [Label; 3],
    icmp: Label,
}

/// The program for a raw socket whose packets begin with their Ethernet header.
pub(crate) fn generate(spec: &FilterSpec) -> Vec<sock_filter> {
    let mut program = Assembler::default();
    let ends = Ends { take: program.label(), leave: program.label() };
    let (ipv4, ipv6, arp) = (program.label(), program.label(), program.label());
    // Frames of a VLAN belong to its own interface; their tag is no longer among the bytes.
    program.load_ancillary(SKF_AD_VLAN_TAG_PRESENT);
    program.jump_unless(Test::Is(0), ends.leave);
    program.load_half(ETHERTYPE);
    program.jump_if(Test::Is(0x0800), ipv4);
    program.jump_if(Test::Is(0x86dd), ipv6);
    program.jump_if(Test::Is(0x0806), arp);
    program.jump(ends.leave);

    program.place(ipv4);
    write_ipv4(&mut program, spec, &ends);
    program.place(ipv6);
    write_ipv6(&mut program, spec, &ends);
    program.place(arp);
    write_arp(&mut program, spec, &ends);

    program.place(ends.take);
    program.finish_with(u32::MAX);
    program.place(ends.leave);
    program.finish_with(0);
    let program = program.assemble();
    assert!(program.len() <= INSTRUCTIONS_MAX, "the limits above keep the program short enough");
    program
}

fn write_ipv4(program: &mut Assembler, spec: &FilterSpec, ends: &Ends) {
    const FRAGMENT: u32 = ETHERNET_BYTES + 6;
    const PROTOCOL: u32 = ETHERNET_BYTES + 9;
    const DST: u32 = ETHERNET_BYTES + 16;
    program.load_ancillary(SKF_AD_PKTTYPE);
    program.jump_unless(Test::Is(PACKET_HOST), ends.leave);
    let own = program.label();
    program.load_word(DST);
    for address in v4(&spec.own) {
        program.jump_if(Test::Is(address.to_bits()), own);
    }
    for address in v4(&spec.others).take(ADDRESSES_MAX) {
        program.jump_if(Test::Is(address.to_bits()), ends.leave);
    }
    program.jump(ends.take);

    program.place(own);
    program.load_half(FRAGMENT);
    program.jump_if(Test::Has(0x1fff), ends.take);
    let layout = Layout { ports: [(); 3].map(|()| program.label()), icmp: program.label() };
    program.index_ipv4_header(ETHERNET_BYTES);
    program.load_byte(PROTOCOL);
    write_protocols(program, &layout, 1, ends);
    for (which, label) in layout.ports.into_iter().enumerate() {
        program.place(label);
        program.load_half_indexed(ETHERNET_BYTES + 2);
        write_ports(program, spec, which, ends);
    }
    program.place(layout.icmp);
    program.load_byte_indexed(ETHERNET_BYTES);
    // Echo reply, unreachable, time exceeded, parameter problem (RFC 792).
    for kind in [0, 3, 11, 12] {
        program.jump_if(Test::Is(kind), ends.take);
    }
    program.jump(ends.leave);
}

fn write_ipv6(program: &mut Assembler, spec: &FilterSpec, ends: &Ends) {
    const NEXT_HEADER: u32 = ETHERNET_BYTES + 6;
    const DST: u32 = ETHERNET_BYTES + 24;
    const BODY: u32 = ETHERNET_BYTES + 40;
    const FRAGMENT: u32 = 44;
    let (host, own) = (program.label(), program.label());
    program.load_ancillary(SKF_AD_PKTTYPE);
    program.jump_if(Test::Is(PACKET_HOST), host);
    program.jump_unless(Test::Is(PACKET_MULTICAST), ends.leave);
    write_solicitation(program, spec, ends);

    program.place(host);
    program.load_word(DST);
    program.jump_if(Test::Is(0xfe80_0000), ends.leave);
    for address in v6(&spec.own) {
        write_if_v6(program, DST, address, own);
    }
    for address in v6(&spec.others).take(ADDRESSES_MAX) {
        write_if_v6(program, DST, address, ends.leave);
    }
    program.jump(ends.take);

    program.place(own);
    let layout = Layout { ports: [(); 3].map(|()| program.label()), icmp: program.label() };
    program.load_byte(NEXT_HEADER);
    let whole = program.label();
    program.jump_unless(Test::Is(FRAGMENT), whole);
    // Of a datagram to this node in pieces every piece is taken: the first one's ports are no shorter way.
    program.jump(ends.take);
    program.place(whole);
    write_protocols(program, &layout, 58, ends);
    for (which, label) in layout.ports.into_iter().enumerate() {
        program.place(label);
        program.load_half(BODY + 2);
        write_ports(program, spec, which, ends);
    }
    program.place(layout.icmp);
    program.load_byte(BODY);
    // Unreachable, too big, time exceeded, parameter problem (RFC 4443), echo reply.
    for kind in [1, 2, 3, 4, 129] {
        program.jump_if(Test::Is(kind), ends.take);
    }
    program.jump(ends.leave);
}

/// A neighbor solicitation that was sent to many, for an announced address (RFC 4861 §4.3).
fn write_solicitation(program: &mut Assembler, spec: &FilterSpec, ends: &Ends) {
    const NEXT_HEADER: u32 = ETHERNET_BYTES + 6;
    const KIND: u32 = ETHERNET_BYTES + 40;
    const TARGET: u32 = KIND + 8;
    program.load_byte(NEXT_HEADER);
    program.jump_unless(Test::Is(58), ends.leave);
    program.load_byte(KIND);
    program.jump_unless(Test::Is(135), ends.leave);
    if v6(&spec.announced).count() > ADDRESSES_MAX {
        return program.jump(ends.take);
    }
    for address in v6(&spec.announced) {
        write_if_v6(program, TARGET, address, ends.take);
    }
    program.jump(ends.leave);
}

/// ARP requests for announced addresses (RFC 826).
fn write_arp(program: &mut Assembler, spec: &FilterSpec, ends: &Ends) {
    const OPERATION: u32 = ETHERNET_BYTES + 6;
    const TARGET: u32 = ETHERNET_BYTES + 24;
    program.load_ancillary(SKF_AD_PKTTYPE);
    program.jump_if(Test::Above(PACKET_MULTICAST), ends.leave);
    program.load_half(OPERATION);
    program.jump_unless(Test::Is(1), ends.leave);
    if v4(&spec.announced).count() > ADDRESSES_MAX {
        return program.jump(ends.take);
    }
    program.load_word(TARGET);
    for address in v4(&spec.announced) {
        program.jump_if(Test::Is(address.to_bits()), ends.take);
    }
    program.jump(ends.leave);
}

/// Leads each protocol to its part; the accumulator holds its number.
fn write_protocols(program: &mut Assembler, layout: &Layout, icmp: u32, ends: &Ends) {
    for (number, label) in [6, 17, 132].into_iter().zip(layout.ports) {
        program.jump_if(Test::Is(number), label);
    }
    program.jump_if(Test::Is(icmp), layout.icmp);
    program.jump(ends.leave);
}

/// Takes the ports that are held; the accumulator holds the destination port.
fn write_ports(program: &mut Assembler, spec: &FilterSpec, which: usize, ends: &Ends) {
    let ranges = [&spec.tcp, &spec.udp, &spec.sctp][which];
    if which == 1 {
        program.jump_if(Test::Is(spec.tunnel_port.into()), ends.leave);
    }
    for range in merge_gaps(ranges, RANGES_MAX) {
        let next = program.label();
        program.jump_unless(Test::AtLeast((*range.start()).into()), ends.leave);
        program.jump_if(Test::Above((*range.end()).into()), next);
        program.jump(ends.take);
        program.place(next);
    }
    program.jump(ends.leave);
}

/// Goes on at `label` if the four words at `offset` are `address`.
fn write_if_v6(program: &mut Assembler, offset: u32, address: Ipv6Addr, label: Label) {
    let other = program.label();
    let bits = address.to_bits();
    for word in 0..4 {
        program.load_word(offset + 4 * word);
        program.jump_unless(Test::Is((bits >> (96 - 32 * word)) as u32), other);
    }
    program.jump(label);
    program.place(other);
}

/// At most `max` ranges that hold all of `ranges`, which are sorted and apart: the smallest gaps are closed.
fn merge_gaps(ranges: &[RangeInclusive<u16>], max: usize) -> Vec<RangeInclusive<u16>> {
    let mut gaps: Vec<_> =
        ranges.windows(2).enumerate().map(|(at, pair)| (pair[1].start() - pair[0].end(), at)).collect();
    gaps.sort_unstable();
    let closed: BTreeSet<_> = gaps.iter().take(ranges.len().saturating_sub(max)).map(|(_, at)| *at).collect();
    let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
    for (at, range) in ranges.iter().enumerate() {
        match merged.last_mut() {
            Some(last) if closed.contains(&(at - 1)) => *last = *last.start()..=*range.end(),
            _ => merged.push(range.clone()),
        }
    }
    merged
}

/// The ranges that `ports` form, sorted and apart.
pub(crate) fn ranges_of(ports: impl IntoIterator<Item = u16>) -> Vec<RangeInclusive<u16>> {
    let sorted: BTreeSet<u16> = ports.into_iter().collect();
    let mut ranges: Vec<RangeInclusive<u16>> = Vec::new();
    for port in sorted {
        match ranges.last_mut() {
            Some(last) if last.end().checked_add(1) == Some(port) => *last = *last.start()..=port,
            _ => ranges.push(port..=port),
        }
    }
    ranges
}

/// Adds `more` to `ranges`; both are and stay sorted and apart.
pub(crate) fn add_ranges(ranges: &mut Vec<RangeInclusive<u16>>, more: &[RangeInclusive<u16>]) {
    let mut all: Vec<_> = ranges.drain(..).chain(more.iter().cloned()).collect();
    all.sort_unstable_by_key(|range| *range.start());
    for range in all {
        match ranges.last_mut() {
            Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                *last = *last.start()..=*range.end().max(last.end());
            }
            _ => ranges.push(range),
        }
    }
}

fn v4(addresses: &BTreeSet<IpAddr>) -> impl Iterator<Item = Ipv4Addr> {
    addresses.iter().filter_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    })
}

fn v6(addresses: &BTreeSet<IpAddr>) -> impl Iterator<Item = Ipv6Addr> {
    addresses.iter().filter_map(|address| match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    })
}

#[cfg(test)]
mod tests;
