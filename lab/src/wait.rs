//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Between two looks at a condition that nobody announces. Short against what a person notices, long against the cost of
/// reading a file in /proc.
const POLL: Duration = Duration::from_millis(5);

/// Waits until `condition` holds; false when `patience` ran out.
pub(crate) fn until(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        std::thread::sleep(POLL.min(left));
    }
}
