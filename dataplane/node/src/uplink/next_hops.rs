//! Where packets for an address go: a cache of what the kernel would do, filled by the keeper.
//!
//! A destination that is not known, or not known for certain any more, is asked for, and until the answer is there its packets go
//! through a socket of the kernel, which looks up the route and asks for the neighbor as it always does. So a packet is never
//! held back, and the kernel's own reachability checks (RFC 4861 §7.3) go on: every destination passes through the kernel
//! once per [`TRUSTED`].

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use wire::{Instant, MacAddr};

/// How long an answer is used before it is asked for again. The keeper tells changes at once; this is for neighbors that went
/// away without a word, which only the kernel's own sending finds out.
const TRUSTED: Duration = Duration::from_secs(10);

/// How long to wait for an answer before asking again.
const PATIENCE: Duration = Duration::from_millis(200);

/// Destinations that are remembered, at about 48 bytes each. When they are more, all are forgotten and asked for again.
const DESTINATIONS_MAX: usize = 65_536;

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextHop {
    /// To this MAC through the interface with this number.
    Neighbor { link: u32, mac: MacAddr },
    /// Through a socket of the kernel: the neighbor is not known, or the route leads elsewhere.
    Kernel,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    hop: NextHop,
    until: Instant,
}

/// What is known of the next hops.
#[derive(Debug, Default)]
pub(crate) struct NextHops {
    known: HashMap<IpAddr, Entry>,
}

impl NextHops {
    /// How packets for `destination` leave now, and whether the keeper has to be asked.
    pub(crate) fn find(&mut self, now: Instant, destination: IpAddr) -> (NextHop, bool) {
        match self.known.get(&destination) {
            Some(entry) if now < entry.until => (entry.hop, false),
            _ => {
                self.insert(destination, Entry { hop: NextHop::Kernel, until: now + PATIENCE });
                (NextHop::Kernel, true)
            }
        }
    }

    /// Takes an answer of the keeper.
    pub(crate) fn learn(&mut self, now: Instant, destination: IpAddr, hop: NextHop) {
        self.insert(destination, Entry { hop, until: now + TRUSTED });
    }

    /// Forgets everything: routes or interfaces have changed.
    pub(crate) fn forget_all(&mut self) {
        self.known.clear();
    }

    fn insert(&mut self, destination: IpAddr, entry: Entry) {
        if self.known.len() >= DESTINATIONS_MAX && !self.known.contains_key(&destination) {
            self.known.clear();
        }
        self.known.insert(destination, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const HOP: NextHop = NextHop::Neighbor { link: 2, mac: MacAddr([2; 6]) };

    fn at(millis: u64) -> Instant {
        Instant::from_millis(millis)
    }

    #[test]
    fn an_unknown_destination_is_asked_for_once_and_goes_through_the_kernel() {
        let mut hops = NextHops::default();
        assert_eq!(hops.find(at(0), A), (NextHop::Kernel, true));
        assert_eq!(hops.find(at(199), A), (NextHop::Kernel, false));
        assert_eq!(hops.find(at(200), A), (NextHop::Kernel, true), "nobody answered");
    }

    #[test]
    fn an_answer_is_trusted_for_a_while() {
        let mut hops = NextHops::default();
        hops.learn(at(0), A, HOP);
        assert_eq!(hops.find(at(9_999), A), (HOP, false));
        assert_eq!(hops.find(at(10_000), A), (NextHop::Kernel, true));
        hops.learn(at(10_001), A, HOP);
        hops.forget_all();
        assert_eq!(hops.find(at(10_002), A), (NextHop::Kernel, true));
    }

    #[test]
    fn the_cache_is_bounded() {
        let mut hops = NextHops::default();
        for n in 0..=DESTINATIONS_MAX as u32 {
            hops.learn(at(0), Ipv4Addr::from_bits(n).into(), HOP);
        }
        assert_eq!(hops.known.len(), 1);
    }
}
