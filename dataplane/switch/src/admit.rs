//! Who may send what into the switch: the identity of a frame is its port or its peer, never what the frame says of itself
//! (X01 to X04, O10).

use crate::path::Context;
use crate::ports::Port;
use crate::{DropReason, GATEWAY_MAC, place};
use overlay::vxlan;
use policy::tables::Owner;
use std::net::{IpAddr, Ipv6Addr};
use wire::icmp::{v4, v6};
use wire::{
    ArpOperation, ArpPacket, Checksum, EtherType, Ethernet, Frame, IcmpKind, L4, NeighborMessage, Packet, Protocol,
    checksum,
};

/// UDP source port of a DHCP server (RFC 2131 §4.1).
const DHCP_SERVER_PORT: u16 = 67;
/// UDP source port of a DHCPv6 server (RFC 8415 §7.2).
const DHCPV6_SERVER_PORT: u16 = 547;

/// What a port sent, after all that concerns its identity has been checked.
pub(crate) enum Admitted {
    /// A request for an address that is not the sender's own.
    Arp(ArpPacket),
    /// The same for IPv6: the solicitation and its target.
    Neighbor(Packet, Ipv6Addr),
    /// A unicast packet to be routed.
    Packet(Packet),
}

/// Checks a frame that the attached side of `port` sent.
pub(crate) fn from_port(cx: &Context<'_>, port: &Port, bytes: &[u8]) -> Result<Admitted, DropReason> {
    let ethernet = Ethernet::check(bytes)?;
    if ethernet.src != port.config.mac {
        return Err(DropReason::SpoofedMac);
    }
    match ethernet.ethertype {
        EtherType::IPV4 | EtherType::IPV6 => {}
        EtherType::ARP => return arp(port, &ArpPacket::check(bytes)?),
        _ => return Err(DropReason::UnknownEtherType),
    }
    let packet = Packet::check(bytes)?;
    match packet.l4 {
        L4::Icmp { kind, meaning: IcmpKind::Neighbor, .. } => return neighbor(port, bytes, packet, kind),
        L4::Icmp { kind: v4::REDIRECT, .. } if packet.src.is_ipv4() => return Err(DropReason::RogueRouter),
        _ => {}
    }
    routed(port, &ethernet, &packet)?;
    if !port.is_host() {
        forbidden_to_pods(cx, &packet)?;
    }
    Ok(Admitted::Packet(packet))
}

/// Checks a frame from outside. What is not about us is the kernel's; what claims to be of the cluster comes in the tunnel or
/// not at all. Other nodes speak for themselves here, as they do to the kernel. Frames for the MACs of others are filtered by the
/// shell.
pub(crate) fn from_uplink(cx: &Context<'_>, bytes: &[u8]) -> Result<Admitted, DropReason> {
    let ethernet = Ethernet::check(bytes)?;
    match ethernet.ethertype {
        EtherType::IPV4 | EtherType::IPV6 => {}
        EtherType::ARP => return announced_arp(cx, &ArpPacket::check(bytes)?),
        _ => return Err(DropReason::LeftToKernel),
    }
    let packet = Packet::check(bytes)?;
    if let L4::Icmp { meaning: IcmpKind::Neighbor, .. } = packet.l4 {
        return announced_neighbor(cx, bytes, packet);
    }
    let to_many = match packet.dst {
        IpAddr::V4(dst) => dst.is_multicast() || dst.is_broadcast(),
        IpAddr::V6(dst) => dst.is_multicast(),
    };
    if to_many || ethernet.dst.is_multicast() {
        return Err(DropReason::LeftToKernel);
    }
    from_outside(cx, packet.src)?;
    Ok(Admitted::Packet(packet))
}

/// Whether `src` may be the source of a packet from outside.
fn from_outside(cx: &Context<'_>, src: IpAddr) -> Result<(), DropReason> {
    match src {
        // "This network" and what is reserved (RFC 6890 §2.2.2).
        IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240 => Err(DropReason::BadAddress),
        IpAddr::V4(v4) if v4.is_link_local() => Err(DropReason::LinkLocal),
        IpAddr::V6(v6) if v6.is_unspecified() => Err(DropReason::BadAddress),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Err(DropReason::LinkLocal),
        src if place::is_outside(cx, src) || place::is_other_node(cx, src) => Ok(()),
        _ => Err(DropReason::SpoofedSource),
    }
}

/// A request for an announced address; also one that probes for its use, since it is in use.
fn announced_arp(cx: &Context<'_>, arp: &ArpPacket) -> Result<Admitted, DropReason> {
    let announced = &cx.tables.attached.announced;
    let is_about_us = arp.operation == ArpOperation::Request && announced.contains(&IpAddr::V4(arp.target_ip));
    let sender = IpAddr::V4(arp.sender_ip);
    let from_others = !cx.is_host_address(sender) && !announced.contains(&sender);
    if is_about_us && from_others { Ok(Admitted::Arp(*arp)) } else { Err(DropReason::LeftToKernel) }
}

fn announced_neighbor(cx: &Context<'_>, bytes: &[u8], packet: Packet) -> Result<Admitted, DropReason> {
    match NeighborMessage::check(bytes, &packet)? {
        Some(NeighborMessage::Solicitation { target, .. })
            if cx.tables.attached.announced.contains(&target.into()) && !cx.is_host_address(packet.src) =>
        {
            Ok(Admitted::Neighbor(packet, target))
        }
        _ => Err(DropReason::LeftToKernel),
    }
}

