//! The lab record: what is known about a lab outside of its namespaces, and the only thing a lab leaves on the machine
//! while it runs.
//!
//! ```text
//! BASE/NAME.json   the record: the anchor's process id and start time
//! BASE/NAME.lock   held (flock) while a command changes the lab; goes away with the lab
//! BASE/NAME/       the run directory: cluster directory, API sockets, logs, files bind-mounted into pods
//! ```
//! BASE is `/run/podplane/labs` for root, else `$XDG_RUNTIME_DIR/podplane/labs`, else `/tmp/podplane-UID/labs`.
//!
//! A process id alone does not identify a process, so the start time (field 22 of `/proc/PID/stat`) is kept with it. A
//! record whose anchor is gone is stale: nothing of that lab is left but files, because the kernel ends every process and
//! namespace of a lab with its anchor.

use crate::error::{LabError, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Longest lab name. The paths of unix sockets end in the run directory and may not pass 108 bytes.
pub const NAME_LEN_MAX: usize = 32;

/// The name of a lab that is given none.
pub const DEFAULT_NAME: &str = "default";

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessId {
    /// Process id as the writer of the record sees it.
    pub pid: i32,
    /// Clock ticks since boot at which it started.
    pub start_ticks: u64,
}

impl ProcessId {
    /// Identifies the running process `pid`; `None` if there is none. A zombie counts while threads of it are still ending:
    /// until the last is gone its sockets and devices are in use.
    pub fn of(pid: i32) -> Option<ProcessId> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the program name in parentheses and may contain anything, so count from the last ')'.
        let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
        let state = fields.next()?;
        let threads: u32 = fields.nth(16)?.parse().ok()?;
        let start_ticks = fields.nth(1)?.parse().ok()?;
        if state == "X" || (state == "Z" && threads <= 1) {
            return None;
        }
        Some(ProcessId { pid, start_ticks })
    }

    /// Whether that very process still runs.
    pub fn is_alive(&self) -> bool {
        ProcessId::of(self.pid) == Some(*self)
    }
}

/// What is known about a lab outside of its namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the lab.
    pub name: String,
    /// Process 1 of the lab, by its id outside.
    pub anchor: ProcessId,
    /// Whether the lab has a user namespace of its own.
    pub rootless: bool,
}

/// Where the files of a lab are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabPaths {
    base: PathBuf,
    name: String,
}

impl LabPaths {
    /// The paths of the lab called `name`, for the user that runs this process.
    pub fn new(name: &str) -> Result<LabPaths> {
        check_name(name)?;
        Ok(LabPaths { base: default_base(), name: name.to_owned() })
    }

    /// The same below another directory than the user's own.
    pub fn below(base: PathBuf, name: &str) -> Result<LabPaths> {
        check_name(name)?;
        Ok(LabPaths { base, name: name.to_owned() })
    }

    /// Name of the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The directory of all labs.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// The run directory.
    pub fn run_dir(&self) -> PathBuf {
        self.base.join(&self.name)
    }

    fn record(&self) -> PathBuf {
        self.base.join(format!("{}.json", self.name))
    }

    fn lock_file(&self) -> PathBuf {
        self.base.join(format!("{}.lock", self.name))
    }

    /// Takes the lab's lock, waiting for another command that changes it.
    pub fn lock(&self) -> Result<LabLock> {
        let path = self.lock_file();
        loop {
            create_private_dir(&self.base)?;
            let file = match OpenOptions::new().create(true).write(true).truncate(false).open(&path) {
                // The end of another lab has removed the directory, which was empty.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|e| LabError::io(path.display(), e))?,
            };
            file.lock().map_err(|e| LabError::io(path.display(), e))?;
            // The holder before us may have removed the file with the lab: then this is the lock of nothing.
            let held = file.metadata().map_err(|e| LabError::io(path.display(), e))?;
            match fs::metadata(&path) {
                Ok(current) if current.ino() == held.ino() => return Ok(LabLock { paths: self.clone(), _file: file }),
                _ => continue,
            }
        }
    }

    /// Takes the lab's lock, unless another command has it.
    pub fn try_lock(&self) -> Option<LabLock> {
        let path = self.lock_file();
        let file = File::options().write(true).open(&path).ok()?;
        file.try_lock().ok()?;
        // As in `lock`.
        let is_current = fs::metadata(&path).ok()?.ino() == file.metadata().ok()?.ino();
        is_current.then(|| LabLock { paths: self.clone(), _file: file })
    }

    /// Reads the record; `None` if there is no lab of this name.
    pub fn read(&self) -> Result<Option<Record>> {
        let path = self.record();
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|e| LabError::Failed(format!("{}: not a lab record: {e}", path.display()))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(LabError::io(path.display(), e)),
        }
    }

    /// The record of a running lab, or an error that says how to get one.
    pub fn running(&self) -> Result<Record> {
        match self.read()? {
            Some(record) if record.anchor.is_alive() => Ok(record),
            Some(_) => Err(LabError::Failed(format!(
                "lab {:?} is no longer running (its anchor process is gone); start it again with \
                 `podplane lab up --name {}` or clean up with `podplane lab down --name {}`",
                self.name, self.name, self.name
            ))),
            None => Err(LabError::Failed(format!(
                "there is no lab {:?}; start it with `podplane lab up --name {}`{}",
                self.name,
                self.name,
                match list(&self.base).as_slice() {
                    [] => String::new(),
                    names => format!(", or choose one that exists: {}", names.join(", ")),
                }
            ))),
        }
    }
}

/// The right to change a lab. Released when dropped, also when the process dies.
pub struct LabLock {
    paths: LabPaths,
    _file: File,
}

