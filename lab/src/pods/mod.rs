//! A pod of the lab: its network namespace, the files that a kubelet would give it, and its processes.
//!
//! ```text
//! RUN_DIR/netns/pod-NS_POD      its network namespace (a hostNetwork pod uses its node's)
//! RUN_DIR/pods/NS_POD/pod.json  what it was started as, PodSpec
//!                     hosts, resolv.conf, hostname   bound over those in /etc
//!                     log       output of its command
//!                     pid       its supervisor
//!                     exit      how its command ended
//! ```

pub(crate) mod files;
pub(crate) mod sandbox;

use crate::server::{ListenPort, ServerProtocol};
use control::resolv_conf::PodDns;
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A pod with this annotation runs its value with `sh -c` instead of the built-in test server. `PODPLANE` is this program there,
/// `PODPLANE_CLUSTER_DIR` the objects that the nodes read, `PODPLANE_NODE` the pod's node.
pub const COMMAND_ANNOTATION: &str = "lab.podplane.io/command";

/// What the lab needs to know of a pod to run it. Another spec is another pod: it is stopped and started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodSpec {
    /// metadata.namespace.
    pub(crate) namespace: String,
    /// metadata.name.
    pub(crate) name: String,
    /// metadata.uid, which the container id is made of.
    pub(crate) uid: String,
    /// spec.nodeName.
    pub(crate) node: String,
    /// status.podIPs; of a hostNetwork pod the node's addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// spec.hostNetwork.
    pub(crate) host_network: bool,
    /// Name that the pod has for itself: spec.hostname or metadata.name.
    pub(crate) hostname: String,
    /// Every containerPort.
    pub(crate) ports: Vec<ListenPort>,
    /// The annotated command.
    pub(crate) command: Option<String>,
    /// What it says about its resolver.
    #[serde(default)]
    pub(crate) dns: PodDns,
    /// A container's readinessProbe: the pod counts as started when its command answers that.
    #[serde(default)]
    pub(crate) readiness: Option<Readiness>,
}

/// An httpGet or tcpSocket of a readinessProbe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Readiness {
    /// Port to connect to.
    pub(crate) port: u16,
    /// Path to get; `None` if a connection is enough.
    pub(crate) path: Option<String>,
}

impl PodSpec {
    /// Reads a pod of the cluster directory; `None` if it is not to run: not placed, without an address, or ended.
    pub(crate) fn of(pod: &Pod) -> Option<PodSpec> {
        let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
        if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            return None;
        }
        let addresses: Vec<IpAddr> = status.pod_ips.iter().flatten().filter_map(|ip| ip.ip.parse().ok()).collect();
        if addresses.is_empty() {
            return None;
        }
        let name = pod.metadata.name.clone()?;
        let annotations = pod.metadata.annotations.as_ref();
        Some(PodSpec {
            namespace: pod.metadata.namespace.clone()?,
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            node: spec.node_name.clone().filter(|node| !node.is_empty())?,
            addresses,
            host_network: spec.host_network.unwrap_or(false),
            hostname: spec.hostname.clone().unwrap_or_else(|| name.chars().take(63).collect()),
            ports: listen_ports(pod),
            dns: PodDns::of(pod),
            readiness: spec.containers.iter().find_map(readiness),
            command: annotations.and_then(|annotations| annotations.get(COMMAND_ANNOTATION)).cloned(),
            name,
        })
    }

    /// NAMESPACE/NAME.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Its directory below the run directory.
    pub(crate) fn dir(&self, run_dir: &Path) -> PathBuf {
        pod_dir(run_dir, &self.namespace, &self.name)
    }

    /// The file of its network namespace.
    pub(crate) fn netns(&self, run_dir: &Path) -> PathBuf {
        if self.host_network {
            crate::nodes::netns(run_dir, &self.node)
        } else {
            run_dir.join(crate::namespaces::anchor::NETNS_DIR).join(format!("pod-{}", id(&self.namespace, &self.name)))
        }
    }
}

/// Directory of all pods.
pub(crate) fn pods_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("pods")
}

/// Directory of the pod `namespace`/`name`.
pub(crate) fn pod_dir(run_dir: &Path, namespace: &str, name: &str) -> PathBuf {
    pods_dir(run_dir).join(id(namespace, name))
}

/// The pod as a file name: its names cannot contain '_', and are cut where a file name would become too long.
fn id(namespace: &str, name: &str) -> String {
    const NAME_LEN_MAX: usize = 150;
    if name.len() <= NAME_LEN_MAX {
        return format!("{namespace}_{name}");
    }
    format!("{namespace}_{}_{:016x}", &name[..NAME_LEN_MAX], crate::underlay::hash(name))
}

fn readiness(container: &Container) -> Option<Readiness> {
    let probe = container.readiness_probe.as_ref()?;
    let number = |port: &IntOrString| match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let port = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name))?;
            u16::try_from(port.container_port).ok()
        }
    };
    match (&probe.http_get, &probe.tcp_socket) {
        (Some(get), _) => {
            let path = get.path.clone().unwrap_or_else(|| "/".to_owned());
            Some(Readiness { port: number(&get.port)?, path: Some(path) })
        }
        (None, Some(socket)) => Some(Readiness { port: number(&socket.port)?, path: None }),
        (None, None) => None,
    }
}

/// Every containerPort of all containers, once.
pub(crate) fn listen_ports(pod: &Pod) -> Vec<ListenPort> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    // A sidecar is an init container that stays.
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    let mut ports: Vec<ListenPort> = containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let protocol = match port.protocol.as_deref().unwrap_or("TCP") {
                "TCP" => ServerProtocol::Tcp,
                "UDP" => ServerProtocol::Udp,
                "SCTP" => ServerProtocol::Sctp,
                _ => return None,
            };
            Some(ListenPort { protocol, port: u16::try_from(port.container_port).ok().filter(|port| *port > 0)? })
        })
        .collect();
    ports.sort_by_key(|port| (port.protocol, port.port));
    ports.dedup();
    ports
}

#[cfg(test)]
mod tests;
