//! The life of a frame, in the order in which it happens. The branching of the fast path stands here and in the two stages below
//! it: [`find`], which says what flow a packet belongs to, and [`open`], which opens one. Everything else that is called decides one
//! thing and returns a value.
//!
//! ```text
//! from_port     admit · answer locally · onward
//! from_uplink   admit · answer locally · onward
//! from_peer     peer · admit · place → into_port
//! onward        cluster DNS? · outbound flow · hop limit · size · translate · place → into_port, shard or peer
//! into_port     inbound flow · translate back · deliver
//! release       onward or into_port, for a frame that was held there
//! ```
//! A stage that ends a frame's way returns a [`Stop`]; the frame then is an answer, or nothing, or a copy waits.
//!
//! **The uplink** is a port whose attached side is everything outside the cluster, so both directions across it are the ones of any
//! port. Who comes in is a client: its flow goes out through `onward`, Service and all, and the answers find their way back through
//! `into_port`. Who goes out comes into the port: there, and only there, its source becomes the node's.

mod context;
mod find;
mod open;

pub(crate) use context::{Context, Sender, Step, Stop};
pub(crate) use find::overdue;

use crate::admit::{self, Admitted};
use crate::counters::AnswerKind;
use crate::flows::Hit;
use crate::fragments::Datagram;
use crate::later::Stage;
use crate::masquerade::Answered;
use crate::names;
use crate::nat::{self, Role};
use crate::place::{self, Place};
use crate::ports::{Port, Ports};
use crate::recent::Dropped;
use crate::state::Side;
use crate::{DropReason, Exit, GATEWAY_MAC, Origin, PortId, ShardId, UNRESOLVED_MAC, answer, dns, service};
use find::{Found, find, hear};
use open::{open_inbound, open_outbound};
use std::net::IpAddr;
use wire::{Ethernet, FlowKey, Fragment, Frame, Packet, Protocol, edit};

/// A frame that a pod or the node itself sent.
#[inline]
pub(crate) fn from_port(cx: &Context<'_>, ports: &mut Ports, slot: usize, frame: &mut Frame) -> Step<Exit> {
    let port = ports.at(slot);
    let packet = match admit::from_port(cx, port, frame.bytes())? {
        Admitted::Packet(packet) => packet,
        Admitted::Arp(request) => return Err(answer::arp(port, frame, &request)),
        Admitted::Neighbor(packet, target) => return Err(answer::neighbor(port, frame, &packet, target)),
    };
    if answer::is_gateway_ping(cx, &packet) && !port.is_host() {
        return Err(answer::echo(port, frame, &packet));
    }
    onward(cx, ports, slot, packet, frame)
}

/// A frame that the node's own interface received, or somebody's question about an address that is announced there. Most of
/// what the kernel shows us is its own: it is left alone, without a word.
#[inline]
pub(crate) fn from_uplink(cx: &Context<'_>, ports: &mut Ports, slot: usize, frame: &mut Frame) -> Step<Exit> {
    let port = ports.at(slot);
    let packet = match admit::from_uplink(cx, frame.bytes())? {
        Admitted::Packet(packet) => packet,
        Admitted::Arp(request) => return Err(answer::arp(port, frame, &request)),
        Admitted::Neighbor(packet, target) => return Err(answer::neighbor(port, frame, &packet, target)),
    };
    if answer::is_ping_of_announced(cx, &packet) {
        return Err(answer::echo(port, frame, &packet));
    }
    onward(cx, ports, slot, packet, frame)
}

/// A tunnel datagram: VXLAN header and inner frame.
#[inline]
pub(crate) fn from_peer(cx: &Context<'_>, ports: &mut Ports, sender: IpAddr, frame: &mut Frame) -> Step<Exit> {
    let Some(peer) = cx.tables.peers.find_by_underlay(sender) else {
        return Err(unheard(cx, ports, sender, DropReason::UnknownPeer));
    };
    let packet = admit::from_tunnel(cx, frame).map_err(|reason| unheard(cx, ports, sender, reason))?;
    match place::find(cx, packet.dst) {
        Place::Port(shard, id) => enter(cx, ports, (shard, id), Sender::Peer(peer, sender), packet, frame),
        Place::Peer(_) | Place::Nowhere(_) => Err(DropReason::NotLocal.into()),
    }
}

