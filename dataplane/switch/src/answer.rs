//! What the switch itself says: each function turns the frame, in its own buffer, into an answer to the port that sent it.
//! Errors and refusals are rationed per port, so a port can neither be flooded by its own mistakes nor use them to load the
//! switch.

use crate::counters::AnswerKind;
use crate::path::{Context, Stop};
use crate::ports::Port;
use crate::service;
use crate::{DropReason, Exit, GATEWAY_MAC, UNRESOLVED_MAC};
use std::net::{IpAddr, Ipv6Addr};
use wire::craft::{self, IcmpError};
use wire::{ArpPacket, Fragment, Frame, IcmpKind, Instant, L4, MacAddr, Offload, Packet, edit};

/// ICMP errors that a port gets at once after a silence. Linux' global burst (net.ipv4.icmp_msgs_burst) is 50.
const ERRORS_BURST: u32 = 50;
/// Time after which a port has earned another error: 100 per second, so that a traceroute of 3 × 30 probes loses none.
const ERROR_INTERVAL_NANOS: u64 = 10_000_000;

/// The right to be told errors: a token bucket.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: u32,
    filled: Instant,
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket { tokens: ERRORS_BURST, filled: Instant::ZERO }
    }
}

impl Bucket {
    /// Takes one token if there is one.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let earned = now.as_nanos().saturating_sub(self.filled.as_nanos()) / ERROR_INTERVAL_NANOS;
        if earned > 0 {
            self.tokens = (u64::from(self.tokens) + earned).min(u64::from(ERRORS_BURST)) as u32;
            self.filled = Instant::from_nanos(self.filled.as_nanos() + earned * ERROR_INTERVAL_NANOS);
        }
        let granted = self.tokens > 0;
        self.tokens -= u32::from(granted);
        granted
    }
}

/// The gateway has the address that was asked for; outside, the uplink's own interface has it.
pub(crate) fn arp(port: &Port, frame: &mut Frame, request: &ArpPacket) -> Stop {
    craft::arp_reply(frame, request, own_mac(port));
    resolved(port, AnswerKind::Arp, frame)
}

/// The same for IPv6.
pub(crate) fn neighbor(port: &Port, frame: &mut Frame, packet: &Packet, target: Ipv6Addr) -> Stop {
    craft::neighbor_advertisement(frame, packet, target, own_mac(port));
    resolved(port, AnswerKind::Neighbor, frame)
}

fn own_mac(port: &Port) -> MacAddr {
    if port.is_uplink() { port.config.mac } else { GATEWAY_MAC }
}

/// Whether the packet is a ping of the gateway.
pub(crate) fn is_gateway_ping(cx: &Context<'_>, packet: &Packet) -> bool {
    matches!(packet.l4, L4::Icmp { meaning: IcmpKind::EchoRequest { .. }, .. })
        && packet.fragment == Fragment::Whole
        && cx.config.gateways.contains(&packet.dst)
}

/// Whether the packet, which came from outside, is a ping of a Service's address that is reached there.
pub(crate) fn is_ping_of_announced(cx: &Context<'_>, packet: &Packet) -> bool {
    matches!(packet.l4, L4::Icmp { meaning: IcmpKind::EchoRequest { .. }, .. })
        && packet.fragment == Fragment::Whole
        && (cx.tables.attached.announced.contains(&packet.dst) || service::is_virtual_outside(cx, packet.dst))
}

/// The gateway, or a Service's address, is alive.
pub(crate) fn echo(port: &Port, frame: &mut Frame, packet: &Packet) -> Stop {
    craft::echo_reply(frame, packet);
    answered(port, AnswerKind::Echo, frame)
}

/// The packet's hop limit ended at the gateway.
pub(crate) fn ttl_exceeded(cx: &Context<'_>, port: &mut Port, frame: &mut Frame, packet: &Packet) -> Stop {
    error(cx, port, frame, packet, IcmpError::TtlExceeded, AnswerKind::TtlExceeded, DropReason::TtlExceeded)
}

/// Whatever leads to the destination takes packets of at most `mtu` bytes (O08).
pub(crate) fn too_big(cx: &Context<'_>, port: &mut Port, frame: &mut Frame, packet: &Packet, mtu: u16) -> Stop {
    error(cx, port, frame, packet, IcmpError::TooBig { mtu }, AnswerKind::TooBig, DropReason::TooBig)
}

