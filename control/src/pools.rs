//! Pools of LoadBalancer addresses: which address a Service gets, and why not.
//!
//! In: the pools, the addresses in use and those that should rest. Out: free addresses, the first pool's lowest first. It
//! stores nothing: its owner claims what is in use when it starts. The meaning of the fields is that of MetalLB's
//! IPAddressPool (metallb.io/v1beta1).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that may be given to Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// How messages call it.
    pub name: String,
    /// First and last address of each range, both included and of one family.
    pub ranges: Vec<(IpAddr, IpAddr)>,
    /// Whether Services that do not ask for an address or for this pool get one of it.
    pub auto_assign: bool,
    /// Whether IPv4 addresses that end in .0 and .255 are left out: some equipment drops packets to them.
    pub avoid_buggy_ips: bool,
    /// Who gets addresses of it, as [`Pools`] names holders; `None`: everybody.
    pub only_for: Option<BTreeSet<String>>,
}

impl AddressPool {
    /// Whether the pool has `address` to give.
    fn contains(&self, address: IpAddr) -> bool {
        let of_range = |(first, last): &(IpAddr, IpAddr)| {
            first.is_ipv4() == address.is_ipv4() && *first <= address && address <= *last
        };
        self.ranges.iter().any(of_range) && !(self.avoid_buggy_ips && is_buggy(address))
    }

    fn serves(&self, holder: &str) -> bool {
        self.only_for.as_ref().is_none_or(|only| only.contains(holder))
    }

    fn has_family(&self, is_ipv4: bool) -> bool {
        self.ranges.iter().any(|(first, _)| first.is_ipv4() == is_ipv4)
    }
}

impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<String> = self.ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
        write!(f, "{} ({})", self.name, if ranges.is_empty() { "empty".to_owned() } else { ranges.join(", ") })
    }
}

/// Why an address cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is in no pool.
    Outside,
    /// It belongs to this one.
    Taken(String),
}

/// Which addresses of all pools are free.
#[derive(Debug)]
pub struct Pools {
    pools: Vec<AddressPool>,
    taken: BTreeMap<IpAddr, String>,
    resting: BTreeSet<IpAddr>,
    /// Per pool and range: everything before is taken or rests. Nothing is ever released, so it is looked at once.
    next: Vec<Vec<Option<IpAddr>>>,
}

impl Pools {
    /// Pools of which everything is free. Those that come first are used up first.
    pub fn new(pools: Vec<AddressPool>) -> Pools {
        let next = pools.iter().map(|pool| pool.ranges.iter().map(|(first, _)| Some(*first)).collect()).collect();
        Pools { pools, taken: BTreeMap::new(), resting: BTreeSet::new(), next }
    }

    /// All of them.
    pub fn all(&self) -> &[AddressPool] {
        &self.pools
    }

    /// Whether a pool that is automatic for `holder` has addresses of the family at all.
    pub fn has_family(&self, is_ipv4: bool, holder: &str) -> bool {
        self.candidates(None, holder).any(|(_, pool)| pool.has_family(is_ipv4))
    }

    /// Whether `holder` could claim `address` from the pool called `pool`, or from any.
    pub fn check(&self, address: IpAddr, pool: Option<&str>, holder: &str) -> Result<(), Refusal> {
        let named = self.pools.iter().filter(|candidate| pool.is_none_or(|name| candidate.name == name));
        let mut named = named.filter(|candidate| candidate.serves(holder));
        match self.taken.get(&address) {
            Some(holder) => Err(Refusal::Taken(holder.clone())),
            None if named.any(|pool| pool.contains(address)) => Ok(()),
            None => Err(Refusal::Outside),
        }
    }

    /// Whether `holder` could get `address` without asking for it, from the pool called `pool` or an automatic one.
    pub fn is_automatic(&self, address: IpAddr, pool: Option<&str>, holder: &str) -> bool {
        self.candidates(pool, holder).any(|(_, pool)| pool.contains(address))
    }

    /// Marks `address` as `holder`'s, in a pool or not. The first holder stays.
    pub fn claim(&mut self, address: IpAddr, holder: &str) {
        self.taken.entry(address).or_insert_with(|| holder.to_owned());
    }

    /// Lets `address` rest: it is given only when nothing else is free, so that clients of its last Service do not meet
    /// another one.
    pub fn rest(&mut self, address: IpAddr) {
        self.resting.insert(address);
    }

    /// Takes a free address of the family for `holder`, from the pool called `pool` or an automatic one.
    pub fn allocate(&mut self, is_ipv4: bool, pool: Option<&str>, holder: &str) -> Option<IpAddr> {
        let candidates: Vec<usize> = self.candidates(pool, holder).map(|(index, _)| index).collect();
        let fresh = candidates.iter().find_map(|index| self.next_free(*index, is_ipv4));
        let rested = || {
            let rested = |address: &&IpAddr| {
                address.is_ipv4() == is_ipv4
                    && !self.taken.contains_key(address)
                    && candidates.iter().any(|index| self.pools[*index].contains(**address))
            };
            self.resting.iter().find(rested).copied()
        };
        let address = fresh.or_else(rested)?;
        self.claim(address, holder);
        Some(address)
    }

