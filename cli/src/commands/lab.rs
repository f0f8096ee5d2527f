//! `podplane lab`: labs from Kubernetes YAML.

mod controller;
mod join;
mod text;

use super::dns_flags::DnsFlags;
use super::policy::FamilyArg;
use super::service_flags::ServiceFlags;
use crate::manifests::{self, ManifestArgs};
use crate::output::{self, Answer, Context, Failure, OutputFormat};
use clap::{Args, Subcommand, ValueEnum};
use lab::error::LabError;
use lab::probe::{Outcome, ProbeProtocol, split_target};
use lab::server::ListenPort;
use lab::status::LabState;
use lab::underlay::UnderlayKind;
use lab::{Changed, Ending, Lab, Manifest, NodeOptions, UpOptions};
use serde_json::json;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

/// Subcommands of `podplane lab`.
#[derive(Subcommand)]
pub(crate) enum LabCommand {
    /// Start a lab from Kubernetes YAML and wait until it is ready
    Up(UpArgs),
    /// Merge manifests into a running lab; in force when the command returns
    Apply(ChangeArgs),
    /// Remove the objects of manifests from a running lab
    Delete(ChangeArgs),
    /// Nodes and pods of a lab, with their addresses and state
    Status(StatusArgs),
    /// Play the Kubernetes controllers: complete manifests, as a cluster directory for the nodes that join
    Controller(controller::ControllerArgs),
    /// Be one node of a lab, or the world outside, whose other parts run on other machines or in other containers
    Join(join::JoinArgs),
    /// The names of the labs that run
    #[command(after_help = "Examples:
  podplane lab list
  podplane lab list -o json")]
    List,
    /// Run a command at a place of the lab
    Exec(ExecArgs),
    /// Make one real connection
    Probe(ProbeArgs),
    /// Connect every pod to every pod
    Matrix(MatrixArgs),
    /// Capture packets at a place of the lab with tcpdump
    Capture(CaptureArgs),
    /// Print the log of a node or a pod
    Logs(LogsArgs),
    /// End a node's process and start it again; its pods and their connections go on
    Restart(RestartArgs),
    /// End a lab and remove everything of it
    #[command(after_help = "Examples:
  podplane lab down
  podplane lab down --name big")]
    Down(NameArgs),
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

/// Which lab.
#[derive(Args)]
pub(crate) struct NameArgs {
    /// Name of the lab
    #[arg(long, visible_alias = "lab", value_name = "L", default_value = lab::record::DEFAULT_NAME)]
    name: String,
}

/// Arguments of `podplane lab status`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab status
  podplane lab status --name big -o json
  podplane lab status --ready                      for health checks

Exit codes: 0 told (with --ready: and everything runs), 1 there is no such lab, or --ready and something does not run.")]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Exit with 1 unless everything runs that should run here
    #[arg(long)]
    ready: bool,
}

/// How the nodes open TAPs.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TapMode {
    /// With offloads where the kernel has them
    Auto,
    /// With offloads, or not at all
    Offload,
    /// Without offloads
    Plain,
}

impl From<TapMode> for lab::TapMode {
    fn from(mode: TapMode) -> lab::TapMode {
        match mode {
            TapMode::Auto => lab::TapMode::Auto,
            TapMode::Offload => lab::TapMode::Offload,
            TapMode::Plain => lab::TapMode::Plain,
        }
    }
}

/// What joins the nodes.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Underlay {
    /// A kernel bridge, or a hub where the kernel has none
    Auto,
    /// A kernel bridge and veth pairs
    Bridge,
    /// A switch in a process, over TAPs
    Hub,
}

/// Arguments of `podplane lab up`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab up                                  the bundled demo on two nodes
  podplane lab up -f manifests/ --nodes 3 --name big
  podplane lab up --rootless                       as an ordinary user; needs a readable and writable /dev/net/tun
  kubectl get ns,deploy,svc,netpol -A -o yaml | podplane lab up -f -")]
