//! Heartbeats between nodes: how one looks on the wire, and who counts as alive.
//!
//! # The datagram
//! ```text
//! "PPHB"  4 bytes   magic
//! 1       1 byte    version
//! kind    1 byte    1 the sender can announce addresses, 2 it is leaving
//! VNI     4 bytes   of its overlay, network order: clusters on one underlay do not mix
//! name    the rest  metadata.name of its Node
//! ```
//! A datagram counts when it comes from an address of the node that it names. That is as much as ARP itself can promise on a
//! shared link.
//!
//! # Who is alive
//! A node that was heard of within [`DEAD_AFTER`], or that may still be: during as long after the first look everybody is, so
//! that a node that starts does not take addresses from those that it has not heard yet. A node that says that it leaves is
//! gone at once.

use overlay::vxlan::Vni;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Time between two heartbeats.
pub(crate) const INTERVAL: Duration = Duration::from_millis(250);

/// Silence after which a node is taken for dead: three heartbeats may be lost, and with an interval on top an address moves well
/// within 2 s.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(1);

/// Longest datagram: a node's name is a DNS name of at most 253 bytes.
pub(crate) const DATAGRAM_BYTES_MAX: usize = HEADER_BYTES + 253;

const HEADER_BYTES: usize = 10;
const MAGIC: [u8; 4] = *b"PPHB";
const VERSION: u8 = 1;

/// What a node says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It can announce addresses.
    Alive,
    /// It ends, or can announce no longer.
    Leaving,
}

/// The datagram of node `name`.
pub(crate) fn encode(kind: Kind, vni: Vni, name: &str) -> Vec<u8> {
    let mut datagram = MAGIC.to_vec();
    datagram.push(VERSION);
    datagram.push(match kind {
        Kind::Alive => 1,
        Kind::Leaving => 2,
    });
    datagram.extend(vni.get().to_be_bytes());
    datagram.extend(name.as_bytes());
    datagram
}

/// Kind and name of a datagram of the cluster with `vni`; `None` if it is none.
pub(crate) fn decode(datagram: &[u8], vni: Vni) -> Option<(Kind, &str)> {
    let (header, name) = datagram.split_at_checked(HEADER_BYTES)?;
    let kind = match header[5] {
        1 => Kind::Alive,
        2 => Kind::Leaving,
        _ => return None,
    };
    let is_ours = header[..4] == MAGIC && header[4] == VERSION && header[6..] == vni.get().to_be_bytes();
    let name = std::str::from_utf8(name).ok()?;
    (is_ours && !name.is_empty()).then_some((kind, name))
}

/// When each of the other nodes was heard of.
#[derive(Debug)]
pub(crate) struct Liveness {
    /// Until then silence means nothing.
    grace_ends: Instant,
    heard: BTreeMap<String, Heard>,
}

#[derive(Clone, Copy, Debug)]
enum Heard {
    At(Instant),
    Left,
}

impl Liveness {
    /// Nobody was heard of yet; listening begins `now`.
    pub(crate) fn new(now: Instant) -> Liveness {
        Liveness { grace_ends: now + DEAD_AFTER, heard: BTreeMap::new() }
    }

    /// Takes note of a heartbeat.
    pub(crate) fn handle(&mut self, now: Instant, kind: Kind, name: &str) {
        let heard = match kind {
            Kind::Alive => Heard::At(now),
            Kind::Leaving => Heard::Left,
        };
        self.heard.insert(name.to_owned(), heard);
    }

    /// Forgets nodes that are no longer of the cluster.
    pub(crate) fn retain(&mut self, is_known: impl Fn(&str) -> bool) {
        self.heard.retain(|name, _| is_known(name));
    }

    /// Whether node `name` can be taken to announce what is its to announce.
    pub(crate) fn is_alive(&self, now: Instant, name: &str) -> bool {
        match self.heard.get(name) {
            Some(Heard::At(at)) => now < *at + DEAD_AFTER,
            Some(Heard::Left) => false,
            None => now < self.grace_ends,
        }
    }

    /// The nodes that were heard of lately.
    pub(crate) fn alive(&self, now: Instant) -> Vec<String> {
        self.heard.keys().filter(|name| self.is_alive(now, name)).cloned().collect()
    }

    /// When the next node is taken for dead if nothing more is heard.
    pub(crate) fn next_death(&self, now: Instant) -> Option<Instant> {
        let heard = self.heard.values().filter_map(|heard| match heard {
            Heard::At(at) => Some(*at + DEAD_AFTER),
            Heard::Left => None,
        });
        heard.chain([self.grace_ends]).filter(|death| *death > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vni(number: u32) -> Vni {
        Vni::new(number).unwrap()
    }

    #[test]
    fn a_heartbeat_reads_as_it_was_written_and_only_in_its_own_cluster() {
        let datagram = encode(Kind::Leaving, vni(7), "node1");
        assert_eq!(decode(&datagram, vni(7)), Some((Kind::Leaving, "node1")));
        assert_eq!(decode(&datagram, vni(8)), None);
        assert_eq!(decode(&encode(Kind::Alive, vni(7), ""), vni(7)), None);
        assert!(encode(Kind::Alive, vni(7), &"n".repeat(253)).len() <= DATAGRAM_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn no_datagram_does_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes, vni(1));
        }
    }

    #[test]
    fn silence_means_nothing_at_first_and_death_after_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut liveness = Liveness::new(start);
        assert!(liveness.is_alive(at(999), "a") && !liveness.is_alive(at(1000), "a"));
        liveness.handle(at(500), Kind::Alive, "b");
        assert_eq!(liveness.next_death(at(500)), Some(at(1000)), "of those that were never heard of");
        assert!(liveness.is_alive(at(1499), "b") && !liveness.is_alive(at(1500), "b"));
        assert_eq!((liveness.next_death(at(1200)), liveness.next_death(at(1500))), (Some(at(1500)), None));
        assert_eq!(liveness.alive(at(1200)), ["b"]);
    }

    #[test]
    fn who_says_good_bye_is_gone_at_once_and_may_come_back() {
        let start = Instant::now();
        let mut liveness = Liveness::new(start);
        liveness.handle(start, Kind::Leaving, "a");
        assert!(!liveness.is_alive(start, "a"));
        liveness.handle(start, Kind::Alive, "a");
        assert!(liveness.is_alive(start, "a"));
        liveness.retain(|name| name != "a");
        assert!(liveness.alive(start).is_empty());
    }
}
