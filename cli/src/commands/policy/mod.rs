//! `podplane policy`: what the policies of manifests allow, what a change of them changes, and what looks wrong in them; all
//! from the compiled tables that nodes use.

mod diff;
mod lint;
mod matrix;

pub(crate) use matrix::FamilyArg;

use crate::output::{Answer, Context, Failure};
use clap::Subcommand;

/// Subcommands of `podplane policy`.
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Every pod to every pod, or whether that is as expected
    Matrix(matrix::MatrixArgs),
    /// Which flows a change opens and closes
    Diff(diff::DiffArgs),
    /// What looks wrong in policies that are valid
    Lint(lint::LintArgs),
}

impl PolicyCommand {
    /// Whether the answer can be told as tests that passed or failed.
    pub(crate) fn has_tests(&self) -> bool {
        matches!(self, PolicyCommand::Matrix(args) if args.has_expectations())
    }
}

/// Runs a policy command.
pub(crate) fn run(command: PolicyCommand, context: &Context) -> Result<Answer, Failure> {
    match command {
        PolicyCommand::Matrix(args) => matrix::run(args, context),
        PolicyCommand::Diff(args) => diff::run(args, context),
        PolicyCommand::Lint(args) => lint::run(args, context),
    }
}
