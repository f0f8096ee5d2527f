//! Manifests as intent: parsed, put together, and completed as the lab's controller would.

use crate::manifests;
use crate::output::Failure;
use policy::objects::{self, Problem};
use std::path::PathBuf;

/// What `-f PATH...` means.
pub(crate) struct Intent {
    /// Number of files read.
    pub(crate) files: usize,
    /// Number of objects that were accepted as they are written.
    pub(crate) objects: usize,
    /// What is wrong, in the order of the files, then between objects.
    pub(crate) problems: Vec<Problem>,
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
    Ok(Intent { files: sources.len(), objects: written.len(), problems })
}
