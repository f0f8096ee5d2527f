//! Makes a running lab what its cluster directory says: nodes and pods that are missing are started, those that are not
//! wanted, have changed or have died are stopped first. Doing it twice does nothing the second time.
//!
//! Runs inside of the lab (`lab internal converge RUN_DIR`), as root of its namespaces. The nodes read the cluster
//! directory themselves; this is about processes and network namespaces only.

use crate::cluster::{Snapshot, node_addresses, node_name};
use crate::crew;
use crate::error::{LabError, Result};
use crate::namespaces::netns;
use crate::nodes::{self, Ending};
use crate::pods::{PodSpec, files, pods_dir, sandbox};
use crate::process::LabProcess;
use crate::settings::{Member, Settings};
use crate::{underlay, wait, world};
use control::api::Client;
use k8s_openapi::api::core::v1::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Nodes with this annotation `true` are somebody else's: they are in the cluster, and the lab runs nothing for them.
pub const UNMANAGED_ANNOTATION: &str = "lab.podplane.io/unmanaged";

/// How long a node process may take until it is ready.
const NODE_READY_DEADLINE: Duration = Duration::from_secs(15);

/// Pods started or stopped at once.
const CREW: usize = 8;

/// Name of a pod's interface.
pub(crate) const POD_INTERFACE: &str = "eth0";

/// How long a node may take to put a change in force before the lab says so and goes on: compiling the largest cluster
/// takes a fraction of this.
const IN_FORCE_DEADLINE: Duration = Duration::from_secs(10);

/// Does the work and, with a `digest`, waits until every node has the cluster directory of this digest in force; `say` is told
/// each step.
pub(crate) fn converge(run_dir: &Path, digest: Option<&str>, say: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let settings = Settings::read(run_dir)?;
    let snapshot = Snapshot::read(run_dir, &settings)?;
    let managed: Vec<&Node> = snapshot.nodes.iter().filter(|node| snapshot.runs_here(node)).collect();
    let names: BTreeSet<&str> = managed.iter().map(|node| node_name(node)).collect();
    let wanted: Vec<&PodSpec> = snapshot.specs.iter().filter(|pod| names.contains(pod.node.as_str())).collect();

    stop_unwanted_pods(run_dir, &wanted, say)?;
    for node in nodes::existing(run_dir).iter().filter(|node| !names.contains(node.as_str())) {
        say(&format!("node {node}: stopping"));
        nodes::stop(run_dir, node)?;
    }
    let world_addresses = settings.network().world_addresses();
    match &settings.member {
        None => {
            underlay::create(run_dir, settings.underlay)?;
            world::start(run_dir, &world_addresses)?;
        }
        Some(Member::World) => world::start(run_dir, &world_addresses)?,
        Some(Member::Node(_)) => {
            managed.iter().try_for_each(|node| netns::bind_own(&nodes::netns(run_dir, node_name(node))))?;
        }
    }
    let began: BTreeSet<&str> =
        names.iter().copied().filter(|node| digest.is_some() || !nodes::is_running(run_dir, node)).collect();
    for node in &managed {
        nodes::start(run_dir, node_name(node), &node_addresses(node))?;
    }
    for node in &managed {
        wait_ready(run_dir, node_name(node))?;
        if began.contains(node_name(node)) {
            say(&format!("node {}: ready", node_name(node)));
        }
    }
    start_missing_pods(run_dir, &wanted, &settings, say)?;
    let Some(digest) = digest else { return Ok(()) };
    managed.iter().try_for_each(|node| wait_in_force(run_dir, node_name(node), digest))
}

/// Ends the process of `node`, starts it again, and waits until it is ready; gives the time that this took.
pub(crate) fn restart(run_dir: &Path, node: &str, ending: Ending) -> Result<Duration> {
    let began = Instant::now();
    nodes::restart(run_dir, node, ending)?;
    wait_ready(run_dir, node)?;
    Ok(began.elapsed())
}

/// Whether the lab runs the node itself.
pub(crate) fn is_managed(node: &Node) -> bool {
    let annotations = node.metadata.annotations.as_ref();
    annotations.and_then(|annotations| annotations.get(UNMANAGED_ANNOTATION)).is_none_or(|value| value != "true")
}

fn wait_ready(run_dir: &Path, node: &str) -> Result<()> {
    let client = Client::new(nodes::socket(run_dir, node));
    let mut ready = false;
    wait::until(NODE_READY_DEADLINE, || {
        ready = client.is_ready();
        ready || !nodes::is_running(run_dir, node)
    });
    if ready {
        return Ok(());
    }
    let log = fs::read_to_string(nodes::log(run_dir, node)).unwrap_or_default();
    let tail: Vec<&str> = log.lines().rev().take(5).collect();
    let tail: Vec<&str> = tail.into_iter().rev().collect();
    let what = if nodes::is_running(run_dir, node) { "is not ready" } else { "ended" };
    Err(LabError::Failed(format!("node {node} {what}; the end of its log:\n{}", tail.join("\n"))))
}

fn wait_in_force(run_dir: &Path, node: &str, digest: &str) -> Result<()> {
    let client = Client::new(nodes::socket(run_dir, node));
    if wait::until(IN_FORCE_DEADLINE, || client.status().is_ok_and(|status| status.config.digest == digest)) {
        return Ok(());
    }
    Err(LabError::Failed(format!("node {node} has not put the change in force; see `podplane lab logs {node}`")))
}