/// A datagram is discarded at the mouth of the tunnel: it is noted who sent it, which its bytes do not say.
#[cold]
fn unheard(cx: &Context<'_>, ports: &mut Ports, sender: IpAddr, reason: DropReason) -> Stop {
    let own = cx.tables.own_address(sender.is_ipv4());
    if let (Some(own), DropReason::UnknownPeer | DropReason::NotEncapsulated | DropReason::UnknownVni) = (own, reason) {
        let flow = Some(FlowKey::new(Protocol::UDP, sender, 0, own, cx.config.vxlan_port));
        ports.shared.noted =
            Some(Dropped { sender: None, port: None, reason, dry_run: false, direction: None, flow, before: None });
    }
    reason.into()
}

/// A frame that another shard let through for a port of this one; `origin` is where it entered the node.
#[inline]
pub(crate) fn from_shard(
    cx: &Context<'_>,
    ports: &mut Ports,
    port: PortId,
    origin: Origin,
    frame: &mut Frame,
) -> Step<Exit> {
    Ethernet::check(frame.bytes())?;
    let packet = Packet::check(frame.bytes())?;
    let masquerades = &mut ports.shared.masquerades;
    let port = match masquerades.find(cx, &packet, &Role::of(&packet)) {
        Some(Answered::Here(client)) if is_hosts(cx, port) => client,
        _ => port,
    };
    match cx.tables.attached.host {
        // Asked for here, as its number says, and nobody's: it is for the node itself.
        Some((shard, host)) if host == port && shard != cx.config.shard => Ok(Exit::Shard(shard, host, origin)),
        _ => into_port(cx, ports, port, Sender::at(cx, origin)?, packet, frame),
    }
}

/// A frame that was held at `stage`.
pub(crate) fn release(cx: &Context<'_>, ports: &mut Ports, stage: Stage, frame: &mut Frame) -> Step<Exit> {
    let packet = Packet::check(frame.bytes())?;
    match stage {
        Stage::From(id) => {
            let slot = ports.find(id).ok_or(DropReason::PortGone)?;
            onward(cx, ports, slot, packet, frame)
        }
        Stage::Into(id, origin) => enter(cx, ports, (cx.config.shard, id), Sender::at(cx, origin)?, packet, frame),
    }
}

/// From a port's attached side to wherever the packet goes.
#[inline]
fn onward(cx: &Context<'_>, ports: &mut Ports, slot: usize, packet: Packet, frame: &mut Frame) -> Step<Exit> {
    let begun = Datagram::begun_by(&packet);
    let step = send_onward(cx, ports, slot, packet, frame);
    if let Some(datagram) = begun {
        ports.settle(cx.now, slot, datagram, step.is_ok());
    }
    step
}

#[inline]
fn send_onward(cx: &Context<'_>, ports: &mut Ports, slot: usize, mut packet: Packet, frame: &mut Frame) -> Step<Exit> {
    let (port, shared) = ports.split(slot);
    if dns::is_asked(cx, port, &packet) {
        return Err(dns::ask(cx, port, shared, &packet, frame));
    }
    if !port.is_ready(cx) {
        return Err(DropReason::PortNotReady.into());
    }
    let role = Role::of(&packet);
    let stage = Stage::From(port.config.id);
    let found = match find(cx, (port, shared), stage, Sender::Port, &packet, &role, frame) {
        found if !port.is_uplink() => found?,
        found => of_ours(cx, found)?,
    };
    if packet.ttl <= 1 {
        return Err(answer::ttl_exceeded(cx, port, frame, &packet));
    }
    let hit = match found {
        Found::Flow(hit) => hit,
        Found::Opener(key) => {
            let (port, shared) = ports.split(slot);
            open_outbound(cx, port, shared, &packet, key, frame)?
        }
    };
    hear(cx, ports, slot, hit, &packet, frame)?;
    let port = ports.at_mut(slot);
    let far = port.flows.get(hit).far;
    if let Place::Nowhere(reason) = far {
        return Err(answer::unreachable(cx, port, frame, &packet, reason));
    }
    if let Some(mtu) = exceeded_mtu(cx, ports, far, &packet, frame) {
        return Err(answer::too_big(cx, ports.at_mut(slot), frame, &packet, mtu));
    }

    let port = ports.at_mut(slot);
    edit::decrement_ttl(frame, &packet);
    packet.ttl -= 1;
    pass(cx, port, hit, &role, &mut packet, frame);
    let sender = if port.is_uplink() { Sender::Uplink } else { Sender::Port };
    match far {
        // Its own Service led a pod to itself (S10): both directions are already translated, and N12 exempts it. Or a client
        // outside was led to a server outside.
        Place::Port(_, id) if id == port.config.id => Ok(deliver(port, frame)),
        Place::Port(shard, id) => enter(cx, ports, (shard, id), sender, packet, frame),
        Place::Peer(id) => {
            let peer = cx.tables.peers.get(id).ok_or(DropReason::NoRoute)?;
            edit::set_macs(frame, peer.vtep_mac, cx.config.vtep_mac);
            Ok(Exit::Peer(id))
        }
        Place::Nowhere(reason) => Err(reason.into()),
    }
}

