//! One watched root: a folder or a single file, the watches on it, and what was last found there.
//!
//! [`Watched::look`] hands out what the files that changed hold; [`wait`] waits for several roots at once.

use super::tree::{Content, Tree};
use super::watch::{Seen, Watcher};
use crate::source::{DELAY_MAX, Digest, LOOK_EVERY, SETTLE, Wake};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policy::objects::{Leniency, Problem};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A watched root.
pub(crate) struct Watched {
    root: PathBuf,
    watcher: Watcher,
    tree: Tree,
    /// What happened since the last look.
    pub(super) seen: Seen,
}

impl Watched {
    /// Watches `root`, which need not exist yet, from the first look on. Its files are called as if it was at `shown`.
    pub(crate) fn open(root: &Path, shown: &Path, leniency: Leniency) -> io::Result<Watched> {
        let root = std::path::absolute(root)?;
        let seen = Seen { everywhere: true, ..Seen::default() };
        Ok(Watched { root, watcher: Watcher::new()?, tree: Tree::new(shown, leniency), seen })
    }

    /// Looks at what may have changed; `take` gets what each changed file holds. Whether anything is other than at the last
    /// look: a problem may be.
    pub(crate) fn look(&mut self, take: &mut dyn FnMut(Content)) -> bool {
        // What has happened up to here is seen by this look, what happens from here on is reported again.
        if self.watcher.drain(&mut self.seen).is_err() {
            self.seen.everywhere = true;
        }
        let seen = std::mem::take(&mut self.seen);
        self.tree.refresh(&self.root, seen, &mut self.watcher, take)
    }

    /// All problems, by file.
    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.tree.problems()
    }

    /// What the files hold.
    pub(crate) fn digest(&self) -> Digest {
        self.tree.digest()
    }

    /// Whether a file was read, ever.
    pub(crate) fn has_read(&self) -> bool {
        self.tree.has_read()
    }
}

/// Waits until one of `roots` may have changed and has settled, or until `stop` is readable.
pub(crate) fn wait(roots: &mut [Watched], stop: BorrowedFd<'_>) -> io::Result<Wake> {
    let mut burst: Option<Instant> = None;
    loop {
        let timeout = match burst {
            None => LOOK_EVERY,
            Some(began) => SETTLE.min(DELAY_MAX.saturating_sub(began.elapsed())),
        };
        let (happened, stopped) = poll_all(roots, stop, timeout)?;
        if stopped {
            return Ok(Wake::Stop);
        }
        let mut counts = false;
        if happened {
            for root in roots.iter_mut() {
                counts |= root.watcher.drain(&mut root.seen)?;
            }
        }
        match burst {
            None if counts => burst = Some(Instant::now()),
            None if happened => {}
            None => {
                roots.iter_mut().for_each(|root| root.seen.everywhere = true);
                return Ok(Wake::Look);
            }
            Some(began) if !counts || began.elapsed() >= DELAY_MAX => return Ok(Wake::Look),
            Some(_) => {}
        }
    }
}

/// Whether something happened to a root, and whether `stop` is readable.
fn poll_all(roots: &[Watched], stop: BorrowedFd<'_>, timeout: Duration) -> io::Result<(bool, bool)> {
    let timeout_ms = timeout.as_millis().max(1) as u16;
    let watchers = roots.iter().map(|root| root.watcher.as_fd());
    let mut fds: Vec<PollFd<'_>> = watchers.chain([stop]).map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, PollTimeout::from(timeout_ms)) {
        Ok(_) | Err(nix::Error::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
    let (stop, watchers) = fds.split_last().expect("stop is among them");
    Ok((watchers.iter().any(is_ready), is_ready(stop)))
}
