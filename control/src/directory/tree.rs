//! Finds the manifest files under a folder and reads those that changed.
//!
//! A file is known by what `stat` says about it. Its last good objects stay in force: all of them when it can no longer be
//! read, an object's last good form when the object is refused. Removing a typing error's policy would open what the policy
//! closed.

use super::file_digest;
use super::watch::{Seen, Watcher};
use crate::hash::fnv1a;
use crate::source::Digest;
use policy::cluster::{Definition, FileChange};
use policy::objects::{self, Leniency, Object, ObjectRef, Parsed, Problem, Severity, Sourced};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
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

/// What a file that changed holds.
pub(crate) struct Content {
    /// Its name.
    pub(crate) file: Arc<str>,
    /// Its objects in order; none for a file that is gone.
    pub(crate) objects: Vec<Entry>,
}

/// One object of a changed file.
pub(crate) enum Entry {
    /// As it is written there.
    Written(Sourced<Object>),
    /// As the file defined it before this change: its last good form.
    Kept(ObjectRef),
}

impl Content {
    /// The same in the form in which a cluster keeps it.
    pub(super) fn into_definitions(self) -> FileChange {
        let objects = self.objects.iter().filter_map(|entry| match entry {
            Entry::Written(sourced) => Some(Definition::new(sourced)),
            Entry::Kept(reference) => Definition::kept(reference),
        });
        FileChange { file: self.file, objects: objects.collect() }
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
    /// Whether all of it could be read, once.
    was_read: bool,
    /// Hashes of the names of the objects that are in force from it.
    names: Box<[u128]>,
    problems: Vec<Problem>,
}

/// The manifest files of a tree.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// What the root is called in the names of files.
    shown: PathBuf,
    leniency: Leniency,
    files: BTreeMap<PathBuf, File>,
    digest: Digest,
    /// Files to read again at the next look.
    racy: BTreeSet<PathBuf>,
    /// Files with problems.
    faulty: BTreeSet<PathBuf>,
    /// Whether a symbolic link is part of the tree: then what happens to one path may change what is found under another.
    has_links: bool,
    /// Problems of the tree itself: folders that cannot be read, limits.
    problems: Vec<Problem>,
}

impl Tree {
    /// No files yet; their names will begin with `shown` in place of the root.
    pub(super) fn new(shown: &Path, leniency: Leniency) -> Tree {
        Tree { shown: shown.to_owned(), leniency, ..Tree::default() }
    }

    /// Whether a file was read, ever.
    pub(super) fn has_read(&self) -> bool {
        self.files.values().any(|file| file.was_read)
    }

