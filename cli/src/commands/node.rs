//! `podplane node`: the node process on a cluster directory, and the commands that ask a running one.

use crate::output::{Answer, Context, Failure};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Arguments of `podplane node`.
#[derive(Args)]
pub(crate) struct NodeArgs {
    /// metadata.name of this Node
    #[arg(long, value_name = "N")]
    pub(crate) node_name: String,
    /// Folder of Kubernetes YAML, watched
    #[arg(long, value_name = "DIR")]
    pub(crate) cluster_dir: PathBuf,
    /// Unix socket of the node's API
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: PathBuf,
    /// Folder for state that outlives the process
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

/// Commands that ask a running node.
#[derive(Subcommand)]
pub(crate) enum QueryCommand {}

/// Runs the node process.
pub(crate) fn run(args: NodeArgs, _context: &Context) -> Result<Answer, Failure> {
    Err(Failure::Failed(format!("node {}: the dataplane is not part of this build", args.node_name)))
}

/// Asks a running node.
pub(crate) fn query(command: QueryCommand, _context: &Context) -> Result<Answer, Failure> {
    match command {}
}