/// What was found of a packet from outside, if it is any business of ours.
fn of_ours(cx: &Context<'_>, found: Step<Found>) -> Step<Found> {
    match found {
        Ok(Found::Opener(key)) if !service::is_served_outside(cx, &key) => Err(DropReason::LeftToKernel.into()),
        Err(Stop::Drop(DropReason::UnrelatedIcmpError | DropReason::FragmentWithoutFirst)) => {
            Err(DropReason::LeftToKernel.into())
        }
        found => found,
    }
}

fn is_hosts(cx: &Context<'_>, port: PortId) -> bool {
    cx.tables.attached.host.is_some_and(|(_, host)| host == port)
}

/// To a port of this node, whatever its shard. What is for the gateway may be for a pod that is behind it.
#[inline]
fn enter(
    cx: &Context<'_>,
    ports: &mut Ports,
    (mut shard, mut id): (ShardId, PortId),
    sender: Sender,
    packet: Packet,
    frame: &mut Frame,
) -> Step<Exit> {
    if cx.config.masquerade_all && is_hosts(cx, id) {
        match answered_behind(cx, ports, id, &packet) {
            Some(Answered::Here(client)) => (shard, id) = (cx.config.shard, client),
            Some(Answered::At(other)) => shard = other,
            None => {}
        }
    }
    if shard == cx.config.shard {
        into_port(cx, ports, id, sender, packet, frame)
    } else {
        Ok(Exit::Shard(shard, id, sender.origin()))
    }
}

/// Where a packet for the gateway's address goes if it answers a pod's flow that has this address for a source.
#[cold]
fn answered_behind(cx: &Context<'_>, ports: &mut Ports, host: PortId, packet: &Packet) -> Option<Answered> {
    let role = Role::of(packet);
    let slot = ports.find(host);
    if let (Role::Own(key), Some(slot)) = (&role, slot)
        && ports.at_mut(slot).flows.find(cx.now, key).is_some()
    {
        return None;
    }
    let answered = ports.shared.masquerades.find(cx, packet, &role)?;
    if let (Some(slot), Some(datagram)) = (slot, Datagram::begun_by(packet)) {
        ports.settle(cx.now, slot, datagram, true);
    }
    Some(answered)
}

/// To a port's attached side.
#[inline]
fn into_port(
    cx: &Context<'_>,
    ports: &mut Ports,
    id: PortId,
    sender: Sender,
    packet: Packet,
    frame: &mut Frame,
) -> Step<Exit> {
    let mut slot = ports.find(id).ok_or(DropReason::PortGone)?;
    let role = Role::of(&packet);
    let begun = Datagram::begun_by(&packet);
    if ports.at(slot).is_host()
        && let Some(uplink) = answered_at_uplink(cx, ports, &packet, &role)
    {
        if let Some(datagram) = begun {
            // Fragments that came before this one wait where it was not known whom they are for.
            ports.settle(cx.now, slot, datagram, true);
        }
        slot = uplink;
    }
    let step = take_in(cx, ports, slot, sender, role, packet, frame);
    if let Some(datagram) = begun {
        ports.settle(cx.now, slot, datagram, step.is_ok());
    }
    step
}

#[inline]
fn take_in(
    cx: &Context<'_>,
    ports: &mut Ports,
    slot: usize,
    sender: Sender,
    role: Role,
    mut packet: Packet,
    frame: &mut Frame,
) -> Step<Exit> {
    let (port, shared) = ports.split(slot);
    if !port.is_ready(cx) {
        return Err(DropReason::PortNotReady.into());
    }
    let stage = Stage::Into(port.config.id, sender.origin());
    let hit = match find(cx, (port, shared), stage, sender, &packet, &role, frame)? {
        Found::Flow(hit) => hit,
        Found::Opener(key) => match open_inbound(cx, port, shared, sender, &packet, key) {
            Err(Stop::Drop(DropReason::SourcePortsExhausted)) => {
                return refuse_exhausted(cx, ports, slot, packet, frame);
            }
            opened => opened?,
        },
    };
    hear(cx, ports, slot, hit, &packet, frame)?;
    let port = ports.at_mut(slot);
    if hit.side == Side::Reply && port.flows.get(hit).teaches && matches!(role, Role::Own(_)) {
        names::hear(cx, port, &packet, frame.bytes());
    }
    pass(cx, port, hit, &role, &mut packet, frame);
    Ok(deliver(port, frame))
}

