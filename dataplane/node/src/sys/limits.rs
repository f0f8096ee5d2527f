//! How many descriptors this process may have open.

use std::io;

/// Asks for `wanted` open descriptors, of which every process with CAP_SYS_RESOURCE may have so many (`fs.nr_open` is a
/// million), else for as many as the hard limit allows; gives the limit in force. Needed because the standard library offers
/// neither of the calls.
pub(crate) fn raise_descriptors_max(wanted: u64) -> io::Result<u64> {
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
            return Ok(raised.rlim_cur);
        }
    }
    Ok(limit.rlim_cur)
}
