//! How many descriptors this process may have open.

use std::io;

/// Raises the soft limit of open descriptors to the hard one; gives the limit in force. Needed because the standard library
/// offers neither of the calls.
pub(crate) fn raise_descriptors_max() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer refers to one `rlimit`, which the call fills in.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
    // SAFETY: the pointer refers to one `rlimit`, which the call reads.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) };
    Ok(if result < 0 { limit.rlim_cur } else { raised.rlim_cur })
}
