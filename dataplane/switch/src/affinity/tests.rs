use super::*;
use std::net::Ipv4Addr;

const WEB: ServiceId = ServiceId(1);
const SHOP: ServiceId = ServiceId(2);
const HOUR: Duration = Duration::from_secs(3_600);

fn addr(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

fn seconds(seconds: u64) -> Instant {
    Instant::from_millis(seconds * 1_000)
}

#[test]
fn a_client_has_its_backend_per_service() {
    let mut affinity = Affinity::new(7, 10);
    affinity.remember(seconds(1), WEB, addr(1), addr(101));
    affinity.remember(seconds(1), SHOP, addr(1), addr(102));
    assert_eq!(affinity.find(seconds(2), WEB, addr(1), HOUR), Some(addr(101)));
    assert_eq!(affinity.find(seconds(2), SHOP, addr(1), HOUR), Some(addr(102)));
    assert_eq!(affinity.find(seconds(2), WEB, addr(2), HOUR), None);
    affinity.remember(seconds(3), WEB, addr(1), addr(103));
    assert_eq!(affinity.find(seconds(3), WEB, addr(1), HOUR), Some(addr(103)));
}

#[test]
fn s07_the_timeout_begins_anew_with_each_flow() {
    let mut affinity = Affinity::new(7, 10);
    let timeout = Duration::from_secs(10);
    for second in [0, 9, 18, 27] {
        affinity.remember(seconds(second), WEB, addr(1), addr(101));
    }
    assert_eq!(affinity.find(seconds(36), WEB, addr(1), timeout), Some(addr(101)));
    assert_eq!(affinity.find(seconds(37), WEB, addr(1), timeout), None);
}

#[test]
fn when_all_places_are_taken_the_least_recently_used_client_is_forgotten() {
    let mut affinity = Affinity::new(7, 100);
    for number in 0..100 {
        affinity.remember(seconds(0), WEB, addr(number), addr(1_000 + number));
    }
    // The first two are used again.
    affinity.remember(seconds(1), WEB, addr(0), addr(1_000));
    affinity.remember(seconds(1), WEB, addr(1), addr(1_001));
    for number in 100..150 {
        affinity.remember(seconds(2), SHOP, addr(number), addr(1_000 + number));
    }
    let web = (0..100).filter(|&n| affinity.find(seconds(2), WEB, addr(n), HOUR).is_some()).collect::<Vec<_>>();
    assert_eq!(web, [0, 1].into_iter().chain(52..100).collect::<Vec<_>>());
    assert!((100..150).all(|n| affinity.find(seconds(2), SHOP, addr(n), HOUR) == Some(addr(1_000 + n))));
    assert_eq!((affinity.sessions.len(), affinity.index.len()), (100, 100));
}

#[test]
fn a_flood_of_clients_takes_bounded_memory() {
    let mut affinity = Affinity::new(7, 1_000);
    for number in 0..100_000 {
        affinity.remember(seconds(0), WEB, addr(number), addr(1));
    }
    assert_eq!((affinity.sessions.len(), affinity.index.len()), (1_000, 1_000));
    assert!(size_of::<Session>() <= 80);
}