    /// All problems, by file.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().chain(self.faulty.iter().flat_map(|path| &self.files[path].problems))
    }

    /// Digest of all files; see [`Digest`].
    pub(super) fn digest(&self) -> Digest {
        self.digest
    }

    /// Looks again where `seen` says, and at files that changed just before the last look. `take` gets the files that
    /// changed; the result is whether anything is other than before: a problem may be.
    pub(super) fn refresh(
        &mut self,
        root: &Path,
        seen: Seen,
        watcher: &mut Watcher,
        take: &mut dyn FnMut(Content),
    ) -> bool {
        let mut look = Look { names: Names { root, shown: &self.shown.clone() }, take, changed: false };
        let follows_links = self.has_links && (seen.hidden || !seen.paths.is_empty());
        if seen.everywhere || follows_links || !self.refresh_some(seen.paths, &mut look) {
            self.refresh_all(&mut look, watcher);
        }
        look.changed
    }

    /// Looks at some paths; `false` if what is there calls for a look at everything.
    fn refresh_some(&mut self, mut paths: BTreeSet<PathBuf>, look: &mut Look<'_>) -> bool {
        paths.append(&mut self.racy);
        for path in paths {
            match fs::symlink_metadata(&path) {
                Ok(metadata) if !metadata.is_file() => return false,
                Ok(_) if !is_manifest(&path) && path != look.names.root => {}
                Ok(_) if self.files.len() >= FILES_MAX && !self.files.contains_key(&path) => return false,
                Ok(metadata) => self.refresh_file(&path, &metadata, look),
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.remove(&path, look),
                Err(_) => return false,
            }
        }
        true
    }

    /// Looks at the tree below the root. A root that cannot be read leaves every file as it was: intent does not vanish
    /// with its source.
    fn refresh_all(&mut self, look: &mut Look<'_>, watcher: &mut Watcher) {
        self.racy.clear();
        let root = look.names.root;
        let mut walk = Walk {
            names: look.names,
            watcher,
            found: BTreeMap::new(),
            entered: BTreeSet::new(),
            has_links: false,
            problems: Vec::new(),
        };
        walk.watcher.begin(root);
        let root_error = walk.begin(root).err();
        walk.watcher.end();
        let Walk { found, has_links, mut problems, .. } = walk;
        match root_error {
            Some(error) => {
                let reason = format!("{error}; what it last held stays in force");
                problems = vec![look.names.unreadable(root, &reason)]
            }
            None => {
                self.has_links = has_links;
                let gone: Vec<PathBuf> = self.files.keys().filter(|path| !found.contains_key(*path)).cloned().collect();
                gone.iter().for_each(|path| self.remove(path, look));
                found.iter().for_each(|(path, metadata)| self.refresh_file(path, metadata, look));
            }
        }
        look.changed |= problems != self.problems;
        self.problems = problems;
    }

    fn remove(&mut self, path: &Path, look: &mut Look<'_>) {
        let Some(file) = self.files.remove(path) else { return };
        self.digest = self.digest.without(file.digest);
        self.faulty.remove(path);
        look.changed = true;
        (look.take)(Content { file: look.names.of(path).into(), objects: Vec::new() });
    }

    fn refresh_file(&mut self, path: &Path, metadata: &Metadata, look: &mut Look<'_>) {
        let stamp = Stamp::of(metadata);
        let is_new = !self.files.contains_key(path);
        let file = self.files.entry(path.to_owned()).or_default();
        if file.stamp == Some(stamp) {
            return;
        }
        let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
        file.stamp = age.is_none_or(|age| age > RACY).then_some(stamp);
        if file.stamp.is_none() {
            self.racy.insert(path.to_owned());
        }
        let text = read(path, metadata.len());
        let content = text.as_deref().unwrap_or_default();
        let digest = file_digest(path.strip_prefix(look.names.root).unwrap_or(path), content);
        if !is_new && digest == file.digest && text.is_ok() && file.readable {
            return;
        }
        file.readable = text.is_ok();
        let name = look.names.of(path);
        let (objects, problems) = parse(&name, text, self.leniency, &file.names);
        look.changed |= is_new || digest != file.digest || problems != file.problems;
        if let Some(objects) = objects {
            file.names = objects.iter().map(name_of).collect();
            file.was_read |= !problems.iter().any(|problem| problem.severity == Severity::Unreadable);
            (look.take)(Content { file: name.into(), objects });
            look.changed = true;
        }
        self.digest = self.digest.with(digest);
        if !is_new {
            self.digest = self.digest.without(file.digest);
        }
        file.digest = digest;
        file.problems = problems;
        if file.problems.is_empty() {
            self.faulty.remove(path)
        } else {
            self.faulty.insert(path.to_owned())
        };
    }
}

/// What one look gathers.
struct Look<'a> {
    names: Names<'a>,
    take: &'a mut dyn FnMut(Content),
    changed: bool,
}

/// What files are called.
#[derive(Clone, Copy)]
struct Names<'a> {
    root: &'a Path,
    /// In place of the root.
    shown: &'a Path,
}

impl Names<'_> {
    fn of(self, path: &Path) -> String {
        match path.strip_prefix(self.root) {
            Ok(below) if !below.as_os_str().is_empty() => self.shown.join(below).to_string_lossy().into_owned(),
            _ => self.shown.to_string_lossy().into_owned(),
        }
    }

    fn unreadable(self, path: &Path, reason: &str) -> Problem {
        Problem::unreadable(&self.of(path), reason)
    }
}