/// Nothing leads to the destination.
pub(crate) fn unreachable(
    cx: &Context<'_>,
    port: &mut Port,
    frame: &mut Frame,
    packet: &Packet,
    reason: DropReason,
) -> Stop {
    let what = if reason == DropReason::NoRoute { IcmpError::NetUnreachable } else { IcmpError::HostUnreachable };
    error(cx, port, frame, packet, what, AnswerKind::Unreachable, reason)
}

/// A Service does not take the packet: said at once, in the words of its protocol (S11).
pub(crate) fn refused(
    cx: &Context<'_>,
    port: &mut Port,
    frame: &mut Frame,
    packet: &Packet,
    reason: DropReason,
) -> Stop {
    match packet.l4 {
        L4::Tcp { .. } | L4::Sctp { .. } => end_connection(port, frame, packet, AnswerKind::Rejected, reason),
        _ => error(cx, port, frame, packet, IcmpError::PortUnreachable, AnswerKind::Rejected, reason),
    }
}

/// No source port is left for the packet's flow: said as if the destination refused it.
pub(crate) fn exhausted(cx: &Context<'_>, port: &mut Port, frame: &mut Frame, packet: &Packet) -> Stop {
    match refused(cx, port, frame, packet, DropReason::SourcePortsExhausted) {
        Stop::Answer(_, exit) => Stop::Answer(AnswerKind::SourcePortsExhausted, exit),
        stop => stop,
    }
}

/// The connection is over because its backend went away (S14).
pub(crate) fn reset(port: &Port, frame: &mut Frame, packet: &Packet) -> Stop {
    end_connection(port, frame, packet, AnswerKind::Reset, DropReason::BackendGone)
}

fn end_connection(port: &Port, frame: &mut Frame, packet: &Packet, kind: AnswerKind, reason: DropReason) -> Stop {
    let ended = match packet.l4 {
        L4::Tcp { .. } => craft::tcp_reset(frame, packet),
        L4::Sctp { .. } => craft::sctp_abort(frame, packet),
        _ => false,
    };
    if ended { answered(port, kind, frame) } else { Stop::Drop(reason) }
}

fn error(
    cx: &Context<'_>,
    port: &mut Port,
    frame: &mut Frame,
    packet: &Packet,
    what: IcmpError,
    kind: AnswerKind,
    reason: DropReason,
) -> Stop {
    // The destination itself refuses; anything else is said by the gateway. To the host the gateway's addresses are its
    // own, and Linux believes no packet from outside that claims to be from itself. Outside, only the node has an address.
    let from = match what {
        IcmpError::PortUnreachable => Some(packet.dst),
        _ if port.is_host() => Some(packet.dst),
        _ if port.is_uplink() => port.address_like(packet.dst),
        _ => gateway(cx, packet.src),
    };
    match from {
        Some(from) if craft::may_answer_with_error(frame.bytes(), packet) && port.errors.take(cx.now) => {
            craft::icmp_error(frame, packet, what, from);
            answered(port, kind, frame)
        }
        _ => Stop::Drop(reason),
    }
}

/// The gateway's address of the family of `addr`.
pub(crate) fn gateway(cx: &Context<'_>, addr: IpAddr) -> Option<IpAddr> {
    cx.config.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == addr.is_ipv4())
}

/// An answer is an ordinary frame whatever the question was, with every checksum computed here.
fn answered(port: &Port, kind: AnswerKind, frame: &mut Frame) -> Stop {
    match port.is_uplink() {
        true => edit::set_macs(frame, UNRESOLVED_MAC, UNRESOLVED_MAC),
        false => edit::set_macs(frame, port.config.mac, GATEWAY_MAC),
    }
    stop(port, kind, frame)
}

/// The same for an answer that says what is behind an address; it goes back to the MAC that asked.
fn resolved(port: &Port, kind: AnswerKind, frame: &mut Frame) -> Stop {
    if port.is_uplink() { stop(port, kind, frame) } else { answered(port, kind, frame) }
}

fn stop(port: &Port, kind: AnswerKind, frame: &mut Frame) -> Stop {
    frame.offload = Offload { checksum: wire::Checksum::Verified, segmentation: None };
    Stop::Answer(kind, Exit::Port(port.config.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_gets_its_burst_of_errors_and_then_a_hundred_per_second() {
        let mut bucket = Bucket::default();
        let start = Instant::from_millis(1_000_000);
        let granted = (0..1_000).filter(|_| bucket.take(start)).count();
        assert_eq!(granted, ERRORS_BURST as usize);
        let later = |ms: u64| Instant::from_millis(1_000_000 + ms);
        let granted = (0..1_000).filter(|ms| bucket.take(later(*ms))).count();
        assert!((99..=100).contains(&granted), "{granted}");
    }
}