pub(crate) struct UpArgs {
    /// Kubernetes YAML or JSON: a file, a folder, or - for standard input; may be repeated [default: the bundled demo]
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Number of nodes, when the manifests have no Node
    #[arg(long, value_name = "N", default_value_t = 2)]
    nodes: u16,
    #[command(flatten)]
    name: NameArgs,
    /// Make a user namespace: needs no privileges (always so for an ordinary user)
    #[arg(long)]
    rootless: bool,
    /// How the nodes open TAPs
    #[arg(long, value_enum, default_value_t = TapMode::Auto, value_name = "MODE")]
    tap_mode: TapMode,
    /// What joins the nodes
    #[arg(long, value_enum, default_value_t = Underlay::Auto, value_name = "KIND")]
    underlay: Underlay,
    /// Threads of each node that carry traffic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    #[command(flatten)]
    services: ServiceFlags,
    #[command(flatten)]
    dns: DnsFlags,
}

/// Arguments of `podplane lab apply` and `delete`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab apply -f policy.yaml
  podplane lab delete -f policy.yaml")]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    #[command(flatten)]
    name: NameArgs,
}

/// Arguments of `podplane lab exec`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab exec shop/db-0 -- ip addr
  podplane lab exec node:node1 -- ip route
  podplane lab exec world -- ping -c 1 172.30.0.11

The exit code is that of the command.")]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    name: NameArgs,
    /// NS/POD, node:NAME, world, underlay, or an address of a pod or node
    #[arg(value_name = "PLACE")]
    place: String,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    argv: Vec<String>,
}

/// Arguments of `podplane lab probe`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab probe --from shop/db-0 --to 10.244.1.2:8080
  podplane lab probe --from shop/frontend-a1b2c --to backend.shop:80
  podplane lab probe --from node:node1 --to shop/db-0:5432
  podplane lab probe --from world --to 172.30.0.11 --protocol icmp

HOST is an address, a DNS name, or a place. While the lab has no cluster DNS, Service names are looked up in its manifests.
Exit codes: 0 connected, 1 not connected, 2 bad usage.")]
pub(crate) struct ProbeArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Who asks: NS/POD, node:NAME, world, world:IP, or an address
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Whom to ask; [ADDRESS]:PORT for IPv6, HOST alone for ICMP
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// tcp, udp, sctp or icmp
    #[arg(long, value_name = "P", default_value = "tcp")]
    protocol: String,
    /// Time for the whole probe
    #[arg(long, value_name = "MS", default_value_t = 3000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout: u64,
}

/// Arguments of `podplane lab matrix`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab matrix
  podplane lab matrix --port TCP/8080 --port UDP/53 -o json
  podplane lab matrix --family 6 --timeout 300")]
pub(crate) struct MatrixArgs {
    #[command(flatten)]
    name: NameArgs,
    /// Port to try at every pod; may be repeated [default: the containerPorts of each pod, else TCP/80]
    #[arg(long = "port", value_name = "PROTO/PORT")]
    ports: Vec<String>,
    /// Address family of the connections [default: the first that both pods have]
    #[arg(long, value_enum)]
    family: Option<FamilyArg>,
    /// Time for each connection; the default waits for one retransmission
    #[arg(long, value_name = "MS", default_value_t = lab::matrix::TIMEOUT_MS, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    timeout: u64,
}

/// Arguments of `podplane lab capture`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab capture shop/db-0
  podplane lab capture underlay -w underlay.pcap")]
pub(crate) struct CaptureArgs {
    #[command(flatten)]
    name: NameArgs,
    /// NS/POD, node:NAME, world or underlay
    #[arg(value_name = "PLACE")]
    place: String,
    /// Write a pcap file; - for standard output
    #[arg(short = 'w', value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Arguments of `podplane lab logs`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab logs node1
  podplane lab logs shop/db-0 -o json")]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    name: NameArgs,
    /// A node, NS/POD, or world
    #[arg(value_name = "NODE")]
    what: String,
}

/// Arguments of `podplane lab restart`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab restart node1                       as an upgrade does it
  podplane lab restart node1 --kill                as a crash does it

