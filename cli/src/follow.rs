//! The loop of commands that run by themselves on a source: what changes there takes effect, what is wrong is told as it
//! comes and goes, and a signal ends it.

use crate::output::{self, Failure};
use control::Stop;
use control::controller::LabNetwork;
use control::following::Following;
use control::manifests::{Manifests, ManifestsError, Update};
use control::source::Wake;
use policy::compile::CompileOptions;
use policy::objects::{Problem, Severity};
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::PathBuf;

/// A source that is followed, and what ends that.
pub(crate) struct Follow {
    source: Following,
    stop: Stop,
    told: Told,
}

/// The problems that were told and have not gone.
#[derive(Default)]
pub(crate) struct Told(BTreeSet<String>);

impl Follow {
    /// Follows `source` until `stop`.
    pub(crate) fn new((source, stop): (Following, Stop)) -> Follow {
        Follow { source, stop, told: Told::default() }
    }

    /// What the source holds when it begins.
    pub(crate) fn first(&mut self) -> Update {
        let update = self.source.refresh().expect("the first look always gives an update");
        self.told.tell(&update.problems);
        update
    }

    /// Hands every change to `apply` until the process is told to end.
    pub(crate) fn until_stopped(&mut self, mut apply: impl FnMut(Update)) -> Result<(), Failure> {
        loop {
            match self.source.wait(self.stop.as_fd()) {
                Ok(Wake::Stop) => return Ok(()),
                Ok(Wake::Look) => {}
                Err(error) => return Err(Failure::Failed(format!("following the source: {error}"))),
            }
            if let Some(update) = self.source.refresh() {
                self.told.tell(&update.problems);
                apply(update);
            }
        }
    }
}

/// Opens `paths` as a source, completed by `network`.
pub(crate) fn open(paths: &[PathBuf], network: LabNetwork) -> Result<Manifests, Failure> {
    Manifests::open(paths, network, CompileOptions::default()).map_err(|error| match error {
        ManifestsError::BadPath(text) => Failure::BadInput(text),
        ManifestsError::Watching(_) => Failure::Failed(error.to_string()),
    })
}

/// Has SIGTERM and SIGINT wait. To be called before there are threads: they are blocked for all that come later.
pub(crate) fn stop() -> Result<Stop, Failure> {
    Stop::on_signals().map_err(|error| Failure::Failed(format!("receiving signals: {error}")))
}

impl Told {
    /// Tells what has become wrong and what is no longer wrong, each once.
    pub(crate) fn tell(&mut self, problems: &[Problem]) {
        let present: BTreeSet<String> = problems.iter().map(text).collect();
        // In the order of the files, not of the texts.
        let mut warned = BTreeSet::new();
        for problem in problems.iter().map(text).filter(|text| !self.0.contains(text)) {
            if warned.insert(problem.clone()) {
                output::warn(&problem);
            }
        }
        for gone in self.0.difference(&present) {
            output::progress(&format!("no longer: {gone}"));
        }
        self.0 = present;
    }
}

fn text(problem: &Problem) -> String {
    match problem.severity {
        Severity::Refused => format!("refused: {problem}"),
        _ => problem.to_string(),
    }
}
