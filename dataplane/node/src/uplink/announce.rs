//! Tells the neighbors on the underlay which addresses this node answers for, as MetalLB's layer 2 mode does.
//!
//! The switch answers who asks; here those are told that remember another node. An announcement may get lost, so it is repeated
//! a few times.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use wire::{MacAddr, build};

/// When an address is announced, counted from when this node took it over.
const REPEATS: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1), Duration::from_secs(3)];

/// What is announced, and what is still to be said.
#[derive(Debug, Default)]
pub(crate) struct Announcer {
    addresses: BTreeSet<IpAddr>,
    due: Vec<(Instant, IpAddr)>,
}

impl Announcer {
    /// The addresses that are announced.
    pub(crate) fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// Announces exactly `addresses` from now on; those that are new are told.
    pub(crate) fn set(&mut self, now: Instant, addresses: BTreeSet<IpAddr>) {
        self.due.retain(|(_, address)| addresses.contains(address));
        let fresh: Vec<IpAddr> = addresses.difference(&self.addresses).copied().collect();
        self.addresses = addresses;
        self.repeat(now, fresh);
    }

    /// Tells all addresses again: the interface is another.
    pub(crate) fn repeat_all(&mut self, now: Instant) {
        self.due.clear();
        self.repeat(now, self.addresses.iter().copied().collect());
    }

    fn repeat(&mut self, now: Instant, addresses: Vec<IpAddr>) {
        let at = |address| REPEATS.map(|after| (now + after, address));
        self.due.extend(addresses.into_iter().flat_map(at));
    }

    /// The addresses that are to be told now.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<IpAddr> {
        let mut due = Vec::new();
        self.due.retain(|(at, address)| {
            let is_due = *at <= now;
            if is_due {
                due.push(*address);
            }
            !is_due
        });
        due
    }

    /// When something is to be told next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.iter().map(|(at, _)| *at).min()
    }
}

/// The frame that tells where `address` is: a gratuitous ARP (RFC 5227 §3) or an unsolicited neighbor advertisement
/// (RFC 4861 §7.2.6).
pub(crate) fn announcement(mac: MacAddr, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => build::arp_announcement(mac, address),
        IpAddr::V6(address) => build::neighbor_announcement(mac, address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_address_is_told_several_times_and_a_known_one_not_again() {
        let (a, b) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let now = Instant::now();
        let mut announcer = Announcer::default();
        announcer.set(now, [a].into());
        assert_eq!(announcer.take_due(now), [a]);
        assert!(announcer.take_due(now).is_empty());
        assert_eq!(announcer.next(), Some(now + REPEATS[1]));
        announcer.set(now, [a, b].into());
        assert_eq!(announcer.take_due(now), [b]);
        announcer.set(now, [b].into());
        assert_eq!(announcer.take_due(now + REPEATS[3]), [b; 3], "a is no longer ours");
        assert_eq!(announcer.next(), None);
        announcer.repeat_all(now);
        assert_eq!(announcer.take_due(now), [b]);
    }
}
