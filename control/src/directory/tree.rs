//! Finds the manifest files under a folder and reads those that changed.
//!
//! A file is known by what `stat` says about it. Its last good objects are kept: when it can no longer be read, all of them
//! stay; when one object in it is refused, the object's last good form stays. Removing a typing error's policy would open
//! what the policy closed.

use super::watch::Watcher;
use super::{Digest, file_digest};
use policy::objects::{self, Object, Problem, Severity, Sourced};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Folders in folders; a ring of symbolic links ends earlier, because no folder is entered twice.
const DEPTH_MAX: u32 = 32;

/// Files of one tree. Ten times a cluster of 10,000 pods with one file per object.
const FILES_MAX: usize = 200_000;

/// Bytes of one file: a list of all objects of a large cluster; more is not a manifest.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A file that changed less than this before it was read may change again without a new timestamp (the kernel's clock for
/// timestamps ticks every 1 to 10 ms), so it is read once more next time.
const RACY: Duration = Duration::from_millis(100);

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// What identifies a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A manifest file as last read.
#[derive(Debug, Default)]
struct File {
    /// `None`: read it again next time.
    stamp: Option<Stamp>,
    /// Digest of the path and the content.
    digest: u128,
    readable: bool,
    objects: Vec<Sourced<Object>>,
    problems: Vec<Problem>,
}

/// The manifest files of a tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    files: BTreeMap<PathBuf, File>,
    /// Problems of the tree itself: folders that cannot be read, limits.
    problems: Vec<Problem>,
}

impl Tree {
    /// All objects, by file.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Sourced<Object>> {
        self.files.values().flat_map(|file| &file.objects)
    }

    /// All problems, by file.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().chain(self.files.values().flat_map(|file| &file.problems))
    }

    /// Digest of all files; see [`super::Digest`].
    pub(super) fn digest(&self) -> Digest {
        self.files.values().fold(Digest::default(), |digest, file| digest.with(file.digest))
    }

    /// Looks at the tree below `root` again; whether objects or problems are other than before. A root that cannot be read
    /// leaves every file as it was: intent does not vanish with its source.
    pub(super) fn refresh(&mut self, root: &Path, watcher: &mut Watcher) -> bool {
        let mut walk = Walk { watcher, found: BTreeMap::new(), entered: BTreeSet::new(), problems: Vec::new() };
        walk.watcher.begin(root);
        let root_error = walk.enter(root, 0).err();
        walk.watcher.end();
        let Walk { found, mut problems, .. } = walk;
        let mut changed = false;
        match root_error {
            Some(error) => problems = vec![unreadable(root, &format!("{error}; what it last held stays in force"))],
            None => {
                let before = self.files.len();
                self.files.retain(|path, _| found.contains_key(path));
                changed |= self.files.len() != before;
                for (path, metadata) in &found {
                    changed |= self.refresh_file(root, path, metadata);
                }
            }
        }
        changed |= problems != self.problems;
        self.problems = problems;
        changed
    }

    fn refresh_file(&mut self, root: &Path, path: &Path, metadata: &Metadata) -> bool {
        let stamp = Stamp::of(metadata);
        let is_new = !self.files.contains_key(path);
        let file = self.files.entry(path.to_owned()).or_default();
        if file.stamp == Some(stamp) {
            return false;
        }
        let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        file.stamp = age.is_none_or(|age| age > RACY).then_some(stamp);
        let text = read(path, metadata.len());
        let content = text.as_deref().unwrap_or_default();
        let digest = file_digest(path.strip_prefix(root).unwrap_or(path), content);
        if !is_new && digest == file.digest && text.is_ok() && file.readable {
            return false;
        }
        file.readable = text.is_ok();
        let (objects, problems) = parse(path, text, &file.objects);
        let changed = is_new || digest != file.digest || objects != file.objects || problems != file.problems;
        file.digest = digest;
        file.objects = objects;
        file.problems = problems;
        changed
    }
}

fn read(path: &Path, size: u64) -> io::Result<String> {
    if size > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("{size} bytes are more than the {FILE_BYTES_MAX} of a manifest")));
    }
    fs::read_to_string(path)
}

/// The objects and problems of a file whose last good objects are `last`.
fn parse(path: &Path, text: io::Result<String>, last: &[Sourced<Object>]) -> (Vec<Sourced<Object>>, Vec<Problem>) {
    let kept = if last.is_empty() { "" } else { "; its last good content stays in force" };
    let text = match text {
        Ok(text) => text,
        Err(error) => return (last.to_vec(), vec![unreadable(path, &format!("{error}{kept}"))]),
    };
    let mut parsed = objects::parse(&path.to_string_lossy(), &text);
    if parsed.problems.iter().any(|problem| problem.severity == Severity::Unreadable) {
        let last_good = if last.is_empty() { parsed.objects } else { last.to_vec() };
        for problem in parsed.problems.iter_mut().filter(|problem| problem.severity == Severity::Unreadable) {
            problem.message.push_str(kept);
        }
        return (last_good, parsed.problems);
    }
    for problem in parsed.problems.iter_mut().filter(|problem| problem.severity == Severity::Refused) {
        let before = last.iter().find(|last| Some(last.object.reference()) == problem.object);
        if let Some(before) = before {
            problem.message.push_str("; its last good form stays in force");
            if !parsed.objects.iter().any(|object| object.object.reference() == before.object.reference()) {
                parsed.objects.push(before.clone());
            }
        }
    }
    (parsed.objects, parsed.problems)
}

fn unreadable(path: &Path, reason: &str) -> Problem {
    Problem::unreadable(&path.to_string_lossy(), reason)
}

struct Walk<'a> {
    watcher: &'a mut Watcher,
    found: BTreeMap<PathBuf, Metadata>,
    entered: BTreeSet<(u64, u64)>,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    fn enter(&mut self, folder: &Path, depth: u32) -> io::Result<()> {
        let metadata = fs::metadata(folder)?;
        if !self.entered.insert((metadata.dev(), metadata.ino())) {
            return Ok(());
        }
        if let Err(error) = self.watcher.watch(folder)
            && metadata.is_dir()
        {
            let reason = format!(
                "cannot be watched ({error}); changes are found within 10 s. If there is no room, raise \
                                  fs.inotify.max_user_watches"
            );
            self.problems.push(Problem { severity: Severity::Warning, ..unreadable(folder, &reason) });
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if let Err(error) = self.look_at(&path, depth) {
                // Gone since it was listed: its event follows.
                if error.kind() != io::ErrorKind::NotFound {
                    self.problems.push(unreadable(&path, &error.to_string()));
                }
            }
        }
        Ok(())
    }

    fn look_at(&mut self, path: &Path, depth: u32) -> io::Result<()> {
        // Hidden entries are editors' and mounts' own: temporary files, `..data` of a mounted ConfigMap.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            return Ok(());
        }
        if path.is_symlink()
            && let Some(target) = fs::canonicalize(path)?.parent()
        {
            // The link's own folder does not see its target change. Without a watch the regular look finds it.
            let _ = self.watcher.watch(target);
        }
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return if depth < DEPTH_MAX { self.enter(path, depth + 1) } else { Err(too_deep()) };
        }
        let is_manifest = path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        if is_manifest && metadata.is_file() {
            if self.found.len() == FILES_MAX {
                return Err(io::Error::other(format!("more than {FILES_MAX} manifest files")));
            }
            self.found.insert(path.to_owned(), metadata);
        }
        Ok(())
    }
}

fn too_deep() -> io::Error {
    io::Error::other(format!("more than {DEPTH_MAX} folders deep"))
}