    fn candidates(&self, pool: Option<&str>, holder: &str) -> impl Iterator<Item = (usize, &AddressPool)> {
        let matches = move |candidate: &AddressPool| match pool {
            Some(name) => candidate.name == name && candidate.serves(holder),
            None => candidate.auto_assign && candidate.serves(holder),
        };
        self.pools.iter().enumerate().filter(move |(_, candidate)| matches(candidate))
    }

    fn next_free(&mut self, index: usize, is_ipv4: bool) -> Option<IpAddr> {
        let pool = &self.pools[index];
        for (position, (first, last)) in pool.ranges.iter().enumerate() {
            if first.is_ipv4() != is_ipv4 {
                continue;
            }
            let next = &mut self.next[index][position];
            while let Some(address) = *next {
                let skip = self.taken.contains_key(&address)
                    || self.resting.contains(&address)
                    || (pool.avoid_buggy_ips && is_buggy(address));
                if !skip {
                    return Some(address);
                }
                *next = successor(address).filter(|address| address <= last);
            }
        }
        None
    }
}

fn is_buggy(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if matches!(v4.octets()[3], 0 | 255))
}

/// The address after `address`, if its family has one.
fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn addr(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pool(name: &str, ranges: &[(&str, &str)]) -> AddressPool {
        let ranges = ranges.iter().map(|(first, last)| (addr(first), addr(last))).collect();
        AddressPool { name: name.to_owned(), ranges, auto_assign: true, avoid_buggy_ips: false, only_for: None }
    }

    fn drain(pools: &mut Pools, is_ipv4: bool, name: Option<&str>) -> Vec<IpAddr> {
        std::iter::from_fn(|| pools.allocate(is_ipv4, name, "x")).collect()
    }

    #[test]
    fn ranges_are_used_up_in_order_and_to_their_last_address() {
        let b = pool("b", &[("255.255.255.254", "255.255.255.255")]);
        let mut pools = Pools::new(vec![pool("a", &[("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::1")]), b]);
        let all = drain(&mut pools, true, None);
        assert_eq!(all, ["10.0.0.1", "10.0.0.2", "255.255.255.254", "255.255.255.255"].map(addr));
        assert_eq!(drain(&mut pools, false, None), [addr("fd00::1")]);
    }

    #[test]
    fn addresses_that_end_in_0_and_255_are_left_out_on_request() {
        let careful = AddressPool { avoid_buggy_ips: true, ..pool("a", &[("10.0.0.254", "10.0.1.1")]) };
        let mut pools = Pools::new(vec![careful]);
        assert_eq!(pools.check(addr("10.0.1.0"), None, "x"), Err(Refusal::Outside));
        assert_eq!(drain(&mut pools, true, None), ["10.0.0.254", "10.0.1.1"].map(addr));
    }

    #[test]
    fn a_pool_that_is_not_automatic_gives_to_those_who_name_it() {
        let reserved = AddressPool { auto_assign: false, ..pool("vip", &[("10.0.0.1", "10.0.0.1")]) };
        let mut pools = Pools::new(vec![reserved]);
        assert_eq!(pools.allocate(true, None, "x"), None);
        assert_eq!(pools.check(addr("10.0.0.1"), None, "x"), Ok(()), "asking for the address is asking");
        assert_eq!(pools.allocate(true, Some("vip"), "x"), Some(addr("10.0.0.1")));
        assert_eq!(pools.check(addr("10.0.0.1"), None, "x"), Err(Refusal::Taken("x".to_owned())));
    }

    #[test]
    fn a_pool_may_be_for_some_only() {
        let own = AddressPool { only_for: Some(["x".to_owned()].into()), ..pool("a", &[("10.0.0.1", "10.0.0.2")]) };
        let mut pools = Pools::new(vec![own]);
        assert_eq!(pools.allocate(true, Some("a"), "y"), None);
        assert_eq!(pools.check(addr("10.0.0.1"), None, "y"), Err(Refusal::Outside));
        assert_eq!(pools.allocate(true, None, "x"), Some(addr("10.0.0.1")));
    }

    #[test]
    fn a_resting_address_is_given_last() {
        let mut pools = Pools::new(vec![pool("a", &[("10.0.0.1", "10.0.0.3")])]);
        pools.rest(addr("10.0.0.1"));
        assert_eq!(drain(&mut pools, true, None), ["10.0.0.2", "10.0.0.3", "10.0.0.1"].map(addr));
    }

    proptest! {
        #[test]
        fn no_address_is_given_twice_and_all_are_of_a_pool(
            claims in prop::collection::vec(0u8..40, 0..20), rests in prop::collection::vec(0u8..40, 0..20)
        ) {
            let mut pools = Pools::new(vec![pool("a", &[("10.0.0.4", "10.0.0.9")]), pool("b", &[("10.0.0.20", "10.0.0.30")])]);
            let all = pools.all().to_vec();
            let at = |n: u8| IpAddr::from([10, 0, 0, n]);
            claims.iter().for_each(|n| pools.claim(at(*n), "claimed"));
            rests.iter().for_each(|n| pools.rest(at(*n)));
            let mut seen: BTreeSet<IpAddr> = claims.iter().map(|n| at(*n)).collect();
            while let Some(given) = pools.allocate(true, None, "x") {
                prop_assert!(all.iter().any(|pool| pool.contains(given)));
                prop_assert!(seen.insert(given));
            }
            let left = (0..40).map(at).filter(|a| all.iter().any(|pool| pool.contains(*a)) && !seen.contains(a)).count();
            prop_assert_eq!(left, 0);
        }
    }
}
