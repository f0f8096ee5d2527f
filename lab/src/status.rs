//! What runs in a lab.

use crate::cluster::{Snapshot, node_addresses, node_name, node_pod_cidrs};
use crate::converge::is_running;
use crate::error::Result;
use crate::settings::Member;
use crate::{nodes, pods, world};
use control::api::Client;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::networking::v1::Ingress;
use policy::objects::Gateway;
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
    /// Its Ingresses, in the order of their names.
    pub ingresses: Vec<IngressView>,
    /// Its Gateways, in the order of their names.
    pub gateways: Vec<GatewayView>,
    /// What of it runs here, where other parts run elsewhere: a node, or `world`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joined: Option<Joined>,
}

/// The part of a lab that runs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// A node's name, or `world`.
    pub name: String,
    /// Whether its process is there.
    pub running: bool,
}

/// An Ingress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressView {
    /// metadata.namespace.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
    /// Hosts of its rules, `*` for a rule without one.
    pub hosts: Vec<String>,
    /// status.loadBalancer: where it is reached; nowhere if nobody serves it.
    pub addresses: Vec<String>,
}

/// A Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayView {
    /// metadata.namespace.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
    /// Whether its condition Programmed is True.
    pub programmed: bool,
    /// status.addresses: where it is reached.
    pub addresses: Vec<String>,
    /// Its listeners.
    pub listeners: Vec<ListenerView>,
}

/// A listener of a Gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// Its port.
    pub port: i32,
    /// Routes that are attached.
    pub attached_routes: i32,
}

impl IngressView {
    /// Reads an Ingress of the cluster directory.
    pub(crate) fn of(ingress: &Ingress) -> IngressView {
        let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
        let mut hosts: Vec<String> = Vec::new();
        for host in rules.map(|rule| rule.host.clone().unwrap_or_else(|| "*".to_owned())) {
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
        let entries = status.iter().flat_map(|status| status.ingress.iter().flatten());
        IngressView {
            namespace: ingress.metadata.namespace.clone().unwrap_or_default(),
            name: ingress.metadata.name.clone().unwrap_or_default(),
            hosts,
            addresses: entries.filter_map(|entry| entry.ip.clone().or_else(|| entry.hostname.clone())).collect(),
        }
    }
}

impl GatewayView {
    /// Reads a Gateway of the cluster directory.
    pub(crate) fn of(gateway: &Gateway) -> GatewayView {
        let status = gateway.status.as_ref();
        let conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
        let listeners = status.and_then(|status| status.listeners.as_deref()).unwrap_or_default();
        let attached = |name: &str| listeners.iter().find(|own| own.name == name).map_or(0, |own| own.attached_routes);
        let addresses = status.iter().flat_map(|status| status.addresses.iter().flatten());
        GatewayView {
            namespace: gateway.metadata.namespace.clone().unwrap_or_default(),
            name: gateway.metadata.name.clone().unwrap_or_default(),
            programmed: conditions.into_iter().any(|own| own.type_ == "Programmed" && own.status == "True"),
            addresses: addresses.filter_map(|address| address.value.clone()).collect(),
            listeners: gateway
                .spec
                .listeners
                .iter()
                .map(|own| ListenerView {
                    name: own.name.clone(),
                    port: own.port,
                    attached_routes: attached(&own.name),
                })
                .collect(),
        }
    }
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
    /// Whether the lab runs it, here.
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
    /// Its node is not run by the lab, or not here.
    Unmanaged,
}

/// Nodes, pods and the part of the lab that runs here, as they are found.
pub(crate) type Findings = (Vec<NodeStatus>, Vec<PodStatus>, Option<Joined>);

/// Looks at everything; from inside of the lab.
pub(crate) fn inspect(run_dir: &Path, snapshot: &Snapshot) -> Result<Findings> {
    let nodes: Vec<NodeStatus> =
        snapshot.nodes.iter().map(|node| node_status(run_dir, node, snapshot.runs_here(node))).collect();
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
    let joined = snapshot.member.as_ref().map(|member| Joined {
        name: member.to_string(),
        running: match member {
            Member::Node(name) => nodes::is_running(run_dir, name),
            Member::World => world::is_running(run_dir),
        },
    });
    Ok((nodes, pods, joined))
}

fn node_status(run_dir: &Path, node: &Node, managed: bool) -> NodeStatus {
    let name = node_name(node);
    let socket = nodes::socket(run_dir, name);
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
pub(crate) fn summarize((nodes, pods, joined): &Findings) -> LabState {
    let runs = joined.as_ref().is_none_or(|joined| joined.running);
    let nodes_ready = nodes.iter().all(|node| node.ready || !node.managed);
    let pods_run = pods.iter().all(|pod| pod.ready || pod.state == PodState::Unmanaged);
    if runs && nodes_ready && pods_run { LabState::Ready } else { LabState::Degraded }
}