impl LabLock {
    /// Writes the record at once or not at all.
    pub fn write(&self, record: &Record) -> Result<()> {
        let path = self.paths.record();
        let draft = self.paths.base.join(format!(".{}.json.tmp", self.paths.name));
        let bytes = serde_json::to_vec_pretty(record).expect("a record is plain data");
        fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, &path)).map_err(|e| LabError::io(path.display(), e))
    }

    /// Removes every file of the lab, and the directories that are empty without it. The lab must not be running.
    pub fn remove(self) -> Result<()> {
        let run_dir = self.paths.run_dir();
        match fs::remove_dir_all(&run_dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(LabError::io(run_dir.display(), e)),
            _ => {}
        }
        for path in [self.paths.record(), self.paths.lock_file()] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(LabError::io(path.display(), e)),
                _ => {}
            }
        }
        // Another lab may live there; then these stay.
        let _ = fs::remove_dir(&self.paths.base);
        if let Some(parent) = self.paths.base.parent() {
            let _ = fs::remove_dir(parent);
        }
        Ok(())
    }
}

/// Names of the labs below `base` that have a record, sorted.
pub fn list(base: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(base) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|file| file.strip_suffix(".json").map(str::to_owned))
        .filter(|name| check_name(name).is_ok())
        .collect();
    names.sort();
    names
}

/// Where this user's labs are recorded.
pub fn default_base() -> PathBuf {
    let uid = nix::unistd::geteuid();
    if uid.is_root() {
        return PathBuf::from("/run/podplane/labs");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(dir) if dir.is_absolute() && dir.is_dir() => dir.join("podplane/labs"),
        _ => PathBuf::from(format!("/tmp/podplane-{uid}/labs")),
    }
}

fn check_name(name: &str) -> Result<()> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if name.is_empty() || name.len() > NAME_LEN_MAX || !plain || name.starts_with('-') || name.ends_with('-') {
        return Err(LabError::BadInput(format!(
            "lab name {name:?}: use 1 to {NAME_LEN_MAX} lower-case letters, digits and '-', not at the ends"
        )));
    }
    Ok(())
}

/// How often in a row the ends of other labs may come in between when a directory is made.
const DISTURBED_MAX: usize = 1_000;

/// Creates `dir` for this user only, and refuses one that somebody else could have put there.
fn create_private_dir(dir: &Path) -> Result<()> {
    let create = || fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    // The end of another lab may remove the directory in between, or the one above it.
    let is_disturbed = |e: &io::Error| matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists);
    let is_undisturbed = |created: &io::Result<()>| !created.as_ref().is_err_and(is_disturbed);
    let created = (0..DISTURBED_MAX).map(|_| create()).find(is_undisturbed).unwrap_or_else(create);
    created.map_err(|e| {
        let hint = match (e.kind(), nix::unistd::geteuid().is_root()) {
            (io::ErrorKind::ReadOnlyFilesystem, true) => ": labs need a writable /run (in a container: --tmpfs /run)",
            (io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied, false) => {
                ": set XDG_RUNTIME_DIR to a directory that you can write"
            }
            _ => "",
        };
        LabError::Failed(format!("{}: {e}{hint}", dir.display()))
    })?;
    let owner = match fs::symlink_metadata(dir) {
        // Gone again: who opens a file in it finds out.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found.map_err(|e| LabError::io(dir.display(), e))?.uid(),
    };
    if owner != nix::unistd::geteuid().as_raw() {
        return Err(LabError::Failed(format!(
            "{}: belongs to user {owner}, not to you; remove it or set XDG_RUNTIME_DIR",
            dir.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_identified_by_its_start_time_too() {
        let own = ProcessId::of(std::process::id() as i32).expect("this process runs");
        assert!(own.is_alive());
        assert!(!ProcessId { start_ticks: own.start_ticks + 1, ..own }.is_alive());
    }

    #[test]
    fn names_that_cannot_be_paths_are_refused() {
        for name in ["", "../x", "a/b", "UPPER", "-a", "a-", "a b", &"x".repeat(NAME_LEN_MAX + 1)] {
            assert!(matches!(LabPaths::new(name), Err(LabError::BadInput(_))), "{name:?}");
        }
        assert!(LabPaths::new("demo-2").is_ok());
    }

    #[test]
    fn removing_the_last_lab_removes_the_directories() {
        let root = std::env::temp_dir().join(format!("podplane-record-{}", std::process::id()));
        let base = root.join("podplane/labs");
        fs::create_dir_all(&root).unwrap();
        let paths = LabPaths::below(base.clone(), "one").unwrap();
        let lock = paths.lock().unwrap();
        let anchor = ProcessId::of(std::process::id() as i32).unwrap();
        lock.write(&Record { name: "one".into(), anchor, rootless: false }).unwrap();
        assert_eq!(list(&base), ["one"]);
        assert_eq!(paths.running().unwrap().anchor, anchor);
        lock.remove().unwrap();
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
        fs::remove_dir(&root).unwrap();
    }

    #[test]
    fn labs_that_end_do_not_disturb_labs_that_begin() {
        let root = std::env::temp_dir().join(format!("podplane-locks-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        std::thread::scope(|scope| {
            for name in ["one", "two", "three"] {
                let base = root.join("run/labs");
                scope.spawn(move || {
                    for _ in 0..1_000 {
                        LabPaths::below(base.clone(), name).unwrap().lock().unwrap().remove().unwrap();
                    }
                });
            }
        });
        fs::remove_dir_all(&root).unwrap();
    }
}
