//! Being process 1 of a container.
//!
//! The kernel gives process 1 no default action for signals, so `docker stop` and Ctrl-C would do nothing to a command that
//! handles none.

use crate::crew::no_thread;
use crate::error::{LabError, Result};
use nix::sys::signal::{SigSet, Signal};

/// Ends this process by the signals that end any other, if it is process 1 of its PID namespace.
///
/// Call it before other threads are started. Commands that the process starts get the signals as usual.
pub fn obey_signals() -> Result<()> {
    if std::process::id() != 1 {
        return Ok(());
    }
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    signals.thread_block().map_err(|e| LabError::io("signals", e))?;
    let wait = move || {
        if let Ok(signal) = signals.wait() {
            std::process::exit(128 + signal as i32);
        }
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait).map(drop).map_err(no_thread)
}
