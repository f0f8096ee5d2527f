//! The folder of records: one file per sandbox, written so that a crash at any moment leaves the old file or the whole new one, and
//! one empty file per address that rests, whose time of change says since when.

use super::record::{RECORD_VERSION, Record, SandboxName};
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// How a record's file ends.
pub(super) const RECORD_SUFFIX: &str = ".json";

/// What is added to the name of a file that cannot be used.
const BROKEN_SUFFIX: &str = ".broken";

/// A record's size is a few hundred bytes; a file of more is none.
const RECORD_BYTES_MAX: u64 = 256 << 10;

/// The state folder's part for sandboxes.
#[derive(Debug)]
pub(super) struct Files {
    records: PathBuf,
    resting: PathBuf,
    count: AtomicU64,
}

/// What was found in the folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) records: Vec<Record>,
    pub(super) resting: Vec<(IpAddr, SystemTime)>,
    /// What is wrong, in sentences that name the file.
    pub(super) problems: Vec<String>,
}

impl Files {
    /// The folder below `state_dir`; made if it is not there.
    pub(super) fn open(state_dir: &Path) -> io::Result<Files> {
        let files = Files {
            records: state_dir.join("sandboxes"),
            resting: state_dir.join("resting"),
            count: AtomicU64::new(0),
        };
        fs::create_dir_all(&files.records)?;
        fs::create_dir_all(&files.resting)?;
        Ok(files)
    }

    /// Reads everything. A file that cannot be read is set aside under another name and told.
    pub(super) fn read(&self) -> io::Result<Found> {
        let mut found = Found::default();
        for entry in fs::read_dir(&self.records)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') {
                // What a process that was killed was about to write.
                let _ = fs::remove_file(&path);
            } else if name.ends_with(RECORD_SUFFIX) {
                match read_record(&path, &name) {
                    Ok(record) => found.records.push(record),
                    Err(reason) => found.problems.push(self.set_aside(&path, &reason)),
                }
            }
        }
        for entry in fs::read_dir(&self.resting)? {
            let entry = entry?;
            let Ok(address) = entry.file_name().to_string_lossy().parse() else { continue };
            let since = entry.metadata().and_then(|metadata| metadata.modified()).unwrap_or_else(|_| SystemTime::now());
            found.resting.push((address, since));
        }
        Ok(found)
    }

    fn set_aside(&self, path: &Path, reason: &str) -> String {
        let mut aside = path.as_os_str().to_owned();
        aside.push(BROKEN_SUFFIX);
        match fs::rename(path, &aside) {
            Ok(()) => format!(
                "{} is no record of a sandbox ({reason}): it was renamed to {}; its sandbox counts as gone",
                path.display(),
                Path::new(&aside).display()
            ),
            Err(error) => format!("{} is no record of a sandbox ({reason}), and stays: {error}", path.display()),
        }
    }

    /// Writes a record; on return it outlives a crash of the machine.
    pub(super) fn write(&self, record: &Record) -> io::Result<()> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let hidden = self.records.join(format!(".{}-{number}", std::process::id()));
        let written = self.write_as(&hidden, record);
        if written.is_err() {
            // A disk that is full keeps an empty file.
            let _ = fs::remove_file(&hidden);
        }
        written
    }

    fn write_as(&self, hidden: &Path, record: &Record) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(record)?;
        text.push(b'\n');
        let mut file = File::create(hidden)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(hidden, self.records.join(record.sandbox().file()))?;
        File::open(&self.records)?.sync_all()
    }

    /// Removes a record; one that is not there is removed already.
    pub(super) fn remove(&self, name: &SandboxName) -> io::Result<()> {
        if_there(fs::remove_file(self.records.join(name.file())))
    }

    /// Notes that an address rests from this moment.
    pub(super) fn rest(&self, address: IpAddr) -> io::Result<()> {
        let path = self.resting.join(address.to_string());
        // A file that is there keeps its time when it is opened.
        if_there(fs::remove_file(&path))?;
        File::create(path).map(drop)
    }

    /// Takes that note away.
    pub(super) fn wake(&self, address: IpAddr) -> io::Result<()> {
        if_there(fs::remove_file(self.resting.join(address.to_string())))
    }
}

fn if_there(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn read_record(path: &Path, name: &str) -> Result<Record, String> {
    let size = fs::symlink_metadata(path).map_err(|error| error.to_string())?.len();
    if size > RECORD_BYTES_MAX {
        return Err(format!("it has {size} bytes"));
    }
    let text = fs::read(path).map_err(|error| error.to_string())?;
    /// What every version has.
    #[derive(serde::Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if version != RECORD_VERSION {
        return Err(format!("its version is {version}, and this podplane reads version {RECORD_VERSION}"));
    }
    let record: Record = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    if record.sandbox().file() != name {
        return Err(format!("it is about {}", record.sandbox()));
    }
    Ok(record)
}
