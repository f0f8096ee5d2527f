//! Maglev consistent hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4): a table that spreads hashes evenly over backends, that every node builds alike, and of which little changes
//! when a backend comes or goes. So two nodes choose the same backend for a flow that may enter at either.
//!
//! Every backend has a permutation of the table's slots of its own. The backends take turns: each takes the next free slot of
//! its permutation until none is left. A table has a prime number of slots, at least 100 for each backend, so that shares differ
//! by about a percent; with more than 655 backends it stays at 65,537 and shares differ by more, at 6,553 by about a tenth. There
//! are few sizes, a factor of four apart: a table of another size is another table, and only a set of backends that outgrows its
//! size (or shrinks out of it) has to pay for that. A slot takes 2 bytes, so a table takes 0.8 to 128 KiB.

use std::hash::Hasher;
use std::net::IpAddr;

/// Numbers of slots, each prime and from 100 times 4, 16, 64 and 256 on: the paper's M > 100 N keeps the largest share within a
/// percent of the mean. The last is the paper's small table, and as many as 16-bit positions can fill.
const SIZES: [usize; 5] = [401, 1_601, 6_421, 25_601, 65_537];

/// Slots for each backend, as long as there is a size with that many.
const SLOTS_PER_BACKEND: usize = 100;

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

fn size_for(backends: usize) -> usize {
    let found = SIZES.into_iter().find(|size| *size >= backends * SLOTS_PER_BACKEND);
    found.unwrap_or(SIZES[SIZES.len() - 1])
}

#[cfg(test)]
mod tests;
