//! The file that keeps the names that one pod knows addresses by: a line for each, written whole and put in place of the one before.
//!
//! ```text
//! OWNER                            boot and port, as in the file of flows
//! NANOSECONDS ADDRESS NAME         until then, in time since the machine started
//! ```

use super::flow_file::Owner;
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use switch::KnownName;
use wire::Instant;

/// Where the names of one port are kept. Dropping it leaves the file where it is.
#[derive(Debug)]
pub(crate) struct NameFile {
    path: PathBuf,
    head: String,
}

/// Names as they were read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadNames(Vec<(Instant, IpAddr, String)>);

impl ReadNames {
    pub(crate) fn iter(&self) -> impl Iterator<Item = KnownName<'_>> {
        self.0.iter().map(|(until, addr, name)| (*until, *addr, &**name))
    }
}

impl NameFile {
    /// A file without names in place of whatever is at `path`.
    pub(super) fn create(path: PathBuf, owner: &Owner) -> NameFile {
        let file = NameFile { path, head: owner.line() };
        file.remove();
        file
    }

    /// The file at `path` and its names; none if they are somebody else's. A line that cannot be read is left out.
    pub(super) fn take_over(path: PathBuf, owner: &Owner) -> (NameFile, ReadNames) {
        let file = NameFile { path, head: owner.line() };
        let text = fs::read_to_string(&file.path).unwrap_or_default();
        let names = match text.split_once('\n') {
            Some((head, lines)) if head == file.head => ReadNames(lines.lines().filter_map(read).collect()),
            _ => ReadNames::default(),
        };
        (file, names)
    }

    /// Writes all names of the port.
    pub(crate) fn write(&self, names: &mut dyn Iterator<Item = KnownName<'_>>) -> io::Result<()> {
        let mut text = format!("{}\n", self.head);
        for (until, addr, name) in names {
            let _ = writeln!(text, "{} {addr} {name}", until.as_nanos());
        }
        let hidden = hidden(&self.path);
        fs::write(&hidden, text)?;
        fs::rename(&hidden, &self.path)
    }

    /// Removes it: the port is gone.
    pub(crate) fn remove(&self) {
        // One that stays is of a port that is not there at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// What is written before it is put in place. Whoever is killed in between leaves a file of no port.
fn hidden(path: &Path) -> PathBuf {
    let mut hidden = path.as_os_str().to_owned();
    hidden.push(".new");
    hidden.into()
}

fn read(line: &str) -> Option<(Instant, IpAddr, String)> {
    let (until, rest) = line.split_once(' ')?;
    let (addr, name) = rest.split_once(' ')?;
    Some((Instant::from_nanos(until.parse().ok()?), addr.parse().ok()?, name.to_owned()))
}
