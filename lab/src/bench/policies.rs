//! Policies in the bench, podplane alone: what compiling many of them for many pods costs, what a change costs until every
//! shard judges by it, and that neither a new flow nor a packet of an open one notices how many there are.
//!
//! Compiling is measured twice: in the bench's own process ([`compiling`]), and in a node process that follows its files, where
//! a change is timed from the rename that puts a file into the cluster directory to the moment at which the node's API
//! says that it is in force. Flows are measured in the lab in turns: few policies, many policies, few again.

mod compiling;
mod crowd;

use super::podplane::BenchLab;
use super::report::{Metric, Path, median};
use super::services::{ask, mib, until};
use super::{Cpus, Options, Servers, Workload, measure};
use crate::error::{LabError, Result};
pub use compiling::CompileReport;
use control::api::Client;
use crowd::{Crowd, Folder, closed_policy, open_policy};
use serde::Serialize;
use std::fmt::Write;
use std::time::Instant;

/// Changes of each kind that are timed.
const CHANGES: u32 = 50;

/// What is measured of flows that are open.
const OPEN_FLOWS: [(Workload, Metric); 2] =
    [(Workload::RequestResponse, Metric::RoundTripP50Us), (Workload::Tcp, Metric::TcpGbps)];

/// How much there is of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PolicySize {
    /// Namespaces of the crowd.
    pub namespaces: u32,
    /// Pods of the crowd.
    pub pods: u32,
    /// Policies of the crowd, and policies that select the one pod that flows are opened to.
    pub policies: u32,
}

/// Median and worst of some changes, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Times {
    /// The median.
    pub median: f64,
    /// The worst.
    pub worst: f64,
}

impl Times {
    /// Of changes numbered from 1; the milliseconds of each.
    fn of(mut change: impl FnMut(u32) -> Result<f64>) -> Result<Times> {
        (1..=CHANGES).map(&mut change).collect::<Result<Vec<f64>>>().map(|all| Times::among(&all))
    }

    fn among(all: &[f64]) -> Times {
        Times { median: median(all), worst: all.iter().copied().fold(0.0, f64::max) }
    }
}

/// Medians of the same thing with few and with many policies, in turns.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// What is measured, and its unit.
    pub what: String,
    /// Rounds with few.
    pub with_few: Vec<f64>,
    /// Rounds with many.
    pub with_many: Vec<f64>,
    /// Median with many / median with few.
    pub ratio: f64,
}

impl Comparison {
    fn new(what: &str) -> Comparison {
        Comparison { what: what.to_owned(), with_few: Vec::new(), with_many: Vec::new(), ratio: 1.0 }
    }

    fn add(&mut self, few: f64, many: f64) {
        self.with_few.push(few);
        self.with_many.push(many);
        self.ratio = median(&self.with_many) / median(&self.with_few);
    }
}

/// What was found about policies.
#[derive(Clone, Debug, Serialize)]
pub struct PoliciesReport {
    /// Namespaces.
    pub namespaces: u32,
    /// Pods.
    pub pods: u32,
    /// Policies.
    pub policies: u32,
    /// Compiling in the bench's own process: pods as Deployments have them, then each pod with a label of its own.
    pub compile: Vec<CompileReport>,
    /// A node process that follows such a cluster.
    pub node: NodeReport,
    /// One policy that selects the server against all: opening flows.
    pub new_flows: Vec<Comparison>,
    /// No policy against all of them: packets of open flows.
    pub open_flows: Vec<Comparison>,
}

/// A node process that follows files.
#[derive(Clone, Debug, Serialize)]
pub struct NodeReport {
    /// Milliseconds from the files' coming to their being in force, reading included.
    pub load_ms: f64,
    /// The part of it that judging and compiling took.
    pub load_compile_ms: f64,
    /// Memory of the node process in MiB: before, with the pods, with pods and policies.
    pub resident_mib: [f64; 3],
    /// One pod's labels changed: from the file's change to every shard's judging by it. The directory's own wait for more
    /// changes is inside.
    pub pod_label_change_ms: Times,
    /// The same from the look at the directory.
    pub pod_label_look_ms: Times,
    /// Judging and compiling alone.
    pub pod_label_compile_ms: Times,
}

