//! The life of a frame. All branching of the fast path stands here, in the order in which it happens; every stage that is
//! called decides one thing and returns a value.
//!
//! ```text
//! from_port   admit · answer locally · onward
//! from_peer   peer · admit · place → into_port
//! onward      hop limit · outbound flow · size · translate · place → into_port, shard or peer
//! into_port   inbound flow · translate back · deliver
//! release     onward or into_port, for a frame that was held there
//! ```
//! A stage that ends a frame's way returns a [`Stop`]; the frame then is an answer, or nothing, or a copy waits.

use crate::admit::{self, Admitted};
use crate::counters::AnswerKind;
use crate::flows::{Flow, Hit, InsertError};
use crate::fragments::{Datagram, NoFlow};
use crate::later::Stage;
use crate::nat::{self, Role};
use crate::path_mtu::PathMtus;
use crate::place::{self, Place};
use crate::ports::{Port, Ports};
use crate::state::{self, Side};
use crate::{DropReason, Exit, GATEWAY_MAC, PortId, SwitchConfig, Tables, answer, verdict};
use overlay::peers::PeerId;
use std::net::IpAddr;
use wire::{Ethernet, FlowKey, Fragment, Frame, Instant, L4, Malformed, Packet, edit};

/// What every stage may look at.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a SwitchConfig,
    pub(crate) tables: &'a Tables,
    /// Number of the table swap; a flow of another one is judged again.
    pub(crate) epoch: u32,
    pub(crate) now: Instant,
    /// Ways to peers that take less than the tunnel's MTU.
    pub(crate) path_mtus: &'a PathMtus,
}

impl Context<'_> {
    /// Whether `addr` is this node's own: reached through the host port, and only the host port sends from it.
    #[inline]
    pub(crate) fn is_host_address(&self, addr: IpAddr) -> bool {
        self.config.gateways.contains(&addr) || self.tables.is_own_address(addr)
    }
}

/// The end of a frame's way other than an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Discarded.
    Drop(DropReason),
    /// The frame is an answer to its sender.
    Answer(AnswerKind, Exit),
    /// A later fragment waits at this stage for its first.
    Wait(Stage),
}

impl From<DropReason> for Stop {
    fn from(reason: DropReason) -> Stop {
        Stop::Drop(reason)
    }
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Stop {
        Stop::Drop(malformed.into())
    }
}

pub(crate) type Step<T> = Result<T, Stop>;

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

/// A tunnel datagram: VXLAN header and inner frame.
#[inline]
pub(crate) fn from_peer(cx: &Context<'_>, ports: &mut Ports, sender: IpAddr, frame: &mut Frame) -> Step<Exit> {
    let peer = cx.tables.peers.find_by_underlay(sender).ok_or(DropReason::UnknownPeer)?;
    let packet = admit::from_tunnel(cx, frame)?;
    match place::find(cx, packet.dst) {
        Place::Port(shard, id) if shard == cx.config.shard => into_port(cx, ports, id, Some(peer), packet, frame),
        Place::Port(shard, id) => {
            check_sender(cx, Some(peer), &packet)?;
            Ok(Exit::Shard(shard, id))
        }
        Place::Peer(_) | Place::Nowhere(_) => Err(DropReason::NotLocal.into()),
    }
}

/// A frame that another shard let through for a port of this one.
#[inline]
pub(crate) fn from_shard(cx: &Context<'_>, ports: &mut Ports, port: PortId, frame: &mut Frame) -> Step<Exit> {
    Ethernet::check(frame.bytes())?;
    let packet = Packet::check(frame.bytes())?;
    into_port(cx, ports, port, None, packet, frame)
}

