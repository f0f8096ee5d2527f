//! `-f PATH...` as a source of intent: files and folders that a person wrote, watched, completed and compiled.
//!
//! In: paths, each a folder (every manifest below it), a file of any name, or `-` for standard input, which is read once, as
//! is every path that is neither file nor folder. Out: an [`Update`] for every change: tables, what they differ by, and what
//! is wrong. Whoever needs the objects beside the tables finds them in [`Manifests::cluster`].
//!
//! How it goes: [`Manifests::refresh`] looks at what may have changed and takes it over, [`Manifests::wait`] sleeps until there
//! may be something. Objects are taken as they are while nothing is missing; then a change costs what depends on it, as on
//! a node. While something is missing (nodes, addresses, the pods of a Deployment, EndpointSlices), all of it is filled in
//! again as the lab's controller would, with what was filled in before kept; that costs as much as there are objects, and
//! compiling again only what came out otherwise.
//!
//! What never happens: a file that breaks, an object that becomes invalid or a path that vanishes does not take away what was
//! in force. Until something was read there are no tables at all, which is something else than a cluster without objects.

use crate::controller::{self, LabNetwork, Lacking};
use crate::directory::{self, Content, Entry, Watched};
use crate::source::Wake;
use policy::cluster::{Cluster, Definition, Definitions, Delta, FileChange, settle};
use policy::compile::{CompileOptions, Compiler};
use policy::objects::{self, Leniency, Object, ObjectRef, Problem, Sourced};
use policy::tables::Tables;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[cfg(test)]
mod tests;

/// Paths of one source: each watched one takes an inotify instance, of which the kernel gives a user 128.
pub const PATHS_MAX: usize = 64;

/// Bytes that are read of standard input; as of a file.
const ONCE_BYTES_MAX: u64 = 64 << 20;

/// Whoever watches files of its own may have its backends beside it.
const LENIENCY: Leniency = Leniency { loopback_endpoints: true };

/// The file that filled in objects are definitions of.
const FILLED: &str = "";

/// Why a source cannot be opened.
#[derive(Debug)]
pub enum ManifestsError {
    /// The user's arguments cannot be used; the text says which and why.
    BadPath(String),
    /// The system does not let the files be watched.
    Watching(io::Error),
}

impl fmt::Display for ManifestsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ManifestsError::BadPath(text) => f.write_str(text),
            ManifestsError::Watching(error) => write!(f, "watching files: {error}"),
        }
    }
}

impl std::error::Error for ManifestsError {}

/// What a look at the files gave.
#[derive(Clone, Debug)]
pub struct Update {
    /// What is in force from now on; `None` while nothing was read.
    pub tables: Option<Arc<Tables>>,
    /// What of the objects differs from the update before.
    pub delta: Delta,
    /// All that is wrong: with the files, with objects, and between them. Each is there once.
    pub problems: Vec<Problem>,
}

/// A watched `-f PATH...`.
pub struct Manifests {
    roots: Vec<Watched>,
    /// What was read once and waits for the first look.
    once: Vec<(usize, Content)>,
    once_problems: Vec<Problem>,
    has_once: bool,
    /// Objects as they are written, by file in the order of the paths.
    files: BTreeMap<Arc<str>, Vec<Sourced<Object>>>,
    lacking: Lacking,
    network: LabNetwork,
    /// The completed objects, while something is missing.
    filled: Option<Vec<Sourced<Object>>>,
    definitions: Definitions,
    compiler: Compiler,
    epoch: u64,
}