Returns when the node is ready again. What outlives a node's process is in its state folder (podplane node --state-dir).")]
pub(crate) struct RestartArgs {
    #[command(flatten)]
    name: NameArgs,
    /// A node
    #[arg(value_name = "NODE")]
    node: String,
    /// End it by SIGKILL instead of SIGTERM
    #[arg(long)]
    kill: bool,
}

/// Runs a lab command.
pub(crate) fn run(command: LabCommand, context: &Context) -> Result<Answer, Failure> {
    // What runs inside of a lab, or until it is told to end, handles its signals itself.
    if !matches!(command, LabCommand::Internal { .. } | LabCommand::Controller(_) | LabCommand::Join(_)) {
        lab::first::obey_signals().map_err(failure)?;
    }
    match command {
        LabCommand::Up(args) => up(args, context),
        LabCommand::Apply(args) => {
            let changed = open(&args.name)?.apply(&read(&args.manifests.paths)?).map_err(failure)?;
            show_change("applied", &changed, context)
        }
        LabCommand::Delete(args) => {
            let changed = open(&args.name)?.delete(&read(&args.manifests.paths)?).map_err(failure)?;
            show_change("deleted", &changed, context)
        }
        LabCommand::Status(args) => {
            let status = open(&args.name)?.status().map_err(failure)?;
            context.show(&status, text::status)?;
            Ok(if args.ready && status.state != LabState::Ready { Answer::No } else { Answer::Yes })
        }
        LabCommand::Controller(args) => controller::run(args, context),
        LabCommand::Join(args) => join::run(args),
        LabCommand::List => {
            let names = lab::record::list(&lab::record::default_base());
            context.show(&json!({ "labs": names }), |_| names.iter().map(|name| format!("{name}\n")).collect())?;
            Ok(Answer::Yes)
        }
        LabCommand::Exec(args) => exec(args),
        LabCommand::Probe(args) => probe(args, context),
        LabCommand::Matrix(args) => {
            let ports: Result<Vec<ListenPort>, LabError> = args.ports.iter().map(|port| port.parse()).collect();
            let question = lab::matrix::Question {
                ports: ports.map_err(failure)?,
                family: args.family.map(Into::into),
                timeout_ms: args.timeout,
            };
            let matrix = open(&args.name)?.matrix(&question).map_err(failure)?;
            context.show(&matrix, text::matrix)?;
            Ok(Answer::Yes)
        }
        LabCommand::Capture(args) => capture(args),
        LabCommand::Logs(args) => logs(args, context),
        LabCommand::Restart(args) => {
            let ending = if args.kill { Ending::Killed } else { Ending::Terminated };
            let took = open(&args.name)?.restart(&args.node, ending).map_err(failure)?;
            let value = json!({ "node": args.node, "took_ms": took.as_millis() as u64 });
            context.show(&value, |_| format!("{} is ready again after {} ms\n", args.node, took.as_millis()))?;
            Ok(Answer::Yes)
        }
        LabCommand::Down(name) => {
            Lab::down(&name.name).map_err(failure)?;
            context.show(&json!({ "name": name.name, "state": "down" }), |_| format!("lab {} is down\n", name.name))?;
            Ok(Answer::Yes)
        }
        LabCommand::Bench(args) => super::bench::run(args, context),
        // The exit code is that of the command inside, whatever it is.
        LabCommand::Internal { args } => std::process::exit(lab::internal::run(&args).map_err(failure)?),
    }
}

pub(super) fn failure(error: LabError) -> Failure {
    match error {
        LabError::BadInput(text) => Failure::BadInput(text),
        LabError::Failed(text) => Failure::Failed(text),
    }
}

fn open(name: &NameArgs) -> Result<Lab, Failure> {
    Lab::open(&name.name).map_err(failure)
}

fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, Failure> {
    let sources = manifests::read(paths)?;
    Ok(sources.into_iter().map(|source| Manifest { name: source.name, text: source.text }).collect())
}

