//! A file that appears whole or not at all, also after a crash of the machine.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The content of a plain file of at most `bytes_max` bytes.
pub(super) fn read(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut content = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {bytes_max} bytes")));
    }
    Ok(content)
}

/// Makes `path` a plain file with `content` and `mode`. Gives whether that was necessary.
pub(super) fn put(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    if is_right(path, content, mode) {
        return Ok(false);
    }
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    // Not an extension that runtimes read; of an earlier attempt that was killed it is written over.
    let mut hidden = OsString::from(".");
    hidden.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    hidden.push(".part");
    let hidden = folder.join(hidden);
    let renamed = write(&hidden, content, mode).and_then(|()| fs::rename(&hidden, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&hidden);
    }
    renamed?;
    // A folder that cannot be flushed (some network file systems) holds the file all the same.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(true)
}

fn is_right(path: &Path, content: &[u8], mode: u32) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    metadata.is_file()
        && metadata.permissions().mode() & 0o7777 == mode
        && metadata.len() == content.len() as u64
        && fs::read(path).is_ok_and(|present| present == content)
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // A link that somebody left there would lead elsewhere.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    // The umask has taken from the mode.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}
