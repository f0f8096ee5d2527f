//! The signals that end a process: SIGTERM and SIGINT, as something that can be waited for.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Readable once the process was told to end.
#[derive(Debug)]
pub struct Stop {
    signals: SignalFd,
}

impl Stop {
    /// Receives the signals from here on. To be called from the main thread before there are others: the signals are
    /// blocked for all.
    pub fn on_signals() -> io::Result<Stop> {
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGTERM);
        signals.add(Signal::SIGINT);
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Stop { signals })
    }

    /// Blocks until the process was told to end.
    pub fn wait(&self) -> io::Result<()> {
        loop {
            let mut files = [PollFd::new(self.as_fd(), PollFlags::POLLIN)];
            match poll(&mut files, PollTimeout::NONE) {
                Err(Errno::EINTR) => {}
                done => return Ok(done.map(drop)?),
            }
        }
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}
