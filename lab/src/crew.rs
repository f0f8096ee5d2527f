//! A few threads that do the same job, each until nothing of it is left.

use crate::error::{LabError, Result};
use std::thread::Builder;

/// Runs `job` on up to `size` threads and waits for all. Where the system gives fewer, fewer do all of it.
pub(crate) fn run(size: usize, job: impl Fn() + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        for number in 0..size {
            match Builder::new().spawn_scoped(scope, &job) {
                Ok(_) => {}
                Err(_) if number > 0 => break,
                Err(e) => return Err(no_thread(e)),
            }
        }
        Ok(())
    })
}

/// Why a thread could not be started.
pub(crate) fn no_thread(error: std::io::Error) -> LabError {
    LabError::io("cannot start a thread (a limit of processes: ulimit -u, in a container --pids-limit)", error)
}
