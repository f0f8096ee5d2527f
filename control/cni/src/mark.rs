//! Notes about sandboxes that ended while no node process was there to hear of it: one empty file each, called `ID@INTERFACE`, in a
//! folder beside the socket. The node process that starts next ends their records.
//!
//! They need no state folder, and go with a reboot as sandboxes do. A node process reads them after it serves its socket, and the plugin
//! asks once more after it has left one, so none is missed by both.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The folder of notes for the node process at `socket`.
pub fn folder(socket: &Path) -> PathBuf {
    let mut folder = socket.as_os_str().to_owned();
    folder.push(".deleted");
    folder.into()
}

/// Leaves a note. Without the socket's own folder no node process ran since the machine started, and there is nothing to note.
pub(crate) fn leave(socket: &Path, container_id: &str, ifname: &str) -> io::Result<()> {
    let folder = folder(socket);
    if !folder.parent().is_some_and(Path::is_dir) {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    fs::File::create(folder.join(format!("{container_id}@{ifname}"))).map(drop)
}

/// Takes a note back.
pub(crate) fn take_back(socket: &Path, container_id: &str, ifname: &str) {
    // One that stays names what is gone, and is read and removed at the next start.
    let _ = fs::remove_file(folder(socket).join(format!("{container_id}@{ifname}")));
}

/// A note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Id of the sandbox.
    pub container_id: String,
    /// Name of the interface.
    pub ifname: String,
    /// When it was left.
    pub left: SystemTime,
    /// Its file, for who has done what it says.
    pub path: PathBuf,
}

/// All notes for the node process at `socket`. What is no note is left alone.
pub fn read(socket: &Path) -> Vec<Mark> {
    let Ok(entries) = fs::read_dir(folder(socket)) else { return Vec::new() };
    let mark = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        // An id has no @, a name of an interface may.
        let (container_id, ifname) = name.split_once('@')?;
        let left = entry.metadata().and_then(|metadata| metadata.modified()).ok()?;
        Some(Mark { container_id: container_id.to_owned(), ifname: ifname.to_owned(), left, path: entry.path() })
    };
    entries.filter_map(mark).collect()
}
