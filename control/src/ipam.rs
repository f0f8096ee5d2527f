//! Address pools: which addresses of a range are free, handed out in order.
//!
//! A [`Pool`] is given a range, the addresses in use and those that should rest; it gives free addresses, lowest first. The
//! network address (in IPv6 the subnet-router anycast address, RFC 4291 section 2.6.1), the first address (the gateway) and
//! the IPv4 broadcast address are never handed out. It stores nothing: its owner claims what is in use when it starts.

use ipnet::IpNet;
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The gateway of a pod range: its first address after the network address.
pub fn gateway(range: &IpNet) -> IpAddr {
    address_at(range, 1)
}

/// Address number `offset` of `range`, counted from its network address.
///
/// # Panics
/// If the range has no such address.
pub fn address_at(range: &IpNet, offset: u128) -> IpAddr {
    assert!(offset <= last_offset(range), "{range} has no address number {offset}");
    match range.network() {
        IpAddr::V4(network) => Ipv4Addr::from(u32::from(network) + offset as u32).into(),
        IpAddr::V6(network) => Ipv6Addr::from(u128::from(network) + offset).into(),
    }
}

/// Subrange number `index` of `range` when it is cut into ranges of `prefix_len` bits; `None` if it has no such subrange.
pub fn subrange(range: &IpNet, prefix_len: u8, index: u128) -> Option<IpNet> {
    let host_bits = u32::from(range.max_prefix_len().checked_sub(prefix_len)?);
    let offset = index.checked_shl(host_bits).filter(|offset| offset >> host_bits == index)?;
    if prefix_len < range.prefix_len() || offset > last_offset(range) {
        return None;
    }
    IpNet::new(address_at(range, offset), prefix_len).ok()
}

/// Number of the last address of `range`.
pub(crate) fn last_offset(range: &IpNet) -> u128 {
    match range.max_prefix_len() - range.prefix_len() {
        128 => u128::MAX,
        host_bits => (1 << host_bits) - 1,
    }
}

/// Number of `addr` in `range`, counted from its network address; `None` if it is outside.
pub(crate) fn offset_of(range: &IpNet, addr: IpAddr) -> Option<u128> {
    match (range.network(), addr) {
        (IpAddr::V4(network), IpAddr::V4(v4)) if range.contains(&addr) => {
            Some(u128::from(u32::from(v4) - u32::from(network)))
        }
        (IpAddr::V6(network), IpAddr::V6(v6)) if range.contains(&addr) => Some(u128::from(v6) - u128::from(network)),
        _ => None,
    }
}

/// Why an address cannot be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimError {
    /// It is not in the pool's range.
    Outside,
    /// It is the network, gateway or broadcast address.
    Reserved,
    /// It is in use.
    Taken,
}

impl fmt::Display for ClaimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ClaimError::Outside => "it is outside the range",
            ClaimError::Reserved => "it is the network, gateway or broadcast address of the range",
            ClaimError::Taken => "it is in use",
        })
    }
}

impl std::error::Error for ClaimError {}

/// The addresses of one range.
#[derive(Clone, Debug)]
pub struct Pool {
    range: IpNet,
    first: u128,
    last: u128,
    taken: BTreeSet<u128>,
    resting: BTreeSet<u128>,
    next: u128,
}

impl Pool {
    /// A pool over `range` from which nothing is taken.
    pub fn new(range: IpNet) -> Pool {
        let last = match range {
            IpNet::V4(_) => last_offset(&range).saturating_sub(1),
            IpNet::V6(_) => last_offset(&range),
        };
        Pool { range, first: 2, last, taken: BTreeSet::new(), resting: BTreeSet::new(), next: 2 }
    }

    /// Keeps the first `count` addresses of the range out of [`Pool::allocate`]; they can still be claimed.
    pub fn starting_at(mut self, count: u128) -> Pool {
        self.next = self.next.max(count);
        self
    }

    /// The range.
    pub fn range(&self) -> IpNet {
        self.range
    }

    /// Whether `addr` could be claimed.
    pub fn check(&self, addr: IpAddr) -> Result<(), ClaimError> {
        let offset = self.offset(addr).ok_or(ClaimError::Outside)?;
        if offset < self.first || offset > self.last {
            return Err(ClaimError::Reserved);
        }
        if self.taken.contains(&offset) { Err(ClaimError::Taken) } else { Ok(()) }
    }

    /// Marks `addr` as in use.
    pub fn claim(&mut self, addr: IpAddr) -> Result<(), ClaimError> {
        self.check(addr)?;
        self.taken.extend(self.offset(addr));
        Ok(())
    }

    /// Lets `addr` rest: it is handed out only when nothing else is free. For addresses that were released a moment ago, so
    /// that packets and flows of the old owner do not meet a new one.
    pub fn rest(&mut self, addr: IpAddr) {
        if let Some(offset) = self.offset(addr)
            && (self.first..=self.last).contains(&offset)
        {
            self.resting.insert(offset);
        }
    }