/// A frame that was held at `stage`; `from` is the peer that sent it, if one did.
pub(crate) fn release(
    cx: &Context<'_>,
    ports: &mut Ports,
    stage: Stage,
    from: Option<PeerId>,
    frame: &mut Frame,
) -> Step<Exit> {
    let packet = Packet::check(frame.bytes())?;
    match stage {
        Stage::From(id) => {
            let slot = ports.find(id).ok_or(DropReason::PortGone)?;
            onward(cx, ports, slot, packet, frame)
        }
        Stage::Into(id) => into_port(cx, ports, id, from, packet, frame),
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
    let port = ports.at_mut(slot);
    if !port.is_ready(cx) {
        return Err(DropReason::PortNotReady.into());
    }
    if packet.ttl <= 1 {
        return Err(answer::ttl_exceeded(cx, port, frame, &packet));
    }
    let role = Role::of(&packet);
    let stage = Stage::From(port.config.id);
    let hit = match find(cx, port, stage, None, &packet, &role, frame)? {
        Found::Flow(hit) => hit,
        Found::Opener(key) => open_outbound(cx, port, &packet, key, frame)?,
    };
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
    match far {
        // Its own Service led a pod to itself (S10): both directions are already translated, and N12 exempts it.
        Place::Port(_, id) if id == port.config.id => Ok(deliver(port, frame)),
        Place::Port(shard, id) if shard == cx.config.shard => into_port(cx, ports, id, None, packet, frame),
        Place::Port(shard, id) => Ok(Exit::Shard(shard, id)),
        Place::Peer(id) => {
            let peer = cx.tables.peers.get(id).ok_or(DropReason::NoRoute)?;
            edit::set_macs(frame, peer.vtep_mac, cx.config.vtep_mac);
            Ok(Exit::Peer(id))
        }
        Place::Nowhere(reason) => Err(reason.into()),
    }
}

/// To a port's attached side; `from` is the peer that sent the packet, if one did.
#[inline]
fn into_port(
    cx: &Context<'_>,
    ports: &mut Ports,
    id: PortId,
    from: Option<PeerId>,
    packet: Packet,
    frame: &mut Frame,
) -> Step<Exit> {
    let slot = ports.find(id).ok_or(DropReason::PortGone)?;
    let begun = Datagram::begun_by(&packet);
    let step = take_in(cx, ports.at_mut(slot), from, packet, frame);
    if let Some(datagram) = begun {
        ports.settle(cx.now, slot, datagram, step.is_ok());
    }
    step
}

#[inline]
fn take_in(
    cx: &Context<'_>,
    port: &mut Port,
    from: Option<PeerId>,
    mut packet: Packet,
    frame: &mut Frame,
) -> Step<Exit> {
    if !port.is_ready(cx) {
        return Err(DropReason::PortNotReady.into());
    }
    let role = Role::of(&packet);
    let stage = Stage::Into(port.config.id);
    let hit = match find(cx, port, stage, from, &packet, &role, frame)? {
        Found::Flow(hit) => hit,
        Found::Opener(key) => open_inbound(cx, port, &packet, key)?,
    };
    pass(cx, port, hit, &role, &mut packet, frame);
    Ok(deliver(port, frame))
}

fn deliver(port: &Port, frame: &mut Frame) -> Exit {
    edit::set_macs(frame, port.config.mac, GATEWAY_MAC);
    Exit::Port(port.config.id)
}

/// What the flow table says about a packet.
enum Found {
    /// It belongs to this flow, which still stands.
    Flow(Hit),
    /// It belongs to none, and may open one with this key.
    Opener(FlowKey),
}

/// The flow of a packet at `stage`; `from` is the peer that sent it, if one did.
#[inline]
fn find(
    cx: &Context<'_>,
    port: &mut Port,
    stage: Stage,
    from: Option<PeerId>,
    packet: &Packet,
    role: &Role,
    frame: &mut Frame,
) -> Step<Found> {
    let hit = match role {
        Role::Own(key) => match port.flows.find(cx.now, key) {
            Some(hit) => hit,
            None => {
                check_sender(cx, from, packet)?;
                return Ok(Found::Opener(*key));
            }
        },
        Role::Fragment => {
            let first = port.fragments.find(cx.now, packet).map_err(|why| match why {
                NoFlow::Early => Stop::Wait(stage),
                NoFlow::Refused => DropReason::FragmentWithoutFirst.into(),
                NoFlow::Contradicts => DropReason::FragmentContradiction.into(),
            })?;
            port.flows.find(cx.now, &first).ok_or(DropReason::FragmentWithoutFirst)?
        }
        Role::Error(keys) => {
            let flows = &mut port.flows;
            let found = keys.iter().flatten().find_map(|key| flows.find(cx.now, key));
            found.ok_or(DropReason::UnrelatedIcmpError)?
        }
    };
    let flow = port.flows.get(hit);
    let is_current = flow.epoch == cx.epoch;
    // A flow whose far end is that peer vouches for the sources of its packets; an error may come from any router.
    let vouches = is_current && from.is_none_or(|peer| flow.far == Place::Peer(peer));
    if !vouches || matches!(role, Role::Error(_)) {
        check_sender(cx, from, packet)?;
    }
    match role {
        Role::Own(key) if flow.state().is_reopened_by(packet) => {
            port.flows.remove(hit);
            Ok(Found::Opener(*key))
        }
        _ if is_current && flow.denied => {
            let reason = verdict::denial(flow.opened_here);
            port.flows.see_denied(cx.now, hit);
            Err(reason.into())
        }
        _ if is_current => Ok(Found::Flow(hit)),
        _ => judge_again(cx, port, hit, packet, role, frame),
    }
}

/// Whether a packet may come from the peer that sent it; ports are asked at admission.
fn check_sender(cx: &Context<'_>, from: Option<PeerId>, packet: &Packet) -> Step<()> {
    match from {
        Some(peer) if !place::belongs_to(cx, peer, packet.src) => Err(DropReason::SpoofedSource.into()),
        _ => Ok(()),
    }
}

/// A flow that was judged under other tables: whether it may go on under these, and where it leads (N15, S13, S14). One
/// that is over is removed, and a packet of its own may open another.
#[cold]
fn judge_again(
    cx: &Context<'_>,
    port: &mut Port,
    hit: Hit,
    packet: &Packet,
    role: &Role,
    frame: &mut Frame,
) -> Step<Found> {
    let Flow { original, reply, opened_here, service, .. } = *port.flows.get(hit);
    if opened_here && !nat::is_still_target(cx, &original, &reply, service) {
        if hit.side == Side::Reply {
            // What the backend still says is let through until the client speaks and learns of it, unless policy forbids it.
            if !port.owns(reply.src()) {
                verdict::outbound(cx, port, &reply)?;
            }
            return Ok(Found::Flow(hit));
        }
        let is_connection = matches!(packet.l4, L4::Tcp { .. } | L4::Sctp { .. });
        return match role {
            Role::Own(_) if is_connection && !state::begins_connection(packet) => {
                // It is kept for a while, so that what the backend still says finds it and opens no flow of its own.
                port.flows.close(cx.now, hit);
                Err(answer::reset(port, frame, packet))
            }
            Role::Own(key) => {
                port.flows.remove(hit);
                Ok(Found::Opener(*key))
            }
            Role::Fragment | Role::Error(_) => Err(DropReason::BackendGone.into()),
        };
    }
    let far_addr = if opened_here { reply.src() } else { original.src() };
    let to_itself = port.owns(far_addr);
    let allowed = match opened_here {
        _ if to_itself => Ok(()),
        true => verdict::outbound(cx, port, &reply),
        false => verdict::inbound(cx, port, &original),
    };
    let far = place::find(cx, far_addr);
    let flow = port.flows.get_mut(hit);
    flow.far = far;
    flow.epoch = cx.epoch;
    flow.denied = allowed.is_err();
    allowed?;
    Ok(Found::Flow(hit))
}

/// The attached side opens a flow: Service, policy, place, translation.
#[cold]
fn open_outbound(
    cx: &Context<'_>,
    port: &mut Port,
    packet: &Packet,
    original: FlowKey,
    frame: &mut Frame,
) -> Step<Hit> {
    let target = match nat::find_target(cx, &original) {
        Ok(target) => target,
        Err(reason) => return Err(answer::refused(cx, port, frame, packet, reason)),
    };
    let to_itself = port.owns(target.addr);
    // A source that lets the answer come back through the switch. The gateway's address is the host's own, so the host
    // gets the Service's instead.
    let src = match to_itself {
        false => original.src(),
        true if !target.service => return Err(DropReason::ToItself.into()),
        true if port.is_host() => original.dst(),
        true => answer::gateway(cx, original.src()).ok_or(DropReason::ToItself)?,
    };
    let reply = nat::plan_reply(cx.now, &mut port.flows, &original, &target, src).ok_or(DropReason::NoSourcePort)?;
    if !to_itself {
        verdict::outbound(cx, port, &reply)?;
    }
    let far = place::find(cx, target.addr);
    if let Place::Nowhere(reason) = far {
        return Err(answer::unreachable(cx, port, frame, packet, reason));
    }
    let mut flow = Flow::new(cx.now, packet, original, reply);
    flow.service = target.service;
    flow.far = far;
    flow.epoch = cx.epoch;
    insert(cx, port, flow)
}

/// A flow comes in: policy, and the place of its opener for the answers.
#[cold]
fn open_inbound(cx: &Context<'_>, port: &mut Port, packet: &Packet, original: FlowKey) -> Step<Hit> {
    verdict::inbound(cx, port, &original)?;
    let mut flow = Flow::new(cx.now, packet, original, original.reverse());
    flow.opened_here = false;
    flow.far = place::find(cx, original.src());
    flow.epoch = cx.epoch;
    insert(cx, port, flow)
}

fn insert(cx: &Context<'_>, port: &mut Port, flow: Flow) -> Step<Hit> {
    port.flows.insert(cx.now, flow).map_err(|error| {
        Stop::Drop(match error {
            InsertError::Full => DropReason::FlowTableFull,
            InsertError::KeyTaken => DropReason::NoSourcePort,
        })
    })
}

/// Counts a packet in its flow and makes it what it is behind the port.
#[inline]
fn pass(cx: &Context<'_>, port: &mut Port, hit: Hit, role: &Role, packet: &mut Packet, frame: &mut Frame) {
    match role {
        Role::Own(key) => {
            port.flows.see(cx.now, hit, packet, frame.len());
            if let Fragment::First { .. } = packet.fragment {
                port.fragments.note(cx.now, packet, *key);
            }
        }
        Role::Fragment | Role::Error(_) => port.flows.see_related(hit, frame.len()),
    }
    nat::apply(port.flows.get(hit), hit.side, role, packet, frame);
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
