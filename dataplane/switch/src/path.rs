//! The life of a frame. All branching of the fast path stands here, in the order in which it happens; every stage that is
//! called decides one thing and returns a value.
//!
//! ```text
//! from_port     admit · answer locally · onward
//! from_uplink   admit · answer locally · onward
//! from_peer     peer · admit · place → into_port
//! onward        outbound flow · hop limit · size · translate · place → into_port, shard or peer
//! into_port     inbound flow · translate back · deliver
//! release       onward or into_port, for a frame that was held there
//! ```
//! A stage that ends a frame's way returns a [`Stop`]; the frame then is an answer, or nothing, or a copy waits.
//!
//! **The uplink** is a port whose attached side is everything outside the cluster, so both directions across it are the ones of any
//! port. Who comes in is a client: its flow goes out through `onward`, Service and all, and the answers find their way back through
//! `into_port`. Who goes out comes into the port: there, and only there, its source becomes the node's.

use crate::admit::{self, Admitted};
use crate::counters::AnswerKind;
use crate::flows::{Flow, Hit, InsertError};
use crate::fragments::{Datagram, NoFlow};
use crate::later::Stage;
use crate::masquerade::Answered;
use crate::nat::{self, Role, Source};
use crate::path_mtu::PathMtus;
use crate::place::{self, Place};
use crate::ports::{Port, Ports, Shared};
use crate::retry::{self, AttemptKey, Sign};
use crate::service::{self, Target};
use crate::state::{self, Side};
use crate::{
    DropReason, Exit, GATEWAY_MAC, Origin, PortId, ShardId, SwitchConfig, Tables, UNRESOLVED_MAC, answer, verdict,
};
use overlay::peers::PeerId;
use std::net::IpAddr;
use wire::{Ethernet, FlowKey, Fragment, Frame, Instant, L4, Malformed, Packet, Protocol, edit};

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

/// Who sent a packet that goes into a port: an [`Origin`], in the numbers of these tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A pod of this node, or the node itself, asked at admission.
    Port,
    /// Somebody outside.
    Uplink,
    /// Another node, from this underlay address.
    Peer(PeerId, IpAddr),
}

impl Sender {
    fn at(cx: &Context<'_>, origin: Origin) -> Result<Sender, DropReason> {
        Ok(match origin {
            Origin::Port => Sender::Port,
            Origin::Uplink => Sender::Uplink,
            Origin::Peer(addr) => {
                Sender::Peer(cx.tables.peers.find_by_underlay(addr).ok_or(DropReason::UnknownPeer)?, addr)
            }
        })
    }

    fn origin(self) -> Origin {
        match self {
            Sender::Port => Origin::Port,
            Sender::Uplink => Origin::Uplink,
            Sender::Peer(_, addr) => Origin::Peer(addr),
        }
    }

    /// The zone of a flow that is told from another one only by how its packets reach this node.
    fn zone(self) -> u16 {
        match self {
            Sender::Port => 0,
            Sender::Uplink => 1,
            // The same zone for two peers is harmless: it only matters if one client's packets come through both at once.
            Sender::Peer(_, addr) => (FlowKey::new(Protocol(0), addr, 0, addr, 0).hash_with(0) as u16).max(2),
        }
    }
}

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
    onward(cx, ports, slot, packet, frame).map_err(|stop| match stop {
        Stop::Drop(DropReason::UnrelatedIcmpError | DropReason::FragmentWithoutFirst) => {
            DropReason::LeftToKernel.into()
        }
        stop => stop,
    })
}

