//! What the underlay does to a datagram on its way from one node to another.
//!
//! A link decides by its own seeded generator and holds nothing back: it answers with the copies that arrive, each with its
//! delay and, if it was hit, the bit that is flipped. Later traffic overtakes a copy that was reordered.

use super::random::Random;
use std::time::Duration;

/// How a link misbehaves. Probabilities are per thousand frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Delay of every frame.
    pub delay: Duration,
    /// Up to this much is added at random.
    pub jitter: Duration,
    /// Frames that vanish.
    pub loss: u16,
    /// Frames that arrive twice.
    pub duplicate: u16,
    /// Frames that are held back by [`LinkConfig::reorder_delay`].
    pub reorder: u16,
    /// How long they are held back.
    pub reorder_delay: Duration,
    /// Frames with one flipped bit.
    pub corrupt: u16,
    /// Largest IP packet; larger ones vanish, as on a path that hides its ICMP errors.
    pub mtu: u16,
    /// Nothing passes.
    pub partitioned: bool,
}

impl Default for LinkConfig {
    /// A link without faults.
    fn default() -> LinkConfig {
        LinkConfig {
            delay: Duration::from_micros(50),
            jitter: Duration::ZERO,
            loss: 0,
            duplicate: 0,
            reorder: 0,
            reorder_delay: Duration::from_micros(500),
            corrupt: 0,
            mtu: 1_500,
            partitioned: false,
        }
    }
}

impl LinkConfig {
    /// The longest time that a frame may be under way.
    pub fn flight_max(&self) -> Duration {
        self.delay + self.jitter + self.reorder_delay
    }
}

/// What became of the frames that a link was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Frames handed in.
    pub sent: u64,
    /// Copies that arrive, corrupt ones included.
    pub arriving: u64,
    /// Frames lost at random or by a partition.
    pub lost: u64,
    /// Frames larger than the MTU.
    pub too_big: u64,
    /// Extra copies.
    pub duplicated: u64,
    /// Copies with a flipped bit.
    pub corrupted: u64,
}

/// One copy that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) after: Duration,
    /// A number to choose the flipped bit by.
    pub(super) corrupt: Option<u64>,
}

/// One direction between two nodes.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) config: LinkConfig,
    pub(super) counters: LinkCounters,
    random: Random,
}

impl Link {
    pub(super) fn new(config: LinkConfig, random: Random) -> Link {
        Link { config, counters: LinkCounters::default(), random }
    }

    /// The copies of an IP packet of `ip_len` bytes that arrive.
    pub(super) fn carry(&mut self, ip_len: usize) -> impl Iterator<Item = Arrival> + use<> {
        self.counters.sent += 1;
        let copies = if ip_len > usize::from(self.config.mtu) {
            self.counters.too_big += 1;
            0
        } else if self.config.partitioned || self.random.chance(self.config.loss) {
            self.counters.lost += 1;
            0
        } else if self.random.chance(self.config.duplicate) {
            self.counters.duplicated += 1;
            2
        } else {
            1
        };
        let arrivals = [0, 1].map(|copy| (copy < copies).then(|| self.arrival()));
        arrivals.into_iter().flatten()
    }

    fn arrival(&mut self) -> Arrival {
        self.counters.arriving += 1;
        let jitter = self.random.below(self.config.jitter.as_nanos() as u64 + 1);
        let held = if self.random.chance(self.config.reorder) { self.config.reorder_delay } else { Duration::ZERO };
        let corrupt = self.random.chance(self.config.corrupt).then(|| self.random.next());
        self.counters.corrupted += u64::from(corrupt.is_some());
        Arrival { after: self.config.delay + Duration::from_nanos(jitter) + held, corrupt }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn carry(config: LinkConfig, frames: usize) -> (Vec<Arrival>, LinkCounters) {
        let mut link = Link::new(config, Random::new(7));
        let arrivals = (0..frames).flat_map(|_| link.carry(1_000).collect::<Vec<_>>()).collect();
        (arrivals, link.counters)
    }

    #[test]
    fn a_link_without_faults_carries_everything_in_order() {
        let (arrivals, counters) = carry(LinkConfig::default(), 100);
        assert_eq!((arrivals.len(), counters.sent, counters.arriving), (100, 100, 100));
        assert!(arrivals.iter().all(|a| a.after == Duration::from_micros(50) && a.corrupt.is_none()));
    }

    #[test]
    fn faults_happen_about_as_often_as_asked_and_the_counters_balance() {
        let config = LinkConfig { loss: 100, duplicate: 100, reorder: 100, corrupt: 100, ..LinkConfig::default() };
        let (arrivals, counters) = carry(config, 10_000);
        assert_eq!(counters.arriving, arrivals.len() as u64);
        assert_eq!(counters.sent + counters.duplicated, counters.arriving + counters.lost);
        assert!((800..1_200).contains(&counters.lost) && (800..1_200).contains(&counters.duplicated), "{counters:?}");
        assert!((800..1_200).contains(&counters.corrupted), "{counters:?}");
    }

    #[test]
    fn what_is_larger_than_the_mtu_and_everything_in_a_partition_vanishes() {
        assert_eq!(carry(LinkConfig { mtu: 999, ..LinkConfig::default() }, 5).1.too_big, 5);
        assert_eq!(carry(LinkConfig { partitioned: true, ..LinkConfig::default() }, 5).1.lost, 5);
    }
}