    /// Whether [`Pool::allocate`] would give an address.
    pub fn has_room(&mut self) -> bool {
        self.next_free().is_some()
    }

    /// Takes the lowest free address that does not rest, else the lowest one that does.
    pub fn allocate(&mut self) -> Option<IpAddr> {
        let offset = self.next_free()?;
        self.taken.insert(offset);
        Some(address_at(&self.range, offset))
    }

    fn next_free(&mut self) -> Option<u128> {
        // Nothing is ever released, so everything below `next` stays taken or resting and is looked at once.
        while self.next <= self.last && (self.taken.contains(&self.next) || self.resting.contains(&self.next)) {
            self.next += 1;
        }
        if self.next <= self.last {
            return Some(self.next);
        }
        self.resting.iter().find(|offset| !self.taken.contains(offset)).copied()
    }

    fn offset(&self, addr: IpAddr) -> Option<u128> {
        offset_of(&self.range, addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_first_address_of_a_range_is_its_gateway() {
        assert_eq!(gateway(&net("10.244.3.0/24")), addr("10.244.3.1"));
        assert_eq!(gateway(&net("fd00:10:244:3::/64")), addr("fd00:10:244:3::1"));
    }

    #[test]
    fn network_gateway_and_broadcast_are_never_handed_out() {
        let mut pool = Pool::new(net("10.0.0.0/29"));
        let all: Vec<IpAddr> = std::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(all, ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"].map(addr));
        assert!(!pool.has_room());
        for reserved in ["10.0.0.0", "10.0.0.1", "10.0.0.7"] {
            assert_eq!(pool.claim(addr(reserved)), Err(ClaimError::Reserved));
        }
    }

    #[test]
    fn an_ipv6_range_has_no_broadcast_address() {
        let mut pool = Pool::new(net("fd00::/126"));
        let all: Vec<IpAddr> = std::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(all, ["fd00::2", "fd00::3"].map(addr));
    }

    #[test]
    fn ranges_too_small_for_a_pod_give_nothing() {
        for tiny in ["10.0.0.0/32", "10.0.0.0/31", "10.0.0.0/30", "fd00::/128", "fd00::/127"] {
            let expect = if tiny.ends_with("/30") { Some(addr("10.0.0.2")) } else { None };
            assert_eq!(Pool::new(net(tiny)).allocate(), expect, "{tiny}");
        }
    }

    #[test]
    fn a_claimed_address_is_not_handed_out_and_not_claimed_twice() {
        let mut pool = Pool::new(net("10.0.0.0/24"));
        assert_eq!(pool.claim(addr("10.0.0.2")), Ok(()));
        assert_eq!(pool.claim(addr("10.0.0.2")), Err(ClaimError::Taken));
        assert_eq!(pool.claim(addr("10.0.1.2")), Err(ClaimError::Outside));
        assert_eq!(pool.claim(addr("fd00::2")), Err(ClaimError::Outside));
        assert_eq!(pool.allocate(), Some(addr("10.0.0.3")));
    }

    #[test]
    fn a_resting_address_is_handed_out_last() {
        let mut pool = Pool::new(net("10.0.0.0/29"));
        pool.rest(addr("10.0.0.2"));
        let all: Vec<IpAddr> = std::iter::from_fn(|| pool.allocate()).collect();
        assert_eq!(all, ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.2"].map(addr));
    }

    #[test]
    fn subranges_count_from_the_start_and_end_with_the_range() {
        assert_eq!(subrange(&net("10.244.0.0/16"), 24, 3), Some(net("10.244.3.0/24")));
        assert_eq!(subrange(&net("10.244.0.0/16"), 24, 256), None);
        assert_eq!(subrange(&net("fd00:10:244::/48"), 64, 2), Some(net("fd00:10:244:2::/64")));
        assert_eq!(subrange(&net("::/0"), 64, u128::MAX), None);
        assert_eq!(subrange(&net("10.0.0.0/24"), 16, 0), None);
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice_and_all_are_inside(
            claims in prop::collection::vec(0u32..64, 0..40), rests in prop::collection::vec(0u32..64, 0..40)
        ) {
            let range = net("10.9.8.0/26");
            let mut pool = Pool::new(range);
            for rest in rests {
                pool.rest(address_at(&range, rest.into()));
            }
            let mut seen: BTreeSet<IpAddr> =
                claims.into_iter().map(|c| address_at(&range, c.into())).filter(|c| pool.claim(*c).is_ok()).collect();
            while let Some(given) = pool.allocate() {
                prop_assert!(range.contains(&given));
                prop_assert!(seen.insert(given));
            }
            prop_assert_eq!(seen.len(), 61);
        }
    }
}
