//! What policy says about a flow. Each end of a conversation is judged at its own port: the opener's by its egress rules,
//! the other's by its ingress rules.

use crate::DropReason;
use crate::path::Context;
use crate::ports::Port;
use policy::tables::Direction;
use wire::FlowKey;

/// Whether what is attached to `port` may open a flow to where `reply` comes from: the translated destination (N08). The
/// node itself is not isolated, and nobody outside is.
pub(crate) fn outbound(cx: &Context<'_>, port: &Port, reply: &FlowKey) -> Result<(), DropReason> {
    if port.is_host() || port.is_uplink() {
        return Ok(());
    }
    let pod = port.pod.ok_or(DropReason::PortNotReady)?;
    let verdict = cx.tables.policy.check(Direction::FromPod, pod, reply.src(), reply.protocol, reply.src_port);
    if verdict.allowed { Ok(()) } else { Err(denial(true)) }
}

/// Whether what is attached to `port` takes a flow of packets `original`. The node always reaches its own pods (N10); only
/// the host port can send with its addresses, so they are proof.
pub(crate) fn inbound(cx: &Context<'_>, port: &Port, original: &FlowKey) -> Result<(), DropReason> {
    if port.is_host() || port.is_uplink() || cx.is_host_address(original.src()) {
        return Ok(());
    }
    let pod = port.pod.ok_or(DropReason::PortNotReady)?;
    let verdict = cx.tables.policy.check(Direction::ToPod, pod, original.src(), original.protocol, original.dst_port);
    if verdict.allowed { Ok(()) } else { Err(denial(false)) }
}

/// Why a flow is denied that the attached side opened, or that came in.
pub(crate) fn denial(opened_here: bool) -> DropReason {
    if opened_here { DropReason::DeniedByEgressPolicy } else { DropReason::DeniedByIngressPolicy }
}
