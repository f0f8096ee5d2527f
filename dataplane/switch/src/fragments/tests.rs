use super::*;
use std::net::IpAddr;
use wire::{L4, Protocol};

/// A fragment of 1,480 bytes.
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
            Fragment::Later { offset_bytes, last, .. } => Fragment::Later { id, offset_bytes, last },
            _ => Fragment::First { id },
        },
        l4: L4::Other,
    }
}

fn first(id: u32) -> Packet {
    fragment(id, Fragment::First { id })
}

fn later(id: u32, offset_bytes: u16, last: bool) -> Packet {
    fragment(id, Fragment::Later { id, offset_bytes, last })
}

fn flow(port: u16) -> FlowKey {
    let packet = first(0);
    FlowKey::new(Protocol::UDP, packet.src, port, packet.dst, 53)
}

#[test]
fn a_later_fragment_follows_its_first_until_the_datagram_is_too_old() {
    let mut fragments = Fragments::new(7);
    assert_eq!(fragments.find(Instant::ZERO, &later(1, 1480, false)), Err(NoFlow::Early));
    fragments.note(Instant::ZERO, &first(1), flow(1000));
    assert_eq!(fragments.find(Instant::ZERO, &later(1, 1480, false)), Ok(flow(1000)));
    assert_eq!(fragments.find(Instant::ZERO, &later(2, 1480, false)), Err(NoFlow::Early));
    assert_eq!(fragments.find(Instant::ZERO + LIFETIME, &later(1, 2960, true)), Err(NoFlow::Early));
}

#[test]
fn a_reused_identification_belongs_to_the_latest_first_fragment() {
    let mut fragments = Fragments::new(7);
    fragments.note(Instant::ZERO, &first(1), flow(1000));
    fragments.note(Instant::from_millis(1), &first(1), flow(2000));
    assert_eq!(fragments.find(Instant::from_millis(1), &later(1, 1480, true)), Ok(flow(2000)));
    // The datagram is complete, so the next one is of another.
    assert_eq!(fragments.find(Instant::from_millis(2), &later(1, 1480, true)), Err(NoFlow::Early));
}

#[test]
fn a_flood_of_first_fragments_takes_no_more_memory() {
    let mut fragments = Fragments::new(7);
    for id in 0..10_000 {
        fragments.note(Instant::from_millis(u64::from(id)), &first(id), flow(1000));
    }
    assert_eq!(fragments.notes.len(), SETS * WAYS);
    assert!(size_of::<Option<Note>>() <= 288, "{}", size_of::<Option<Note>>());
    assert_eq!(fragments.find(Instant::from_millis(9_999), &later(9_999, 1480, true)), Ok(flow(1000)));
}

#[test]
fn later_fragments_of_a_refused_first_are_refused() {
    let mut fragments = Fragments::new(7);
    fragments.note_refused(Instant::ZERO, Datagram::begun_by(&first(1)).unwrap());
    assert_eq!(fragments.find(Instant::ZERO, &later(1, 1480, false)), Err(NoFlow::Refused));
}

#[test]
fn an_overlap_ends_the_datagram_and_a_repetition_does_not() {
    let mut fragments = Fragments::new(7);
    fragments.note(Instant::ZERO, &first(1), flow(1000));
    assert_eq!(fragments.find(Instant::ZERO, &later(1, 1480, false)), Ok(flow(1000)));
    assert_eq!(fragments.find(Instant::ZERO, &later(1, 1480, false)), Err(NoFlow::Contradicts));
    assert_eq!(fragments.find(Instant::ZERO, &later(1, 2960, false)), Ok(flow(1000)));
    assert_eq!(fragments.find(Instant::ZERO, &later(1, 4432, false)), Err(NoFlow::Contradicts));
    assert_eq!(fragments.find(Instant::ZERO, &later(1, 5920, true)), Err(NoFlow::Refused));
}
