//! The `-f PATH` argument: which files it names and what they hold.
//!
//! PATH is a file, a folder (every `.yaml`, `.yml` and `.json` below it, in name order) or `-` for standard input. A path
//! that cannot be read is bad input (exit code 2).

use crate::output::Failure;
use clap::Args;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Folders inside folders that are followed; a deeper tree is most likely a loop of links.
const FOLDER_DEPTH_MAX: usize = 32;

/// The repeatable `-f PATH`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ManifestArgs {
    /// Kubernetes YAML or JSON: a file, a folder, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,
}

/// The text of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The name that messages use: the path as the user would write it, or `<stdin>`.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) text: String,
}

/// Reads every file that `paths` name, in order.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    if paths.iter().filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Failure::BadInput("-f -: standard input can be read only once".to_owned()));
    }
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            sources.push(read_stdin()?);
        } else {
            let mut files = Vec::new();
            list(path, FOLDER_DEPTH_MAX, &mut files)?;
            if files.is_empty() {
                return Err(Failure::BadInput(format!("{}: no .yaml, .yml or .json file in it", path.display())));
            }
            for file in files {
                sources.push(read_file(&file)?);
            }
        }
    }
    Ok(sources)
}

/// Reads one file, or standard input if `path` is `-`.
pub(crate) fn read_one(path: &Path) -> Result<Source, Failure> {
    if path.as_os_str() == "-" { read_stdin() } else { read_file(path) }
}

fn read_stdin() -> Result<Source, Failure> {
    let mut text = String::new();
    io::stdin().lock().read_to_string(&mut text).map_err(|error| Failure::BadInput(format!("<stdin>: {error}")))?;
    Ok(Source { name: "<stdin>".to_owned(), text })
}

fn read_file(path: &Path) -> Result<Source, Failure> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
    Ok(Source { name: path.display().to_string(), text })
}

fn list(path: &Path, depth_left: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !fs::metadata(path).map_err(|error| unreadable(path, &error))?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth_left == 0 {
        return Err(Failure::BadInput(format!("{}: more than {FOLDER_DEPTH_MAX} folders deep", path.display())));
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| unreadable(path, &error))? {
        entries.push(entry.map_err(|error| unreadable(path, &error))?.path());
    }
    entries.sort();
    for entry in entries {
        if entry.is_dir() || is_manifest(&entry) {
            list(&entry, depth_left - 1, files)?;
        }
    }
    Ok(())
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::BadInput(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
