use super::*;
use std::net::Ipv4Addr;

fn dropped(port: u32, last: u16, dst_port: u16) -> Dropped {
    let [high, low] = last.to_be_bytes();
    let flow = FlowKey::new(
        Protocol::TCP,
        Ipv4Addr::new(10, 0, 0, 1).into(),
        40_000,
        Ipv4Addr::new(10, 1, high, low).into(),
        dst_port,
    );
    let reason = DropReason::DeniedByEgressPolicy;
    let direction = Some(Direction::FromPod);
    Dropped {
        sender: Some(PortId(port)),
        port: Some(PortId(port)),
        reason,
        dry_run: false,
        direction,
        flow: Some(flow),
        before: None,
    }
}

fn at(seconds: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(seconds)
}

/// The last bytes of the destinations of a port's records, the most recent first.
fn destinations(seen: &DropsSeen, port: u32) -> Vec<u16> {
    let of_port = seen.records.iter().filter(|record| record.port == Some(PortId(port)));
    let last = |record: &DropSeen| match record.flow.unwrap().dst() {
        IpAddr::V4(v4) => u16::from_be_bytes([v4.octets()[2], v4.octets()[3]]),
        IpAddr::V6(_) => unreachable!(),
    };
    of_port.map(last).collect()
}

#[test]
fn connections_between_the_same_ends_are_one_record_with_its_first_and_last_time() {
    let mut recent = Recent::new(1);
    recent.add(at(1), dropped(3, 7, 80));
    let mut again = dropped(3, 7, 80);
    again.flow.as_mut().unwrap().src_port = 40_001;
    recent.add(at(5), again);
    recent.add(at(6), dropped(3, 7, 81));
    recent.add(at(7), Dropped { dry_run: true, ..dropped(3, 7, 80) });
    recent.add(at(8), dropped(4, 7, 80));
    let seen = recent.all(at(10));
    let told: Vec<_> =
        seen.records.iter().map(|r| (r.port.unwrap().0, r.dry_run, r.flow.unwrap().dst_port, r.count)).collect();
    assert_eq!(told, [(4, false, 80, 1), (3, true, 80, 1), (3, false, 81, 1), (3, false, 80, 2)]);
    let last = &seen.records[3];
    assert_eq!((last.first_ago.as_secs(), last.last_ago.as_secs()), (9, 5));
    assert_eq!(last.flow.unwrap().src_port, 40_001, "of the last one");
}

#[test]
fn pings_are_one_record_whatever_their_identifiers_and_what_is_no_packet_has_one_per_reason() {
    let mut recent = Recent::new(1);
    for id in 0..10 {
        let mut ping = dropped(3, 7, id);
        ping.flow.as_mut().unwrap().protocol = Protocol::ICMP;
        recent.add(at(1), ping);
        recent.add(at(1), Dropped { flow: None, direction: None, reason: DropReason::SpoofedArp, ..ping });
    }
    assert_eq!(recent.all(at(1)).records.iter().map(|record| record.count).collect::<Vec<_>>(), [10, 10]);
}

#[test]
fn whoever_sends_everywhere_pushes_out_its_own_records() {
    let mut recent = Recent::new(1);
    recent.add(at(0), dropped(1, 1, 80));
    for n in 0..60_000 {
        recent.add(at(1), dropped(2, n, 80));
    }
    let seen = recent.all(at(1));
    assert_eq!(destinations(&seen, 1), [1]);
    let newest: Vec<u16> = (0..60_000).rev().take(RECORDS_PER_SENDER_MAX).collect();
    assert_eq!(destinations(&seen, 2), newest);
    assert_eq!(seen.forgotten, 60_000 - RECORDS_PER_SENDER_MAX as u64);
}

#[test]
fn when_the_room_is_full_the_least_recent_record_of_all_gives_way() {
    let mut recent = Recent::new(1);
    for port in 0..RECORDS_MAX as u32 {
        recent.add(at(0), dropped(port, 1, 80));
    }
    recent.add(at(1), dropped(0, 1, 80));
    recent.add(at(1), dropped(5_000, 1, 80));
    let seen = recent.all(at(1));
    assert_eq!((seen.records.len(), seen.forgotten), (RECORDS_MAX, 1));
    assert!(destinations(&seen, 1).is_empty(), "port 0 was seen again");
    assert_eq!((destinations(&seen, 0).len(), destinations(&seen, 5_000).len()), (1, 1));
}

#[test]
fn lists_index_and_records_agree_after_any_number_of_drops() {
    let mut recent = Recent::new(1);
    let mut random = 99u64;
    for _ in 0..100_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (port, last) = ((random >> 33) as u32 % 40, (random >> 45) as u16 % 300);
        recent.add(at(random >> 60), Dropped { dry_run: random >> 62 == 0, ..dropped(port, last, 80) });
    }
    let seen = recent.all(at(20));
    assert_eq!(seen.records.len(), RECORDS_MAX);
    assert_eq!((recent.index.len(), recent.records.len(), recent.all.len), (RECORDS_MAX, RECORDS_MAX, RECORDS_MAX));
    assert_eq!(recent.by_sender.values().map(|list| list.len).sum::<usize>(), RECORDS_MAX);
    for (position, record) in recent.records.iter().enumerate() {
        let hash = record.what.hash(1);
        let found = recent.index.find(hash, |&at| recent.records[at as usize].what.is_same(&record.what));
        assert_eq!(found, Some(&(position as u32)));
    }
}

#[test]
fn what_policy_was_asked_follows_from_the_record() {
    let mut recent = Recent::new(1);
    let denied = dropped(3, 7, 8080);
    let vip =
        FlowKey::new(Protocol::TCP, Ipv4Addr::new(10, 0, 0, 1).into(), 40_000, Ipv4Addr::new(10, 96, 0, 1).into(), 80);
    recent.add(at(1), Dropped { before: Some(vip), ..denied });
    let asked = recent.all(at(1)).records[0].asked().unwrap();
    let (subject, peer) = (Ipv4Addr::new(10, 0, 0, 1).into(), Ipv4Addr::new(10, 1, 0, 7).into());
    assert_eq!(asked, Asked { direction: Direction::FromPod, subject, peer, protocol: Protocol::TCP, port: 8080 });
}
