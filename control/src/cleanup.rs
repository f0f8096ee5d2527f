//! Taking away what a node process leaves for the next one, when there is to be none (R06).
//!
//! What there is: the host TAP with its addresses and routes, rules of policy routing, the interfaces of pods that are still
//! there, and in the state folder the flows, the records of sandboxes and the seed. Each is tried; what fails does not keep the rest
//! from being removed. Nothing is touched while a node process runs.

use crate::sandboxes::{self, Sandboxes};
use node::{DataplaneConfig, Leftover, remove_leftover};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Files and folders of a state folder that node processes make, beside the flows.
const STATE: [&str; 4] = ["sandboxes", "resting", "seed", "kubernetes-objects"];

/// Why not everything was removed.
#[derive(Debug)]
pub enum CleanupError {
    /// A node process runs in this network namespace.
    Running,
    /// The records in the state folder cannot be read.
    State(PathBuf, io::Error),
}

impl fmt::Display for CleanupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CleanupError::Running => f.write_str("a node process runs here: end it first, nothing was removed"),
            CleanupError::State(path, error) => write!(f, "state folder {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for CleanupError {}

/// What was done, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleanup {
    /// What was there and is gone.
    pub removed: Vec<String>,
    /// What is still there, and why.
    pub failed: Vec<String>,
}

impl Cleanup {
    fn note(&mut self, what: String, result: io::Result<bool>) {
        match result {
            Ok(true) => self.removed.push(what),
            Ok(false) => {}
            Err(error) => self.failed.push(format!("{what}: {error}")),
        }
    }
}

/// Removes everything from the network namespace of the calling thread, from those of the pods on record, and from `state_dir`. The
/// folder itself goes if nothing of somebody else is in it.
pub fn run(state_dir: &Path) -> Result<Cleanup, CleanupError> {
    let host_tap = DataplaneConfig::new("", Vec::new(), Vec::new()).host_tap;
    let mut done = Cleanup::default();
    match remove_leftover(&Leftover::HostTap(host_tap.clone())) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(CleanupError::Running),
        result => done.note(format!("interface {host_tap}"), result),
    }
    done.note("rules of policy routing".to_owned(), remove_leftover(&Leftover::Rules));
    if !state_dir.exists() {
        return Ok(done);
    }
    for record in records(state_dir)? {
        let what = format!("interface {} of pod {} in {}", record.ifname, record.pod, record.netns.display());
        done.note(what, remove_leftover(&Leftover::Interface(record.netns, record.ifname)));
    }
    done.note(format!("flows in {}", state_dir.display()), remove_leftover(&Leftover::Flows(state_dir.to_owned())));
    for name in STATE {
        let path = state_dir.join(name);
        done.note(path.display().to_string(), remove(&path));
    }
    // Refused while somebody else's files are in it.
    let _ = fs::remove_dir(state_dir);
    Ok(done)
}

fn records(state_dir: &Path) -> Result<Vec<sandboxes::Record>, CleanupError> {
    let opened = Sandboxes::open(Some(state_dir), &sandboxes::boot_id(), Duration::ZERO, SystemTime::now());
    let (sandboxes, _) = opened.map_err(|error| CleanupError::State(state_dir.to_owned(), error))?;
    Ok(sandboxes.all())
}

fn remove(path: &Path) -> io::Result<bool> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        other => other.map(|()| true),
    }
}
