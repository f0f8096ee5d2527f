//! Answers the shard's question where packets for an address go, and tells when an answer has changed.
//!
//! Only neighbors that the kernel knows are answered: what is unknown is sent through the kernel, which makes it ask, and its
//! event then tells the MAC.

use super::next_hops::NextHop;
use crate::netlink::{Hop, Netlink};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use wire::MacAddr;

/// Destinations that are watched; with more all are forgotten, and asked for again by the shard.
const DESTINATIONS_MAX: usize = 65_536;

/// The neighbors that answers were given about.
#[derive(Default)]
pub(crate) struct Resolver {
    neighbors: HashMap<Hop, Neighbor>,
    destinations: usize,
}

#[derive(Default)]
struct Neighbor {
    mac: Option<MacAddr>,
    destinations: HashSet<IpAddr>,
}

impl Resolver {
    /// Where packets for `destination` go; `None` if that shows only when the kernel has asked. `is_ours` says whether the uplink
    /// has a socket on an interface.
    pub(crate) fn resolve(
        &mut self,
        netlink: &mut Netlink,
        destination: IpAddr,
        is_ours: impl Fn(u32) -> bool,
    ) -> Option<NextHop> {
        let hop = match netlink.next_hop(destination) {
            Ok(Some(hop)) if is_ours(hop.link) => hop,
            // Through another interface, or nowhere: the kernel knows.
            _ => return Some(NextHop::Kernel),
        };
        let mac = netlink.neighbor(hop).unwrap_or(None);
        if self.destinations >= DESTINATIONS_MAX {
            self.forget_all();
        }
        let neighbor = self.neighbors.entry(hop).or_default();
        neighbor.mac = mac;
        self.destinations += usize::from(neighbor.destinations.insert(destination));
        mac.map(|mac| NextHop::Neighbor { link: hop.link, mac })
    }

    /// Takes what the kernel said about a neighbor; gives the destinations behind it if their answer has changed.
    pub(crate) fn notice(&mut self, hop: Hop, mac: Option<MacAddr>) -> Option<(NextHop, &HashSet<IpAddr>)> {
        let neighbor = self.neighbors.get_mut(&hop).filter(|neighbor| neighbor.mac != mac)?;
        neighbor.mac = mac;
        let answer = mac.map_or(NextHop::Kernel, |mac| NextHop::Neighbor { link: hop.link, mac });
        Some((answer, &neighbor.destinations))
    }

    /// Forgets everything: routes or interfaces have changed.
    pub(crate) fn forget_all(&mut self) {
        self.neighbors.clear();
        self.destinations = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_changed_mac_is_news() {
        let hop = Hop { link: 2, via: [192, 0, 2, 1].into() };
        let mac = MacAddr([2; 6]);
        let destinations = HashSet::from([IpAddr::from([198, 51, 100, 1])]);
        let mut resolver = Resolver::default();
        resolver.neighbors.insert(hop, Neighbor { mac: None, destinations: destinations.clone() });
        assert_eq!(resolver.notice(Hop { link: 3, ..hop }, Some(mac)), None, "nobody asked");
        let known = NextHop::Neighbor { link: 2, mac };
        assert_eq!(resolver.notice(hop, Some(mac)), Some((known, &destinations)));
        assert_eq!(resolver.notice(hop, Some(mac)), None);
        assert_eq!(resolver.notice(hop, None), Some((NextHop::Kernel, &destinations)));
    }
}
