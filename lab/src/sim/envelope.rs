//! The outer headers that the kernels of two nodes write and verify around a tunnel datagram: Ethernet, IP, UDP. Only the
//! simulator needs them; a real node hands datagrams to a UDP socket.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use wire::build::{self, Ends};
use wire::{L4, MacAddr, Packet, checksum};

const ETHERNET_BYTES: usize = 14;
const UDP_BYTES: usize = 8;
const TTL: u8 = 64;

/// Who sends a datagram to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
}

/// MAC of the underlay interface that owns `addr`.
fn underlay_mac(addr: IpAddr) -> MacAddr {
    let low = match addr {
        IpAddr::V4(v4) => u64::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) as u64,
    };
    MacAddr::local(low)
}

/// The Ethernet frame that carries `payload`, with complete checksums.
///
/// # Panics
/// If source and destination are of different families.
pub(super) fn wrap(envelope: &Envelope, payload: &[u8]) -> Vec<u8> {
    let Envelope { src, dst } = *envelope;
    let (src_mac, dst_mac) = (underlay_mac(src.ip()), underlay_mac(dst.ip()));
    build::udp(&Ends { src_mac, dst_mac, src, dst, ttl: TTL }, payload)
}

/// Verifies a frame as the receiving kernel does; `None` if it is damaged. Gives the envelope and where the payload lies.
pub(super) fn unwrap(frame: &[u8]) -> Option<(Envelope, Range<usize>)> {
    let packet = Packet::check(frame).ok()?;
    let L4::Udp { src_port, dst_port } = packet.l4 else { return None };
    if packet.is_fragment() || !checksum::verify_l4(frame, &packet) {
        return None;
    }
    let envelope = Envelope { src: SocketAddr::new(packet.src, src_port), dst: SocketAddr::new(packet.dst, dst_port) };
    Some((envelope, usize::from(packet.l4_offset) + UDP_BYTES..packet.end as usize))
}

/// Flips a bit behind the Ethernet header, chosen by `number`. Every other time the outer checksum is made to fit again, as broken
/// hardware on the way does that computes it after the damage: then only the inner checksum tells.
pub(super) fn corrupt(frame: &mut [u8], number: u64) {
    let bits = (frame.len() - ETHERNET_BYTES) as u64 * 8;
    let bit = ETHERNET_BYTES * 8 + ((number >> 1) % bits) as usize;
    let before = Packet::check(frame).ok();
    frame[bit / 8] ^= 1 << (bit % 8);
    let in_payload = before.is_some_and(|packet| bit / 8 >= usize::from(packet.l4_offset) + UDP_BYTES);
    if let Some(packet) = before.filter(|_| in_payload && number & 1 == 1) {
        checksum::write_full(frame, &packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(src: &str, dst: &str) -> Envelope {
        Envelope { src: src.parse().unwrap(), dst: dst.parse().unwrap() }
    }

    #[test]
    fn what_is_wrapped_is_unwrapped_in_both_families() {
        for envelope in
            [envelope("172.30.0.11:50000", "172.30.0.12:4789"), envelope("[fd00::1]:50000", "[fd00::2]:4789")]
        {
            let frame = wrap(&envelope, b"payload");
            let (seen, payload) = unwrap(&frame).unwrap();
            assert_eq!((seen, &frame[payload]), (envelope, &b"payload"[..]));
        }
    }

    #[test]
    fn damage_is_found_unless_the_outer_checksum_was_made_to_fit() {
        for envelope in
            [envelope("172.30.0.11:50000", "172.30.0.12:4789"), envelope("[fd00::1]:50000", "[fd00::2]:4789")]
        {
            let whole = wrap(&envelope, &[7; 100]);
            for bit in 0..(whole.len() as u64 - 14) * 8 {
                for number in [bit << 1, bit << 1 | 1] {
                    let mut frame = whole.clone();
                    corrupt(&mut frame, number);
                    let same = unwrap(&frame)
                        .is_some_and(|(seen, range)| seen.src == envelope.src && frame[range] == [7; 100]);
                    // The traffic class, flow label and hop limit of IPv6 are in no checksum.
                    let unprotected = envelope.src.is_ipv6() && bit < 64;
                    assert!(!same || unprotected, "bit {bit} went unseen");
                }
            }
        }
    }
}
