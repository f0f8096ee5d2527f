//! The bench: podplane next to the kernel's own bridge and VXLAN, on the same machine in the same run.
//!
//! Absolute figures belong to one machine on one day; the ratios carry over. So every workload is measured on all systems
//! in turn, round after round, and the medians of the rounds are compared. Everything happens in private namespaces: the
//! kernel's peers in a namespace tree of their own ([`kernel`]), podplane in a two-node lab ([`podplane`]).
//!
//! | workload | what runs |
//! |---|---|
//! | tcp | iperf3, one stream, cubic |
//! | rr | one byte there and back over one TCP connection, one at a time ([`peer`]) |
//! | conn | connect, one byte each way, close; four clients ([`peer`]) |
//!
//! What many Services cost is measured on podplane alone ([`services`]): a ratio of the same connections beside few and many
//! Services, the time and memory that a change takes in a large cluster, and whether anything of much traffic is lost
//! ([`mod@traffic`]). What many policies cost is measured likewise ([`policies`]). The cluster DNS is measured next to
//! other name servers ([`dns`]), the Ingress proxy next to other proxies ([`ingress`]).

mod crowd;
mod dns;
mod ingress;
mod kernel;
pub(crate) mod peer;
mod podplane;
mod policies;
mod report;
mod services;
mod traffic;

use crate::error::{LabError, Result};
use crate::namespaces::INTERNAL;
pub use dns::{NamesReport, NamesSeries, Server, Way};
pub use ingress::{Front, FrontSeries, IngressReport, Load};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;
use peer::Address;
pub use policies::{Comparison, CompileReport, NodeReport, PoliciesReport, PolicySize, Times};
pub use report::{Path, Ratio, Report, Series, System, Workload};
use serde_json::Value;
pub use services::{ConnectionsReport, ScaleReport, ServicesReport, Size};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
pub use traffic::{Counts, TrafficReport};

/// Port of the iperf3 servers.
const IPERF_PORT: u16 = 5201;

/// How long a server may take until it answers.
const SERVER_DEADLINE: Duration = Duration::from_secs(10);

/// What is measured, how long and how often.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rounds; the median of them counts.
    pub rounds: usize,
    /// Length of one measurement in seconds.
    pub seconds: u32,
    /// Whether podplane is compared with the kernel.
    pub traffic: bool,
    /// How many Services are measured, if they are.
    pub services: Option<Size>,
    /// How many policies are measured, if they are.
    pub policies: Option<PolicySize>,
    /// Whether the cluster DNS is compared with other servers.
    pub names: bool,
    /// Whether the Ingress proxy is compared with others.
    pub ingress: bool,
}

impl Options {
    /// Enough for figures to quote: the sizes are those that other projects state theirs for.
    pub const FULL: Options = Options {
        rounds: 3,
        seconds: 4,
        traffic: true,
        services: Some(Size {
            others: 9_999,
            services: 5_000,
            endpoints: 50,
            traffic: Counts { pairs: 1_000_000, flows: 60_000 },
        }),
        policies: Some(PolicySize { namespaces: 100, pods: 10_000, policies: 1_000 }),
        names: true,
        ingress: true,
    };
    /// Enough to see whether something broke.
    pub const QUICK: Options = Options {
        rounds: 1,
        seconds: 1,
        traffic: true,
        services: Some(Size {
            others: 999,
            services: 500,
            endpoints: 50,
            traffic: Counts { pairs: 10_000, flows: 2_000 },
        }),
        policies: Some(PolicySize { namespaces: 20, pods: 1_000, policies: 200 }),
        names: true,
        ingress: true,
    };
}

/// Where a command runs: the words to put before it.
#[derive(Clone, Debug)]
pub(crate) struct Place(Vec<String>);

impl Place {
    fn new<I: IntoIterator<Item = S>, S: Into<String>>(words: I) -> Place {
        Place(words.into_iter().map(Into::into).collect())
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.0[0]);
        command.args(&self.0[1..]).args(words);
        command
    }
}

/// Two places and a path between them.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    system: System,
    path: Path,
    client: Place,
    server: Place,
    address: String,
}

/// The servers of one pair; they end with it.
struct Servers(Vec<Child>);

impl Servers {
    fn start(pair: &Pair, cpus: Cpus) -> Result<Servers> {
        let mut children = Servers(Vec::new());
        let iperf = ["iperf3", "-s", "-p", &IPERF_PORT.to_string()].map(str::to_owned).to_vec();
        for words in [iperf, own_words(&["serve"])?] {
            let words = pinned(cpus.server, &words);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let mut command = pair.server.command(&words);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            children.0.push(command.spawn().map_err(|e| LabError::io(format_args!("cannot start {}", words[0]), e))?);
        }
        Ok(children)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The processors that client and server are pinned to, if there are two.
#[derive(Clone, Copy, Debug)]
struct Cpus {
    client: Option<usize>,
    server: Option<usize>,
}

impl Cpus {
    fn choose() -> Cpus {
        let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        let mut free = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false));
        match (free.next(), free.next()) {
            (Some(client), Some(server)) => Cpus { client: Some(client), server: Some(server) },
            _ => Cpus { client: None, server: None },
        }
    }
}

