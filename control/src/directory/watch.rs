//! Tells that something under a folder may have changed, through inotify.
//!
//! It watches every folder of the tree, the folders above the root (for a root that is made, removed or swapped later) and
//! the folders in which symbolic links end. It only says "look again"; what changed is found by looking, so a lost or
//! merged event costs nothing.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

/// What happens to a file or folder that matters to a reader. Writes are included so that a file that is still being written
/// keeps extending the settling time.
const TREE_EVENTS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_ATTRIB)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// What matters above the root: names that come and go.
const ABOVE_EVENTS: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_ONLYDIR);

/// Which events of a watched folder count.
enum Interest {
    Everything,
    Name(OsString),
}

/// The watched folders.
pub(super) struct Watcher {
    inotify: Inotify,
    watches: BTreeMap<PathBuf, (WatchDescriptor, Interest)>,
    seen: BTreeSet<PathBuf>,
}

impl Watcher {
    pub(super) fn new() -> io::Result<Watcher> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Watcher { inotify, watches: BTreeMap::new(), seen: BTreeSet::new() })
    }

    /// Begins a pass over the tree: folders that are not named again until [`Watcher::end`] are given up.
    pub(super) fn begin(&mut self, root: &Path) {
        self.seen.clear();
        for above in root.ancestors().skip(1) {
            if let Some(name) = root.strip_prefix(above).ok().and_then(|rest| rest.iter().next()) {
                // An ancestor that does not exist is made below one that does.
                let _ = self.add(above, ABOVE_EVENTS, Interest::Name(name.to_owned()));
            }
        }
    }

    /// Watches a folder of the tree. Must come before its entries are read, so that nothing is lost in between.
    pub(super) fn watch(&mut self, folder: &Path) -> io::Result<()> {
        self.add(folder, TREE_EVENTS, Interest::Everything)
    }

    fn add(&mut self, folder: &Path, events: AddWatchFlags, interest: Interest) -> io::Result<()> {
        // The same folder gives the same descriptor; another folder under the same path a different one.
        let descriptor = self.inotify.add_watch(folder, events)?;
        self.seen.insert(folder.to_owned());
        let old = self.watches.insert(folder.to_owned(), (descriptor, interest));
        if let Some((old, _)) = old
            && old != descriptor
        {
            self.give_up(old);
        }
        Ok(())
    }

    /// Ends a pass.
    pub(super) fn end(&mut self) {
        let gone: Vec<PathBuf> = self.watches.keys().filter(|path| !self.seen.contains(*path)).cloned().collect();
        for path in gone {
            if let Some((descriptor, _)) = self.watches.remove(&path) {
                self.give_up(descriptor);
            }
        }
    }

    fn give_up(&mut self, descriptor: WatchDescriptor) {
        // Two paths may lead to one folder. A folder that was removed has lost its watch already.
        if !self.watches.values().any(|(other, _)| *other == descriptor) {
            let _ = self.inotify.rm_watch(descriptor);
        }
    }

    /// Takes all waiting events; whether one of them counts.
    pub(super) fn drain(&mut self) -> io::Result<bool> {
        let mut counts = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => counts |= events.iter().any(|event| self.counts(event)),
                Err(nix::Error::EAGAIN) => return Ok(counts),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn counts(&self, event: &nix::sys::inotify::InotifyEvent) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            return true;
        }
        let mut interests = self.watches.values().filter(|(descriptor, _)| *descriptor == event.wd);
        interests.any(|(_, interest)| match interest {
            Interest::Everything => true,
            Interest::Name(name) => event.name.as_ref() == Some(name),
        })
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