/// The uplink's slot, if a packet for the node itself answers a flow that has one of the node's addresses only for a source.
#[inline]
fn answered_at_uplink(cx: &Context<'_>, ports: &mut Ports, packet: &Packet, role: &Role) -> Option<usize> {
    let (_, id) = cx.tables.attached.uplink?;
    let slot = ports.find(id)?;
    let Port { flows, fragments, .. } = ports.at_mut(slot);
    let is_answer = match role {
        Role::Own(key) => flows.source_ports.may_be_answer(key) && flows.find(cx.now, key).is_some(),
        Role::Error(keys) => keys.iter().flatten().any(|key| flows.find(cx.now, key).is_some()),
        Role::Fragment => fragments.has_noted(cx.now, packet),
    };
    is_answer.then_some(slot)
}

/// No source port is left for a flow that leaves the cluster: its opener is told at once, as if the other end had refused it.
#[cold]
fn refuse_exhausted(cx: &Context<'_>, ports: &mut Ports, slot: usize, packet: Packet, frame: &mut Frame) -> Step<Exit> {
    let reason = DropReason::SourcePortsExhausted;
    let exit = match answer::exhausted(cx, ports.at_mut(slot), frame, &packet) {
        Stop::Answer(..) => match place::find(cx, packet.src) {
            Place::Port(shard, id) if shard == cx.config.shard => {
                let answer = Packet::check(frame.bytes())?;
                into_port(cx, ports, id, Sender::Uplink, answer, frame)?
            }
            Place::Port(shard, id) => Exit::Shard(shard, id, Origin::Uplink),
            Place::Peer(_) | Place::Nowhere(_) => return Err(reason.into()),
        },
        stop => return Err(stop),
    };
    Err(Stop::Answer(AnswerKind::SourcePortsExhausted, exit))
}

fn deliver(port: &Port, frame: &mut Frame) -> Exit {
    match port.is_uplink() {
        true => edit::set_macs(frame, UNRESOLVED_MAC, UNRESOLVED_MAC),
        false => edit::set_macs(frame, port.config.mac, GATEWAY_MAC),
    }
    Exit::Port(port.config.id)
}

/// Counts a packet in its flow and makes it what it is behind the port.
#[inline]
fn pass(cx: &Context<'_>, port: &mut Port, hit: Hit, role: &Role, packet: &mut Packet, frame: &mut Frame) {
    match role {
        Role::Own(_) => {
            port.flows.see(cx.now, hit, packet, frame.len());
            if let Fragment::First { .. } = packet.fragment {
                port.fragments.note(cx.now, packet, *port.flows.get(hit).key(hit.side));
            }
        }
        Role::Fragment | Role::Error(_) => port.flows.see_related(hit, frame.len()),
    }
    nat::apply(port.flows.get(hit), hit.side, port.is_uplink(), role, packet, frame);
}

/// The size limit on the way to `far`, if the packet is over it and may not be cut. A super-frame is as large as the packets
/// that it stands for. An IPv4 packet that may be cut is cut by the tunnel.
#[inline]
fn exceeded_mtu(cx: &Context<'_>, ports: &Ports, far: Place, packet: &Packet, frame: &Frame) -> Option<u16> {
    let mtu = match far {
        Place::Peer(id) => {
            cx.path_mtus.find(cx.now, id).map_or(cx.config.tunnel_mtu, |mtu| mtu.min(cx.config.tunnel_mtu))
        }
        Place::Port(_, id) => ports.find(id).map(|slot| ports.at(slot).config.mtu)?,
        Place::Nowhere(_) => return None,
    };
    let len = match frame.offload.segmentation {
        None => packet.ip_len_bytes(),
        Some(cut) => usize::from(packet.payload_offset - packet.l3_offset) + usize::from(cut.size_bytes),
    };
    (packet.dont_fragment && len > usize::from(mtu)).then_some(mtu)
}
