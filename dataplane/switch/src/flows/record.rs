//! A flow as bytes, for who keeps flows where they outlive the switch.
//!
//! A record is [`RECORD_BYTES`] long and says what cannot be found out again: who opened the flow and how it is translated. Where it
//! leads and whether policy allows it is judged again by whoever takes it in. Its checksum tells a record that was written in
//! part, so no write has to be atomic; all zeroes are no flow. Integers are little-endian.
//!
//! ```text
//! 0   state, counted from 1      1   flags      2   FINs seen      3   way in: 0 port, 1 uplink, 2 peer
//! 4   time of opening, 8 bytes   12  underlay address of that peer, 16 bytes
//! 28  key of the opener's packets, 39 bytes     67  key of the answers, 39 bytes
//! 106 zeroes, 2 bytes            108 checksum of the bytes before, 4 bytes
//! ```

use super::Flow;
use crate::Origin;
use crate::state::State;
use std::net::{IpAddr, Ipv6Addr};
use wire::{FlowKey, Instant, Protocol};

/// Bytes of a record.
pub const RECORD_BYTES: usize = 112;

/// Bytes of a key: two addresses in 16 bytes each, two ports, zone, protocol.
const KEY_BYTES: usize = 39;

const OPENED_AT: usize = 4;
const PEER_AT: usize = 12;
const ORIGINAL_AT: usize = 28;
const REPLY_AT: usize = ORIGINAL_AT + KEY_BYTES;
const CHECKSUM_AT: usize = RECORD_BYTES - 4;

const OPENED_HERE: u8 = 1;
const SERVICE: u8 = 2;
const MASQUERADED: u8 = 4;
const LEASED: u8 = 8;
const DENIED: u8 = 16;
const WOULD_DENY: u8 = 32;
const FLAGS: u8 = 63;

/// What `bytes` are as a record.
#[derive(Debug)]
pub(crate) enum Read {
    /// No flow.
    Nothing,
    /// A flow as it is taken in.
    Flow(Box<Flow>),
    /// Written in part, or by nobody.
    Broken,
}

/// The record of a flow.
pub(super) fn write(flow: &Flow) -> [u8; RECORD_BYTES] {
    let mut bytes = [0; RECORD_BYTES];
    bytes[0] = flow.state as u8 + 1;
    let flags = [
        (OPENED_HERE, flow.opened_here),
        (SERVICE, flow.service),
        (MASQUERADED, flow.masqueraded),
        (LEASED, flow.leased),
        (DENIED, flow.denied),
        (WOULD_DENY, flow.would_deny),
    ];
    bytes[1] = flags.into_iter().filter(|(_, set)| *set).map(|(flag, _)| flag).sum();
    bytes[2] = flow.fins;
    let peer = match flow.origin {
        Origin::Port => None,
        Origin::Uplink => {
            bytes[3] = 1;
            None
        }
        Origin::Peer(addr) => {
            bytes[3] = 2;
            Some(addr)
        }
    };
    bytes[OPENED_AT..PEER_AT].copy_from_slice(&flow.opened.as_nanos().to_le_bytes());
    if let Some(peer) = peer {
        bytes[PEER_AT..ORIGINAL_AT].copy_from_slice(&octets(peer));
    }
    bytes[ORIGINAL_AT..REPLY_AT].copy_from_slice(&write_key(&flow.original));
    bytes[REPLY_AT..REPLY_AT + KEY_BYTES].copy_from_slice(&write_key(&flow.reply));
    let sum = checksum(&bytes);
    bytes[CHECKSUM_AT..].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads a record at `now`, from when on the flow has its time anew.
pub(crate) fn read(now: Instant, bytes: &[u8; RECORD_BYTES]) -> Read {
    if bytes.iter().all(|byte| *byte == 0) {
        return Read::Nothing;
    }
    let [.., a, b, c, d] = *bytes;
    let (number, flags, fins) = (bytes[0], bytes[1], bytes[2]);
    let state = number.checked_sub(1).and_then(|number| State::ALL.get(usize::from(number)));
    let (Some(state), true) = (state, u32::from_le_bytes([a, b, c, d]) == checksum(bytes)) else {
        return Read::Broken;
    };
    let origin = match bytes[3] {
        0 => Origin::Port,
        1 => Origin::Uplink,
        2 => Origin::Peer(address(&bytes[PEER_AT..ORIGINAL_AT])),
        _ => return Read::Broken,
    };
    let (original, reply) = (read_key(&bytes[ORIGINAL_AT..]), read_key(&bytes[REPLY_AT..]));
    if flags & !FLAGS != 0 || fins > 0b11 || original == reply {
        return Read::Broken;
    }
    let opened = Instant::from_nanos(u64::from_le_bytes(bytes[OPENED_AT..PEER_AT].try_into().expect("8 bytes")));
    let has = |flag| flags & flag != 0;
    Read::Flow(Box::new(Flow {
        origin,
        leased: has(LEASED),
        opened_here: has(OPENED_HERE),
        service: has(SERVICE),
        masqueraded: has(MASQUERADED),
        denied: has(DENIED),
        would_deny: has(WOULD_DENY),
        fins,
        opened: opened.min(now),
        ..Flow::in_state(now, *state, original, reply)
    }))
}

fn write_key(key: &FlowKey) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[..16].copy_from_slice(&octets(key.src()));
    bytes[16..32].copy_from_slice(&octets(key.dst()));
    bytes[32..34].copy_from_slice(&key.src_port.to_le_bytes());
    bytes[34..36].copy_from_slice(&key.dst_port.to_le_bytes());
    bytes[36..38].copy_from_slice(&key.zone.to_le_bytes());
    bytes[38] = key.protocol.0;
    bytes
}

