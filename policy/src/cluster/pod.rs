//! Pods as traffic and policies need them.
//!
//! The API's own type takes several kilobytes for a pod, most of it about things that have nothing to do with the network; this
//! one takes a few hundred bytes. And what changes elsewhere in a pod (conditions, restarts) is no change here.

use crate::compile::protocol;
use crate::selector::Labels;
use crate::tables::ContainerPort;
use k8s_openapi::api::core::v1::{Pod as ApiPod, PodSpec};
use std::net::IpAddr;
use std::sync::Arc;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// spec.nodeName.
    pub node: Option<Arc<str>>,
    /// spec.hostNetwork.
    pub host_network: bool,
    /// Whether it has ended (phase Succeeded or Failed): its addresses may belong to another pod by now.
    pub ended: bool,
    /// status.podIPs, or status.podIP where those are not given. One that does not parse is left out: validation has refused it.
    pub addresses: Box<[IpAddr]>,
    /// metadata.labels.
    pub labels: Labels,
    /// spec.containers[].ports, of sidecars too (init containers that restart).
    pub ports: Box<[ContainerPort]>,
}

impl From<&ApiPod> for Pod {
    fn from(pod: &ApiPod) -> Pod {
        let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
        let phase = status.and_then(|status| status.phase.as_deref());
        let addresses = status.map(|status| match &status.pod_ips {
            Some(listed) => listed.iter().filter_map(|entry| entry.ip.parse().ok()).collect(),
            None => status.pod_ip.iter().filter_map(|text| text.parse().ok()).collect(),
        });
        Pod {
            node: spec.and_then(|spec| spec.node_name.as_deref()).map(Arc::from),
            host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
            ended: matches!(phase, Some("Succeeded" | "Failed")),
            addresses: addresses.unwrap_or_default(),
            labels: pod.metadata.labels.as_ref().map(Labels::from).unwrap_or_default(),
            ports: spec.map(ports).unwrap_or_default(),
        }
    }
}

fn ports(spec: &PodSpec) -> Box<[ContainerPort]> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    let ports = ports.filter_map(|port| {
        Some(ContainerPort {
            name: port.name.as_deref().unwrap_or_default().into(),
            protocol: protocol(port.protocol.as_deref())?,
            port: u16::try_from(port.container_port).ok()?,
        })
    });
    ports.collect()
}
