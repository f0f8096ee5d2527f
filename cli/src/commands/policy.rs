//! `podplane policy`: what the policies of manifests allow, from the compiled tables.

use crate::manifests::ManifestArgs;
use crate::output::{Answer, Context, Failure};
use clap::{Args, Subcommand};

/// Subcommands of `podplane policy`.
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Every pod to every pod
    Matrix(MatrixArgs),
}

/// Arguments of `podplane policy matrix`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane policy matrix -f manifests/
  podplane policy matrix -f manifests/ --port TCP/5432 --port UDP/53 --family 6 -o json")]
pub(crate) struct MatrixArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
}

/// Runs a policy command.
pub(crate) fn run(command: PolicyCommand, _context: &Context) -> Result<Answer, Failure> {
    let PolicyCommand::Matrix(args) = command;
    crate::manifests::read(&args.manifests.paths)?;
    Ok(Answer::Yes)
}
