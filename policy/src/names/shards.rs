//! Sorted lists in shards, each copied only when it changes: between two generations of tables everything else is shared, and a
//! change costs the list that it falls into, however much there is in the others.

use crate::stable_hash::StableHasher;
use std::hash::Hasher;
use std::sync::Arc;

/// `COUNT` lists; which one something is in, its hash decides.
#[derive(Clone, Debug)]
pub(super) struct Shards<T, const COUNT: usize> {
    shards: Arc<[Arc<Vec<T>>]>,
}

impl<T: Clone, const COUNT: usize> Shards<T, COUNT> {
    pub(super) fn new() -> Shards<T, COUNT> {
        let empty = Arc::default();
        Shards { shards: std::iter::repeat_n(empty, COUNT).collect() }
    }

    pub(super) fn of(&self, hash: u64) -> &[T] {
        &self.shards[hash as usize % COUNT]
    }

    pub(super) fn of_mut(&mut self, hash: u64) -> &mut Vec<T> {
        let shards = Arc::make_mut(&mut self.shards);
        Arc::make_mut(&mut shards[hash as usize % COUNT])
    }

    #[cfg(test)]
    pub(super) fn unshared(&self, other: &Shards<T, COUNT>) -> usize {
        self.shards.iter().zip(other.shards.iter()).filter(|(one, other)| !Arc::ptr_eq(one, other)).count()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = StableHasher::default();
    hasher.write(bytes);
    hasher.finish()
}
