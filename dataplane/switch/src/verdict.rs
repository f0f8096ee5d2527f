//! What policy says about a flow, and the record of it. Each end of a conversation is judged at its own port: the opener's by its
//! egress rules, the other's by its ingress rules. Asked when a flow is opened and, under new tables, when it goes on.
//!
//! **A live flow that policy denies now** is cut (N15), unless everything that denies it says `established: keep` (W09); then it goes
//! on like one that is allowed, until its entry is forgotten. One that was cut stays cut until policy allows it.
//!
//! **Dry run.** What is let through is judged once more with the policies in dry run in force (W04). What they would deny is counted
//! and recorded, once for as long as it is so, and nothing else.

use crate::path::Context;
use crate::policy_hits::Outcome;
use crate::ports::{Port, Shared};
use crate::recent::Dropped;
use crate::{DropReason, PortId};
use policy::tables::{Direction, Owner, PodIndex, Question, Verdict, VerdictReason};
use std::net::IpAddr;
use std::sync::Arc;
use wire::{FlowKey, Instant};

/// What a flow was when it was judged last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Past {
    /// It is being opened.
    None,
    /// It was let through, if a dry run `would_deny` it or not.
    Live { would_deny: bool },
    /// Policy cut it.
    Cut,
}

/// A flow may open or go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// It would not with the policies in dry run in force.
    pub(crate) would_deny: bool,
}

type Ruling = Result<Allowed, DropReason>;

/// Whether what is attached to `port` may open a flow of packets `original` to where `reply` comes from: the translated
/// destination (N08), by the names that it knew that by when it `opened` it. The node itself is not isolated, and nobody outside is.
pub(crate) fn outbound(
    cx: &Context<'_>,
    port: &Port,
    shared: &mut Shared,
    (original, reply): (&FlowKey, &FlowKey),
    opened: Instant,
    past: Past,
) -> Ruling {
    if port.is_uplink() {
        return before_masquerade(cx, port, shared, original, reply, past);
    }
    if port.is_host() {
        return Ok(Allowed::default());
    }
    let pod = port.pod.ok_or(DropReason::PortNotReady)?;
    let case = Case {
        port: port.config.id,
        direction: Direction::FromPod,
        pod,
        peer: reply.src(),
        flow: reply.reverse(),
        before: Some(*original),
        names: port.names.of(reply.src(), opened),
        past,
    };
    judge(cx, shared, &case)
}

/// A pod takes what has its node's address for the node itself. A client outside that is to get that address is judged with its
/// own, while it is known.
fn before_masquerade(
    cx: &Context<'_>,
    port: &Port,
    shared: &mut Shared,
    original: &FlowKey,
    reply: &FlowKey,
    past: Past,
) -> Ruling {
    match cx.tables.policy.owner(reply.src()) {
        Some(Owner::Pod(pod)) if cx.config.masquerade_all => {
            let case = Case {
                port: port.config.id,
                direction: Direction::ToPod,
                pod,
                peer: original.src(),
                flow: original.with_dst(reply.src(), reply.src_port),
                before: Some(*original),
                names: &[],
                past,
            };
            judge(cx, shared, &case)
        }
        _ => Ok(Allowed::default()),
    }
}

/// Whether what is attached to `port` takes a flow of packets `original`. The node always reaches its own pods (N10); only
/// the host port can send with its addresses, so they are proof.
pub(crate) fn inbound(cx: &Context<'_>, port: &Port, shared: &mut Shared, original: &FlowKey, past: Past) -> Ruling {
    if port.is_host() || port.is_uplink() || cx.is_host_address(original.src()) {
        return Ok(Allowed::default());
    }
    let pod = port.pod.ok_or(DropReason::PortNotReady)?;
    let case = Case {
        port: port.config.id,
        direction: Direction::ToPod,
        pod,
        peer: original.src(),
        flow: *original,
        before: None,
        names: &[],
        past,
    };
    judge(cx, shared, &case)
}

/// Whether what is attached to `port` may ask the pod `dns`, as which policies see the cluster DNS that every node answers itself. No
/// port stands before that, so both ends are judged here; the node itself is free to ask.
pub(crate) fn to_cluster_dns(
    cx: &Context<'_>,
    port: &Port,
    shared: &mut Shared,
    asked: &FlowKey,
    dns: PodIndex,
    past: Past,
) -> Result<(), DropReason> {
    if port.is_host() {
        return Ok(());
    }
    let pod = port.pod.ok_or(DropReason::PortNotReady)?;
    let (port, names, flow) = (port.config.id, &[][..], *asked);
    let asks = Case { port, direction: Direction::FromPod, pod, peer: asked.dst(), flow, before: None, names, past };
    judge(cx, shared, &asks)?;
    judge(cx, shared, &Case { direction: Direction::ToPod, pod: dns, peer: asked.src(), ..asks })?;
    Ok(())
}

