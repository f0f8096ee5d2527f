//! Which flow a later fragment belongs to (S18, N25).
//!
//! Only the first fragment has ports. When it has passed, its flow is noted under what all fragments of the datagram share;
//! later ones look there and go where the first went. A later fragment that finds nothing is discarded: its first was denied,
//! lost, or is late. Nothing is held back or put together. The notes are a set-associative cache of fixed size: an old note
//! gives way, so a flood of first fragments costs others their datagrams in flight and no memory.

use std::time::Duration;
use wire::{FlowKey, Fragment, Instant, Packet};

/// Notes of one port. At 64 KiB per datagram this covers 16 MiB in flight.
const SETS: usize = 64;
const WAYS: usize = 4;

/// How long the fragments of one datagram may be apart: the reassembly time of Linux (RFC 791 leaves 15 s to 255 s, RFC 8200
/// says 60 s).
const LIFETIME: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Note {
    /// Addresses and protocol of the datagram, without ports.
    datagram: FlowKey,
    id: u32,
    flow: FlowKey,
    noted: Instant,
}

/// The notes of one port. They take memory from the first fragment on.
#[derive(Debug)]
pub(crate) struct Fragments {
    seed: u64,
    notes: Vec<Option<Note>>,
}

fn identity(packet: &Packet) -> Option<(FlowKey, u32)> {
    match packet.fragment {
        Fragment::Whole => None,
        Fragment::First { id } | Fragment::Later { id, .. } => {
            Some((FlowKey::new(packet.protocol, packet.src, 0, packet.dst, 0), id))
        }
    }
}

impl Fragments {
    pub(crate) fn new(seed: u64) -> Fragments {
        Fragments { seed, notes: Vec::new() }
    }

    /// Notes that the datagram of `packet`, a first fragment, is of flow `flow`.
    pub(crate) fn note(&mut self, now: Instant, packet: &Packet, flow: FlowKey) {
        let Some((datagram, id)) = identity(packet) else { return };
        if self.notes.is_empty() {
            self.notes = vec![None; SETS * WAYS];
        }
        let set = self.set(&datagram, id);
        let ways = &mut self.notes[set..set + WAYS];
        let same = ways.iter().position(|note| note.is_some_and(|n| n.id == id && n.datagram == datagram));
        let oldest = || (0..WAYS).min_by_key(|&way| ways[way].map(|note| note.noted)).unwrap_or(0);
        let way = same.unwrap_or_else(oldest);
        ways[way] = Some(Note { datagram, id, flow, noted: now });
    }

    /// The flow of `packet`, a later fragment.
    pub(crate) fn find(&self, now: Instant, packet: &Packet) -> Option<FlowKey> {
        let (datagram, id) = identity(packet)?;
        let set = self.set(&datagram, id);
        let ways = self.notes.get(set..set + WAYS)?;
        let note = ways.iter().flatten().find(|note| note.id == id && note.datagram == datagram)?;
        (now.saturating_since(note.noted) < LIFETIME).then_some(note.flow)
    }

    fn set(&self, datagram: &FlowKey, id: u32) -> usize {
        let hash = datagram.hash_with(self.seed ^ u64::from(id));
        (hash as usize % SETS) * WAYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;
    use wire::{L4, Protocol};

    fn fragment(id: u32, fragment: Fragment) -> Packet {
        let addr = |text: &str| text.parse::<IpAddr>().expect("an address");
        Packet {
            src: addr("10.0.0.1"),
            dst: addr("10.0.0.2"),
            protocol: Protocol::UDP,
            l3_offset: 14,
            l4_offset: 34,
            payload_offset: 34,
            end: 1514,
            ttl: 64,
            traffic_class: 0,
            dont_fragment: false,
            fragment: match fragment {
                Fragment::First { .. } => Fragment::First { id },
                _ => Fragment::Later { id, offset_bytes: 1480, last: true },
            },
            l4: L4::Other,
        }
    }

    fn first(id: u32) -> Packet {
        fragment(id, Fragment::First { id })
    }

    fn later(id: u32) -> Packet {
        fragment(id, Fragment::Later { id, offset_bytes: 1480, last: true })
    }

    fn flow(port: u16) -> FlowKey {
        let packet = first(0);
        FlowKey::new(Protocol::UDP, packet.src, port, packet.dst, 53)
    }

    #[test]
    fn a_later_fragment_follows_its_first_until_the_datagram_is_too_old() {
        let mut fragments = Fragments::new(7);
        assert_eq!(fragments.find(Instant::ZERO, &later(1)), None);
        fragments.note(Instant::ZERO, &first(1), flow(1000));
        assert_eq!(fragments.find(Instant::ZERO, &later(1)), Some(flow(1000)));
        assert_eq!(fragments.find(Instant::ZERO, &later(2)), None);
        assert_eq!(fragments.find(Instant::ZERO + LIFETIME, &later(1)), None);
    }

    #[test]
    fn a_reused_identification_belongs_to_the_latest_first_fragment() {
        let mut fragments = Fragments::new(7);
        fragments.note(Instant::ZERO, &first(1), flow(1000));
        fragments.note(Instant::from_millis(1), &first(1), flow(2000));
        assert_eq!(fragments.find(Instant::from_millis(1), &later(1)), Some(flow(2000)));
    }

    #[test]
    fn a_flood_of_first_fragments_takes_no_more_memory() {
        let mut fragments = Fragments::new(7);
        for id in 0..10_000 {
            fragments.note(Instant::from_millis(u64::from(id)), &first(id), flow(1000));
        }
        assert_eq!(fragments.notes.len(), SETS * WAYS);
        assert_eq!(fragments.find(Instant::from_millis(9_999), &later(9_999)), Some(flow(1000)));
    }
}
