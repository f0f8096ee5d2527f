//! Which packets a flow's packets become: the Service's backend instead of its address, a source of our choice where two
//! flows would look alike to the answerer. The plan is a flow's reply key; applying it is one rewrite per packet.
//!
//! Echo keys. Both directions of an echo carry the same identifier. So that a request of the answerer is not taken for a
//! reply, a key holds a request's identifier as its source port and a reply's as its destination port, the other being 0.

use crate::flows::{Flow, FlowTable};
use crate::masquerade;
use crate::path::Context;
use crate::place::{self, Place};
use crate::ports::Port;
use crate::service::{self, Target};
use crate::state::Side;
use crate::{DropReason, answer};
use std::net::IpAddr;
use wire::{FlowKey, Fragment, Frame, IcmpKind, Instant, L4, Packet, Protocol, edit};

/// Source ports tried before a flow is refused. At a table of 65,000 flows to one backend, half of all ports are taken and
/// 32 tries fail once in 4 billion times.
const SOURCE_PORT_TRIES_MAX: u64 = 32;

/// First source port that is given to a translated flow; those below are for privileged programs.
const SOURCE_PORT_MIN: u16 = 1024;

/// How a packet is matched against flows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// A packet of a flow of its own.
    Own(FlowKey),
    /// A later fragment: of the flow of its first fragment.
    Fragment,
    /// An error about a packet of the flow whose packets in the error's direction have one of these keys.
    Error([Option<FlowKey>; 2]),
}

impl Role {
    pub(crate) fn of(packet: &Packet) -> Role {
        if let Fragment::Later { .. } = packet.fragment {
            return Role::Fragment;
        }
        let key = packet.flow();
        match packet.l4 {
            L4::Icmp { meaning: IcmpKind::Error { quoted: None }, .. } => Role::Error([None, None]),
            L4::Icmp { meaning: IcmpKind::Error { quoted: Some(quoted) }, .. } => {
                let back = quoted.reverse();
                if is_icmp(back.protocol) {
                    Role::Error([Some(echo_reply(back)), Some(echo_request(back))])
                } else {
                    Role::Error([Some(back), None])
                }
            }
            L4::Icmp { meaning: IcmpKind::EchoRequest { .. }, .. } => Role::Own(echo_request(key)),
            L4::Icmp { meaning: IcmpKind::EchoReply { .. }, .. } => Role::Own(echo_reply(key)),
            _ => Role::Own(key),
        }
    }
}

fn is_icmp(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::ICMP | Protocol::ICMPV6)
}

fn echo_request(mut key: FlowKey) -> FlowKey {
    key.dst_port = 0;
    key
}

fn echo_reply(mut key: FlowKey) -> FlowKey {
    key.src_port = 0;
    key
}

/// The key as a packet shows it: the identifier on both sides of an echo.
fn on_the_wire(mut key: FlowKey) -> FlowKey {
    if is_icmp(key.protocol) {
        let id = key.src_port | key.dst_port;
        (key.src_port, key.dst_port) = (id, id);
    }
    key
}

/// The source of a flow's packets once they have crossed a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This address; the port stays, unless another flow's answers would look the same.
    Address(IpAddr),
    /// The node's own address, and a port that its kernel has left to us.
    Leased(IpAddr),
    /// The gateway's address, and a port that no other flow of the node has.
    Shared(IpAddr),
}

/// The source of a flow that the attached side of `port` opens to `target`, which lives at `far`: the opener's own, so that
/// servers and policies know it (S28), unless the answers would not come back through the switch that way.
pub(crate) fn source_from(
    cx: &Context<'_>,
    port: &Port,
    original: &FlowKey,
    target: &Target,
    far: Place,
) -> Result<Source, DropReason> {
    let client = original.src();
    let to_itself = matches!(far, Place::Port(_, id) if id == port.config.id);
    if port.is_uplink() {
        let own = port.address_like(client).map(Source::Leased).ok_or(DropReason::NoRoute);
        return match far {
            // Nobody outside answers by way of this node, and a node's own kernel answers another node on the underlay.
            _ if to_itself => own,
            Place::Peer(_) if place::is_other_node(cx, client) => own,
            // This node's kernel answers through the host port what comes from a Service.
            Place::Port(shard, id) if cx.tables.attached.host == Some((shard, id)) => {
                service::cluster_ip(cx, original).map(Source::Address).ok_or(DropReason::NoRoute)
            }
            _ if cx.config.masquerade_all => own,
            _ => Ok(Source::Address(client)),
        };
    }
    let gateway = || answer::gateway(cx, client).map(Source::Address).ok_or(DropReason::ToItself);
    match (to_itself || port.owns(target.addr), port.is_host()) {
        (true, _) if target.service.is_none() => Err(DropReason::ToItself),
        // The gateway's address is the host's own, so the host gets the Service's instead.
        (true, true) => Ok(Source::Address(original.dst())),
        (true, false) => gateway(),
        // The other node's kernel knows a way to this node's address that is not the tunnel.
        (false, true) if place::is_other_node(cx, target.addr) => gateway(),
        (false, false) if target.service.is_some() && masquerade::applies(cx, far) => {
            Ok(answer::gateway(cx, client).map_or(Source::Address(client), Source::Shared))
        }
        (false, _) => Ok(Source::Address(client)),
    }
}