fn read_key(bytes: &[u8]) -> FlowKey {
    let number = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let (src, dst) = (address(&bytes[..16]), address(&bytes[16..32]));
    FlowKey::new(Protocol(bytes[38]), src, number(32), dst, number(34)).in_zone(number(36))
}

fn octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address(bytes: &[u8]) -> IpAddr {
    let octets: [u8; 16] = bytes.try_into().expect("16 bytes");
    Ipv6Addr::from(octets).to_canonical()
}

/// FNV-1a over all but the checksum: against writes that were cut short, not against anybody.
fn checksum(bytes: &[u8; RECORD_BYTES]) -> u32 {
    let step = |sum: u32, byte: &u8| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes[..CHECKSUM_AT].iter().fold(0x811c_9dc5, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = FlowKey> {
        (any::<u8>(), any::<IpAddr>(), any::<u16>(), any::<IpAddr>(), any::<u16>(), any::<u16>()).prop_map(
            |(protocol, src, src_port, dst, dst_port, zone)| {
                FlowKey::new(Protocol(protocol), src, src_port, dst, dst_port).in_zone(zone)
            },
        )
    }

    fn origin() -> impl Strategy<Value = Origin> {
        prop_oneof![Just(Origin::Port), Just(Origin::Uplink), any::<IpAddr>().prop_map(Origin::Peer)]
    }

    /// A peer's address is canonical, as everywhere.
    fn canonical(origin: Origin) -> Origin {
        match origin {
            Origin::Peer(IpAddr::V6(v6)) => Origin::Peer(v6.to_canonical()),
            other => other,
        }
    }

    proptest! {
        #[test]
        fn a_flow_comes_back_as_it_was(
            original in key(), reply in key(), origin in origin(), state in 0..State::ALL.len(), fins in 0u8..4,
            flags in any::<[bool; 6]>(), opened in any::<u64>()
        ) {
            prop_assume!(original != reply);
            let now = Instant::from_nanos(u64::MAX);
            let [opened_here, service, masqueraded, leased, denied, would_deny] = flags;
            let flow = Flow {
                origin: canonical(origin), fins, opened_here, service, masqueraded, leased, denied, would_deny,
                opened: Instant::from_nanos(opened),
                ..Flow::in_state(now, State::ALL[state], original, reply)
            };
            let Read::Flow(back) = read(now, &write(&flow)) else { panic!("it cannot be read") };
            prop_assert_eq!(format!("{:?}", back), format!("{:?}", flow));
        }

        #[test]
        fn any_bytes_are_read_without_panic_and_never_as_another_record(bytes in any::<[u8; RECORD_BYTES]>()) {
            if let Read::Flow(flow) = read(Instant::from_nanos(u64::MAX), &bytes) {
                prop_assert_eq!(write(&flow), bytes);
            }
        }

        #[test]
        fn a_record_that_was_written_in_part_is_broken(
            original in key(), reply in key(), at in 0..RECORD_BYTES, flip in 1u8..
        ) {
            prop_assume!(original != reply);
            let mut bytes = write(&Flow::in_state(Instant::ZERO, State::TcpEstablished, original, reply));
            bytes[at] ^= flip;
            prop_assert!(matches!(read(Instant::ZERO, &bytes), Read::Broken));
        }
    }

    #[test]
    fn zeroes_are_no_flow() {
        assert!(matches!(read(Instant::ZERO, &[0; RECORD_BYTES]), Read::Nothing));
    }
}
