//! What is for the cluster DNS, and how its answers get to who asked (D20).
//!
//! Every node answers the cluster DNS itself, at the port that asks: nothing is translated, no flow is entered, and no other node is
//! spoken to. Queries and packets to UDP and TCP port 53 of its addresses are judged one by one, and what policy lets through is
//! the shell's, which knows the names: a datagram is a query, a TCP packet is one of a connection with the shell's own endpoint.
//! What the shell has to say comes back and is made a frame from the address that was asked.
//!
//! To policies the cluster DNS is a pod, with rules of its own for who may ask it. Pods and the node itself may ask; whoever is
//! outside, and other nodes, find nobody at the address. As long as no tables have come, nothing is known that could be asked or
//! told: who asks is let through, so that he hears at once that it is too early.
//!
//! A query is a whole datagram. What is in fragments, or several in one super-frame, is discarded: no resolver sends such.

use crate::path::{Context, Stop};
use crate::ports::{Port, Shared};
use crate::verdict::{self, Past};
use crate::{DropReason, GATEWAY_MAC, PortId, names, state};
use wire::{Checksum, FlowKey, Fragment, Frame, L4, Packet, Protocol, checksum, craft};

/// A query, or a packet of a connection, that is for the cluster DNS. Policy has let it through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// The port that sent it.
    pub port: PortId,
    /// Who asked whom: UDP or TCP.
    pub asked: FlowKey,
    /// Where the transport's payload lies in the frame, in bytes.
    payload: (u16, u32),
}

impl Query {
    /// The query in `packet`, which `port` sent.
    pub fn new(port: PortId, packet: &Packet) -> Query {
        Query { port, asked: packet.flow(), payload: (packet.payload_offset, packet.end) }
    }

    /// The payload of a datagram: the query itself.
    pub fn message<'a>(&self, frame: &'a Frame) -> &'a [u8] {
        frame.bytes().get(usize::from(self.payload.0)..self.payload.1 as usize).unwrap_or_default()
    }

    /// The IP packet.
    pub fn packet<'a>(&self, frame: &'a Frame) -> &'a [u8] {
        frame.bytes().get(wire::ethernet::ETHERNET_HEADER_BYTES..self.payload.1 as usize).unwrap_or_default()
    }
}

/// Whether a packet that the attached side sent is for the cluster DNS.
#[inline]
pub(crate) fn is_asked(cx: &Context<'_>, port: &Port, packet: &Packet) -> bool {
    let (L4::Udp { dst_port, .. } | L4::Tcp { dst_port, .. }) = packet.l4 else { return false };
    dst_port == names::DNS_PORT && cx.tables.policy.is_cluster_dns(packet.dst) && !port.is_uplink()
}

/// How a packet ends that [`is_asked`].
pub(crate) fn ask(cx: &Context<'_>, port: &Port, shared: &mut Shared, packet: &Packet, frame: &Frame) -> Stop {
    let is_several = packet.protocol == Protocol::UDP && frame.offload.segmentation.is_some();
    if packet.fragment != Fragment::Whole || is_several {
        return DropReason::QueryInPieces.into();
    }
    if frame.offload.checksum == Checksum::Complete && !checksum::verify_l4(frame.bytes(), packet) {
        return DropReason::BadChecksum.into();
    }
    let query = Query::new(port.config.id, packet);
    match judge(cx, port, shared, packet, &query.asked) {
        Ok(()) => Stop::Ask(query),
        Err(reason) => reason.into(),
    }
}

/// Asks policy. A query stands for itself, whatever was asked before; a packet of a connection goes on with one that policy let
/// through, and neither it nor what a dry run says of it is counted again.
fn judge(
    cx: &Context<'_>,
    port: &Port,
    shared: &mut Shared,
    packet: &Packet,
    asked: &FlowKey,
) -> Result<(), DropReason> {
    if cx.tables.policy.epoch == 0 {
        return Ok(());
    }
    let dns = cx.tables.policy.cluster_dns_pod().ok_or(DropReason::NoRoute)?;
    let goes_on = packet.protocol == Protocol::TCP && !state::begins_connection(packet);
    let past = if goes_on { Past::Live { would_deny: true } } else { Past::None };
    match port.is_ready(cx) {
        true => verdict::to_cluster_dns(cx, port, shared, asked, dns, past),
        false => Err(DropReason::PortNotReady),
    }
}

/// Makes `frame` the answer to `query`, and lets the pod's rules that read names learn from it.
pub(crate) fn answer(
    cx: &Context<'_>,
    port: &mut Port,
    query: &Query,
    message: &[u8],
    frame: &mut Frame,
) -> Result<(), DropReason> {
    let flow = query.asked.reverse();
    if !port.owns(flow.dst()) {
        return Err(DropReason::PortGone);
    }
    if !craft::datagram(frame, port.config.mac, GATEWAY_MAC, &flow, message) {
        return Err(DropReason::TooBig);
    }
    names::hear_from_cluster_dns(cx, port, message);
    Ok(())
}

/// Makes `frame` a packet to the attached side of `port` that the shell's endpoint of the cluster DNS sends.
pub(crate) fn deliver(port: &Port, packet: &[u8], frame: &mut Frame) -> Result<(), DropReason> {
    if !craft::packet(frame, port.config.mac, GATEWAY_MAC, packet) {
        return Err(DropReason::TooBig);
    }
    let receiver = Packet::check(frame.bytes())?.dst;
    if port.owns(receiver) { Ok(()) } else { Err(DropReason::PortGone) }
}
