use super::*;
use std::collections::HashSet;
use std::net::IpAddr;

const TCP: SourcePool = SourcePool { protocol: Protocol::TCP, is_ipv4: true };

fn reply(server: u8, port: u16) -> FlowKey {
    let addr = |last| IpAddr::from([10, 0, 0, last]);
    FlowKey::new(Protocol::TCP, addr(server), 443, addr(1), port)
}

fn granted(ports: RangeInclusive<u16>) -> SourcePorts {
    let mut source_ports = SourcePorts::default();
    source_ports.grant(TCP, ports);
    source_ports
}

#[test]
fn every_granted_port_serves_a_destination_once_and_then_none() {
    let mut ports = granted(1_000..=60_999);
    let mut seen = HashSet::new();
    for n in 0..60_000u32 {
        let start = n.wrapping_mul(2_654_435_761) as u16;
        let port = ports.lease(&reply(2, 0), start).expect("one is free");
        assert!((1_000..=60_999).contains(&port) && seen.insert(port), "{port}");
    }
    assert_eq!(ports.lease(&reply(2, 0), 5), None);
    assert!(ports.lease(&reply(3, 0), 5).is_some(), "another destination has all of them again");
    ports.release(&reply(2, 33_333));
    assert_eq!(ports.lease(&reply(2, 0), 40_000), Some(33_333));
}

#[test]
fn what_is_given_back_is_free_and_nothing_is_kept_of_an_idle_destination() {
    let mut ports = granted(1_000..=1_999);
    for _ in 0..1_000 {
        ports.lease(&reply(2, 0), 0).expect("one is free");
    }
    for port in 1_000..=1_999 {
        ports.release(&reply(2, port));
    }
    assert!(ports.used.is_empty());
    assert_eq!(ports.lease(&reply(2, 0), 1_500), Some(1_500));
}

#[test]
fn a_search_goes_around_the_end_and_stays_within_what_was_granted() {
    let mut ports = granted(100..=101);
    assert_eq!(ports.lease(&reply(2, 0), 101), Some(101));
    assert_eq!(ports.lease(&reply(2, 0), 101), Some(100));
    assert_eq!(ports.lease(&reply(2, 0), 101), None);
    assert!(ports.may_be_answer(&reply(2, 100)) && !ports.may_be_answer(&reply(2, 102)));
}

#[test]
fn more_is_wanted_once_per_grant_when_a_quarter_is_left() {
    let mut ports = granted(1_000..=1_099);
    assert_eq!(ports.take_wanted(), None);
    for _ in 0..75 {
        ports.lease(&reply(2, 0), 0).expect("one is free");
    }
    assert_eq!(ports.take_wanted(), None);
    ports.lease(&reply(2, 0), 0).expect("one is free");
    assert_eq!((ports.take_wanted(), ports.take_wanted()), (Some(TCP), None));
    ports.lease(&reply(2, 0), 0).expect("one is free");
    assert_eq!(ports.take_wanted(), None, "the shell knows");
    ports.grant(TCP, 2_000..=2_001);
    ports.lease(&reply(2, 0), 0).expect("one is free");
    assert_eq!(ports.take_wanted(), Some(TCP));
}

#[test]
fn a_pool_without_ports_wants_some_at_the_first_flow() {
    let mut ports = SourcePorts::default();
    assert_eq!(ports.lease(&reply(2, 0), 7), None);
    assert_eq!(ports.take_wanted(), Some(TCP));
}

#[test]
fn echo_identifiers_need_no_grant_and_an_own_one_is_kept() {
    let mut ports = SourcePorts::default();
    let mut reply = reply(2, 0);
    (reply.protocol, reply.src_port) = (Protocol::ICMP, 0);
    assert_eq!(ports.lease(&reply, 7), Some(7));
    assert_eq!(ports.lease(&reply, 7), Some(8));
    assert_eq!(ports.lease(&reply, 0), Some(1));
    assert_eq!(ports.take_wanted(), None);
}

#[test]
fn a_pool_grows_while_the_shell_says_so() {
    let mut ports = granted(1_000..=1_000);
    assert!(!ports.is_growing(&reply(2, 0)));
    ports.set_growing(TCP, true);
    assert!(ports.is_growing(&reply(2, 0)));
    let other = FlowKey::new(Protocol::UDP, reply(2, 0).src(), 53, reply(2, 0).dst(), 0);
    assert!(!ports.is_growing(&other));
    ports.set_growing(TCP, false);
    assert!(!ports.is_growing(&reply(2, 0)));
}
