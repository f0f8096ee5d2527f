//! `podplane cleanup`: takes away what a node process has left for the next one.

use crate::output::{Answer, Context, Failure, warn};
use clap::Args;
use control::cleanup::{self, CleanupError};
use serde_json::json;
use std::path::PathBuf;

/// Arguments of `podplane cleanup`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane cleanup --state-dir /var/lib/podplane

A node process with a state folder leaves its interfaces, routes, rules and flows when it ends, so that the next one goes on with
them. This removes all of it: podplane0 and the rules from the network namespace that it is run in, the interfaces of pods that are
still there from theirs, and what is in the folder. It does nothing while a node process runs.

Exit codes: 0 everything is gone, 1 something is not, or a node process runs.")]
pub(crate) struct CleanupArgs {
    /// Folder that the node process was given
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
}

/// Runs it.
pub(crate) fn run(args: &CleanupArgs, context: &Context) -> Result<Answer, Failure> {
    let done = cleanup::run(&args.state_dir).map_err(|error| match error {
        CleanupError::Running => Failure::Failed(error.to_string()),
        CleanupError::State(..) => Failure::BadInput(error.to_string()),
    })?;
    done.failed.iter().for_each(|failed| warn(&format!("not removed: {failed}")));
    let value = json!({ "removed": done.removed, "failed": done.failed });
    context.show(&value, |_| match done.removed.is_empty() {
        true => "nothing was left\n".to_owned(),
        false => done.removed.iter().map(|what| format!("removed: {what}\n")).collect(),
    })?;
    Ok(if done.failed.is_empty() { Answer::Yes } else { Answer::No })
}
