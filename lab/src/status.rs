//! What runs in a lab.

use crate::cluster::{Snapshot, node_addresses, node_name, node_pod_cidrs};
use crate::converge::{is_managed, is_running};
use crate::error::Result;
use crate::{nodes, pods};
use control::api::Client;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A lab, as the command line prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabStatus {
    /// Name of the lab.
    pub name: String,
    /// Whether everything in it runs.
    pub state: LabState,
    /// Whether it has a user namespace of its own.
    pub rootless: bool,
    /// Process id of its anchor.
    pub anchor_pid: i32,
    /// Where its files are.
    pub run_dir: PathBuf,
    /// Its nodes, in the order of their names.
    pub nodes: Vec<NodeStatus>,
    /// Its pods, in the order of their names.
    pub pods: Vec<PodStatus>,
}

/// State of a lab as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabState {
    /// Every node is ready and every pod runs.
    Ready,
    /// It runs, and something in it does not.
    Degraded,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// metadata.name.
    pub name: String,
    /// Its addresses on the underlay.
    pub addresses: Vec<IpAddr>,
    /// Its pod ranges.
    pub pod_cidrs: Vec<String>,
    /// Whether its node process says that it is ready.
    pub ready: bool,
    /// Whether the lab runs it.
    pub managed: bool,
    /// Socket of its API.
    pub socket: PathBuf,
    /// Its log.
    pub log: PathBuf,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// metadata.namespace.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
    /// Its node.
    pub node: String,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// metadata.labels.
    pub labels: BTreeMap<String, String>,
    /// What it does.
    pub state: PodState,
    /// Whether it runs.
    pub ready: bool,
    /// How its command ended, if it did.
    pub exit_code: Option<i32>,
}

/// What a pod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PodState {
    /// Its command runs.
    Running,
    /// Its command has ended.
    Exited,
    /// It was not started.
    Waiting,
    /// Its node is not run by the lab.
    Unmanaged,
}

/// Looks at everything; from inside of the lab.
pub(crate) fn inspect(run_dir: &Path, snapshot: &Snapshot) -> Result<(Vec<NodeStatus>, Vec<PodStatus>)> {
    let nodes: Vec<NodeStatus> = snapshot.nodes.iter().map(|node| node_status(run_dir, node)).collect();
    let labels = |pod: &pods::PodSpec| {
        let object = snapshot.pods.iter().find(|object| {
            object.metadata.namespace.as_deref() == Some(&pod.namespace)
                && object.metadata.name.as_deref() == Some(&pod.name)
        });
        object.and_then(|object| object.metadata.labels.clone()).unwrap_or_default()
    };
    let pods = snapshot
        .specs
        .iter()
        .map(|pod| {
            let managed = nodes.iter().any(|node| node.name == pod.node && node.managed);
            let exit = fs::read_to_string(pod.dir(run_dir).join("exit")).ok();
            let started = pod.dir(run_dir).join("pod.json").exists();
            let state = match () {
                () if !managed => PodState::Unmanaged,
                () if is_running(run_dir, pod) => PodState::Running,
                () if started => PodState::Exited,
                () => PodState::Waiting,
            };
            PodStatus {
                namespace: pod.namespace.clone(),
                name: pod.name.clone(),
                node: pod.node.clone(),
                ips: pod.addresses.clone(),
                labels: labels(pod),
                state,
                ready: state == PodState::Running,
                exit_code: exit.and_then(|code| code.trim().parse().ok()).filter(|_| state == PodState::Exited),
            }
        })
        .collect();
    Ok((nodes, pods))
}

fn node_status(run_dir: &Path, node: &k8s_openapi::api::core::v1::Node) -> NodeStatus {
    let name = node_name(node);
    let socket = nodes::socket(run_dir, name);
    let managed = is_managed(node);
    NodeStatus {
        name: name.to_owned(),
        addresses: node_addresses(node),
        pod_cidrs: node_pod_cidrs(node),
        ready: managed && nodes::is_running(run_dir, name) && Client::new(&socket).is_ready(),
        managed,
        socket,
        log: nodes::log(run_dir, name),
    }
}

/// The state of the whole.
pub(crate) fn summarize(nodes: &[NodeStatus], pods: &[PodStatus]) -> LabState {
    let nodes_ready = nodes.iter().all(|node| node.ready || !node.managed);
    let pods_run = pods.iter().all(|pod| pod.ready || pod.state == PodState::Unmanaged);
    if nodes_ready && pods_run { LabState::Ready } else { LabState::Degraded }
}
