//! What is wrong, told once: a problem is told when it comes up, and again only if it had gone in between.

use crate::output;
use gateway::http::ServerProblem;
use policy::objects::{Problem, Severity};
use std::collections::BTreeSet;

/// What has been told.
#[derive(Default)]
pub(super) struct Report {
    manifests: BTreeSet<String>,
    server: BTreeSet<String>,
    has_waited: bool,
}

impl Report {
    /// What is wrong with objects and files.
    pub(super) fn of_manifests(&mut self, problems: Vec<Problem>) {
        let lines = problems.iter().map(|problem| match problem.severity {
            Severity::Refused => format!("refused: {problem}"),
            _ => problem.to_string(),
        });
        tell(&mut self.manifests, lines.collect());
    }

    /// What the proxy cannot do.
    pub(super) fn of_server(&mut self, problems: Vec<ServerProblem>) {
        tell(&mut self.server, problems.iter().map(ToString::to_string).collect());
    }

    /// That nothing was read so far.
    pub(super) fn waiting(&mut self) {
        if !std::mem::replace(&mut self.has_waited, true) {
            output::progress("nothing could be read so far: clients wait until something can");
        }
    }
}

fn tell(told: &mut BTreeSet<String>, problems: Vec<String>) {
    let before = std::mem::take(told);
    for problem in problems {
        if !before.contains(&problem) && !told.contains(&problem) {
            output::warn(&problem);
        }
        told.insert(problem);
    }
}
