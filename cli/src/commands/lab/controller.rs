//! `podplane lab controller`: the Kubernetes controllers of a lab whose nodes run elsewhere.
//!
//! In: manifests as a person wrote them, watched. Out: the cluster directory that the nodes read, written again with every change,
//! and only what changed of it. What the directory held before keeps its nodes, addresses and names, also when this is started again.
//! A manifest that breaks leaves in force what it last held; one that is broken when this starts leaves the whole directory as it is
//! until it can be read.

use crate::follow::{self, Told};
use crate::manifests::ManifestArgs;
use crate::output::{self, Answer, Context, Failure, OutputFormat};
use clap::Args;
use control::controller::LabNetwork;
use control::directory;
use control::manifests::Update;
use control::source::Wake;
use ipnet::IpNet;
use lab::{NODES_MAX, NodeOptions};
use policy::objects::{Object, ObjectRef, Severity, Sourced};
use serde::Serialize;
use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Arguments of `podplane lab controller`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab controller -f manifests/ --cluster-dir /srv/cluster --nodes 3 --underlay 10.213.0.0/24
  podplane lab join node1 --cluster-dir /srv/cluster --underlay 10.213.0.0/24     on the machine that has 10.213.0.11

Does what the scheduler and the controllers of Kubernetes would do to the manifests, and writes the result where every node of the
lab reads it. Prints a line for every change that it has written. A PATH that changes takes effect within a second; a file that
breaks leaves in force what it last held. Where the manifests have no Node, node1 has the address .11 of the underlay, node2 .12
and so on; LoadBalancer Services without a pool get .200 to .250. SIGTERM and SIGINT end it and leave the directory as it is.

Exit codes: 0 it was told to stop, 1 it could not start or broke, 2 a PATH or an argument cannot be used.")]
pub(crate) struct ControllerArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Folder that the nodes read, made if it is not there
    #[arg(long, value_name = "DIR")]
    cluster_dir: PathBuf,
    /// Number of nodes, when the manifests have no Node
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: u16,
    #[command(flatten)]
    underlay: UnderlayArgs,
}

/// Networks that join the parts of a lab.
#[derive(Args)]
pub(crate) struct UnderlayArgs {
    /// Network that joins the nodes and the world, one per family, the same for all parts of the lab [default: 172.30.0.0/24 and
    /// fd00:172:30::/64]
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = underlay_range)]
    underlay: Vec<IpNet>,
}

impl UnderlayArgs {
    /// At most one network per family.
    pub(crate) fn ranges(self) -> Result<Vec<IpNet>, Failure> {
        match self.underlay.as_slice() {
            [] | [_] => Ok(self.underlay),
            [a, b] if a.addr().is_ipv4() != b.addr().is_ipv4() => Ok(self.underlay),
            _ => Err(Failure::BadInput("--underlay: more than one network of a family".into())),
        }
    }
}

/// A network with room for the host numbers of the address plan.
fn underlay_range(text: &str) -> Result<IpNet, String> {
    let range: IpNet = text.parse().map_err(|_| format!("{text:?} is not a network such as 10.213.0.0/24"))?;
    let len_max = if range.addr().is_ipv4() { 24 } else { 112 };
    if range.prefix_len() > len_max {
        return Err(format!("{range} is too small: the lab needs a /{len_max} or larger"));
    }
    Ok(range.trunc())
}

/// What is told of a change.
#[derive(Serialize)]
struct Change {
    objects: usize,
    written: usize,
    removed: usize,
}

/// Plays the controllers until the process is told to end.
pub(crate) fn run(args: ControllerArgs, context: &Context) -> Result<Answer, Failure> {
    let ranges = args.underlay.ranges()?;
    let network = LabNetwork::with_nodes(args.nodes);
    let network = if ranges.is_empty() { network } else { network.on(ranges) };
    let mut source = follow::open(&args.manifests.paths, network.clone())?;
    let stop = follow::stop()?;
    let mut cluster = WrittenCluster::open(&args.cluster_dir);
    loop {
        if let Some(update) = source.refresh() {
            cluster.take(update, source.written(), &network);
        }
        if cluster.is_pending {
            cluster.is_pending = !write(&args.cluster_dir, &cluster.objects, context)?;
        }
        match source.wait(stop.as_fd()) {
            Ok(Wake::Stop) => return Ok(Answer::Yes),
            Ok(Wake::Look) => {}
            Err(error) => return Err(Failure::Failed(format!("watching files: {error}"))),
        }
    }
}

