use super::*;
use proptest::prelude::*;

fn peer(name: &str, underlay: &[&str], cidrs: &[&str]) -> Peer {
    Peer {
        name: name.to_owned(),
        underlay: underlay.iter().map(|a| a.parse().unwrap()).collect(),
        vtep_mac: derive_vtep_mac(name),
        pod_cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
    }
}

fn three() -> Peers {
    Peers::new(vec![
        peer("a", &["172.30.0.11", "fd00:172:30::11"], &["10.244.1.0/24", "fd00:10:244:1::/64"]),
        peer("b", &["172.30.0.12"], &["10.244.2.0/24", "10.0.0.0/8"]),
        peer("c", &["fd00:172:30::13"], &["10.244.1.128/25"]),
    ])
}

fn route(peers: &Peers, addr: &str) -> Option<u32> {
    peers.route(addr.parse().unwrap()).map(|id| id.0)
}

#[test]
fn o10_a_sender_is_known_by_any_of_its_addresses_and_nobody_else_is() {
    let peers = three();
    let find = |addr: &str| peers.find_by_underlay(addr.parse().unwrap()).map(|id| id.0);
    assert_eq!((find("172.30.0.11"), find("fd00:172:30::11")), (Some(0), Some(0)));
    assert_eq!((find("172.30.0.12"), find("fd00:172:30::13")), (Some(1), Some(2)));
    assert_eq!((find("172.30.0.13"), find("fd00:172:30::12"), find("0.0.0.0")), (None, None, None));
}

#[test]
fn o17_a_pod_address_leads_to_its_node_in_both_families() {
    let peers = three();
    assert_eq!((route(&peers, "10.244.1.7"), route(&peers, "fd00:10:244:1::7")), (Some(0), Some(0)));
    assert_eq!((route(&peers, "fd00:10:244:2::7"), route(&peers, "192.0.2.1")), (None, None));
}

#[test]
fn the_longest_prefix_wins() {
    let peers = three();
    assert_eq!((route(&peers, "10.244.1.127"), route(&peers, "10.244.1.128")), (Some(0), Some(2)));
    assert_eq!((route(&peers, "10.244.1.255"), route(&peers, "10.244.2.0")), (Some(2), Some(1)));
    assert_eq!((route(&peers, "10.255.255.255"), route(&peers, "11.0.0.0")), (Some(1), None));
}

#[test]
fn of_two_claims_the_earlier_peer_wins() {
    let peers =
        Peers::new(vec![peer("a", &["192.0.2.1"], &["10.1.0.0/16"]), peer("b", &["192.0.2.1"], &["10.1.0.0/16"])]);
    assert_eq!(peers.find_by_underlay("192.0.2.1".parse().unwrap()), Some(PeerId(0)));
    assert_eq!(route(&peers, "10.1.2.3"), Some(0));
}

#[test]
fn o12_a_table_made_after_a_node_moved_does_not_know_its_old_address() {
    let moved = Peers::new(vec![peer("a", &["172.30.0.99"], &["10.244.1.0/24"])]);
    assert_eq!(moved.find_by_underlay("172.30.0.11".parse().unwrap()), None);
    assert_eq!(moved.get(PeerId(0)).unwrap().vtep_mac, three().get(PeerId(0)).unwrap().vtep_mac);
}

#[test]
fn o13_a_peer_has_all_that_its_first_packet_needs() {
    let peers = three();
    let (_, a) = peers.iter().next().unwrap();
    assert_eq!(a.underlay[0], "172.30.0.11".parse::<IpAddr>().unwrap());
    assert!(!a.vtep_mac.is_multicast());
}

#[test]
fn the_whole_address_space_can_be_routed() {
    let peers = Peers::new(vec![peer("a", &[], &["::/0"]), peer("b", &[], &["ffff::/16"])]);
    assert_eq!((route(&peers, "::"), route(&peers, "fffe::"), route(&peers, "ffff::1")), (Some(0), Some(0), Some(1)));
}

#[test]
fn the_vtep_mac_is_the_fnv_1a_hash_of_the_name() {
    // FNV-1a of "foobar" is 85944171f73967e8 (draft-eastlake-fnv, test vectors); folded by 40 bits.
    assert_eq!(derive_vtep_mac("foobar").to_string(), "0a:71:f7:bc:f3:a9");
    assert_ne!(derive_vtep_mac("node1"), derive_vtep_mac("node2"));
}

proptest! {
    #[test]
    fn a_route_is_what_a_walk_over_all_prefixes_finds(
        nets in prop::collection::vec((0u32..4096, 20u8..=32), 0..24), addr in 0u32..4096,
    ) {
        let cidr = |(base, len): &(u32, u8)| {
            IpNet::new(IpAddr::from((base + (10 << 24)).to_be_bytes()), *len).unwrap().trunc()
        };
        let cidrs: Vec<IpNet> = nets.iter().map(cidr).collect();
        let peers = cidrs.iter().map(|c| Peer { pod_cidrs: vec![*c], ..peer("x", &[], &[]) }).collect();
        let addr = IpAddr::from((addr + (10 << 24)).to_be_bytes());
        let longest = cidrs.iter().enumerate().filter(|(_, c)| c.contains(&addr)).max_by_key(|(i, c)| (c.prefix_len(), usize::MAX - i));
        prop_assert_eq!(Peers::new(peers).route(addr), longest.map(|(i, _)| PeerId(i as u32)));
    }
}
