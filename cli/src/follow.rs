//! The loop of commands that run by themselves on a source: what changes there takes effect, what is wrong is told as it
//! comes and goes, and a signal ends it.

use crate::output::{self, Failure};
use control::Stop;
use control::following::Following;
use control::manifests::Update;
use control::source::Wake;
use policy::objects::{Problem, Severity};
use std::collections::BTreeSet;
use std::os::fd::AsFd;

/// A source that is followed, and what ends that.
pub(crate) struct Follow {
    source: Following,
    stop: Stop,
    /// The problems that were told and have not gone.
    told: BTreeSet<String>,
}

impl Follow {
    /// Follows `source` until `stop`.
    pub(crate) fn new((source, stop): (Following, Stop)) -> Follow {
        Follow { source, stop, told: BTreeSet::new() }
    }

    /// What the source holds when it begins.
    pub(crate) fn first(&mut self) -> Update {
        let update = self.source.refresh().expect("the first look always gives an update");
        self.tell(&update.problems);
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
                self.tell(&update.problems);
                apply(update);
            }
        }
    }

    /// Tells what has become wrong and what is no longer wrong, each once.
    fn tell(&mut self, problems: &[Problem]) {
        let present: BTreeSet<String> = problems.iter().map(text).collect();
        // In the order of the files, not of the texts.
        for problem in problems.iter().map(text).filter(|text| !self.told.contains(text)) {
            output::warn(&problem);
        }
        for gone in self.told.difference(&present) {
            output::progress(&format!("no longer: {gone}"));
        }
        self.told = present;
    }
}

fn text(problem: &Problem) -> String {
    match problem.severity {
        Severity::Refused => format!("refused: {problem}"),
        _ => problem.to_string(),
    }
}
