//! Services in the bench, podplane alone: connections through a ClusterIP beside few and beside many other Services, and what
//! one change costs in a cluster of many endpoints.
//!
//! The Services of the crowd are files in the lab's own cluster directory, so both nodes carry them. A change is timed from
//! the rename that puts it into the directory to the moment at which the node's API says that it is in force on every shard;
//! asking once takes about a third of a millisecond, which is in the figures.

use super::crowd::Crowd;
use super::podplane::BenchLab;
use super::report::{Metric, Path, System, median};
use super::traffic::{self, Counts, TrafficReport};
use super::{Cpus, Options, Pair, Servers, Workload, measure};
use crate::error::{LabError, Result};
use control::api::{Client, Status};
use serde::Serialize;
use std::fmt::Write;
use std::time::{Duration, Instant};

/// How long a crowd may take until it is in force.
const LOAD_DEADLINE: Duration = Duration::from_secs(120);

/// Changes that are timed.
const CHANGES: u32 = 50;

/// How many Services there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Services beside the one that is measured.
    pub others: u32,
    /// Services of the cluster in which changes are timed.
    pub services: u32,
    /// Endpoints of each of those.
    pub endpoints: u32,
    /// What is sent to see whether anything is lost.
    pub traffic: Counts,
}

/// What was found about Services.
#[derive(Clone, Debug, Serialize)]
pub struct ServicesReport {
    /// Connections per second through a ClusterIP, and how loading the others went.
    pub connections: ConnectionsReport,
    /// One change in a cluster of many endpoints.
    pub scale: ScaleReport,
    /// Much traffic.
    pub traffic: TrafficReport,
}

/// Connections per second through one ClusterIP.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionsReport {
    /// Services in the second case.
    pub services: usize,
    /// Rounds with one Service.
    pub with_one: Vec<f64>,
    /// Rounds with all.
    pub with_all: Vec<f64>,
    /// Median with all / median with one.
    pub ratio: f64,
    /// Milliseconds in which all were judged and compiled, the median.
    pub compile_ms: f64,
}

/// What a cluster of many endpoints costs.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleReport {
    /// Services.
    pub services: u32,
    /// Endpoints of all of them.
    pub endpoints: u32,
    /// Milliseconds from the files' coming to their being in force, reading included.
    pub load_ms: f64,
    /// The part of it that judging and compiling took.
    pub load_compile_ms: f64,
    /// Memory of the node process before any crowd and with this one, in MiB.
    pub resident_mib: (f64, f64),
    /// One endpoint replaced: milliseconds from the file's change to every shard's judging by it, median and worst. The
    /// directory's own wait for more changes is inside.
    pub change_ms: (f64, f64),
    /// The same without that wait: from the look at the directory.
    pub look_ms: (f64, f64),
    /// Judging and compiling alone.
    pub compile_ms: (f64, f64),
}

impl ServicesReport {
    /// The table for people.
    pub(super) fn table(&self) -> String {
        let ConnectionsReport { services, with_one, with_all, ratio, compile_ms } = &self.connections;
        let scale = &self.scale;
        let mut text = String::new();
        let _ = writeln!(text, "\nconnections per second through a ClusterIP");
        let _ = writeln!(text, "  {:<44}{:>12.0}", "with 1 Service", median(with_one));
        let _ = writeln!(text, "  {:<44}{:>12.0}", format!("with {services} Services"), median(with_all));
        let _ = writeln!(text, "  {:<44}{ratio:>12.2}", "ratio");
        let _ = writeln!(text, "  {:<44}{compile_ms:>12.1}", format!("compiling {services} Services, ms"));
        let _ = writeln!(text, "\n{} Services with {} endpoints", scale.services, scale.endpoints);
        let _ = writeln!(text, "  {:<44}{:>12}{:>12}", "", "median", "worst");
        for (title, (median, worst)) in [
            ("one endpoint changed, until in force, ms", scale.change_ms),
            ("  from the look at the directory, ms", scale.look_ms),
            ("  judged and compiled, ms", scale.compile_ms),
        ] {
            let _ = writeln!(text, "  {title:<44}{median:>12.2}{worst:>12.2}");
        }
        let _ = writeln!(text, "  {:<44}{:>12.0}", "read from files until in force, ms", scale.load_ms);
        let _ = writeln!(text, "  {:<44}{:>12.1}", "  judged and compiled, ms", scale.load_compile_ms);
        let (before, with) = scale.resident_mib;
        let _ = writeln!(text, "  {:<44}{with:>12.0}", "memory of the node process, MiB");
        let _ = writeln!(text, "  {:<44}{before:>12.0}", "  without them, MiB");
        text + &self.traffic.table()
    }
}