impl PoliciesReport {
    /// The table for people.
    pub(super) fn table(&self) -> String {
        let PoliciesReport { namespaces, pods, policies, compile, node, new_flows, open_flows } = self;
        let mut text = format!("\n{policies} policies over {pods} pods in {namespaces} namespaces\n");
        let _ = writeln!(text, "  {:<52}{:>12}{:>12}", "", "median", "worst");
        let mut row = |title: &str, times: Times| {
            let _ = writeln!(text, "  {title:<52}{:>12.2}{:>12.2}", times.median, times.worst);
        };
        row("one pod's labels changed, until in force, ms", node.pod_label_change_ms);
        row("  from the look at the directory, ms", node.pod_label_look_ms);
        row("  judged and compiled, ms", node.pod_label_compile_ms);
        for report in compile {
            let title = if report.each_pod_its_own { "pods of StatefulSets" } else { "pods of Deployments" };
            row(
                &format!("compiled from nothing, {title}, ms"),
                Times { median: report.from_nothing_ms, worst: report.from_nothing_ms },
            );
            row("  one pod's labels changed, ms", report.pod_label_ms);
            row("  one pod came or went, ms", report.pod_ms);
            row("  one namespace's labels changed, ms", report.namespace_label_ms);
            row("  one policy changed, ms", report.policy_ms);
        }
        let mut line = |title: &str, value: f64| {
            let _ = writeln!(text, "  {title:<52}{value:>12.1}");
        };
        line("read from files until in force, ms", node.load_ms);
        line("  judged and compiled, ms", node.load_compile_ms);
        for (title, value) in
            ["memory of the node process, MiB", "  with the pods, MiB", "  with pods and policies, MiB"]
                .iter()
                .zip(node.resident_mib)
        {
            line(title, value);
        }
        for (comparisons, few) in [(new_flows, "1 policy"), (open_flows, "no policy")] {
            let _ = writeln!(text, "\n  {:<52}{few:>12}{:>12}{:>8}", "", format!("{policies}"), "ratio");
            for Comparison { what, with_few, with_many, ratio } in comparisons {
                let _ = writeln!(text, "  {what:<52}{:>12.1}{:>12.1}{ratio:>8.2}", median(with_few), median(with_many));
            }
        }
        text
    }
}

/// Measures; the last part in a running lab.
pub(super) fn run(
    lab: &BenchLab,
    cpus: Cpus,
    options: Options,
    size: PolicySize,
    progress: &mut dyn FnMut(&str),
) -> Result<PoliciesReport> {
    let PolicySize { namespaces, pods, policies } = size;
    let crowd = Crowd { namespaces, pods, policies, each_its_own: false };
    let mut compile = Vec::new();
    for crowd in [crowd, Crowd { each_its_own: true, ..crowd }] {
        progress(&format!("compiling {policies} policies over {pods} pods"));
        compile.push(compiling::run(crowd)?);
    }
    let node = Client::new(lab.socket()?);
    progress(&format!("a node with {policies} policies over {pods} pods"));
    let followed = follow(lab, &node, crowd)?;
    let (new_flows, open_flows) = flows(lab, &node, cpus, options, crowd, progress)?;
    Ok(PoliciesReport { namespaces, pods, policies, compile, node: followed, new_flows, open_flows })
}

