//! `podplane node`: the node process on a cluster directory, and the commands that ask a running one.

mod drops;
mod policies;
mod services;
mod tables;

use super::dns_flags::DnsFlags;
use super::service_flags::{self, ServiceFlags};
use crate::output::{Answer, Context, Failure};
use clap::{Args, Subcommand, ValueEnum};
use control::agent::{self, AgentConfig, AgentError};
use control::api::{Client, ClientError};
use ipnet::IpNet;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

/// Socket of a node that was started without a thought about where; `podplane-cni` looks there too.
const DEFAULT_SOCKET: &str = "/run/podplane/node.sock";

/// Variable that names the socket, for shells and containers.
const SOCKET_VARIABLE: &str = "PODPLANE_SOCKET";

/// Arguments of `podplane node`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane node --node-name node1 --cluster-dir /etc/podplane/cluster --socket /run/podplane/node.sock
  podplane status --socket /run/podplane/node.sock

The node waits until the folder has a Node object of its name with an InternalIP and pod ranges (spec.podCIDRs). SIGTERM
ends it and takes its interfaces and routes away.

Exit codes: 0 it was told to stop, 1 it could not start or broke.")]
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
    /// Threads that carry traffic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) shards: u16,
    /// Kind of TAP: with offloads, plain, or what the kernel grants
    #[arg(long, value_enum, default_value_t = TapMode::Auto)]
    pub(crate) tap_mode: TapMode,
    /// VXLAN network identifier, the same on all nodes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..1 << 24))]
    pub(crate) vni: u32,
    /// UDP port of the overlay, the same on all nodes
    #[arg(long, value_name = "PORT", default_value_t = 4789, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) vxlan_port: u16,
    /// Service range that the node itself reaches through podplane; may be repeated [default: 10.96.0.0/16 and
    /// fd00:10:96::/112]
    #[arg(long, value_name = "CIDR")]
    pub(crate) service_cidr: Vec<ipnet::IpNet>,
    /// MTU of the underlay [default: that of the interface with the node's address]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1350..))]
    pub(crate) underlay_mtu: Option<u16>,
    #[command(flatten)]
    pub(crate) services: ServiceFlags,
    #[command(flatten)]
    pub(crate) dns: DnsFlags,
    /// Name servers whose answers say who has a name in domainNames of ClusterNetworkPolicies, beside pods of namespace
    /// kube-system with the label k8s-app=kube-dns (a node-local cache, for example: --trusted-dns 169.254.20.10). Their answers
    /// over UDP are read; who controls such a server decides which addresses those rules open
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = service_flags::range)]
    pub(crate) trusted_dns: Vec<IpNet>,
    /// Source ports for connections that leave the cluster with the node's address [default: ports that no program gets by
    /// chance first, more as they are needed]
    #[arg(long, value_name = "FIRST-LAST", value_parser = port_range)]
    pub(crate) snat_ports: Option<RangeInclusive<u16>>,
    /// UDP port on which nodes tell each other that they live while there are LoadBalancer addresses to announce, the same
    /// on all nodes
    #[arg(long, value_name = "PORT", default_value_t = agent::HEARTBEAT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) heartbeat_port: u16,
    /// Where load balancers ask over HTTP (/healthz, /livez) whether this node takes traffic, or `none`; 503 while the Node is
    /// being deleted
    #[arg(long, value_name = "ADDR:PORT", default_value_t = Listen::default())]
    pub(crate) healthz_listen: Listen,
}

/// Where to listen, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen(Option<SocketAddr>);

impl Default for Listen {
    fn default() -> Listen {
        Listen(Some(agent::HEALTHZ_LISTEN))
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        if text == "none" {
            return Ok(Listen(None));
        }
        let wrong = |_| format!("{text:?} is not an address with a port such as 0.0.0.0:10256 or [::]:10256, nor none");
        text.parse().map(|listen| Listen(Some(listen))).map_err(wrong)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(listen) => listen.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// `FIRST-LAST`, both included.
fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parts = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match parts {
        Some((first, last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err(format!("{text:?} is not a range of ports such as 40000-59999")),
    }
}

/// Kind of TAP.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TapMode {
    /// Offloads if the kernel grants them.
    Auto,
    /// Offloads or nothing.
    Offload,
    /// No offloads.
    Plain,
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
    let cluster_dns = args.dns.cluster_dns(args.services.cluster_dns.as_ref()).map_err(Failure::BadInput)?;
    let defaults = AgentConfig::new(&args.node_name, args.cluster_dir.as_path(), &args.socket);
    let config = AgentConfig {
        state_dir: args.state_dir,
        shards: args.shards,
        tap_mode: match args.tap_mode {
            TapMode::Auto => agent::TapMode::Auto,
            TapMode::Offload => agent::TapMode::Offload,
            TapMode::Plain => agent::TapMode::Plain,
        },
        vni: agent::Vni::new(args.vni).expect("clap checked the range"),
        vxlan_port: args.vxlan_port,
        service_cidrs: if args.service_cidr.is_empty() { defaults.service_cidrs.clone() } else { args.service_cidr },
        underlay_mtu: args.underlay_mtu,
        nodeport_addresses: args.services.nodeport_addresses,
        external_ips: args.services.external_ips,
        masquerade_all: args.services.masquerade_all,
        non_masquerade_cidrs: args.services.non_masquerade_cidrs,
        trusted_dns: args.trusted_dns,
        cluster_dns,
        snat_ports: args.snat_ports,
        heartbeat_port: args.heartbeat_port,
        healthz_listen: args.healthz_listen.0,
        ..defaults
    };
    agent::run(config).map_err(|error| match error {
        AgentError::Socket(..) | AgentError::State(..) => Failure::BadInput(error.to_string()),
        _ => Failure::Failed(error.to_string()),
    })?;
    Ok(Answer::Yes)
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
