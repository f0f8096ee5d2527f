//! The first packet of a conversation.

use super::Probe;
use crate::GATEWAY_MAC;
use wire::build::{self, Echo, Ends, Tcp};
use wire::tcp::flag;
use wire::{Frame, MacAddr, Protocol};

/// An SCTP INIT chunk (RFC 9260 §3.3.2): initiate tag 1, window 64 KiB, one stream each way, initial TSN 1.
const SCTP_INIT: [u8; 20] = [1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];

/// Identifier of an echo.
const ECHO_ID: u16 = 1;

/// TTL of a packet that comes from outside: some hops are behind it.
const TTL: u8 = 60;

/// The frame that opens the probe's flow, as the attached side with `mac` sends it; from outside it comes from a router.
pub(super) fn craft(probe: &Probe, mac: MacAddr, from_outside: bool) -> Frame {
    let (src_mac, dst_mac) = if from_outside { (MacAddr::local(u64::MAX), mac) } else { (mac, GATEWAY_MAC) };
    let ends = Ends { src_mac, dst_mac, src: probe.src, dst: probe.dst, ttl: TTL };
    let bytes = match probe.protocol {
        Protocol::TCP => build::tcp(&ends, &Tcp::flags(flag::SYN), b""),
        Protocol::UDP => build::udp(&ends, b"podplane explain"),
        Protocol::SCTP => build::sctp(&ends, 0, &SCTP_INIT),
        _ => build::echo(&ends, Echo::Request, ECHO_ID, 1, b"podplane explain"),
    };
    Frame::from_bytes(&bytes)
}
