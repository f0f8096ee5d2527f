//! Maglev consistent hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4): a table that spreads hashes evenly over backends, that every node builds alike, and of which little changes
//! when a backend comes or goes. So two nodes choose the same backend for a flow that may enter at either.
//!
//! Every backend has a permutation of the table's slots of its own. The backends take turns: each takes the next free slot of
//! its permutation until none is left. The table has a prime number of slots, the next one from 100 for each backend on, so that
//! shares differ by about a percent, and at most 65,537 of them: 2 bytes each, so 128 KiB. With more than 655 backends shares
//! differ by more, at 6,553 by about a tenth.

use std::hash::Hasher;
use std::net::IpAddr;

/// Slots for each backend: the paper's M > 100 N keeps the largest share within a percent of the mean.
const SLOTS_PER_BACKEND: usize = 100;

/// Most slots: the paper's small table size, and what 16-bit positions can fill.
const SLOTS_MAX: usize = 65_537;

/// Most backends that a table tells apart; more have less than 7 slots each, and an even spread needs no table.
const BACKENDS_MAX: usize = 10_000;

/// The slots, each with the position of a backend.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Maglev {
    slots: Box<[u16]>,
}

impl Maglev {
    /// The table of `backends`, whose order does not matter to who gets which slot. `None` if a table decides nothing (fewer
    /// than two of them) or cannot be fair (too many).
    pub(crate) fn new(backends: impl Iterator<Item = (IpAddr, u16)>) -> Option<Maglev> {
        let mut backends: Vec<(IpAddr, u16, u16)> = backends
            .take(BACKENDS_MAX + 1)
            .zip(0u16..)
            .map(|((addr, port), position)| (addr, port, position))
            .collect();
        if !(2..=BACKENDS_MAX).contains(&backends.len()) {
            return None;
        }
        // The turns are taken in an order of the backends' own, so that a backend whose state changed upsets nobody.
        backends.sort_unstable();
        let size = size_for(backends.len());
        let mut turns: Vec<Turn> =
            backends.iter().map(|&(addr, port, position)| Turn::new(addr, port, position, size)).collect();
        let mut slots = vec![u16::MAX; size];
        let mut taken = 0;
        'rounds: loop {
            for turn in &mut turns {
                while slots[turn.slot] != u16::MAX {
                    turn.advance(size);
                }
                slots[turn.slot] = turn.position;
                taken += 1;
                if taken == size {
                    break 'rounds;
                }
            }
        }
        Some(Maglev { slots: slots.into() })
    }

    /// Position of the backend for `hash`, in the order that they were given.
    #[inline]
    pub(crate) fn pick(&self, hash: u64) -> usize {
        let slot = (u128::from(hash) * self.slots.len() as u128) >> 64;
        usize::from(self.slots[slot as usize])
    }
}

/// A backend's walk through its permutation.
struct Turn {
    slot: usize,
    skip: usize,
    position: u16,
}

impl Turn {
    fn new(addr: IpAddr, port: u16, position: u16, size: usize) -> Turn {
        let hash = hash_backend(addr, port);
        let slot = (hash >> 32) as usize % size;
        // From 1 to size - 1: prime to the size, so the walk visits every slot.
        let skip = (hash as u32) as usize % (size - 1) + 1;
        Turn { slot, skip, position }
    }

    fn advance(&mut self, size: usize) {
        self.slot += self.skip;
        if self.slot >= size {
            self.slot -= size;
        }
    }
}

/// A hash that is the same on every node and in every version.
fn hash_backend(addr: IpAddr, port: u16) -> u64 {
    let mut hasher = crate::stable_hash::StableHasher::default();
    match addr {
        IpAddr::V4(addr) => hasher.write(&addr.octets()),
        IpAddr::V6(addr) => hasher.write(&addr.octets()),
    }
    hasher.write(&port.to_be_bytes());
    hasher.finish()
}

/// The smallest prime from [`SLOTS_PER_BACKEND`] for each of `backends` on, at most [`SLOTS_MAX`].
fn size_for(backends: usize) -> usize {
    let wanted = (backends * SLOTS_PER_BACKEND).min(SLOTS_MAX);
    (wanted..=SLOTS_MAX).find(|size| is_prime(*size)).unwrap_or(SLOTS_MAX)
}

fn is_prime(number: usize) -> bool {
    number > 1 && (2..).take_while(|divisor| divisor * divisor <= number).all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests;
