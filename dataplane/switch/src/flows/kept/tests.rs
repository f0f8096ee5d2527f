use super::*;
use crate::SourcePool;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use wire::{Fragment, L4, Packet};

const MAX: u32 = 100;
const SYN: u8 = 2;
const SYN_ACK: u8 = 18;
const ACK: u8 = 16;
const RST: u8 = 4;

fn addr(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn packet(flags: u8) -> Packet {
    Packet {
        src: addr(1),
        dst: addr(2),
        protocol: Protocol::TCP,
        l3_offset: 14,
        l4_offset: 34,
        payload_offset: 54,
        end: 54,
        ttl: 64,
        traffic_class: 0,
        dont_fragment: true,
        fragment: Fragment::Whole,
        l4: L4::Tcp { src_port: 1, dst_port: 80, flags },
    }
}

fn table() -> FlowTable {
    let mut table = FlowTable::new(1, MAX);
    table.keep_records();
    table
}

/// Opens a translated flow.
fn open(table: &mut FlowTable, src_port: u16) -> Hit {
    let original = FlowKey::new(Protocol::TCP, addr(1), src_port, addr(9), 80);
    let reply = FlowKey::new(Protocol::TCP, addr(2), 8080, addr(1), src_port);
    table.insert(Instant::ZERO, Flow::new(Instant::ZERO, &packet(SYN), original, reply)).unwrap()
}

fn establish(table: &mut FlowTable, hit: Hit) {
    let reply = Hit { side: crate::state::Side::Reply, ..hit };
    table.see(Instant::ZERO, reply, &packet(SYN_ACK), 60);
    table.see(Instant::ZERO, hit, &packet(ACK), 60);
}

/// What a shell has on its file.
#[derive(Default)]
struct Kept(BTreeMap<u32, [u8; RECORD_BYTES]>);

impl Kept {
    /// Writes what has changed; the positions.
    fn write(&mut self, table: &mut FlowTable) -> Vec<u32> {
        let mut written = Vec::new();
        table.take_changes(|position, record| {
            written.push(position);
            self.0.insert(position, *record);
        });
        written
    }

    fn bytes(&self) -> Vec<u8> {
        let len = self.0.keys().last().map_or(0, |last| last + 1);
        (0..len).flat_map(|position| self.0.get(&position).copied().unwrap_or([0; RECORD_BYTES])).collect()
    }
}

#[test]
fn a_flow_has_a_record_from_when_it_is_answered_until_it_is_over() {
    let (mut table, mut kept) = (table(), Kept::default());
    let hit = open(&mut table, 5_000);
    assert_eq!(kept.write(&mut table), [0u32; 0], "an attempt");
    establish(&mut table, hit);
    assert_eq!(kept.write(&mut table), [0]);
    table.see(Instant::ZERO, hit, &packet(ACK), 60);
    assert!(!table.has_changes(), "a packet that changes nothing");
    table.see(Instant::ZERO, hit, &packet(RST), 60);
    assert_eq!(kept.write(&mut table), [0]);
    assert_eq!(kept.0[&0], [0; RECORD_BYTES]);
}

#[test]
fn a_flow_that_comes_and_goes_between_two_looks_is_never_written() {
    let (mut table, mut kept) = (table(), Kept::default());
    let hit = open(&mut table, 5_000);
    establish(&mut table, hit);
    table.remove(hit);
    let next = open(&mut table, 5_001);
    assert_eq!(kept.write(&mut table), [0u32; 0]);
    establish(&mut table, next);
    assert_eq!(kept.write(&mut table), [0], "the next one at its position is");
}

#[test]
fn flows_are_taken_up_at_their_positions_and_found_from_both_sides() {
    let (mut before, mut kept) = (table(), Kept::default());
    let hits: Vec<Hit> = (5_000..5_004).map(|port| open(&mut before, port)).collect();
    hits.iter().for_each(|hit| establish(&mut before, *hit));
    kept.write(&mut before);
    before.remove(hits[1]);
    kept.write(&mut before);

    let mut after = table();
    let restored = after.restore(Instant::ZERO, &kept.bytes(), |_| true);
    assert_eq!((restored.flows, restored.rejected, after.len()), (3, 0, 3));
    assert!(!after.has_changes(), "what is there is right");
    for (position, port) in [(0, 5_000), (2, 5_002), (3, 5_003)] {
        let Flow { original, reply, .. } = *before.get(hits[position]);
        let found = [original, reply].map(|key| after.find(Instant::ZERO, &key).expect("it is known"));
        assert_eq!(found.map(|hit| hit.index), [position as u32; 2]);
        assert_eq!((original.src_port, after.get(found[0]).state()), (port, State::TcpEstablished));
    }
    let fresh = open(&mut after, 6_000);
    assert_eq!(fresh.index, 1, "the position that was free is used");
    establish(&mut after, fresh);
    assert_eq!(kept.write(&mut after), [1]);
    assert_eq!(table().restore(Instant::ZERO, &kept.bytes(), |_| true).flows, 4);
}

#[test]
fn records_that_cannot_be_taken_up_are_counted_and_overwritten() {
    let (mut before, mut kept) = (table(), Kept::default());
    let hit = open(&mut before, 5_000);
    establish(&mut before, hit);
    kept.write(&mut before);
    let record = kept.0[&0];
    let mut broken = record;
    broken[40] ^= 1;
    kept.0.extend([(1, record), (2, broken)]);
    let mut bytes = kept.bytes();
    bytes.extend([7; 10]);

    let mut after = table();
    let restored = after.restore(Instant::ZERO, &bytes, |_| true);
    assert_eq!((restored.flows, restored.rejected), (1, 3), "a double, a broken one, and one that is cut short");
    assert_eq!(kept.write(&mut after), [1, 2]);
    let mut refusing = table();
    let restored = refusing.restore(Instant::ZERO, &kept.bytes(), |_| false);
    assert_eq!((restored.flows, restored.rejected, refusing.len()), (0, 1, 0));
}

#[test]
fn a_smaller_table_takes_up_what_fits() {
    let (mut before, mut kept) = (table(), Kept::default());
    for port in 5_000..5_010 {
        let hit = open(&mut before, port);
        establish(&mut before, hit);
    }
    kept.write(&mut before);
    let restored = FlowTable::new(1, 4).restore(Instant::ZERO, &kept.bytes(), |_| true);
    assert_eq!((restored.flows, restored.rejected), (4, 6));
}

#[test]
fn s15_a_source_port_of_before_is_not_given_out_again() {
    let (mut before, mut kept) = (table(), Kept::default());
    let pool = SourcePool { protocol: Protocol::TCP, is_ipv4: true };
    before.source_ports.grant(pool, 40_000..=40_000);
    let original = FlowKey::new(Protocol::TCP, addr(1), 5_000, addr(2), 443);
    let answers = FlowKey::new(Protocol::TCP, addr(2), 443, addr(8), 0);
    let reply = before.lease(Instant::ZERO, &original, answers).expect("a port");
    let flow = Flow { leased: true, ..Flow::new(Instant::ZERO, &packet(SYN), original, reply) };
    let hit = before.insert(Instant::ZERO, flow).unwrap();
    establish(&mut before, hit);
    kept.write(&mut before);

    let mut after = table();
    let restored = after.restore(Instant::ZERO, &kept.bytes(), |_| true);
    assert_eq!(restored.source_ports, [(Protocol::TCP, 40_000)]);
    after.source_ports.grant(pool, 40_000..=40_001);
    let other = FlowKey::new(Protocol::TCP, addr(3), 5_000, addr(2), 443);
    let lease = |table: &mut FlowTable| table.lease(Instant::ZERO, &other, answers).map(|reply| reply.dst_port);
    assert_eq!(lease(&mut after), Some(40_001));
    let hit = after.find(Instant::ZERO, &reply).unwrap();
    after.remove(hit);
    assert_eq!(lease(&mut after), Some(40_000), "until its flow is over");
}

proptest! {
    /// Records as they may be on a disk: true ones, broken ones and rubbish.
    #[test]
    fn whatever_is_on_the_disk_the_table_works(
        choices in prop::collection::vec((0u8..4, 5_000u16..5_010, any::<u8>()), 0..40),
        rubbish in prop::collection::vec(any::<u8>(), 0..200)
    ) {
        let mut source = table();
        let mut records = BTreeMap::new();
        for port in 5_000..5_010 {
            let hit = open(&mut source, port);
            establish(&mut source, hit);
            records.insert(port, record::write(source.get(hit)));
        }
        let mut bytes = Vec::new();
        for (kind, port, at) in choices {
            let mut record = match kind { 0 => [0; RECORD_BYTES], 1 => [at; RECORD_BYTES], _ => records[&port] };
            if kind == 2 {
                record[usize::from(at) % RECORD_BYTES] ^= 0x55;
            }
            bytes.extend(record);
        }
        bytes.extend(rubbish);
        let (mut table, mut kept) = (table(), Kept::default());
        let restored = table.restore(Instant::ZERO, &bytes, |_| true);
        prop_assert_eq!(table.len(), restored.flows);
        prop_assert!(restored.flows <= 10);
        for port in 6_000..6_020 {
            let hit = open(&mut table, port);
            establish(&mut table, hit);
        }
        kept.write(&mut table);
        prop_assert_eq!(table.len(), restored.flows + 20);
        let hits: Vec<Hit> = table.iter().map(|flow| flow.original).collect::<Vec<_>>().iter()
            .map(|key| table.find(Instant::ZERO, key).expect("every flow is found")).collect();
        hits.into_iter().for_each(|hit| table.remove(hit));
        prop_assert_eq!(table.len(), 0);
    }
}
