//! How many descriptors this process and its threads may have open.

use std::io;

/// Asks for `wanted` open descriptors, of which every process with CAP_SYS_RESOURCE may have so many (`fs.nr_open` is a
/// million), else for as many as the hard limit allows. Needed because the standard library offers
/// neither of the calls.
pub(crate) fn raise_descriptors_max(wanted: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer refers to one `rlimit`, which the call fills in.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let wanted = wanted.max(limit.rlim_cur);
    let above = libc::rlimit { rlim_cur: wanted, rlim_max: limit.rlim_max.max(wanted) };
    let within = libc::rlimit { rlim_cur: limit.rlim_max.min(wanted), ..limit };
    for raised in [above, within] {
        // SAFETY: the pointer refers to one `rlimit`, which the call reads.
        let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) };
        if result == 0 {
            return Ok(());
        }
    }
    Err(io::Error::last_os_error())
}

/// Gives the calling thread a table of descriptors of its own, empty but for the three standard streams: the limit then counts
/// for it alone. close_range(2) with CLOSE_RANGE_UNSHARE (Linux 5.9); needed because no library offers it.
///
/// The thread must not touch, and not drop, anything that holds a descriptor from before; what it opens from here on must not
/// leave it. The other threads keep theirs.
pub(crate) fn leave_descriptors() -> io::Result<()> {
    const CLOSE_RANGE_UNSHARE: libc::c_uint = 1 << 1;
    const FIRST: libc::c_uint = 3;
    // SAFETY: the call takes no pointers. It changes the table of this thread only, after having copied it, so that no
    // descriptor that other code owns is closed under it.
    let result = unsafe { libc::syscall(libc::SYS_close_range, FIRST, libc::c_uint::MAX, CLOSE_RANGE_UNSHARE) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
