//! The clock that all processes of a machine share, as [`std::time::Instant`] has it without saying so.

use std::time::Duration;

/// Time since some moment of this boot, the same for every process. clock_gettime(2) with CLOCK_MONOTONIC; needed because the
/// standard library shows only differences, and `/proc/uptime` may be a container's own.
pub(crate) fn since_boot() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer refers to one `timespec`, which the call fills in.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    // It fails for clocks that do not exist, and this one does.
    debug_assert_eq!(result, 0);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
