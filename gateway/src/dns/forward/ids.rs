//! Numbers that nobody can guess.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// A keyed hash (SipHash, by a key of the system's randomness) of a counter: who has seen all numbers so far cannot tell the
/// next.
#[derive(Debug, Default)]
pub(super) struct Ids {
    key: RandomState,
    counter: AtomicU64,
}

impl Ids {
    pub(super) fn next(&self) -> u16 {
        self.next_u64() as u16
    }

    pub(super) fn next_u64(&self) -> u64 {
        self.key.hash_one(self.counter.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_are_spread_over_all_values_and_differ_between_processes() {
        let ids = Ids::default();
        let drawn: Vec<u16> = (0..4096).map(|_| ids.next()).collect();
        // Of 4096 draws out of 65536 about 3970 are different.
        let different = drawn.iter().collect::<HashSet<_>>().len();
        assert!((3850..=4050).contains(&different), "{different}");
        assert!(drawn.windows(2).filter(|pair| pair[1] == pair[0].wrapping_add(1)).count() < 10);
        let other = Ids::default();
        assert_ne!((0..8).map(|_| other.next()).collect::<Vec<_>>(), drawn[..8]);
    }
}
