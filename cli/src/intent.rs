//! Manifests as intent: parsed, put together, completed as the lab's controller would, and compiled.
//!
//! What the manifests state is taken as it is; what is missing (nodes, addresses, the pods of a Deployment, EndpointSlices) is
//! filled in. Each step tells its own problems; the objects that it refuses take no part in the next one.

use crate::manifests::{self, Source};
use crate::output::{self, Failure};
use control::controller::{self, LabNetwork};
use policy::cluster::{Cluster, settle};
use policy::compile::compile;
use policy::objects::{self, Object, ObjectRef, Problem, Severity, Sourced};
use policy::tables::Tables;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What `-f PATH...` means.
pub(crate) struct Intent {
    /// Number of files read.
    pub(crate) files: usize,
    /// Number of objects that could be read.
    pub(crate) objects: usize,
    /// What is wrong, in the order of the files, then between objects.
    pub(crate) problems: Vec<Problem>,
    /// The objects in force, with what was filled in.
    pub(crate) filled: Vec<Sourced<Object>>,
    /// The compiled form.
    pub(crate) tables: Tables,
}

impl Intent {
    /// Text that cannot be parsed is bad input.
    pub(crate) fn refuse_unreadable(&self) -> Result<(), Failure> {
        refuse_unreadable(&self.problems)
    }

    /// Tells what is wrong on two sides and does not keep a command from answering; what both share is told once.
    pub(crate) fn warn_of_both(old: &Intent, new: &Intent) {
        let (shared, old_alone): (Vec<_>, Vec<_>) =
            old.problems.iter().cloned().partition(|problem| new.problems.contains(problem));
        let new_alone: Vec<_> = new.problems.iter().filter(|problem| !shared.contains(problem)).cloned().collect();
        warn_with("", &shared);
        warn_with("OLD: ", &old_alone);
        warn_with("NEW: ", &new_alone);
    }

    /// After an answer that was given without the objects that are refused: that they are missing is bad input.
    pub(crate) fn must_be_complete(&self) -> Result<(), Failure> {
        match self.problems.iter().filter(|problem| problem.severity == Severity::Refused).count() {
            0 => Ok(()),
            1 => {
                Err(Failure::BadInput("the answer leaves out what is refused (see the warning): correct it".to_owned()))
            }
            many => Err(Failure::BadInput(format!(
                "the answer leaves out what is refused (see the {many} warnings): correct it"
            ))),
        }
    }
}

/// Manifests, put together and completed.
struct Completed {
    objects: usize,
    filled: Vec<Sourced<Object>>,
    problems: Vec<Problem>,
}

fn complete(sources: &[Source], previous: &[Sourced<Object>]) -> Completed {
    let mut written = Vec::new();
    let mut problems = Vec::new();
    for source in sources {
        let parsed = objects::parse(&source.name, &source.text);
        written.extend(parsed.objects);
        problems.extend(parsed.problems);
    }
    let objects = written.len();
    let readable: BTreeSet<ObjectRef> = written.iter().map(|sourced| sourced.object.reference()).collect();
    for problem in &mut problems {
        if problem.object.as_ref().is_some_and(|object| !readable.contains(object)) {
            problem.note_absence();
        }
    }
    let (desired, twice) = settle(written);
    let filled = controller::fill(&desired, previous, &LabNetwork::default());
    add(&mut problems, twice.into_iter().chain(filled.problems));
    Completed { objects, filled: filled.objects, problems }
}

fn add(problems: &mut Vec<Problem>, more: impl IntoIterator<Item = Problem>) {
    for problem in more {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
}

/// Reads the manifests that `paths` name. Text that cannot be parsed is among the problems.
pub(crate) fn load(paths: &[PathBuf]) -> Result<Intent, Failure> {
    of_sources(&manifests::read(paths)?, &[])
}

/// The same of texts. What is filled in is as in `previous`, where that has it.
pub(crate) fn of_sources(sources: &[Source], previous: &[Sourced<Object>]) -> Result<Intent, Failure> {
    let Completed { objects, filled, mut problems } = complete(sources, previous);
    let (cluster, conflicts) = Cluster::from_objects(filled.iter().cloned());
    let (tables, refused) = compile(&cluster, 1);
    add(&mut problems, conflicts.into_iter().chain(refused));
    Ok(Intent { files: sources.len(), objects, problems, filled, tables })
}

/// The same for a command that answers from the tables: text that cannot be parsed is bad input, everything else that is
/// wrong is a warning.
pub(crate) fn load_to_answer(paths: &[PathBuf]) -> Result<Intent, Failure> {
    let intent = load(paths)?;
    refuse_unreadable(&intent.problems)?;
    warn_of(&intent.problems);
    Ok(intent)
}

/// The completed objects for a command that compiles them itself.
pub(crate) fn fill_to_answer(paths: &[PathBuf]) -> Result<Vec<Sourced<Object>>, Failure> {
    let completed = complete(&manifests::read(paths)?, &[]);
    refuse_unreadable(&completed.problems)?;
    warn_of(&completed.problems);
    Ok(completed.filled)
}

/// The objects of a node's cluster directory, nothing filled in. What is wrong there is told and left out: the node may have
/// the last good form of it in force, which no file holds any more.
pub(crate) fn as_they_are(cluster_dir: &Path) -> Result<Vec<Sourced<Object>>, Failure> {
    let mut written = Vec::new();
    let sources = manifests::read(&[cluster_dir.to_owned()])?;
    // A node does not look at hidden files and folders.
    let is_hidden = |name: &str| {
        let below = Path::new(name).strip_prefix(cluster_dir).unwrap_or(Path::new(""));
        below.iter().any(|part| part.as_encoded_bytes().starts_with(b"."))
    };
    for source in sources.iter().filter(|source| !is_hidden(&source.name)) {
        let parsed = objects::parse(&source.name, &source.text);
        written.extend(parsed.objects);
        warn_of(&parsed.problems);
    }
    let (settled, twice) = settle(written);
    warn_of(&twice);
    Ok(settled)
}

fn refuse_unreadable(problems: &[Problem]) -> Result<(), Failure> {
    let unreadable = problems.iter().filter(|problem| problem.severity == Severity::Unreadable);
    let unreadable: Vec<String> = unreadable.map(|problem| problem.to_string()).collect();
    if unreadable.is_empty() { Ok(()) } else { Err(Failure::BadInput(unreadable.join("\n"))) }
}

/// Tells what is wrong and does not keep the command from answering.
pub(crate) fn warn_of(problems: &[Problem]) {
    warn_with("", problems);
}

fn warn_with(side: &str, problems: &[Problem]) {
    for problem in problems {
        match problem.severity {
            Severity::Refused => output::warn(&format!("{side}refused, and left out of the answer: {problem}")),
            _ => output::warn(&format!("{side}{problem}")),
        }
    }
}
