//! Writes objects as a cluster directory: one YAML file per object, `pods/default/web-0.yaml`, `nodes/node1.yaml`.
//!
//! A file appears whole or not at all: it is written under a hidden name and renamed. A file whose content is the same is
//! not touched, and the file of an object that is gone is removed. Nothing is flushed to the disk: after a crash of the
//! machine the directory is written again from what it was computed from.

use super::file_digest;
use crate::source::Digest;
use policy::objects::{Kind, Object};
use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest file name before it is cut: file systems end at 255 bytes, the name of an object at 253 characters.
const NAME_BYTES_MAX: usize = 200;

/// What [`write`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Files that were made or replaced.
    pub written: usize,
    /// Files that were removed.
    pub removed: usize,
    /// Files that were left alone.
    pub unchanged: usize,
    /// What a reader of the folder reports for this content, if there is nothing else in it.
    pub digest: Digest,
}

/// Makes the folder `root` hold exactly `objects`. Other files in the folders of the kinds are removed, everything else
/// below `root` is left alone.
pub fn write<'a>(root: &Path, objects: impl IntoIterator<Item = &'a Object>) -> io::Result<Written> {
    let mut done = Written::default();
    let mut wanted = BTreeSet::new();
    for object in objects {
        let path = path_of(object);
        let text = yaml(object)?;
        done.digest = done.digest.with(file_digest(&path, &text));
        let path = root.join(path);
        if fs::read(&path).is_ok_and(|present| present == text.as_bytes()) {
            done.unchanged += 1;
        } else {
            // Others may read intent, but not keys.
            let mode = if object.kind() == Kind::Secret { 0o600 } else { 0o666 };
            replace(&path, text.as_bytes(), mode)?;
            done.written += 1;
        }
        wanted.insert(path);
    }
    for kind in Kind::ALL {
        remove_others(&root.join(folder(*kind)), &wanted, &mut done)?;
    }
    Ok(done)
}

/// The object as a YAML document.
fn yaml(object: &Object) -> io::Result<String> {
    serde_saphyr::to_string(object).map_err(|error| io::Error::other(format!("{}: {error}", object.reference())))
}

fn folder(kind: Kind) -> String {
    match kind {
        Kind::NetworkPolicy => "networkpolicies".to_owned(),
        Kind::ClusterNetworkPolicy => "clusternetworkpolicies".to_owned(),
        Kind::Endpoints => "endpoints".to_owned(),
        Kind::Ingress | Kind::IngressClass | Kind::GatewayClass => format!("{}es", kind.as_str().to_lowercase()),
        _ => format!("{}s", kind.as_str().to_lowercase()),
    }
}

fn path_of(object: &Object) -> PathBuf {
    let metadata = object.metadata();
    let mut path = PathBuf::from(folder(object.kind()));
    if object.kind().is_namespaced() {
        path.push(file_name(metadata.namespace.as_deref().unwrap_or("default")));
    }
    path.push(format!("{}.yaml", file_name(metadata.name.as_deref().unwrap_or_default())));
    path
}

/// Names of Kubernetes objects are file names, except that they may be too long; any other character is written as `%XX`.
fn file_name(name: &str) -> String {
    let mut safe = String::new();
    for (position, byte) in name.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => safe.push(char::from(byte)),
            b'.' if position > 0 => safe.push('.'),
            _ => safe.push_str(&format!("%{byte:02X}")),
        }
    }
    if safe.len() > NAME_BYTES_MAX {
        safe.truncate(NAME_BYTES_MAX);
        safe = format!("{safe}-{}", crate::controller::suffix(&[name]));
    }
    safe
}

/// `mode` is what the file may at most be opened for; the umask takes from it.
fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = path.parent().expect("a file of an object is in the folder of its kind");
    fs::create_dir_all(folder)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(path.file_name().expect("a file of an object has a name"));
    let hidden = folder.join(hidden);
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(mode);
    let written = options.open(&hidden).and_then(|mut file| file.write_all(content));
    let renamed = written.and_then(|()| fs::rename(&hidden, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&hidden);
    }
    renamed
}

/// Removes the files below `folder` that are not `wanted`, and folders that are empty then.
fn remove_others(folder: &Path, wanted: &BTreeSet<PathBuf>, done: &mut Written) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() && !path.is_symlink() {
            remove_others(&path, wanted, done)?;
            // A folder that still holds something stays.
            let _ = fs::remove_dir(&path);
        } else if !wanted.contains(&path) {
            fs::remove_file(&path)?;
            done.removed += 1;
        }
    }
    Ok(())
}
