//! Manifests as intent: parsed, put together, completed as the lab's controller would, and compiled.
//!
//! What the manifests state is taken as it is; what is missing (nodes, addresses, the pods of a Deployment, EndpointSlices) is
//! filled in. Each step tells its own problems; the objects that it refuses take no part in the next one.

use crate::manifests;
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
    /// The compiled form.
    pub(crate) tables: Tables,
}

/// Manifests, put together and completed.
struct Completed {
    files: usize,
    objects: usize,
    filled: Vec<Sourced<Object>>,
    problems: Vec<Problem>,
}

fn complete(paths: &[PathBuf]) -> Result<Completed, Failure> {
    let sources = manifests::read(paths)?;
    let mut written = Vec::new();
    let mut problems = Vec::new();
    for source in &sources {
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
    let filled = controller::fill(&desired, [], &LabNetwork::default());
    add(&mut problems, twice.into_iter().chain(filled.problems));
    Ok(Completed { files: sources.len(), objects, filled: filled.objects, problems })
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
    let Completed { files, objects, filled, mut problems } = complete(paths)?;
    let (cluster, conflicts) = Cluster::from_objects(filled);
    let (tables, refused) = compile(&cluster, 1);
    add(&mut problems, conflicts.into_iter().chain(refused));
    Ok(Intent { files, objects, problems, tables })
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
    let completed = complete(paths)?;
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
    for problem in problems {
        match problem.severity {
            Severity::Refused => output::warn(&format!("refused, and left out of the answer: {problem}")),
            _ => output::warn(&problem.to_string()),
        }
    }
}
