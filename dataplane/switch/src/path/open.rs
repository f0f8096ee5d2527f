//! How a flow is opened: by the attached side of a port, or into it.

use super::{Context, Sender, Step, Stop};
use crate::flows::{Flow, Hit, InsertError};
use crate::names;
use crate::nat::{self, Source};
use crate::place::{self, Place};
use crate::ports::{Port, Shared};
use crate::service::{self, Target};
use crate::verdict::{self, Allowed, Past};
use crate::{DropReason, Origin, admit, answer, retry};
use std::net::IpAddr;
use wire::{FlowKey, Frame, Packet};

/// Where the far end of a flow lives that has the address `addr`: where its packets came in, if that says more than the address.
pub(super) fn far_of(cx: &Context<'_>, port: &Port, origin: Origin, addr: IpAddr) -> Place {
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
pub(super) fn open_outbound(
    cx: &Context<'_>,
    port: &mut Port,
    shared: &mut Shared,
    packet: &Packet,
    original: FlowKey,
    frame: &mut Frame,
) -> Step<Hit> {
    let mut tried = shared.retries.tried(&(port.config.id, original));
    let mut allowed = Allowed::default();
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
            allowed = verdict::outbound(cx, port, shared, (&original, &answers), cx.now, Past::None)?;
        }
        if admit::is_encapsulation(cx, original.protocol, target.addr, target.port) && !port.is_host() {
            return Err(DropReason::PodEncapsulation.into());
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
    flow.teaches = names::teaches(cx, port, &reply);
    flow.would_deny = allowed.would_deny;
    flow.epoch = cx.epoch;
    let hit = insert(cx, port, flow).inspect_err(|_| shared.masquerades.release(&reply))?;
    if let Some(service) = target.service {
        shared.hits.open(cx.tables.policy.service(service).id, tried.len() > 0);
    }
    Ok(hit)
}

/// A flow comes in: policy, the place of its opener for the answers, and the source that it leaves the cluster with.
#[cold]
pub(super) fn open_inbound(
    cx: &Context<'_>,
    port: &mut Port,
    shared: &mut Shared,
    sender: Sender,
    packet: &Packet,
    original: FlowKey,
) -> Step<Hit> {
    if port.is_uplink() && sender != Sender::Port {
        // Each node lets out its own pods only.
        return Err(DropReason::NotLocal.into());
    }
    let allowed = verdict::inbound(cx, port, shared, &original, Past::None)?;
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
    flow.would_deny = allowed.would_deny;
    flow.epoch = cx.epoch;
    insert(cx, port, flow)
}

pub(super) fn insert(cx: &Context<'_>, port: &mut Port, flow: Flow) -> Step<Hit> {
    port.flows.insert(cx.now, flow).map_err(|error| {
        Stop::Drop(match error {
            InsertError::Full => DropReason::FlowTableFull,
            InsertError::KeyTaken => DropReason::NoSourcePort,
        })
    })
}
