//! Does something in another network namespace.
//!
//! A TAP and a netlink socket belong to the namespace in which they were opened, and `/proc/sys/net` shows the reader's. So
//! that no other thread ever runs in the wrong place, a short-lived thread of its own enters the namespace.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::thread;

/// Runs `work` on a thread inside the network namespace at `path`. The outer error is that of entering; the inner value is
/// what `work` returned.
pub(crate) fn within<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let namespace = File::open(path)?;
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("podplane-netns".to_owned()).spawn_scoped(scope, || {
            enter(namespace.as_fd())?;
            Ok(work())
        })?;
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// setns(2) for a network namespace. Needed because the standard library does not offer it. Affects the calling thread only.
fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call; the call touches no memory of this process.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