impl Manifests {
    /// Opens `paths`; what is missing is filled in by `network`. A path that does not exist is a mistake, an empty folder
    /// is not. Standard input and pipes are read here, nothing else before the first [`Manifests::refresh`].
    pub fn open(paths: &[PathBuf], network: LabNetwork, options: CompileOptions) -> Result<Manifests, ManifestsError> {
        if paths.len() > PATHS_MAX {
            let many = paths.len();
            return Err(ManifestsError::BadPath(format!("-f: {many} paths are more than {PATHS_MAX}; name a folder")));
        }
        let mut source = Manifests {
            roots: Vec::new(),
            once: Vec::new(),
            once_problems: Vec::new(),
            has_once: false,
            files: BTreeMap::new(),
            lacking: Lacking::default(),
            network,
            filled: None,
            definitions: Definitions::default(),
            compiler: Compiler::new(options),
            epoch: 0,
        };
        // The number of a path goes before the names of its files, so paths that are read once come last.
        let (once, watched): (Vec<&PathBuf>, Vec<&PathBuf>) = paths.iter().partition(|path| is_read_once(path));
        for path in watched {
            fs::metadata(path).map_err(|error| bad_path(path, &error))?;
            source.roots.push(Watched::open(path, path, LENIENCY).map_err(ManifestsError::Watching)?);
        }
        if once.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
            return Err(ManifestsError::BadPath("-f -: standard input can be read only once".to_owned()));
        }
        for path in once {
            source.read_once(path)?;
        }
        Ok(source)
    }

    fn read_once(&mut self, path: &Path) -> Result<(), ManifestsError> {
        let is_stdin = path.as_os_str() == "-";
        let name = if is_stdin { "<stdin>".to_owned() } else { path.display().to_string() };
        let read = |mut from: Box<dyn Read>| {
            let mut text = String::new();
            let bytes = from.by_ref().take(ONCE_BYTES_MAX).read_to_string(&mut text)?;
            let too_long = bytes as u64 == ONCE_BYTES_MAX;
            if too_long { Err(io::Error::other(format!("more than {ONCE_BYTES_MAX} bytes"))) } else { Ok(text) }
        };
        let text = match is_stdin {
            true => read(Box::new(io::stdin())),
            false => fs::File::open(path).and_then(|file| read(Box::new(file))),
        };
        let text = text.map_err(|error| bad_path(Path::new(&name), &error))?;
        let parsed = objects::parse_with(&name, &text, LENIENCY);
        let objects = parsed.objects.into_iter().map(Entry::Written).collect();
        self.once_problems.extend(parsed.problems);
        self.has_once = true;
        self.once.push((PATHS_MAX, Content { file: name.into(), objects }));
        Ok(())
    }

    /// What is in force, as objects.
    pub fn cluster(&self) -> &Cluster {
        self.definitions.cluster()
    }

    /// The objects as the paths have them, each once and none that was refused.
    pub fn written(&self) -> Vec<Sourced<Object>> {
        settle(self.files.values().flatten().cloned().collect()).0
    }

    /// Looks at what may have changed; an update if something is other than at the last look. The first look always gives
    /// one.
    pub fn refresh(&mut self) -> Option<Update> {
        let mut contents = std::mem::take(&mut self.once);
        let mut changed = !contents.is_empty() || self.epoch == 0;
        for (number, root) in self.roots.iter_mut().enumerate() {
            changed |= root.look(&mut |content| contents.push((number, content)));
        }
        if !changed {
            return None;
        }
        let changed = contents.into_iter().map(|(number, content)| self.take(number, content)).collect();
        let (delta, mut problems) = self.put_in_force(changed);
        self.epoch += 1;
        let (tables, contradictions) = self.compiler.compile(self.definitions.cluster(), &delta, self.epoch);
        problems.extend(self.definitions.problems());
        problems.extend(contradictions);
        let of_files = self.roots.iter().flat_map(Watched::problems).chain(&self.once_problems).cloned();
        let mut told = HashSet::new();
        let problems = of_files.chain(problems).filter(|problem| told.insert(problem.to_string())).collect();
        let has_read = self.has_once || self.roots.iter().any(Watched::has_read);
        Some(Update { tables: has_read.then(|| Arc::new(tables)), delta, problems })
    }

    /// Waits until something may have changed and has settled, or until `stop` is readable.
    pub fn wait(&mut self, stop: BorrowedFd<'_>) -> io::Result<Wake> {
        directory::wait(&mut self.roots, stop)
    }

    /// Keeps what a changed file holds; gives the file's place in the order.
    fn take(&mut self, number: usize, content: Content) -> Arc<str> {
        let file: Arc<str> = format!("{number:02} {}", content.file).into();
        let before = self.files.remove(&file).unwrap_or_default();
        let mut kept: Option<HashMap<ObjectRef, &Sourced<Object>>> = None;
        let mut objects = Vec::with_capacity(content.objects.len());
        for entry in content.objects {
            match entry {
                Entry::Written(sourced) => objects.push(sourced),
                Entry::Kept(reference) => {
                    // Of several definitions in a file the first one counts.
                    let by_name = || before.iter().rev().map(|sourced| (sourced.object.reference(), sourced)).collect();
                    objects.extend(kept.get_or_insert_with(by_name).get(&reference).map(|sourced| (*sourced).clone()));
                }
            }
        }
        before.iter().for_each(|sourced| self.lacking.remove(&sourced.object));
        objects.iter().for_each(|sourced| self.lacking.add(&sourced.object));
        if !objects.is_empty() {
            self.files.insert(file.clone(), objects);
        }
        file
    }

    /// Has the definitions follow the files, of which those named `changed` did; what is wrong beside the files themselves.
    fn put_in_force(&mut self, changed: Vec<Arc<str>>) -> (Delta, Vec<Problem>) {
        if self.lacking.is_nothing() {
            let as_written: Vec<FileChange> = match self.filled.take() {
                None => changed.iter().map(|file| self.definitions_of(file)).collect(),
                Some(_) => {
                    let all = self.files.keys().map(|file| self.definitions_of(file));
                    all.chain([FileChange { file: FILLED.into(), objects: Vec::new() }]).collect()
                }
            };
            return (self.definitions.apply(as_written), Vec::new());
        }
        let written = self.files.values().flatten().cloned().collect();
        let (desired, mut problems) = settle(written);
        let previous = self.filled.take();
        let filled = controller::fill(&desired, previous.as_deref().unwrap_or_default(), &self.network);
        problems.extend(filled.problems);
        let definitions = filled.objects.iter().map(Definition::new).collect();
        self.filled = Some(filled.objects);
        let mut changes = vec![FileChange { file: FILLED.into(), objects: definitions }];
        if previous.is_none() {
            let as_written = self.files.keys().chain(&changed);
            changes.extend(as_written.map(|file| FileChange { file: file.clone(), objects: Vec::new() }));
        }
        (self.definitions.apply(changes), problems)
    }

    fn definitions_of(&self, file: &Arc<str>) -> FileChange {
        let objects = self.files.get(file).into_iter().flatten().map(Definition::new).collect();
        FileChange { file: file.clone(), objects }
    }
}

/// Whether `path` is standard input, or a pipe or the like.
fn is_read_once(path: &Path) -> bool {
    let is_pipe = |metadata: fs::Metadata| !metadata.is_file() && !metadata.is_dir();
    path.as_os_str() == "-" || fs::metadata(path).is_ok_and(is_pipe)
}

fn bad_path(path: &Path, error: &io::Error) -> ManifestsError {
    ManifestsError::BadPath(format!("{}: {error}", path.display()))
}
