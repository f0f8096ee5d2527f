//! A node's source of intent: a cluster directory or a Kubernetes API server, with one face.
//!
//! Whoever follows a source asks it with [`Source::refresh`] what is other than at the last time, and sleeps in
//! [`Source::wait`] until there may be something. A change is a [`Generation`]: the objects that changed, by the file (of a
//! directory) or the name (in the API) that defines them, and what is wrong with all. No source keeps the objects: whoever
//! takes the generations holds them ([`policy::cluster::Definitions`]), so none may be left out.
//!
//! Both sources gather a burst: they wait until nothing happened for [`SETTLE`], at most [`DELAY_MAX`].

use crate::directory::Directory;
use crate::kubernetes::KubernetesSource;
use crate::kubernetes::connect::Access;
use policy::cluster::FileChange;
use policy::objects::Problem;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Quiet time that ends a burst: several times what `cp` or an editor needs between two files, and what a controller needs
/// between two objects; not felt by a person.
pub const SETTLE: Duration = Duration::from_millis(20);

/// Longest wait in a burst that does not end: leaves the larger part of a second for compiling and swapping, so that a
/// change is in force in under one second.
pub const DELAY_MAX: Duration = Duration::from_millis(200);

/// How often a source without news is looked at all the same: for file systems that report nothing, and for whoever tries
/// again then what could not be had.
pub const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where the objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A watched folder of Kubernetes YAML.
    Directory(PathBuf),
    /// A Kubernetes API server.
    Kubernetes(Access),
}

impl From<&Path> for Origin {
    fn from(folder: &Path) -> Origin {
        Origin::Directory(folder.to_owned())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Directory(folder) => write!(f, "{}", folder.display()),
            Origin::Kubernetes(_) => f.write_str(crate::kubernetes::NAME),
        }
    }
}

/// Identifies the objects of a source: what [`crate::directory::write`] wrote is in force where the same digest is reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u128);

impl Digest {
    /// With one more file. The order of the files does not matter.
    pub(crate) fn with(self, file: u128) -> Digest {
        Digest(self.0.wrapping_add(file))
    }

    /// With one file less, that was one of them.
    pub(crate) fn without(self, file: u128) -> Digest {
        Digest(self.0.wrapping_sub(file))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// What makes the objects of a cluster at one moment other than those of the generation before; the first one is told from
/// nothing.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Counts the changes since the source was opened, from 1.
    pub number: u64,
    /// When the change was looked at, or came in.
    pub began: Instant,
    /// What the source holds.
    pub digest: Digest,
    /// The files that changed; names may occur twice.
    pub files: Vec<FileChange>,
    /// What is wrong with the whole source, by file.
    pub problems: Vec<Problem>,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wake {
    /// The source may have changed: look with [`Source::refresh`].
    Look,
    /// The descriptor given to [`Source::wait`] became readable.
    Stop,
}

/// An open source.
pub enum Source {
    /// A watched folder.
    Directory(Directory),
    /// An API server that is followed.
    Kubernetes(KubernetesSource),
}

impl Source {
    /// What is other than at the last look; the first look at a directory always gives something, the first one at an API
    /// server when all was listed.
    pub fn refresh(&mut self) -> Option<Generation> {
        match self {
            Source::Directory(directory) => directory.refresh(),
            Source::Kubernetes(server) => server.refresh(),
        }
    }

    /// Waits until the source may have changed and has settled, or until `stop` is readable; [`LOOK_EVERY`] at most.
    pub fn wait(&mut self, stop: BorrowedFd<'_>) -> io::Result<Wake> {
        match self {
            Source::Directory(directory) => directory.wait(stop),
            Source::Kubernetes(server) => server.wait(stop),
        }
    }
}
