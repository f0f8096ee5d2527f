//! How long to wait before the server is asked again.
//!
//! Each failure in a row doubles the wait, up to a maximum. All nodes of a cluster see the server go at the same moment, so each
//! waits a random part of that: otherwise they would come back as one crowd. A server that names a time is given that time.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A server that says when to come back is believed up to this; beyond, it would be a way to switch a node off.
const NAMED_MAX: Duration = Duration::from_secs(300);

/// The waits of one thing that is tried again and again.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits from `first` to `max`.
    pub(super) fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { first, max, failures: 0 }
    }

    /// What was tried works.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after one more failure; `named` is what the server asks for.
    pub(super) fn next(&mut self, named: Option<Duration>) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let wait = spread(doubled);
        named.map_or(wait, |named| wait.max(named.min(NAMED_MAX)))
    }
}

/// A random time between half of `time` and all of it.
pub(super) fn spread(time: Duration) -> Duration {
    let half = time / 2;
    // The standard library seeds its hashers from the system's randomness.
    let random = RandomState::new().hash_one(()) % (half.as_micros() as u64 + 1);
    half + Duration::from_micros(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_maximum_and_begin_anew_after_success() {
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(30));
        let mut backoff = Backoff::new(first, max);
        for doubled in [100u64, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
            let wait = backoff.next(None);
            let doubled = Duration::from_millis(doubled);
            assert!(wait >= doubled / 2 && wait <= doubled, "{wait:?} of {doubled:?}");
        }
        backoff.reset();
        assert!(backoff.next(None) <= first);
    }

    #[test]
    fn a_server_is_given_the_time_that_it_names_but_not_any_time() {
        let mut backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(1));
        assert_eq!(backoff.next(Some(Duration::from_secs(7))), Duration::from_secs(7));
        assert_eq!(backoff.next(Some(Duration::from_secs(u64::MAX))), NAMED_MAX);
    }

    #[test]
    fn nodes_do_not_come_back_as_one_crowd() {
        let wait = || Backoff::new(Duration::from_secs(30), Duration::from_secs(30)).next(None);
        let first = wait();
        assert!((0..50).any(|_| wait() != first));
    }
}
