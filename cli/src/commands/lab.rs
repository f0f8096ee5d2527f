//! `podplane lab`: labs from Kubernetes YAML.

use crate::output::{Answer, Context, Failure};
use clap::Subcommand;

/// Subcommands of `podplane lab`.
#[derive(Subcommand)]
pub(crate) enum LabCommand {}

/// Runs a lab command.
pub(crate) fn run(command: LabCommand, _context: &Context) -> Result<Answer, Failure> {
    match command {}
}