/// Hash of an object's name: the names of all objects of a cluster would take as much room as half of the rest.
fn name_of(entry: &Entry) -> u128 {
    match entry {
        Entry::Written(sourced) => hash_of(&sourced.object.reference()),
        Entry::Kept(reference) => hash_of(reference),
    }
}

fn hash_of(ObjectRef { kind, namespace, name }: &ObjectRef) -> u128 {
    fnv1a(&[kind, namespace, name])
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known))
}

fn read(path: &Path, size: u64) -> io::Result<String> {
    if size > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("{size} bytes are more than the {FILE_BYTES_MAX} of a manifest")));
    }
    fs::read_to_string(path)
}

/// The objects and problems of a file of whose objects those with the names `last` are in force; no objects if all of them
/// stay.
fn parse(
    name: &str,
    text: io::Result<String>,
    leniency: Leniency,
    last: &[u128],
) -> (Option<Vec<Entry>>, Vec<Problem>) {
    let kept = if last.is_empty() { "" } else { "; its last good content stays in force" };
    let text = match text {
        Ok(text) => text,
        Err(error) => return (None, vec![Problem::unreadable(name, format!("{error}{kept}"))]),
    };
    let Parsed { objects, mut problems } = objects::parse_with(name, &text, leniency);
    let mut objects: Vec<Entry> = objects.into_iter().map(Entry::Written).collect();
    if problems.iter().any(|problem| problem.severity == Severity::Unreadable) {
        for problem in problems.iter_mut().filter(|problem| problem.severity == Severity::Unreadable) {
            problem.message.push_str(kept);
        }
        return (last.is_empty().then_some(objects), problems);
    }
    let mut present: BTreeSet<u128> = objects.iter().map(name_of).collect();
    for problem in problems.iter_mut().filter(|problem| problem.severity == Severity::Refused) {
        let Some(reference) = &problem.object else { continue };
        let name = hash_of(reference);
        if last.contains(&name) {
            problem.message.push_str("; its last good form stays in force");
            if present.insert(name) {
                objects.push(Entry::Kept(reference.clone()));
            }
        } else if !present.contains(&name) {
            problem.note_absence();
        }
    }
    (Some(objects), problems)
}

struct Walk<'a> {
    names: Names<'a>,
    watcher: &'a mut Watcher,
    found: BTreeMap<PathBuf, Metadata>,
    entered: BTreeSet<(u64, u64)>,
    has_links: bool,
    problems: Vec<Problem>,
}

impl Walk<'_> {
    /// The root: a folder, or one file, whatever that is called.
    fn begin(&mut self, root: &Path) -> io::Result<()> {
        if !fs::metadata(root)?.is_file() {
            return self.enter(root, 0);
        }
        self.watcher.watch_file(root)?;
        self.follow_link(root)?;
        self.found.insert(root.to_owned(), fs::metadata(root)?);
        Ok(())
    }

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
            self.problems.push(Problem { severity: Severity::Warning, ..self.names.unreadable(folder, &reason) });
        }
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if let Err(error) = self.look_at(&path, depth) {
                // Gone since it was listed: its event follows.
                if error.kind() != io::ErrorKind::NotFound {
                    self.problems.push(self.names.unreadable(&path, &error.to_string()));
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
        self.follow_link(path)?;
        let metadata = fs::metadata(path)?;
        if metadata.is_dir() {
            return if depth < DEPTH_MAX { self.enter(path, depth + 1) } else { Err(too_deep()) };
        }
        if is_manifest(path) && metadata.is_file() {
            if self.found.len() == FILES_MAX {
                return Err(io::Error::other(format!("more than {FILES_MAX} manifest files")));
            }
            self.found.insert(path.to_owned(), metadata);
        }
        Ok(())
    }

    /// Watches where a symbolic link ends: its own folder does not see its target change.
    fn follow_link(&mut self, path: &Path) -> io::Result<()> {
        if path.is_symlink() {
            self.has_links = true;
            if let Some(target) = fs::canonicalize(path)?.parent() {
                // Without a watch the regular look finds it.
                let _ = self.watcher.watch_target(target);
            }
        }
        Ok(())
    }
}

fn too_deep() -> io::Error {
    io::Error::other(format!("more than {DEPTH_MAX} folders deep"))
}
