//! Manifests as intent: parsed, put together, completed as the lab's controller would, and compiled.
//!
//! What the manifests state is taken as it is; what is missing (nodes, addresses, the pods of a Deployment, EndpointSlices) is
//! filled in. Each step tells its own problems; the objects that it refuses take no part in the next one.

use crate::manifests;
use crate::output::{self, Failure};
use control::controller::{self, LabNetwork};
use policy::cluster::{Cluster, settle};
use policy::compile::compile;
use policy::objects::{self, Problem, Severity};
use policy::tables::Tables;
use std::path::PathBuf;

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

/// Reads the manifests that `paths` name. Text that cannot be parsed is among the problems.
pub(crate) fn load(paths: &[PathBuf]) -> Result<Intent, Failure> {
    let sources = manifests::read(paths)?;
    let mut written = Vec::new();
    let mut problems = Vec::new();
    for source in &sources {
        let parsed = objects::parse(&source.name, &source.text);
        written.extend(parsed.objects);
        problems.extend(parsed.problems);
    }
    let objects = written.len();
    let (desired, twice) = settle(written);
    let filled = controller::fill(&desired, [], &LabNetwork::default());
    let (cluster, conflicts) = Cluster::from_objects(filled.objects);
    let (tables, refused) = compile(&cluster, 1);
    for problem in twice.into_iter().chain(filled.problems).chain(conflicts).chain(refused) {
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }
    Ok(Intent { files: sources.len(), objects, problems, tables })
}

/// The same for a command that answers from the tables: text that cannot be parsed is bad input, everything else that is
/// wrong is a warning.
pub(crate) fn load_to_answer(paths: &[PathBuf]) -> Result<Intent, Failure> {
    let intent = load(paths)?;
    let unreadable: Vec<String> = intent
        .problems
        .iter()
        .filter(|problem| problem.severity == Severity::Unreadable)
        .map(|problem| problem.to_string())
        .collect();
    if !unreadable.is_empty() {
        return Err(Failure::BadInput(unreadable.join("\n")));
    }
    for problem in &intent.problems {
        match problem.severity {
            Severity::Refused => output::warn(&format!("refused, and left out of the answer: {problem}")),
            _ => output::warn(&problem.to_string()),
        }
    }
    Ok(intent)
}