/// Pods as they were started, by directory name.
pub(crate) fn started_pods(run_dir: &Path) -> BTreeMap<String, PodSpec> {
    let Ok(entries) = fs::read_dir(pods_dir(run_dir)) else { return BTreeMap::new() };
    let pods = entries.filter_map(|entry| {
        let path = entry.ok()?.path();
        let spec = serde_json::from_slice(&fs::read(path.join("pod.json")).ok()?).ok()?;
        Some((path.file_name()?.to_str()?.to_owned(), spec))
    });
    pods.collect()
}

/// Whether the pod's processes run.
pub(crate) fn is_running(run_dir: &Path, pod: &PodSpec) -> bool {
    LabProcess::running(&pod.dir(run_dir).join("pid")).is_some()
}

fn stop_unwanted_pods(run_dir: &Path, wanted: &[&PodSpec], say: &(dyn Fn(&str) + Sync)) -> Result<()> {
    let started = started_pods(run_dir);
    let stale: Vec<&PodSpec> =
        started.values().filter(|pod| !wanted.contains(pod) || !is_running(run_dir, pod)).collect();
    in_parallel(&stale, |pod| {
        say(&format!("pod {}: stopping", pod.full_name()));
        stop_pod(run_dir, pod, wanted.iter().any(|other| other.full_name() == pod.full_name()))
    })
}

/// Stops the pod's processes and takes its port away. Its log stays for its successor.
fn stop_pod(run_dir: &Path, pod: &PodSpec, has_successor: bool) -> Result<()> {
    let dir = pod.dir(run_dir);
    sandbox::stop(&dir)?;
    if !pod.host_network {
        if nodes::is_running(run_dir, &pod.node) {
            let client = Client::new(nodes::socket(run_dir, &pod.node));
            client
                .detach(&container_id(pod), POD_INTERFACE)
                .map_err(|e| LabError::Failed(format!("pod {}: {e}", pod.full_name())))?;
        }
        let netns = pod.netns(run_dir);
        netns::remove(&netns).map_err(|e| LabError::io(netns.display(), e))?;
    }
    let gone = if has_successor { fs::remove_file(dir.join("pod.json")) } else { fs::remove_dir_all(&dir) };
    gone.map_err(|e| LabError::io(dir.display(), e))
}

fn start_missing_pods(
    run_dir: &Path,
    wanted: &[&PodSpec],
    settings: &Settings,
    say: &(dyn Fn(&str) + Sync),
) -> Result<()> {
    // A node process that was started again without what it had left has no ports: the pods behind them get new ones.
    let mut attached: BTreeSet<String> = BTreeSet::new();
    for node in wanted.iter().map(|pod| pod.node.as_str()).collect::<BTreeSet<_>>() {
        let ports = Client::new(nodes::socket(run_dir, node))
            .ports()
            .map_err(|e| LabError::Failed(format!("node {node}: {e}")))?;
        attached.extend(ports.into_iter().map(|port| port.container_id));
    }
    let started = started_pods(run_dir);
    let missing: Vec<&PodSpec> = wanted
        .iter()
        .copied()
        .filter(|pod| {
            let runs = started.values().any(|other| other == *pod);
            !runs || !(pod.host_network || attached.contains(&container_id(pod)))
        })
        .collect();
    in_parallel(&missing, |pod| {
        start_pod(run_dir, pod, settings)?;
        let node = &pod.node;
        say(&format!("pod {}: running on {node} with {}", pod.full_name(), join(&pod.addresses)));
        Ok(())
    })
}

fn start_pod(run_dir: &Path, pod: &PodSpec, settings: &Settings) -> Result<()> {
    let dir = pod.dir(run_dir);
    fs::create_dir_all(&dir).map_err(|e| LabError::io(dir.display(), e))?;
    if !pod.host_network {
        let netns = pod.netns(run_dir);
        if !netns.exists() {
            netns::create(&netns)?;
        }
        attach(run_dir, pod)?;
    }
    if is_running(run_dir, pod) {
        return Ok(());
    }
    let options = &settings.node_options;
    files::write(&dir, pod, options.cluster_domain(), &options.cluster_dns())?;
    let spec = dir.join("pod.json");
    fs::write(&spec, serde_json::to_vec(pod).expect("a pod's spec is plain data"))
        .map_err(|e| LabError::io(spec.display(), e))?;
    sandbox::start(run_dir, pod)
}

fn attach(run_dir: &Path, pod: &PodSpec) -> Result<()> {
    let request = control::api::AttachRequest {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        container_id: container_id(pod),
        netns: pod.netns(run_dir),
        ifname: POD_INTERFACE.to_owned(),
        addresses: Some(pod.addresses.clone()),
    };
    Client::new(nodes::socket(run_dir, &pod.node))
        .attach(&request)
        .map(|_| ())
        .map_err(|e| LabError::Failed(format!("pod {}: cannot be attached: {e}", pod.full_name())))
}

/// The name under which the pod's node knows its sandbox.
fn container_id(pod: &PodSpec) -> String {
    if pod.uid.is_empty() { format!("{}_{}", pod.namespace, pod.name) } else { pod.uid.clone() }
}

fn join(addresses: &[std::net::IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Does `job` for every pod, several at a time; all are tried, the first error is given.
fn in_parallel(pods: &[&PodSpec], job: impl Fn(&PodSpec) -> Result<()> + Sync) -> Result<()> {
    let queue = Mutex::new(pods.iter());
    let failed = Mutex::new(None);
    crew::run(CREW.min(pods.len()), || {
        loop {
            let Some(pod) = queue.lock().expect("no thread panics here").next() else { break };
            if let Err(error) = job(pod) {
                failed.lock().expect("no thread panics here").get_or_insert(error);
            }
        }
    })?;
    failed.into_inner().expect("no thread panics here").map_or(Ok(()), Err)
}
