//! The commands, one file per family. Each has its arguments and a `run` that gives an [`Answer`] or a [`Failure`].

mod agent;
mod bench;
mod check;
mod cleanup;
mod cni;
mod completions;
mod dns;
mod dns_flags;
mod explain;
mod ingress;
mod lab;
mod node;
mod node_flags;
mod policy;
mod service_flags;

use crate::output::{Answer, Context, Failure, OutputFormat};
use clap::Subcommand;

/// What can be asked of podplane.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Multi-node labs from Kubernetes YAML
    #[command(subcommand)]
    Lab(lab::LabCommand),
    /// What the policies of manifests allow, from the compiled tables: no root, no packets
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// What becomes of a connection and why: every step and the rule behind it, nothing sent
    Explain(explain::ExplainArgs),
    /// Validate manifests: each problem by file, object and field
    Check(check::CheckArgs),
    /// Serve the cluster DNS by itself: names of manifests, and of upstreams
    Dns(dns::DnsArgs),
    /// Run the Ingress and Gateway proxy on manifests
    Ingress(ingress::IngressArgs),
    /// Run the node process on a cluster directory
    Node(node::NodeArgs),
    /// Run the node process on a Kubernetes API server
    Agent(agent::AgentArgs),
    #[command(flatten)]
    Query(node::QueryCommand),
    /// Put the CNI plugin where container runtimes look for it, or take it away
    #[command(subcommand)]
    Cni(cni::CniCommand),
    /// Take away what a node process has left for the next one
    Cleanup(cleanup::CleanupArgs),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Runs `command`.
pub(crate) fn run(command: Command, context: &Context) -> Result<Answer, Failure> {
    // Before anything is done that the answer would be about.
    if context.output == OutputFormat::Junit && !matches!(&command, Command::Policy(command) if command.has_tests()) {
        return Err(Context::no_junit());
    }
    match command {
        Command::Lab(command) => lab::run(command, context),
        Command::Policy(command) => policy::run(command, context),
        Command::Explain(args) => explain::run(args, context),
        Command::Check(args) => check::run(args, context),
        Command::Dns(args) => dns::run(args, context),
        Command::Ingress(args) => ingress::run(args, context),
        Command::Node(args) => node::run(args, context),
        Command::Agent(args) => agent::run(args, context),
        Command::Query(command) => node::query(command, context),
        Command::Cni(command) => cni::run(command, context),
        Command::Cleanup(args) => cleanup::run(&args, context),
        Command::Completions(args) => completions::run(args),
    }
}