/// Loads the crowd into a node process and changes it.
fn follow(lab: &BenchLab, node: &Client, crowd: Crowd) -> Result<NodeReport> {
    let cluster_dir = lab.cluster_dir()?;
    let bare = Crowd { policies: 0, ..crowd };
    let folders = [
        Folder::write(&cluster_dir, "crowd-pods", bare.files())?,
        Folder::write(&cluster_dir, "crowd-policies", crowd.files().skip(bare.files().count()))?,
        Folder::write(&cluster_dir, "crowd-all", crowd.files())?,
    ];
    let [of_pods, of_policies, all] = &folders;
    let before = ask(node)?;
    let (pods, policies) = (before.config.pods + crowd.pods as usize, before.config.policies + crowd.policies as usize);
    of_pods.join()?;
    let with_pods = until(node, |status| status.config.pods >= pods)?;
    of_policies.join()?;
    let with_all = until(node, |status| status.config.policies >= policies)?;
    let resident_mib = [&before, &with_pods, &with_all].map(|status| mib(status.resident_bytes));
    of_pods.leave()?;
    of_policies.leave()?;
    until(node, |status| status.config.pods == before.config.pods && status.config.policies == before.config.policies)?;
    let began = Instant::now();
    all.join()?;
    let loaded = until(node, |status| status.config.policies >= policies && status.config.pods >= pods)?;
    let load_ms = milliseconds(began);
    let (mut change_ms, mut look_ms, mut compile_ms) = (Vec::new(), Vec::new(), Vec::new());
    for time in 1..=CHANGES {
        let epoch = ask(node)?.config.epoch;
        let number = each(time, crowd.pods);
        let began = Instant::now();
        all.replace(&crowd.pod_file(number), &crowd.pod(number, time))?;
        let status = until(node, |status| status.config.epoch > epoch)?;
        change_ms.push(milliseconds(began));
        look_ms.push(status.config.took_us as f64 / 1e3);
        compile_ms.push(status.config.compile_us as f64 / 1e3);
    }
    all.leave()?;
    until(node, |status| status.config.pods == before.config.pods)?;
    Ok(NodeReport {
        load_ms,
        load_compile_ms: loaded.config.compile_us as f64 / 1e3,
        resident_mib,
        pod_label_change_ms: Times::among(&change_ms),
        pod_label_look_ms: Times::among(&look_ms),
        pod_label_compile_ms: Times::among(&compile_ms),
    })
}

/// Flows to one pod that few and many policies select.
fn flows(
    lab: &BenchLab,
    node: &Client,
    cpus: Cpus,
    options: Options,
    crowd: Crowd,
    progress: &mut dyn FnMut(&str),
) -> Result<(Vec<Comparison>, Vec<Comparison>)> {
    let cluster_dir = lab.cluster_dir()?;
    let pairs = lab.pairs()?;
    let pair = pairs.into_iter().find(|pair| pair.path == Path::SameNode);
    let pair = pair.ok_or_else(|| LabError::Failed("the bench's lab has no pair of pods on one node".to_owned()))?;
    let open = Folder::write(&cluster_dir, "one-policy", [("open.yaml".to_owned(), open_policy())].into_iter())?;
    let closed = (1..crowd.policies).map(|number| (format!("closed/{number}.yaml"), closed_policy(number)));
    let many = Folder::write(&cluster_dir, "many-policies", closed.chain(crowd.files()))?;
    let few_policies = ask(node)?.config.policies;
    let many_policies = few_policies + (2 * crowd.policies) as usize;
    let _servers = Servers::start(&pair, cpus)?;
    let mut connections = Comparison::new(Metric::ConnectionsPerSecond.title());
    let mut open_flows = OPEN_FLOWS.map(|(_, metric)| Comparison::new(metric.title()));
    for round in 1..=options.rounds {
        progress(&format!("round {round} of {}: flows beside few and {} policies", options.rounds, crowd.policies));
        let gauge = |(workload, metric): (Workload, Metric)| -> Result<f64> {
            let figures = measure(workload, &pair, cpus, options.seconds)?;
            Ok(figures.iter().find(|(other, _)| *other == metric).expect("a workload gives its metrics").1)
        };
        let without: Vec<Result<f64>> = OPEN_FLOWS.iter().copied().map(gauge).collect();
        open.join()?;
        until(node, |status| status.config.policies == few_policies + 1)?;
        let with_one = gauge((Workload::Connections, Metric::ConnectionsPerSecond))?;
        many.join()?;
        until(node, |status| status.config.policies == many_policies)?;
        connections.add(with_one, gauge((Workload::Connections, Metric::ConnectionsPerSecond))?);
        for ((comparison, which), without) in open_flows.iter_mut().zip(OPEN_FLOWS).zip(without) {
            comparison.add(without?, gauge(which)?);
        }
        many.leave()?;
        open.leave()?;
        until(node, |status| status.config.policies == few_policies)?;
    }
    progress("verdicts");
    Ok((vec![connections, compiling::verdicts(crowd, options.rounds)?], open_flows.to_vec()))
}

/// The number that is changed at a time: any factor without a common one goes through all before it comes back.
fn each(time: u32, of: u32) -> u32 {
    time.wrapping_mul(7_919) % of
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests;
