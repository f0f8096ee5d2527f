//! What a container runtime needs to find podplane on a node: the plugin's binary and a network configuration list, put in place
//! and taken away.
//!
//! Runtimes execute the binary and read the folder of configurations at any time, so a file appears whole or not at all: it is
//! written under a hidden name in the same folder, flushed, and renamed over what was there. A file that is right already is not
//! touched, because runtimes load the folder again when it changes. The binary has to be there before the configuration, by which
//! a kubelet takes the node for ready; so the two are installed by separate functions, the second by an agent that forwards.

mod conflist;
mod files;

pub use conflist::CONFLIST_FILE;
use conflist::{is_ours, merge};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Name of the plugin's binary, and `type` in configurations.
pub const PLUGIN: &str = "podplane-cni";

/// Where runtimes look for plugins, if nobody tells them otherwise.
pub const BIN_DIR: &str = "/opt/cni/bin";

/// Where runtimes look for configurations, if nobody tells them otherwise.
pub const CONF_DIR: &str = "/etc/cni/net.d";

/// Anybody may run the plugin; it can do nothing that its caller may not.
const PLUGIN_MODE: u32 = 0o755;

/// As the CIS benchmark for Kubernetes wants configurations of networks (1.1.9).
const CONFLIST_MODE: u32 = 0o600;

/// A plugin is a few megabytes.
const PLUGIN_BYTES_MAX: u64 = 256 << 20;

/// Far more than any list of plugins has.
const CONFLIST_BYTES_MAX: u64 = 1 << 20;

/// What was done about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is there, and was not before, or with other content.
    Written,
    /// It was as it should be.
    Unchanged,
    /// It was removed.
    Removed,
    /// It was not there.
    Absent,
}

impl Change {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Written => "written",
            Change::Unchanged => "unchanged",
            Change::Removed => "removed",
            Change::Absent => "absent",
        }
    }
}

/// A file and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The file.
    pub path: PathBuf,
    /// What was done.
    pub change: Change,
}

/// Why a file could not be put in place or taken away.
#[derive(Debug)]
pub struct InstallError {
    path: PathBuf,
    what: &'static str,
    error: io::Error,
}

impl InstallError {
    fn new(path: &Path, what: &'static str, error: io::Error) -> InstallError {
        InstallError { path: path.to_owned(), what, error }
    }
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let InstallError { path, what, error } = self;
        write!(f, "{}: {what}: {error}", path.display())?;
        let advice = match error.kind() {
            io::ErrorKind::StorageFull => "free some space there",
            io::ErrorKind::PermissionDenied => "run it as root, and with the folder mounted writable",
            io::ErrorKind::ReadOnlyFilesystem => "mount the folder writable, or name the one that the runtime uses",
            _ => return Ok(()),
        };
        write!(f, ": {advice}")
    }
}

impl std::error::Error for InstallError {}

/// Puts the plugin's binary, of which `source` is a copy, into `bin_dir`.
pub fn install_plugin(source: &Path, bin_dir: &Path) -> Result<Done, InstallError> {
    let binary = files::read(source, PLUGIN_BYTES_MAX)
        .map_err(|error| InstallError::new(source, "the plugin to install cannot be read", error))?;
    put(&bin_dir.join(PLUGIN), &binary, PLUGIN_MODE)
}

/// Puts the network configuration list for a node whose API is at `socket` into `conf_dir`. Plugins that somebody has chained behind
/// podplane's stay.
pub fn install_conflist(socket: &Path, conf_dir: &Path) -> Result<Done, InstallError> {
    let path = conf_dir.join(CONFLIST_FILE);
    let present = match files::read(&path, CONFLIST_BYTES_MAX) {
        Ok(present) => Some(present),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(InstallError::new(&path, "the file that is there cannot be read", error)),
    };
    put(&path, &merge(socket, present.as_deref()), CONFLIST_MODE)
}

/// Names of configurations in `conf_dir` that runtimes take before podplane's, because they come first by name.
pub fn rivals(conf_dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(conf_dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_configuration = |name: &String| {
        let extension = Path::new(name).extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("conf" | "conflist" | "json")) && name.as_str() < CONFLIST_FILE
    };
    let mut rivals: Vec<String> = names.filter(is_configuration).collect();
    rivals.sort();
    rivals
}

/// Takes the configuration out of `conf_dir`, then the binary out of `bin_dir`, then the folders of an agent away with all that is
/// in them. What fails does not keep the rest from being removed. A configuration of this name that is not podplane's stays and is
/// told.
pub fn uninstall(bin_dir: &Path, conf_dir: &Path, folders: &[PathBuf]) -> (Vec<Done>, Vec<InstallError>) {
    let path = conf_dir.join(CONFLIST_FILE);
    let conflist = match files::read(&path, CONFLIST_BYTES_MAX) {
        Ok(present) if !is_ours(&present) => {
            let other = io::Error::other("it was not written by podplane, and stays");
            Err(InstallError::new(&path, "not removed", other))
        }
        _ => take(&path, |path| fs::remove_file(path)),
    };
    let plugin = take(&bin_dir.join(PLUGIN), |path| fs::remove_file(path));
    let folders = folders.iter().map(|folder| take(folder, |folder| fs::remove_dir_all(folder)));
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    for result in [conflist, plugin].into_iter().chain(folders) {
        match result {
            Ok(one) => done.push(one),
            Err(error) => failed.push(error),
        }
    }
    (done, failed)
}

fn put(path: &Path, content: &[u8], mode: u32) -> Result<Done, InstallError> {
    let written = files::put(path, content, mode);
    let written = written.map_err(|error| InstallError::new(path, "it cannot be written", error))?;
    Ok(Done { path: path.to_owned(), change: if written { Change::Written } else { Change::Unchanged } })
}

fn take(path: &Path, remove: impl Fn(&Path) -> io::Result<()>) -> Result<Done, InstallError> {
    let change = match remove(path) {
        Ok(()) => Change::Removed,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Change::Absent,
        Err(error) => return Err(InstallError::new(path, "it cannot be removed", error)),
    };
    Ok(Done { path: path.to_owned(), change })
}

#[cfg(test)]
mod tests;
