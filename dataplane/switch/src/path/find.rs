//! Which flow a packet belongs to, whether that still stands, and what the packet means to it.

use super::open::far_of;
use super::{Context, Sender, Step, Stop};
use crate::flows::{Flow, Hit};
use crate::fragments::NoFlow;
use crate::later::Stage;
use crate::names;
use crate::nat::Role;
use crate::place::{self, Place};
use crate::ports::{Port, Ports, Shared};
use crate::retry::{self, AttemptKey, Sign};
use crate::state::{self, Side};
use crate::verdict::{self, Allowed, Past};
use crate::{DropReason, Origin, answer, service};
use wire::{FlowKey, Frame, L4, Packet};

/// What the flow table says about a packet.
pub(super) enum Found {
    /// It belongs to this flow, which still stands.
    Flow(Hit),
    /// It belongs to none, and may open one with this key.
    Opener(FlowKey),
}

/// The flow of a packet that `sender` sent, at `stage`.
#[inline]
pub(super) fn find(
    cx: &Context<'_>,
    (port, shared): (&mut Port, &mut Shared),
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
            let Flow { original, reply, opened_here, .. } = *flow;
            let reason = verdict::denial(opened_here);
            verdict::note_cut(shared, port, &original, &reply, opened_here);
            port.flows.see_denied(cx.now, hit);
            Err(reason.into())
        }
        _ if is_current => Ok(Found::Flow(hit)),
        _ => judge_again(cx, (port, shared), hit, packet, role, frame),
    }
}

/// Whether a packet asks for a connection on the 5-tuple of another one whose backend takes no connections any more (B19).
#[inline]
pub(super) fn is_led_elsewhere(cx: &Context<'_>, port: &Port, hit: Hit, packet: &Packet) -> bool {
    let flow = port.flows.get(hit);
    let asks_a_service = flow.service && hit.side == Side::Original && state::begins_connection(packet);
    asks_a_service && !service::is_candidate(cx, port, &flow.original, &flow.reply)
}

/// A packet of a connection attempt that may be led to another backend (S29): if its backend refuses, that is not passed on but
/// another one tried; if it is over, the attempt is let go.
#[inline]
pub(super) fn hear(
    cx: &Context<'_>,
    ports: &mut Ports,
    slot: usize,
    hit: Hit,
    packet: &Packet,
    frame: &Frame,
) -> Step<()> {
    let (port, shared) = ports.split(slot);
    let flow = port.flows.get(hit);
    if !flow.watched {
        return Ok(());
    }
    let attempt = (port.config.id, flow.original);
    match retry::read(packet, hit.side == Side::Original) {
        Sign::None => Ok(()),
        Sign::Repeated => {
            shared.retries.repeat(cx.now, &attempt, frame);
            Ok(())
        }
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
pub(super) fn lookup(
    cx: &Context<'_>,
    port: &mut Port,
    sender: Sender,
    key: &FlowKey,
    goes_on: bool,
) -> Result<Hit, FlowKey> {
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
pub(super) fn goes_on(packet: &Packet) -> bool {
    matches!(packet.l4, L4::Tcp { .. } | L4::Sctp { .. }) && !state::begins_connection(packet)
}

/// The packets of a connection enter the node another way from now on, and so leave its answers.
#[cold]
pub(super) fn turn(cx: &Context<'_>, port: &mut Port, hit: Hit, sender: Sender) {
    let far = match sender {
        Sender::Port => return,
        Sender::Uplink => place::uplink(cx),
        Sender::Peer(peer, _) => Place::Peer(peer),
    };
    let flow = port.flows.get_mut(hit);
    flow.origin = sender.origin();
    flow.far = far;
    port.flows.note_changed(hit);
}

/// Whether packets of a flow's `side` enter this node where `sender` does. Where the opener's address says where it lives,
/// that is asked of the sender ([`check_sender`]).
#[inline]
pub(super) fn came_this_way(flow: &Flow, side: Side, sender: Sender) -> bool {
    match (flow.origin, side) {
        (Origin::Port, _) | (_, Side::Reply) => true,
        (Origin::Uplink, Side::Original) => sender == Sender::Uplink,
        (Origin::Peer(addr), Side::Original) => matches!(sender, Sender::Peer(_, from) if from == addr),
    }
}

/// Whether a packet may come from the peer that sent it; ports are asked at admission. A peer speaks for its own addresses and
/// its pods'. What enters at its uplink, and opens flows here, has an address of nobody in the cluster.
pub(super) fn check_sender(cx: &Context<'_>, sender: Sender, packet: &Packet, side: Side) -> Step<()> {
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
pub(super) fn judge_again(
    cx: &Context<'_>,
    (port, shared): (&mut Port, &mut Shared),
    hit: Hit,
    packet: &Packet,
    role: &Role,
    frame: &mut Frame,
) -> Step<Found> {
    let flow = port.flows.get(hit);
    let Flow { original, reply, opened_here, service, origin, denied, would_deny, .. } = *flow;
    let (far_before, judged_under, opened) = (flow.far, flow.epoch, flow.opened());
    let past = if denied { Past::Cut } else { Past::Live { would_deny } };
    if opened_here && !service::is_still_target(cx, port, &original, &reply, service) {
        if hit.side == Side::Reply {
            // What the backend still says is let through until the client speaks and learns of it, unless policy forbids it.
            if !port.owns(reply.src()) {
                verdict::outbound(cx, port, shared, (&original, &reply), opened, past)?;
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
    let has_moved = if judged_under == 0 { !matches!(far, Place::Port(..)) } else { far != far_before };
    if port.is_uplink() && !opened_here && has_moved {
        // The pod is gone. Whoever has its address is somebody else.
        port.flows.remove(hit);
        return match role {
            Role::Own(key) => Ok(Found::Opener(*key)),
            Role::Fragment | Role::Error(_) => Err(DropReason::UnknownPod.into()),
        };
    }
    let to_itself = port.owns(far_addr);
    let allowed = match opened_here {
        _ if to_itself => Ok(Allowed::default()),
        true => verdict::outbound(cx, port, shared, (&original, &reply), opened, past),
        false => verdict::inbound(cx, port, shared, &original, past),
    };
    let teaches = opened_here && names::teaches(cx, port, &reply);
    let flow = port.flows.get_mut(hit);
    flow.far = far;
    flow.teaches = teaches;
    flow.epoch = cx.epoch;
    flow.denied = allowed.is_err();
    flow.would_deny = allowed.is_ok_and(|allowed| allowed.would_deny);
    if flow.denied != denied || flow.would_deny != would_deny {
        port.flows.note_changed(hit);
    }
    allowed?;
    Ok(Found::Flow(hit))
}
