//! What a node knows of a pod that is attached to it before the pod's object says so, or better: the addresses that it gave it.
//!
//! The kubelet reports a pod's addresses only when its network is there, and a container that no object describes has an identity
//! all the same. So a node lays what it knows over the object while the pod is attached: the tables that it judges by have pod and addresses
//! before the first packet (N13).

use super::pod::{HostPort, Pod};
use crate::selector::Labels;
use std::net::IpAddr;
use std::sync::Arc;

/// A pod that is attached to this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// metadata.uid of the pod that it is of: one that was made again under its name is another pod. `None`: of whatever pod has
    /// the name.
    pub uid: Option<Arc<str>>,
    /// The pod's addresses, instead of those of its object; empty: the object's.
    pub addresses: Box<[IpAddr]>,
    /// Ports of the node that lead to it, beside those of its object.
    pub host_ports: Box<[HostPort]>,
    /// The pod while no object describes it; `None`: then there is none.
    pub stand_in: Option<StandIn>,
}

/// What a pod is that no object describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandIn {
    /// The node that it is attached to.
    pub node: Arc<str>,
    /// Its labels.
    pub labels: Labels,
}

impl Attachment {
    /// `pod` as this node knows it; `None` if the attachment is another pod's, or says nothing else.
    pub(super) fn over(&self, pod: &Pod) -> Option<Pod> {
        let is_another = matches!((&self.uid, &pod.uid), (Some(own), Some(other)) if own != other);
        if is_another || pod.host_network || pod.ended {
            return None;
        }
        let addresses = if self.addresses.is_empty() { pod.addresses.clone() } else { self.addresses.clone() };
        let is_asked = |port: &&HostPort| !pod.host_ports.iter().any(|own| own.is_alike(port));
        let more = self.host_ports.iter().filter(is_asked);
        let host_ports = pod.host_ports.iter().chain(more).cloned().collect();
        let known = Pod { addresses, host_ports, ..pod.clone() };
        (known != *pod).then_some(known)
    }

    /// The pod that no object describes.
    pub(super) fn stand_in(&self) -> Option<Pod> {
        let StandIn { node, labels } = self.stand_in.as_ref()?;
        Some(Pod {
            uid: self.uid.clone(),
            node: Some(node.clone()),
            host_network: false,
            ended: false,
            addresses: self.addresses.clone(),
            labels: labels.clone(),
            ports: Box::default(),
            host_ports: self.host_ports.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
