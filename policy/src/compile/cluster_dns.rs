//! The pod that the nodes' own DNS is to policies (D20): in kube-system, labelled `k8s-app: kube-dns`, with the ports that CoreDNS
//! has there.
//!
//! No object describes it and it runs on no node. It has the first number and keeps it, so that policies judge it as any pod; it
//! is not in the order of names, so that nobody finds it who asks for pods.

use crate::selector::Labels;
use crate::tables::{CLUSTER_DNS_POD, ContainerPort, Owner, PodEntry, Tables};
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

/// Its namespace, which has the label that the API server sets even if no object describes it.
pub(super) const NAMESPACE: &str = "kube-system";

/// What people are told instead of a pod's name.
const NAME: &str = "cluster-dns";

/// Port of DNS, over UDP and TCP.
const PORT: u16 = 53;

/// Puts the pod at its place in `pods`, which are none yet, if it has one of `wanted`: an address that is a node's stays the node's.
pub(super) fn add(wanted: &[IpAddr], pods: &mut Vec<Arc<PodEntry>>, tables: &mut Tables) {
    let free = wanted.iter().copied().filter(|addr| tables.owner(*addr).is_none());
    let addresses: Vec<IpAddr> = free.collect();
    tables.cluster_dns = addresses.as_slice().into();
    if addresses.is_empty() {
        return;
    }
    let owners = Arc::make_mut(&mut tables.owners);
    owners.extend(addresses.iter().map(|addr| (*addr, Owner::Pod(CLUSTER_DNS_POD))));
    let port = |name: &str, protocol| ContainerPort { name: name.into(), protocol, port: PORT };
    pods.push(Arc::new(PodEntry {
        namespace: NAMESPACE.into(),
        name: NAME.into(),
        labels: Labels::from_iter([("k8s-app", "kube-dns")]),
        node: None,
        addresses,
        host_network: false,
        ports: vec![port("dns", Protocol::UDP), port("dns-tcp", Protocol::TCP)],
    }));
}

#[cfg(test)]
mod tests;