fn up(args: UpArgs, context: &Context) -> Result<Answer, Failure> {
    let manifests = read(&args.paths)?;
    if manifests.is_empty() && !args.paths.is_empty() {
        return Err(Failure::BadInput("no manifests".into()));
    }
    let node_options = node_options(&args.services, args.dns, args.shards)?;
    let options = UpOptions {
        name: args.name.name,
        manifests,
        nodes: args.nodes,
        rootless: args.rootless,
        tap_mode: args.tap_mode.into(),
        underlay: match args.underlay {
            Underlay::Auto => UnderlayKind::Auto,
            Underlay::Bridge => UnderlayKind::Bridge,
            Underlay::Hub => UnderlayKind::Hub,
        },
        node_options,
    };
    let lab = Lab::up(&options, &mut output::warn).map_err(failure)?;
    let status = lab.status().map_err(failure)?;
    context.show(&status, text::up)?;
    Ok(Answer::Yes)
}

/// What the nodes of a lab are told; what one would refuse is refused here.
fn node_options(services: &ServiceFlags, dns: DnsFlags, shards: u16) -> Result<NodeOptions, Failure> {
    dns.cluster_dns(services.cluster_dns.as_ref()).map_err(Failure::BadInput)?;
    let shards = (shards > 1).then(|| format!("--shards={shards}"));
    let others = dns.args().into_iter().chain(shards).collect();
    Ok(NodeOptions { cluster_domain: dns.cluster_domain, others, ..services.node_options() })
}

fn show_change(what: &str, changed: &Changed, context: &Context) -> Result<Answer, Failure> {
    changed.warnings.iter().for_each(|warning| output::warn(warning));
    let value = json!({ what: changed.objects, "warnings": changed.warnings });
    context.show(&value, |_| format!("{} objects {what}\n", changed.objects))?;
    Ok(Answer::Yes)
}

/// Becomes the command, so that signals and the terminal are its own.
fn exec(args: ExecArgs) -> Result<Answer, Failure> {
    let mut command = open(&args.name)?.exec(&args.place, &args.argv).map_err(failure)?;
    Err(Failure::Failed(format!("cannot enter the lab: {}", command.exec())))
}

fn probe(args: ProbeArgs, context: &Context) -> Result<Answer, Failure> {
    let protocol: ProbeProtocol = args.protocol.parse().map_err(failure)?;
    let (host, port) = split_target(&args.to, protocol).map_err(failure)?;
    let report = open(&args.name)?.probe(&args.from, &host, port, protocol, args.timeout).map_err(failure)?;
    context.show(&report, text::probe)?;
    Ok(if report.outcome == Outcome::Connected { Answer::Yes } else { Answer::No })
}

fn capture(args: CaptureArgs) -> Result<Answer, Failure> {
    let (mut command, line) = open(&args.name)?.capture(&args.place, args.file.is_some()).map_err(failure)?;
    if !is_installed("tcpdump") {
        return Err(Failure::Failed(
            "tcpdump is not installed: capturing needs it (Debian: apt-get install tcpdump)".into(),
        ));
    }
    let redirect = args.file.as_ref().map(|file| format!(" > {}", file.display())).unwrap_or_default();
    output::progress(&format!("the same with tcpdump: {line}{redirect}"));
    if let Some(path) = args.file.filter(|path| path.as_os_str() != "-") {
        let file = File::create(&path).map_err(|e| Failure::BadInput(format!("{}: {e}", path.display())))?;
        command.stdout(Stdio::from(file));
    }
    // Becomes tcpdump, so that Ctrl-C and kill reach it and its exit code is ours.
    Err(Failure::Failed(format!("cannot enter the lab: {}", command.exec())))
}

/// Whether the PATH, which is the same inside of a lab, leads to `program`.
fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn logs(args: LogsArgs, context: &Context) -> Result<Answer, Failure> {
    let path = open(&args.name)?.log(&args.what).map_err(failure)?;
    if context.output == OutputFormat::Json {
        let log = std::fs::read(&path).map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))?;
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        context.show(&json!({ "of": args.what, "lines": lines }), |_| String::new())?;
        return Ok(Answer::Yes);
    }
    let mut log = File::open(&path).map_err(|e| Failure::Failed(format!("{}: {e}", path.display())))?;
    match io::copy(&mut log, &mut io::stdout().lock()).and_then(|_| io::stdout().flush()) {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(format!("{}: {e}", path.display()))),
        _ => Ok(Answer::Yes),
    }
}