/// The completed objects, and whether the directory has them.
struct WrittenCluster {
    objects: Vec<Sourced<Object>>,
    is_pending: bool,
    /// Whether every manifest could be read since the process started: from then on the source knows what a file that breaks held.
    has_read_all: bool,
    told: Told,
}

impl WrittenCluster {
    /// Goes on from what the directory holds.
    fn open(dir: &Path) -> WrittenCluster {
        let objects = lab::read(dir).unwrap_or_else(|error| {
            output::warn(&format!("{error}: nodes, addresses and names are given anew"));
            Vec::new()
        });
        WrittenCluster { has_read_all: objects.is_empty(), objects, is_pending: false, told: Told::default() }
    }

    /// Completes what is `written`.
    fn take(&mut self, update: Update, mut written: Vec<Sourced<Object>>, network: &LabNetwork) {
        let of_sources = update.problems;
        self.has_read_all |= of_sources.iter().all(|problem| problem.severity < Severity::Unreadable);
        // Nothing was read yet, or nobody knows what stood in a file that is broken from the start.
        if update.tables.is_none() || !self.has_read_all {
            return self.told.tell(&of_sources);
        }
        // An object that is refused from the start stays what it was.
        let present: BTreeSet<ObjectRef> = written.iter().map(|sourced| sourced.object.reference()).collect();
        let refused: BTreeSet<&ObjectRef> = of_sources
            .iter()
            .filter(|problem| problem.severity == Severity::Refused)
            .filter_map(|problem| problem.object.as_ref())
            .filter(|reference| !present.contains(reference))
            .collect();
        written.extend(self.objects.iter().filter(|sourced| refused.contains(&sourced.object.reference())).cloned());
        let (objects, problems) = lab::complete(&written, &self.objects, network, &NodeOptions::default());
        self.told.tell(&of_sources.into_iter().chain(problems).collect::<Vec<_>>());
        self.objects = objects;
        self.is_pending = true;
    }
}

/// Writes the directory and says so; whether that went well. If not, it is tried again.
fn write(dir: &Path, objects: &[Sourced<Object>], context: &Context) -> Result<bool, Failure> {
    let written = match directory::write(dir, objects.iter().map(|sourced| &sourced.object)) {
        Ok(written) => written,
        Err(error) => {
            output::warn(&format!("{}: {error}", dir.display()));
            return Ok(false);
        }
    };
    let change = Change { objects: objects.len(), written: written.written, removed: written.removed };
    output::print(&match context.output {
        OutputFormat::Json => serde_json::to_string(&change).map_err(|e| Failure::Failed(e.to_string()))? + "\n",
        _ => {
            let Change { objects, written, removed } = change;
            format!(
                "{} in {}: {written} written, {removed} removed\n",
                output::count(objects, "object", "objects"),
                dir.display()
            )
        }
    })?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_underlay_has_room_for_the_address_plan() {
        assert_eq!(underlay_range("10.213.0.7/24").unwrap().to_string(), "10.213.0.0/24");
        assert_eq!(underlay_range("fd00::/64").unwrap().to_string(), "fd00::/64");
        for bad in ["10.213.0.0/25", "fd00::/120", "10.213.0.0", "net"] {
            assert!(underlay_range(bad).is_err(), "{bad}");
        }
        let args = |texts: &[&str]| UnderlayArgs { underlay: texts.iter().map(|text| text.parse().unwrap()).collect() };
        assert!(args(&["10.0.0.0/24", "fd00::/64"]).ranges().is_ok());
        assert!(args(&["10.0.0.0/24", "10.1.0.0/24"]).ranges().is_err());
    }
}