/// The source of a flow that comes into `port`: the opener's, unless it leaves the cluster there (P03).
pub(crate) fn source_into(cx: &Context<'_>, port: &Port, original: &FlowKey) -> Source {
    let (src, dst) = (original.src(), original.dst());
    // The kernel expects no answers to what the node itself sent through the host port.
    let keeps_its_own = || !cx.is_host_address(src) && cx.config.non_masquerade.iter().any(|cidr| cidr.contains(&dst));
    match port.address_like(src) {
        Some(own) if port.is_uplink() && !keeps_its_own() => Source::Leased(own),
        _ => Source::Address(src),
    }
}

/// The key of the answers to packets `original` once they are sent to `target` with `source`, and whether its port is leased.
pub(crate) fn plan(
    now: Instant,
    flows: &mut FlowTable,
    original: &FlowKey,
    target: &Target,
    source: Source,
) -> Result<(FlowKey, bool), DropReason> {
    let src = match source {
        Source::Leased(own) if original.src_port != 0 => {
            let answers = FlowKey::new(original.protocol, target.addr, target.port, own, 0);
            return match flows.lease(now, original, answers) {
                Some(leased) => Ok((leased, true)),
                None if flows.source_ports.is_growing(&answers) => Err(DropReason::SourcePortsAwaited),
                None => Err(DropReason::SourcePortsExhausted),
            };
        }
        Source::Leased(addr) | Source::Address(addr) | Source::Shared(addr) => addr,
    };
    plan_reply(now, flows, original, target, src).map(|reply| (reply, false)).ok_or(DropReason::NoSourcePort)
}

/// The key of the answers to packets `original` once they are sent to `target` from the address `src`. Another source port
/// is chosen if another flow's answers look the same (S15, S16); `None` if no free one is found.
fn plan_reply(
    now: Instant,
    flows: &mut FlowTable,
    original: &FlowKey,
    target: &Target,
    src: IpAddr,
) -> Option<FlowKey> {
    let answers_to = |src_port| FlowKey::new(original.protocol, target.addr, target.port, src, src_port);
    let reply = answers_to(original.src_port);
    if flows.find(now, &reply).is_none() {
        return Some(reply);
    }
    if original.src_port == 0 {
        return None;
    }
    let start = original.hash_with(u64::from(original.src_port));
    let range = u64::from(u16::MAX - SOURCE_PORT_MIN) + 1;
    (0..SOURCE_PORT_TRIES_MAX)
        .map(|n| answers_to(SOURCE_PORT_MIN + (start.wrapping_add(n * 7_919) % range) as u16))
        .find(|reply| flows.find(now, reply).is_none())
}

/// Makes a packet that travels on `side` of `flow`, across the uplink or not, what it is on the other end; the view follows.
#[inline]
pub(crate) fn apply(flow: &Flow, side: Side, across_uplink: bool, role: &Role, packet: &mut Packet, frame: &mut Frame) {
    if flow.is_translated() {
        let to = flow.key(side.other()).reverse();
        match role {
            Role::Own(_) | Role::Fragment => rewrite(packet, frame, &on_the_wire(to)),
            Role::Error(_) => rewrite_error(flow, side, across_uplink, &to, packet, frame),
        }
    }
}

