//! What policy says about a flow. Each end of a conversation is judged at its own port: the opener's by its egress rules,
//! the other's by its ingress rules.

use crate::DropReason;
use crate::path::Context;
use crate::ports::Port;
use policy::tables::{Direction, Owner, Question};
use wire::FlowKey;

/// Whether what is attached to `port` may open a flow of packets `original` to where `reply` comes from: the translated
/// destination (N08). The node itself is not isolated, and nobody outside is.
pub(crate) fn outbound(cx: &Context<'_>, port: &Port, original: &FlowKey, reply: &FlowKey) -> Result<(), DropReason> {
    if port.is_uplink() {
        return before_masquerade(cx, original, reply);
    }
    if port.is_host() {
        return Ok(());
    }
    let pod = port.pod.ok_or(DropReason::PortNotReady)?;
    let (protocol, port) = (reply.protocol, reply.src_port);
    let question =
        Question { direction: Direction::FromPod, subject: pod, peer: reply.src(), protocol, port, names: &[] };
    let verdict = cx.tables.policy.check(&question);
    if verdict.allowed { Ok(()) } else { Err(denial(true)) }
}

/// A pod takes what has its node's address for the node itself. A client outside that is to get that address is judged with its
/// own, while it is known.
fn before_masquerade(cx: &Context<'_>, original: &FlowKey, reply: &FlowKey) -> Result<(), DropReason> {
    match cx.tables.policy.owner(reply.src()) {
        Some(Owner::Pod(pod)) if cx.config.masquerade_all => {
            let (direction, protocol, port) = (Direction::ToPod, reply.protocol, reply.src_port);
            let question = Question { direction, subject: pod, peer: original.src(), protocol, port, names: &[] };
            let verdict = cx.tables.policy.check(&question);
            if verdict.allowed { Ok(()) } else { Err(denial(false)) }
        }
        _ => Ok(()),
    }
}

/// Whether what is attached to `port` takes a flow of packets `original`. The node always reaches its own pods (N10); only
/// the host port can send with its addresses, so they are proof.
pub(crate) fn inbound(cx: &Context<'_>, port: &Port, original: &FlowKey) -> Result<(), DropReason> {
    if port.is_host() || port.is_uplink() || cx.is_host_address(original.src()) {
        return Ok(());
    }
    let pod = port.pod.ok_or(DropReason::PortNotReady)?;
    let (protocol, port) = (original.protocol, original.dst_port);
    let question =
        Question { direction: Direction::ToPod, subject: pod, peer: original.src(), protocol, port, names: &[] };
    let verdict = cx.tables.policy.check(&question);
    if verdict.allowed { Ok(()) } else { Err(denial(false)) }
}

/// Why a flow is denied that the attached side opened, or that came in.
pub(crate) fn denial(opened_here: bool) -> DropReason {
    if opened_here { DropReason::DeniedByEgressPolicy } else { DropReason::DeniedByIngressPolicy }
}
