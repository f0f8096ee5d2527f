//! Tells that something under a folder may have changed, through inotify.
//!
//! It watches every folder of the tree, the folders above the root (for a root that is made, removed or swapped later) and
//! the folders in which symbolic links end. It only says where to look again: at some paths, if nothing but plain files in
//! watched folders came, went or changed, else at everything. What changed is found by looking, so a lost or merged event
//! costs nothing.

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use std::collections::{BTreeMap, BTreeSet, HashMap};
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
    /// All; a file of this name is one of the tree.
    Folder,
    /// All; the folder is not part of the tree.
    Target,
    /// Those of one name.
    Name(OsString),
}

/// Where something happened.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Anywhere.
    pub(super) everywhere: bool,
    /// Files, or what may have become one.
    pub(super) paths: BTreeSet<PathBuf>,
    /// To something hidden, which may be what symbolic links of the tree lead to.
    pub(super) hidden: bool,
}

/// The watched folders.
pub(super) struct Watcher {
    inotify: Inotify,
    watches: BTreeMap<PathBuf, (WatchDescriptor, Interest)>,
    /// Two paths may lead to one folder.
    folders: HashMap<WatchDescriptor, BTreeSet<PathBuf>>,
    seen: BTreeSet<PathBuf>,
}

impl Watcher {
    pub(super) fn new() -> io::Result<Watcher> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        Ok(Watcher { inotify, watches: BTreeMap::new(), folders: HashMap::new(), seen: BTreeSet::new() })
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
        self.add(folder, TREE_EVENTS, Interest::Folder)
    }

    /// Watches for one file in its folder; in the whole folder, if it is a link, which may lead through others there.
    pub(super) fn watch_file(&mut self, file: &Path) -> io::Result<()> {
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return Ok(()) };
        let interest = if file.is_symlink() { Interest::Target } else { Interest::Name(name.to_owned()) };
        self.add(folder, TREE_EVENTS, interest)
    }

    /// Watches a folder in which a symbolic link ends.
    pub(super) fn watch_target(&mut self, folder: &Path) -> io::Result<()> {
        self.add(folder, TREE_EVENTS, Interest::Target)
    }

    fn add(&mut self, folder: &Path, events: AddWatchFlags, interest: Interest) -> io::Result<()> {
        // The same folder gives the same descriptor; another folder under the same path a different one.
        let descriptor = self.inotify.add_watch(folder, events)?;
        self.seen.insert(folder.to_owned());
        let old = self.watches.insert(folder.to_owned(), (descriptor, interest));
        if let Some((old, _)) = old
            && old != descriptor
        {
            self.give_up(old, folder);
        }
        self.folders.entry(descriptor).or_default().insert(folder.to_owned());
        Ok(())
    }

    /// Ends a pass.
    pub(super) fn end(&mut self) {
        let gone: Vec<PathBuf> = self.watches.keys().filter(|path| !self.seen.contains(*path)).cloned().collect();
        for path in gone {
            if let Some((descriptor, _)) = self.watches.remove(&path) {
                self.give_up(descriptor, &path);
            }
        }
    }

    fn give_up(&mut self, descriptor: WatchDescriptor, folder: &Path) {
        let Some(paths) = self.folders.get_mut(&descriptor) else { return };
        paths.remove(folder);
        if paths.is_empty() {
            self.folders.remove(&descriptor);
            // A folder that was removed has lost its watch already.
            let _ = self.inotify.rm_watch(descriptor);
        }
    }

    /// Takes all waiting events and notes in `seen` where they happened; whether one of them counts.
    pub(super) fn drain(&mut self, seen: &mut Seen) -> io::Result<bool> {
        let mut counts = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in &events {
                        counts |= self.note(event, seen);
                    }
                }
                Err(nix::Error::EAGAIN) => return Ok(counts),
                Err(nix::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Notes where `event` happened; whether it counts.
    fn note(&self, event: &InotifyEvent, seen: &mut Seen) -> bool {
        if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            seen.everywhere = true;
            return true;
        }
        let paths: Vec<_> = self.folders.get(&event.wd).into_iter().flatten().collect();
        let mut counts = false;
        for folder in &paths {
            match (&self.watches[*folder].1, &event.name) {
                (Interest::Name(name), of) if of.as_ref() != Some(name) => continue,
                // Whoever replaces a file by renaming writes it under a hidden name first.
                (Interest::Folder, Some(name)) if name.as_encoded_bytes().starts_with(b".") => seen.hidden = true,
                (Interest::Folder, Some(name)) if paths.len() == 1 && !event.mask.contains(AddWatchFlags::IN_ISDIR) => {
                    seen.paths.insert(folder.join(name));
                }
                _ => seen.everywhere = true,
            }
            counts = true;
        }
        counts
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}
