//! `podplane lab`: labs from Kubernetes YAML.

use crate::output::{Answer, Context, Failure};
use clap::Subcommand;
use lab::error::LabError;

/// Subcommands of `podplane lab`.
#[derive(Subcommand)]
pub(crate) enum LabCommand {
    /// podplane next to the kernel's bridge and VXLAN, in one run
    Bench(super::bench::BenchArgs),
    /// What a lab runs inside of its namespaces; not for people
    #[command(hide = true)]
    Internal {
        /// Subcommand and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// Runs a lab command.
pub(crate) fn run(command: LabCommand, context: &Context) -> Result<Answer, Failure> {
    match command {
        LabCommand::Bench(args) => super::bench::run(args, context),
        // The exit code is that of the command inside, whatever it is.
        LabCommand::Internal { args } => std::process::exit(lab::internal::run(&args).map_err(failure)?),
    }
}

fn failure(error: LabError) -> Failure {
    match error {
        LabError::BadInput(text) => Failure::BadInput(text),
        LabError::Failed(text) => Failure::Failed(text),
    }
}