/// Why a flow is denied that the attached side opened, or that came in.
pub(crate) fn denial(opened_here: bool) -> DropReason {
    if opened_here { DropReason::DeniedByEgressPolicy } else { DropReason::DeniedByIngressPolicy }
}

/// Says what a packet of a flow is that is being discarded because policy cut it.
#[cold]
pub(crate) fn note_cut(shared: &mut Shared, port: &Port, original: &FlowKey, reply: &FlowKey, opened_here: bool) {
    let (direction, flow, before) = match opened_here {
        true => (Direction::FromPod, reply.reverse(), Some(*original)),
        false => (Direction::ToPod, *original, None),
    };
    shared.noted = Some(dropped(port.config.id, direction, flow, before, false));
}

/// A flow at one of its ends.
struct Case<'a> {
    port: PortId,
    direction: Direction,
    /// Whose policies are asked.
    pod: PodIndex,
    peer: IpAddr,
    /// The opener's packets as they are once translated.
    flow: FlowKey,
    /// The same as they were sent, where this port translates them.
    before: Option<FlowKey>,
    /// What the pod knows `peer` by.
    names: &'a [Arc<str>],
    past: Past,
}

fn judge(cx: &Context<'_>, shared: &mut Shared, case: &Case<'_>) -> Ruling {
    let tables = &cx.tables.policy;
    let Case { direction, pod, flow, names, .. } = *case;
    let port = if flow.protocol.has_ports() { flow.dst_port } else { 0 };
    let question = Question { direction, subject: pod, peer: case.peer, protocol: flow.protocol, port, names };
    let verdict = tables.check(&question);
    let spared = |verdict: &Verdict| verdict.spares_established && matches!(case.past, Past::Live { .. });
    if !verdict.allowed && !spared(&verdict) {
        if case.past != Past::Cut {
            count(cx, shared, case, &verdict, Outcome::Denied);
        }
        shared.noted = Some(dropped(case.port, direction, flow, case.before, false));
        return Err(denial(direction == Direction::FromPod));
    }
    if verdict.allowed && !matches!(case.past, Past::Live { .. }) {
        count(cx, shared, case, &verdict, Outcome::Accepted);
    }
    let Some(rehearsed) = tables.rehearse(&question) else { return Ok(Allowed::default()) };
    if rehearsed.allowed && verdict.allowed && !matches!(case.past, Past::Live { .. }) {
        count_rehearsed(cx, shared, case, &rehearsed);
    }
    let would_deny = verdict.allowed && !rehearsed.allowed && !spared(&rehearsed);
    if would_deny && case.past != (Past::Live { would_deny }) {
        count(cx, shared, case, &rehearsed, Outcome::WouldDeny);
        shared.recent.add(cx.now, dropped(case.port, direction, flow, case.before, true));
    }
    Ok(Allowed { would_deny })
}

fn count(cx: &Context<'_>, shared: &mut Shared, case: &Case<'_>, verdict: &Verdict, outcome: Outcome) {
    match verdict.reason {
        VerdictReason::Rule(rule) => shared.tally.count_rule(&cx.tables.policy, case.direction, rule, outcome),
        VerdictReason::Isolated => shared.tally.count_isolated(case.pod, case.direction, outcome),
        VerdictReason::NotIsolated | VerdictReason::Exempt => {}
    }
}

/// Counts what a rule in dry run would accept; one in force has been counted.
fn count_rehearsed(cx: &Context<'_>, shared: &mut Shared, case: &Case<'_>, rehearsed: &Verdict) {
    if let VerdictReason::Rule(rule) = rehearsed.reason
        && cx.tables.policy.policies[rule.policy.0 as usize].dry_run
    {
        shared.tally.count_rule(&cx.tables.policy, case.direction, rule, Outcome::Accepted);
    }
}

fn dropped(port: PortId, direction: Direction, flow: FlowKey, before: Option<FlowKey>, dry_run: bool) -> Dropped {
    Dropped {
        sender: Some(port),
        port: Some(port),
        reason: denial(direction == Direction::FromPod),
        dry_run,
        direction: Some(direction),
        flow: Some(flow),
        before: before.filter(|before| *before != flow),
    }
}
