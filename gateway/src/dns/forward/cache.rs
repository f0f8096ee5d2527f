//! What upstreams answered, for as long as they allow.
//!
//! Bounded by entries and bytes; who comes when it is full takes the place of one that has expired, or else of the least
//! recently used among a few that are looked at. Cut into parts with a lock each, so that threads that answer from it meet
//! seldom.

use super::question::Key;
use super::stored::Stored;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

/// Parts; several times the threads of a process.
const PARTS: usize = 16;

/// Answers that are remembered, as CoreDNS does.
pub(super) const ENTRIES_MAX: usize = 9984;

/// Bytes of them: an answer has a few hundred, but an upstream may send 64 KiB each time.
pub(super) const BYTES_MAX: usize = 32 << 20;

/// Entries that are compared to find the one that goes; Redis found that ten come close to the least recently used of all.
const CANDIDATES: usize = 10;

/// Remembered answers.
#[derive(Debug)]
pub(super) struct Cache {
    parts: [Mutex<Part>; PARTS],
    hasher: RandomState,
}

#[derive(Debug)]
struct Part {
    places: HashMap<Box<[u8]>, usize>,
    entries: Vec<Entry>,
    bytes: usize,
    /// Counts uses.
    clock: u64,
    /// Where the next search for a victim begins.
    hand: usize,
    entries_max: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    key: Box<[u8]>,
    stored: Arc<Stored>,
    expires: Instant,
    used: u64,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.stored.bytes() + 2 * self.key.len() + size_of::<Entry>()
    }
}

impl Cache {
    /// An empty cache.
    pub(super) fn new() -> Cache {
        Cache::with_limits(ENTRIES_MAX, BYTES_MAX)
    }

    fn with_limits(entries_max: usize, bytes_max: usize) -> Cache {
        let part = |_| {
            Mutex::new(Part {
                places: HashMap::new(),
                entries: Vec::new(),
                bytes: 0,
                clock: 0,
                hand: 0,
                entries_max: entries_max / PARTS,
                bytes_max: bytes_max / PARTS,
            })
        };
        Cache { parts: std::array::from_fn(part), hasher: RandomState::new() }
    }

    /// What is remembered under `key`.
    pub(super) fn find(&self, key: &Key, now: Instant) -> Option<Arc<Stored>> {
        let mut part = self.part(key);
        let place = *part.places.get(key.as_bytes())?;
        if part.entries[place].expires <= now {
            part.remove(place);
            return None;
        }
        part.clock += 1;
        let used = part.clock;
        let entry = &mut part.entries[place];
        entry.used = used;
        Some(entry.stored.clone())
    }

    /// Remembers an answer, if that is allowed, in place of what was there.
    pub(super) fn insert(&self, key: &Key, stored: Arc<Stored>, now: Instant) {
        let Some(expires) = stored.expires().filter(|expires| *expires > now) else { return };
        let mut part = self.part(key);
        if let Some(place) = part.places.get(key.as_bytes()).copied() {
            part.remove(place);
        }
        part.clock += 1;
        let entry = Entry { key: key.as_bytes().into(), stored, expires, used: part.clock };
        if entry.bytes() > part.bytes_max {
            return;
        }
        while part.entries.len() >= part.entries_max || part.bytes + entry.bytes() > part.bytes_max {
            let victim = part.victim(now);
            part.remove(victim);
        }
        part.bytes += entry.bytes();
        let place = part.entries.len();
        part.places.insert(entry.key.clone(), place);
        part.entries.push(entry);
    }

    /// Number of answers, those that have expired included.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).entries.len()).sum()
    }

    fn part(&self, key: &Key) -> MutexGuard<'_, Part> {
        lock(&self.parts[self.hasher.hash_one(key.as_bytes()) as usize % PARTS])
    }
}

/// Nothing panics with the lock held; if something did, what it left is complete but for its size.
fn lock(part: &Mutex<Part>) -> MutexGuard<'_, Part> {
    part.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Part {
    fn remove(&mut self, place: usize) {
        let entry = self.entries.swap_remove(place);
        self.bytes -= entry.bytes();
        self.places.remove(&entry.key);
        if let Some(moved) = self.entries.get(place) {
            *self.places.get_mut(&moved.key).expect("every entry has its place") = place;
        }
    }

    /// The entry that goes; there is one.
    fn victim(&mut self, now: Instant) -> usize {
        let count = self.entries.len();
        let candidates = (0..CANDIDATES.min(count)).map(|step| (self.hand + step) % count);
        let rank = |place: &usize| {
            let entry = &self.entries[*place];
            (entry.expires > now, entry.used)
        };
        let victim = candidates.min_by_key(rank).expect("a full part has entries");
        self.hand = (self.hand + CANDIDATES) % count;
        victim
    }
}

#[cfg(test)]
mod tests;