/// Runs the bench. `progress` is told what happens, for a person who waits.
pub fn run(options: Options, progress: &mut dyn FnMut(&str)) -> Result<Report> {
    let cpus = Cpus::choose();
    let mut report = Report::new(options);
    if options.ingress {
        report.ingress = Some(ingress::run(cpus, options, progress)?);
    }
    if !options.traffic && options.services.is_none() && options.policies.is_none() && !options.names {
        return Ok(report);
    }
    progress("starting a two-node lab");
    let lab = podplane::BenchLab::start()?;
    if options.traffic {
        compare(&lab, cpus, options, &mut report, progress)?;
    }
    if let Some(size) = options.services {
        report.services = Some(services::run(&lab, cpus, options, size, progress)?);
    }
    if let Some(size) = options.policies {
        report.policies = Some(policies::run(&lab, cpus, options, size, progress)?);
    }
    if options.names {
        report.names = Some(dns::run(&lab, cpus, options, progress)?);
    }
    Ok(report)
}

/// All workloads on all systems in turn.
fn compare(
    lab: &podplane::BenchLab,
    cpus: Cpus,
    options: Options,
    report: &mut Report,
    progress: &mut dyn FnMut(&str),
) -> Result<()> {
    progress("setting up the kernel's bridge and VXLAN");
    let kernel = kernel::Kernel::start()?;
    let mut pairs = kernel.pairs();
    pairs.extend(lab.pairs()?);

    let mut servers = Vec::new();
    for pair in &pairs {
        servers.push(Servers::start(pair, cpus)?);
    }
    for round in 1..=options.rounds {
        for workload in Workload::ALL {
            progress(&format!("round {round} of {}: {}", options.rounds, workload.title()));
            for pair in &pairs {
                for (metric, value) in measure(workload, pair, cpus, options.seconds)? {
                    report.add(pair.system, pair.path, metric, value);
                }
            }
        }
    }
    Ok(())
}

/// One measurement: names and values of what it gave.
fn measure(workload: Workload, pair: &Pair, cpus: Cpus, seconds: u32) -> Result<Vec<(report::Metric, f64)>> {
    let address: Address =
        pair.address.parse().map_err(|_| LabError::Failed(format!("{:?} is not an address", pair.address)))?;
    let (address, port, seconds) = (address.to_string(), IPERF_PORT.to_string(), seconds.to_string());
    let words = match workload {
        Workload::Tcp => {
            ["iperf3", "-c", &address, "-p", &port, "-t", &seconds, "-C", "cubic", "-J"].map(str::to_owned).to_vec()
        }
        Workload::RequestResponse => own_words(&["rr", &address, &seconds])?,
        Workload::Connections => own_words(&["conn", &address, &seconds])?,
    };
    read_client(workload, pair, &pinned(cpus.client, &words))
}

/// Runs a client until its server answers, and reads the figures that it prints.
fn read_client(workload: Workload, pair: &Pair, words: &[String]) -> Result<Vec<(report::Metric, f64)>> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let deadline = Instant::now() + SERVER_DEADLINE;
    loop {
        let output = pair
            .client
            .command(&words)
            .stdin(Stdio::null())
            .output()
            .map_err(|e| LabError::io(format_args!("cannot start {}", pair.client.0[0]), e))?;
        // iperf3 ends with 0 and an "error" in its JSON when the server is not there yet.
        let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if let Some(figures) = answer.and_then(|answer| workload.read(&answer)) {
            return Ok(figures);
        }
        if Instant::now() >= deadline {
            let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let what = format!("{} on {}", workload.title(), pair.system.title());
            return Err(LabError::Failed(format!("{what}: {} gave no figures: {stdout}{stderr}", words.join(" "))));
        }
    }
}

fn pinned(cpu: Option<usize>, words: &[String]) -> Vec<String> {
    let mut all: Vec<String> = match cpu {
        Some(cpu) => ["taskset", "-c", &cpu.to_string()].map(str::to_owned).to_vec(),
        None => Vec::new(),
    };
    all.extend_from_slice(words);
    all
}

/// Our own client or server as a command.
fn own_words(words: &[&str]) -> Result<Vec<String>> {
    own_words_of(&[&["bench"], words].concat())
}

/// A hidden subcommand of the binary as a command.
fn own_words_of(words: &[&str]) -> Result<Vec<String>> {
    let binary = own_binary()?;
    let words = INTERNAL.iter().chain(words);
    Ok(std::iter::once(binary).chain(words.map(|&word| word.to_owned())).collect())
}

fn own_binary() -> Result<String> {
    let path = crate::namespaces::own_binary()?;
    path.into_os_string().into_string().map_err(|path| LabError::Failed(format!("{path:?} is not UTF-8")))
}