/// A tunnel datagram: VXLAN header and inner frame.
#[inline]
pub(crate) fn from_peer(cx: &Context<'_>, ports: &mut Ports, sender: IpAddr, frame: &mut Frame) -> Step<Exit> {
    let peer = cx.tables.peers.find_by_underlay(sender).ok_or(DropReason::UnknownPeer)?;
    let packet = admit::from_tunnel(cx, frame)?;
    match place::find(cx, packet.dst) {
        Place::Port(shard, id) => enter(cx, ports, (shard, id), Sender::Peer(peer, sender), packet, frame),
        Place::Peer(_) | Place::Nowhere(_) => Err(DropReason::NotLocal.into()),
    }
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
    let port = ports.at_mut(slot);
    if !port.is_ready(cx) {
        return Err(DropReason::PortNotReady.into());
    }
    let role = Role::of(&packet);
    let stage = Stage::From(port.config.id);
    let found = match find(cx, port, stage, Sender::Port, &packet, &role, frame) {
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
    hear(cx, ports, slot, hit, &packet)?;
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
    if ports.at(slot).is_host() {
        slot = answered_at_uplink(cx, ports, &packet, &role).unwrap_or(slot);
    }
    let begun = Datagram::begun_by(&packet);
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
    let port = ports.at_mut(slot);
    if !port.is_ready(cx) {
        return Err(DropReason::PortNotReady.into());
    }
    let stage = Stage::Into(port.config.id, sender.origin());
    let hit = match find(cx, port, stage, sender, &packet, &role, frame)? {
        Found::Flow(hit) => hit,
        Found::Opener(key) => match open_inbound(cx, port, sender, &packet, key) {
            Err(Stop::Drop(DropReason::SourcePortsExhausted)) => {
                return refuse_exhausted(cx, ports, slot, packet, frame);
            }
            opened => opened?,
        },
    };
    hear(cx, ports, slot, hit, &packet)?;
    let port = ports.at_mut(slot);
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

/// What the flow table says about a packet.
enum Found {
    /// It belongs to this flow, which still stands.
    Flow(Hit),
    /// It belongs to none, and may open one with this key.
    Opener(FlowKey),
}

/// The flow of a packet that `sender` sent, at `stage`.
#[inline]
fn find(
    cx: &Context<'_>,
    port: &mut Port,
    stage: Stage,
    sender: Sender,
    packet: &Packet,
    role: &Role,
    frame: &mut Frame,
) -> Step<Found> {
    let hit = match role {
        Role::Own(key) => match lookup(cx, port, sender, key, goes_on(packet)) {
            Ok(hit) => hit,
            Err(key) => {
                check_sender(cx, sender, packet, Side::Original)?;
                return Ok(Found::Opener(key));
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
            let found = keys.iter().flatten().find_map(|key| lookup(cx, port, sender, key, true).ok());
            found.ok_or(DropReason::UnrelatedIcmpError)?
        }
    };
    let flow = port.flows.get(hit);
    let is_current = flow.epoch == cx.epoch;
    // A flow whose far end is that peer vouches for the sources of its packets; an error may come from any router.
    let vouches = match sender {
        Sender::Port | Sender::Uplink => true,
        Sender::Peer(peer, _) => is_current && flow.far == Place::Peer(peer),
    };
    match role {
        Role::Error(_) => check_sender(cx, sender, packet, Side::Original)?,
        _ if !vouches => check_sender(cx, sender, packet, hit.side)?,
        _ => {}
    }
    if let Role::Own(_) = role
        && !came_this_way(flow, hit.side, sender)
    {
        turn(cx, port, hit, sender);
    }
    let flow = port.flows.get(hit);
    match role {
        Role::Own(_) if flow.state().is_reopened_by(packet) || is_led_elsewhere(cx, port, hit, packet) => {
            let key = *flow.key(hit.side);
            port.flows.remove(hit);
            Ok(Found::Opener(key))
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

/// Whether a packet asks for a connection on the 5-tuple of another one whose backend takes no connections any more (B19).
#[inline]
fn is_led_elsewhere(cx: &Context<'_>, port: &Port, hit: Hit, packet: &Packet) -> bool {
    let flow = port.flows.get(hit);
    let asks_a_service = flow.service && hit.side == Side::Original && state::begins_connection(packet);
    asks_a_service && !service::is_candidate(cx, port, &flow.original, &flow.reply)
}

/// A packet of a connection attempt that may be led to another backend (S29): if its backend refuses, that is not passed on but
/// another one tried; if it is over, the attempt is let go.
#[inline]
fn hear(cx: &Context<'_>, ports: &mut Ports, slot: usize, hit: Hit, packet: &Packet) -> Step<()> {
    let (port, shared) = ports.split(slot);
    let flow = port.flows.get(hit);
    if !flow.watched {
        return Ok(());
    }
    let attempt = (port.config.id, flow.original);
    match retry::read(packet, hit.side == Side::Original) {
        Sign::None => Ok(()),
        Sign::Refused if flow.state().is_unanswered() && retry::may_go_on(cx, port, &shared.retries, &attempt) => {
            port.flows.remove(hit);
            shared.later.try_again(attempt);
            Err(DropReason::RetriedElsewhere.into())
        }
        Sign::Refused | Sign::Over => {
            port.flows.get_mut(hit).watched = false;
            shared.retries.let_go(&attempt);
            Ok(())
        }
    }
}

/// The time of a connection attempt is up: it is led to another backend, or stays where it is if there is none.
pub(crate) fn overdue(cx: &Context<'_>, ports: &mut Ports, attempt: &AttemptKey) {
    if let Some(slot) = ports.find(attempt.0) {
        let (port, shared) = ports.split(slot);
        if let Some(hit) = port.flows.find(cx.now, &attempt.1)
            && port.flows.get(hit).watched
        {
            if port.flows.get(hit).state().is_unanswered() && retry::may_go_on(cx, port, &shared.retries, attempt) {
                port.flows.remove(hit);
                shared.retries.wait_anew(cx.now, attempt);
                return shared.later.try_again(*attempt);
            }
            port.flows.get_mut(hit).watched = false;
        }
    }
    ports.shared.retries.let_go(attempt);
}

/// The flow of packets with `key` from `sender`, or else the key that a flow of theirs is to have.
///
/// The same packets of a client outside may reach a pod through several nodes, when it speaks from one port to two of them
/// (S16). The first flow has the plain key; another has one in a zone of its own, and another source port. What only goes on with a
/// connection is of the first flow all the same: its client has not moved, but its packets have (S26).
#[inline]
fn lookup(cx: &Context<'_>, port: &mut Port, sender: Sender, key: &FlowKey, goes_on: bool) -> Result<Hit, FlowKey> {
    let plain = port.flows.find(cx.now, key);
    if let Some(hit) = plain
        && came_this_way(port.flows.get(hit), hit.side, sender)
    {
        return Ok(hit);
    }
    let zone = sender.zone();
    if zone == 0 {
        return plain.ok_or(*key);
    }
    let zoned = key.in_zone(zone);
    match (port.flows.find(cx.now, &zoned), plain) {
        (Some(hit), _) => Ok(hit),
        (None, Some(hit)) if goes_on => Ok(hit),
        (None, Some(_)) => Err(zoned),
        (None, None) => Err(*key),
    }
}

/// Whether a packet is one of a connection that has begun.
fn goes_on(packet: &Packet) -> bool {
    matches!(packet.l4, L4::Tcp { .. } | L4::Sctp { .. }) && !state::begins_connection(packet)
}

/// The packets of a connection enter the node another way from now on, and so leave its answers.
#[cold]
fn turn(cx: &Context<'_>, port: &mut Port, hit: Hit, sender: Sender) {
    let far = match sender {
        Sender::Port => return,
        Sender::Uplink => place::uplink(cx),
        Sender::Peer(peer, _) => Place::Peer(peer),
    };
    let flow = port.flows.get_mut(hit);
    flow.origin = sender.origin();
    flow.far = far;
}

/// Whether packets of a flow's `side` enter this node where `sender` does. Where the opener's address says where it lives,
/// that is asked of the sender ([`check_sender`]).
#[inline]
fn came_this_way(flow: &Flow, side: Side, sender: Sender) -> bool {
    match (flow.origin, side) {
        (Origin::Port, _) | (_, Side::Reply) => true,
        (Origin::Uplink, Side::Original) => sender == Sender::Uplink,
        (Origin::Peer(addr), Side::Original) => matches!(sender, Sender::Peer(_, from) if from == addr),
    }
}

/// Whether a packet may come from the peer that sent it; ports are asked at admission. A peer speaks for its own addresses and
/// its pods'. What enters at its uplink, and opens flows here, has an address of nobody in the cluster.
fn check_sender(cx: &Context<'_>, sender: Sender, packet: &Packet, side: Side) -> Step<()> {
    match sender {
        Sender::Peer(peer, _)
            if !(place::belongs_to(cx, peer, packet.src)
                || side == Side::Original && place::is_outside(cx, packet.src)) =>
        {
            Err(DropReason::SpoofedSource.into())
        }
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
    let Flow { original, reply, opened_here, service, origin, far: far_before, .. } = *port.flows.get(hit);
    if opened_here && !service::is_still_target(cx, port, &original, &reply, service) {
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
    let far = far_of(cx, port, origin, far_addr);
    if port.is_uplink() && !opened_here && far != far_before {
        // The pod is gone. Whoever has its address is somebody else.
        port.flows.remove(hit);
        return match role {
            Role::Own(key) => Ok(Found::Opener(*key)),
            Role::Fragment | Role::Error(_) => Err(DropReason::UnknownPod.into()),
        };
    }
    let to_itself = port.owns(far_addr);
    let allowed = match opened_here {
        _ if to_itself => Ok(()),
        true => verdict::outbound(cx, port, &reply),
        false => verdict::inbound(cx, port, &original),
    };
    let flow = port.flows.get_mut(hit);
    flow.far = far;
    flow.epoch = cx.epoch;
    flow.denied = allowed.is_err();
    allowed?;
    Ok(Found::Flow(hit))
}

/// Where the far end of a flow lives that has the address `addr`: where its packets came in, if that says more than the address.
fn far_of(cx: &Context<'_>, port: &Port, origin: Origin, addr: IpAddr) -> Place {
    match origin {
        Origin::Port => match place::find(cx, addr) {
            // The kernel of another node answers clients outside on the underlay and not through its switch.
            Place::Peer(_) if port.is_uplink() && place::is_other_node(cx, addr) => place::uplink(cx),
            place => place,
        },
        Origin::Uplink => place::uplink(cx),
        Origin::Peer(peer) => {
            let peer = cx.tables.peers.find_by_underlay(peer);
            peer.map_or(Place::Nowhere(DropReason::NoRoute), Place::Peer)
        }
    }
}

/// The attached side opens a flow: Service, policy, place, source.
#[cold]
fn open_outbound(
    cx: &Context<'_>,
    port: &mut Port,
    shared: &mut Shared,
    packet: &Packet,
    original: FlowKey,
    frame: &mut Frame,
) -> Step<Hit> {
    let mut tried = shared.retries.tried(&(port.config.id, original));
    let (target, far) = loop {
        let target = match service::find_target(cx, port, shared, &original, &tried) {
            Ok(target) => target,
            Err(reason @ (DropReason::NoBackend | DropReason::NoSuchServicePort)) => {
                return Err(answer::refused(cx, port, frame, packet, reason));
            }
            Err(reason) => return Err(reason.into()),
        };
        if !port.owns(target.addr) {
            let answers = original.with_dst(target.addr, target.port).reverse();
            verdict::outbound(cx, port, &answers)?;
        }
        match far_of(cx, port, Origin::Port, target.addr) {
            Place::Nowhere(_) if retry::skips(cx, port, &target, packet, &mut tried) => {}
            Place::Nowhere(reason) => return Err(answer::unreachable(cx, port, frame, packet, reason)),
            far => break (target, far),
        }
    };
    let source = nat::source_from(cx, port, &original, &target, far)?;
    port.flows.forgotten.drain(..).for_each(|answers| shared.masquerades.release(&answers));
    let planned = match source {
        Source::Shared(gateway) => {
            let answers = original.with_dst(target.addr, target.port).with_src(gateway, 0).reverse();
            shared.masquerades.lease(cx, port.config.id, &original, answers).map(|reply| (reply, false))
        }
        _ => nat::plan(cx.now, &mut port.flows, &original, &target, source),
    };
    let (reply, leased) = match planned {
        Err(DropReason::SourcePortsExhausted) => return Err(answer::exhausted(cx, port, frame, packet)),
        planned => planned?,
    };
    let mut flow = Flow::new(cx.now, packet, original, reply);
    flow.service = target.service.is_some();
    flow.watched = retry::watch(cx, port, shared, &target, packet, frame, tried);
    flow.masqueraded = matches!(source, Source::Shared(_));
    flow.far = far;
    flow.leased = leased;
    flow.epoch = cx.epoch;
    let hit = insert(cx, port, flow).inspect_err(|_| shared.masquerades.release(&reply))?;
    if let Some(service) = target.service {
        shared.hits.open(cx.tables.policy.service(service).id, tried.len() > 0);
    }
    Ok(hit)
}

/// A flow comes in: policy, the place of its opener for the answers, and the source that it leaves the cluster with.
#[cold]
fn open_inbound(cx: &Context<'_>, port: &mut Port, sender: Sender, packet: &Packet, original: FlowKey) -> Step<Hit> {
    if port.is_uplink() && sender != Sender::Port {
        // Each node lets out its own pods only.
        return Err(DropReason::NotLocal.into());
    }
    verdict::inbound(cx, port, &original)?;
    let origin = match sender {
        Sender::Port => Origin::Port,
        Sender::Uplink => Origin::Uplink,
        Sender::Peer(_, addr) if place::is_outside(cx, original.src()) => Origin::Peer(addr),
        Sender::Peer(..) => Origin::Port,
    };
    let target = Target::plain(&original);
    let source = nat::source_into(cx, port, &original);
    let (reply, leased) = nat::plan(cx.now, &mut port.flows, &original, &target, source)?;
    let mut flow = Flow::new(cx.now, packet, original, reply);
    flow.opened_here = false;
    flow.origin = origin;
    flow.far = far_of(cx, port, origin, original.src());
    flow.leased = leased;
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
