use super::*;
use std::net::IpAddr;
use std::time::Duration;
use wire::{Fragment, L4, Protocol};

const MAX: u32 = 100;

fn addr(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn key(protocol: Protocol, src_port: u16) -> FlowKey {
    FlowKey::new(protocol, addr(1), src_port, addr(2), 80)
}

fn packet(protocol: Protocol, flags: u8) -> Packet {
    let l4 = match protocol {
        Protocol::TCP => L4::Tcp { src_port: 1, dst_port: 80, flags },
        _ => L4::Udp { src_port: 1, dst_port: 80 },
    };
    Packet {
        src: addr(1),
        dst: addr(2),
        protocol,
        l3_offset: 14,
        l4_offset: 34,
        payload_offset: 54,
        end: 54,
        ttl: 64,
        traffic_class: 0,
        dont_fragment: true,
        fragment: Fragment::Whole,
        l4,
    }
}

const SYN: u8 = 2;
const SYN_ACK: u8 = 18;
const ACK: u8 = 16;

fn open(table: &mut FlowTable, now: Instant, protocol: Protocol, src_port: u16) -> Result<Hit, InsertError> {
    let key = key(protocol, src_port);
    table.insert(now, Flow::new(now, &packet(protocol, SYN), key, key.reverse()))
}

fn establish(table: &mut FlowTable, now: Instant, hit: Hit) {
    let reply = Hit { side: Side::Reply, ..hit };
    table.see(now, reply, &packet(Protocol::TCP, SYN_ACK), 60);
    table.see(now, hit, &packet(Protocol::TCP, ACK), 60);
}

fn seconds(s: u64) -> Instant {
    Instant::from_millis(s * 1_000)
}

#[test]
fn a_flow_is_found_from_both_sides_and_counts_both() {
    let mut table = FlowTable::new(1, MAX);
    let hit = open(&mut table, Instant::ZERO, Protocol::TCP, 5000).unwrap();
    establish(&mut table, Instant::ZERO, hit);
    let back = table.find(Instant::ZERO, &key(Protocol::TCP, 5000).reverse()).unwrap();
    assert_eq!(back.side, Side::Reply);
    assert_eq!(table.get(back).state().name(), "established");
    assert_eq!((table.get(hit).count(Side::Original), table.get(hit).count(Side::Reply)), ((1, 60), (1, 60)));
    assert_eq!(table.find(Instant::ZERO, &key(Protocol::TCP, 5001)), None);
}

#[test]
fn a_flow_whose_time_is_up_is_not_found() {
    let mut table = FlowTable::new(1, MAX);
    open(&mut table, Instant::ZERO, Protocol::UDP, 5000).unwrap();
    assert!(table.find(seconds(29), &key(Protocol::UDP, 5000)).is_some());
    assert!(table.find(seconds(30), &key(Protocol::UDP, 5000)).is_none());
    assert_eq!(table.len(), 0);
}

#[test]
fn packets_keep_a_flow_alive_and_silence_ends_it() {
    let mut table = FlowTable::new(1, MAX);
    let hit = open(&mut table, Instant::ZERO, Protocol::UDP, 5000).unwrap();
    table.see(seconds(20), hit, &packet(Protocol::UDP, 0), 60);
    let mut budget = 100;
    table.expire(seconds(40), &mut budget);
    assert_eq!((table.len(), budget), (1, 99));
    assert_eq!(table.next_expiry(), Some(seconds(70)));
    table.expire(seconds(70), &mut budget);
    assert_eq!((table.len(), table.next_expiry()), (0, None));
}

#[test]
fn expiry_looks_at_no_more_than_its_budget() {
    let mut table = FlowTable::new(1, MAX);
    for port in 0..50 {
        open(&mut table, Instant::ZERO, Protocol::UDP, 1000 + port).unwrap();
    }
    let mut budget = 20;
    table.expire(seconds(60), &mut budget);
    assert_eq!((table.len(), budget), (30, 0));
}

#[test]
fn half_open_flows_give_way_to_a_new_one_and_established_ones_do_not() {
    let mut table = FlowTable::new(1, MAX);
    for port in 0..MAX as u16 - 1 {
        let hit = open(&mut table, seconds(1), Protocol::TCP, 1000 + port).unwrap();
        establish(&mut table, seconds(1), hit);
    }
    open(&mut table, seconds(1), Protocol::TCP, 5000).unwrap();
    for port in 5001..9000 {
        open(&mut table, seconds(2), Protocol::TCP, port).unwrap();
    }
    assert_eq!(table.len(), MAX as usize);
    for port in 0..MAX as u16 - 1 {
        assert!(table.find(seconds(2), &key(Protocol::TCP, 1000 + port)).is_some());
    }
    assert!(table.find(seconds(2), &key(Protocol::TCP, 8999)).is_some());
}

#[test]
fn a_table_full_of_live_connections_refuses_a_new_one_until_one_has_been_idle() {
    let mut table = FlowTable::new(1, MAX);
    for port in 0..MAX as u16 {
        let hit = open(&mut table, seconds(1), Protocol::TCP, 1000 + port).unwrap();
        establish(&mut table, seconds(1), hit);
    }
    assert_eq!(open(&mut table, seconds(2), Protocol::TCP, 9000), Err(InsertError::Full));
    assert_eq!(table.len(), MAX as usize);
    let idle = seconds(2) + State::TcpEstablished.spared();
    assert!(open(&mut table, idle, Protocol::TCP, 9000).is_ok());
}

#[test]
fn two_flows_never_share_a_key() {
    let mut table = FlowTable::new(1, MAX);
    open(&mut table, Instant::ZERO, Protocol::TCP, 5000).unwrap();
    let other = FlowKey::new(Protocol::TCP, addr(1), 5000, addr(9), 80);
    let clash = Flow::new(Instant::ZERO, &packet(Protocol::TCP, SYN), other, key(Protocol::TCP, 5000).reverse());
    assert_eq!(table.insert(Instant::ZERO, clash), Err(InsertError::KeyTaken));
}

#[test]
fn a_position_that_was_freed_is_used_again_and_the_queues_stay_whole() {
    let mut table = FlowTable::new(1, MAX);
    let mut now = Instant::ZERO;
    let mut random = 12345u64;
    for _ in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        now = now + Duration::from_millis(random >> 55);
        let port = 1000 + (random >> 33) as u16 % 200;
        let protocol = if random & 1 << 40 == 0 { Protocol::TCP } else { Protocol::UDP };
        match table.find(now, &key(protocol, port)) {
            Some(hit) => table.see(now, hit, &packet(protocol, (random >> 20) as u8), 60),
            None => {
                let _ = open(&mut table, now, protocol, port);
            }
        }
        table.expire(now, &mut 3);
        assert!(table.len() <= MAX as usize);
        assert_eq!(table.iter().count(), table.len());
        assert_eq!(table.index.len(), 2 * table.len());
    }
    assert!(table.flows.len() <= MAX as usize);
    let mut queued = 0;
    for queue in table.queues {
        let mut at = queue.front;
        while at != NONE {
            queued += 1;
            at = table.flows[at as usize].next;
        }
    }
    assert_eq!(queued, table.len());
    table.expire(now + Duration::from_secs(1_000_000), &mut 1_000);
    assert_eq!((table.len(), table.index.len()), (0, 0));
}