/// Checks a tunnel datagram and leaves the inner frame, its checksum verified. Whether the source is the peer's is asked
/// where its flow is looked up, since a known flow answers it already.
pub(crate) fn from_tunnel(cx: &Context<'_>, frame: &mut Frame) -> Result<Packet, DropReason> {
    let vni = vxlan::pop(frame.bytes()).map_err(|_| DropReason::NotEncapsulated)?;
    if vni != cx.config.vni {
        return Err(DropReason::UnknownVni);
    }
    frame.pull_front(vxlan::HEADER_BYTES);
    let ethernet = Ethernet::check(frame.bytes())?;
    if ethernet.dst != cx.config.vtep_mac {
        return Err(DropReason::WrongVtep);
    }
    if !matches!(ethernet.ethertype, EtherType::IPV4 | EtherType::IPV6) {
        return Err(DropReason::UnknownEtherType);
    }
    let packet = Packet::check(frame.bytes())?;
    if frame.offload.checksum == Checksum::Complete {
        // A datagram may be damaged after its outer checksum was checked or where it had none (X12).
        if !checksum::verify_l4(frame.bytes(), &packet) {
            return Err(DropReason::BadChecksum);
        }
        frame.offload.checksum = Checksum::Verified;
    }
    Ok(packet)
}

/// A packet is routed if its sender owns its source, sent it to the gateway, and its destination is one of a single host.
#[inline]
fn routed(port: &Port, ethernet: &Ethernet, packet: &Packet) -> Result<(), DropReason> {
    if !port.owns(packet.src) {
        return Err(match packet.src {
            _ if packet.dst.is_multicast() => DropReason::Multicast,
            IpAddr::V6(src) if src.is_unicast_link_local() => DropReason::LinkLocal,
            _ => DropReason::SpoofedSource,
        });
    }
    match packet.dst {
        IpAddr::V4(dst) if dst.is_multicast() || dst.is_broadcast() => return Err(DropReason::Multicast),
        IpAddr::V6(dst) if dst.is_multicast() => return Err(DropReason::Multicast),
        IpAddr::V6(dst) if dst.is_unicast_link_local() => return Err(DropReason::LinkLocal),
        _ => {}
    }
    if ethernet.dst != GATEWAY_MAC {
        return Err(DropReason::NotForGateway);
    }
    Ok(())
}

/// What no pod may send, whatever policies say.
#[inline]
fn forbidden_to_pods(cx: &Context<'_>, packet: &Packet) -> Result<(), DropReason> {
    let L4::Udp { src_port, dst_port } = packet.l4 else { return Ok(()) };
    let dhcp = if packet.src.is_ipv4() { DHCP_SERVER_PORT } else { DHCPV6_SERVER_PORT };
    if src_port == dhcp {
        return Err(DropReason::RogueDhcpServer);
    }
    if is_encapsulation(cx, packet.protocol, packet.dst, dst_port) {
        return Err(DropReason::PodEncapsulation);
    }
    Ok(())
}

/// Whether packets to `addr`:`port` are tunnel datagrams. Only nodes send those: with a node's address as source, which anybody
/// gets whom a Service leads to a node, they would be believed.
pub(crate) fn is_encapsulation(cx: &Context<'_>, protocol: Protocol, addr: IpAddr, port: u16) -> bool {
    protocol == Protocol::UDP && port == cx.config.vxlan_port && is_node(cx, addr)
}

fn is_node(cx: &Context<'_>, addr: IpAddr) -> bool {
    cx.is_host_address(addr) || matches!(cx.tables.policy.owner(addr), Some(Owner::Node(_)))
}

fn arp(port: &Port, arp: &ArpPacket) -> Result<Admitted, DropReason> {
    let sender = IpAddr::V4(arp.sender_ip);
    // The host may ask on behalf of any of its addresses, also those of other interfaces.
    let sender_known = port.owns(sender) || arp.is_probe() || port.is_host();
    if arp.sender_mac != port.config.mac || !sender_known {
        return Err(DropReason::SpoofedArp);
    }
    let answered = arp.operation == ArpOperation::Request
        && !arp.is_probe()
        && !arp.is_announcement()
        && !port.owns(IpAddr::V4(arp.target_ip));
    if answered { Ok(Admitted::Arp(*arp)) } else { Err(DropReason::ArpIgnored) }
}

fn neighbor(port: &Port, bytes: &[u8], packet: Packet, kind: u8) -> Result<Admitted, DropReason> {
    match kind {
        v6::ROUTER_ADVERTISEMENT | v6::REDIRECT => return Err(DropReason::RogueRouter),
        v6::ROUTER_SOLICITATION => return Err(DropReason::RouterSolicitation),
        _ => {}
    }
    let IpAddr::V6(src) = packet.src else { return Err(DropReason::BadHeader) };
    let sender_known = port.owns(packet.src) || src.is_unicast_link_local() || src.is_unspecified() || port.is_host();
    if !sender_known {
        return Err(DropReason::SpoofedNeighbor);
    }
    match NeighborMessage::check(bytes, &packet)? {
        Some(NeighborMessage::Solicitation { target, source_mac, duplicate_detection }) => {
            if source_mac.is_some_and(|mac| mac != port.config.mac) {
                return Err(DropReason::SpoofedNeighbor);
            }
            // Whoever checks if an address is in use is about to use it: an answer would take it away.
            let answered = !duplicate_detection && !port.owns(target.into());
            if answered { Ok(Admitted::Neighbor(packet, target)) } else { Err(DropReason::NeighborIgnored) }
        }
        Some(NeighborMessage::Advertisement { target, target_mac }) => {
            let own = port.owns(target.into()) || target.is_unicast_link_local() || port.is_host();
            if !own || target_mac.is_some_and(|mac| mac != port.config.mac) {
                return Err(DropReason::SpoofedNeighbor);
            }
            Err(DropReason::NeighborIgnored)
        }
        _ => Err(DropReason::NeighborIgnored),
    }
}
