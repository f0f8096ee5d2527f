//! What happens next: a queue ordered by virtual time, and by order of arrival where times are equal.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use wire::Instant;

struct Entry<T> {
    at: Instant,
    sequence: u64,
    event: T,
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Entry<T>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Entry<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    /// The heap gives its greatest entry first, so the earliest is the greatest.
    fn cmp(&self, other: &Entry<T>) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

/// Events to come.
pub(super) struct Events<T> {
    heap: BinaryHeap<Entry<T>>,
    sequence: u64,
}

impl<T> Events<T> {
    /// Nothing to come.
    pub(super) fn new() -> Events<T> {
        Events { heap: BinaryHeap::new(), sequence: 0 }
    }

    /// `event` happens at `at`.
    pub(super) fn push(&mut self, at: Instant, event: T) {
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, event });
    }

    /// The next event if it happens at `until` at the latest.
    pub(super) fn pop_until(&mut self, until: Instant) -> Option<(Instant, T)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_by_order() {
        let mut events = Events::new();
        for (at, name) in [(5, "c"), (1, "a"), (5, "d"), (2, "b"), (9, "late")] {
            events.push(Instant::from_nanos(at), name);
        }
        let order: Vec<_> = std::iter::from_fn(|| events.pop_until(Instant::from_nanos(5))).map(|(_, e)| e).collect();
        assert_eq!(order, ["a", "b", "c", "d"]);
    }
}
