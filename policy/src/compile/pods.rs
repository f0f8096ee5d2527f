//! Pod objects: where they run and which addresses are theirs.

use crate::cluster::{Cluster, Pod};
use crate::objects::{ObjectRef, Problem, Severity, Sourced};
use crate::tables::{Owner, PodEntry, PodIndex, Tables};
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

pub(super) fn compile(cluster: &Cluster, tables: &mut Tables, problems: &mut Vec<Problem>) {
    for ((namespace, name), sourced) in &cluster.pods {
        let pod = &*sourced.object;
        if pod.ended {
            continue;
        }
        let index = PodIndex(tables.pods.len() as u32);
        let refuse = |field: String, message: String| {
            let object = ObjectRef::new("Pod", &**namespace, &**name);
            problems.push(Problem::of(&sourced.source, object, field, message, Severity::Refused));
        };
        let entry = PodEntry {
            namespace: namespace.clone(),
            name: name.clone(),
            labels: pod.labels.clone(),
            node: pod.node.as_deref().and_then(|node| tables.find_node(node)),
            addresses: addresses(sourced, index, tables, refuse),
            host_network: pod.host_network,
            ports: pod.ports.to_vec(),
        };
        Arc::make_mut(&mut tables.pods).push(entry);
    }
}

/// The pod's addresses; of the host network they are the node's, else nobody else may have them.
fn addresses(
    sourced: &Sourced<Arc<Pod>>,
    index: PodIndex,
    tables: &mut Tables,
    mut refuse: impl FnMut(String, String),
) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for (position, &addr) in sourced.object.addresses.iter().enumerate() {
        if sourced.object.host_network {
            addresses.push(addr);
            continue;
        }
        match tables.owners.get(&addr).copied() {
            None => {
                Arc::make_mut(&mut tables.owners).insert(addr, Owner::Pod(index));
                addresses.push(addr);
            }
            Some(Owner::Pod(owner)) if owner == index => {}
            Some(owner) => refuse(format!("status.podIPs[{position}].ip"), super::owner_text(tables, owner, addr)),
        }
    }
    addresses
}

/// A protocol as the API writes it; TCP when it is not given.
pub(crate) fn protocol(text: Option<&str>) -> Option<Protocol> {
    match text.unwrap_or("TCP") {
        "TCP" => Some(Protocol::TCP),
        "UDP" => Some(Protocol::UDP),
        "SCTP" => Some(Protocol::SCTP),
        _ => None,
    }
}