/// The quote becomes what the receiver of the error had sent; the error's own source is translated only if it is the other
/// end of the flow and not a router on the way (S17). Outside, no router of the cluster has an address.
fn rewrite_error(flow: &Flow, side: Side, across_uplink: bool, to: &FlowKey, packet: &mut Packet, frame: &mut Frame) {
    let quoted = on_the_wire(*flow.key(side.other()));
    edit::rewrite_quoted(frame, packet, &quoted);
    let leaves = across_uplink && (side == Side::Reply) == flow.opened_here;
    let from_the_end = leaves || packet.src == flow.key(side).src();
    let src = if from_the_end { to.src() } else { packet.src };
    rewrite(packet, frame, &FlowKey::new(packet.protocol, src, 0, to.dst(), 0));
    if let L4::Icmp { meaning, .. } = &mut packet.l4 {
        *meaning = IcmpKind::Error { quoted: Some(quoted) };
    }
}

fn rewrite(packet: &mut Packet, frame: &mut Frame, to: &FlowKey) {
    edit::rewrite(frame, packet, to);
    packet.src = to.src();
    packet.dst = to.dst();
    match &mut packet.l4 {
        L4::Tcp { src_port, dst_port, .. } | L4::Udp { src_port, dst_port } | L4::Sctp { src_port, dst_port, .. } => {
            (*src_port, *dst_port) = (to.src_port, to.dst_port);
        }
        L4::Icmp { meaning: IcmpKind::EchoRequest { id } | IcmpKind::EchoReply { id }, .. } => *id = to.src_port,
        L4::Icmp { .. } | L4::Other => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::tables::ServicePortIndex;
    use std::net::Ipv4Addr;

    fn addr(last: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, last).into()
    }

    /// A flow of the client's `src_port` to the virtual address `vip`, whose answers come from the backend to `answered`.
    fn translated(vip: u8, src_port: u16, answered: u16) -> Flow {
        let packet = Packet {
            src: addr(1),
            dst: addr(vip),
            protocol: Protocol::TCP,
            l3_offset: 14,
            l4_offset: 34,
            payload_offset: 54,
            end: 54,
            ttl: 64,
            traffic_class: 0,
            dont_fragment: true,
            fragment: Fragment::Whole,
            l4: L4::Tcp { src_port, dst_port: 80, flags: 2 },
        };
        let reply = FlowKey::new(Protocol::TCP, addr(2), 8080, addr(1), answered);
        Flow::new(Instant::ZERO, &packet, packet.flow(), reply)
    }

    #[test]
    fn a_source_port_is_changed_only_if_the_answers_would_look_the_same() {
        let mut flows = FlowTable::new(1, 100);
        let target = Target { addr: addr(2), port: 8080, service: Some(ServicePortIndex(0)) };
        let original = FlowKey::new(Protocol::TCP, addr(1), 40_000, addr(9), 80);
        let plan = |flows: &mut FlowTable| plan_reply(Instant::ZERO, flows, &original, &target, addr(1)).unwrap();
        assert_eq!(plan(&mut flows).dst_port, 40_000);
        flows.insert(Instant::ZERO, translated(8, 40_000, 40_000)).unwrap();
        let other = plan(&mut flows);
        assert!(other.dst_port != 40_000 && other.dst_port >= SOURCE_PORT_MIN);
        assert_eq!((other.src(), other.src_port, other.dst()), (addr(2), 8080, addr(1)));
    }

    #[test]
    fn a_flow_for_which_no_source_port_is_left_is_refused() {
        let mut flows = FlowTable::new(1, 1 << 17);
        for port in 1..=u16::MAX {
            flows.insert(Instant::ZERO, translated(8, port, port)).unwrap();
        }
        let target = Target { addr: addr(2), port: 8080, service: Some(ServicePortIndex(0)) };
        let original = FlowKey::new(Protocol::TCP, addr(1), 40_000, addr(9), 80);
        assert_eq!(plan_reply(Instant::ZERO, &mut flows, &original, &target, addr(1)), None);
    }

    #[test]
    fn a_request_and_a_reply_of_an_echo_have_different_keys_and_the_same_packet() {
        let key = FlowKey::new(Protocol::ICMP, addr(1), 7, addr(2), 7);
        assert_ne!(echo_request(key), echo_reply(key));
        assert_eq!(echo_request(key).reverse(), echo_reply(key.reverse()));
        assert_eq!((on_the_wire(echo_request(key)), on_the_wire(echo_reply(key))), (key, key));
    }
}