/// Measures in a running lab.
pub(super) fn run(
    lab: &BenchLab,
    cpus: Cpus,
    options: Options,
    size: Size,
    progress: &mut dyn FnMut(&str),
) -> Result<ServicesReport> {
    let node = Client::new(lab.socket()?);
    let resident_before = ask(&node)?.resident_bytes;
    let connections = connections(lab, &node, cpus, options, size.others, progress)?;
    progress(&format!("{} Services with {} endpoints each", size.services, size.endpoints));
    let scale = scale(lab, &node, size, resident_before)?;
    progress("pairs of datagrams, and flows to the outside");
    let traffic = traffic::run(lab, &node, size.traffic)?;
    Ok(ServicesReport { connections, scale, traffic })
}

fn connections(
    lab: &BenchLab,
    node: &Client,
    cpus: Cpus,
    options: Options,
    others: u32,
    progress: &mut dyn FnMut(&str),
) -> Result<ConnectionsReport> {
    let pair = Pair {
        system: System::Podplane,
        path: Path::SameNode,
        client: lab.place("client"),
        server: lab.place("near"),
        address: lab.service_address().to_owned(),
    };
    let _servers = Servers::start(&pair, cpus)?;
    let crowd = Crowd::new(&lab.cluster_dir()?, others, 2)?;
    let measure = || -> Result<f64> {
        let figures = measure(Workload::Connections, &pair, cpus, options.seconds)?;
        let found = figures.iter().find(|(metric, _)| *metric == Metric::ConnectionsPerSecond);
        Ok(found.expect("the workload counts connections").1)
    };
    let (mut with_one, mut with_all, mut compile_ms) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        progress(&format!("round {round} of {}: connections per second through a ClusterIP", options.rounds));
        with_one.push(measure()?);
        let before = ask(node)?.config.service_ports;
        crowd.join()?;
        let status = until(node, |status| status.config.service_ports >= before + crowd.services())?;
        compile_ms.push(status.config.compile_us as f64 / 1e3);
        with_all.push(measure()?);
        crowd.leave()?;
        until(node, |status| status.config.service_ports == before)?;
    }
    let ratio = median(&with_all) / median(&with_one);
    Ok(ConnectionsReport { services: 1 + crowd.services(), with_one, with_all, ratio, compile_ms: median(&compile_ms) })
}

fn scale(lab: &BenchLab, node: &Client, size: Size, resident_before: u64) -> Result<ScaleReport> {
    let crowd = Crowd::new(&lab.cluster_dir()?, size.services, size.endpoints)?;
    let before = ask(node)?;
    let began = Instant::now();
    crowd.join()?;
    let wanted = before.config.service_ports + crowd.services();
    let loaded = until(node, |status| status.config.service_ports >= wanted)?;
    let load_ms = began.elapsed().as_secs_f64() * 1e3;
    let load_compile_ms = loaded.config.compile_us as f64 / 1e3;
    let (mut change_ms, mut look_ms, mut compile_ms) = (Vec::new(), Vec::new(), Vec::new());
    for time in 1..=CHANGES {
        let epoch = ask(node)?.config.epoch;
        let began = Instant::now();
        crowd.change(time)?;
        let status = until(node, |status| status.config.epoch > epoch)?;
        change_ms.push(began.elapsed().as_secs_f64() * 1e3);
        look_ms.push(status.config.took_us as f64 / 1e3);
        compile_ms.push(status.config.compile_us as f64 / 1e3);
    }
    let resident_mib = (mib(resident_before), mib(ask(node)?.resident_bytes));
    crowd.leave()?;
    let [change_ms, look_ms, compile_ms] =
        [change_ms, look_ms, compile_ms].map(|all| (median(&all), all.iter().copied().fold(0.0, f64::max)));
    let (services, endpoints) = (size.services, size.services * size.endpoints);
    Ok(ScaleReport { services, endpoints, load_ms, load_compile_ms, resident_mib, change_ms, look_ms, compile_ms })
}

pub(super) fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

pub(super) fn ask(node: &Client) -> Result<Status> {
    node.status().map_err(|error| LabError::Failed(format!("a node of the bench: {error}")))
}

/// Asks until `done` holds.
pub(super) fn until(node: &Client, done: impl Fn(&Status) -> bool) -> Result<Status> {
    let deadline = Instant::now() + LOAD_DEADLINE;
    loop {
        let status = ask(node)?;
        if done(&status) {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            let control::api::ConfigStatus { pods, service_ports, policies, .. } = status.config;
            return Err(LabError::Failed(format!(
                "a node of the bench did not follow its files: {pods} pods, {service_ports} Service ports, {policies} policies"
            )));
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
