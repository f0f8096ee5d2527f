//! The cluster directory: a folder of Kubernetes YAML and JSON files as the source of a cluster's intent.
//!
//! In: every `.yaml`, `.yml` and `.json` file below the folder; hidden files and folders are not looked at. Out: a
//! [`Generation`] for every change: the objects of the files that changed, and what is wrong with all. A file that is
//! replaced by renaming, a swapped symbolic link and a folder that appears later are all seen. No objects are kept here:
//! whoever takes the generations holds them ([`policy::cluster::Definitions`]).
//!
//! How it waits: the kernel reports that something happened (module `watch`); the directory (module `watched`) then waits until nothing
//! happened for [`SETTLE`](crate::source::SETTLE), at most [`DELAY_MAX`](crate::source::DELAY_MAX), and looks once: at the files that the reports name, if they say no more
//! than that plain files came, went or changed; else at the whole tree. Without any report it looks at the whole tree every
//! [`LOOK_EVERY`](crate::source::LOOK_EVERY), for file systems that report nothing. Only files that changed are parsed.
//!
//! What never happens: a broken file, an unreadable folder or a vanished root does not take away what was in force.

mod tree;
mod watch;
mod watched;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use tree::{Content, Entry};
pub(crate) use watched::{Watched, wait};
pub use write::{Written, write};

use crate::hash::fnv1a;
use crate::source::{Generation, Wake};
use policy::objects::Leniency;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::Instant;

/// The part of a digest that one file has; `path` is relative to the root.
fn file_digest(path: &Path, content: &str) -> u128 {
    fnv1a(&[&path.to_string_lossy(), content])
}

/// A watched cluster directory.
pub struct Directory {
    watched: Watched,
    generation: u64,
}

impl Directory {
    /// Opens `root`, which need not exist yet. Nothing is read until [`Directory::refresh`].
    pub fn open(root: &Path) -> io::Result<Directory> {
        let root = std::path::absolute(root)?;
        Ok(Directory { watched: Watched::open(&root, &root, Leniency::default())?, generation: 0 })
    }

    /// Looks at what may have changed; a generation if something is other than at the last look. The first look always
    /// gives one.
    pub fn refresh(&mut self) -> Option<Generation> {
        let began = Instant::now();
        let mut files = Vec::new();
        let changed = self.watched.look(&mut |content| files.push(content.into_definitions()));
        if !changed && self.generation > 0 {
            return None;
        }
        self.generation += 1;
        let (digest, problems) = (self.watched.digest(), self.watched.problems().cloned().collect());
        Some(Generation { number: self.generation, began, digest, files, problems })
    }

    /// Waits until the tree may have changed and has settled, or until `stop` is readable.
    pub fn wait(&mut self, stop: BorrowedFd<'_>) -> io::Result<Wake> {
        wait(std::slice::from_mut(&mut self.watched), stop)
    }
}
