use super::*;
use std::net::Ipv4Addr;

fn backends(count: u32) -> Vec<(IpAddr, u16)> {
    (0..count).map(|n| (Ipv4Addr::from(0x0af4_0002 + n * 7).into(), 8080)).collect()
}

#[test]
fn the_table_has_a_prime_number_of_slots_of_a_hundred_for_each_backend_and_at_most_65537() {
    assert_eq!([size_for(2), size_for(3), size_for(10), size_for(100)], [211, 307, 1009, 10_007]);
    assert_eq!([size_for(655), size_for(656), size_for(10_000)], [65_519, 65_537, 65_537]);
}

#[test]
fn one_backend_and_too_many_need_no_table() {
    assert_eq!(Maglev::new(backends(0).into_iter()), None);
    assert_eq!(Maglev::new(backends(1).into_iter()), None);
    assert!(Maglev::new(backends(10_000).into_iter()).is_some());
    assert_eq!(Maglev::new(backends(10_001).into_iter()), None);
}
