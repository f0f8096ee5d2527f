//! `podplane node`: the node process on a cluster directory, and the commands that ask a running one.

mod drops;
mod policies;
mod services;
mod tables;

use super::node_flags::{ClusterFlags, NodeFlags};
use crate::output::{Answer, Context, Failure};
use clap::{Args, Subcommand};
use control::api::{Client, ClientError};
use std::path::PathBuf;

/// Socket of a node that was started without a thought about where; `podplane-cni` looks there too.
pub(crate) const DEFAULT_SOCKET: &str = "/run/podplane/node.sock";

/// Variable that names the socket, for shells and containers.
const SOCKET_VARIABLE: &str = "PODPLANE_SOCKET";

/// Arguments of `podplane node`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane node --node-name node1 --cluster-dir /etc/podplane/cluster --socket /run/podplane/node.sock
  podplane status --socket /run/podplane/node.sock

The node waits until the folder has a Node object of its name with an InternalIP and pod ranges (spec.podCIDRs). When it
ends with a --state-dir, interfaces, routes and flows stay for the process that is started next: connections go on. Without, or
with `podplane cleanup`, nothing stays.

Exit codes: 0 it was told to stop, 1 it could not start or broke.")]
pub(crate) struct NodeArgs {
    /// metadata.name of this Node
    #[arg(long, value_name = "N")]
    node_name: String,
    /// Folder of Kubernetes YAML, watched
    #[arg(long, value_name = "DIR")]
    cluster_dir: PathBuf,
    /// Unix socket of the node's API
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    #[command(flatten)]
    flags: NodeFlags,
}

/// Which node is asked.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane status --socket /run/podplane/node.sock
  podplane flows --node node1                       a node of the lab
  podplane drops --node node2 --lab big -o json")]
pub(crate) struct AskArgs {
    /// Unix socket of the node's API [default: $PODPLANE_SOCKET, else /run/podplane/node.sock]
    #[arg(long, value_name = "PATH", conflicts_with = "node")]
    socket: Option<PathBuf>,
    /// A node of a lab, by its name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The lab of --node
    #[arg(long, value_name = "L", requires = "node", default_value = lab::record::DEFAULT_NAME)]
    lab: String,
}

/// What of the discarded is asked for.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane drops --node node1                       by reason, then the most recent ones
  podplane drops --node node1 --follow              what is dropped from now on, until interrupted
  podplane drops --follow -o json | jq .why         one JSON document per line

A record stands for all packets from one address to another and its port that one port discarded for one reason. A line of
--follow is a new record, or one that has counted on since its last line. `would be` marks what only a policy in dry run
(podplane.io/dry-run) would have denied.")]
pub(crate) struct DropsArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Print what is dropped from now on, as it happens
    #[arg(short, long)]
    follow: bool,
}

/// Commands that ask a running node.
#[derive(Subcommand)]
pub(crate) enum QueryCommand {
    /// What a running node is and has in force
    Status(AskArgs),
    /// The ports of a running node: who is attached, and what went through
    Ports(AskArgs),
    /// The conversations that a running node knows
    Flows(AskArgs),
    /// The Services that a running node serves: addresses, ports, backends, and what came to them
    Services(AskArgs),
    /// What a running node discarded, and why: by reason, and the most recent ones with what `podplane explain` says
    Drops(DropsArgs),
    /// The policies in force on a running node: whom they select, and how often each rule decided
    Policies(AskArgs),
}

/// Runs the node process.
pub(crate) fn run(args: NodeArgs, _context: &Context) -> Result<Answer, Failure> {
    args.flags.run(&args.node_name, args.cluster_dir.as_path().into(), &args.socket, ClusterFlags::default())
}

/// Asks a running node.
pub(crate) fn query(command: QueryCommand, context: &Context) -> Result<Answer, Failure> {
    match command {
        QueryCommand::Status(args) => context.show(&ask(&args, Client::status)?, tables::status)?,
        QueryCommand::Ports(args) => context.show(&ask(&args, Client::ports)?, |ports| tables::ports(ports))?,
        QueryCommand::Flows(args) => context.show(&ask(&args, Client::flows)?, |flows| tables::flows(flows))?,
        QueryCommand::Services(args) => {
            context.show(&ask(&args, Client::services)?, |services| services::services(services))?
        }
        QueryCommand::Drops(DropsArgs { ask: args, follow: true }) => {
            drops::follow(&Client::new(socket(&args)?), context)?
        }
        QueryCommand::Drops(DropsArgs { ask: args, follow: false }) => {
            context.show(&ask(&args, Client::drops)?, |dropped| drops::drops(dropped))?
        }
        QueryCommand::Policies(args) => {
            context.show(&ask(&args, Client::policies)?, |listed| policies::policies(listed))?
        }
    }
    Ok(Answer::Yes)
}

fn ask<T>(args: &AskArgs, question: impl Fn(&Client) -> Result<T, ClientError>) -> Result<T, Failure> {
    question(&Client::new(socket(args)?)).map_err(|error| Failure::Failed(error.to_string()))
}

fn socket(args: &AskArgs) -> Result<PathBuf, Failure> {
    if let Some(node) = &args.node {
        let lab = lab::Lab::open(&args.lab).map_err(super::lab::failure)?;
        return lab.socket(node).map_err(super::lab::failure);
    }
    let of_environment = || std::env::var_os(SOCKET_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    Ok(args.socket.clone().or_else(of_environment).unwrap_or_else(|| DEFAULT_SOCKET.into()))
}
