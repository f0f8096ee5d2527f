//! Pods as traffic and policies need them.
//!
//! The API's own type takes several kilobytes for a pod, most of it about things that have nothing to do with the network; this
//! one takes a few hundred bytes. And what changes elsewhere in a pod (conditions, restarts) is no change here.

use crate::compile::protocol;
use crate::selector::Labels;
use crate::tables::ContainerPort;
use k8s_openapi::api::core::v1::{Container, Pod as ApiPod, PodSpec};
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// metadata.uid.
    pub uid: Option<Arc<str>>,
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
    /// Those of them that have a hostPort.
    pub host_ports: Box<[HostPort]>,
}

/// A port of its node that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The field that asks for it, such as `spec.containers[0].ports[1].hostPort`.
    pub field: Arc<str>,
    /// hostIP: an address of the node, the unspecified one for all of its family; `None` for all.
    pub host_ip: Option<IpAddr>,
    /// protocol.
    pub protocol: Protocol,
    /// hostPort.
    pub port: u16,
    /// containerPort.
    pub target: u16,
}

impl HostPort {
    /// Whether it is asked for on every address of the node of some family.
    pub fn is_everywhere(&self) -> bool {
        self.host_ip.is_none_or(|address| address.is_unspecified())
    }

    /// Whether it is asked for on `address`, one of the node's.
    pub fn is_on(&self, address: IpAddr) -> bool {
        match self.host_ip {
            None => true,
            Some(any) if any.is_unspecified() => any.is_ipv4() == address.is_ipv4(),
            Some(one) => one == address,
        }
    }

    /// Whether it is the same port of the same addresses, for the same port of the pod.
    pub fn is_alike(&self, other: &HostPort) -> bool {
        let HostPort { field: _, host_ip, protocol, port, target } = self;
        (host_ip, protocol, port, target) == (&other.host_ip, &other.protocol, &other.port, &other.target)
    }

    /// Whether two pods of one node can both have their port.
    pub fn is_compatible(&self, other: &HostPort) -> bool {
        let apart = match (self.host_ip, other.host_ip) {
            (Some(one), Some(other)) if one.is_ipv4() != other.is_ipv4() => true,
            (Some(one), Some(other)) => one != other && !one.is_unspecified() && !other.is_unspecified(),
            _ => false,
        };
        (self.protocol, self.port) != (other.protocol, other.port) || apart
    }
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
            uid: pod.metadata.uid.as_deref().map(Arc::from),
            node: spec.and_then(|spec| spec.node_name.as_deref()).map(Arc::from),
            host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
            ended: matches!(phase, Some("Succeeded" | "Failed")),
            addresses: addresses.unwrap_or_default(),
            labels: pod.metadata.labels.as_ref().map(Labels::from).unwrap_or_default(),
            ports: spec.map(ports).unwrap_or_default(),
            host_ports: spec.map(host_ports).unwrap_or_default(),
        }
    }
}

/// Containers that run as long as the pod does, each with its field.
fn containers(spec: &PodSpec) -> impl Iterator<Item = (String, &Container)> {
    let main = spec.containers.iter().enumerate().map(|(at, container)| (format!("spec.containers[{at}]"), container));
    let sidecars = spec.init_containers.iter().flatten().enumerate();
    let sidecars = sidecars.filter(|(_, container)| container.restart_policy.as_deref() == Some("Always"));
    main.chain(sidecars.map(|(at, container)| (format!("spec.initContainers[{at}]"), container)))
}

fn ports(spec: &PodSpec) -> Box<[ContainerPort]> {
    let ports = containers(spec).flat_map(|(_, container)| container.ports.iter().flatten());
    let ports = ports.filter_map(|port| {
        Some(ContainerPort {
            name: port.name.as_deref().unwrap_or_default().into(),
            protocol: protocol(port.protocol.as_deref())?,
            port: u16::try_from(port.container_port).ok()?,
        })
    });
    ports.collect()
}

/// What the pods of `spec` ask of their node. What does not parse is left out: validation has refused it. A pod that shares its
/// node's network asks for nothing: its ports are the node's as they are.
pub fn host_ports(spec: &PodSpec) -> Box<[HostPort]> {
    if spec.host_network == Some(true) {
        return Box::default();
    }
    let mut found = Vec::new();
    for (field, container) in containers(spec) {
        for (at, port) in container.ports.iter().flatten().enumerate() {
            let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
            let host_ip = match port.host_ip.as_deref().unwrap_or_default() {
                "" => Some(None),
                text => text.parse().ok().map(Some),
            };
            let all = (port.host_port.and_then(number), number(port.container_port));
            let (Some(protocol), Some(host_ip), (Some(port), Some(target))) =
                (protocol(port.protocol.as_deref()), host_ip, all)
            else {
                continue;
            };
            let field = format!("{field}.ports[{at}].hostPort").into();
            found.push(HostPort { field, host_ip, protocol, port, target });
        }
    }
    found.into()
}
